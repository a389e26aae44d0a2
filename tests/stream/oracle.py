"""A second opinion: the four tables of a stream, worked out from bronze in plain Python.

It reads bronze in the order of processing and shares no code with the engine: a reading at a time, a window by looking
at every reading known. Where the engine and this disagree, one of them is wrong.
"""

import json
import math
import re
import struct
import zlib
from bisect import bisect_right, insort
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from itertools import groupby
from typing import Any, NamedTuple

import xxhash

Row = dict[str, Any]
Known = list[Row]
"""A patient's readings by time."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
OLDEST = datetime(2010, 1, 1, tzinfo=UTC)
WINDOW = timedelta(minutes=10)
GZIP_ROOM = 8 * 1024 * 1024
NOT_IN_ALERTS = ("range_flag", "reported_value", "reported_unit")
UNITS = {"mg/dl": "mg/dL", "mgdl": "mg/dL", "mmol/l": "mmol/L", "mmol": "mmol/L", "mm": "mmol/L"}
NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
COMPARISON = re.compile(r"([<>]) *([0-9]+(?:\.[0-9]+)?)")
BELOW, ABOVE = (
    {*words, *(f"{side}{between}range" for between in ("", " ", "_", "-"))}
    for side, words in (("below", ("lo", "low")), ("above", ("hi", "high")))
)
TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d)(:\d\d)?(?:\.(\d{1,9}))? ?([Zz]|[+-]\d\d:?\d\d|[+-]\d\d)?", re.ASCII
)
GLUCOSE_RULES: tuple[tuple[str, str, float, Callable[[float, float], bool]], ...] = (
    ("glucose_high", "warning", 115.0, lambda value, mean: value > 115),
    ("glucose_average_high", "warning", 105.0, lambda value, mean: mean > 105),
    ("glucose_urgent_high", "urgent", 250.0, lambda value, mean: value > 250),
    ("glucose_low", "warning", 70.0, lambda value, mean: value < 70),
    ("glucose_urgent_low", "urgent", 54.0, lambda value, mean: value < 54),
)


class Refused(Exception):
    """A member that belongs into quarantine; the message is the reason."""


class Event(NamedTuple):
    """One row of bronze."""

    partition: int
    sequence_number: int
    received_at: datetime
    pulled_at: datetime
    body: bytes


@dataclass
class Expected:
    """What the tables must hold, row by row."""

    silver: list[Row] = field(default_factory=list)
    quarantine: list[Row] = field(default_factory=list)
    alerts: list[Row] = field(default_factory=list)
    duplicates: Counter[date] = field(default_factory=Counter)
    readings: int = 0


class Broken(NamedTuple):
    """A rule that a reading breaks, and what its alert says besides the reading."""

    rule: str
    severity: str
    threshold: float
    told: Row


class Domain(NamedTuple):
    """What differs between streams.

    `broken` says which rules a reading breaks, given all of its patient's readings that are known; None in place of
    those for a reading that contradicts another one.
    """

    read: Callable[[Mapping[str, Any]], Row]
    key: tuple[str, ...]
    values: tuple[str, ...]
    broken: Callable[[Row, Known | None], list[Broken]] | None = None


def expected(events: Iterable[Event], domain: Domain) -> Expected:
    """Recomputes everything from bronze."""
    tables = Expected()
    standing: dict[tuple[Any, ...], Row] = {}
    by_patient: dict[int, Known] = defaultdict(list)
    alert_ids: set[str] = set()
    ordered = sorted(events, key=lambda event: (event.pulled_at, event.partition, event.sequence_number))
    for _, batch in groupby(ordered, key=lambda event: event.pulled_at):
        new = [(row, stands) for event in batch for row, stands in settle(event, domain, standing, tables)]
        tables.silver += [row for row, stands in new if stands]
        if domain.broken:
            for row, stands in new:
                if stands:
                    insort(by_patient[row["patient_id"]], row, key=lambda each: each["measured_at"])
            for row, stands in new:
                broken = domain.broken(row, by_patient[row["patient_id"]] if stands else None)
                if stands or any(each.severity == "urgent" for each in broken):
                    tables.alerts += _alerts(row, broken, alert_ids, stands=stands)
    return tables


def settle(
    event: Event, domain: Domain, standing: dict[tuple[Any, ...], Row], tables: Expected
) -> Iterator[tuple[Row, bool]]:
    """The readings of an event that stand, and those that contradict one; others are quarantined or counted only."""
    place: Row = {
        "partition": event.partition,
        "sequence_number": event.sequence_number,
        "received_at": event.received_at,
        "ingest_date": event.pulled_at.date(),
        "hub_epoch": 0,
    }
    for index, member in enumerate(members(event.body)):
        tables.readings += 1
        try:
            row: Row = place | {"event_index": index} | domain.read(_object(member))
            if row["measured_at"] > event.received_at + WINDOW:
                raise Refused("in_the_future")
            first = standing.setdefault(tuple(row[name] for name in domain.key), row)
            if first is row:
                yield row | {"event_date": row["measured_at"].date()}, True
            elif any(row[name] != first[name] for name in domain.values):
                yield row | {"event_date": row["measured_at"].date()}, False
                raise Refused("conflicting_duplicate")
            else:
                tables.duplicates[event.pulled_at.date()] += 1
        except Refused as refused:
            tables.quarantine.append(place | {"event_index": index, "reason": str(refused)} | _raw(event.body))


def _raw(body: bytes | None) -> Row:
    if body is None:
        return {"body": None, "body_bytes": None}
    try:
        return {"body": body.decode(), "body_bytes": None}
    except UnicodeDecodeError:
        return {"body": None, "body_bytes": body}


class _Bad(NamedTuple):
    reason: str


def members(body: bytes | None) -> list[Any]:
    """What a body holds: JSON values, or why there is none."""
    if body is None:
        return [_Bad("tombstone")]
    if body[:2] == b"\x1f\x8b":
        unpacked = _unpacked(body)
        if unpacked is None:
            return [_Bad("bad_gzip")]
        body = unpacked
    text = _stripped(body[3:] if body[:3] == b"\xef\xbb\xbf" else body)
    document = _json(text)
    if document != _Bad("not_json"):
        return document if isinstance(document, list) and document else [document]
    lines = [line for line in map(_stripped, text.split(b"\n")) if line]
    found = [member for line in lines for member in _objects(line)]
    is_lines = len(lines) > 1 and {line[:1] for line in lines} == {b"{"} and set(map(type, found)) != {_Bad}
    found = found if is_lines else _objects(text)
    return [OneOfSeveral(each) if isinstance(each, dict) else each for each in found]


class OneOfSeveral(dict[str, Any]):
    """An object of a body with several documents. Adapters read those, so it may lack what readings of others may."""


def _objects(text: bytes) -> list[Any]:
    """What a text holds: one JSON document, or several objects with nothing but white space between them."""
    ends = [place for place, byte in enumerate(text, 1) if byte == ord("}")]
    found: list[Any] = []
    start = 0
    for end in ends:
        part = _json(text[start:end])
        if isinstance(part, dict):
            found.append(part)
            start = end
    return found if len(found) > 1 and not text[start:].strip(b" \t\n\r") else [_json(text)]


def _unpacked(packed: bytes) -> bytes | None:
    found = b""
    room = min(GZIP_ROOM, max(16 * 1024, 100 * len(packed)))
    while packed.strip(b"\0"):
        member = zlib.decompressobj(16 + zlib.MAX_WBITS)
        try:
            found += member.decompress(packed)
        except zlib.error:
            return None
        if not member.eof or len(found) > room:
            return None
        packed = member.unused_data.lstrip(b"\0")
    return found


def _stripped(text: bytes) -> bytes:
    return text.lstrip().rstrip(b" \t\n\r\v\f\0")


def _json(text: bytes) -> Any:
    def refuse(constant: str) -> float:
        raise ValueError(constant)

    try:
        return json.loads(text.decode(), parse_constant=refuse, parse_int=_digits)
    except (ValueError, RecursionError):
        return _Bad("not_json")


def _digits(digits: str) -> float:
    return int(digits) if len(digits) < 4000 else float(digits)


def _object(member: Any) -> Mapping[str, Any]:
    if isinstance(member, _Bad):
        raise Refused(member.reason)
    if not isinstance(member, dict):
        raise Refused("not_an_object")
    return member


def _alerts(row: Row, broken: list[Broken], seen: set[str], *, stands: bool) -> Iterator[Row]:
    for rule, severity, threshold, told in broken:
        numbers = struct.pack(
            "<Qqq",
            xxhash.xxh3_64_intdigest(f"{rule}|1".encode()),
            row["patient_id"],
            (row["measured_at"] - EPOCH) // MICROSECOND,
        )
        alert_id = str(xxhash.xxh3_128_intdigest(numbers))
        if alert_id not in seen:
            seen.add(alert_id)
            yield {
                **{name: value for name, value in row.items() if name not in NOT_IN_ALERTS},
                "alert_id": alert_id,
                "rule": rule,
                "rule_version": 1,
                "severity": severity,
                "threshold": threshold,
                "is_revision": not stands,
                **told,
            }


def _within(known: Known, end: datetime, length: timedelta) -> Known:
    first, last = (bisect_right(known, moment, key=lambda each: each["measured_at"]) for moment in (end - length, end))
    return known[first:last]


def broken_by_glucose(row: Row, known: Known | None) -> list[Broken]:
    """The rules of the glucose stream."""
    value, mean = row["glucose_mg_dl"], math.nan if known is None else mean_of(row["measured_at"], known)
    return [
        Broken(rule, severity, threshold, {"mean_10_min": mean if rule == "glucose_average_high" else None})
        for rule, severity, threshold, is_broken in GLUCOSE_RULES
        if is_broken(value, mean)
    ]


def mean_of(at: datetime, known: Known) -> float:
    """A patient's mean glucose of ten minutes, the reading at `at` included."""
    window = [round(each["glucose_mg_dl"] * 1e6) for each in _within(known, at, WINDOW)]
    mean: float = sum(window) / (len(window) * 1_000_000)
    return mean


