"""Huawei Health Kit: sample sets, as its REST interface answers, and what its privacy centre hands out."""

from collections.abc import Iterator, Mapping
from typing import Any

from assets.adapters.outcomes import (
    GLUCOSE,
    NO_VALUE,
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
from assets.adapters.values import epoch, glucose, needed, number, text_of
from assets.glucose.silver import MMOL_L
from assets.stream.decode import IMPLAUSIBLE, NOT_AN_OBJECT, missing_field

SYSTEM = "huawei"
_INSTANTANEOUS = "com.huawei.instantaneous."
_FIELDS: Mapping[str, Mapping[str, str]] = {
    "heart_rate": {"bpm": "heart_rate"},
    "spo2": {"saturation": "spo2"},
    "blood_pressure": {
        "systolic_pressure": "systolic_bp",
        "diastolic_pressure": "diastolic_bp",
        "sphygmus": "heart_rate",
    },
    "body.temperature": {"temperature": "temperature", "body_temperature": "temperature"},
}
_GLUCOSE = "blood_glucose"
_KEYS = {"DATA_POINT_DYNAMIC_HEARTRATE": "heart_rate", "DATA_POINT_REST_HEARTRATE": "heart_rate"}
"""What the points of the privacy centre's file are called that are vital signs."""


def is_document(document: Any) -> bool:
    """Whether a document is such an answer, or such a file."""
    return _is_answer(document) or _is_file(document)


def _is_file(document: Any) -> bool:
    """Whether it is a list of records with points that have a key each."""
    records = document if isinstance(document, list) else []
    points = [point for record in records[:10] for point in _objects(record, "samplePoints")[:1]]
    return any(isinstance(point, dict) and "key" in point for point in points)


def _is_answer(document: Any) -> bool:
    groups = document.get("group") if isinstance(document, dict) else None
    return isinstance(groups, list) and any(isinstance(each, dict) and "sampleSet" in each for each in groups[:10])


def adapt(document: Any, context: Context) -> Iterator[Outcome]:
    """The outcomes of all points. A vital sign of 0 was not measured; it must not spoil others of its instant."""
    # A part of a file may begin with records that have no points.
    if isinstance(document, list) and any(isinstance(each, dict) and "samplePoints" in each for each in document):
        yield from _of_file(document, context)
        return
    if not _is_answer(document):
        yield Reject(missing_field("group"))
        return
    is_empty = True
    for device, point in _points(document):
        is_empty = False
        name = text_of(point.get("dataTypeName")) if isinstance(point, dict) else ""
        stream = GLUCOSE if name.endswith(_GLUCOSE) else VITALS
        yield from each_record([(point, device)], stream, lambda each: [_outcome(*each, context)])
    if is_empty:
        yield Skip(NO_VALUE)


def _of_file(records: list[Any], context: Context) -> Iterator[Outcome]:
    for record in records:
        points = _objects(record, "samplePoints")
        if not points:
            yield Skip(NO_VALUE)
        yield from each_record(points, VITALS, lambda point: [_point(point, context)])


def _point(point: Any, context: Context) -> Outcome:
    if not isinstance(point, dict):
        raise Refused(NOT_AN_OBJECT)
    key = text_of(needed(point.get("key"), "key"))
    if (field := _KEYS.get(key)) is None:
        return Skip(key or "other")
    values = _measured({field: number(needed(point.get("value"), "value"), field)})
    at = epoch(needed(point.get("startTime"), "startTime"))
    return Reading(VITALS, at, values, Record(SYSTEM), context.patient_of(SYSTEM), context.device_of(SYSTEM))


def _points(document: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
    for group in document["group"]:
        for samples in _objects(group, "sampleSet"):
            points = samples.get("samplePoints") if isinstance(samples, dict) else None
            for point in points if isinstance(points, list) else []:
                yield samples.get("dataCollectorId"), point


def _objects(value: Any, name: str) -> list[Any]:
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, list) else []


def _outcome(point: Any, device: Any, context: Context) -> Outcome:
    if not isinstance(point, dict):
        raise Refused(NOT_AN_OBJECT)
    name = text_of(needed(point.get("dataTypeName"), "dataTypeName"))
    kind = name.removeprefix(_INSTANTANEOUS)
    if kind == name or (kind != _GLUCOSE and kind not in _FIELDS):
        parts = name.split(".")
        return Skip(parts[3] if len(parts) > 3 else name)
    given: dict[str, Any] = {}
    for each in _objects(point, "value"):
        if isinstance(each, dict):
            value = each.get("floatValue")
            given[text_of(each.get("fieldName"))] = each.get("integerValue") if value is None else value
    at = epoch(needed(point.get("startTime"), "startTime"))
    patient, of = context.patient_of(SYSTEM), Record(SYSTEM)
    found = context.device_of(SYSTEM, device)
    if kind == _GLUCOSE:
        level = number(needed(given.get("level"), "level"), "glucose_level")
        if found is None:
            raise Refused(missing_field("dataCollectorId"))
        return Reading(GLUCOSE, at, glucose(level, MMOL_L, is_monitor=False), of, patient, found)
    fields = _FIELDS[kind]
    values = {field: number(given[name], field) for name, field in fields.items() if given.get(name) is not None}
    if not values:
        raise Refused(missing_field(next(iter(fields))))
    return Reading(VITALS, at, _measured(values), of, patient, found)


def _measured(values: Mapping[str, float]) -> Mapping[str, float]:
    found = {field: value for field, value in values.items() if value}
    if not found:
        raise Refused(f"{IMPLAUSIBLE}:{next(iter(values))}")
    return found
