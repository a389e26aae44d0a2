-- How long did events wait in the hub until they were pulled?
-- Grain: stream, ingest_date. Reads bronze of all streams; after an outage the wait is as long as the outage.
-- Built by ingest_date.
-- Quantiles are approximate: exact ones hold every wait of a day in memory.
WITH waited AS (
    SELECT stream, ingest_date, epoch_us(pulled_at) - epoch_us(received_at) AS wait_us
    FROM bronze.all_streams
),
summed AS (
    SELECT
        stream,
        ingest_date,
        count(*) AS event_count,
        -- Two quantiles of one sketch take the time of one.
        approx_quantile(wait_us, [0.50, 0.99]) AS waits_us,
        max(wait_us) AS wait_max_us
    FROM waited
    GROUP BY ALL
)
SELECT
    stream,
    ingest_date,
    event_count::BIGINT AS event_count,
    (waits_us[1] / 1e6)::DOUBLE AS wait_p50_seconds,
    (waits_us[2] / 1e6)::DOUBLE AS wait_p99_seconds,
    (wait_max_us / 1e6)::DOUBLE AS wait_max_seconds
FROM summed
ORDER BY stream, ingest_date;
