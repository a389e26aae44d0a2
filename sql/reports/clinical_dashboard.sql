-- How is the hospital's day: how many patients and readings of each kind, and how many readings are outliers?
-- Grain: event_date, kind. Reads gold.patient_monitoring_by_kind. Published daily.
-- Built by event_date.
SELECT
    event_date,
    kind,
    count(DISTINCT patient_id)::BIGINT AS patient_count,
    sum(event_count)::BIGINT AS reading_count,
    (sum(avg_reading * event_count) / sum(event_count))::DOUBLE AS avg_reading,
    min(min_reading) AS min_reading,
    max(max_reading) AS max_reading,
    sum(outlier_count)::BIGINT AS outlier_count,
    (100.0 * sum(outlier_count) / sum(event_count))::DOUBLE AS outlier_percent
FROM gold.patient_monitoring_by_kind
GROUP BY event_date, kind
ORDER BY event_date, kind;
