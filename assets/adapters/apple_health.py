"""Apple Health: the export.xml of a phone, which may have gigabytes.

Since iOS 16 the document type that stands in front is broken, and attributes have control characters. So all before the
root element is cut, and control characters are left out; what remains is read some at a time. Without a document type
there are no entities, so that no small file becomes a large one.
"""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple, cast
from xml.etree.ElementTree import Element, ParseError, XMLPullParser

from assets.adapters.outcomes import (
    GLUCOSE,
    NOT_XML,
    VITALS,
    Context,
    Outcome,
    Reading,
    Record,
    Refused,
    Reject,
    Skip,
    each_record,
)
from assets.adapters.values import glucose, glucose_unit, instant, needed, number
from assets.stream.decode import bad_type, missing_field

SYSTEM = "apple"
ROOT = b"<HealthData"
ROOT_WITHIN = 65_536
_ROOT = re.compile(r"<HealthData[\s>]")
CHUNK_BYTES = 1 << 18
_CONTROL = bytes(each for each in range(32) if each not in b"\t\n\r")
_QUANTITY = "HKQuantityTypeIdentifier"
_PREFIX = re.compile(r"^HK[A-Za-z]+TypeIdentifier")
_PRESSURE = "HKCorrelationTypeIdentifierBloodPressure"
_CORRELATION = b"<Correlation"
_IGNORED = ("ExportDate", "Me")


class _Vital(NamedTuple):
    field: str
    units: frozenset[str]
    is_at_end: bool = False


_PER_MINUTE = frozenset({"count/min"})
_VITALS = {
    "HeartRate": _Vital("heart_rate", _PER_MINUTE),
    "OxygenSaturation": _Vital("spo2", frozenset({"%"})),
    "BodyTemperature": _Vital("temperature", frozenset({"degC", "degF"})),
    "RespiratoryRate": _Vital("respiratory_rate", _PER_MINUTE, is_at_end=True),
    "BloodPressureSystolic": _Vital("systolic_bp", frozenset({"mmHg"})),
    "BloodPressureDiastolic": _Vital("diastolic_bp", frozenset({"mmHg"})),
}
_PRESSURES = ("BloodPressureSystolic", "BloodPressureDiastolic")
_MOTION = {"1": False, "2": True}

Key = tuple[str | None, ...]


def is_document(text: str) -> bool:
    """Whether a text is such an export."""
    return _ROOT.search(text[:ROOT_WITHIN]) is not None


def elements(chunks: Iterable[bytes]) -> Iterator[Element]:
    """The elements below the root, one after the other; each must be used before the next one is asked for.

    Args:
        chunks: the bytes of a document, in order.

    Raises:
        Refused: it is no such document, or it ends too early.
    """
    parser: XMLPullParser[Element] = XMLPullParser(events=("start", "end"))
    depth = 0
    root: Element | None = None
    try:
        for chunk in _without_front(chunks):
            parser.feed(chunk.translate(None, _CONTROL))
            for read in parser.read_events():
                event, element = cast(tuple[str, Element], read)
                if event == "start":
                    depth += 1
                    root = element if root is None else root
                    continue
                depth -= 1
                if depth == 1 and root is not None:
                    yield element
                    # Without this the whole tree would stay in memory.
                    root.clear()
        parser.close()
    except ParseError:
        raise Refused(NOT_XML) from None
    if root is None:
        raise Refused(NOT_XML)


def _without_front(chunks: Iterable[bytes]) -> Iterator[bytes]:
    front: bytes | None = b""
    for chunk in chunks:
        if front is None:
            yield chunk
            continue
        front += chunk
        place = front.find(ROOT)
        if place >= 0:
            yield front[place:]
            front = None
        elif len(front) > 2 * ROOT_WITHIN:
            raise Refused(NOT_XML)


def is_measurement(element: Element) -> bool:
    """Whether an element may become a reading or be refused; most are of other kinds."""
    if element.tag == "Correlation":
        return element.get("type") == _PRESSURE
    name = _name_of(element)
    return element.tag == "Record" and (name == "BloodGlucose" or name in _VITALS)


def is_of_document(element: Element) -> bool:
    """Whether an element says something of the export as a whole, and is no record."""
    return element.tag in _IGNORED


def kind_of(element: Element) -> str:
    """As what an element is counted that is skipped."""
    return _name_of(element) or element.tag


def is_pressure(element: Element) -> bool:
    """Whether an element is half of a blood pressure, which stands in a correlation too."""
    return element.tag == "Record" and _name_of(element) in _PRESSURES


def key_of(element: Element) -> Key:
    """What a record and its copy in a correlation share."""
    return tuple(element.get(name) for name in ("type", "startDate", "endDate", "sourceName", "value"))


