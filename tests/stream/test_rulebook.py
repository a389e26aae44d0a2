"""Which version of a rule holds for a reading, against the definition in plain Python."""

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from random import Random
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.bitemporal import AsOf
from assets.glucose.assets import CONTRACT
from assets.reference.rules import BY_PATIENT
from assets.reference.tables import PATIENTS
from assets.stream.contract import ContractError, Rule, Utc
from assets.stream.rulebook import Rulebook, RuleVersions
from tests.reference.values import LONG_AGO
from tests.stream.rule_rows import Row, frame_of, holding, rule_row
from tests.stream.scenarios import NOON

HOUR, SECOND = timedelta(hours=1), timedelta(seconds=1)
ZONES = ("UTC", "Europe/Lisbon", "America/St_Johns", "Asia/Kathmandu", "Pacific/Kiritimati", "localtime", None)
HOURS = (None, None, ("22:00", "06:00"), ("06:00", "22:00"), ("00:00", "12:30"), ("12:30", "00:00"), ("23:59", "00:01"))
RULES = ("glucose_low", "glucose_high", "glucose_average_high", "glucose_mine_low")
SPRING = datetime.fromisoformat("2026-03-29T00:00:00+00:00")
"""Clocks go forward in Lisbon an hour later."""


def book_of(rows: Sequence[Row], people: Sequence[Row]) -> Rulebook:
    versions = RuleVersions(CONTRACT, BY_PATIENT, frame_of(rows))
    known = pl.DataFrame(people, schema=PATIENTS.table.schema)
    return Rulebook(versions, AsOf(known, "patient_id") if people else None)


def person(patient: int, zone: str | None, groups: str | None, **more: Any) -> dict[str, Any]:
    given = {"patient_id": patient, "time_zone": zone, "groups": groups, "is_deleted": False}
    times = {"valid_from": LONG_AGO, "known_at": LONG_AGO}
    return dict.fromkeys(PATIENTS.table.schema) | given | times | more


def readings_of(*given: tuple[int | None, datetime, datetime]) -> pl.DataFrame:
    schema = pl.Schema({"patient_id": pl.Int64(), "measured_at": Utc, "pulled_at": Utc})
    return pl.DataFrame(list(given), schema=schema, orient="row")


def random_case(seed: int) -> tuple[list[Row], list[Row], list[tuple[int, datetime, datetime]]]:
    random = Random(seed)
    begin = random.choice((NOON, SPRING))
    instants = [begin + step * HOUR for step in range(-30, 31, 3)]
    rows: list[Row] = []
    for version in range(1, random.choice((2, 15, 60))):
        rule_id, hours = random.choice(RULES), random.choice(HOURS)
        scope = random.choice(("all", "group:icu", "group:a b", *(f"patient:{number}" for number in range(4))))
        times = {"valid_from": random.choice(instants), "known_at": random.choice(instants)}
        begins, ends = hours or (None, None)
        more = {"is_enabled": random.random() < 0.8, "is_deleted": random.random() < 0.15, "hours_to": ends}
        rows.append(
            rule_row(rule_id, random.randint(40, 300), version, scope=scope, hours_from=begins, **times, **more)
        )
    people: list[Row] = [
        person(
            random.randrange(5),
            random.choice(ZONES[:5] + ZONES[6:]),
            random.choice(("icu", "a b;icu", "icu;other", "other", None)),
            valid_from=random.choice(instants),
            known_at=at,
            is_deleted=random.random() < 0.1,
        )
        for at in random.sample(instants, random.choice((0, 1, 8)))
    ]
    pulled = random.sample([*instants, *(at + 10 * SECOND for at in instants)], random.choice((1, 5)))
    readings = [
        (random.randrange(6), begin + timedelta(minutes=random.randint(-1700, 1700)), random.choice(pulled))
        for _ in range(random.choice((1, 40)))
    ]
    return rows, people, readings


@pytest.mark.slow
@settings(deadline=None, max_examples=120)
@given(seed=st.integers(0, 10**9))
def test_the_version_that_holds_is_that_of_the_definition(seed: int) -> None:
    rows, people, readings = random_case(seed)
    told = book_of(rows, people).told(readings_of(*readings))
    for number, rule in enumerate(told.rules):
        for place, reading in enumerate(readings):
            row = int(told.numbers[place, number])
            wanted = holding(rows, people, rule.id, *reading)
            if wanted is None:
                assert row == number
                assert told.is_enabled[row] == (rule in CONTRACT.all_rules)
                continue
            found = told.rows.row(row, named=True)
            assert (found["rule"], found["rule_version"]) == (rule.id, wanted["version"])
            assert (found["threshold"], found["severity"]) == (wanted["threshold"], wanted["severity"])
            assert told.is_enabled[row] == wanted["is_enabled"]


def version_of(rows: Sequence[Row], people: Sequence[Row], *reading: Any, rule: int = 3) -> int:
    told = book_of(rows, people).told(readings_of(reading))
    return int(told.rows["rule_version"][int(told.numbers[0, rule])])