def read_glucose(member: Mapping[str, Any]) -> Row:
    """A glucose reading, as the payload's description says."""
    patient, device = (_int(member, name) for name in ("patient_id", "device_id"))
    level, timestamp = (_number_or_text(member, name) for name in ("glucose_level", "timestamp"))
    location, unit = (_text(member, name) for name in ("location", "unit"))
    flag, number, own_unit = _level(level, unit)
    if unit is not None and _unit(unit) is None:
        raise Refused("bad_type:unit")
    if own_unit and unit is not None and _unit(unit) != own_unit:
        raise Refused("bad_type:unit")
    known_unit = own_unit or (None if unit is None else _unit(unit))
    value = {"below": 39.0, "above": 401.0}[flag] if flag else _mg_dl(number, known_unit)
    if not 0 < value <= 1000:
        raise Refused("implausible")
    if number is not None and number % 1 and known_unit is None and number < 34:
        raise Refused("implausible_unit")
    if value < 20:
        raise Refused("implausible" if known_unit == "mmol/L" or value % 1 else "sensor_code")
    return {
        "patient_id": patient,
        "device_id": device,
        "measured_at": instant(timestamp),
        "glucose_mg_dl": value,
        "range_flag": flag,
        "location": location,
        "reported_value": number,
        "reported_unit": known_unit,
    }


