-- How good were the alarms of each day: how many, how soon acknowledged, how many that were no use or were missed?
-- Grain: stream, event_date (of the raising reading). Reads gold.alarms and the alerts of all streams.
-- Built by event_date.
-- The measures are those of ANSI/ISA-18.2-2016 and IEC 62682:2022, clause 16 (monitoring and assessment): alarms in all and
-- at the peak of 10 minutes (more than 10 are a flood; over a month less than 1 % of the time should be one), their
-- distribution over priorities (about 80 % low, 15 % medium, 5 % high), chattering alarms (here: at least the third of an
-- entity and a cause within 10 minutes) and those that stand longer than 24 hours, which the standards call stale.
-- Alarms that were retracted count: people were told of them. Missed episodes do not; missed_percent is of both together.
WITH alarms AS (
    SELECT
        *,
        count(*) OVER (
            PARTITION BY stream, entity, cause, event_date ORDER BY raised_at
            RANGE BETWEEN INTERVAL 10 MINUTE PRECEDING AND CURRENT ROW
        ) AS raised_in_10_min
    FROM gold.alarms
    WHERE state <> 'missed'
),
missed AS (
    SELECT stream, event_date, count(*) AS missed_count
    FROM gold.alarms
    WHERE state = 'missed'
    GROUP BY ALL
),
periods AS (
    SELECT stream, event_date, epoch_us(raised_at) // 600_000_000 AS period, count(*) AS alarm_count
    FROM alarms
    GROUP BY ALL
),
peaks AS (
    SELECT
        stream,
        event_date,
        max(alarm_count) AS peak_in_10_min,
        count(*) FILTER (alarm_count > 10) AS flood_periods
    FROM periods
    GROUP BY ALL
),
raised AS (
    SELECT
        stream,
        event_date,
        count(*) AS alarm_count,
        count(DISTINCT entity) AS entity_count,
        count(*) FILTER (severity = 'info') AS info_count,
        count(*) FILTER (severity = 'warning') AS warning_count,
        count(*) FILTER (severity = 'urgent') AS urgent_count,
        count(acknowledged_at) AS acknowledged_count,
        quantile_cont(acknowledge_s, 0.5) AS acknowledge_p50_s,
        quantile_cont(acknowledge_s, 0.9) AS acknowledge_p90_s,
        sum(reminder_count) AS reminder_count,
        count(*) FILTER (highest_tier > 0) AS escalated_count,
        count(*) FILTER (raised_in_10_min > 2) AS chattering_count,
        count(*) FILTER (coalesce(duration_s, epoch(now() - raised_at)) > 86400) AS standing_24_h_count,
        count(*) FILTER (state = 'retracted') AS retracted_count
    FROM alarms
    GROUP BY ALL
),
alerts AS (
    SELECT stream, event_date, count(*) AS alert_count
    FROM alerts.all_streams
    GROUP BY ALL
)
SELECT
    stream,
    event_date,
    coalesce(raised.alarm_count, 0)::BIGINT AS alarm_count,
    coalesce(raised.entity_count, 0)::BIGINT AS entity_count,
    (raised.alarm_count / raised.entity_count)::DOUBLE AS alarms_per_entity,
    (100.0 * raised.info_count / raised.alarm_count)::DOUBLE AS info_percent,
    (100.0 * raised.warning_count / raised.alarm_count)::DOUBLE AS warning_percent,
    (100.0 * raised.urgent_count / raised.alarm_count)::DOUBLE AS urgent_percent,
    coalesce(alerts.alert_count, 0)::BIGINT AS alert_count,
    (coalesce(alerts.alert_count, 0) / raised.alarm_count)::DOUBLE AS alerts_per_alarm,
    coalesce(peaks.peak_in_10_min, 0)::BIGINT AS peak_in_10_min,
    (100.0 * coalesce(peaks.flood_periods, 0) / 144)::DOUBLE AS flood_percent,
    coalesce(raised.chattering_count, 0)::BIGINT AS chattering_count,
    coalesce(raised.standing_24_h_count, 0)::BIGINT AS standing_24_h_count,
    (100.0 * raised.acknowledged_count / raised.alarm_count)::DOUBLE AS acknowledged_percent,
    raised.acknowledge_p50_s::DOUBLE AS acknowledge_p50_s,
    raised.acknowledge_p90_s::DOUBLE AS acknowledge_p90_s,
    coalesce(raised.reminder_count, 0)::BIGINT AS reminder_count,
    coalesce(raised.escalated_count, 0)::BIGINT AS escalated_count,
    coalesce(missed.missed_count, 0)::BIGINT AS missed_count,
    (100.0 * coalesce(missed.missed_count, 0) / (coalesce(raised.alarm_count, 0) + coalesce(missed.missed_count, 0)))::DOUBLE
        AS missed_percent,
    coalesce(raised.retracted_count, 0)::BIGINT AS retracted_count,
    (100.0 * raised.retracted_count / raised.alarm_count)::DOUBLE AS retracted_percent
FROM raised
FULL JOIN missed USING (stream, event_date)
LEFT JOIN peaks USING (stream, event_date)
LEFT JOIN alerts USING (stream, event_date)
ORDER BY stream, event_date;
