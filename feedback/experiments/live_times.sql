-- Count the computing times of each version of one modality that answered sellers in a period.
--
-- Parameters: modality; since and until, the period in which predictions were finished; bins_per_doubling, as
-- DurationHistogram has it.
SELECT
    p.version_id,
    round(%(bins_per_doubling)s * log(2, greatest(p.milliseconds, 0.001)::numeric))::int AS step,
    count(*) AS rows
FROM (
    SELECT
        CASE %(modality)s WHEN 'text' THEN text_version_id WHEN 'image' THEN image_version_id END AS version_id,
        (passes->%(modality)s->>'ms')::float AS milliseconds
    FROM classifier_prediction
    WHERE finished_at >= %(since)s AND finished_at < %(until)s AND state = 'done'
) AS p
WHERE p.version_id IS NOT NULL AND p.milliseconds IS NOT NULL
GROUP BY p.version_id, step
