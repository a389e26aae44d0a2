"""Abbott LibreLinkUp: the answer with the graph of one connection."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from assets.adapters.outcomes import (
    BAD_TIMESTAMP,
    GLUCOSE,
    NO_TIME_ZONE,
    PATIENT,
    Context,
    ForeignId,
    Outcome,
    Reading,
    Record,
    Refused,
    Skip,
    each_record,
)
from assets.adapters.values import abbott_flag, glucose, needed, text_of, wall_clock
from assets.glucose.silver import MG_DL, MMOL_L
from assets.stream.decode import NOT_AN_OBJECT, bad_type, missing_field

SYSTEM = "abbott"
_TIME = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4}) (\d{1,2}):(\d{2}):(\d{2}) ([AaPp])[Mm]", re.ASCII)
"""Month, day and year, whatever the language of the account."""
_UNITS = {0: MMOL_L, 1: MG_DL}


def is_document(document: Any) -> bool:
    """Whether a document is such an answer."""
    data = document.get("data") if isinstance(document, dict) else None
    return isinstance(data, dict) and isinstance(data.get("connection"), dict) and "graphData" in data


def adapt(document: Any, context: Context) -> Iterator[Outcome]:
    """The outcomes of the points of the graph, and of the newest one."""
    if not is_document(document):
        # Terms to be accepted, another region.
        yield Skip("no_data")
        return
    data = document["data"]
    connection = data["connection"]
    points = [*data["graphData"]] if isinstance(data["graphData"], list) else []
    if connection.get("glucoseMeasurement") is not None:
        points.append(connection["glucoseMeasurement"])
    if not points:
        yield Skip("no_data")
        return
    sensor, app = (_object(connection.get(name)) for name in ("sensor", "patientDevice"))
    person = text_of(connection.get("patientId"))
    patient = ForeignId(SYSTEM, PATIENT, person) if person else context.patient_of(SYSTEM)
    device = context.device_of(SYSTEM, sensor.get("sn"), app.get("did"))
    yield from each_record(points, GLUCOSE, lambda point: [_point(point, patient, device)])


def _point(point: Any, patient: ForeignId | None, device: ForeignId | None) -> Outcome:
    if not isinstance(point, dict):
        raise Refused(NOT_AN_OBJECT)
    value, unit = point.get("ValueInMgPerDl"), MG_DL
    if value is None:
        value = needed(point.get("Value"), "ValueInMgPerDl")
        known = point.get("GlucoseUnits")
        if not isinstance(known, int) or known not in _UNITS:
            raise Refused(bad_type("unit"))
        unit = _UNITS[known]
    if device is None:
        raise Refused(missing_field("sensor"))
    values = glucose(value, unit, is_monitor=True, flag=abbott_flag)
    return Reading(GLUCOSE, _time(point), values, Record(SYSTEM), patient, device)


def _time(point: Mapping[str, Any]) -> datetime:
    text = text_of(point.get("FactoryTimestamp"))
    if not text:
        raise Refused(NO_TIME_ZONE if point.get("Timestamp") else missing_field("FactoryTimestamp"))
    if not (found := _TIME.fullmatch(text)):
        raise Refused(BAD_TIMESTAMP)
    month, day, year, hour, minute, second, half = found.groups()
    return wall_clock(year, month, day, hour, minute, second, half).replace(tzinfo=UTC)


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
