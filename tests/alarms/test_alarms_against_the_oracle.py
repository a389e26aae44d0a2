"""Real sessions on real tables: what happens to alarms is what was worked out by hand, and what the oracle says."""

import tempfile
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any
from zlib import crc32

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assets.alarms import decisions
from assets.glucose.assets import CONTRACT
from assets.reference.rules import Wanted
from assets.reference_store import put_rules
from generator.events import Event as Generated
from generator.streams import events
from tests.alarms.cases import CASES, MINUTE, Case, Do, Sent, action_of, at, bodies, g, in_order, pulled_at, told
from tests.alarms.engine import World, differences
from tests.alarms.inputs import CLOCK_IS_BEHIND, DEVICES, GLUCOSE, VITALS, Stream
from tests.alarms.oracle import Action, Level, Reading, Row
from tests.stream.rule_rows import LONG_AGO, holding
from tests.stream.scenarios import NOON

pytestmark = pytest.mark.slow

APART = 100
"""So far apart are the patients of two cases."""
TOLD = ("raised", "worsened", "reminded", "escalated", "cleared")
"""What people are told of."""
ORIGINAL = ("glucose_high", "glucose_average_high")
OF_THE_CLOCK = ("escalated", "stale", "cleared")
TOGETHER = [case for case in CASES if case.pauses]


@dataclass(frozen=True)
class Together:
    """All cases of a stream in one lake, each with patients of its own, and what was found."""

    found: Mapping[int, list[Row]]
    differences: list[str]


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Together]:
    streams = (GLUCOSE, VITALS, DEVICES)
    return {stream.name: _together(tmp_path_factory.mktemp(stream.name), stream) for stream in streams}


