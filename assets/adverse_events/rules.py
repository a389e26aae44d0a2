"""When a report raises an alert: no rule looks at a single report, so none does. Pure Polars.

What many reports say together is in `signals`.
"""

import polars as pl

from assets.stream.contract import Rule

RULES: tuple[Rule, ...] = ()


def alert_payload(alerts: pl.DataFrame) -> pl.DataFrame:
    """The JSON fields of published alerts."""
    return alerts.select("alert_id", "rule", "severity", "safetyreportid", "threshold", timestamp="measured_at")
