"""What a glucose value means: units, words of monitors, sensor codes, plausibility. Pure Polars.

Where a guess could hide a low or invent one, a reading is refused with a reason instead.
"""

import polars as pl

from assets.stream.decode import IMPLAUSIBLE, IMPLAUSIBLE_UNIT, TEXT, bad_type

MG_DL, MMOL_L = "mg/dL", "mmol/L"
SPELLINGS = {"mg/dl": MG_DL, "mgdl": MG_DL, "mmol/l": MMOL_L, "mmol": MMOL_L, "mm": MMOL_L}
"""The units that are understood, in lower case, and what silver calls them."""
MG_DL_PER_MMOL_L = 18.0182

LOW_MG_DL, HIGH_MG_DL = 39.0, 401.0
"""What stands for "Low" and "High", which a continuous monitor sends outside of its range of 40 to 400 mg/dL."""
URGENT_LOW_MG_DL, URGENT_HIGH_MG_DL = 54, 250
"""`< 40` and `> 400` are understood since all that they can mean is urgent; `< 100` can mean anything."""

SENSOR_CODE = "sensor_code"
LOWEST_MG_DL, HIGHEST_MG_DL = 20, 1000
"""Meters measure from 20 mg/dL on; below that, monitors write the numbers of their errors into the field."""
MMOL_L_END = 34
"""A fraction below this is mmol/L without its unit: meters show up to 33.3 mmol/L, and mg/dL without decimals."""

_DIGITS = "[0-9]+(?:[.][0-9]+)?"
NUMBER = f"^[+-]?{_DIGITS}(?:[eE][+-]?[0-9]+)?$"
WORD = f"(?i)^(?:(low?|below[ _-]?range)|(hi(?:gh)?|above[ _-]?range)|([<>]) *({_DIGITS})) *({'|'.join(SPELLINGS)})?$"

_value, _unit, _flag, _glucose = (
    pl.col(name) for name in ("reported_value", "reported_unit", "range_flag", "glucose_mg_dl")
)
_text = pl.col("glucose_level" + TEXT).str.strip_chars()
_number = pl.when(_text.str.contains(NUMBER)).then(_text).cast(pl.Float64, strict=False)
_is_mmol = (_unit == MMOL_L).fill_null(False)
_is_fraction = _value != _value.floor()
_CONVERTED = (
    pl.when(_flag == "below")
    .then(LOW_MG_DL)
    .when(_flag == "above")
    .then(HIGH_MG_DL)
    .when(_is_mmol)
    .then((_value * MG_DL_PER_MMOL_L).round())
    .otherwise(_value)
)
_REASON = (
    pl.when(_glucose.is_null())
    .then(pl.lit(bad_type("glucose_level")))
    .when("is_bad_unit")
    .then(pl.lit(bad_type("unit")))
    .when((_glucose <= 0) | (_glucose > HIGHEST_MG_DL))
    .then(pl.lit(IMPLAUSIBLE))
    .when(_unit.is_null() & _is_fraction & (_value < MMOL_L_END))
    .then(pl.lit(IMPLAUSIBLE_UNIT))
    .when((_glucose < LOWEST_MG_DL) & (_is_mmol | _is_fraction))
    .then(pl.lit(IMPLAUSIBLE))
    .when(_glucose < LOWEST_MG_DL)
    .then(pl.lit(SENSOR_CODE))
)


def clean(decoded: pl.DataFrame) -> pl.DataFrame:
    """Adds what silver says of a value, and `reason` (null for a good reading), to decoded payload columns.

    Limits come in pairs (70 mg/dL is 3.9 mmol/L, 180 is 10.0, 250 is 13.9), so what was reported in mmol/L is rounded
    to whole mg/dL: then both values of a pair are on the same side of a limit.
    """
    given, level = decoded["unit"], decoded["glucose_level"]
    unit = _canonical(given)
    rows = decoded.with_columns(
        pl.lit(None, pl.String).alias("range_flag"),
        reported_value=level,
        reported_unit=unit,
        is_bad_unit=given.is_not_null() & unit.is_null(),
    )
    # Nearly all readings are plain numbers in mg/dL, and each look at a text costs more than all else here.
    has_texts = decoded["glucose_level" + TEXT].null_count() < decoded.height
    if has_texts:
        rows = _with_words(rows.with_columns(reported_value=pl.coalesce(_value, _number)))
    is_converted = has_texts or (unit == MMOL_L).any()
    rows = rows.with_columns(glucose_mg_dl=_CONVERTED if is_converted else _value)
    if "out_of_range" in rows.columns and rows["out_of_range"].null_count() < rows.height:
        # Of another system: the number stands, and only the flag says that it is not what was measured.
        rows = rows.with_columns(range_flag=pl.coalesce("range_flag", "out_of_range"))
    return rows.with_columns(reason=pl.lit(None, pl.String) if _is_all_good(rows) else _REASON).drop("is_bad_unit")


def _canonical(units: pl.Series) -> pl.Series:
    """The units as silver spells them, null where there is none or none that is understood."""
    is_canonical = (units == MG_DL) | (units == MMOL_L)
    if is_canonical.all():  # which looks at what is there only
        return units
    others = (~is_canonical).fill_null(False).arg_true()
    spelled = units[others].str.strip_chars().str.to_lowercase()
    return units.clone().scatter(others, spelled.replace_strict(SPELLINGS, default=None, return_dtype=pl.String))


def _with_words(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with what those texts mean that are no numbers."""
    words = (rows["glucose_level" + TEXT].is_not_null() & rows["reported_value"].is_null()).arg_true()
    if words.is_empty():
        return rows
    read = rows[words].select(_of_words())
    return rows.with_columns(rows[each.name].scatter(words, each) for each in read)


def _of_words() -> list[pl.Expr]:
    """The flag and the unit of words and comparisons, which may name a unit of their own."""
    part = _text.str.extract_groups(WORD).struct
    own_unit = part[4].str.to_lowercase().replace_strict(SPELLINGS, default=None, return_dtype=pl.String)
    unit = pl.coalesce(own_unit, _unit)
    limit = part[3].cast(pl.Float64)
    is_mmol = (unit == MMOL_L) | (unit.is_null() & (limit != limit.floor()) & (limit < MMOL_L_END))
    limit_mg_dl = pl.when(is_mmol).then((limit * MG_DL_PER_MMOL_L).round()).otherwise(limit)
    is_below = part[0].is_not_null() | ((part[2] == "<") & limit_mg_dl.is_between(0, URGENT_LOW_MG_DL, closed="right"))
    is_above = part[1].is_not_null() | ((part[2] == ">") & limit_mg_dl.is_between(URGENT_HIGH_MG_DL, HIGHEST_MG_DL))
    return [
        pl.when(is_below).then(pl.lit("below")).when(is_above).then(pl.lit("above")).alias("range_flag"),
        unit.alias("reported_unit"),
        pl.col("is_bad_unit") | (own_unit != _unit).fill_null(False),
    ]


def _is_all_good(rows: pl.DataFrame) -> bool:
    """Whether no reason can apply, which most batches show at a glance; false says nothing."""
    glucose = rows["glucose_mg_dl"]
    return (
        not glucose.has_nulls()
        and not rows["is_bad_unit"].any()
        and glucose.is_between(MMOL_L_END, HIGHEST_MG_DL).all()
    )
