-- Who is well controlled, and who meets the consensus targets?
-- Grain: patient_id, in order of rank. Reads gold.patient_comparison and gold.glucose_daily.
-- Targets for most adults, Battelino et al. 2019: TIR > 70 %, TBR < 4 % (below 54: < 1 %), TAR < 25 % (above 250: < 5 %).
WITH shares AS (
    SELECT
        patient_id,
        count(*) AS day_count,
        min(event_date) AS first_date,
        max(event_date) AS last_date,
        sum(tbr_below_70_percent * reading_count) / sum(reading_count) AS tbr_below_70_percent,
        sum(tbr_below_54_percent * reading_count) / sum(reading_count) AS tbr_below_54_percent,
        sum(tar_above_180_percent * reading_count) / sum(reading_count) AS tar_above_180_percent,
        sum(tar_above_250_percent * reading_count) / sum(reading_count) AS tar_above_250_percent
    FROM gold.glucose_daily
    GROUP BY patient_id
)
SELECT
    patients.rank,
    patients.patient_id,
    shares.day_count::BIGINT AS day_count,
    shares.first_date,
    shares.last_date,
    patients.reading_count,
    patients.mean_mg_dl,
    (3.31 + 0.02392 * patients.mean_mg_dl)::DOUBLE AS gmi_percent,
    patients.tir_percent,
    shares.tbr_below_70_percent::DOUBLE AS tbr_below_70_percent,
    shares.tar_above_180_percent::DOUBLE AS tar_above_180_percent,
    (patients.tir_percent > 70) AS is_tir_on_target,
    (shares.tbr_below_70_percent < 4 AND shares.tbr_below_54_percent < 1) AS is_tbr_on_target,
    (shares.tar_above_180_percent < 25 AND shares.tar_above_250_percent < 5) AS is_tar_on_target
FROM gold.patient_comparison AS patients
LEFT JOIN shares USING (patient_id)
ORDER BY patients.rank, patients.patient_id;
