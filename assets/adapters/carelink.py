"""Medtronic CareLink: the CSV export of pumps and sensors, in its present form with sections and in that of before.

Columns are found by their English names: an export in another language has none of them, and is refused.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from assets.adapters.outcomes import (
    AMBIGUOUS_DATE,
    BAD_TIMESTAMP,
    CALIBRATION,
    DEVICE,
    GLUCOSE,
    NO_VALUE,
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
from assets.adapters.tables_of_text import Row, cell, is_empty, rows_of
from assets.adapters.values import DateOrder, LocalTimes, dexcom_flag, glucose, needed, wall_clock
from assets.glucose.silver import MG_DL, MMOL_L
from assets.stream.decode import missing_field

SYSTEM = "medtronic"
HEADER = re.compile(r"^Index([;,])Date\1Time\1", re.MULTILINE)
VOID = re.compile(r"-+")
HEADER_WITHIN = 10
_SECTION = "-------"
_DATE = re.compile(r"(\d{4})/(\d{1,2})/(\d{1,2})", re.ASCII)
_TIME = re.compile(r"(\d{1,2}):(\d{2}):(\d{2})", re.ASCII)
_SENSOR, _METER = "Sensor Glucose", "BG Reading"
_OTHERS = {
    "Sensor Calibration BG": CALIBRATION,
    "Sensor Exception": "sensor_exception",
    "Alert": "alert",
    "Alarm": "alert",
    "Event Marker": "day_marker",
    "New Device Time": "time_change",
    "Bolus Type": "bolus",
    "Basal Rate": "basal",
}
"""What a row without a reading is, by the first of these columns that has a value."""


def is_document(text: str) -> bool:
    """Whether a text is such an export."""
    return HEADER.search(text) is not None


def adapt(document: Any, context: Context) -> Iterator[Outcome]:
    """The outcomes of the rows of all sections."""
    found = HEADER.search(document) if isinstance(document, str) else None
    if found is None:
        yield Reject(UNKNOWN_FORMAT, GLUCOSE)
        return
    rows = rows_of(document, found[1])
    is_legacy = any(
        cell(row, place) == "Raw-Type" for row in rows for place in range(len(row)) if cell(row, 0) == "Index"
    )
    yield from _legacy(rows, context) if is_legacy else _sections(rows, context, has_decimal_comma=found[1] == ";")


class _Columns:
    """The columns of a header by the beginning of their names, which end with units."""

    def __init__(self, header: Row) -> None:
        self._places: dict[str, int] = {}
        for place, name in enumerate(header):
            self._places.setdefault(name.partition("(")[0].strip(), place)
        self._names = header

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def of(self, row: Row, name: str) -> str:
        """A value of a row; empty where there is none."""
        return cell(row, self._places.get(name))

    def unit(self, name: str) -> str:
        """The unit of a glucose column."""
        return MMOL_L if "mmol" in self._names[self._places[name]].lower() else MG_DL


Clock = Callable[[str], datetime]
"""The time without a zone of a row's text."""


class _Rows:
    """Makes readings of rows with one header."""

    def __init__(self, columns: _Columns, serial: str, context: Context, times: LocalTimes) -> None:
        self._columns, self._serial, self._context, self._times = columns, serial, context, times

    def sensor(self, row: Row, local: datetime, *, has_decimal_comma: bool) -> Outcome:
        """What the sensor measured."""
        value = self._columns.of(row, _SENSOR)
        if not value or VOID.fullmatch(value):
            return Skip(NO_VALUE)
        device = ForeignId(SYSTEM, DEVICE, needed(self._serial, "Serial Number"))
        return self._reading(value, _SENSOR, local, device, has_decimal_comma=has_decimal_comma)

    def meter(self, row: Row, local: datetime, *, has_decimal_comma: bool) -> Outcome:
        """What a meter measured that is linked to the pump."""
        value = self._columns.of(row, _METER)
        if not value or VOID.fullmatch(value):
            return Skip(NO_VALUE)
        meter = self._columns.of(row, "Linked BG Meter ID")
        name = f"meter:{meter}" if meter else needed(self._serial, "Linked BG Meter ID")
        device = ForeignId(SYSTEM, DEVICE, name)
        return self._reading(value, _METER, local, device, has_decimal_comma=has_decimal_comma)

    def _reading(
        self, value: str, column: str, local: datetime, device: ForeignId, *, has_decimal_comma: bool
    ) -> Outcome:
        is_monitor = column == _SENSOR
        at = self._times.instant(local, (device, column))
        unit = self._columns.unit(column)
        flag = dexcom_flag if is_monitor else lambda _: None
        values = glucose(value, unit, is_monitor=is_monitor, flag=flag, has_decimal_comma=has_decimal_comma)
        return Reading(GLUCOSE, at, values, Record(SYSTEM), self._context.patient_of(SYSTEM), device)


