-- Count what each shadow version of one modality answered in a period, its errors, reviews and agreement.
--
-- Parameters: modality; since and until, the period in which the shadow answered; measured, the review states whose
-- final category is known.
SELECT
    s.version_id,
    count(*) FILTER (WHERE s.error = '') AS answered,
    count(*) FILTER (WHERE s.error <> '') AS failed,
    count(*) FILTER (WHERE f.is_measured AND p.has_probabilities AND s.error = '') AS reviewed,
    count(*) FILTER (WHERE f.is_measured AND p.has_probabilities AND s.best = f.category) AS "right",
    count(s.agrees) AS compared,
    count(*) FILTER (WHERE s.agrees) AS agreed
FROM classifier_shadowanswer AS s
JOIN classifier_modelversion AS v ON v.id = s.version_id
JOIN (
    SELECT
        id,
        CASE %(modality)s
            WHEN 'text' THEN text_probabilities IS NOT NULL WHEN 'image' THEN image_probabilities IS NOT NULL
        END AS has_probabilities
    FROM classifier_prediction
) AS p ON p.id = s.prediction_id
LEFT JOIN (
    SELECT
        answer.review = ANY(%(measured)s) AS is_measured,
        answer.prediction_id,
        category.slug AS category
    FROM feedback_feedback AS answer
    LEFT JOIN classifier_category AS category
        ON answer.review <> 'homeless' AND category.id = COALESCE(answer.correction_id, answer.category_id)
    WHERE answer.review NOT IN ('rejected', 'flagged')
) AS f ON f.prediction_id = p.id
WHERE s.created_at >= %(since)s AND s.created_at < %(until)s AND v.modality = %(modality)s
GROUP BY s.version_id
