"""Abbott LibreView: the CSV export, in whatever language of the account.

Its times are of the reader's clock, in the order of day and month that the account has. The file does not say which:
the order counts that reads most of its rows.
"""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from assets.adapters.outcomes import (
    AMBIGUOUS_DATE,
    DEVICE,
    GLUCOSE,
    UNKNOWN_FORMAT,
    Context,
    ForeignId,
    Outcome,
    Reading,
    Record,
    Refused,
    Reject,
    Skip,
    each_record,
)
from assets.adapters.tables_of_text import Row, cell, is_empty, rows_of, separator_of
from assets.adapters.values import DateOrder, LocalTimes, abbott_flag, glucose, needed
from assets.glucose.silver import MG_DL, MMOL_L
from assets.stream.decode import bad_type

SYSTEM = "abbott"
LEAST_COLUMNS = 15
"""The header is the first row with so many cells and a unit; a spreadsheet fills up the lines before it."""
HEADER_WITHIN = 10
_DEVICE, _SERIAL, _TIME, _TYPE, _HISTORIC = 0, 1, 2, 3, 4
_UNIT = re.compile(r"(mg/dL|mmol/L)\)?$", re.IGNORECASE)


class _Kind(NamedTuple):
    column: int
    name: str
    is_monitor: bool = True


_READINGS = {
    "0": _Kind(4, "Historic Glucose"),
    "1": _Kind(5, "Scan Glucose"),
    "2": _Kind(14, "Strip Glucose", is_monitor=False),
}
_SKIPPED = {"3": "ketone", "4": "insulin", "5": "food", "6": "note"}


def header_of(rows: list[list[str]]) -> int | None:
    """Which of the rows is the header."""
    for number, row in enumerate(rows[:HEADER_WITHIN]):
        if len(row) >= LEAST_COLUMNS and _UNIT.search(cell(row, _HISTORIC)):
            return number
    return None


def is_document(text: str) -> bool:
    """Whether a text is such an export."""
    lines = text.split("\n", HEADER_WITHIN)[:HEADER_WITHIN]
    separator = separator_of(max(lines, key=len))
    return header_of(rows_of("\n".join(lines), separator)) is not None


def separator(text: str) -> str:
    """What separates the cells of an export."""
    return separator_of(max(text.split("\n", HEADER_WITHIN)[:HEADER_WITHIN], key=len))


def order_of(rows: list[list[str]], said: str | None) -> DateOrder:
    """The order of day and month in the rows behind the header."""
    return DateOrder((cell(row, _TIME) for row in rows if cell(row, _TYPE) in _READINGS), said)


def adapt(document: Any, context: Context) -> Iterator[Outcome]:
    """The outcomes of the rows behind the header."""
    rows = rows_of(document, separator(document)) if isinstance(document, str) else []
    if (header := header_of(rows)) is None:
        yield Reject(UNKNOWN_FORMAT, GLUCOSE)
        return
    records = [row for row in rows[header + 1 :] if not is_empty(row)]
    export = _Export(rows[header], order_of(records, context.date_order), context)
    yield from each_record(records, GLUCOSE, lambda row: [export.outcome(row)])


class _Export:
    def __init__(self, header: Row, order: DateOrder, context: Context) -> None:
        # Ketones are in mmol/L in every file, so only the cell of the glucose column tells the unit.
        self._unit = MMOL_L if "mmol" in cell(header, _HISTORIC).lower() else MG_DL
        self._order, self._context, self._times = order, context, LocalTimes(context.zone)

    def outcome(self, row: Row) -> Outcome:
        kind = cell(row, _TYPE)
        if kind in _SKIPPED:
            return Skip(_SKIPPED[kind])
        if (column := _READINGS.get(kind)) is None:
            raise Refused(bad_type("Record Type"))
        if kind == "1" and "libre 3" in cell(row, _DEVICE).lower():
            # It sends every minute by itself, so a scan is a look at the app.
            return Skip("libre3_view")
        value = needed(cell(row, column.column), column.name)
        at = needed(cell(row, _TIME), "Device Timestamp")
        serial = needed(cell(row, _SERIAL), "Serial Number")
        if self._order.is_ambiguous:
            raise Refused(AMBIGUOUS_DATE)
        measured_at = self._times.instant(self._order.wall_clock(at), (serial, kind))
        values = glucose(
            value,
            self._unit,
            is_monitor=column.is_monitor,
            flag=abbott_flag if column.is_monitor else lambda _: None,
            has_decimal_comma=True,
        )
        device = ForeignId(SYSTEM, DEVICE, serial)
        return Reading(GLUCOSE, measured_at, values, Record(SYSTEM), self._context.patient_of(SYSTEM), device)