def _unit(text: str) -> str | None:
    return UNITS.get(text.strip().lower())


def _mg_dl(number: Any, unit: str | None) -> float:
    if unit == "mmol/L" and number < 1e300:
        return float(round(number * 18.0182))
    return float(number)


def _level(level: float | str, unit: str | None) -> tuple[str | None, float | None, str | None]:
    """Which end of the range a level says, or which number, and the unit that it names itself."""
    if not isinstance(level, str):
        return None, float(level), None
    text = level.strip().lower()
    if NUMBER.fullmatch(text):
        return None, float(text), None
    own_unit = None
    for spelling in sorted(UNITS, key=len, reverse=True):
        if text.endswith(spelling):
            text, own_unit = text.removesuffix(spelling).rstrip(" "), UNITS[spelling]
            break
    if text in BELOW or text in ABOVE:
        return "below" if text in BELOW else "above", None, own_unit
    if match := COMPARISON.fullmatch(text):
        limit, limit_unit = float(match[2]), own_unit or _unit(unit or "")
        if limit_unit is None and limit % 1 and limit < 34:
            limit_unit = "mmol/L"
        limit = _mg_dl(limit, limit_unit)
        if match[1] == "<" and 0 < limit <= 54:
            return "below", None, own_unit
        if match[1] == ">" and 250 <= limit <= 1000:
            return "above", None, own_unit
    raise Refused("bad_type:glucose_level")


