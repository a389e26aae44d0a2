"""What silver readings say about a patient's day: consensus metrics, moving averages, a ranking. Pure Polars.

Every function gives the same bytes for the same rows, in whatever order, chunks and company of other dates they come:
rows are sorted before floating-point sums, and the sums run on the in-memory engine, since the streaming engine adds
up in an order that differs from run to run.
"""

from collections.abc import Iterable
from datetime import date, timedelta

import polars as pl

from assets.glucose.tables import GlucoseDaily, GlucoseMovingAverage, PatientComparison

GMI_INTERCEPT, GMI_PER_MG_DL = 3.31, 0.02392
"""Percent, and percent per mg/dL: Bergenstal et al. 2018, doi:10.2337/dc18-1581."""

TARGET_RANGE_MG_DL = (70, 180)
"""Both ends are in range: Battelino et al. 2019, doi:10.2337/dci19-0028."""

_DAY = ("patient_id", "event_date")
_glucose = pl.col("glucose_mg_dl")
_mean, _sd, _count = pl.col("mean_mg_dl"), pl.col("sd_mg_dl"), pl.col("reading_count")


def glucose_daily(silver: pl.LazyFrame | pl.DataFrame) -> pl.DataFrame:
    """The consensus metrics of each patient and event date, as shares of readings.

    Time in range (TIR, 70 to 180 mg/dL inclusive), below (TBR, < 70 and < 54) and above (TAR, > 180 and > 250) follow
    Battelino et al. 2019 (doi:10.2337/dci19-0028); the lower levels include the severe ones, so TIR + TBR below 70 +
    TAR above 180 = 100. The glucose management indicator (GMI) is 3.31 + 0.02392 x mean, Bergenstal et al. 2018
    (doi:10.2337/dc18-1581). Both papers judge a patient by 14 days with 70 % of the readings: a row is a day's part of
    that, not a diagnosis.

    Args:
        silver: rows of `silver/glucose_readings`: all of the event dates wanted.

    Returns:
        Rows of `GlucoseDaily`, sorted by key. `sd_mg_dl` (n - 1) and `cv_percent` are null for a single reading.
    """
    low, high = TARGET_RANGE_MG_DL
    return GlucoseDaily.validate(
        _sorted(silver)
        .group_by(_DAY, maintain_order=True)
        .agg(
            pl.len().cast(pl.Int64).alias("reading_count"),
            _glucose.mean().alias("mean_mg_dl"),
            _glucose.std().alias("sd_mg_dl"),
            _glucose.min().alias("min_mg_dl"),
            _glucose.max().alias("max_mg_dl"),
            _percent(_glucose.is_between(low, high)).alias("tir_percent"),
            _percent(_glucose < low).alias("tbr_below_70_percent"),
            _percent(_glucose < 54).alias("tbr_below_54_percent"),
            _percent(_glucose > high).alias("tar_above_180_percent"),
            _percent(_glucose > 250).alias("tar_above_250_percent"),
        )
        .with_columns(cv_percent=100 * _sd / _mean, gmi_percent=GMI_INTERCEPT + GMI_PER_MG_DL * _mean)
        .select(GlucoseDaily.column_names())
        .collect(engine="in-memory")
    )


def glucose_moving_average(silver: pl.LazyFrame | pl.DataFrame, dates: Iterable[date]) -> pl.DataFrame:
    """The mean of each patient's day, and the trailing two-day mean: over all readings of that day and the day before.

    The two-day mean weighs readings, not days; where the day before has none it equals the day's own mean. A patient
    without readings on a date has no row for it.

    Args:
        silver: rows of `silver/glucose_readings` for each wanted date and the date before it; others are ignored.
        dates: the event dates wanted.

    Returns:
        Rows of `GlucoseMovingAverage` for `dates` only, sorted by key.
    """
    wanted = sorted(set(dates))
    needed = {day - back for day in wanted for back in (timedelta(0), timedelta(days=1))}
    days = (
        _sorted(silver.lazy().filter(pl.col("event_date").is_in(sorted(needed))))
        .group_by(_DAY, maintain_order=True)
        .agg(pl.len().cast(pl.Int64).alias("reading_count"), _glucose.sum().alias("sum_mg_dl"))
    )
    before = days.with_columns(pl.col("event_date").dt.offset_by("1d"))
    both = days.join(before, on=_DAY, how="left", suffix="_before", maintain_order="left")
    two_day_count = _count + pl.col("reading_count_before").fill_null(0)
    two_day_sum = pl.col("sum_mg_dl") + pl.col("sum_mg_dl_before").fill_null(0.0)
    return GlucoseMovingAverage.validate(
        both.filter(pl.col("event_date").is_in(wanted))
        .select(
            *_DAY,
            _count,
            (pl.col("sum_mg_dl") / _count).alias("mean_mg_dl"),
            two_day_count.alias("two_day_reading_count"),
            (two_day_sum / two_day_count).alias("two_day_mean_mg_dl"),
        )
        .sort(_DAY)
        .collect(engine="in-memory")
    )


def patient_comparison(daily: pl.LazyFrame | pl.DataFrame) -> pl.DataFrame:
    """Each patient's readings over all days given, and the patient's rank by time in range.

    Means weigh days by their readings. Rank 1 is the highest time in range; equal shares have equal ranks, and the
    ranks after them are left out (1, 1, 3). Counts of readings in range are restored from the days' percentages, so
    equal shares are found equal whatever days they come from.

    Args:
        daily: rows of `GlucoseDaily`.

    Returns:
        Rows of `PatientComparison`, sorted by key.
    """
    in_range = (pl.col("tir_percent") * _count / 100).round().sum()
    return PatientComparison.validate(
        daily.lazy()
        .select(*_DAY, "reading_count", "mean_mg_dl", "tir_percent")
        .collect()
        .sort(_DAY)
        .lazy()
        .group_by("patient_id", maintain_order=True)
        .agg(
            _count.sum(),
            ((_mean * _count).sum() / _count.sum()).alias("mean_mg_dl"),
            (100 * in_range / _count.sum()).alias("tir_percent"),
        )
        .with_columns(rank=pl.col("tir_percent").rank("min", descending=True).cast(pl.Int64))
        .collect(engine="in-memory")
    )


def _sorted(silver: pl.LazyFrame | pl.DataFrame) -> pl.LazyFrame:
    return silver.lazy().select(*_DAY, "glucose_mg_dl").collect().sort(*_DAY, "glucose_mg_dl").lazy()


def _percent(condition: pl.Expr) -> pl.Expr:
    return 100.0 * condition.sum() / pl.len()
