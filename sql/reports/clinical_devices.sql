-- How well did each device of the hospital work lately?
-- Grain: device_id. Reads gold.device_performance; a device that said nothing is absent. Published daily.
-- Reads the newest 30 dates.
SELECT
    device_id,
    count(*)::BIGINT AS day_count,
    max(last_seen_at) AS last_seen_at,
    sum(event_count)::BIGINT AS event_count,
    sum(alert_count)::BIGINT AS alert_count,
    sum(error_count)::BIGINT AS error_count,
    (100.0 * sum(offline_count) / nullif(sum(telemetry_count), 0))::DOUBLE AS offline_percent,
    min(battery_min_percent) AS battery_min_percent,
    arg_max(battery_last_percent, event_date) AS battery_last_percent,
    avg(signal_mean_dbm)::DOUBLE AS signal_mean_dbm
FROM gold.device_performance
GROUP BY device_id
ORDER BY device_id;