def read_device(member: Mapping[str, Any]) -> Row:
    """A device's report, as the payload's description says."""
    device, timestamp = _int(member, "device_id"), _number_or_text(member, "timestamp")
    battery = _number(member, "battery_level")
    firmware, status, errors = (
        _text(member, name, is_required=not isinstance(member, OneOfSeveral))
        for name in ("firmware_version", "connectivity_status", "error_codes")
    )
    if status is not None and status not in ("Connected", "Disconnected", "Poor Connection"):
        raise Refused("bad_type:connectivity_status")
    if errors is not None and errors not in ("", "Err1", "Err2", "Err3"):
        raise Refused("bad_type:error_codes")
    if firmware is not None and not re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+", firmware):
        raise Refused("bad_type:firmware_version")
    if not 0 <= battery <= 100:
        raise Refused("implausible")
    if 0 < battery < 1:
        raise Refused("implausible_unit")
    return {
        "device_id": device,
        "measured_at": instant(timestamp),
        "battery_level": float(battery),
        "firmware_version": firmware,
        "connectivity_status": status,
        "error_codes": errors,
    }


PLAUSIBLE = (
    ("heart_rate", "heart_rate_bpm", 20, 300),
    ("systolic_bp", "systolic_mmhg", 40, 300),
    ("diastolic_bp", "diastolic_mmhg", 20, 200),
    ("spo2", "spo2_percent", 40, 100),
    ("temperature", "temperature_c", 25, 45),
    ("respiratory_rate", "respiratory_rate_per_min", 2, 80),
    ("glucose_level", "glucose_mg_dl", 20, 1000),
)
STATES = {"alert": "A", "confusion": "C", "confused": "C", "voice": "V", "pain": "P", "unresponsive": "U"}
STATES |= {"new confusion": "C", "new-onset confusion": "C", "newly confused": "C", "verbal": "V"}
FLAGS = ("is_sport_mode", "is_on_oxygen", "consciousness")


def read_vitals(member: Mapping[str, Any]) -> Row:
    """Vital signs, as the payload's description says."""
    patient, timestamp = _int(member, "patient_id"), _number_or_text(member, "timestamp")
    device = _int(member, "device_id") if member.get("device_id") is not None else None
    names = ("heart_rate", "pulse", *(name for name, *_ in PLAUSIBLE[1:]))
    sent = {name: None if member.get(name) is None else _number(member, name) for name in names}
    unit = _text(member, "unit")
    sport, oxygen = (_bool(member, name) for name in ("sport_mode", "on_oxygen"))
    said = _text(member, "consciousness")
    scale = None if unit is None else unit.strip().lower().strip("[]").removeprefix("°").removeprefix("deg")
    if scale not in (None, "f", "fahrenheit", "c", "cel", "celsius"):
        raise Refused("bad_type:unit")
    word = None if said is None else said.strip().lower()
    state = None if word is None else STATES.get(word, word.upper())
    if state is not None and state not in tuple("ACVPU"):
        raise Refused("bad_type:consciousness")
    values = {column: sent[name] for name, column, *_ in PLAUSIBLE}
    if values["heart_rate_bpm"] is None:
        values["heart_rate_bpm"] = sent["pulse"]
    if values["spo2_percent"] is not None and 0 <= values["spo2_percent"] <= 1:
        values["spo2_percent"] = round(values["spo2_percent"] * 100, 6)
    if values["temperature_c"] is not None and scale in ("f", "fahrenheit"):
        values["temperature_c"] = round((values["temperature_c"] - 32) / 1.8, 2)
    if not any(value is not None for value in (*values.values(), oxygen, state)):
        raise Refused("no_measurement")
    for name, column, lowest, highest in PLAUSIBLE:
        value = values[column]
        if value is not None and not (lowest <= value <= highest and _is_likely(name, value, values["systolic_mmhg"])):
            raise Refused(f"implausible:{name}")
    return {
        "patient_id": patient,
        "device_id": device,
        "measured_at": instant(timestamp),
        **values,
        "is_sport_mode": sport,
        "is_on_oxygen": oxygen,
        "consciousness": state,
    }


def _is_likely(name: str, value: float, systolic: float | None) -> bool:
    if name == "diastolic_bp":
        return systolic is None or value < systolic
    return not (name == "glucose_level" and value < 34 and value % 1)


