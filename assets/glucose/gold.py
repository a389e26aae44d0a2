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

LONGEST_STAND_US = 15 * 60 * 1_000_000
"""How long a reading may stand: monitors measure at least every 15 minutes."""
NEAR_US, NEAR_MG_DL = 60 * 1_000_000, 10
"""How close two readings of a device are that may be one sample which came by two ways."""
US_PER_DAY = 86_400 * 1_000_000
PERCENT_PER_US = 100 / US_PER_DAY
"""Polars divides many rows by a number in another way than one row, so the last bit differs; products are the same."""

_DAY = ("patient_id", "event_date")
_glucose = pl.col("glucose_mg_dl")
_mean, _sd, _count = pl.col("mean_mg_dl"), pl.col("sd_mg_dl"), pl.col("reading_count")
_at_us, _stand_us = pl.col("measured_at").dt.epoch("us"), pl.col("stand_us")
_low, _high = TARGET_RANGE_MG_DL
_SHARES = {
    "tir": _glucose.is_between(_low, _high),
    "tbr_below_70": _glucose < _low,
    "tbr_below_54": _glucose < 54,
    "tar_above_180": _glucose > _high,
    "tar_above_250": _glucose > 250,
}
_OTHERS_BY_TIME = ("mean_time_mg_dl", "active_percent", "near_duplicate_count")


def glucose_daily(silver: pl.LazyFrame | pl.DataFrame) -> pl.DataFrame:
    """The consensus metrics of each patient and event date, as shares of readings and as shares of time.

    Time in range (TIR, 70 to 180 mg/dL inclusive), below (TBR, < 70 and < 54) and above (TAR, > 180 and > 250) follow
    Battelino et al. 2019 (doi:10.2337/dci19-0028); the lower levels include the severe ones, so TIR + TBR below 70 +
    TAR above 180 = 100. The glucose management indicator (GMI) is 3.31 + 0.02392 x mean, Bergenstal et al. 2018
    (doi:10.2337/dc18-1581). Both papers judge a patient by 14 days with 70 % of the readings: a row is a day's part of
    that, not a diagnosis.

    Shares of time: a reading stands until the patient's next one, of whatever device, at most 15 minutes. The last one
    of the day stands as long as the one before it did, or 15 minutes if it is the only one, but not beyond midnight
    UTC. A reading of the day before is not counted into the day, though it may still stand. So a date needs only its
    own rows, and making one date anew changes no other; the price is at most 15 minutes of `active_percent`. Of several
    readings of one instant the lowest stands: a low must not be hidden.

    A reading is a near-duplicate if the same device measured the patient at most 60 s before on the same date, and the
    two values differ by at most 10 mg/dL. A device that measures each minute makes nearly only such readings.

    Args:
        silver: rows of `silver/glucose_readings`: all of the event dates wanted.

    Returns:
        Rows of `GlucoseDaily`, sorted by key. `sd_mg_dl` (n - 1) and `cv_percent` are null for a single reading.
    """
    rows = silver.lazy().select(*_DAY, "measured_at", "device_id", "glucose_mg_dl").collect()
    by_value = (
        rows.lazy()
        .sort(*_DAY, "glucose_mg_dl")
        .group_by(_DAY, maintain_order=True)
        .agg(
            pl.len().cast(pl.Int64).alias("reading_count"),
            _glucose.mean().alias("mean_mg_dl"),
            _glucose.std().alias("sd_mg_dl"),
            _glucose.min().alias("min_mg_dl"),
            _glucose.max().alias("max_mg_dl"),
            *((100.0 * condition.sum() / pl.len()).alias(f"{name}_percent") for name, condition in _SHARES.items()),
        )
        .with_columns(cv_percent=100 * _sd / _mean, gmi_percent=GMI_INTERCEPT + GMI_PER_MG_DL * _mean)
    )
    return GlucoseDaily.validate(
        by_value.join(_by_time(rows), on=_DAY, how="left", maintain_order="left")
        .join(_near_duplicates(rows), on=_DAY, how="left", maintain_order="left")
        .select(GlucoseDaily.column_names())
        .collect(engine="in-memory")
    )


