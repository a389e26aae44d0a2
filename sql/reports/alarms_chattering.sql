-- Which alarms chatter: raised three times or more within 10 minutes for one patient or device and one cause?
-- Grain: stream, entity_key, entity, cause, event_date. Reads gold.alarms; what does not chatter is absent.
-- Built by event_date.
-- ANSI/ISA-18.2-2016 and IEC 62682:2022 call an alarm chattering that becomes active and inactive again and again within a
-- short time, and want none; a clear_threshold further from the threshold, or a longer clear_after, ends it.
WITH alarms AS (
    SELECT
        stream,
        entity_key,
        entity,
        cause,
        event_date,
        raised_at,
        count(*) OVER (
            PARTITION BY stream, entity_key, entity, cause, event_date ORDER BY raised_at
            RANGE BETWEEN INTERVAL 10 MINUTE PRECEDING AND CURRENT ROW
        ) AS raised_in_10_min
    FROM gold.alarms
    WHERE state <> 'missed'
)
SELECT
    stream,
    entity_key,
    entity,
    cause,
    event_date,
    count(*)::BIGINT AS alarm_count,
    count(*) FILTER (raised_in_10_min > 2)::BIGINT AS chattering_count,
    max(raised_in_10_min)::BIGINT AS most_in_10_min,
    min(raised_at) FILTER (raised_in_10_min > 2)::TIMESTAMPTZ AS first_at
FROM alarms
GROUP BY ALL
HAVING max(raised_in_10_min) > 2
ORDER BY stream, entity_key, entity, cause, event_date;
