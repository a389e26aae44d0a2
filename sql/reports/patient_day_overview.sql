-- How was each patient's day: glucose control, and how often did each rule fire?
-- Grain: patient_id, event_date. Reads gold.glucose_daily and alerts.glucose_readings; a day without readings is absent.
-- Built by event_date.
WITH fired AS (
    SELECT
        patient_id,
        event_date,
        count(*) AS alert_count,
        count(*) FILTER (severity = 'urgent') AS urgent_alert_count,
        count(*) FILTER (rule = 'glucose_high') AS glucose_high_count,
        count(*) FILTER (rule = 'glucose_average_high') AS glucose_average_high_count,
        count(*) FILTER (rule = 'glucose_urgent_high') AS glucose_urgent_high_count,
        count(*) FILTER (rule = 'glucose_low') AS glucose_low_count,
        count(*) FILTER (rule = 'glucose_urgent_low') AS glucose_urgent_low_count
    FROM alerts.glucose_readings
    GROUP BY ALL
)
SELECT
    daily.patient_id,
    daily.event_date,
    daily.reading_count,
    daily.mean_mg_dl,
    daily.cv_percent,
    daily.gmi_percent,
    daily.tir_percent,
    daily.tbr_below_70_percent,
    daily.tar_above_180_percent,
    coalesce(fired.alert_count, 0)::BIGINT AS alert_count,
    coalesce(fired.urgent_alert_count, 0)::BIGINT AS urgent_alert_count,
    coalesce(fired.glucose_high_count, 0)::BIGINT AS glucose_high_count,
    coalesce(fired.glucose_average_high_count, 0)::BIGINT AS glucose_average_high_count,
    coalesce(fired.glucose_urgent_high_count, 0)::BIGINT AS glucose_urgent_high_count,
    coalesce(fired.glucose_low_count, 0)::BIGINT AS glucose_low_count,
    coalesce(fired.glucose_urgent_low_count, 0)::BIGINT AS glucose_urgent_low_count,
    daily.tir_time_percent,
    daily.active_percent,
    daily.near_duplicate_count
FROM gold.glucose_daily AS daily
LEFT JOIN fired USING (patient_id, event_date)
ORDER BY daily.patient_id, daily.event_date;
