"""What a glucose value means: units, out-of-range sentinels, plausibility. Pure Polars."""

import polars as pl

from assets.stream.decode import TEXT, bad_type

MG_DL_PER_MMOL_L = 18.0182
LOW_MG_DL, HIGH_MG_DL = 39.0, 401.0
"""What stands for "Low" and "High", which a continuous monitor sends outside of its range of 40 to 400 mg/dL."""
PLAUSIBLE_MG_DL = (0.0, 1000.0)

_level = pl.col("glucose_level")
_text = pl.col("glucose_level" + TEXT).str.strip_chars()
_unit = pl.col("unit").fill_null("mg/dL")
_is_mmol_l = _unit == "mmol/L"


def clean(decoded: pl.DataFrame) -> pl.DataFrame:
    """Adds `glucose_mg_dl`, `range_flag` and `reason` (null for a good reading) to decoded payload columns."""
    number = pl.coalesce(_level, _text.cast(pl.Float64, strict=False))
    flag = pl.col("range_flag")
    measured = (
        decoded.with_columns(range_flag=_text.str.to_lowercase())
        .with_columns(
            range_flag=pl.when(flag == "low").then(pl.lit("below")).when(flag == "high").then(pl.lit("above"))
        )
        .with_columns(
            glucose_mg_dl=pl.when(flag == "below")
            .then(LOW_MG_DL)
            .when(flag == "above")
            .then(HIGH_MG_DL)
            .otherwise(number * pl.when(_is_mmol_l).then(MG_DL_PER_MMOL_L).otherwise(1.0))
        )
    )
    value = pl.col("glucose_mg_dl")
    low, high = PLAUSIBLE_MG_DL
    return measured.with_columns(
        reason=pl.when(value.is_null())
        .then(pl.lit(bad_type("glucose_level")))
        .when((_unit != "mg/dL") & ~_is_mmol_l)
        .then(pl.lit(bad_type("unit")))
        .when(value.is_nan() | (value <= low) | (value > high))
        .then(pl.lit("implausible"))
    )
