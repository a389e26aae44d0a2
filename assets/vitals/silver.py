"""What vital signs mean: aliases, units, plausibility. Pure Polars.

A reading with one implausible field is refused as a whole: the field tells that the device, or the row, is wrong.
"""

from collections.abc import Mapping
from types import MappingProxyType

import polars as pl

from assets.stream.decode import IMPLAUSIBLE, bad_type

NO_MEASUREMENT = "no_measurement"
"""The quarantine reason for a reading in which nothing is measured or observed."""

FAHRENHEIT = ("f", "°f", "degf", "[degf]", "fahrenheit")
CELSIUS = ("c", "°c", "degc", "cel", "celsius")
CONSCIOUSNESS: Mapping[str, str] = MappingProxyType(
    {
        **{letter.lower(): letter for letter in "ACVPU"},
        **{"alert": "A", "confusion": "C", "confused": "C", "voice": "V", "pain": "P", "unresponsive": "U"},
        # As the chart of the Royal College of Physicians and those who fill it in write them.
        **{"new confusion": "C", "new-onset confusion": "C", "newly confused": "C", "verbal": "V"},
    }
)
"""The spellings that are understood, in lower case, and what silver calls them."""

PLAUSIBLE: Mapping[str, tuple[str, float, float]] = MappingProxyType(
    {
        "heart_rate": ("heart_rate_bpm", 20, 300),
        "systolic_bp": ("systolic_mmhg", 40, 300),
        "diastolic_bp": ("diastolic_mmhg", 20, 200),
        "spo2": ("spo2_percent", 40, 100),
        "temperature": ("temperature_c", 25, 45),
        "respiratory_rate": ("respiratory_rate_per_min", 2, 80),
        "glucose_level": ("glucose_mg_dl", 20, 1000),
    }
)
"""By field the column of silver, and the lowest and highest value that a patient can have."""
MEASUREMENTS = tuple(column for column, _, _ in PLAUSIBLE.values())
OBSERVATIONS = (*MEASUREMENTS, "is_on_oxygen", "consciousness")
"""What a reading must have one of."""
MMOL_L_END = 34
"""A fraction below this is mmol/L: meters show up to 33.3 mmol/L, and mg/dL without decimals."""

_spo2, _temperature, _glucose = (pl.col(name) for name in ("spo2", "temperature", "glucose_level"))
_unit = pl.col("unit").str.strip_chars().str.to_lowercase()
_COLUMNS = {
    "heart_rate_bpm": pl.coalesce("heart_rate", "pulse"),
    "systolic_mmhg": pl.col("systolic_bp"),
    "diastolic_mmhg": pl.col("diastolic_bp"),
    # Rounded, since 0.57 x 100 is not 57 in binary fractions.
    "spo2_percent": pl.when(_spo2.is_between(0, 1)).then((_spo2 * 100).round(6)).otherwise(_spo2),
    "temperature_c": _temperature,
    "respiratory_rate_per_min": pl.col("respiratory_rate"),
    "glucose_mg_dl": _glucose,
    "is_sport_mode": pl.col("sport_mode"),
    "is_on_oxygen": pl.col("on_oxygen"),
}


def in_celsius(fahrenheit: pl.Expr) -> pl.Expr:
    """A temperature in hundredths of a degree: 100.4 °F must be 38 °C, and not a bit more than the limit."""
    return ((fahrenheit - 32) / 1.8).round(2)


_CELSIUS = pl.when(_unit.is_in(FAHRENHEIT)).then(in_celsius(_temperature)).otherwise(_temperature)


def clean(decoded: pl.DataFrame) -> pl.DataFrame:
    """Adds silver's columns, and `reason` (null for a good reading), to decoded payload columns."""
    said = decoded["consciousness"]
    has_units, has_words = decoded["unit"].null_count() < decoded.height, said.null_count() < decoded.height
    columns = _COLUMNS | ({"temperature_c": _CELSIUS} if has_units else {})
    understood = pl.col("consciousness").str.strip_chars().str.to_lowercase()
    if has_words:
        columns["consciousness"] = understood.replace_strict(CONSCIOUSNESS, default=None, return_dtype=pl.String)
    rows = decoded.with_columns(**columns, is_other_word=pl.lit(False))
    if has_words:
        rows = rows.with_columns(is_other_word=said.is_not_null() & rows["consciousness"].is_null())
    return rows.with_columns(reason=_reason(has_units=has_units)).drop("is_other_word")


def _reason(*, has_units: bool) -> pl.Expr:
    is_unit = pl.col("unit").is_null() | _unit.is_in([*FAHRENHEIT, *CELSIUS]) if has_units else pl.lit(True)
    reason = (
        pl.when(~is_unit)
        .then(pl.lit(bad_type("unit")))
        .when("is_other_word")
        .then(pl.lit(bad_type("consciousness")))
        .when(pl.all_horizontal(pl.col(name).is_null() for name in OBSERVATIONS))
        .then(pl.lit(NO_MEASUREMENT))
    )
    for field, (column, lowest, highest) in PLAUSIBLE.items():
        reason = reason.when(~_is_plausible(column, lowest, highest)).then(pl.lit(f"{IMPLAUSIBLE}:{field}"))
    return reason


def _is_plausible(column: str, lowest: float, highest: float) -> pl.Expr:
    value = pl.col(column)
    is_plausible = value.is_between(lowest, highest)
    if column == "diastolic_mmhg":
        return is_plausible & (value < pl.col("systolic_mmhg")).fill_null(True)
    if column == "glucose_mg_dl":
        return is_plausible & ~((value < MMOL_L_END) & (value != value.floor()))
    return is_plausible
