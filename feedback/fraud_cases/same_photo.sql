-- Find other sellers' products whose photo hash differs from a case's photos in at most one bit.
--
-- Parameters: numbers and hashes, arrays with one entry for each photo of the case; flips, an array of bit masks (0 and
-- each single bit); seller, whose own products are left out; most_uses, how many products are read for each photo;
-- most_sellers, how many sellers are returned for each photo, each with the oldest product.
WITH asked AS (
    SELECT number, array_agg(hash # flip) AS alike
    FROM unnest(%(numbers)s::int[], %(hashes)s::bigint[]) AS own (number, hash), unnest(%(flips)s::bigint[]) AS flip
    GROUP BY number
)
SELECT asked.number, found.seller_id, found.prediction_id, found.uses
FROM asked CROSS JOIN LATERAL (
    SELECT DISTINCT ON (seller_id) seller_id, prediction_id, count(*) OVER () AS uses
    FROM (
        SELECT p.seller_id, p.id AS prediction_id, p.created_at FROM classifier_prediction AS p
        WHERE
            p.photo_hash = ANY (asked.alike)
            -- The index holds no empty hashes; without this condition PostgreSQL does not use it.
            AND p.photo_hash IS NOT NULL
            AND p.seller_id <> %(seller)s
        LIMIT %(most_uses)s
    ) AS near
    ORDER BY seller_id, created_at
    LIMIT %(most_sellers)s
) AS found
