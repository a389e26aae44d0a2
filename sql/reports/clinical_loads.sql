-- Which load brought what, and how many of its rows were rejected, for whom must account for it?
-- Grain: source, load_id. Reads audit.clinical_loads: one row a load, also of loads that were rejected as a whole. Published daily.
SELECT
    source,
    load_id,
    load_date,
    loaded_at,
    landed_as,
    row_count,
    quarantined_count,
    reasons,
    is_rejected,
    (100.0 * quarantined_count / nullif(row_count, 0))::DOUBLE AS quarantined_percent
FROM audit.clinical_loads
ORDER BY loaded_at, source, load_id;
