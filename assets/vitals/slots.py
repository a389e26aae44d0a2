"""What a minute of silver readings comes to, in numbers that can be added up to days. Pure Polars.

Silver touches quarters of an hour, so a slot is summed up anew as a whole; within it each minute has a row. All sums
are of integers, and the last value of a minute does not depend on the order of rows, so the same readings give the same
bytes.
"""

import polars as pl

from assets.day import US_PER_DAY, millionths, slot
from assets.vitals.news2 import PARAMETERS, SCALE_2
from assets.vitals.rules import HIGHER_IS_WORSE
from assets.vitals.silver import MEASUREMENTS
from assets.vitals.tables import VitalsSlots

MINUTE_US = 60 * 1_000_000
MINUTE = ("patient_id", "event_date", "slot", "minute")

_at = pl.col("measured_at")


def vitals_slots(silver: pl.LazyFrame | pl.DataFrame) -> pl.DataFrame:
    """Sums up the readings of each patient and minute.

    Args:
        silver: rows of `silver/vitals`: all of the slots wanted.

    Returns:
        Rows of `VitalsSlots`, sorted by key.
    """
    columns = (
        "patient_id",
        "event_date",
        "measured_at",
        *MEASUREMENTS,
        "is_sport_mode",
        "is_on_oxygen",
        "consciousness",
        SCALE_2,
    )
    minute = (_at.dt.epoch("us") % US_PER_DAY // MINUTE_US).alias("minute")
    return VitalsSlots.validate(
        silver.lazy()
        .select(columns)
        .with_columns(slot(), minute)
        .group_by(MINUTE)
        .agg(
            pl.len().cast(pl.Int64).alias("reading_count"),
            pl.col("is_sport_mode").sum().cast(pl.Int64).alias("sport_count"),
            _at.max().alias("last_at"),
            pl.col(SCALE_2).max(),
            *(each for name in MEASUREMENTS for each in _sums(name)),
            *(each for name in PARAMETERS for each in _last(name)),
        )
        .sort(MINUTE)
        .select(VitalsSlots.column_names())
        .collect(engine="in-memory")
    )


def _sums(name: str) -> tuple[pl.Expr, ...]:
    return (
        pl.col(name).count().cast(pl.Int64).alias(f"{name}_count"),
        millionths(name).sum().alias(f"{name}_sum"),
        pl.col(name).min().alias(f"{name}_min"),
        pl.col(name).max().alias(f"{name}_max"),
    )


def _last(name: str) -> tuple[pl.Expr, pl.Expr]:
    """The last value and its time; of several of one instant the worse one, as in the rules."""
    value = pl.col(name)
    last_at = _at.filter(value.is_not_null()).max()
    of_last = value.filter(value.is_not_null(), _at == last_at)
    worst = of_last.max() if name in HIGHER_IS_WORSE else of_last.min()
    return worst.alias(f"{name}_last"), last_at.alias(f"{name}_last_at")
