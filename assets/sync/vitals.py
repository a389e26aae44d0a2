"""Rows of `patient_status`: vital signs with what the rules said of them. Pure Polars."""

from datetime import timedelta

import polars as pl

from assets.stream.contract import POSITION
from assets.sync.feed import instant

HELD, HELD_IN_SPORT = timedelta(seconds=60), timedelta(seconds=120)
"""An alert within so long after another one of the patient belongs to it; while the patient does sport, longer."""
NO_DEVICE = -1
HIGH = {
    "high_heart_rate": "heart_rate_high",
    "high_bp": "systolic_high",
    "high_glucose": "vitals_glucose_high",
}
"""The columns that say that a rule was broken, each with its rule."""

_POSITION = list(POSITION)


def patient_status(silver: pl.DataFrame, alerts: pl.DataFrame) -> pl.DataFrame:
    """Rows of `patient_status`.

    The rules are those that held when a reading was evaluated: whether it broke one is asked of its alerts.
    `alert_occurrence` is 1 at a reading with an alert where the patient had none in the time before. Alerts count that
    came earlier in the same partition of the hub, so the answer is the same whenever it is computed.

    Args:
        silver: rows of silver.
        alerts: all alerts of these readings, and those of the same patients and partitions that were measured up to
            `HELD_IN_SPORT` before one of them.
    """
    epoch = pl.col("hub_epoch").fill_null(0)
    broken = (
        alerts.with_columns(epoch)
        .group_by(*_POSITION, "patient_id", "measured_at")
        .agg((pl.col("rule") == rule).any().alias(column) for column, rule in HIGH.items())
    )
    rows = silver.with_columns(epoch).join(
        broken.select(*_POSITION, *HIGH, alert=pl.lit(True)), on=_POSITION, how="left", maintain_order="left"
    )
    rows = rows.join(_beginnings(broken), on=_POSITION, how="left", maintain_order="left")
    begins = pl.when(pl.col("is_sport_mode").fill_null(False)).then("begins_in_sport").otherwise("begins")
    return rows.select(
        "patient_id",
        "ingest_date",
        pl.col(*HIGH, "alert").fill_null(False),
        timestamp=instant,
        heart_rate="heart_rate_bpm",
        systolic_bp="systolic_mmhg",
        diastolic_bp="diastolic_mmhg",
        glucose_level="glucose_mg_dl",
        spo2="spo2_percent",
        temperature="temperature_c",
        respiratory_rate="respiratory_rate_per_min",
        alert_occurrence=begins.fill_null(False).cast(pl.Int64),
        sport_mode="is_sport_mode",
        device_id=pl.col("device_id").fill_null(NO_DEVICE),
    )


def _beginnings(broken: pl.DataFrame) -> pl.DataFrame:
    """For each reading with an alert, whether its patient had none in the time before, by the two lengths of it."""
    arrived = pl.struct("sequence_number", "event_index").rank("dense").cast(pl.Int64)
    by_patient = ["patient_id", "hub_epoch", "partition"]
    ordered = broken.with_columns(_arrived=arrived).sort(*by_patient, "measured_at")

    def begins(length: timedelta) -> pl.Expr:
        first = pl.col("_arrived").rolling_min_by("measured_at", window_size=length, closed="left").over(by_patient)
        return first.is_null() | (first >= pl.col("_arrived"))

    return ordered.select(*_POSITION, begins=begins(HELD), begins_in_sport=begins(HELD_IN_SPORT))
