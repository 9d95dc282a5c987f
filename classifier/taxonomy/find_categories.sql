-- The categories with a name, alias or search term that matches the query, the best ones first.
WITH entry AS (
    SELECT id AS category_id, name AS label, true AS is_name
    FROM classifier_category
    WHERE aisle_lexemes(name, 'en') @@ %(query)s::tsquery
    UNION ALL
    SELECT category_id, name, false
    FROM classifier_categoryalias
    WHERE aisle_lexemes(name, 'en') @@ %(query)s::tsquery
    UNION ALL
    SELECT category_id, term, false
    FROM classifier_categorysearchterm
    -- A single Latin letter begins a term of nearly every category.
    WHERE aisle_lexemes(term, 'en') @@ %(query)s::tsquery AND octet_length(%(text)s) > 1
),
typed AS (
    SELECT lower(aisle_fold(%(text)s)) AS folded, strip(to_tsvector('english', aisle_fold(%(text)s))) AS stems
),
compared AS (
    SELECT
        category_id,
        label,
        is_name,
        starts_with(lower(aisle_fold(label)), folded) AS is_prefix,
        -- The same words but for endings; stemming is left to texts that are about as long.
        abs(length(label) - length(folded)) <= 4 AND strip(to_tsvector('english', aisle_fold(label))) = stems AS is_same
    FROM entry CROSS JOIN typed
),
ranked AS (
    SELECT
        *,
        CASE
            WHEN is_same AND is_name THEN 0
            WHEN is_same THEN 1
            WHEN is_prefix AND is_name THEN 2
            WHEN is_prefix THEN 3
            ELSE 4
        END AS place
    FROM compared
),
found AS (
    -- A category that was merged into another one leads there, by its own names.
    SELECT
        coalesce(category.redirect_id, category.id) AS category_id,
        min(place) AS place,
        bool_or(is_name AND category.redirect_id IS NULL) AS has_name,
        (array_agg(label ORDER BY place, length(label), label))[1] AS label
    FROM ranked
    JOIN classifier_category AS category ON category.id = ranked.category_id
    GROUP BY 1
)
SELECT
    category.slug,
    category.name,
    CASE WHEN has_name THEN NULL ELSE label END AS found_as,
    count(*) OVER () AS total
FROM found
JOIN classifier_category AS category ON category.id = found.category_id
LEFT JOIN jsonb_each_text(%(probabilities)s::jsonb) AS probability ON probability.key = category.slug
WHERE category.is_active
ORDER BY place, probability.value::float DESC NULLS LAST, category.name
LIMIT %(limit)s
