-- Who is well controlled, and who meets the consensus targets?
-- Grain: patient_id, in order of rank. Reads gold.patient_comparison and gold.glucose_daily.
-- Targets for most adults, Battelino et al. 2019: TIR > 70 %, TBR < 4 % (below 54: < 1 %), TAR < 25 % (above 250: < 5 %).
-- They are judged by shares of time, as the rank is; active_percent says how much of the days the readings cover.
WITH shares AS (
    SELECT
        patient_id,
        count(*) AS day_count,
        min(event_date) AS first_date,
        max(event_date) AS last_date,
        sum(tbr_below_70_percent * reading_count) / sum(reading_count) AS tbr_below_70_percent,
        sum(tar_above_180_percent * reading_count) / sum(reading_count) AS tar_above_180_percent
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
    (patients.tir_time_percent > 70) AS is_tir_on_target,
    (patients.tbr_below_70_time_percent < 4 AND patients.tbr_below_54_time_percent < 1) AS is_tbr_on_target,
    (patients.tar_above_180_time_percent < 25 AND patients.tar_above_250_time_percent < 5) AS is_tar_on_target,
    patients.tir_time_percent,
    patients.tbr_below_70_time_percent,
    patients.tar_above_180_time_percent,
    patients.active_percent
FROM gold.patient_comparison AS patients
LEFT JOIN shares USING (patient_id)
ORDER BY patients.rank, patients.patient_id;
