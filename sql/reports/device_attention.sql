-- Which devices need attention, judged by the newest day on which they reported?
-- Grain: device_id. Reads gold.device_health. A device is quiet when another one was seen more than a day after it.
-- Reads the newest 30 dates. A device that did not report on any of them is absent.
-- Battery is low below 20 %, a connection bad when over 20 % of the reports are not Connected.
WITH newest AS (
    SELECT *
    FROM gold.device_health
    QUALIFY row_number() OVER (PARTITION BY device_id ORDER BY event_date DESC) = 1
),
judged AS (
    SELECT
        device_id,
        event_date,
        last_seen_at,
        battery_last_percent,
        battery_slope_percent_per_day,
        connected_percent,
        error_count,
        silent_gap_count,
        longest_silent_gap_minutes,
        (max(last_seen_at) OVER () - last_seen_at > INTERVAL 1 DAY) AS is_quiet,
        (battery_last_percent < 20) AS has_low_battery,
        (connected_percent < 80) AS has_bad_connection,
        (error_count > 0) AS has_errors,
        (silent_gap_count > 0) AS has_silent_gaps
    FROM newest
)
SELECT *
FROM judged
WHERE is_quiet OR has_low_battery OR has_bad_connection OR has_errors OR has_silent_gaps
ORDER BY device_id;
