-- Write the path and the level of every category whose place changed.
WITH RECURSIVE tree AS (
    SELECT id, id || '.' AS path, 1 AS depth FROM classifier_category WHERE parent_id IS NULL
    UNION ALL
    SELECT child.id, tree.path || child.id || '.', tree.depth + 1
    FROM classifier_category AS child
    JOIN tree ON tree.id = child.parent_id
)
UPDATE classifier_category AS category
SET path = tree.path, depth = tree.depth
FROM tree
WHERE category.id = tree.id AND (category.path, category.depth) IS DISTINCT FROM (tree.path, tree.depth::smallint)
