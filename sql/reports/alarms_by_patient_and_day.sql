-- How many alarms did each patient or device have on each day, and how many episodes was nobody told of?
-- Grain: stream, entity_key, entity, event_date (of the raising reading). Reads gold.alarms; a day without any is absent.
-- Built by event_date.
-- `entity` is a value of what `entity_key` says, such as patient_id. Alarms that were retracted count.
SELECT
    stream,
    entity_key,
    entity,
    event_date,
    count(*) FILTER (state <> 'missed')::BIGINT AS alarm_count,
    count(*) FILTER (state <> 'missed' AND worst_severity = 'urgent')::BIGINT AS urgent_count,
    count(acknowledged_at)::BIGINT AS acknowledged_count,
    sum(snooze_count)::BIGINT AS snooze_count,
    sum(reminder_count)::BIGINT AS reminder_count,
    max(highest_tier)::BIGINT AS highest_tier,
    count(*) FILTER (is_open)::BIGINT AS open_count,
    count(*) FILTER (state = 'missed')::BIGINT AS missed_count,
    count(*) FILTER (state = 'retracted')::BIGINT AS retracted_count
FROM gold.alarms
GROUP BY ALL
ORDER BY stream, entity_key, entity, event_date;
