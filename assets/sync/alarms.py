"""Rows of `Alerts` and `AlertLifecycle` from the transitions of alarms. Pure Polars.

An alarm's row follows from its last transition alone, so that it may be written again at any time and from any part of
the table of alarms.
"""

from dataclasses import dataclass

import polars as pl

from assets.alarms.tables import CLEARED, UNACKNOWLEDGED
from assets.stream.contract import Contract

ALERTS, LIFECYCLE = "Alerts", "AlertLifecycle"
COLUMNS = (
    "alarm_id",
    "index",
    "kind",
    "at",
    "decided_at",
    "stream",
    "entity",
    "cause",
    "severity",
    "state",
    "value",
    "threshold",
    "worst_value",
    "raised_at",
    "is_late",
    "fold",
    "ingest_date",
    "actor",
    "note",
)
"""What is read of the table of alarms."""

STATES = {UNACKNOWLEDGED: "open"}
"""States that the store has another word for. An alarm that a person ended is `closed`, one that ended is `cleared`."""
OVER = ("cleared", "closed")
"""The states of alarms to which nothing happens any more."""

is_transition = ~pl.col("is_update") & (pl.col("index") >= 0)
"""Whether a row is one: not what an open alarm has come to meanwhile, nor an action that names no alarm."""


@dataclass(frozen=True, eq=False)
class AlarmFeed:
    """The part of `Alerts` and `AlertLifecycle` that is of one stream.

    Attributes:
        contract: the stream, which has alarms.
        readings: the table of the store that has its readings, by whose numbers alarms name them; None if none has.
    """

    contract: Contract
    readings: str | None = None

    @property
    def table(self) -> str:
        """What `sync_state` calls it: both tables have come equally far."""
        return f"{ALERTS}/{self.stream}"

    @property
    def stream(self) -> str:
        """The stream's name."""
        return self.contract.stream


def alerts(last: pl.DataFrame, entity: str) -> pl.DataFrame:
    """Rows of `Alerts`, without `reading_id`, which the store looks up.

    Args:
        last: of each alarm its last transition.
        entity: what the stream's alarms are about: `patient_id` or `device_id`.
    """
    number = {name: pl.col("entity") if name == entity else pl.lit(None, pl.Int64) for name in _ABOUT}
    return last.select(
        "severity",
        "stream",
        "is_late",
        "ingest_date",
        **number,
        alert_id="alarm_id",
        state=store_state(),
        transition_index="index",
        alert_type="cause",
        message=_message(),
        timestamp=pl.col("raised_at").dt.replace_time_zone(None),
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


def store_state() -> pl.Expr:
    """The state of an alarm after a transition, in the store's words."""
    is_closed = (pl.col("kind") == "closed") & (pl.col("state") == CLEARED)
    return pl.when(is_closed).then(pl.lit("closed")).otherwise(pl.col("state").replace(STATES))


_ABOUT = ("patient_id", "device_id")


def _message() -> pl.Expr:
    """What a person reads: cause and severity, the value at the transition, the threshold, and the worst value."""
    parts = [
        pl.concat_str(pl.col("cause").str.replace_all("_", " "), pl.lit(", "), pl.col("severity")),
        pl.concat_str(pl.lit(": "), pl.col("value").round(2).cast(pl.String)),
        pl.concat_str(pl.lit(", threshold "), pl.col("threshold").cast(pl.String)),
        pl.concat_str(pl.lit(", worst "), pl.col("worst_value").round(2).cast(pl.String)),
    ]
    return pl.concat_str(parts, ignore_nulls=True)
