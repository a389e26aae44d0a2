"""A safety signal that is new raises an alert, once, and again only after it was gone for long. Pure Polars."""

from datetime import datetime, timedelta

import polars as pl
import polars_hash as plh

from assets.adverse_events.tables import SAFETY_SIGNAL_CHANGES
from assets.stream.contract import Utc
from assets.stream.outlet import PARTITION_KEYS

RULE, RULE_VERSION, SEVERITY = "safety_signal", 1, "info"
RAISED, RETURNED, GONE = "raised", "returned", "gone"
FORGOTTEN_AFTER = timedelta(days=90)
"""A signal that was gone for so long is a new one when it comes back."""

_PAIR = ["substance", "reactionmeddrapt"]
_MEASURES = ["expected_count", "prr", "chi_square", "ror_lower", "ic025"]
_STATE = ["change", "changed_at", "number"]


def changes(signals: pl.LazyFrame, log: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """What became of signals since the log was written.

    Args:
        signals: rows of `SafetySignals`, all of them.
        log: rows of `SafetySignalChanges`.
        now: when the changes are seen.

    Returns:
        New rows of `SafetySignalChanges`, sorted by pair.
    """
    states = log.sort("number").unique(_PAIR, keep="last").select(*_PAIR, *_STATE)
    is_known = pl.struct(_PAIR).is_in(states.select(pl.struct(_PAIR)).to_series().implode())
    told = signals.filter(pl.col("is_signal") | is_known)
    measured = told.select(*_PAIR, "is_signal", *_MEASURES, report_count="a").collect()
    pairs = measured.filter("is_signal").join(states, on=_PAIR, how="left")
    last, since = pl.col("change"), pl.lit(now, Utc) - pl.col("changed_at")
    appeared = pairs.filter(last.is_null() | (last == GONE)).with_columns(
        change=pl.when(last.is_null() | (since >= FORGOTTEN_AFTER)).then(pl.lit(RAISED)).otherwise(pl.lit(RETURNED))
    )
    gone = states.filter(last != GONE).join(pairs, on=_PAIR, how="anti").join(measured, on=_PAIR, how="left")
    rows = pl.concat([appeared, gone.with_columns(change=pl.lit(GONE))], how="diagonal").with_columns(
        rule=pl.lit(RULE),
        rule_version=pl.lit(RULE_VERSION, pl.Int64),
        severity=pl.lit(SEVERITY),
        number=(pl.col("number") + 1).fill_null(0),
        changed_at=pl.lit(now, Utc),
        report_count=pl.col("report_count").fill_null(0),
    )
    identity = pl.struct("rule", "rule_version", *_PAIR, "number").struct.json_encode()
    identified = rows.with_columns(identity=identity).with_columns(
        alert_id=plh.col("identity").nchash.xxh3_128().cast(pl.String)
    )
    return identified.select(SAFETY_SIGNAL_CHANGES.schema.names()).sort(_PAIR)


def events(changes: pl.DataFrame) -> pl.DataFrame:
    """The alerts among rows of `SafetySignalChanges`, as `body` (a JSON object) and `key`."""
    raised = changes.filter(pl.col("change") == RAISED)
    alerts = raised.select(
        "alert_id",
        "rule",
        "rule_version",
        "severity",
        *_PAIR,
        "report_count",
        *_MEASURES,
        timestamp="changed_at",
        received_at="changed_at",
        age_s=pl.lit(0.0),
        is_late=pl.lit(False),
        is_revision=pl.lit(False),
    )
    key = plh.concat_str(*_PAIR).nchash.crc32c() % PARTITION_KEYS
    return alerts.select(body=pl.struct(pl.all()).struct.json_encode()).hstack(raised.select(key=key.cast(pl.String)))
