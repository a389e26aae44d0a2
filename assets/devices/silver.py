"""What a device's self-report means: battery range, known states and error codes. Pure Polars."""

import polars as pl

from assets.stream.decode import bad_type

CONNECTIVITY = ("Connected", "Disconnected", "Poor Connection")
ERROR_CODES = ("", "Err1", "Err2", "Err3")
FIRMWARE = r"^\d+\.\d+\.\d+$"


def clean(decoded: pl.DataFrame) -> pl.DataFrame:
    """Adds `reason` (null for a good report) to decoded payload columns."""
    return decoded.with_columns(
        reason=pl.when(~pl.col("connectivity_status").is_in(CONNECTIVITY))
        .then(pl.lit(bad_type("connectivity_status")))
        .when(~pl.col("error_codes").is_in(ERROR_CODES))
        .then(pl.lit(bad_type("error_codes")))
        .when(~pl.col("firmware_version").str.contains(FIRMWARE))
        .then(pl.lit(bad_type("firmware_version")))
        .when(~pl.col("battery_level").is_between(0, 100))
        .then(pl.lit("implausible"))
    )
