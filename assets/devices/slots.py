"""What a quarter of an hour of silver self-reports comes to, in numbers that can be added up to days. Pure Polars.

All sums are of integers, so that a day comes out the same to the last bit, whichever slots were summed up when.
A silent gap is longer than a slot, so none lies within one.
"""

import polars as pl

from assets.day import SLOT_US, limbs, millionths, slot
from assets.devices.tables import DeviceSlots

_SLOT = ("device_id", "event_date", "slot")
_REPORT = ("measured_at", "battery_level", "connectivity_status", "error_codes")
_STATUSES = {"connected": "Connected", "poor_connection": "Poor Connection", "disconnected": "Disconnected"}
_at, _battery, _status, _errors = (pl.col(name) for name in _REPORT)


def device_slots(silver: pl.LazyFrame | pl.DataFrame) -> pl.DataFrame:
    """Sums up the reports of each device and slot.

    Args:
        silver: rows of `silver/device_readings`: all of the slots wanted.

    Returns:
        Rows of `DeviceSlots`, sorted by key.
    """
    level, time_us = pl.col("level"), pl.col("time_us")
    reports = silver.lazy().select("device_id", "event_date", *_REPORT).with_columns(slot()).collect()
    return DeviceSlots.validate(
        reports.lazy()
        .sort(*_SLOT, *_REPORT)
        .with_columns(level=millionths("battery_level"), time_us=_at.dt.epoch("us") % SLOT_US)
        .group_by(_SLOT, maintain_order=True)
        .agg(
            _count().alias("reading_count"),
            _at.first().alias("first_at"),
            _at.last().alias("last_at"),
            _battery.min().alias("battery_min_percent"),
            _battery.last().alias("battery_last_percent"),
            level.sum().alias("battery_sum"),
            time_us.sum().alias("time_sum"),
            *limbs(time_us * time_us, "time_square_sum"),
            *limbs(time_us * level, "time_battery_sum"),
            *(_count(_status == status).alias(f"{name}_count") for name, status in _STATUSES.items()),
            _count(_errors != "").alias("error_count"),
            *(_count(_errors == code).alias(f"{code.lower()}_count") for code in ("Err1", "Err2", "Err3")),
        )
        .select(DeviceSlots.column_names())
        .collect(engine="in-memory")
    )


def _count(condition: pl.Expr | None = None) -> pl.Expr:
    return (pl.len() if condition is None else condition.sum()).cast(pl.Int64)