def _together(folder: Path, stream: Stream) -> Together:
    """Plays all cases of a stream at once, with a session at each instant at which one of them has a micro-batch."""
    world = World(folder, stream)
    due: dict[datetime, list[tuple[int, Sent | Do]]] = defaultdict(list)
    for number, case in enumerate(CASES):
        if case in TOGETHER and case.stream is stream:
            for pulled, batch in zip(pulled_at(case), case.batches, strict=True):
                due[pulled] += [(number, one) for one in batch]
            if case.end is not None:
                due.setdefault(at(case.end) + CLOCK_IS_BEHIND, [])
    for instant in sorted(due):
        actions = []
        for place, (number, one) in enumerate(due[instant]):
            if isinstance(one, Do):
                actions.append(action_of(CASES[number], one, f"{instant} {place}", number * APART + 1))
            else:
                world.hub.send([bodies(_moved(one, number, stream))], at(one.received), number % 2)
        if actions:
            world.act(instant, actions)
        else:
            world.session(instant)
    found: dict[int, list[Row]] = defaultdict(list)
    for row in world.found():
        found[row["entity"] // APART].append(row | {"entity": row["entity"] % APART})
    return Together(found, world.differences())


def _moved(sent: Sent, number: int, stream: Stream) -> Sent:
    def moved(said: dict[str, Any]) -> dict[str, Any]:
        return said | {stream.entity: number * APART + said[stream.entity]}

    said = sent.said
    return sent._replace(said={"array": [moved(each) for each in said["array"]]} if "array" in said else moved(said))


@pytest.mark.parametrize("case", TOGETHER, ids=lambda case: case.name)
def test_what_was_worked_out_by_hand(worlds: Mapping[str, Together], case: Case) -> None:
    seen_until = max(max(pulled_at(case)) - CLOCK_IS_BEHIND, at(case.end or 0))
    found = [row for row in worlds[case.stream.name].found[CASES.index(case)] if not _is_later(row, seen_until)]
    assert in_order([told(row) for row in found]) == in_order(case.expected)


def _is_later(row: Row, seen_until: datetime) -> bool:
    """Whether the clock decided it when the case was over already, but others were not."""
    is_of_the_clock = row["kind"] in OF_THE_CLOCK or row["cause"] == "silence"
    return bool(is_of_the_clock and row["at"] > seen_until)


@pytest.mark.parametrize("stream", [GLUCOSE, VITALS, DEVICES], ids=lambda stream: stream.name)
def test_the_cases_together_are_what_the_oracle_says(worlds: Mapping[str, Together], stream: Stream) -> None:
    assert worlds[stream.name].differences == []


@pytest.mark.parametrize("case", [case for case in CASES if not case.pauses], ids=lambda case: case.name)
def test_what_was_worked_out_by_hand_in_one_session(tmp_path: Path, case: Case) -> None:
    world = World(tmp_path, case.stream)
    world.hub.take = 1
    for one in (one for batch in case.batches for one in batch if isinstance(one, Sent)):
        world.hub.send([bodies(one)], at(one.received), one.partition)
    world.session(max(pulled_at(case)))
    assert in_order([told(row) for row in world.found()]) == in_order(case.expected)
    assert world.differences() == []


VALUES: list[Any] = [
    45,
    53.9,
    54,
    57,
    60,
    65,
    69.9,
    70,
    74.9,
    75,
    80,
    100,
    103,
    105.1,
    110,
    112,
    116,
    241,
    260,
    4711,
    "n/a",
]
AGES: list[float] = [-10.5, -9, -2, 0, 0, 0, 0, 0, 1, 4, 12, 15, 15.1, 40]
"""Minutes from a measurement to its receipt; what is more than ten minutes ahead is refused."""
GAPS: list[float] = [0, 0, 0.1, 1, 2, 5, 5, 5, 10, 14, 16, 31, 70]
"""Minutes between two receipts."""


@st.composite
def arrivals(draw: st.DrawFn) -> list[Sent]:
    """Readings of three patients in two partitions, around thresholds; late, overtaken, repeated and contradictory."""
    sent: list[Sent] = []
    now = 0.0
    for gap in draw(st.lists(st.sampled_from(GAPS), min_size=1, max_size=30)):
        now = round(now + gap, 3)
        kind = draw(st.integers(0, 9))
        if kind == 0 and sent:
            said = draw(st.sampled_from(sent)).said
            change = draw(st.sampled_from([{}, {"glucose_level": draw(st.sampled_from(VALUES))}]))
            sent.append(Sent(now, said | change, said["patient_id"] % 2))
        else:
            patient, age = draw(st.sampled_from([1, 1, 2, 3])), draw(st.sampled_from(AGES))
            device = draw(st.sampled_from([10, 10, 10, 11]))
            value = draw(st.sampled_from(VALUES))
            sent.append(g(round(now - age, 3), value, now, patient, device, patient % 2))
    return sent


@given(data=st.data())
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_comes_however_it_is_cut_is_what_the_oracle_says(data: st.DataObject) -> None:
    sent = data.draw(arrivals())
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), GLUCOSE)
        world.hub.take = data.draw(st.sampled_from([1, 3, 1000]))
        while sent:
            count = data.draw(st.integers(1, len(sent)))
            part, sent = sent[:count], sent[count:]
            for one in part:
                world.hub.send([bodies(one)], at(one.received), one.partition)
            ahead = (sent[0].received if sent else part[-1].received + 200) - part[-1].received
            waits = data.draw(st.sampled_from([0.0, 0.5, 0.99]))
            world.session(at(part[-1].received + waits * ahead) + CLOCK_IS_BEHIND)
        assert world.differences() == []


def test_refused_readings_of_one_instant_are_known_after_a_restart(tmp_path: Path) -> None:
    world = World(tmp_path, GLUCOSE)
    world.hub.take = 1
    # At minute 31 what was measured at 10.5 is accepted, and what says 41.5 is ahead and refused.
    measured = [(0, 10.5), (0, 10.5), *((31, each) for each in (10.5, 10.5, 10.5, 41.5, 10.5, 41.5, 10.5, 41.5))]
    sent = [g(at_minute, 100, received) for received, at_minute in measured]
    for count in (1, 1, 6, 1, 1):
        part, sent = sent[:count], sent[count:]
        for one in part:
            world.hub.send([bodies(one)], at(one.received), one.partition)
        world.session(at(part[-1].received) + CLOCK_IS_BEHIND)
    assert world.differences() == []


