-- How was each patient's day by vital signs: means and extremes, the early warning score, and how often did rules fire?
-- Grain: patient_id, event_date. Reads gold.vitals_daily, gold.news2 and alerts.vitals; a day without readings is absent.
-- Built by event_date.
-- Minutes at risk are minutes whose last reading has the score: medium from 5 on, high from 7 on.
WITH scored AS (
    SELECT
        patient_id,
        event_date,
        count(*) AS scored_minutes,
        max(news2_score) AS news2_max,
        arg_max(news2_score, evaluated_at) AS news2_last,
        count(*) FILTER (news2_score >= 5) AS medium_risk_minutes,
        count(*) FILTER (news2_score >= 7) AS high_risk_minutes
    FROM gold.news2
    GROUP BY ALL
),
fired AS (
    SELECT
        patient_id,
        event_date,
        count(*) AS alert_count,
        count(*) FILTER (severity = 'urgent') AS urgent_alert_count
    FROM alerts.vitals
    GROUP BY ALL
)
SELECT
    daily.patient_id,
    daily.event_date,
    daily.reading_count,
    daily.minute_count,
    daily.heart_rate_bpm_mean,
    daily.heart_rate_bpm_max,
    daily.systolic_mmhg_mean,
    daily.diastolic_mmhg_mean,
    daily.spo2_percent_mean,
    daily.spo2_percent_min,
    daily.temperature_c_max,
    daily.respiratory_rate_per_min_mean,
    daily.glucose_mg_dl_mean,
    coalesce(scored.scored_minutes, 0)::BIGINT AS scored_minutes,
    scored.news2_max::BIGINT AS news2_max,
    scored.news2_last::BIGINT AS news2_last,
    coalesce(scored.medium_risk_minutes, 0)::BIGINT AS medium_risk_minutes,
    coalesce(scored.high_risk_minutes, 0)::BIGINT AS high_risk_minutes,
    coalesce(fired.alert_count, 0)::BIGINT AS alert_count,
    coalesce(fired.urgent_alert_count, 0)::BIGINT AS urgent_alert_count
FROM gold.vitals_daily AS daily
LEFT JOIN scored USING (patient_id, event_date)
LEFT JOIN fired USING (patient_id, event_date)
ORDER BY daily.patient_id, daily.event_date;
