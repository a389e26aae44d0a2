"""When a device's self-report raises an alert: no rule is defined yet, so none does. Pure Polars."""

import polars as pl

from assets.stream.contract import Rule

RULES: tuple[Rule, ...] = ()


def alert_payload(alerts: pl.DataFrame) -> pl.DataFrame:
    """The JSON fields of published alerts."""
    return alerts.select("alert_id", "rule", "severity", "device_id", "threshold", timestamp="measured_at")
