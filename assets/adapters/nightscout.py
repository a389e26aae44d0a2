"""Nightscout: entries of the interfaces v1 and v3, and devicestatus."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from assets.adapters.outcomes import (
    CALIBRATION,
    DEVICE,
    DEVICES,
    GLUCOSE,
    Context,
    ForeignId,
    Outcome,
    Reading,
    Record,
    Refused,
    Reject,
    Skip,
    attempted,
    each_record,
)
from assets.adapters.values import (
    dexcom_flag,
    epoch,
    glucose,
    glucose_unit,
    instant,
    needed,
    number,
    text_of,
    whole_second,
)
from assets.glucose.silver import MG_DL
from assets.stream.decode import NOT_AN_OBJECT, missing_field

SYSTEM = "nightscout"
STATUS = ("uploader", "pump", "openaps", "loop", "uploaderBattery")
_STATUS = frozenset(STATUS)
_READINGS = ("sgv", "mbg")
NAMES = (*_READINGS, *STATUS, "type", "result")
"""Of these an entry or an answer has at least one."""


def is_entry(record: Any) -> bool:
    """Whether a record is one of Nightscout."""
    if not isinstance(record, dict):
        return False
    if "sgv" in record or "mbg" in record or _is_status(record):
        return True
    return record.get("type") in ("sgv", "mbg", "cal") and bool({"date", "mills", "dateString"} & record.keys())


def is_document(document: Any) -> bool:
    """Whether a document is a list of entries, one of them, or an answer of v3."""
    records = document.get("result") if isinstance(document, dict) else document
    return is_entry(document) or is_entry(records) or (isinstance(records, list) and any(map(is_entry, records[:10])))


def adapt(document: Any, context: Context) -> Iterator[Outcome]:
    """The outcomes of a document; a status gives one for each battery."""
    records = document.get("result", [document]) if isinstance(document, dict) else document
    for record in records if isinstance(records, list) else [records]:
        if not isinstance(record, dict):
            yield Reject(NOT_AN_OBJECT)
        elif _is_status(record):
            yield from each_record(_batteries(record), DEVICES, lambda battery: [_battery(*battery, context)])
        else:
            yield attempted(GLUCOSE, _entry, record, context)


def _is_status(record: Mapping[str, Any]) -> bool:
    return not ("sgv" in record or "mbg" in record or _STATUS.isdisjoint(record))


def _entry(entry: Mapping[str, Any], context: Context) -> Outcome:
    kind = entry.get("type") or next((name for name in _READINGS if name in entry), None)
    if kind == "cal":
        return Skip(CALIBRATION)
    if kind not in _READINGS:
        if kind is None and "eventType" not in entry:
            raise Refused(missing_field("type"))
        return Skip(text_of(kind) or "treatment")
    if entry.get("isValid") is False:
        raise Refused("retracted:isValid")
    value = needed(entry.get(kind), kind)
    unit = glucose_unit(entry.get("units"), MG_DL)
    is_monitor = kind == "sgv"
    at = _time(entry)
    # A meter shows what it measures beyond 40 and 400 mg/dL.
    flag = dexcom_flag if is_monitor else lambda _: None
    values = glucose(value, unit, is_monitor=is_monitor, flag=flag, has_error_codes=is_monitor)
    device = context.device_of(SYSTEM, entry.get("device"))
    if device is None:
        raise Refused(missing_field("device"))
    record = Record(SYSTEM, text_of(entry.get("identifier") or entry.get("_id")) or None, _version(entry))
    return Reading(GLUCOSE, whole_second(at), values, record, context.patient_of(SYSTEM), device)


def _time(entry: Mapping[str, Any]) -> datetime:
    # Some uploaders have the number under the name that Nightscout has for it inside.
    number_or_text = entry.get("date")
    if number_or_text is None and (number_or_text := entry.get("mills")) is None:
        return instant(needed(entry.get("dateString"), "date"))
    return _instant(number_or_text)


def _instant(number_or_text: Any) -> datetime:
    is_text = isinstance(number_or_text, str) and not number_or_text.strip().replace(".", "").isdigit()
    return instant(number_or_text) if is_text else epoch(number_or_text, milliseconds=True)


def _version(entry: Mapping[str, Any]) -> str | None:
    version = entry.get("srvModified")
    return str(version) if isinstance(version, int) and not isinstance(version, bool) else None


_Battery = tuple[Any, Any, Any]
"""The level, the device's name and the time as they were sent."""


def _batteries(status: Mapping[str, Any]) -> Iterator[_Battery]:
    uploader, pump = (_object(status.get(name)) for name in ("uploader", "pump"))
    at = status.get("created_at") or status.get("mills") or status.get("date")
    level = uploader.get("battery")
    level = status.get("uploaderBattery") if level is None else level
    of_pump = _object(pump.get("battery")).get("percent")
    if level is not None or of_pump is None:
        yield level, status.get("device"), at
    if of_pump is not None:
        yield of_pump, f"pump:{pump['pumpID']}" if pump.get("pumpID") else None, pump.get("clock") or at


def _battery(level: Any, device: Any, at: Any, context: Context) -> Outcome:
    if level is None:
        return Skip("no_battery")
    name = needed(text_of(device), "device")
    # xDrip+ sends no time: a site has the time at which the status came.
    measured_at = _instant(needed(at or context.enqueued_at, "created_at"))
    values = {"battery_level": number(level, "battery_level")}
    return Reading(DEVICES, measured_at, values, Record(SYSTEM), device=ForeignId(SYSTEM, DEVICE, name))


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