def _by_time(rows: pl.DataFrame) -> pl.LazyFrame:
    """Shares of time, mean and covered share of each day; durations are whole microseconds, so that sums are exact."""
    until_next = (-_at_us.diff(-1)).over(_DAY)
    until_midnight = pl.col("event_date").dt.offset_by("1d").cast(pl.Datetime("us")).dt.epoch("us") - _at_us
    standing = (
        rows.lazy()
        .sort(*_DAY, "measured_at", "glucose_mg_dl")
        .unique([*_DAY, "measured_at"], keep="first", maintain_order=True)
        .with_columns(stand_us=until_next)
        .with_columns(stand_us=pl.coalesce(_stand_us, _stand_us.shift(1).over(_DAY), LONGEST_STAND_US))
        .with_columns(stand_us=pl.min_horizontal(_stand_us, LONGEST_STAND_US, until_midnight))
    )
    return standing.group_by(_DAY, maintain_order=True).agg(
        *(
            _percent(_stand_us.filter(condition).sum(), _stand_us.sum()).alias(f"{name}_time_percent")
            for name, condition in _SHARES.items()
        ),
        ((_glucose * _stand_us).sum() / _stand_us.sum()).alias("mean_time_mg_dl"),
        (_stand_us.sum() * PERCENT_PER_US).alias("active_percent"),
    )


def _near_duplicates(rows: pl.DataFrame) -> pl.LazyFrame:
    device = [*_DAY, "device_id"]
    is_near = (_at_us.diff() <= NEAR_US) & (_glucose.diff().abs() <= NEAR_MG_DL)
    return (
        rows.lazy()
        .sort(*device, "measured_at", "glucose_mg_dl")
        .with_columns(is_near=is_near.over(device))
        .group_by(_DAY, maintain_order=True)
        .agg(pl.col("is_near").sum().cast(pl.Int64).alias("near_duplicate_count"))
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
    """Each patient's readings over all days given, and the patient's rank by the share of time in range.

    Means and shares of readings weigh days by their readings, those of time by the time that readings cover. Rank 1 is
    the highest share of time in range; equal shares have equal ranks, and the ranks after them are left out (1, 1, 3).
    Counts of readings and microseconds in range are restored from the days' percentages, so equal shares are found
    equal whatever days they come from. `active_percent` is the share of the days that have readings.

    Args:
        daily: rows of `GlucoseDaily`.

    Returns:
        Rows of `PatientComparison`, sorted by key. A patient whose days were made before there were shares of time has
        none, and the last rank.
    """
    in_range = (pl.col("tir_percent") * _count / 100).round().sum()
    active_us = (pl.col("active_percent") * US_PER_DAY / 100).round()
    days_us = active_us.is_not_null().sum() * US_PER_DAY
    by_time = [f"{name}_time_percent" for name in _SHARES]
    return PatientComparison.validate(
        daily.lazy()
        .select(*_DAY, "reading_count", "mean_mg_dl", "tir_percent", *by_time, *_OTHERS_BY_TIME)
        .collect()
        .sort(_DAY)
        .lazy()
        .group_by("patient_id", maintain_order=True)
        .agg(
            _count.sum(),
            ((_mean * _count).sum() / _count.sum()).alias("mean_mg_dl"),
            (100 * in_range / _count.sum()).alias("tir_percent"),
            *(
                _percent((pl.col(name) * active_us / 100).round().sum(), active_us.sum()).alias(name)
                for name in by_time
            ),
            (pl.col("mean_time_mg_dl") * active_us).sum() / active_us.sum(),
            _percent(active_us.sum(), days_us).alias("active_percent"),
            pl.when(active_us.is_not_null().any()).then(pl.col("near_duplicate_count").sum()),
        )
        .with_columns(pl.col(*by_time, "mean_time_mg_dl", "active_percent").fill_nan(None))
        .with_columns(rank=pl.col("tir_time_percent").fill_null(-1).rank("min", descending=True).cast(pl.Int64))
        .select(PatientComparison.column_names())
        .collect(engine="in-memory")
    )


def _sorted(silver: pl.LazyFrame | pl.DataFrame) -> pl.LazyFrame:
    return silver.lazy().select(*_DAY, "glucose_mg_dl").collect().sort(*_DAY, "glucose_mg_dl").lazy()


def _percent(part: pl.Expr, whole: pl.Expr) -> pl.Expr:
    """Divides before it multiplies, so that a whole is 100 and no more."""
    return part / whole * 100.0
