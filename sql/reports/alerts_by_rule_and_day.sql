-- How often did each rule fire on each day, and for how many patients or devices?
-- Grain: stream, event_date, rule, severity. Reads the alerts of all streams; a rule that did not fire on a day is absent.
-- Built by event_date.
SELECT
    stream,
    event_date,
    rule,
    severity,
    count(*)::BIGINT AS alert_count,
    count(DISTINCT entity_id)::BIGINT AS entity_count
FROM alerts.all_streams
GROUP BY ALL
ORDER BY stream, event_date, rule, severity;
