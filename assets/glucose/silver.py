"""What a glucose value means: units, out-of-range sentinels, plausibility. Pure Polars."""

import polars as pl

from assets.stream.decode import TEXT, bad_type

MG_DL_PER_MMOL_L = 18.0182
SENTINELS = {"low": 39.0, "high": 401.0}
"""What a continuous monitor sends outside of its range of 40 to 400 mg/dL, and the value that stands for it."""
PLAUSIBLE_MG_DL = (0.0, 1000.0)

_level = pl.col("glucose_level")
_text = pl.col("glucose_level" + TEXT)
_unit = pl.col("unit").fill_null("mg/dL")
_sentinel = _text.str.strip_chars().str.to_lowercase()


def clean(decoded: pl.DataFrame) -> pl.DataFrame:
    """Adds `glucose_mg_dl`, `range_flag` and `reason` (null for a good reading) to decoded payload columns."""
    number = pl.coalesce(_level, _text.str.strip_chars().cast(pl.Float64, strict=False))
    factor = pl.when(_unit == "mmol/L").then(MG_DL_PER_MMOL_L).otherwise(1.0)
    measured = decoded.with_columns(
        glucose_mg_dl=pl.coalesce(
            _sentinel.replace_strict(SENTINELS, default=None, return_dtype=pl.Float64), number * factor
        ),
        range_flag=_sentinel.replace_strict({"low": "below", "high": "above"}, default=None, return_dtype=pl.String),
    )
    value = pl.col("glucose_mg_dl")
    low, high = PLAUSIBLE_MG_DL
    return measured.with_columns(
        reason=pl.when(value.is_null())
        .then(pl.lit(bad_type("glucose_level")))
        .when(~_unit.is_in(["mg/dL", "mmol/L"]))
        .then(pl.lit(bad_type("unit")))
        .when(value.is_nan() | (value <= low) | (value > high))
        .then(pl.lit("implausible"))
    )