VITALS_RULES: tuple[tuple[str, str, float, str, Callable[[float], bool]], ...] = (
    ("heart_rate_high", "warning", 100.0, "heart_rate_bpm", lambda value: value > 100),
    ("systolic_high", "warning", 130.0, "systolic_mmhg", lambda value: value > 130),
    ("vitals_glucose_high", "warning", 120.0, "glucose_mg_dl", lambda value: value > 120),
    ("spo2_low", "warning", 92.0, "spo2_percent", lambda value: value < 92),
    ("spo2_urgent_low", "urgent", 88.0, "spo2_percent", lambda value: value < 88),
    ("temperature_high", "warning", 38.0, "temperature_c", lambda value: value > 38.0),
    ("temperature_urgent_high", "urgent", 39.1, "temperature_c", lambda value: value >= 39.1),
    ("temperature_urgent_low", "urgent", 35.0, "temperature_c", lambda value: value <= 35.0),
    ("respiratory_rate_urgent_high", "urgent", 25.0, "respiratory_rate_per_min", lambda value: value >= 25),
    ("respiratory_rate_urgent_low", "urgent", 8.0, "respiratory_rate_per_min", lambda value: value <= 8),
)
NEWS2_WORSE: dict[str, Callable[..., Any]] = {
    "respiratory_rate_per_min": max,
    "spo2_percent": min,
    "is_on_oxygen": max,
    "systolic_mmhg": min,
    "heart_rate_bpm": max,
    "consciousness": max,
    "temperature_c": max,
}


def broken_by_vitals(row: Row, known: Known | None) -> list[Broken]:
    """The rules of the vitals stream."""
    found = [
        Broken(rule, severity, threshold, {})
        for rule, severity, threshold, column, is_broken in VITALS_RULES
        if row[column] is not None
        and is_broken(row[column])
        and not (rule == "heart_rate_high" and row["is_sport_mode"])
    ]
    told = {} if known is None else news2_of(row["measured_at"], known)
    if told.get("news2_score") is not None:
        limits = (("news2_medium", "warning", 5), ("news2_high", "urgent", 7))
        found += [Broken(*each, told) for each in limits if told["news2_score"] >= each[2]]
    return found


def news2_of(at: datetime, known: Known) -> Row:
    """The early warning score of a patient from the readings of the last five minutes."""
    window = _within(known, at, timedelta(minutes=5))
    told: Row = {}
    for name, worse in NEWS2_WORSE.items():
        measured = [each for each in window if each[name] is not None]
        last = max((each["measured_at"] for each in measured), default=None)
        values = [each[name] for each in measured if each["measured_at"] == last]
        assumed = {"is_on_oxygen": False, "consciousness": "A"}.get(name)
        told[f"news2_{name}"] = worse(values) if values else assumed
        told[f"news2_{name}_age_s"] = (at - last).total_seconds() if last else None
        told[f"news2_{name}_points"] = news2_points(name, told[f"news2_{name}"])
    points = [told[f"news2_{name}_points"] for name in NEWS2_WORSE]
    if None in points:
        return {"news2_score": None}
    score = sum(points)
    risk = "high" if score >= 7 else "medium" if score >= 5 else "low-medium" if 3 in points else "low"
    return told | {"news2_score": score, "news2_risk": risk}


NEWS2_TABLE: dict[str, tuple[tuple[str, int], ...]] = {
    "respiratory_rate_per_min": (("-8", 3), ("9-11", 1), ("12-20", 0), ("21-24", 2), ("25-", 3)),
    "spo2_percent": (("-91", 3), ("92-93", 2), ("94-95", 1), ("96-", 0)),
    "systolic_mmhg": (("-90", 3), ("91-100", 2), ("101-110", 1), ("111-219", 0), ("220-", 3)),
    "heart_rate_bpm": (("-40", 3), ("41-50", 1), ("51-90", 0), ("91-110", 1), ("111-130", 2), ("131-", 3)),
    "temperature_c": (("-35.0", 3), ("35.1-36.0", 1), ("36.1-38.0", 0), ("38.1-39.0", 1), ("39.1-", 2)),
}
"""The published table: from and to, both included, and the points."""


def news2_points(name: str, value: Any) -> int | None:
    """The points of one parameter, looked up in the published table."""
    if value is None:
        return None
    if name == "is_on_oxygen":
        return 2 if value else 0
    if name == "consciousness":
        return 0 if value == "A" else 3
    step = Decimal("0.1") if name == "temperature_c" else Decimal(1)
    # As a person would read it: to millionths, then halves upwards.
    rounded = Decimal(f"{value:.6f}").quantize(step, ROUND_HALF_UP)
    for band, points in NEWS2_TABLE[name]:
        low, high = band.split("-")
        if (not low or rounded >= Decimal(low)) and (not high or rounded <= Decimal(high)):
            return points
    raise AssertionError(f"{name} {value} is in no band")