def test_a_silence_is_told_of_where_a_later_one_of_its_partition_ended_before(tmp_path: Path) -> None:
    world = World(tmp_path, GLUCOSE)
    for one in (g(0, 100, 0, 2, 10, 1), g(5, 100, 5, 1, 10, 1)):
        world.hub.send([bodies(one)], at(one.received), one.partition)
    world.session(at(6))
    # Patient 1 comes back by another partition, before the session's clock has come to the end of patient 2's time.
    world.hub.send([bodies(g(36, 100, 36, 1, 10, 0))], at(36), 0)
    world.session(at(29))
    world.session(at(50))
    assert [(row["entity"], row["kind"]) for row in world.found()] == [(1, "raised"), (1, "cleared"), (2, "raised")]
    assert world.differences() == []


def _received(event: Generated, number: int) -> datetime:
    assert event.due is not None
    return datetime.fromtimestamp(event.due, UTC) + timedelta(milliseconds=number % 900)


@pytest.mark.parametrize(
    ("stream", "name", "patients", "days", "every"),
    [
        (GLUCOSE, "glucose", 100, 4, timedelta(minutes=25)),
        (VITALS, "vitals", 20, 0.5, timedelta(minutes=4)),
        (DEVICES, "devices", 50, 3, timedelta(minutes=30)),
    ],
    ids=["days of glucose", "half a day of vital signs", "days of devices"],
)
def test_what_a_fleet_sends_is_what_the_oracle_says(
    tmp_path: Path, stream: Stream, name: str, patients: int, days: float, every: timedelta
) -> None:
    start = NOON - timedelta(days=days)
    made = [
        *events(
            name,
            start=start,
            rate=patients / every.total_seconds(),
            seconds=days * 86_400,
            patients=patients,
            faults=0.05,
            repeats=0.03,
            alarms=True,
            seed=3,
        )
    ]
    world = World(tmp_path, stream)
    world.hub.take = 2_000
    first = 0
    for share in (0.1, 0.11, 0.5, 0.9, 1):
        last = int(share * len(made))
        for number, event in enumerate(made[first:last], first):
            world.hub.send([event.body], _received(event, number), crc32(event.key.encode()) % 2)
        world.session(_received(made[last - 1], last) + CLOCK_IS_BEHIND)
        first = last
    world.session(NOON + timedelta(days=1))
    found = world.found()
    assert {row["kind"] for row in found} >= {"raised", "cleared"}
    assert {row["cause"] for row in found} >= {"silence", *({level.cause for level in stream.levels[:5]})}
    assert differences(found, world.right()) == []


def _storm(random: Random, patients: int) -> list[Sent]:
    """What `arrivals` draws, of many patients at once, each of whom tends to one kind of value."""
    sent: list[Sent] = []
    for patient in range(1, patients + 1):
        now, own = 0.0, list[Sent]()
        values = random.choice(
            [VALUES, VALUES, [45, 50, 53, 56, 61, 66, 71, 74, 76, 80], [99, 104, 111, 117, 245, 255]]
        )
        ages: list[float] = random.choice([AGES, [0]])
        for _ in range(25):
            now = round(now + random.choice(GAPS), 3)
            if own and random.random() < 0.1:
                said = random.choice(own).said | random.choice([{}, {"glucose_level": random.choice(values)}])
                own.append(Sent(now, said, patient % 2))
            else:
                device, measured = random.choice([10, 10, 10, 11]), round(now - random.choice(ages), 3)
                own.append(g(measured, random.choice(values), now, patient, device, patient % 2))
        sent += own
    return sorted(sent, key=lambda one: one.received)


def _deeds(world: World, random: Random, now: datetime, count: int) -> list[Action]:
    """What people may do to alarms that are open or over, and to one that never was."""
    # Whether a snooze of silence ends before the reading that ends the silence depends on when somebody looked.
    alarms = random.sample(sorted({row["alarm_id"] for row in world.found() if row["cause"] != "silence"}), count)
    kinds = ("acknowledge", "acknowledge", "snooze", "snooze", "comment", "close")
    chosen = [(alarm, random.choice(kinds)) for alarm in [*alarms, "0" * 16]]
    lasts = MINUTE * random.choice([5, 30, 200])
    return [
        Action(f"{now} {place}", alarm, kind, now, now + lasts if kind == "snooze" else None)
        for place, (alarm, kind) in enumerate(chosen)
    ]


