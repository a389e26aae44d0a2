"""Dexcom Clarity: the CSV export, in whatever language of the account.

Columns are found by their position, since the header is translated; so are the kinds of events, of which an unknown
one that has a glucose value is refused: it could be a calibration.
"""

import re
from collections.abc import Iterator
from typing import Any

from assets.adapters.dexcom import SYSTEM
from assets.adapters.outcomes import (
    CALIBRATION,
    GLUCOSE,
    UNKNOWN_FORMAT,
    Context,
    Outcome,
    Reading,
    Record,
    Refused,
    Reject,
    Skip,
    each_record,
)
from assets.adapters.tables_of_text import Row, cell, is_empty, rows_of, separator_of
from assets.adapters.values import LocalTimes, dexcom_flag, glucose, instant, needed, whole_second
from assets.glucose.silver import MG_DL, MMOL_L
from assets.stream.decode import bad_type, missing_field

HEADER = re.compile(r"\(([A-ZÅ])\1{3}-[A-Z]{2}-[A-Z]{2}T([a-z])\2:mm:ss\)")
"""What the header of the times has in every language, such as (YYYY-MM-DDThh:mm:ss) and (ÅÅÅÅ-MM-DDTtt:mm:ss)."""
READINGS = frozenset({"EGV", "Fasting Glucose", "Niveles estimados de glucosa"})
_CALIBRATIONS = frozenset({"Calibration", "Kalibrierung"})
_SKIPPED = frozenset({"Insulin", "Carbs", "Exercise", "Activity", "Health", "Alert", "Device"})
_TIME, _EVENT, _SOURCE, _GLUCOSE, _TRANSMITTER = 1, 2, 6, 7, 13
_RATE = "/min"
"""What the unit of the rate of change ends with, which has the unit of glucose in it."""


def is_document(text: str) -> bool:
    """Whether a text is such an export."""
    return HEADER.search(text.partition("\n")[0][:2000]) is not None


def adapt(document: Any, context: Context) -> Iterator[Outcome]:
    """The outcomes of the rows behind the header."""
    if not isinstance(document, str) or not is_document(document):
        yield Reject(UNKNOWN_FORMAT, GLUCOSE)
        return
    separator = separator_of(document.partition("\n")[0])
    header, *rows = rows_of(document, separator)
    # Whoever takes the column of numbers away moves all others.
    moved_by = next((place for place, name in enumerate(header) if HEADER.search(name)), _TIME) - _TIME
    if moved_by:
        header, *rows = [[""] * -moved_by + row[max(moved_by, 0) :] for row in (header, *rows)]
    if _RATE in cell(header, _GLUCOSE):
        yield Reject(UNKNOWN_FORMAT, GLUCOSE)
        return
    export = _Export(header, context)
    yield from each_record((row for row in rows if not is_empty(row)), GLUCOSE, lambda row: [export.outcome(row)])


class _Export:
    def __init__(self, header: Row, context: Context) -> None:
        unit = cell(header, _GLUCOSE).lower()
        self._unit = MMOL_L if "mmol" in unit else MG_DL if "mg/d" in unit else None
        self._context = context
        self._times = LocalTimes(context.zone)

    def outcome(self, row: Row) -> Outcome:
        event, value, at = cell(row, _EVENT), cell(row, _GLUCOSE), cell(row, _TIME)
        if event not in READINGS:
            if not at:
                return Skip("preamble")
            if event in _CALIBRATIONS:
                return Skip(CALIBRATION)
            if event in _SKIPPED:
                return Skip(event)
            if value or self._unit is None:
                raise Refused(bad_type("Event Type"))
            return Skip("other")
        needed(at, "Timestamp")
        needed(value, "Glucose Value")
        if self._unit is None:
            raise Refused(bad_type("unit"))
        device = self._context.device_of(SYSTEM, cell(row, _TRANSMITTER), cell(row, _SOURCE))
        if device is None:
            raise Refused(missing_field("Source Device ID"))
        measured_at = instant(at, self._times, (device, event))
        values = glucose(
            value,
            self._unit,
            is_monitor=True,
            flag=dexcom_flag,
            has_error_codes=True,
            has_decimal_comma=True,
        )
        patient = self._context.patient_of(SYSTEM)
        return Reading(GLUCOSE, whole_second(measured_at), values, Record(SYSTEM), patient, device)
