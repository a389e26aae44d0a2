"""What people do to alarms, in Dagster: a stream like any other. Sessions of other streams read its silver table."""

from datetime import timedelta

import polars as pl

from assets.alarm_actions.contract import STREAM, ActionPayload, AlarmActionAlerts
from assets.alarm_actions.silver import clean
from assets.alarms.tables import AlarmActions
from assets.stream.contract import Contract


def _alert_payload(alerts: pl.DataFrame) -> pl.DataFrame:
    return alerts.select("alert_id", "rule", "severity", "alarm_id", "threshold", timestamp="measured_at")


CONTRACT = Contract(
    stream=STREAM,
    payload=ActionPayload,
    silver=AlarmActions,
    alerts=AlarmActionAlerts,
    keys=("alarm_id", "action_id"),
    entity="alarm_id",
    values=("action", "actor", "note", "until", "seen_index"),
    clean=clean,
    alert_payload=_alert_payload,
    max_silence=None,
    # Whoever acknowledges an alarm waits for it.
    commit_every=timedelta(milliseconds=100),
)
