"""Medtronic CareLink Connect: the readings that its app and its followers get as JSON."""

from collections.abc import Iterator
from typing import Any

from assets.adapters.carelink import SYSTEM
from assets.adapters.outcomes import (
    GLUCOSE,
    NO_VALUE,
    Context,
    Outcome,
    Reading,
    Record,
    Refused,
    Reject,
    Skip,
    each_record,
)
from assets.adapters.values import LocalTimes, dexcom_flag, glucose, instant, needed, number, text_of, whole_second
from assets.glucose.silver import MG_DL
from assets.stream.decode import NOT_AN_OBJECT, missing_field

_NO_OFFSET = ("-00:00", "Z")
"""What stands behind times that are of the device's clock all the same."""
_SERIALS = ("medicalDeviceSerialNumber", "conduitSerialNumber")


def is_document(document: Any) -> bool:
    """Whether a document is such an answer."""
    return isinstance(document, dict) and isinstance(document.get("sgs"), list)


def adapt(document: Any, context: Context) -> Iterator[Outcome]:
    """The outcomes of the sensor's readings, always in mg/dL; a value of 0 is none."""
    if not is_document(document):
        yield Reject(missing_field("sgs"), GLUCOSE)
        return
    if not document["sgs"]:
        yield Skip(NO_VALUE)
        return
    times = LocalTimes(context.zone)
    serial = next((name for each in _SERIALS if (name := text_of(document.get(each)))), None)
    yield from each_record(document["sgs"], GLUCOSE, lambda each: [_reading(each, serial, times, context)])


def _reading(record: Any, serial: str | None, times: LocalTimes, context: Context) -> Outcome:
    if not isinstance(record, dict):
        raise Refused(NOT_AN_OBJECT)
    level = number(needed(record.get("sg"), "sg"), "glucose_level")
    if level == 0:
        return Skip(NO_VALUE)
    text = text_of(needed(record.get("timestamp") or record.get("datetime"), "timestamp"))
    for ending in _NO_OFFSET:
        text = text.removesuffix(ending)
    device = context.device_of(SYSTEM, serial)
    if device is None:
        raise Refused(missing_field("medicalDeviceSerialNumber"))
    at = whole_second(instant(text, times, device))
    values = glucose(level, MG_DL, is_monitor=True, flag=dexcom_flag)
    return Reading(GLUCOSE, at, values, Record(SYSTEM), context.patient_of(SYSTEM), device)
