-- What became of everything that arrived: kept, quarantined or recognised as a duplicate?
-- Grain: stream, ingest_date. Reads bronze, silver and quarantine of all streams.
-- Built by ingest_date.
-- reading_count = silver_count + quarantined_count + duplicate_count, exact once a day is over: while readings arrive, the
-- tables are seconds apart and duplicate_count is off by what is under way. Rows that retention removed count as they were
-- recorded then (audit.retention).
WITH recorded AS (
    SELECT
        table_name,
        ingest_date,
        arg_max("rows", number) AS removed,
        arg_max(readings, number) AS readings
    FROM audit.retention
    WHERE step = 'deleted'
    GROUP BY table_name, ingest_date
),
present AS (
    SELECT stream, ingest_date, count(*) AS events, sum(reading_count) AS readings, 0 AS silver, 0 AS quarantined
    FROM bronze.all_streams GROUP BY stream, ingest_date
    UNION ALL
    SELECT stream, ingest_date, 0, 0, count(*), 0 FROM silver.all_streams GROUP BY stream, ingest_date
    UNION ALL
    SELECT stream, ingest_date, 0, 0, 0, count(*) FROM quarantine.all_streams GROUP BY stream, ingest_date
),
archived AS (
    SELECT
        split_part(table_name, '/', 2) AS stream,
        ingest_date,
        CASE WHEN table_name LIKE 'bronze/%' THEN removed ELSE 0 END AS events,
        coalesce(readings, 0) AS readings,
        CASE WHEN table_name LIKE 'silver/%' THEN removed ELSE 0 END AS silver,
        CASE WHEN table_name LIKE 'quarantine/%' THEN removed ELSE 0 END AS quarantined
    FROM recorded
    WHERE NOT EXISTS (
        -- What was put back since is counted where it is.
        FROM present
        WHERE present.stream = split_part(table_name, '/', 2)
            AND present.ingest_date = recorded.ingest_date
            AND CASE split_part(table_name, '/', 1)
                WHEN 'bronze' THEN present.events
                WHEN 'silver' THEN present.silver
                WHEN 'quarantine' THEN present.quarantined
                ELSE 1
            END > 0
    )
    AND (table_name NOT LIKE 'alerts/%')
),
counted AS (
    FROM present
    UNION ALL
    FROM archived
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
