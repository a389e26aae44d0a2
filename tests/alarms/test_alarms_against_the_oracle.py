"""Real sessions on real tables: what happens to alarms is what was worked out by hand, and what the oracle says."""

import tempfile
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.alarms.cases import CASES, Case, Do, Sent, action_of, at, bodies, g, in_order, pulled_at, told
from tests.alarms.engine import World
from tests.alarms.inputs import CLOCK_IS_BEHIND, DEVICES, GLUCOSE, VITALS, Stream
from tests.alarms.oracle import Row

pytestmark = pytest.mark.slow

APART = 100
"""So far apart are the patients of two cases."""
OF_THE_CLOCK = ("escalated", "stale")
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
    return is_of_the_clock and row["at"] > seen_until


@pytest.mark.parametrize("stream", [GLUCOSE, VITALS, DEVICES], ids=lambda stream: stream.name)
def test_the_cases_together_are_what_the_oracle_says(worlds: Mapping[str, Together], stream: Stream) -> None:
    assert worlds[stream.name].differences == []


VALUES = [45, 53.9, 54, 57, 60, 65, 69.9, 70, 74.9, 75, 80, 100, 103, 105.1, 110, 112, 116, 241, 260, 4711, "n/a"]
AGES = [-10.5, -9, -2, 0, 0, 0, 0, 0, 1, 4, 12, 15, 15.1, 40]
"""Minutes from a measurement to its receipt; what is more than ten minutes ahead is refused."""
GAPS = [0, 0, 0.1, 1, 2, 5, 5, 5, 10, 14, 16, 31, 70]
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
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
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