def test_hours_are_those_of_the_patients_clock() -> None:
    night = rule_row("glucose_low", 80.0, 7, scope="patient:1", hours_from="22:00", hours_to="06:00")
    lisbon = [person(1, "Europe/Lisbon", None)]
    # In summer Lisbon is an hour ahead of UTC; its night begins at 21:00 there.
    summer = datetime.fromisoformat("2026-07-01T00:00:00+00:00")
    at = {hour: version_of([night], lisbon, 1, summer + hour * HOUR, NOON) for hour in (4, 5, 20, 21)}
    assert at == {4: 7, 5: 1, 20: 1, 21: 7}
    assert version_of([night], [], 1, summer + 21 * HOUR, NOON) == 1
    # A name that Polars does not know counts as UTC.
    assert version_of([night], [person(1, "localtime", None)], 1, summer + 22 * HOUR, NOON) == 7
    assert version_of([night], lisbon, None, summer, NOON) == 1


@pytest.mark.parametrize("days", [2, 60], ids=["of few days", "of many days"])
def test_readings_are_looked_up_together_as_each_alone(days: int) -> None:
    night = rule_row("glucose_low", 80.0, 7, scope="all", hours_from="22:00", hours_to="06:00")
    book = book_of([night], [person(number, zone, None) for number, zone in enumerate(ZONES)])
    random = Random(days)
    readings = [
        (random.randrange(len(ZONES)), SPRING + timedelta(minutes=random.randint(-1440, 1440) * days // 2), NOON)
        for _ in range(200)
    ]
    alone = [book.told(readings_of(reading)).numbers[0].tolist() for reading in readings]
    assert book.told(readings_of(*readings)).numbers.tolist() == alone
    assert len({tuple(each) for each in alone}) == 2


def test_by_day_a_patient_with_a_threshold_for_the_night_has_that_of_the_group() -> None:
    night = rule_row("glucose_low", 80.0, 7, scope="patient:1", hours_from="22:00", hours_to="06:00")
    group = rule_row("glucose_low", 75.0, 8, scope="group:icu")
    of_all = rule_row("glucose_low", 72.0, 9)
    people = [person(1, None, "icu"), person(2, None, None)]
    assert [version_of([night, group, of_all], people, who, NOON, NOON) for who in (1, 2)] == [8, 9]
    assert version_of([night, group, of_all], people, 1, NOON + 11 * HOUR, NOON) == 7


def test_what_a_rule_compares_never_changes() -> None:
    other_column = rule_row("glucose_low", 80.0, 2, column="mean_10_min")
    other_stream = rule_row("glucose_low", 80.0, 3, stream="vitals")
    unknown_column = rule_row("colour_low", 80.0, 4, column="colour")
    a_key = rule_row("patient_low", 80.0, 4, column="patient_id")
    other_side = rule_row("often_low", 70.0, 1, column="glucose_low_3_of_4", comparison="above")
    refused = [other_column, other_stream, unknown_column, a_key, other_side]
    assert RuleVersions(CONTRACT, BY_PATIENT, frame_of(refused)).is_empty
    mine = [rule_row("mine", 1.0, 5), rule_row("mine", 2.0, 6, comparison="below", known_at=NOON)]
    versions = RuleVersions(CONTRACT, BY_PATIENT, frame_of(mine))
    assert versions.rules[len(CONTRACT.all_rules) :] == [
        Rule("mine", "glucose_mg_dl", "above", 1.0, "warning", cause="mine")
    ]
    assert versions.rows["rule_version"].to_list()[-1] == 5


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"key": "location"}, "location is no Int64 of silver"),
        ({"subjects": CONTRACT.tables.alerts}, "time_zone is no text of alerts/glucose_readings"),
        ({"groups": "date_of_birth"}, "date_of_birth is no text of reference/patients"),
    ],
)
def test_a_mistake_in_a_declaration_is_found_when_it_is_made(changed: dict[str, Any], message: str) -> None:
    changed = {"groups": "time_zone", **changed} if "subjects" in changed else changed
    with pytest.raises(ContractError, match=f"Stream 'glucose_readings': rule_table: {message}"):
        replace(CONTRACT, rule_table=replace(BY_PATIENT, **changed))


@pytest.mark.parametrize(
    "odd",
    [
        {"comparison": "equals"},
        {"threshold": math.nan},
        {"severity": "loud"},
        {"hours_from": "99:99", "hours_to": "06:00"},
        {"hours_from": "22:00"},
        {"scope": f"patient:{10**19}"},
        {"scope": "group:"},
    ],
)
def test_a_row_that_no_command_wrote_stops_nothing_and_changes_nothing(odd: dict[str, Any]) -> None:
    versions = RuleVersions(CONTRACT, BY_PATIENT, frame_of([rule_row("odd_low", 90.0, 2) | odd]))
    assert [rule.id for rule in versions.rules] == [rule.id for rule in CONTRACT.all_rules]
    assert not versions.touched
