-- When were there more alarms than people can attend to, for all together, a care team or a subscriber?
-- Grain: audience (all, care_team or subscriber), name, period_begins_at. Reads gold.alarms, reference.current_patients and
-- reference.current_subscriptions.
-- Reads the newest 30 dates. Care teams and subscriptions are those of now.
-- More than 10 alarms within 10 minutes are a flood, after ANSI/ISA-18.2-2016 and IEC 62682:2022; periods begin at full ten
-- minutes. For a subscriber those count that are told at once (tier 0), of the subscription's severity or worse.
WITH alarms AS (
    SELECT alarm_id, entity_key, entity, event_date, raised_at, severity
    FROM gold.alarms
    WHERE state <> 'missed'
),
patients AS (
    SELECT
        patient_id,
        care_team,
        list_transform(string_split(coalesce("groups", ''), ';'), lambda name: 'group:' || trim(name)) AS scopes
    FROM reference.current_patients
),
subscriptions AS (
    SELECT
        subscriber_id,
        scope,
        CASE minimum_severity WHEN 'urgent' THEN ['urgent'] WHEN 'warning' THEN ['warning', 'urgent'] END AS severities
    FROM reference.current_subscriptions
    WHERE tier = 0 AND (transitions IS NULL OR list_contains(string_split(transitions, ';'), 'raised'))
),
of_patients AS (
    SELECT alarms.*, care_team, list_append(coalesce(scopes, []), 'patient:' || entity) AS scopes
    FROM alarms
    LEFT JOIN patients ON patients.patient_id = alarms.entity
    WHERE entity_key = 'patient_id'
),
told AS (
    SELECT 'all' AS audience, 'all' AS name, event_date, raised_at FROM alarms
    UNION ALL
    SELECT 'care_team', care_team, event_date, raised_at FROM of_patients WHERE care_team IS NOT NULL
    UNION ALL
    SELECT 'subscriber', subscriber_id::VARCHAR, event_date, raised_at
    FROM (
        SELECT DISTINCT subscriber_id, alarm_id, event_date, raised_at
        FROM of_patients
        JOIN subscriptions ON list_contains(scopes, scope)
            AND (severities IS NULL OR list_contains(severities, severity))
    )
)
SELECT
    audience,
    name,
    event_date,
    to_timestamp(epoch_us(raised_at) // 600_000_000 * 600)::TIMESTAMPTZ AS period_begins_at,
    count(*)::BIGINT AS alarm_count
FROM told
GROUP BY ALL
HAVING count(*) > 10
ORDER BY audience, name, period_begins_at;
