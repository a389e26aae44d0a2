-- Which ten rules raise most alarms, and what share of all is theirs?
-- Grain: stream, rule_id, in order of rank. Reads gold.alarms.
-- Reads the newest 30 dates. What no rule raises, such as silence, stands here by its cause.
-- ANSI/ISA-18.2-2016 and IEC 62682:2022: the ten most frequent alarms should be no more than about 1 % to 5 % of all.
WITH raised AS (
    SELECT
        stream,
        coalesce(rule_id, cause) AS rule_id,
        cause,
        count(*) AS alarm_count,
        count(DISTINCT entity) AS entity_count,
        count(*) FILTER (state = 'retracted') AS retracted_count,
        median(duration_s) AS duration_p50_s
    FROM gold.alarms
    WHERE state <> 'missed'
    GROUP BY ALL
),
ranked AS (
    SELECT
        *,
        row_number() OVER (ORDER BY alarm_count DESC, stream, rule_id, cause) AS rank,
        100.0 * alarm_count / sum(alarm_count) OVER () AS share_percent
    FROM raised
)
SELECT
    rank::BIGINT AS rank,
    stream,
    rule_id,
    cause,
    alarm_count::BIGINT AS alarm_count,
    share_percent::DOUBLE AS share_percent,
    entity_count::BIGINT AS entity_count,
    retracted_count::BIGINT AS retracted_count,
    duration_p50_s::DOUBLE AS duration_p50_s
FROM ranked
WHERE rank <= 10
ORDER BY rank;
