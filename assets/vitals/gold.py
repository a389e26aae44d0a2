"""What silver readings say about a patient's minutes and days, and the early warning score of each minute. Pure Polars.

All of it is added up from minutes (`assets.vitals.slots`), in integers, so the same readings give the same bytes in
whatever order, batches and company of other dates they come. The divisions are the last step.
"""

from collections.abc import Iterable, Mapping
from datetime import date
from types import MappingProxyType

import polars as pl

from assets.day import MICRO
from assets.vitals import news2
from assets.vitals.rules import KNOWN_FOR
from assets.vitals.silver import MEASUREMENTS
from assets.vitals.slots import vitals_slots
from assets.vitals.tables import News2, VitalsDaily, VitalsMinute

RUNNING: Mapping[str, str] = MappingProxyType(
    {
        "avg_heart_rate": "heart_rate_bpm",
        "avg_systolic_bp": "systolic_mmhg",
        "avg_diastolic_bp": "diastolic_mmhg",
        "avg_glucose_level": "glucose_mg_dl",
    }
)
"""The running means, by their names in the original producer's tables, and what they are of."""
LAST_MINUTES = pl.col("minute") >= 24 * 60 - KNOWN_FOR.total_seconds() / 60
"""The minutes of a day of which measurements may count on the next one."""

_DAY = ("patient_id", "event_date")
_minute_at = pl.col("event_date").cast(pl.Datetime("us", "UTC")) + pl.duration(minutes=pl.col("minute"))


def vitals_minute_of(slots: pl.DataFrame) -> pl.DataFrame:
    """Count, mean, least and greatest value of each vital in each minute, and running means of the day.

    Args:
        slots: rows of `VitalsSlots`: all of the event dates wanted.

    Returns:
        Rows of `VitalsMinute`, sorted by key.
    """
    running = {
        name: _mean(pl.col(f"{column}_sum").cum_sum().over(_DAY), pl.col(f"{column}_count").cum_sum().over(_DAY))
        for name, column in RUNNING.items()
    }
    return VitalsMinute.validate(
        slots.lazy()
        .sort(*_DAY, "minute")
        .with_columns(*_means(), minute_at=_minute_at, **running)
        .select(VitalsMinute.column_names())
        .collect(engine="in-memory")
    )


def vitals_daily_of(slots: pl.DataFrame) -> pl.DataFrame:
    """Count, mean, least and greatest value of each vital on each day.

    Args:
        slots: rows of `VitalsSlots`: all of the event dates wanted.

    Returns:
        Rows of `VitalsDaily`, sorted by key.
    """
    return VitalsDaily.validate(
        slots.lazy()
        .sort(_DAY)
        .group_by(_DAY, maintain_order=True)
        .agg(
            pl.col("reading_count").sum(),
            pl.len().cast(pl.Int64).alias("minute_count"),
            pl.col("sport_count").sum(),
            *(pl.col(f"{name}_count", f"{name}_sum").sum() for name in MEASUREMENTS),
            *(pl.col(f"{name}_min").min() for name in MEASUREMENTS),
            *(pl.col(f"{name}_max").max() for name in MEASUREMENTS),
        )
        .with_columns(_means())
        .select(VitalsDaily.column_names())
        .collect(engine="in-memory")
    )


def news2_of(slots: pl.DataFrame, dates: Iterable[date]) -> pl.DataFrame:
    """The early warning score at the last reading of each minute, where every needed vital was known by then.

    Args:
        slots: rows of `VitalsSlots` for each wanted date, and the last minutes of the date before it.
        dates: the event dates wanted.

    Returns:
        Rows of `News2` for `dates` only, sorted by key.
    """
    wanted = sorted(set(dates))
    minutes = (
        slots.lazy()
        .select(*_DAY, "minute", "last_at", news2.SCALE_2, pl.col("^.*_last$"), pl.col("^.*_last_at$"))
        .sort(*_DAY, "minute")
        .with_columns(_carried(name) for name in news2.PARAMETERS)
        .unnest([f"{name}_known" for name in news2.PARAMETERS])
        .filter(pl.col("event_date").is_in(wanted))
        .collect(engine="in-memory")
    )
    scores = news2.scored(minutes.select(news2.KNOWN))
    return News2.validate(
        minutes.select(*_DAY, evaluated_at="last_at")
        .hstack(scores)
        .filter(pl.col("news2_score").is_not_null())[News2.column_names()]
    )


def _carried(name: str) -> pl.Expr:
    """The last value up to a minute's last reading and its age; null where it is too old."""
    value, at = (pl.col(f"{name}_last{suffix}").forward_fill().over("patient_id") for suffix in ("", "_at"))
    age = pl.col("last_at") - at
    is_known = age < KNOWN_FOR
    age_s = age.dt.total_microseconds() / MICRO
    return pl.struct(
        pl.when(is_known).then(value).alias(name), pl.when(is_known).then(age_s).alias(f"{name}_age_s")
    ).alias(f"{name}_known")


def _means() -> list[pl.Expr]:
    return [_mean(pl.col(f"{name}_sum"), pl.col(f"{name}_count")).alias(f"{name}_mean") for name in MEASUREMENTS]


def _mean(millionths: pl.Expr, count: pl.Expr) -> pl.Expr:
    """A mean from a sum in millionths; null where nothing was counted."""
    weight = (count.cast(pl.Int128) * MICRO).cast(pl.Float64)
    return pl.when(count > 0).then(millionths.cast(pl.Float64) / weight)


def vitals_minute(silver: pl.LazyFrame | pl.DataFrame) -> pl.DataFrame:
    """`vitals_minute_of` from rows of `silver/vitals`."""
    return vitals_minute_of(vitals_slots(silver))


def vitals_daily(silver: pl.LazyFrame | pl.DataFrame) -> pl.DataFrame:
    """`vitals_daily_of` from rows of `silver/vitals`."""
    return vitals_daily_of(vitals_slots(silver))


def news2_evaluations(silver: pl.LazyFrame | pl.DataFrame, dates: Iterable[date]) -> pl.DataFrame:
    """`news2_of` from rows of `silver/vitals` of the wanted dates and the dates before them."""
    return news2_of(vitals_slots(silver), dates)
