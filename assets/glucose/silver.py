"""What a glucose value means: units, out-of-range sentinels, plausibility. Pure Polars."""

import polars as pl

from assets.stream.decode import TEXT, bad_type

MG_DL_PER_MMOL_L = 18.0182
LOW_MG_DL, HIGH_MG_DL = 39.0, 401.0
"""What stands for "Low" and "High", which a continuous monitor sends outside of its range of 40 to 400 mg/dL."""
PLAUSIBLE_MG_DL = (0.0, 1000.0)

_level = pl.col("glucose_level")
_text = pl.col("glucose_level" + TEXT).str.strip_chars()
_word = _text.str.to_lowercase()
_is_low, _is_high = _word == "low", _word == "high"
_unit = pl.col("unit")
_factor = pl.when(_unit == "mmol/L").then(MG_DL_PER_MMOL_L).otherwise(1.0)
_value = pl.col("glucose_mg_dl")

_NUMBERS = {"range_flag": pl.lit(None, pl.String), "glucose_mg_dl": _level * _factor}
_NUMBERS_AND_TEXTS = {
    "range_flag": pl.when(_is_low).then(pl.lit("below")).when(_is_high).then(pl.lit("above")),
    "glucose_mg_dl": pl.when(_is_low)
    .then(LOW_MG_DL)
    .when(_is_high)
    .then(HIGH_MG_DL)
    .otherwise(pl.coalesce(_level, _text.cast(pl.Float64, strict=False)) * _factor),
}
# A missing unit compares as null, which is not bad.
_REASON = (
    pl.when(_value.is_null())
    .then(pl.lit(bad_type("glucose_level")))
    .when((_unit != "mg/dL") & (_unit != "mmol/L"))
    .then(pl.lit(bad_type("unit")))
    .when(_value.is_nan() | (_value <= PLAUSIBLE_MG_DL[0]) | (_value > PLAUSIBLE_MG_DL[1]))
    .then(pl.lit("implausible"))
)


def clean(decoded: pl.DataFrame) -> pl.DataFrame:
    """Adds `glucose_mg_dl`, `range_flag` and `reason` (null for a good reading) to decoded payload columns."""
    # Nearly all readings are numbers, and looking for words costs more than all else here.
    has_texts = decoded["glucose_level" + TEXT].null_count() < decoded.height
    return decoded.with_columns(**(_NUMBERS_AND_TEXTS if has_texts else _NUMBERS)).with_columns(reason=_REASON)
