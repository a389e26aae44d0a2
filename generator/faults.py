"""Bodies that devices should never send, each with the quarantine reason it deserves.

A fault takes the readings that were meant and returns the body that goes out instead. Damage that hits one member of
an array leaves the others to be accepted. Nothing here chooses when a fault happens.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, NamedTuple

from generator.bodies import Reading, array, encode
from generator.events import CONFLICT

NOT_JSON = "not_json"
NOT_AN_OBJECT = "not_an_object"
BAD_TIMESTAMP = "bad_timestamp"
IN_THE_FUTURE = "in_the_future"
IMPLAUSIBLE = "implausible"
IMPLAUSIBLE_UNIT = "implausible_unit"
SENSOR_CODE = "sensor_code"
CONFLICTING_DUPLICATE = "conflicting_duplicate"
HARMLESS = ""


class Spoiled(NamedTuple):
    body: bytes
    reason: str
    readings: int
    quarantined: int


class Fault(NamedTuple):
    """`spoil(readings, previous, rng)`: `previous` is the last accepted reading of the same device; None in return
    means that the fault cannot happen yet."""

    label: str
    spoil: Callable[[list[Reading], Reading | None, Random], Spoiled | None]


class Shape(NamedTuple):
    """What the faults need to know of a stream's readings."""

    required: tuple[str, ...]
    whole: tuple[str, ...]
    """Fields that are whole numbers."""
    number: str
    """The field that is measured."""
    wrong: Mapping[str, Sequence[Any]]
    """By field, values of a type that it cannot have."""
    implausible: Sequence[float]
    refused: str = IMPLAUSIBLE
    """The reason for an implausible value."""


def whole_body(label: str, damage: Callable[[bytes, list[Reading], Random], bytes], reason: str = NOT_JSON) -> Fault:
    """The body as a whole is lost: one quarantine row, however many readings were meant."""

    def spoil(readings: list[Reading], previous: Reading | None, rng: Random) -> Spoiled:
        return Spoiled(damage(body_of(readings), readings, rng), reason, 1, 1)

    return Fault(label, spoil)


def one_member(label: str, damage: Callable[[Reading, Random], tuple[Reading, str]]) -> Fault:
    """One reading of the body is refused; an array's others are accepted."""

    def spoil(readings: list[Reading], previous: Reading | None, rng: Random) -> Spoiled:
        place = rng.randrange(len(readings))
        damaged, reason = damage(readings[place], rng)
        body = body_of([*readings[:place], damaged, *readings[place + 1 :]])
        return Spoiled(body, reason, len(readings), 0 if reason == HARMLESS else 1)

    return Fault(label, spoil)


def body_of(readings: list[Reading]) -> bytes:
    return encode(readings[0]) if len(readings) == 1 else array([encode(reading) for reading in readings])


def field(label: str, name: str, values: Sequence[Any], reason: str) -> Fault:
    """One field holds one of `values`."""
    return one_member(label, lambda reading, rng: (reading | {name: rng.choice(values)}, reason))


def common(shape: Shape) -> list[Fault]:
    """The faults that every stream of measurements knows."""
    return [
        *structural(shape.required, shape.wrong),
        one_member("fractional_id", lambda reading, rng: _replaced(reading, rng.choice(shape.whole), 2.9)),
        one_member("oversized_id", lambda reading, rng: _replaced(reading, rng.choice(shape.whole), 10**30)),
        whole_body("nan", lambda body, readings, rng: body_of([one | {shape.number: math.nan} for one in readings])),
        field("huge_number", shape.number, (1e300, -1e300, 10**15), shape.refused),
        field("implausible", shape.number, shape.implausible, shape.refused),
        field("bad_timestamp", "timestamp", NO_TIMES, BAD_TIMESTAMP),
        field("future", "timestamp", FAR_TIMES, IN_THE_FUTURE),
        *unusual(),
    ]


def structural(required: tuple[str, ...], wrong: Mapping[str, Sequence[Any]]) -> list[Fault]:
    """The faults of JSON as such: they need to know nothing of what the fields mean."""
    return [
        *UNREADABLE,
        bad_member(required),
        one_member("missing_field", lambda reading, rng: _without(reading, rng.choice(required))),
        one_member("null_field", lambda reading, rng: _nulled(reading, rng.choice(required))),
        one_member("wrong_type", lambda reading, rng: _mistyped(reading, rng, wrong)),
    ]


def unusual() -> list[Fault]:
    """Bodies that should not be sent either, but that can be read."""
    return [
        one_member("unknown_fields", _with_unknown_fields),
        Fault("bom", lambda readings, previous, rng: Spoiled(BOM + body_of(readings), HARMLESS, len(readings), 0)),
    ]


def conflict(other: Callable[[Reading, Random], Reading]) -> Fault:
    """The previous reading once more, but with another value."""

    def spoil(readings: list[Reading], previous: Reading | None, rng: Random) -> Spoiled | None:
        return None if previous is None else Spoiled(encode(other(previous, rng)), CONFLICTING_DUPLICATE, 1, 1)

    return Fault(CONFLICT, spoil)


def bad_member(required: tuple[str, ...]) -> Fault:
    """An array in which one member more than meant is no reading at all."""

    def spoil(readings: list[Reading], previous: Reading | None, rng: Random) -> Spoiled:
        intruder: Any = rng.choice((7, None, "reading", True, {}))
        reason = f"missing_field:{required[0]}" if intruder == {} else NOT_AN_OBJECT
        place = rng.randrange(len(readings) + 1)
        members = [encode(reading) for reading in readings]
        members.insert(place, encode(intruder))
        return Spoiled(array(members), reason, len(members), 1)

    return Fault("bad_member", spoil)


NO_TIMES = ("yesterday", "", "2024-13-45 99:00:00", "01/02/2024 10:00")
FAR_TIMES = ("2099-01-01 00:00:00", "2099-06-30T12:00:00+02:00", 4_070_908_800_000)
BOM = b"\xef\xbb\xbf"
UNREADABLE = (
    whole_body("truncated_json", lambda body, readings, rng: body[: rng.randrange(1, len(body))]),
    whole_body("python_repr", lambda body, readings, rng: repr(json.loads(body)).encode()),
    whole_body("invalid_utf8", lambda body, readings, rng: body.replace(b'"', b'"\xff\xfe', 1)),
    whole_body("empty_body", lambda body, readings, rng: rng.choice((b"", b" "))),
    whole_body("deep_nesting", lambda body, readings, rng: b"[" * 20_000),
    whole_body(
        "non_object", lambda body, readings, rng: rng.choice((b"42", b'"reading"', b"null", b"true")), NOT_AN_OBJECT
    ),
)


def _without(reading: Reading, name: str) -> tuple[Reading, str]:
    return {key: value for key, value in reading.items() if key != name}, f"missing_field:{name}"


def _nulled(reading: Reading, name: str) -> tuple[Reading, str]:
    return reading | {name: None}, f"missing_field:{name}"


def _replaced(reading: Reading, name: str, value: Any) -> tuple[Reading, str]:
    return reading | {name: value}, f"bad_type:{name}"


def _mistyped(reading: Reading, rng: Random, wrong: Mapping[str, Sequence[Any]]) -> tuple[Reading, str]:
    name = rng.choice(tuple(wrong))
    return _replaced(reading, name, rng.choice(wrong[name]))


def _with_unknown_fields(reading: Reading, rng: Random) -> tuple[Reading, str]:
    extra = rng.choice(({"sensor_temperature": 33.1}, {"trend": "FLAT", "calibration": {"slope": 1.02}}, {"": None}))
    return reading | extra, HARMLESS
