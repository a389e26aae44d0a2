-- How often did each rule fire on each day, and for how many patients or devices?
-- Grain: stream, event_date, rule, severity. Reads the alerts tables; a rule that did not fire on a day is absent.
WITH fired AS (
    SELECT 'glucose_readings' AS stream, event_date, rule, severity, patient_id AS entity_id
    FROM alerts.glucose_readings
    UNION ALL
    SELECT 'device_readings', event_date, rule, severity, device_id
    FROM alerts.device_readings
)
SELECT
    stream,
    event_date,
    rule,
    severity,
    count(*)::BIGINT AS alert_count,
    count(DISTINCT entity_id)::BIGINT AS entity_count
FROM fired
GROUP BY ALL
ORDER BY stream, event_date, rule, severity;
