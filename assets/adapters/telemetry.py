"""Telemetry of devices behind IoT Hub, IoT Central, the MedTech service or an MQTT broker.

The objects have Pulselake's names or those that templates usually have, in any case and with or without underscores.
Who the device is, the transport says.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from assets.adapters.outcomes import (
    DEVICE,
    DEVICES,
    GLUCOSE,
    IDENTITY_MISMATCH,
    NO_VALUE,
    RETAINED_WITHOUT_TIME,
    UNKNOWN_FORMAT,
    VITALS,
    Context,
    ForeignId,
    Outcome,
    Plain,
    Reading,
    Record,
    Refused,
    Reject,
    Skip,
    each_record,
)
from assets.adapters.values import LocalTimes, epoch, glucose, glucose_unit, instant, number, text_of
from assets.glucose.silver import MG_DL
from assets.stream.decode import NOT_AN_OBJECT, missing_field

VITAL_NAMES: Mapping[str, str] = {
    **dict.fromkeys(("heartrate", "beatsperminute", "pulse"), "heart_rate"),
    **dict.fromkeys(("systolic", "systolicbp", "systolicpressure"), "systolic_bp"),
    **dict.fromkeys(("diastolic", "diastolicbp", "diastolicpressure"), "diastolic_bp"),
    **dict.fromkeys(("spo2", "oxygensaturation", "oxygenpercentage"), "spo2"),
    "respiratoryrate": "respiratory_rate",
    **dict.fromkeys(("bodytemperature", "temperature"), "temperature"),
}
GLUCOSE_NAMES = ("glucoselevel", "glucose")
BATTERY_NAMES = ("batterylevel", "battery")
TIME_NAMES = ("timestamp", "measuredat", "enddate", "date", "time")
DEVICE_NAMES = ("deviceid", "device")
TOPIC_NAMES = {"glucose": "glucoselevel", "battery": "batterylevel", "vitals": None}
"""What a bare number of a topic is; of one that is no single number, None."""
_STATES = ("online", "offline")
_NESTED_WITHIN = 3


def adapt(document: Any, context: Context) -> Iterator[Outcome]:
    """The outcomes of one message: an object, an array of them, or a bare number whose meaning the topic says."""
    members = document if isinstance(document, list) else [document]
    if isinstance(document, Mapping) and isinstance(document.get("data"), list):
        shared = {name: value for name, value in document.items() if name != "data"}
        members = [{**shared, **each} if isinstance(each, Mapping) else each for each in document["data"]]
    if not members:
        yield Reject(NOT_AN_OBJECT)
    yield from each_record(members, None, lambda member: _message(member, context))


def _message(member: Any, context: Context) -> list[Outcome]:
    if context.topic_kind == "status" or member in _STATES:
        return [Skip("status")]
    if isinstance(member, int | float | str) and not isinstance(member, bool):
        name = TOPIC_NAMES.get(context.topic_kind or "")
        if name is None:
            raise Refused(NOT_AN_OBJECT if context.topic_kind in (None, "vitals") else UNKNOWN_FORMAT)
        member = {name: member}
    if not isinstance(member, Mapping):
        raise Refused(NOT_AN_OBJECT)
    fields = dict(_flat(member))
    if is_native(member) and context.device is None:
        return [Plain(member)]
    if is_native(member):
        return [Plain(member, context.device)]
    found = [*_readings(fields, context)]
    if not found and context.topic_kind is not None and context.topic_kind not in TOPIC_NAMES:
        raise Refused(UNKNOWN_FORMAT)
    return found or [Skip(NO_VALUE)]


def is_native(member: Mapping[str, Any]) -> bool:
    """Whether an object says itself, in Pulselake's ids, whose it is and what sent it."""
    return all(_is_id(member.get(name)) for name in ("patient_id", "device_id")) and "timestamp" in member


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _flat(member: Mapping[str, Any], depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Names in lower case without underscores, also those of nested components."""
    for name, value in member.items():
        if isinstance(value, Mapping) and depth < _NESTED_WITHIN:
            yield from _flat(value, depth + 1)
        else:
            yield str(name).replace("_", "").lower(), value


def _readings(fields: Mapping[str, Any], context: Context) -> Iterator[Outcome]:
    vitals = {VITAL_NAMES[name]: value for name, value in fields.items() if name in VITAL_NAMES and value is not None}
    level, battery = (_first(fields, names) for names in (GLUCOSE_NAMES, BATTERY_NAMES))
    if not vitals and level is None and battery is None:
        return
    if level is not None:
        yield from each_record([GLUCOSE], GLUCOSE, lambda _: [_glucose(level, fields, context)])
    if vitals:
        yield from each_record([VITALS], VITALS, lambda _: [_vitals(vitals, fields, context)])
    if battery is not None:
        yield from each_record([DEVICES], DEVICES, lambda _: [_battery(battery, fields, context)])


def _glucose(level: Any, fields: Mapping[str, Any], context: Context) -> Reading:
    values = glucose(level, glucose_unit(fields.get("unit"), MG_DL), is_monitor=False)
    return _reading(GLUCOSE, values, fields, context)


def _vitals(vitals: Mapping[str, Any], fields: Mapping[str, Any], context: Context) -> Reading:
    values: dict[str, Any] = {name: number(value, name) for name, value in vitals.items()}
    if "temperature" in values and text_of(fields.get("unit")):
        values["unit"] = text_of(fields["unit"])
    if isinstance(fields.get("sportmode"), bool):
        values["sport_mode"] = fields["sportmode"]
    return _reading(VITALS, values, fields, context)


def _battery(level: Any, fields: Mapping[str, Any], context: Context) -> Reading:
    return _reading(DEVICES, {"battery_level": number(level, "battery_level")}, fields, context)


def _reading(stream: str, values: Mapping[str, Any], fields: Mapping[str, Any], context: Context) -> Reading:
    device, claims = context.device, {}
    said = _first(fields, DEVICE_NAMES)
    if _is_id(said):
        claims["device_id"] = said
    elif name := text_of(said):
        if device is not None and device.value != name:
            raise Refused(IDENTITY_MISMATCH)
        device = device or ForeignId(context.system, DEVICE, name)
    if _is_id(fields.get("patientid")):
        claims["patient_id"] = fields["patientid"]
    if device is None:
        raise Refused(missing_field("device_id"))
    at = _time(fields, context)
    return Reading(stream, at, values, Record(context.system), None, device, claims)


def _time(fields: Mapping[str, Any], context: Context) -> datetime:
    # What says no zone is in UTC, as in Pulselake's own payloads and in IoT Hub's property.
    utc = LocalTimes("UTC")
    own = _first(fields, TIME_NAMES)
    if own is not None:
        return instant(own, utc) if isinstance(own, str) and not own.strip().isdigit() else epoch(own)
    if context.is_retained:
        raise Refused(RETAINED_WITHOUT_TIME)
    if (sent := context.sent_at or context.enqueued_at) is None:
        raise Refused(missing_field("timestamp"))
    return instant(sent, utc)


def _first(fields: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((fields[name] for name in names if fields.get(name) is not None), None)
