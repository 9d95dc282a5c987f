-- Read answers with what the models predicted for their products.
--
-- Parameters: feedback_ids; lowest_band, the least ensemble confidence that fraud detection considers.
--
-- Probabilities of single categories are read rather than whole distributions; those come along only where an answer
-- was changed, because its earlier answers name their categories by slug in JSON.
SELECT
    f.prediction_id,
    f.seller_id,
    extract(epoch FROM f.answered_at)::float AS answered_at,
    c.slug AS chosen,
    NULLIF(f.earlier, '[]') AS earlier,
    p.text_version_id,
    p.image_version_id,
    p.top5->0->>'slug' AS predicted,
    (p.top5->0->>'probability')::float AS confidence,
    -- A model's likeliest category matters only where the ensemble is confident, and a category with more than a half
    -- is the likeliest without a look at the others: few distributions are sorted.
    CASE WHEN (p.top5->0->>'probability')::float >= %(lowest_band)s THEN
        CASE WHEN (p.text_probabilities->>(p.top5->0->>'slug'))::float > 0.5 THEN p.top5->0->>'slug'
        ELSE (SELECT key FROM jsonb_each_text(p.text_probabilities) ORDER BY value::float DESC, key LIMIT 1) END
    END AS text_top,
    CASE WHEN (p.top5->0->>'probability')::float >= %(lowest_band)s THEN
        CASE WHEN (p.image_probabilities->>(p.top5->0->>'slug'))::float > 0.5 THEN p.top5->0->>'slug'
        ELSE (SELECT key FROM jsonb_each_text(p.image_probabilities) ORDER BY value::float DESC, key LIMIT 1) END
    END AS image_top,
    (p.text_probabilities->>c.slug)::float AS text_probability,
    (p.image_probabilities->>c.slug)::float AS image_probability,
    (p.probabilities->>c.slug)::float AS ensemble_probability,
    CASE WHEN f.earlier <> '[]' THEN p.text_probabilities END AS text_probabilities,
    CASE WHEN f.earlier <> '[]' THEN p.image_probabilities END AS image_probabilities,
    CASE WHEN f.earlier <> '[]' THEN p.probabilities END AS ensemble_probabilities
FROM feedback_feedback AS f
JOIN classifier_prediction AS p ON p.id = f.prediction_id
LEFT JOIN classifier_category AS c ON c.id = f.category_id
WHERE f.id = ANY(%(feedback_ids)s) AND p.state = 'done'
