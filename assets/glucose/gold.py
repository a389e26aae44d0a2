"""What silver readings say about a patient's day: consensus metrics, moving averages, a ranking. Pure Polars.

Days are added up from slots (`assets.glucose.slots`), in integers, so the same readings give the same bytes in
whatever order, batches and company of other dates they come. The divisions are the last step.
"""

from collections.abc import Iterable
from datetime import date

import polars as pl

from assets.day import MICRO, US_PER_DAY, whole, wide
from assets.glucose.slots import LONGEST_STAND_US, conditions, glucose_slots, is_near, is_same
from assets.glucose.tables import SHARES, GlucoseDaily, GlucoseMovingAverage, PatientComparison

GMI_INTERCEPT, GMI_PER_MG_DL = 3.31, 0.02392
"""Percent, and percent per mg/dL: Bergenstal et al. 2018, doi:10.2337/dc18-1581."""

PERCENT_PER_US = 100 / US_PER_DAY
"""Polars divides many rows by a number in another way than one row, so the last bit differs; products are the same."""

_DAY = ("patient_id", "event_date")
_mean, _sd, _count = pl.col("mean_mg_dl"), pl.col("sd_mg_dl"), pl.col("reading_count")
_sum = pl.col("sum_millionths")
_last_at_us = pl.col("standing_last_at").dt.epoch("us")
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
    return glucose_daily_of(glucose_slots(silver))


def glucose_daily_of(slots: pl.DataFrame) -> pl.DataFrame:
    """The same from rows of `GlucoseSlots`: all of the event dates wanted."""
    count, total = wide("reading_count"), wide("sum_millionths")
    variance = _float(count * pl.col("square_sum") - total * total) / _float(count * (count - 1))
    by_value = (
        slots.lazy()
        .with_columns(whole("square_sum").alias("square_sum"))
        .sort(_DAY)
        .group_by(_DAY, maintain_order=True)
        .agg(
            _count.sum(),
            _sum.sum(),
            pl.col("square_sum").sum(),
            pl.col("min_mg_dl").min(),
            pl.col("max_mg_dl").max(),
            *(pl.col(f"{name}_count").sum() for name in SHARES),
        )
        .with_columns(
            *((100.0 * pl.col(f"{name}_count") / _count).alias(f"{name}_percent") for name in SHARES),
            mean_mg_dl=_per_reading(_sum, _count),
            sd_mg_dl=pl.when(_count > 1).then(variance.sqrt() * (1 / MICRO)),
        )
        .with_columns(cv_percent=100 * _sd / _mean, gmi_percent=GMI_INTERCEPT + GMI_PER_MG_DL * _mean)
    )
    return GlucoseDaily.validate(
        by_value.join(_by_time(slots), on=_DAY, how="left", maintain_order="left")
        .join(_near_duplicates(slots), on=_DAY, how="left", maintain_order="left")
        .select(GlucoseDaily.column_names())
        .collect(engine="in-memory")
    )


def _by_time(slots: pl.DataFrame) -> pl.LazyFrame:
    """Shares of time, mean and covered share of each day: the slots' sums, and their last readings' own times."""
    is_same_day = is_same(*_DAY)
    since_us = pl.when(is_same_day).then(pl.col("standing_first_at").dt.epoch("us") - _last_at_us.shift(1))
    until_midnight = pl.col("event_date").dt.offset_by("1d").cast(pl.Datetime("us")).dt.epoch("us") - _last_at_us
    last_us, total_us = pl.col("last_us"), pl.col("standing_us")
    conditions_of_last = conditions(pl.col("standing_last_mg_dl"))
    return (
        slots.lazy()
        .filter(total_us.is_not_null())
        .sort(*_DAY, "slot")
        .with_columns(since_us=since_us)
        .with_columns(
            last_us=pl.coalesce(
                pl.col("since_us").shift(-1), "standing_last_gap_us", "since_us", pl.lit(LONGEST_STAND_US)
            )
        )
        .with_columns(last_us=pl.min_horizontal(last_us, LONGEST_STAND_US, until_midnight))
        .with_columns(last_sum=(pl.col("standing_last_mg_dl") * MICRO).round().cast(pl.Int64) * last_us)
        .group_by(_DAY, maintain_order=True)
        .agg(
            (total_us + last_us).sum(),
            pl.col("standing_last_at", "standing_last_mg_dl").last(),
            (wide("standing_sum") + wide("last_sum")).sum().alias("standing_sum"),
            *(
                (pl.col(f"standing_{name}_us").sum() + last_us.filter(each).sum()).alias(f"{name}_us")
                for name, each in conditions_of_last.items()
            ),
        )
        .select(
            *_DAY,
            *(_percent(pl.col(f"{name}_us"), total_us).alias(f"{name}_time_percent") for name in SHARES),
            _per_reading(pl.col("standing_sum"), total_us).alias("mean_time_mg_dl"),
            (total_us * PERCENT_PER_US).alias("active_percent"),
            last_at="standing_last_at",
            last_mg_dl="standing_last_mg_dl",
        )
    )


def _near_duplicates(slots: pl.DataFrame) -> pl.LazyFrame:
    """Those within slots, and the first readings of slots that are near the last one of an earlier slot."""
    last_at, last_mg_dl = pl.col("last_at").shift(1), pl.col("last_mg_dl").shift(1)
    is_repeat = is_same(*_DAY, "device_id") & is_near(last_at, last_mg_dl, pl.col("first_at"), pl.col("first_mg_dl"))
    return (
        slots.lazy()
        .sort(*_DAY, "device_id", "slot")
        .with_columns(pl.col("near_duplicate_count") + is_repeat.fill_null(False).cast(pl.Int64))
        .group_by(_DAY, maintain_order=True)
        .agg(pl.col("near_duplicate_count").sum())
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
    return glucose_moving_average_of(glucose_slots(silver), dates)


def glucose_moving_average_of(slots: pl.DataFrame, dates: Iterable[date]) -> pl.DataFrame:
    """The same from rows of `GlucoseSlots` for each wanted date and the date before it."""
    wanted = sorted(set(dates))
    days = slots.lazy().sort(_DAY).group_by(_DAY, maintain_order=True).agg(_count.sum(), _sum.sum())
    before = days.with_columns(pl.col("event_date").dt.offset_by("1d"))
    both = days.join(before, on=_DAY, how="left", suffix="_before", maintain_order="left")
    two_day_count = _count + pl.col("reading_count_before").fill_null(0)
    two_day_sum = _sum + pl.col("sum_millionths_before").fill_null(0)
    return GlucoseMovingAverage.validate(
        both.filter(pl.col("event_date").is_in(wanted))
        .select(
            *_DAY,
            _count,
            _per_reading(_sum, _count).alias("mean_mg_dl"),
            two_day_count.alias("two_day_reading_count"),
            _per_reading(two_day_sum, two_day_count).alias("two_day_mean_mg_dl"),
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
    by_time = [f"{name}_time_percent" for name in SHARES]
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


def _float(value: pl.Expr) -> pl.Expr:
    return value.cast(pl.Float64)


def _per_reading(millionths: pl.Expr, weight: pl.Expr) -> pl.Expr:
    """A mean from a sum in millionths; one division, so that the mean of equal values is that value."""
    return _float(millionths) / _float(weight.cast(pl.Int128) * MICRO)


def _percent(part: pl.Expr, whole: pl.Expr) -> pl.Expr:
    """Divides before it multiplies, so that a whole is 100 and no more."""
    return part / whole * 100.0
