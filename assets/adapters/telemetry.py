"""Telemetry of devices behind IoT Hub, IoT Central, the MedTech service or an MQTT broker.

The objects have Pulselake's names or those that templates usually have, in any case and with or without underscores.
Who the device is, the transport says.
"""

import re
from collections.abc import Mapping
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
    attempted,
    each_record,
)
from assets.adapters.values import IN_UTC, epoch, glucose, glucose_unit, instant, number, text_of
from assets.devices.silver import FIRMWARE
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
UNIT_NAMES = ("unit", "units", "glucoseunit", "glucoseunits")
"""Of glucose; that of vital signs, which is the temperature's, is `unit` only."""
_WORDS = {GLUCOSE: {*GLUCOSE_NAMES}, VITALS: {*VITAL_NAMES}, DEVICES: {*BATTERY_NAMES}}
_MEASURED = frozenset().union(*_WORDS.values())
TIME_NAMES = ("timestamp", "measuredat", "enddate", "date", "time", "datetime", "ts", "recordedat", "measurementtime")
DEVICE_NAMES = ("deviceid", "device")
TOPIC_NAMES: Mapping[str, str | None] = {
    **{name: name for name in (*VITAL_NAMES, *GLUCOSE_NAMES, *BATTERY_NAMES)},
    "vitals": None,
}
"""What a bare number of a topic is; of one that is no single number, None."""
_STATES = ("online", "offline")

Fields = Mapping[str, Any]
"""The values of a message under names in lower case without underscores."""

_DEVICE_TEXTS = {
    "firmwareversion": "firmware_version",
    "connectivitystatus": "connectivity_status",
    "errorcodes": "error_codes",
}
_FIRMWARE = re.compile(FIRMWARE)
_NESTED_WITHIN = 3


def adapt(document: Any, context: Context) -> list[Outcome]:
    """The outcomes of one message: an object, an array of them, or a bare number whose meaning the topic says."""
    members = document if isinstance(document, list) else [document]
    if isinstance(document, dict) and isinstance(document.get("data"), list):
        shared = {name: value for name, value in document.items() if name != "data"}
        members = [{**shared, **each} if isinstance(each, dict) else each for each in document["data"]]
    if not members:
        return [Reject(NOT_AN_OBJECT)]
    return each_record(members, None, lambda member: _message(member, context))


def _message(member: Any, context: Context) -> list[Outcome]:
    if context.topic_kind == "status":
        return [Skip("status")]
    if not isinstance(member, dict):
        if member in _STATES:
            return [Skip("status")]
        member = {_meaning_of(member, context): member}
    if is_native(member):
        return [Plain(member, context.device, measured_at=_time_of_native(member), has_any_stream=True)]
    fields: dict[str, Any] = {}
    _flatten(member, fields)
    found = _readings(fields, context)
    if not found and context.topic_kind is not None:
        if context.topic_kind not in TOPIC_NAMES:
            raise Refused(UNKNOWN_FORMAT)
        if (name := TOPIC_NAMES[context.topic_kind]) is not None and name not in fields:
            raise Refused(missing_field(name))
    return found or [Skip(NO_VALUE)]


def _meaning_of(value: Any, context: Context) -> str:
    """The name of what a bare number is."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise Refused(NOT_AN_OBJECT)
    name = TOPIC_NAMES.get(context.topic_kind or "")
    if name is None:
        raise Refused(NOT_AN_OBJECT if context.topic_kind in (None, "vitals") else UNKNOWN_FORMAT)
    return name


def kind_of(level: str) -> str:
    """What the level of a topic says that its numbers are: a name in lower case without underscores."""
    return _spelled(level)


def stream_of(body: Mapping[str, Any]) -> str:
    """The stream whose own words a body has; glucose where it has the words of none."""
    names = {_spelled(str(name)) for name in body}
    if names & VITAL_NAMES.keys():
        return VITALS
    return DEVICES if names & {*BATTERY_NAMES} and not names & {*GLUCOSE_NAMES} else GLUCOSE


def streams_of_words(body: Mapping[str, Any]) -> set[str]:
    """The streams that take a body: both of those about patients where it has words of both."""
    names = {_spelled(str(name)) for name in body}
    is_of_both = bool(names & _WORDS[GLUCOSE] and names & _WORDS[VITALS])
    return {GLUCOSE, VITALS} if is_of_both else {stream_of(body)}


def has_only_others_words(body: Mapping[str, Any], stream: str) -> bool:
    """Whether a body has words of other streams and none of this one."""
    names = {_spelled(str(name)) for name in body}
    has_words = {of: bool(names & words) for of, words in _WORDS.items()}
    return any(has_words.values()) and not has_words.get(stream)


def _spelled(name: str) -> str:
    return _SPELLED.get(name) or name.replace("_", "").replace("-", "").lower()


_SPELLED = {
    name: name.replace("_", "").lower()
    for name in (
        *("patient_id", "device_id", "deviceId", "timestamp", "unit", "glucose_level", "glucose", "battery_level"),
        *("heart_rate", "heartRate", "systolic_bp", "diastolic_bp", "spo2", "respiratory_rate", "temperature"),
    )
}
"""What is found here, since it comes with nearly every message, is found five times as fast."""


def is_native(member: Mapping[str, Any]) -> bool:
    """Whether an object says itself, in Pulselake's ids, whose it is and what sent it."""
    if "timestamp" not in member or "patient_id" not in member:
        return False
    return _is_id(member["patient_id"]) and _is_id(member.get("device_id"))


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _flatten(member: Mapping[str, Any], fields: dict[str, Any], depth: int = 0) -> None:
    """Adds the values under names in lower case without underscores, also those of nested components."""
    for name, value in member.items():
        if isinstance(value, dict) and depth < _NESTED_WITHIN:
            inner: dict[str, Any] = {}
            _flatten(value, inner, depth + 1)
            if _spelled(name) in _MEASURED and _MEASURED.isdisjoint(inner):
                # No component, but a measurement in a form of its own: it is refused, and not passed over.
                inner[_spelled(name)] = value
            fields.update(inner)
        else:
            fields[_spelled(name)] = value


