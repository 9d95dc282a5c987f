-- Count the computing times of each shadow version of one modality in a period.
--
-- Parameters: modality; since and until, the period in which the shadow answered; bins_per_doubling, as
-- DurationHistogram has it.
SELECT
    s.version_id,
    round(%(bins_per_doubling)s * log(2, greatest(s.milliseconds, 0.001)::numeric))::int AS step,
    count(*) AS rows
FROM classifier_shadowanswer AS s
JOIN classifier_modelversion AS v ON v.id = s.version_id
WHERE
    s.created_at >= %(since)s AND s.created_at < %(until)s
    AND v.modality = %(modality)s
    AND s.milliseconds IS NOT NULL
GROUP BY s.version_id, step
