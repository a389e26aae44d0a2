"""The oracle of alarms against sequences that were worked out by hand, and what holds for whatever comes."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.alarms.cases import CASES, Case, Sent, Told, acted, at, each, g, in_order, input_of, told
from tests.alarms.inputs import GLUCOSE, evaluated, with_rules
from tests.alarms.oracle import Levels, Row, alarm_id

LOW = "glucose_low"


def transitions(batches: Sequence[Sequence[Any]], levels: Levels | None = None, end: float | None = None) -> list[Told]:
    case = Case("", batches, [], end)
    return in_order([told(row) for row in evaluated(GLUCOSE, input_of(case), levels).transitions])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_was_worked_out_by_hand(case: Case) -> None:
    found = evaluated(case.stream, input_of(case)).transitions
    assert in_order([told(row) for row in found]) == in_order(case.expected)


def test_the_names_of_cases_differ() -> None:
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize(
    ("name", "answers"),
    [
        ("an action that is told twice counts once", []),
        ("what was closed cannot be acknowledged", ["closed alarm"]),
        ("an alarm that never was cannot be closed", ["unknown alarm"]),
    ],
)
def test_actions_that_change_nothing_are_answered(name: str, answers: list[str]) -> None:
    case = next(case for case in CASES if case.name == name)
    assert [reason for _, reason in evaluated(case.stream, input_of(case)).refused] == answers


def test_the_id_is_that_of_the_decision() -> None:
    assert alarm_id("glucose_readings", 1, LOW, at(0)) == "d465a3182c109e52"


def test_with_no_time_to_clear_it_clears_at_once_and_an_id_that_comes_again_goes_on_counting() -> None:
    case = Case("", each(g(0, 65), g(0, 80, device=11), g(0, 64, device=12)), [])
    rows = evaluated(GLUCOSE, input_of(case), with_rules(GLUCOSE, clear_after=timedelta(0))).transitions
    assert [(row["kind"], row["index"]) for row in rows] == [("raised", 0), ("cleared", 1), ("raised", 2)]
    assert len({row["alarm_id"] for row in rows}) == 1


def test_a_rule_that_is_not_enabled_is_clear() -> None:
    off = [level._replace(is_enabled=False) for level in GLUCOSE.levels]
    told = transitions(
        each(g(0, 65), g(5, 65), g(15, 65)), lambda reading: GLUCOSE.levels if reading.measured_at == at(0) else off
    )
    assert [each.kind for each in told] == ["raised", "cleared"]
    assert transitions(each(g(0, 50)), lambda reading: off) == []


def test_thresholds_may_differ_between_patients() -> None:
    strict = [level._replace(threshold=80.0, clear=85.0) if level.rule_id == LOW else level for level in GLUCOSE.levels]
    told = transitions(
        [[g(0, 75), g(0, 75, patient=2)]], lambda reading: strict if reading.entity == 2 else GLUCOSE.levels
    )
    assert told == [Told("raised", LOW, 0, "warning", LOW, 75, 75, 1, entity=2)]


def test_rules_may_be_fresh_for_different_times() -> None:
    levels = [
        level._replace(max_age=timedelta(minutes=5)) if level.severity == "urgent" else level
        for level in GLUCOSE.levels
    ]
    told = transitions(each(g(0, 50, received=6)), lambda reading: levels)
    assert told == [Told("raised", LOW, 0, "warning", LOW, 50, 50, 1)]


def test_how_an_alarm_behaves_is_what_its_leading_rule_said_when_it_changed() -> None:
    slow = [level._replace(clear_after=timedelta(hours=1)) for level in GLUCOSE.levels]
    told = transitions(
        each(g(0, 65), g(5, 80), g(15, 80)), lambda reading: GLUCOSE.levels if reading.measured_at == at(0) else slow
    )
    assert [each.kind for each in told] == ["raised", "cleared"]


def test_an_info_is_neither_reminded_of_nor_escalated() -> None:
    levels = with_rules(GLUCOSE, severity="info", remind_every=None, escalate_after=None)
    told = transitions(each(*(g(minute, 50) for minute in range(0, 240, 20))), levels)
    assert told == [Told("raised", LOW, 0, "info", LOW, 50, 50, 1)]


def test_the_time_to_remind_is_that_of_the_rule() -> None:
    levels = with_rules(GLUCOSE, remind_every=timedelta(minutes=20))
    told = transitions(each(*(g(minute, 65) for minute in range(0, 50, 10))), levels)
    assert told == [acted("raised", 0), acted("reminded", 20, 3), acted("reminded", 40, 5)]


some = st.builds(
    lambda measured, value, late, patient, device: g(measured, value, measured + late, patient, device),
    st.integers(0, 180),
    st.sampled_from([45, 53.9, 54, 57, 60, 65, 69.9, 70, 72, 75, 80, 100, 103, 108, 112, 116, 245, 260, 4711]),
    st.sampled_from([-2, 0, 0, 0, 1, 3, 14, 16, 40]),
    st.integers(1, 2),
    st.integers(10, 11),
)


def cut(data: st.DataObject, sent: list[Sent]) -> list[list[Sent]]:
    """The same events in micro-batches of any size."""
    batches: list[list[Sent]] = [[]]
    for one in sent:
        begins_anew: bool = data.draw(st.booleans())
        if batches[-1] and begins_anew:
            batches.append([])
        batches[-1].append(one)
    return batches


@given(st.lists(some, max_size=40))
@settings(max_examples=150, deadline=None)
def test_an_alarm_is_a_story_with_a_beginning_and_at_most_one_end(sent: list[Sent]) -> None:
    sent = sorted(sent, key=lambda one: one.received)
    rows = evaluated(GLUCOSE, input_of(Case("", each(*sent), [], end=400))).transitions
    alarms: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        alarms[row["alarm_id"]].append(row)
    open_now: set[tuple[int, str]] = set()
    for row in rows:
        subject = row["entity"], row["cause"]
        assert (subject in open_now) == (row["kind"] != "raised")
        open_now ^= {subject} if row["kind"] in ("raised", "cleared") else set()
    for story in alarms.values():
        assert [row["index"] for row in story] == list(range(len(story)))
        assert story[0]["kind"] == "raised"
        counts = [row["reading_count"] for row in story]
        assert counts == sorted(counts)


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_what_arrives_in_the_order_of_time_may_be_cut_anywhere(data: st.DataObject) -> None:
    minutes = sorted(data.draw(st.lists(st.integers(0, 240), max_size=30, unique=True)))
    values = st.sampled_from([45, 57, 65, 72, 80, 100, 108, 116, 260])
    sent = [g(minute, data.draw(values), patient=data.draw(st.integers(1, 2))) for minute in minutes]
    whole = transitions([sent], end=300)
    assert transitions(cut(data, sent), end=300) == whole
    assert transitions([data.draw(st.permutations(sent))], end=300) == whole
