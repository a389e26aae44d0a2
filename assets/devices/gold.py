"""What silver self-reports say about a device's day. Pure Polars.

Days are added up from slots (`assets.devices.slots`), in integers, so the same reports give the same bytes in whatever
order, batches and company of other dates they come. The divisions are the last step.
"""

from datetime import timedelta

import polars as pl

from assets.day import MICRO, SLOT_US, whole, wide
from assets.devices.slots import device_slots
from assets.devices.tables import DeviceHealth

SILENT_GAP = timedelta(minutes=30)
"""A longer pause between two reports is a silent gap: devices report every few minutes, so several are missing."""

# Polars divides many rows by a number in another way than one row, so the last bit differs; products are the same.
MINUTES_PER_US = 1 / 60e6
US_PER_DAY = 86_400e6

_DAY = ("device_id", "event_date")
_STATUSES = ("connected", "poor_connection", "disconnected")
_count = pl.col("reading_count")
_gap = pl.col("gap")


def device_health(silver: pl.LazyFrame | pl.DataFrame) -> pl.DataFrame:
    """Battery, connectivity, errors and silence of each device and event date.

    The battery's slope is the least-squares line through the day's reports. A charge within the day is part of it: a
    day that ends fuller than it began has a positive slope, and a day with one charge in the middle says little about
    how fast the battery drains. It is null where all reports have one time.

    A gap is the time between two consecutive reports of the same day; longer than `SILENT_GAP` it is silent. Silence
    before the first and after the last report of a day is not counted.

    Args:
        silver: rows of `silver/device_readings`: all of the event dates wanted.

    Returns:
        Rows of `DeviceHealth`, sorted by key. `longest_silent_gap_minutes` is null where no gap is silent.
    """
    return device_health_of(device_slots(silver))


def device_health_of(slots: pl.DataFrame) -> pl.DataFrame:
    """The same from rows of `DeviceSlots`: all of the event dates wanted."""
    silent = _gap > SILENT_GAP
    since_last = pl.col("first_at") - pl.col("last_at").shift(1)
    return DeviceHealth.validate(
        slots.lazy()
        .sort(*_DAY, "slot")
        .with_columns(gap=since_last.over(_DAY), **_since_midnight())
        .group_by(_DAY, maintain_order=True)
        .agg(
            _count.sum(),
            pl.col("first_at").first(),
            pl.col("last_at").last().alias("last_seen_at"),
            pl.col("battery_min_percent").min(),
            pl.col("battery_last_percent").last(),
            pl.col("battery_sum", "time_sum", "time_square_sum", "time_battery_sum").sum(),
            pl.col("^.*(connected|connection)_count$").sum(),
            pl.col("^err.*_count$").sum(),
            silent.sum().cast(pl.Int64).alias("silent_gap_count"),
            (_gap.filter(silent).max().dt.total_microseconds() * MINUTES_PER_US).alias("longest_silent_gap_minutes"),
        )
        .with_columns(
            *((100.0 * pl.col(f"{name}_count") / _count).alias(f"{name}_percent") for name in _STATUSES),
            battery_slope_percent_per_day=_slope_per_day(),
        )
        .select(DeviceHealth.column_names())
        .collect(engine="in-memory")
    )


def _since_midnight() -> dict[str, pl.Expr]:
    """The sums of a slot's times, counted from midnight instead of from its own beginning, in 128 bits."""
    count, time, battery, begin = (wide(name) for name in ("reading_count", "time_sum", "battery_sum", "slot"))
    begin = begin * SLOT_US
    return {
        "battery_sum": battery,
        "time_sum": time + count * begin,
        "time_square_sum": whole("time_square_sum") + 2 * begin * time + count * begin * begin,
        "time_battery_sum": whole("time_battery_sum") + begin * battery,
    }


def _slope_per_day() -> pl.Expr:
    count, battery, time = wide("reading_count"), pl.col("battery_sum"), pl.col("time_sum")
    above = count * pl.col("time_battery_sum") - time * battery
    below = (count * pl.col("time_square_sum") - time * time) * MICRO
    slope = above.cast(pl.Float64) / below.cast(pl.Float64)
    return pl.when(pl.col("first_at") < pl.col("last_seen_at")).then(slope * US_PER_DAY)
