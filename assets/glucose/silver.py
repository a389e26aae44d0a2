"""What a glucose value means: units, out-of-range sentinels, plausibility. Pure Polars."""

import polars as pl

from assets.stream.decode import TEXT, bad_type

MG_DL_PER_MMOL_L = 18.0182
LOW_MG_DL, HIGH_MG_DL = 39.0, 401.0
"""What stands for "Low" and "High", which a continuous monitor sends outside of its range of 40 to 400 mg/dL."""
PLAUSIBLE_MG_DL = (0.0, 1000.0)

_level = pl.col("glucose_level")
_text = pl.col("glucose_level" + TEXT).str.strip_chars()
_is_low, _is_high = (_text.str.to_lowercase() == sentinel for sentinel in ("low", "high"))
_unit = pl.col("unit").fill_null("mg/dL")
_is_mmol_l = _unit == "mmol/L"


def clean(decoded: pl.DataFrame) -> pl.DataFrame:
    """Adds `glucose_mg_dl`, `range_flag` and `reason` (null for a good reading) to decoded payload columns."""
    number = pl.coalesce(_level, _text.cast(pl.Float64, strict=False))
    measured = decoded.with_columns(
        glucose_mg_dl=pl.when(_is_low)
        .then(LOW_MG_DL)
        .when(_is_high)
        .then(HIGH_MG_DL)
        .otherwise(number * pl.when(_is_mmol_l).then(MG_DL_PER_MMOL_L).otherwise(1.0)),
        range_flag=pl.when(_is_low).then(pl.lit("below")).when(_is_high).then(pl.lit("above")),
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
