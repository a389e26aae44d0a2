-- Which suspect substances are reported disproportionately with which reactions, and since when is that known?
-- Grain: substance, reactionmeddrapt. Reads gold.safety_signals and alerts.safety_signals; only what is a signal now.
-- A signal is a hint to look closer at the reports, and no proof that the substance is the cause.
WITH raised AS (
    SELECT
        substance,
        reactionmeddrapt,
        max(changed_at) FILTER (change = 'raised') AS raised_at
    FROM alerts.safety_signals
    GROUP BY ALL
)
SELECT
    signals.substance,
    signals.reactionmeddrapt,
    signals.a AS report_count,
    round(signals.expected_count, 2) AS expected_count,
    signals.b,
    signals.c,
    signals.d,
    signals.prr,
    signals.prr_lower,
    signals.prr_upper,
    signals.chi_square,
    signals.ror,
    signals.ror_lower,
    signals.ror_upper,
    signals.ic,
    signals.ic025,
    raised.raised_at
FROM gold.safety_signals AS signals
LEFT JOIN raised USING (substance, reactionmeddrapt)
WHERE signals.is_signal
ORDER BY signals.ic025 DESC, signals.substance, signals.reactionmeddrapt;
