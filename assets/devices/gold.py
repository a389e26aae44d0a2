"""What silver self-reports say about a device's day. Pure Polars.

The same rows give the same bytes, in whatever order, chunks and company of other dates they come: rows are sorted
before floating-point sums, and the sums run on the in-memory engine, since the streaming engine adds up in an order
that differs from run to run.
"""

from datetime import timedelta

import polars as pl

from assets.devices.tables import DeviceHealth

SILENT_GAP = timedelta(minutes=30)
"""A longer pause between two reports is a silent gap: devices report every few minutes, so several are missing."""

# Polars divides many rows by a number in another way than one row, so the last bit differs; products are the same.
MINUTES_PER_US = 1 / 60e6
US_PER_DAY = 86_400e6

_DAY = ("device_id", "event_date")
_REPORT = ("measured_at", "battery_level", "connectivity_status", "error_codes")
_at, _battery = pl.col("measured_at"), pl.col("battery_level")
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
    reports = silver.lazy().select(*_DAY, *_REPORT).collect().sort(*_DAY, *_REPORT).lazy()
    silent = _gap > SILENT_GAP
    return DeviceHealth.validate(
        reports.with_columns(gap=_at.diff().over(_DAY))
        .group_by(_DAY, maintain_order=True)
        .agg(
            _count().alias("reading_count"),
            _at.last().alias("last_seen_at"),
            _battery.min().alias("battery_min_percent"),
            _battery.last().alias("battery_last_percent"),
            _slope_per_day().alias("battery_slope_percent_per_day"),
            _percent("Connected").alias("connected_percent"),
            _percent("Poor Connection").alias("poor_connection_percent"),
            _percent("Disconnected").alias("disconnected_percent"),
            _count(pl.col("error_codes") != "").alias("error_count"),
            *(
                _count(pl.col("error_codes") == code).alias(f"{code.lower()}_count")
                for code in ("Err1", "Err2", "Err3")
            ),
            _count(silent).alias("silent_gap_count"),
            (_gap.filter(silent).max().dt.total_microseconds() * MINUTES_PER_US).alias("longest_silent_gap_minutes"),
        )
        .collect(engine="in-memory")
    )


def _count(condition: pl.Expr | None = None) -> pl.Expr:
    return (pl.len() if condition is None else condition.sum()).cast(pl.Int64)


def _percent(status: str) -> pl.Expr:
    return 100.0 * (pl.col("connectivity_status") == status).sum() / pl.len()


def _slope_per_day() -> pl.Expr:
    since_first = (_at - _at.first()).dt.total_microseconds().cast(pl.Float64)
    centred = since_first - since_first.mean()
    slope = (centred * _battery).sum() / (centred * centred).sum()
    return pl.when(_at.first() < _at.last()).then(slope * US_PER_DAY)
