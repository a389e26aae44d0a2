-- Which alarms have stood for more than 24 hours and are still open?
-- Grain: alarm_id. Reads gold.alarms, of which only what is open.
-- ANSI/ISA-18.2-2016 and IEC 62682:2022 call them stale, and want fewer than five on any day. (Here `stale` is an open alarm
-- of whom nothing is heard.) They hide others: change the rule for this patient, or treat the cause.
SELECT
    alarm_id,
    stream,
    entity_key,
    entity,
    cause,
    severity,
    worst_severity,
    rule_id,
    raised_at,
    (epoch(now() - raised_at) / 3600)::DOUBLE AS open_hours,
    reading_count,
    worst_value,
    acknowledged_at,
    reminder_count,
    highest_tier
FROM gold.alarms
WHERE is_open AND now() - raised_at > INTERVAL 24 HOUR
ORDER BY raised_at, alarm_id;
