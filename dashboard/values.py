"""How values of rules and alarms are written for people: in the viewer's unit, with the unit. Pure."""

import re
from collections.abc import Mapping
from typing import Any

from assets.alarms.tables import REFUSED, SILENCE
from assets.stream.contract import SILENT_MINUTES
from dashboard.charts.marks import UNITS
from dashboard.thresholds import Threshold

_UNITS = {
    "heart_rate": "/min",
    "systolic": "mmHg",
    "diastolic": "mmHg",
    "spo2": "%",
    "temperature": "°C",
    "respiratory_rate": "/min",
}


def said(alarm: Mapping[str, Any], unit: str, column: str = "value") -> str:
    """A value of an alarm; empty where there is none."""
    value, cause = alarm[column], alarm["cause"]
    if value is None or cause == REFUSED:
        return ""
    if cause == SILENCE:
        return f"{value:g} min"
    return measured(value, cause.removeprefix("vitals_"), unit)


_SUFFIXES = ("_mg_dl", "_bpm", "_mmhg", "_percent", "_c", "_per_min")


def name_of(column: str) -> str:
    """A column that rules compare, in words and without its unit."""
    if column == SILENT_MINUTES:
        return "no reading for"
    if column == "mean_10_min":
        return "mean of 10 minutes"
    suffix = next((each for each in _SUFFIXES if column.endswith(each)), "")
    return column.removesuffix(suffix).replace("_", " ").replace("spo2", "SpO2").replace("news2", "NEWS2")


def limit(threshold: Threshold, unit: str) -> str:
    """The threshold of a rule."""
    return of_column(threshold.threshold, threshold.column, unit)


def of_column(value: float, column: str, unit: str) -> str:
    """A value of a column that rules compare."""
    if column == SILENT_MINUTES:
        return f"{value:g} min"
    if column == "mean_10_min":
        column = "glucose_mg_dl"
    slope = re.search(r"_rate_\d", column)
    return f"{measured(value, column, unit)} each minute" if slope else measured(value, column, unit)


def measured(value: float, what: str, unit: str) -> str:
    """A measurement with its unit; what it is, is the beginning of a cause's or a column's name."""
    if what.startswith("glucose"):
        shown = UNITS[unit]
        return f"{shown.of(value)} {shown.name}"
    of = next((each for name, each in _UNITS.items() if what.startswith(name)), "")
    return f"{value:.4g} {of}".strip()
