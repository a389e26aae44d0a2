-- Who brought which rows into which table, which version it has since then, and what was rejected for which reasons?
-- Grain: load_id, of the 90 days before the newest one. Reads audit.loads and, for the reasons, audit.clinical_loads.
WITH reasons AS (
    SELECT source, load_date, string_agg(DISTINCT reasons, '; ' ORDER BY reasons) AS reasons
    FROM audit.clinical_loads
    WHERE reasons IS NOT NULL
    GROUP BY source, load_date
)
SELECT
    loads.load_id,
    loads.kind,
    loads.table_name,
    loads.done_by,
    loads.source,
    loads.began_at,
    loads.ended_at,
    loads.rows_in,
    loads.rows_out,
    loads.rows_rejected,
    loads.checksum,
    loads.version_before,
    loads.version_after,
    loads.outcome,
    loads.reason,
    CASE
        WHEN loads.rows_rejected > 0 AND loads.kind = 'clinical load' THEN 'quarantine.clinical_loads'
        WHEN loads.rows_rejected > 0 THEN 'quarantine.' || split_part(loads.table_name, '/', 2)
    END AS rejected_rows_are_in,
    CASE WHEN loads.rows_rejected > 0 THEN reasons.reasons END AS rejected_because
FROM audit.loads AS loads
LEFT JOIN reasons
    ON reasons.source = split_part(loads.table_name, '/', 2) AND reasons.load_date = CAST(loads.began_at AS DATE)
WHERE loads.ended_at > (SELECT max(ended_at) FROM audit.loads) - INTERVAL 90 DAY
ORDER BY loads.ended_at, loads.load_id;
