-- Which age group is affected most by each reaction, by the share of the group's mentions of reactions?
-- Grain: reactionmeddrapt, age_group. Reads gold.reactions_by_age_group; reports of unknown age are a group of their own.
-- Shares are of all reactions that reports of the group name. The most affected group of known age has rank 1.
WITH shares AS (
    SELECT
        reactionmeddrapt,
        age_group,
        report_count,
        serious_count,
        death_count,
        100.0 * report_count / sum(report_count) OVER (PARTITION BY age_group) AS share_percent
    FROM gold.reactions_by_age_group
)
SELECT
    reactionmeddrapt,
    age_group,
    report_count,
    serious_count,
    death_count,
    round(share_percent, 3) AS share_percent,
    CASE
        WHEN age_group <> 'unknown'
            THEN row_number() OVER (
                PARTITION BY reactionmeddrapt, age_group = 'unknown' ORDER BY share_percent DESC, age_group
            )
    END::BIGINT AS rank
FROM shares
ORDER BY reactionmeddrapt, age_group;
