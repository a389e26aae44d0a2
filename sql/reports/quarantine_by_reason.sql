-- Why were readings quarantined, and since when?
-- Grain: stream, ingest_date, reason. Reads the quarantine of all streams; raw bodies stay there.
-- Built by ingest_date.
SELECT
    stream,
    ingest_date,
    reason,
    count(*)::BIGINT AS quarantined_count,
    min(received_at)::TIMESTAMPTZ AS first_received_at,
    max(received_at)::TIMESTAMPTZ AS last_received_at
FROM quarantine.all_streams
GROUP BY ALL
ORDER BY stream, ingest_date, reason;
