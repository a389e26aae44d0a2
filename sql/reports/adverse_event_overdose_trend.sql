-- How do reports of overdoses develop, by month and drug, against the month before?
-- Grain: month, drug_name. Reads gold.overdose_trend; a month without such a report of a drug is absent.
SELECT
    month,
    drug_name,
    report_count,
    suspect_report_count,
    serious_count,
    death_count,
    (report_count - coalesce(
        max(report_count) OVER (
            PARTITION BY drug_name ORDER BY month RANGE BETWEEN INTERVAL 1 MONTH PRECEDING AND INTERVAL 1 MONTH PRECEDING
        ),
        0
    ))::BIGINT AS change_to_month_before
FROM gold.overdose_trend
ORDER BY month, drug_name;
