"""From the events of bronze to what the oracle of alarms evaluates, and the rules of the streams as it knows them.

The rules are written down here once more and are not taken from the contracts.
"""

from bisect import insort
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from types import NoneType
from typing import Any, NamedTuple

from tests.alarms.oracle import Action, Batch, Evaluated, Level, Levels, Reading, Refusal, SilenceRule, evaluate, judged
from tests.stream import oracle
from tests.stream.oracle import Domain, Event, Expected, Known, Row, mean_of, members, news2_of, settle

MINUTE = timedelta(minutes=1)
CLOCK_IS_BEHIND = timedelta(seconds=1)
"""So far behind a session's clock deadlines pass."""
NUMBER_OR_TEXT: tuple[type, ...] = (int, float, str)
OR_TEXT: tuple[type, ...] = (str, NoneType)

LOOKS_AT: Mapping[str, str | None] = {"mean_10_min": "glucose_mg_dl", "news2_score": None}
"""What other columns than measurements follow from."""
GLUCOSE_RULES = """
glucose_high         glucose_high glucose_mg_dl above 115 warning 110 -
glucose_average_high glucose_high mean_10_min   above 105 warning 100 -
glucose_urgent_high  glucose_high glucose_mg_dl above 250 urgent  240 -
glucose_low          glucose_low  glucose_mg_dl below 70  warning 75  -
glucose_urgent_low   glucose_low  glucose_mg_dl below 54  urgent  60  -
"""
VITALS_RULES = """
heart_rate_high              heart_rate_high       heart_rate_bpm           above    100  warning 95   is_sport_mode
systolic_high                systolic_high         systolic_mmhg            above    130  warning 127  -
vitals_glucose_high          vitals_glucose_high   glucose_mg_dl            above    120  warning 115  -
spo2_low                     spo2_low              spo2_percent             below    92   warning 93   -
spo2_urgent_low              spo2_low              spo2_percent             below    88   urgent  90   -
temperature_high             temperature_high      temperature_c            above    38.0 warning 37.8 -
temperature_urgent_high      temperature_high      temperature_c            at_least 39.1 urgent  38.8 -
temperature_urgent_low       temperature_low       temperature_c            at_most  35.0 urgent  35.3 -
respiratory_rate_urgent_high respiratory_rate_high respiratory_rate_per_min at_least 25   urgent  24   -
respiratory_rate_urgent_low  respiratory_rate_low  respiratory_rate_per_min at_most  8    urgent  9    -
news2_medium                 news2                 news2_score              at_least 5    warning -    -
news2_high                   news2                 news2_score              at_least 7    urgent  -    -
"""


def _silence(rule_id: str, minutes: float) -> Level:
    no_time = timedelta(0)
    return Level(
        rule_id, "silent_minutes", "at_least", minutes, "warning", "silence", None, no_time, no_time, None, None
    )


class Stream(NamedTuple):
    """What differs between streams.

    `fields` are the payload's, with their types. `derived` is given a reading and all readings of its patient that are
    known.
    """

    name: str
    domain: Domain
    entity: str
    levels: tuple[Level, ...]
    silence: Level
    max_age: timedelta
    fields: Mapping[str, tuple[type, ...]]
    derived: Callable[[Row, Known], Mapping[str, Any]]


def _levels(
    text: str, max_age: int, clear_after: int, remind_every: Mapping[str, int], escalate_after: Mapping[str, int]
) -> tuple[Level, ...]:
    """Rules from lines of: id, cause, column, comparison, threshold, severity, clear threshold, exception; times in
    minutes, by severity."""
    found = []
    for line in text.strip().splitlines():
        rule_id, cause, column, comparison, threshold, severity, clear, unless = line.split()
        remind, escalate = (each.get(severity) for each in (remind_every, escalate_after))
        found.append(
            Level(
                rule_id,
                column,
                comparison,
                float(threshold),
                severity,
                cause,
                None if clear == "-" else float(clear),
                max_age * MINUTE,
                clear_after * MINUTE,
                None if remind is None else remind * MINUTE,
                None if escalate is None else escalate * MINUTE,
                None if unless == "-" else unless,
                looks_at=LOOKS_AT.get(column, column),
            )
        )
    return tuple(found)


GLUCOSE = Stream(
    "glucose_readings",
    oracle.GLUCOSE,
    "patient_id",
    _levels(
        GLUCOSE_RULES,
        max_age=15,
        clear_after=10,
        remind_every={"urgent": 15, "warning": 60},
        escalate_after={"urgent": 15},
    ),
    _silence("glucose_silence", 30),
    15 * MINUTE,
    {"patient_id": (int,), "device_id": (int,), "glucose_level": NUMBER_OR_TEXT, "timestamp": NUMBER_OR_TEXT}
    | dict.fromkeys(("location", "unit"), OR_TEXT),
    lambda row, known: {"mean_10_min": mean_of(row["measured_at"], known)},
)
VITALS = Stream(
    "vitals",
    oracle.VITALS,
    "patient_id",
    _levels(
        VITALS_RULES,
        max_age=5,
        clear_after=2,
        remind_every={"urgent": 5, "warning": 30},
        escalate_after={"urgent": 5},
    ),
    _silence("vitals_silence", 5),
    5 * MINUTE,
    {"patient_id": (int,), "device_id": (int, NoneType), "timestamp": NUMBER_OR_TEXT}
    | dict.fromkeys(("pulse", *(name for name, *_ in oracle.PLAUSIBLE)), (int, float, NoneType))
    | dict.fromkeys(("sport_mode", "on_oxygen"), (bool, NoneType))
    | dict.fromkeys(("consciousness", "unit"), OR_TEXT),
    lambda row, known: news2_of(row["measured_at"], known),
)
DEVICES = Stream(
    "device_readings",
    oracle.DEVICES,
    "device_id",
    (),
    _silence("device_silence", 60),
    60 * MINUTE,
    {"device_id": (int,), "timestamp": NUMBER_OR_TEXT, "battery_level": (int, float)}
    | dict.fromkeys(("firmware_version", "connectivity_status", "error_codes"), (str,)),
    lambda row, known: {},
)


