"""Rows of `Alerts` and `AlertLifecycle` from the transitions of alarms. Pure Polars."""

from collections.abc import Mapping

import polars as pl

STATES = {
    "raised": "open",
    "missed": "missed",
    "worsened": "open",
    "reminded": "open",
    "acknowledged": "acknowledged",
    "snoozed": "snoozed",
    "closed": "closed",
    "cleared": "cleared",
    "retracted": "retracted",
}
"""The state after each transition that changes it; the others (eased, escalated, stale, commented) leave it."""


def alerts(transitions: pl.DataFrame, entities: Mapping[str, str]) -> pl.DataFrame:
    """Rows of `Alerts`, one for each alarm.

    Args:
        transitions: all transitions of some alarms.
        entities: for each stream what its alarms are about: `patient_id`, `device_id` or another column.
    """
    ordered = transitions.sort("alarm_id", "index").with_columns(
        state=pl.col("kind").replace_strict(STATES, default=None, return_dtype=pl.String)
    )
    alarms = ordered.group_by("alarm_id", maintain_order=True).agg(
        pl.col("stream", "entity", "cause").last(),
        pl.col("severity", "threshold", "worst_value", "is_late", "ingest_date").last(),
        pl.col("at", "value").first(),
        state=pl.col("state").drop_nulls().last().fill_null("open"),
        transition_index=pl.col("index").last(),
    )
    about = pl.col("stream").replace_strict(dict(entities), default=None, return_dtype=pl.String)
    number = pl.col("entity").cast(pl.String).cast(pl.Int64, strict=False)
    return alarms.select(
        "severity",
        "state",
        "stream",
        "is_late",
        "transition_index",
        "ingest_date",
        alert_id="alarm_id",
        patient_id=pl.when(about == "patient_id").then(number),
        device_id=pl.when(about == "device_id").then(number),
        # Filled in by the store, whose readings have numbers of its own.
        reading_id=pl.lit(None, pl.Int64),
        alert_type="cause",
        message=_message(),
        timestamp=pl.col("at").dt.replace_time_zone(None),
    )


def alert_lifecycle(transitions: pl.DataFrame) -> pl.DataFrame:
    """Rows of `AlertLifecycle`, one for each transition. An actor that is the id of a subscriber is one."""
    return transitions.select(
        "actor",
        "ingest_date",
        alert_id="alarm_id",
        action_by_user_id=pl.col("actor").cast(pl.Int64, strict=False),
        action_type="kind",
        action_note="note",
        action_timestamp=pl.col("at").dt.replace_time_zone(None),
        transition_index="index",
    )


def _message() -> pl.Expr:
    """What a person reads: cause and severity, the value that raised it, the threshold, and the worst value."""
    parts = [
        pl.concat_str(pl.col("cause").str.replace_all("_", " "), pl.lit(", "), pl.col("severity")),
        pl.concat_str(pl.lit(": "), pl.col("value").round(2).cast(pl.String)),
        pl.concat_str(pl.lit(", threshold "), pl.col("threshold").cast(pl.String)),
        pl.concat_str(pl.lit(", worst "), pl.col("worst_value").round(2).cast(pl.String)),
    ]
    return pl.concat_str(parts, ignore_nulls=True)
