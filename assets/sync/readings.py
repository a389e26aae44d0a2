"""Rows of `GlucoseReadings` and `DeviceOperationalData`. Pure Polars."""

import polars as pl

from assets.sync.feed import instant


def glucose_readings(silver: pl.DataFrame, _: pl.DataFrame) -> pl.DataFrame:
    """Rows of `GlucoseReadings`; `glucose_level` in mg/dL."""
    return silver.select(
        "patient_id",
        "device_id",
        "location",
        "range_flag",
        "ingest_date",
        glucose_level="glucose_mg_dl",
        timestamp=instant,
    )


def device_operational_data(silver: pl.DataFrame, _: pl.DataFrame) -> pl.DataFrame:
    """Rows of `DeviceOperationalData`; `battery_level` in percent."""
    return silver.select(
        "device_id",
        "battery_level",
        "firmware_version",
        "connectivity_status",
        "error_codes",
        "ingest_date",
        timestamp=instant,
    )
