"""A second opinion: what the payload contract says about a body, worked out one body at a time without the generator.

It shares no code with what it checks. `Judge` remembers accepted readings, as a pipeline does, to know duplicates.
"""

import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, NamedTuple

RECEIVED_AT = datetime(2026, 1, 1, tzinfo=UTC)
FORMATS = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M:%S.%f%z")
WORDS = {"Low": 39.0, "High": 401.0}


class Verdict(NamedTuple):
    accepted: int
    duplicates: int
    reasons: Counter[str]


class Refused(Exception):
    pass


class Judge:
    """`fields` maps a stream's required fields to a function that returns the value or raises ValueError."""

    def __init__(
        self,
        fields: dict[str, Callable[[Any], Any]],
        measure: str,
        limits: tuple[float, float],
        looks_wrong: Callable[[float, Any], str],
    ) -> None:
        self.fields = fields
        self.measure = measure
        self.limits = limits
        self.looks_wrong = looks_wrong
        self.accepted: dict[tuple[object, ...], Any] = {}

    def verdict(self, body: bytes) -> Verdict:
        try:
            members = parsed(body)
        except Refused as refused:
            return Verdict(0, 0, Counter([str(refused)]))
        outcomes = Counter(self.outcome(member) for member in members)
        accepted, duplicates = outcomes.pop("accepted", 0), outcomes.pop("duplicate", 0)
        return Verdict(accepted, duplicates, outcomes)

    def outcome(self, member) -> str:
        try:
            key, value = self.read(member)
        except Refused as refused:
            return str(refused)
        if key not in self.accepted:
            self.accepted[key] = value
            return "accepted"
        return "duplicate" if self.accepted[key] == value else "conflicting_duplicate"

    def read(self, member) -> tuple[tuple[object, ...], Any]:
        if not isinstance(member, dict):
            raise Refused("not_an_object")
        values = {name: self.field(member, name) for name in self.fields}
        measured_at = moment(member["timestamp"])
        if measured_at > RECEIVED_AT + timedelta(minutes=10):
            raise Refused("in_the_future")
        value = values[self.measure]
        if member.get("unit") == "mmol/L":
            value = round(value * 18.0182)
        lowest, highest = self.limits
        if not lowest <= value <= highest:
            raise Refused("implausible")
        if reason := self.looks_wrong(value, member.get("unit")):
            raise Refused(reason)
        ids = tuple(values[name] for name in ("patient_id", "device_id") if name in values)
        return (*ids, measured_at), value

    def field(self, member: dict[str, Any], name: str):
        if member.get(name) is None:
            raise Refused(f"missing_field:{name}")
        return self.optional(member, name, self.fields[name])

    def optional(self, member: dict[str, Any], name: str, read: Callable[[Any], Any]):
        if member.get(name) is None:
            return None
        try:
            return read(member[name])
        except ValueError:
            raise Refused(f"bad_type:{name}") from None


def glucose_judge() -> Judge:
    fields = {"patient_id": whole, "device_id": whole, "glucose_level": level, "timestamp": any_time}
    return Judge(fields, "glucose_level", (0.001, 1000), wrong_glucose)


def device_judge() -> Judge:
    texts = dict.fromkeys(("firmware_version", "connectivity_status", "error_codes"), text)
    return Judge(
        {"device_id": whole, "timestamp": any_time, "battery_level": number, **texts},
        "battery_level",
        (0, 100),
        lambda value, unit: "implausible_unit" if 0 < value < 1 else "",
    )


class VitalsJudge(Judge):
    """A reading has many measures, each of which may be absent."""

    LIMITS = (
        ("heart_rate", 20, 300),
        ("systolic_bp", 40, 300),
        ("diastolic_bp", 20, 200),
        ("spo2", 40, 100),
        ("temperature", 25, 45),
        ("respiratory_rate", 2, 80),
        ("glucose_level", 20, 1000),
    )

    def read(self, member) -> tuple[tuple[object, ...], Any]:
        if not isinstance(member, dict):
            raise Refused("not_an_object")
        for name in ("patient_id", "timestamp"):
            self.field(member, name)
        optional = {"device_id": whole, "sport_mode": flag, "on_oxygen": flag, "consciousness": text}
        optional |= dict.fromkeys(("pulse", *(name for name, *_ in self.LIMITS)), number)
        values = {name: self.optional(member, name, read) for name, read in optional.items()}
        values["heart_rate"] = values["pulse"] if values["heart_rate"] is None else values["heart_rate"]
        if values["consciousness"] not in (None, *"ACVPU"):
            raise Refused("bad_type:consciousness")
        measured = {name: values[name] for name, *_ in self.LIMITS}
        if all(value is None for value in (*measured.values(), values["on_oxygen"], values["consciousness"])):
            raise Refused("no_measurement")
        if member.get("unit") == "F":
            measured["temperature"] = (measured["temperature"] - 32) / 1.8
        if measured["spo2"] is not None and 0 < measured["spo2"] <= 1:
            measured["spo2"] *= 100
        for name, lowest, highest in self.LIMITS:
            value = measured[name]
            above = measured["systolic_bp"] if name == "diastolic_bp" else None
            if value is not None and (not lowest <= value <= highest or (above is not None and value >= above)):
                raise Refused(f"implausible:{name}")
        measured_at = moment(member["timestamp"])
        if measured_at > RECEIVED_AT + timedelta(minutes=10):
            raise Refused("in_the_future")
        flags = tuple(values[name] for name in ("sport_mode", "on_oxygen", "consciousness"))
        return (member["patient_id"], values["device_id"], measured_at), (*measured.values(), *flags)


