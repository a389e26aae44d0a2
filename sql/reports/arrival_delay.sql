-- How long after its measurement did a reading reach the hub?
-- Grain: stream, event_date. Reads silver of all streams; late means more than 10 minutes, the streams' default lateness.
-- Built by event_date.
-- Quantiles are approximate: exact ones hold every delay of a day in memory.
WITH arrived AS (
    SELECT stream, event_date, epoch_us(received_at) - epoch_us(measured_at) AS delay_us
    FROM silver.all_streams
),
summed AS (
    SELECT
        stream,
        event_date,
        count(*) AS reading_count,
        -- Three quantiles of one sketch take the time of one.
        approx_quantile(delay_us, [0.50, 0.95, 0.99]) AS delays_us,
        max(delay_us) AS delay_max_us,
        count(*) FILTER (delay_us > 600e6) AS late_count
    FROM arrived
    GROUP BY ALL
)
SELECT
    stream,
    event_date,
    reading_count::BIGINT AS reading_count,
    (delays_us[1] / 1e6)::DOUBLE AS delay_p50_seconds,
    (delays_us[2] / 1e6)::DOUBLE AS delay_p95_seconds,
    (delays_us[3] / 1e6)::DOUBLE AS delay_p99_seconds,
    (delay_max_us / 1e6)::DOUBLE AS delay_max_seconds,
    (100.0 * late_count / reading_count)::DOUBLE AS late_percent
FROM summed
ORDER BY stream, event_date;