def _sections(rows: list[list[str]], context: Context, *, has_decimal_comma: bool) -> Iterator[Outcome]:
    times = LocalTimes(context.zone)
    serial = serial_of(rows)
    section, columns, made = "", None, None
    for row in rows:
        if cell(row, 0) == _SECTION:
            section, columns = cell(row, 2), None
            serial = cell(row, 3) if not VOID.fullmatch(cell(row, 3) or "-") else serial
        elif cell(row, 0) == "Index":
            columns = _Columns(row)
            made = _Rows(columns, serial, context, times)
        elif is_empty(row) or columns is None or made is None:
            continue
        elif section.startswith("Aggregated"):
            yield Skip("aggregated_section")
        elif _SENSOR not in columns and _METER not in columns:
            yield Reject(UNKNOWN_FORMAT, GLUCOSE)
        else:
            outcome = _row_of(made, columns, has_decimal_comma=has_decimal_comma)
            yield from each_record([row], GLUCOSE, outcome)


def _row_of(made: _Rows, columns: _Columns, *, has_decimal_comma: bool) -> Callable[[Row], list[Outcome]]:
    def outcome(row: Row) -> list[Outcome]:
        if value := columns.of(row, _SENSOR):
            if VOID.fullmatch(value):
                return [Skip(NO_VALUE)]
            return [made.sensor(row, _clock(columns, row), has_decimal_comma=has_decimal_comma)]
        if columns.of(row, _METER):
            return [made.meter(row, _clock(columns, row), has_decimal_comma=has_decimal_comma)]
        return [_skipped(columns, row)]

    return outcome


def _skipped(columns: _Columns, row: Row) -> Skip:
    return Skip(next((kind for name, kind in _OTHERS.items() if columns.of(row, name)), "other"))


def _clock(columns: _Columns, row: Row) -> datetime:
    day, time = _DATE.fullmatch(columns.of(row, "Date")), _TIME.fullmatch(columns.of(row, "Time"))
    if day is None or time is None:
        raise Refused(BAD_TIMESTAMP)
    return wall_clock(*day.groups(), *time.groups())


def serial_of(rows: list[list[str]]) -> str:
    """The serial number that the first lines name."""
    for row in rows[:HEADER_WITHIN]:
        for place, name in enumerate(row):
            if name.strip() == "Serial Number":
                return cell(row, place + 1)
        if cell(row, 0) == "DEVICE INFO":
            return cell(row, 2)
    return ""


def order_of(rows: list[list[str]]) -> str | None:
    """The order of day and month in an export of before; None where it does not tell, or is not needed."""
    header = next((row for row in rows if cell(row, 0) == "Index" and "Raw-Type" in row), None)
    if header is None:
        return None
    columns = _Columns(header)
    return DateOrder(
        columns.of(row, "Timestamp")
        for row in rows
        if columns.of(row, "Raw-Type") in ("GlucoseSensorData", "BGReceived")
    ).name


def _legacy(rows: list[list[str]], context: Context) -> Iterator[Outcome]:
    header = next(number for number, row in enumerate(rows) if cell(row, 0) == "Index")
    columns = _Columns(rows[header])
    serial = serial_of(rows[:header])
    if _SENSOR not in columns or _METER not in columns:
        yield Reject(UNKNOWN_FORMAT, GLUCOSE)
        return
    records = [row for row in rows[header + 1 :] if not is_empty(row)]
    made = _Rows(columns, serial, context, LocalTimes(context.zone))
    readings: Mapping[str, Any] = {"GlucoseSensorData": made.sensor, "BGReceived": made.meter}
    order = DateOrder(
        (columns.of(row, "Timestamp") for row in records if columns.of(row, "Raw-Type") in readings), context.date_order
    )

    def outcome(row: Row) -> list[Outcome]:
        kind = columns.of(row, "Raw-Type")
        if kind.startswith("CalBG"):
            return [Skip(CALIBRATION)]
        if (reading := readings.get(kind)) is None:
            return [Skip(kind or "other")]
        at = columns.of(row, "Timestamp")
        if not at:
            raise Refused(missing_field("Timestamp"))
        if order.is_ambiguous:
            raise Refused(AMBIGUOUS_DATE)
        return [reading(row, order.wall_clock(at), has_decimal_comma=False)]

    yield from each_record(records, GLUCOSE, outcome)
