-- What became of everything that arrived: kept, quarantined or recognised as a duplicate?
-- Grain: stream, ingest_date. Reads bronze, silver and quarantine of all streams.
-- Built by ingest_date.
-- reading_count = silver_count + quarantined_count + duplicate_count, exact once a day is over: while readings arrive, the
-- tables are seconds apart and duplicate_count is off by what is under way.
WITH counted AS (
    SELECT stream, ingest_date, count(*) AS events, sum(reading_count) AS readings, 0 AS silver, 0 AS quarantined
    FROM bronze.all_streams GROUP BY stream, ingest_date
    UNION ALL
    SELECT stream, ingest_date, 0, 0, count(*), 0 FROM silver.all_streams GROUP BY stream, ingest_date
    UNION ALL
    SELECT stream, ingest_date, 0, 0, 0, count(*) FROM quarantine.all_streams GROUP BY stream, ingest_date
)
SELECT
    stream,
    ingest_date,
    sum(events)::BIGINT AS event_count,
    sum(readings)::BIGINT AS reading_count,
    sum(silver)::BIGINT AS silver_count,
    sum(quarantined)::BIGINT AS quarantined_count,
    (sum(readings) - sum(silver) - sum(quarantined))::BIGINT AS duplicate_count,
    (100.0 * sum(quarantined) / nullif(sum(readings), 0))::DOUBLE AS quarantined_percent
FROM counted
GROUP BY stream, ingest_date
ORDER BY stream, ingest_date;
