-- What a search looks for besides the words themselves: the whole text as an SKU, and for each word the categories with
-- a name or alias that matches it, those below them and those that were merged into them. Without a word there is one
-- row.
SELECT lower(%(text)s) AS sku, coalesce(found.categories, '{}') AS categories
FROM (SELECT) AS nothing
LEFT JOIN unnest(%(queries)s::text[]) WITH ORDINALITY AS typed (query, place) ON true
LEFT JOIN LATERAL (
    WITH named AS (
        SELECT id, path FROM classifier_category WHERE aisle_lexemes(name, 'en') @@ query::tsquery
        UNION
        SELECT category.id, category.path
        FROM classifier_categoryalias AS alias
        JOIN classifier_category AS category ON category.id = alias.category_id
        WHERE aisle_lexemes(alias.name, 'en') @@ query::tsquery
    ),
    meant AS (
        SELECT id, 0 AS distance FROM named
        UNION ALL
        SELECT merged.id, 1 FROM named JOIN classifier_category AS merged ON merged.redirect_id = named.id
        UNION ALL
        -- Paths consist of digits and points; a colon is greater than both.
        SELECT below.id, below.depth
        FROM named
        JOIN classifier_category AS below
            ON below.path ~>~ named.path AND below.path ~<~ (named.path || ':')
    )
    SELECT array_agg(id) AS categories
    FROM (SELECT id FROM meant GROUP BY id ORDER BY min(distance), id LIMIT %(limit)s) AS nearest
) AS found ON true
ORDER BY place
