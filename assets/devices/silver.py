"""What a device's self-report means: battery range, known states and error codes. Pure Polars."""

import polars as pl

from assets.stream.decode import IMPLAUSIBLE, IMPLAUSIBLE_UNIT, bad_type

CONNECTIVITY = ("Connected", "Disconnected", "Poor Connection")
ERROR_CODES = ("", "Err1", "Err2", "Err3")
FIRMWARE = r"^[0-9]+\.[0-9]+\.[0-9]+$"


def clean(decoded: pl.DataFrame) -> pl.DataFrame:
    """Adds `reason` (null for a good report) to decoded payload columns.

    A `battery_level` between 0 and 1 is a share, not percent: 0.85 would be an empty battery instead of 85 %. It is
    refused rather than multiplied, since a 1 of such a device means 100 % and cannot be told from 1 %. Both 0 and 1 are
    percent.
    """
    level = pl.col("battery_level")
    return decoded.with_columns(
        reason=pl.when(~pl.col("connectivity_status").is_in(CONNECTIVITY))
        .then(pl.lit(bad_type("connectivity_status")))
        .when(~pl.col("error_codes").is_in(ERROR_CODES))
        .then(pl.lit(bad_type("error_codes")))
        .when(~pl.col("firmware_version").str.contains(FIRMWARE))
        .then(pl.lit(bad_type("firmware_version")))
        .when(~level.is_between(0, 100))
        .then(pl.lit(IMPLAUSIBLE))
        .when(level.is_between(0, 1, closed="none"))
        .then(pl.lit(IMPLAUSIBLE_UNIT))
    )
