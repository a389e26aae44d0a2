"""Health Auto Export: what the app of that name sends from an iPhone."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

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
from assets.adapters.values import glucose, glucose_unit, instant, list_of, needed, number, text_of
from assets.stream.decode import NOT_AN_OBJECT, bad_type, missing_field

SYSTEM = "hae"


class _Metric(NamedTuple):
    fields: Mapping[str, tuple[str, ...]]
    units: frozenset[str]


_PER_MINUTE = frozenset({"count/min", "bpm", "breaths/min", "/min"})
_VITALS = {
    "heart_rate": _Metric({"heart_rate": ("qty", "Avg")}, _PER_MINUTE),
    "blood_oxygen_saturation": _Metric({"spo2": ("qty",)}, frozenset({"%"})),
    "body_temperature": _Metric({"temperature": ("qty",)}, frozenset({"degC", "degF", "°C", "°F"})),
    "respiratory_rate": _Metric({"respiratory_rate": ("qty",)}, _PER_MINUTE),
    "blood_pressure": _Metric(
        {"systolic_bp": ("systolic",), "diastolic_bp": ("diastolic",)}, frozenset({"mmHg", "mm[Hg]"})
    ),
}


OTHERS: Mapping[str, str] = {
    "workouts": "workout",
    "stateOfMind": "state of mind",
    "symptoms": "symptom",
    "ecg": "Electrocardiogram",
    "heartRateNotifications": "heart rate notification",
    "medications": "medication",
    "cycleTracking": "cycle tracking",
}
"""What an automation may send beside metrics, or without any, and as what it is counted."""


def is_document(document: Any) -> bool:
    """Whether a document was sent by the app."""
    data = document.get("data") if isinstance(document, dict) else None
    return isinstance(data, dict) and any(isinstance(data.get(name), list) for name in ("metrics", *OTHERS))


def adapt(document: Any, context: Context) -> Iterator[Outcome]:
    """The outcomes of the points of all metrics; a point that stands for a minute or an hour is its mean."""
    if not is_document(document):
        yield Reject(missing_field("metrics"))
        return
    data = document["data"]
    metrics = list_of(data.get("metrics"))
    others = [Skip(kind) for name, kind in OTHERS.items() for _ in list_of(data.get(name))]
    if not metrics and not others:
        # An automation sends this when there is nothing new.
        yield Skip(NO_VALUE)
    for metric in metrics:
        if not isinstance(metric, dict) or not isinstance(metric.get("data"), list):
            yield Reject(NOT_AN_OBJECT)
            continue
        if not metric["data"]:
            yield Skip(NO_VALUE)
        name, unit = text_of(metric.get("name")), metric.get("units")
        if name == "blood_glucose":
            of_glucose = [(point, unit) for point in metric["data"]]
            yield from each_record(of_glucose, GLUCOSE, lambda each: [_glucose(*each, context)])
        elif known := _VITALS.get(name):
            of_vitals = [(point, known, unit) for point in metric["data"]]
            yield from each_record(of_vitals, VITALS, lambda each: [_vital(*each, context)])
        else:
            yield from (Skip(name or "other") for _ in metric["data"])
    yield from others


def _glucose(point: Any, unit: Any, context: Context) -> Outcome:
    if not isinstance(point, dict):
        raise Refused(NOT_AN_OBJECT)
    value = needed(point.get("qty"), "qty")
    known = glucose_unit(unit)
    at = instant(needed(point.get("date"), "date"))
    device = context.device_of(SYSTEM, point.get("source"))
    if device is None:
        raise Refused(missing_field("source"))
    values = glucose(number(value, "glucose_level"), known, is_monitor=False)
    return Reading(GLUCOSE, at, values, Record(SYSTEM), context.patient_of(SYSTEM), device)


def _vital(point: Any, metric: _Metric, unit: Any, context: Context) -> Outcome:
    if not isinstance(point, dict):
        raise Refused(NOT_AN_OBJECT)
    if text_of(unit) not in metric.units:
        raise Refused(bad_type("unit"))
    values: dict[str, Any] = {}
    for name, sources in metric.fields.items():
        found = next((point[each] for each in sources if point.get(each) is not None), None)
        values[name] = number(needed(found, sources[0]), name)
    if "temperature" in values:
        values["unit"] = text_of(unit)
    at = instant(needed(point.get("date"), "date"))
    device = context.device_of(SYSTEM, point.get("source"))
    return Reading(VITALS, at, values, Record(SYSTEM), context.patient_of(SYSTEM), device)
