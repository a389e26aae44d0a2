"""When a device's self-report raises an alert: no rule is defined yet, so none does. Pure Polars."""

from datetime import timedelta

import polars as pl

from assets.stream.contract import SILENT_MINUTES, Alarms, Rule

RULES: tuple[Rule, ...] = ()
ALARMS = Alarms(
    max_age=timedelta(hours=1),
    clear_after=timedelta(0),
    silence=Rule("device_silence", SILENT_MINUTES, "at_least", 60.0, "warning", cause="silence"),
)
"""A device that reports nothing for an hour is silent."""


def alert_payload(alerts: pl.DataFrame) -> pl.DataFrame:
    """The JSON fields of published alerts."""
    return alerts.select("alert_id", "rule", "severity", "device_id", "threshold", timestamp="measured_at")