def is_sign(element: Element) -> bool:
    """Whether a measurement is of vital signs."""
    return element.tag == "Correlation" or _name_of(element) in _VITALS


def time_of(element: Element) -> str | None:
    """When vital signs were measured, as the export says it."""
    vital = _VITALS.get(_name_of(element))
    return element.get("endDate" if vital is not None and vital.is_at_end else "startDate")


def keys_within(element: Element) -> set[Key]:
    """The keys of the records in a correlation."""
    return {key_of(record) for record in element.iter("Record")} if element.tag == "Correlation" else set()


def adapt(document: Any, context: Context) -> list[Outcome]:
    """The outcomes of the elements of a document: an export, or what `assets.adapters.files` made of a part of it."""
    content = document.encode("utf-8", "replace") if isinstance(document, str) else bytes(document)
    found: list[Outcome] = []
    try:
        # Halves of blood pressures come before the correlations that have both.
        is_twice = _CORRELATION in content
        within = set[Key]().union(*map(keys_within, elements([content]))) if is_twice else set[Key]()
        for element in elements([content]):
            if not is_of_document(element):
                stream = GLUCOSE if _name_of(element) == "BloodGlucose" else VITALS
                found += each_record([element], stream, lambda each: [outcome_of(each, context, within)])
    except Refused as refused:
        return [Reject(refused.reason)]
    return found


def outcome_of(element: Element, context: Context, within: set[Key]) -> Outcome:
    """What an element becomes.

    Args:
        element: below the root.
        context: of the document.
        within: the keys of records in correlations.

    Raises:
        Refused: it cannot enter silver.
    """
    if element.tag == "Correlation" and element.get("type") == _PRESSURE:
        return _pressure(element, context)
    if element.tag != "Record":
        return Skip(_name_of(element) or element.tag)
    name, is_quantity = _name_of(element), (element.get("type") or "").startswith(_QUANTITY)
    if name == "BloodGlucose" and is_quantity:
        return _glucose(element, context)
    if name not in _VITALS or not is_quantity:
        return Skip(name or "Record")
    if name in _PRESSURES and key_of(element) in within:
        return Skip("in_correlation")
    vital = _VITALS[name]
    return _vital(element, _value(element, vital), context, is_at_end=vital.is_at_end)


def _name_of(element: Element) -> str:
    return _without_prefix(element.get("type") or "")


@lru_cache(maxsize=1024)
def _without_prefix(name: str) -> str:
    return _PREFIX.sub("", name)


def _glucose(record: Element, context: Context) -> Outcome:
    unit = (record.get("unit") or "").partition("<")
    value = needed(record.get("value"), "value")
    # HealthKit writes mmol with the molar mass, as in mmol<180.1558800000541>/L.
    known = glucose_unit(unit[0] + "/L" if unit[1] and unit[0] == "mmol" else unit[0])
    at = instant(needed(record.get("startDate"), "startDate"))
    device = context.device_of(SYSTEM, _source(record))
    if device is None:
        raise Refused(missing_field("sourceName"))
    values = glucose(number(value, "glucose_level"), known, is_monitor=False)
    return Reading(GLUCOSE, at, values, Record(SYSTEM), context.patient_of(SYSTEM), device)


def _value(record: Element, vital: _Vital) -> dict[str, Any]:
    unit = record.get("unit")
    if unit not in vital.units:
        raise Refused(bad_type("unit"))
    values: dict[str, Any] = {vital.field: number(needed(record.get("value"), "value"), vital.field)}
    if vital.field == "temperature":
        values["unit"] = unit
    for entry in record.iter("MetadataEntry"):
        if entry.get("key") == "HKMetadataKeyHeartRateMotionContext" and entry.get("value") in _MOTION:
            values["sport_mode"] = _MOTION[entry.get("value") or ""]
    return values


def _pressure(correlation: Element, context: Context) -> Outcome:
    values: dict[str, Any] = {}
    for record in correlation.iter("Record"):
        if (name := _name_of(record)) in _PRESSURES:
            values |= _value(record, _VITALS[name])
    if not values:
        return Skip("BloodPressure")
    return _vital(correlation, values, context)


def _vital(element: Element, values: dict[str, Any], context: Context, *, is_at_end: bool = False) -> Reading:
    at = instant(needed(element.get("endDate" if is_at_end else "startDate"), "startDate"))
    device = context.device_of(SYSTEM, _source(element))
    return Reading(VITALS, at, values, Record(SYSTEM), context.patient_of(SYSTEM), device)


def _source(element: Element) -> str:
    return (element.get("sourceName") or "").replace("\u00a0", " ").strip()
