-- Which reactions are reported most often with each suspect drug, and how serious are they?
-- Grain: drug_name, reactionmeddrapt. Reads gold.reactions_by_drug; the ten commonest reactions of a drug.
WITH ranked AS (
    SELECT
        drug_name,
        reactionmeddrapt,
        suspect_report_count,
        suspect_serious_count,
        suspect_death_count,
        report_count,
        row_number() OVER (
            PARTITION BY drug_name ORDER BY suspect_report_count DESC, reactionmeddrapt
        ) AS rank
    FROM gold.reactions_by_drug
    WHERE suspect_report_count > 0
)
SELECT
    drug_name,
    rank::BIGINT AS rank,
    reactionmeddrapt,
    suspect_report_count,
    suspect_serious_count,
    suspect_death_count,
    round(100.0 * suspect_serious_count / suspect_report_count, 1) AS serious_percent,
    report_count
FROM ranked
WHERE rank <= 10
ORDER BY drug_name, rank;
