-- How long after its measurement did a reading reach the hub?
-- Grain: stream, event_date. Reads the silver tables; late means more than 10 minutes, the streams' default lateness.
-- Quantiles are approximate: exact ones hold every delay of a day in memory.
WITH arrived AS (
    SELECT 'glucose_readings' AS stream, event_date, epoch_us(received_at) - epoch_us(measured_at) AS delay_us
    FROM silver.glucose_readings
    UNION ALL
    SELECT 'device_readings', event_date, epoch_us(received_at) - epoch_us(measured_at)
    FROM silver.device_readings
)
SELECT
    stream,
    event_date,
    count(*)::BIGINT AS reading_count,
    (approx_quantile(delay_us, 0.50) / 1e6)::DOUBLE AS delay_p50_seconds,
    (approx_quantile(delay_us, 0.95) / 1e6)::DOUBLE AS delay_p95_seconds,
    (approx_quantile(delay_us, 0.99) / 1e6)::DOUBLE AS delay_p99_seconds,
    (max(delay_us) / 1e6)::DOUBLE AS delay_max_seconds,
    (100.0 * count(*) FILTER (delay_us > 600e6) / count(*))::DOUBLE AS late_percent
FROM arrived
GROUP BY ALL
ORDER BY stream, event_date;
