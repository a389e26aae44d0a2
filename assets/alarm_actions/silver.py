"""Which actions are sound: of an alarm of a known stream, and a snooze with an end. Pure Polars."""

import polars as pl

from assets.alarm_actions.contract import STREAMS
from assets.alarms.tables import ACTIONS, MAX_NOTE, MAX_SNOOZE
from assets.stream.decode import IMPLAUSIBLE, TEXT, bad_type, missing_field
from assets.stream.instants import instants

_ALARM_ID = "^[0-9a-f]{16}$"


def clean(decoded: pl.DataFrame) -> pl.DataFrame:
    """Adds `reason` (null for a sound action) to decoded payload columns, and the instant at which a snooze ends.

    A snooze lasts at most eight hours; notes, names and ids are bounded, since alarms carry them for good.
    """
    until = instants(decoded, "until")
    rows = decoded.with_columns(until.alias("ends_at"), actor=pl.col("by"))
    is_snooze = pl.col("action") == "snooze"
    says_when = pl.col("until").is_not_null() | pl.col("until" + TEXT).is_not_null()
    lasts = pl.col("ends_at") - pl.col("measured_at")
    rows = rows.with_columns(
        reason=pl.when(~pl.col("stream").is_in(STREAMS))
        .then(pl.lit("unknown_stream"))
        .when(~pl.col("alarm_id").str.contains(_ALARM_ID))
        .then(pl.lit(bad_type("alarm_id")))
        .when(~pl.col("action_id").str.len_chars().is_between(1, MAX_NOTE))
        .then(pl.lit(bad_type("action_id")))
        .when(~pl.col("action").is_in(ACTIONS))
        .then(pl.lit(bad_type("action")))
        .when(~pl.col("by").str.len_chars().is_between(1, MAX_NOTE))
        .then(pl.lit(bad_type("by")))
        .when(pl.col("note").str.len_chars() > MAX_NOTE)
        .then(pl.lit(bad_type("note")))
        .when(is_snooze & ~says_when)
        .then(pl.lit(missing_field("until")))
        .when(is_snooze & pl.col("ends_at").is_null())
        .then(pl.lit(bad_type("until")))
        .when(is_snooze & ~lasts.is_between(pl.duration(), MAX_SNOOZE, closed="right"))
        .then(pl.lit(IMPLAUSIBLE + ":until"))
    )
    return rows.with_columns(until=pl.when(is_snooze).then(pl.col("ends_at"))).drop("ends_at")