GLUCOSE = Domain(read_glucose, ("patient_id", "device_id", "measured_at"), ("glucose_mg_dl",), broken_by_glucose)
DEVICES = Domain(
    read_device,
    ("device_id", "measured_at"),
    ("battery_level", "firmware_version", "connectivity_status", "error_codes"),
)
VITALS = Domain(
    read_vitals,
    ("patient_id", "device_id", "measured_at"),
    (*(column for _, column, *_ in PLAUSIBLE), *FLAGS),
    broken_by_vitals,
)


def instant(value: float | str) -> datetime:
    """A timestamp in any of the forms that a payload may have."""
    found = _from_text(value) if isinstance(value, str) else _from_epoch(value)
    if found is None or found < OLDEST:
        raise Refused("bad_timestamp")
    return found


def _from_text(text: str) -> datetime | None:
    if re.fullmatch(r"[0-9]{10,16}(\.[0-9]{1,9})?", text):
        return _from_epoch(float(text))
    if dot_net := re.fullmatch(r"/Date\(([0-9]{1,15})([+-][0-9]{4})?\)/", text):
        return _after(float(dot_net[1]) * 1000)
    if not (match := TIME.fullmatch(text)):
        return None
    day, minutes, seconds, fraction, zone = match.groups()
    if seconds is None and fraction is not None:
        return None
    is_leap = seconds == ":60"
    try:
        local = datetime.fromisoformat(f"{day}T{minutes}{':59' if is_leap else seconds or ':00'}").replace(tzinfo=UTC)
    except ValueError:
        return None
    if zone in (None, "Z", "z"):
        ahead = timedelta(0)
    else:
        digits = zone[1:].replace(":", "").ljust(4, "0")
        if int(digits[:2]) > 23 or int(digits[2:]) > 59:
            return None
        ahead = timedelta(hours=int(digits[:2]), minutes=int(digits[2:])) * (-1 if zone[0] == "-" else 1)
    try:
        whole = local - ahead + timedelta(seconds=is_leap)
    except OverflowError:  # before the year 1, or after 9999
        return None
    if is_leap and (whole - EPOCH) % timedelta(days=1):
        return None
    return whole + timedelta(microseconds=int((fraction or "0").ljust(6, "0")[:6]))


def _from_epoch(value: float) -> datetime | None:
    """Seconds from 2010 to 2106, milliseconds from 2010 to 9999, or microseconds from 2010 to 2106."""
    if 1_262_304_000 <= value <= 4_294_967_295:
        return _after(float(value) * 1_000_000)
    if 1_262_304_000_000 <= value <= 253_402_300_799_999:
        return _after(float(value) * 1000)
    if 1_262_304_000_000_000 <= value <= 4_294_967_295_000_000:
        return _after(float(value))
    return None


def _after(microseconds: float) -> datetime | None:
    try:
        return EPOCH + timedelta(microseconds=round(microseconds))
    except OverflowError:
        return None


def _present(member: Mapping[str, Any], name: str) -> Any:
    if member.get(name) is None:
        raise Refused(f"missing_field:{name}")
    return member[name]


def _int(member: Mapping[str, Any], name: str) -> int:
    value = _present(member, name)
    if type(value) is not int or not -(2**63) <= value < 2**63:
        raise Refused(f"bad_type:{name}")
    return value


def _number(member: Mapping[str, Any], name: str) -> float:
    value = _present(member, name)
    if type(value) not in (int, float):
        raise Refused(f"bad_type:{name}")
    try:
        return float(value)
    except OverflowError as error:
        raise Refused(f"bad_type:{name}") from error


def _number_or_text(member: Mapping[str, Any], name: str) -> float | str:
    value = _present(member, name)
    return _well_formed(value, name) if isinstance(value, str) else _number(member, name)


def _bool(member: Mapping[str, Any], name: str) -> bool | None:
    value = member.get(name)
    if value is not None and type(value) is not bool:
        raise Refused(f"bad_type:{name}")
    return value


def _text(member: Mapping[str, Any], name: str, *, is_required: bool = False) -> str | None:
    value = _present(member, name) if is_required else member.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise Refused(f"bad_type:{name}")
    return _well_formed(value, name)


def _well_formed(text: str, name: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Refused(f"bad_type:{name}") from error
    return text
