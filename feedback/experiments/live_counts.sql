-- Count predictions, answers and reviews of each version of one modality that answered sellers in a period.
--
-- Parameters: modality; since and until, the period in which predictions were finished; measured, the review states
-- whose final category is known.
--
-- Rejected and suspicious answers are left out. Of an answer that a reviewer overruled, only the reviewer's category
-- counts. Probabilities that were moved to the archive are neither right nor wrong.
SELECT
    p.version_id,
    count(*) AS answered,
    count(f.id) FILTER (WHERE f.is_sellers) AS answers,
    count(*) FILTER (WHERE f.rank = 1 AND f.is_sellers) AS first,
    count(*) FILTER (WHERE f.rank IS NOT NULL AND f.is_sellers) AS five,
    count(*) FILTER (WHERE f.is_measured AND p.probabilities IS NOT NULL) AS reviewed,
    count(*) FILTER (
        WHERE CASE
            -- The model's likeliest category is looked up for reviewed answers only: sorting all would be slow.
            WHEN f.is_measured AND p.probabilities IS NOT NULL THEN f.category = (
                SELECT key FROM jsonb_each_text(p.probabilities) ORDER BY value::float DESC LIMIT 1
            )
        END
    ) AS "right"
FROM (
    SELECT
        id,
        CASE %(modality)s WHEN 'text' THEN text_version_id WHEN 'image' THEN image_version_id END AS version_id,
        CASE %(modality)s
            WHEN 'text' THEN text_probabilities WHEN 'image' THEN image_probabilities
        END AS probabilities
    FROM classifier_prediction
    WHERE finished_at >= %(since)s AND finished_at < %(until)s AND state = 'done'
) AS p
LEFT JOIN (
    SELECT
        answer.id,
        answer.prediction_id,
        answer.rank,
        answer.review NOT IN ('corrected', 'homeless') AS is_sellers,
        answer.review = ANY(%(measured)s) AS is_measured,
        category.slug AS category
    FROM feedback_feedback AS answer
    LEFT JOIN classifier_category AS category
        ON answer.review <> 'homeless' AND category.id = COALESCE(answer.correction_id, answer.category_id)
    WHERE answer.review NOT IN ('rejected', 'flagged')
) AS f ON f.prediction_id = p.id
WHERE p.version_id IS NOT NULL
GROUP BY p.version_id
