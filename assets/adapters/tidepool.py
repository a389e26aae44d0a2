"""Tidepool: the data of one user, as the interface and the export have them."""

from collections.abc import Iterator, Mapping
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
)
from assets.adapters.values import ABOVE, BELOW, glucose, glucose_unit, instant, needed, number, text_of, whole_second
from assets.stream.decode import NOT_AN_OBJECT, bad_type

SYSTEM = "tidepool"
READINGS = ("cbg", "smbg")
TYPES = frozenset(
    {*READINGS, "bloodKetone", "bolus", "basal", "insulin", "wizard", "food", "physicalActivity", "water"}
    | {"alert", "cgmSettings", "controllerSettings", "controllerStatus", "deviceEvent", "dosingDecision"}
    | {"pumpSettings", "pumpStatus", "reportedState", "upload"}
)
_FLAGS = {"low": BELOW, "high": ABOVE}


def is_document(document: Any) -> bool:
    """Whether a document is such data."""
    records = document if isinstance(document, list) else [document]
    return any(
        isinstance(each, dict) and text_of(each.get("type")) in TYPES and "deviceId" in each for each in records[:10]
    )


def adapt(document: Any, context: Context) -> Iterator[Outcome]:
    """The outcomes of the records."""
    for record in document if isinstance(document, list) else [document]:
        if not isinstance(record, dict):
            yield Reject(NOT_AN_OBJECT)
            continue
        stream = DEVICES if record.get("type") == "pumpStatus" else GLUCOSE
        yield attempted(stream, _outcome, record, context)


def _outcome(record: Mapping[str, Any], context: Context) -> Outcome:
    kind = text_of(record.get("type"))
    if kind == "pumpStatus":
        return _battery(record)
    if kind not in READINGS:
        is_calibration = kind == "deviceEvent" and record.get("subType") == CALIBRATION
        return Skip(CALIBRATION if is_calibration else kind or "other")
    for withdrawn in ("deletedTime", "archivedTime"):
        if record.get(withdrawn) is not None:
            raise Refused(f"retracted:{withdrawn}")
    unit = glucose_unit(needed(record.get("units"), "units"))
    value = needed(record.get("value"), "value")
    at = instant(needed(record.get("time"), "time"))
    flag = _flag(record.get("annotations"))
    # A word is no value here.
    level = number(value, "glucose_level") if isinstance(value, str) else value
    values = glucose(level, unit, is_monitor=kind == "cbg", flag=lambda _: flag)
    device = ForeignId(SYSTEM, DEVICE, needed(text_of(record.get("deviceId")), "deviceId"))
    version = text_of(record.get("modifiedTime")) or None
    of = Record(SYSTEM, text_of(record.get("id")) or None, version)
    return Reading(GLUCOSE, whole_second(at), values, of, context.patient_of(SYSTEM), device)


def _flag(annotations: Any) -> str | None:
    for each in annotations if isinstance(annotations, list) else []:
        if isinstance(each, dict) and each.get("code") == "bg/out-of-range":
            return _FLAGS.get(text_of(each.get("value")))
    return None


def _battery(record: Mapping[str, Any]) -> Outcome:
    battery = record.get("battery")
    if not isinstance(battery, dict) or battery.get("remaining") is None:
        return Skip("no_battery")
    share = number(battery["remaining"], "battery_level")
    if not 0 <= share <= 1:
        # It is a share, although the record calls its unit percent.
        raise Refused(bad_type("battery_level"))
    at = instant(needed(battery.get("time") or record.get("time"), "time"))
    device = ForeignId(SYSTEM, DEVICE, needed(text_of(record.get("deviceId")), "deviceId"))
    return Reading(DEVICES, at, {"battery_level": round(share * 100, 6)}, Record(SYSTEM), device=device)