def batches_of(
    stream: Stream,
    events: Iterable[Event],
    idle_at: Iterable[datetime] = (),
    actions: Iterable[tuple[datetime, Action]] = (),
) -> list[Batch]:
    """The micro-batches of bronze.

    Args:
        stream: whose events.
        events: what bronze holds.
        idle_at: instants of the session's clock at which the hub had nothing more.
        actions: what people did, and when the session learned of it; in order.
    """
    standing: dict[tuple[Any, ...], Row] = {}
    known: dict[int, Known] = defaultdict(list)
    found: list[tuple[datetime, Batch]] = []
    ordered = sorted(events, key=lambda event: (event.pulled_at, event.partition, event.sequence_number))
    for pulled_at, pulled in groupby(ordered, key=lambda event: event.pulled_at):
        batch = list(pulled)
        reached: dict[int, datetime] = {}
        for event in batch:
            reached[event.partition] = max(event.received_at, reached.get(event.partition, event.received_at))
        found.append((pulled_at, Batch(_read(stream, batch, standing, known), reached)))
    found += [(at, Batch(idle_at=at - CLOCK_IS_BEHIND)) for at in idle_at]
    found += [(at, Batch(actions=(action,))) for at, action in actions]
    return [batch for _, batch in sorted(found, key=lambda each: each[0])]


def evaluated(
    stream: Stream, batches: Sequence[Batch], levels: Levels | None = None, silence: SilenceRule | None = None
) -> Evaluated:
    """The transitions of a stream, by its own rules unless others are given."""
    return evaluate(
        stream.name,
        batches,
        levels or (lambda reading: stream.levels),
        silence or (lambda reading: stream.silence),
        stream.max_age,
    )


def with_rules(stream: Stream, **changes: Any) -> Levels:
    """All of a stream's rules, changed alike."""
    levels = [level._replace(**changes) for level in stream.levels]
    return lambda reading: levels


def _read(
    stream: Stream, batch: Sequence[Event], standing: dict[tuple[Any, ...], Row], known: dict[int, Known]
) -> list[Reading | Refusal]:
    tables, pulled_at = Expected(), batch[0].pulled_at
    new = [(row, stands) for event in batch for row, stands in settle(event, stream.domain, standing, tables)]
    for row, stands in new:
        if stands:
            insort(known[row[stream.entity]], row, key=lambda each: each["measured_at"])
    read: dict[tuple[int, int, int], Reading | Refusal] = {}
    for row in tables.quarantine:
        if row["reason"] != "conflicting_duplicate" and (entity := _entity(stream, row)) is not None:
            read[_position(row)] = Refusal(entity, row["received_at"], _position(row), pulled_at)
    for row, stands in new:
        values = {**row, **(stream.derived(row, known[row[stream.entity]]) if stands else {})}
        if stands or _is_urgent(stream, values):
            place = _position(row)
            read[place] = Reading(
                row[stream.entity],
                row["measured_at"],
                row["received_at"],
                place,
                pulled_at,
                values,
                is_revision=not stands,
            )
    return [read[position] for position in sorted(read)]


def _position(row: Row) -> tuple[int, int, int]:
    return row["partition"], row["sequence_number"], row["event_index"]


def _entity(stream: Stream, quarantined: Row) -> int | None:
    """Whose reading was refused, if it could be decoded: all of its fields have the types of the payload."""
    body = quarantined["body_bytes"] if quarantined["body"] is None else quarantined["body"].encode()
    member = members(body)[quarantined["event_index"]]
    if not isinstance(member, dict):
        return None
    is_decoded = all(_fits(member.get(name), types) for name, types in stream.fields.items())
    return member[stream.entity] if is_decoded else None


def _fits(value: Any, types: tuple[type, ...]) -> bool:
    if type(value) is int and int in types:
        return abs(value) < 10**308 if float in types else -(2**63) <= value < 2**63
    return type(value) in types and not (isinstance(value, str) and any(0xD800 <= ord(one) < 0xE000 for one in value))


def _is_urgent(stream: Stream, values: Mapping[str, Any]) -> bool:
    """Whether a reading by itself, without windows and scores, breaks an urgent rule."""
    return any(
        level.severity == "urgent" and values.get(level.column) is not None and judged(level, values) == "true"
        for level in stream.levels
    )