@pytest.mark.parametrize("seed", [1])
def test_a_storm_in_which_people_act_is_what_the_oracle_says(tmp_path: Path, seed: int) -> None:
    random, world = Random(seed), World(tmp_path, GLUCOSE)
    sent = _storm(random, patients=50)
    world.hub.take = random.choice([50, 1000])
    cuts = [0, *sorted(random.sample(range(1, len(sent)), 6)), len(sent)]
    for number, (first, last) in enumerate(pairwise(cuts)):
        for one in sent[first:last]:
            world.hub.send([bodies(one)], at(one.received), one.partition)
        now = at(sent[last - 1].received) + CLOCK_IS_BEHIND
        world.session(now)
        if number % 2:
            world.act(now + MINUTE / 1000, _deeds(world, random, now, 30))
    found = world.found()
    assert {row["kind"] for row in found} >= {*TOLD, "eased", "stale", "acknowledged", "snoozed", "commented", "closed"}
    assert differences(found, world.right()) == []


def _flapping(random: Random, count: int) -> list[Sent]:
    """Readings of one patient, around thresholds, seconds or minutes apart; sometimes not heard of for a while."""
    sent: list[Sent] = []
    now = 0.0
    while len(sent) < count:
        values = random.choice([[68, 90], [50, 65], [45, 57, 72, 80], [99, 111, 117, 255], VALUES])
        gaps: list[float] = random.choice([[0, 0.02], [0.5, 1], [5], [11], GAPS])
        for _ in range(random.randrange(5, 60)):
            now = round(now + random.choice(gaps), 3)
            sent.append(g(round(now - random.choice([0, 0, 0, 1, 4]), 3), random.choice(values), now, 1, 10, 1))
    return sent


@pytest.mark.parametrize("few", [0, decisions.FEW], ids=["in rounds", "one after another"])
def test_a_patient_who_flaps_however_it_is_cut_is_what_the_oracle_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr(decisions, "FEW", few)
    random, world = Random(11), World(tmp_path, GLUCOSE)
    sent = _flapping(random, 1000)
    cuts = [0, *sorted(random.sample(range(1, len(sent)), 5)), len(sent)]
    for first, last in pairwise(cuts):
        world.hub.take = random.choice([40, 1000])
        for one in sent[first:last]:
            world.hub.send([bodies(one)], at(one.received), one.partition)
        world.session(at(sent[last - 1].received) + CLOCK_IS_BEHIND)
    found = world.found()
    assert {row["kind"] for row in found} >= {*TOLD, "eased", "stale"}
    assert len(found) > 300
    assert differences(found, world.right()) == []


STRICT = {"threshold": 150.0, "clear_threshold": 140.0, "clear_after_s": 0, "remind_every_s": 600, "max_age_s": 120}
WANTED = [
    (LONG_AGO, Wanted("glucose_low", {"threshold": 80.0, "severity": "urgent"}, "patient:1")),
    (LONG_AGO, Wanted("glucose_urgent_low", {"is_enabled": False}, "patient:2")),
    (LONG_AGO, Wanted("glucose_high", STRICT | {"escalate_after_s": 300}, "patient:3")),
    (LONG_AGO, Wanted("glucose_low", {"threshold": 60.0}, hours_from="12:30", hours_to="14:00")),
    (at(90), Wanted("glucose_average_high", {"is_enabled": False})),
    (at(60), Wanted("glucose_low", {"is_enabled": False}, "patient:4")),
    (at(120), Wanted("glucose_high", {"threshold": 99.0, "severity": "info"})),
    (LONG_AGO, Wanted("glucose_silence", {"threshold": 12.0, "severity": "info"}, "patient:5")),
    (at(100), Wanted("glucose_silence", {"is_enabled": False}, "patient:6")),
]
"""Versions of rules, and from when on they hold."""