def _readings(fields: Mapping[str, Any], context: Context) -> list[Outcome]:
    found: list[Outcome] = []
    if (level := _first(fields, GLUCOSE_NAMES)) is not None:
        found.append(attempted(GLUCOSE, _glucose, level, fields, context))
    if not VITAL_NAMES.keys().isdisjoint(fields):
        there = ((name, value) for name, value in fields.items() if name in VITAL_NAMES and value is not None)
        if vitals := {VITAL_NAMES[name]: value for name, value in there}:
            found.append(attempted(VITALS, _vitals, vitals, fields, context))
    if (level := _first(fields, BATTERY_NAMES)) is not None:
        found.append(attempted(DEVICES, _battery, level, fields, context))
    return found


def _glucose(level: Any, fields: Mapping[str, Any], context: Context) -> Reading:
    said = _first(fields, UNIT_NAMES)
    # Without a unit 22.2 is mmol/L, which as mg/dL would be an urgent low: silver refuses it.
    values = glucose(level, None if said is None else glucose_unit(said), is_monitor=False)
    return _reading(GLUCOSE, values, fields, context)


def _vitals(vitals: Mapping[str, Any], fields: Mapping[str, Any], context: Context) -> Reading:
    values: dict[str, Any] = {name: number(value, name) for name, value in vitals.items()}
    if "temperature" in values and text_of(fields.get("unit")):
        values["unit"] = text_of(fields["unit"])
    for name, field in (("sportmode", "sport_mode"), ("onoxygen", "on_oxygen")):
        if isinstance(fields.get(name), bool):
            values[field] = fields[name]
    if text_of(fields.get("consciousness")):
        values["consciousness"] = text_of(fields["consciousness"])
    return _reading(VITALS, values, fields, context)


def _battery(level: Any, fields: Mapping[str, Any], context: Context) -> Reading:
    values: dict[str, Any] = {"battery_level": number(level, "battery_level")}
    values |= {field: text_of(fields[name]) for name, field in _DEVICE_TEXTS.items() if text_of(fields.get(name))}
    # Others number their firmware as they like; that must not cost the battery. The text stays in bronze.
    if not _FIRMWARE.fullmatch(values.get("firmware_version", "")):
        values.pop("firmware_version", None)
    return _reading(DEVICES, values, fields, context)


def _reading(stream: str, values: Mapping[str, Any], fields: Mapping[str, Any], context: Context) -> Reading:
    device, claims = context.device, {}
    said = _first(fields, DEVICE_NAMES)
    if _is_id(said):
        claims["device_id"] = said
    elif said is not None and (name := text_of(said)):
        if device is not None and device.value != name:
            raise Refused(IDENTITY_MISMATCH)
        device = device or ForeignId(context.system, DEVICE, name)
    if "patientid" in fields and _is_id(fields["patientid"]):
        claims["patient_id"] = fields["patientid"]
    patient = None if context.binding is None else context.patient_of(context.system)
    device = device or context.device_of(context.system)
    if device is None:
        raise Refused(missing_field("device_id"))
    at = _time(fields, context)
    return Reading(stream, at, values, Record(context.system), patient, device, claims)


def _time_of_native(member: Mapping[str, Any]) -> datetime | None:
    try:
        return _instant(member["timestamp"])
    except Refused:
        # The stream reads more forms, or refuses it.
        return None


def _instant(own: Any) -> datetime:
    # What says no zone is in UTC, as in Pulselake's own payloads and in IoT Hub's property.
    return instant(own, IN_UTC) if isinstance(own, str) and not own.strip().isdigit() else epoch(own)


def _time(fields: Mapping[str, Any], context: Context) -> datetime:
    own = _first(fields, TIME_NAMES)
    if own is not None:
        return _instant(own)
    if context.is_retained:
        raise Refused(RETAINED_WITHOUT_TIME)
    if (sent := context.sent_at or context.enqueued_at) is None:
        raise Refused(missing_field("timestamp"))
    return _instant(sent)


def _first(fields: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    for name in names:
        if (found := fields.get(name)) is not None:
            return found
    return None
