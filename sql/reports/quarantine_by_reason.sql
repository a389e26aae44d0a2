-- Why were readings quarantined, and since when?
-- Grain: stream, ingest_date, reason. Reads the quarantine tables; raw bodies stay there.
WITH quarantined AS (
    SELECT 'glucose_readings' AS stream, ingest_date, reason, received_at FROM quarantine.glucose_readings
    UNION ALL
    SELECT 'device_readings', ingest_date, reason, received_at FROM quarantine.device_readings
)
SELECT
    stream,
    ingest_date,
    reason,
    count(*)::BIGINT AS quarantined_count,
    min(received_at)::TIMESTAMPTZ AS first_received_at,
    max(received_at)::TIMESTAMPTZ AS last_received_at
FROM quarantined
GROUP BY ALL
ORDER BY stream, ingest_date, reason;