def vitals_judge() -> Judge:
    return VitalsJudge({"patient_id": whole, "timestamp": any_time}, "", (0, 0), lambda value, unit: "")


class ReportsJudge(Judge):
    """A reading is a version of a safety report; a value is all that it says."""

    DATES = ("receiptdate", "receivedate", "transmissiondate")
    FORMATS: ClassVar = {"102": ("%Y%m%d", 8), "610": ("%Y%m", 6), "602": ("%Y", 4)}

    def read(self, member) -> tuple[tuple[object, ...], Any]:
        if not isinstance(member, dict):
            raise Refused("not_an_object")
        number, patient = self.field(member, "safetyreportid"), self.field(member, "patient")
        for name in ("safetyreportversion", "serious", "receiptdate"):
            self.optional(member, name, text)
        elements = [self.elements(patient, name) for name in ("reaction", "drug")]
        if not any(elements):
            raise Refused("no_reaction_and_no_drug")
        dates = [self.date(member, name) for name in self.DATES if member.get(name) is not None]
        if dates[0] > RECEIVED_AT + timedelta(minutes=10):
            raise Refused("in_the_future")
        return (number, member.get("safetyreportversion"), member.get("receiptdate")), member

    def elements(self, patient: dict[str, Any], name: str) -> list[dict[str, Any]]:
        found = patient.get(name) or []
        if not isinstance(found, list):
            raise Refused(f"bad_type:patient.{name}")
        if not all(isinstance(element, dict) for element in found):
            raise Refused(f"bad_type:patient.{name}[]")
        return found

    def date(self, member: dict[str, Any], name: str) -> datetime:
        form, length = self.FORMATS[member[f"{name}format"]]
        try:
            if len(member[name]) == length:
                return datetime.strptime(member[name], form).replace(tzinfo=UTC)
        except ValueError:
            pass
        raise Refused("bad_timestamp")


def reports_judge() -> Judge:
    return ReportsJudge({"safetyreportid": text, "patient": an_object}, "", (0, 0), lambda value, unit: "")


def an_object(value) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(value)
    return value


def flag(value) -> bool:
    if not isinstance(value, bool):
        raise ValueError(value)
    return value


def wrong_glucose(value: float, unit: Any) -> str:
    if unit is None and value < 34 and value % 1:
        return "implausible_unit"
    if value >= 20:
        return ""
    return "implausible" if unit == "mmol/L" or value % 1 else "sensor_code"


def parsed(body: bytes) -> list[Any]:
    try:
        value = json.loads(body.decode("utf-8-sig"), parse_constant=refuse)
    except (ValueError, RecursionError):
        raise Refused("not_json") from None
    return value if isinstance(value, list) else [value]


def refuse(constant: str):
    raise ValueError(constant)


def number(value) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(value)
    return value


def whole(value) -> int:
    if number(value) != int(value) or abs(value) >= 2**63:
        raise ValueError(value)
    return int(value)


def level(value) -> float:
    if isinstance(value, str):
        return WORDS[value] if value in WORDS else float(value)
    return number(value)


def text(value) -> str:
    if not isinstance(value, str):
        raise ValueError(value)
    return value


def any_time(value):
    return value if isinstance(value, str) else number(value)


def moment(value) -> datetime:
    if not isinstance(value, str):
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=value)
    for form in FORMATS:
        try:
            at = datetime.strptime(value, form)
        except ValueError:
            continue
        return at if at.tzinfo else at.replace(tzinfo=UTC)
    raise Refused("bad_timestamp")