def test_a_storm_under_rules_of_each_patient_is_what_the_oracle_says(tmp_path: Path) -> None:
    random, world = Random(7), World(tmp_path, GLUCOSE)
    rows: list[Row] = []
    for valid_from, wanted in WANTED:
        put = put_rules(world.lake, [CONTRACT], [wanted], valid_from=valid_from, clock=lambda: LONG_AGO)
        rows += put.rows.to_dicts()
    sent = _storm(random, patients=40)
    world.hub.take = 500
    for first in range(0, len(sent), 250):
        part = sent[first : first + 250]
        for one in part:
            world.hub.send([bodies(one)], at(one.received), one.partition)
        world.session(at(part[-1].received) + CLOCK_IS_BEHIND)
    found = world.found()
    assert {row["severity"] for row in found} == {"info", "warning", "urgent"}
    assert {row["threshold"] for row in found} >= {80.0, 60.0, 150.0, 99.0, 12.0}

    def holds(level: Level, reading: Reading) -> Level:
        row = holding(rows, [], level.rule_id, reading.entity, reading.measured_at, reading.pulled_at)
        return level if row is None else _as(level, row)

    right = world.right(
        lambda reading: [holds(level, reading) for level in GLUCOSE.levels],
        lambda reading: holds(GLUCOSE.silence, reading),
    )
    assert differences(found, right) == []


def _as(level: Level, row: Mapping[str, Any]) -> Level:
    """A level as a version says; what it leaves open is that of its severity, and its distance to what is clear."""
    alike = next((each for each in GLUCOSE.levels if each.severity == row["severity"]), None)

    def given(name: str) -> timedelta | None:
        return None if row[name] is None else timedelta(seconds=row[name])

    clear = level.clear and level.clear + row["threshold"] - level.threshold
    return level._replace(
        threshold=row["threshold"],
        severity=row["severity"],
        is_enabled=row["is_enabled"],
        clear=clear if row["clear_threshold"] is None else row["clear_threshold"],
        max_age=given("max_age_s") or level.max_age,
        clear_after=level.clear_after if (clear_after := given("clear_after_s")) is None else clear_after,
        remind_every=given("remind_every_s") or (alike and alike.remind_every),
        escalate_after=given("escalate_after_s") or (alike and alike.escalate_after),
    )


def test_what_arrives_in_the_order_of_time_may_be_cut_and_shuffled(tmp_path: Path) -> None:
    random = Random(5)
    sent = [
        g(minute, random.choice([45, 57, 65, 72, 80, 100, 108, 116, 260]), None, patient, 10, patient % 2)
        for patient in range(1, 31)
        for minute in sorted(random.sample(range(400), 25))
    ]
    sent.sort(key=lambda one: one.received)
    found = []
    for name, size, is_shuffled in (("whole", 750, False), ("cut", 130, False), ("shuffled", 150, True)):
        world = World(tmp_path / name, GLUCOSE)
        for first in range(0, len(sent), size):
            part = sent[first : first + size]
            now = at(part[-1].received) + CLOCK_IS_BEHIND
            for one in random.sample(part, len(part)) if is_shuffled else part:
                world.hub.send([bodies(one)], at(one.received), one.partition)
            world.session(now)
        world.session(at(500))
        found.append([row | {"position": None, "decided_at": None} for row in world.found()])
    whole, cut, shuffled = found
    assert len(whole) > 400
    assert differences(cut, whole) == []
    assert differences(shuffled, whole) == []


def test_an_hour_of_a_thousand_patients_tells_of_few_transitions_each(tmp_path: Path) -> None:
    """By the two rules that were there first, about single readings and about means."""
    original = replace(CONTRACT, rules=tuple(rule for rule in CONTRACT.rules if rule.id in ORIGINAL))
    world, patients = World(tmp_path, GLUCOSE, contract=original), 1000
    made = events("glucose", start=NOON, rate=patients / 60, seconds=3600, patients=patients, seed=4)
    for number, event in enumerate(made):
        world.hub.send([event.body], _received(event, number), crc32(event.key.encode()) % 2)
    world.hub.take = 5_000
    world.session(NOON + 61 * MINUTE)
    told = Counter(row["entity"] for row in world.found() if row["kind"] in TOLD)
    alerts = world.lake.table(original.tables.alerts).scan().collect()
    assert len(told) > 500
    assert alerts.height > 30 * len(told)
    assert max(told.values()) <= 6, told.most_common(5)
