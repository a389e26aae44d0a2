"""What is missed follows from sets of breaches and alarms, in whatever parts they are looked at."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from random import Random

import polars as pl
import pytest

from assets.alarms.measures import ALARMS, MISSED, Measure
from assets.glucose.assets import CONTRACT
from assets.vitals.assets import CONTRACT as VITALS
from tests.alarms.measured import MISSED_COLUMNS, Breach, Span, missed_of

MEASURE = Measure(CONTRACT, CONTRACT.rules)
DAY = datetime(2026, 11, 23, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
RULES = {rule.id: (place, rule) for place, rule in enumerate(CONTRACT.rules)}


def breach(entity: int, minutes: float, rule_id: str = "glucose_low", value: float = 60.0, number: int = 0) -> Breach:
    place, rule = RULES[rule_id]
    at = DAY + minutes * MINUTE
    received_at = at + timedelta(hours=3, seconds=number)
    return Breach(entity, rule.about, at, received_at, rule_id, place, rule.severity, value, (0, 0, number, 0))


def alerts_of(breaches: list[Breach]) -> pl.DataFrame:
    rows = [
        dict.fromkeys(CONTRACT.tables.alerts.schema)
        | {
            "rule": each.rule,
            "severity": each.severity,
            "patient_id": each.entity,
            "measured_at": each.at,
            RULES[each.rule][1].column if each.rule in RULES else "glucose_mg_dl": each.value,
            "received_at": each.received_at,
            "partition": 0,
            "sequence_number": each.reading[2],
            "event_index": 0,
        }
        for each in breaches
    ]
    return pl.DataFrame(rows, schema=CONTRACT.tables.alerts.schema)


def frame_of(breaches: list[Breach]) -> pl.DataFrame:
    return MEASURE.breaches(alerts_of(breaches).lazy()).collect()


def alarms_of(spans: list[Span]) -> pl.DataFrame:
    rows = [
        dict.fromkeys(ALARMS.schema) | each._asdict() | {"alarm_id": str(number), "state": "cleared"}
        for number, each in enumerate(spans)
    ]
    return pl.DataFrame(rows, schema=ALARMS.schema)


def measured(breaches: list[Breach], spans: list[Span], cuts: list[datetime] | None = None) -> set[tuple[object, ...]]:
    """The missed episodes, looked at in parts between some instants."""
    alarms, rows = alarms_of(spans), frame_of(breaches)
    edges = [DAY - 9 * timedelta(days=1), *sorted(cuts or []), DAY + timedelta(days=9)]
    parts = [
        MEASURE.joined(
            MEASURE.parts(MEASURE.outside(rows.filter(pl.col("measured_at").is_between(*span, closed="left")), alarms))
        )
        for span in pairwise(edges)
    ]
    found = MEASURE.missed(MEASURE.joined(pl.concat(parts)))
    assert set(found["state"]) <= {MISSED}
    assert found["is_late"].all()
    return set(found.select(MISSED_COLUMNS).rows())


def expected(breaches: list[Breach], spans: list[Span]) -> set[tuple[object, ...]]:
    return missed_of(CONTRACT.stream, breaches, spans, MEASURE.gap, {"glucose_low"})


@pytest.mark.parametrize("seed", range(25))
def test_missed_episodes_are_those_of_the_definition_however_breaches_are_cut(seed: int) -> None:
    random = Random(seed)
    breaches = []
    for number in range(random.randrange(80)):
        entity, minutes = random.randrange(1, 4), random.randrange(0, 1440, 5)
        rules = random.choice(
            [["glucose_low"], ["glucose_low", "glucose_urgent_low"], ["glucose_high"], ["glucose_average_high"]]
        )
        breaches += [breach(entity, minutes, rule, random.randrange(40, 300), number) for rule in rules]
    spans = []
    for _ in range(random.randrange(8)):
        begin = DAY + random.randrange(-600, 1440) * MINUTE
        end = None if random.random() < 0.2 else begin + random.randrange(0, 300) * MINUTE
        spans.append(Span(random.randrange(1, 4), random.choice(["glucose_low", "glucose_high"]), begin, end))
    cuts = [DAY + random.randrange(1440) * MINUTE for _ in range(random.randrange(5))]
    random.shuffle(breaches)
    assert measured(breaches, spans, cuts) == expected(breaches, spans) == expected(breaches[::-1], spans)


@pytest.mark.parametrize(
    ("minutes", "episodes"),
    [([0, 15, 30], 1), ([0, 15.02], 2), ([0], 1), ([], 0)],
    ids=["within the gap", "just beyond it", "one", "none"],
)
def test_breaches_that_are_near_each_other_are_one_episode(minutes: list[float], episodes: int) -> None:
    breaches = [breach(1, each, number=number) for number, each in enumerate(minutes)]
    assert len(measured(breaches, [])) == episodes
    assert measured(breaches, []) == expected(breaches, [])


def test_a_breach_near_an_alarm_is_of_the_alarm() -> None:
    alarm = Span(1, "glucose_low", DAY + 100 * MINUTE, DAY + 120 * MINUTE)
    near = [breach(1, minutes, number=minutes) for minutes in (85, 90, 110, 135)]
    far = [
        breach(1, 84, number=1),
        breach(1, 136, number=2),
        breach(2, 110, number=3),
        breach(1, 110, "glucose_high", 150, 4),
    ]
    assert measured(near, [alarm]) == set()
    assert len(measured(near + far, [alarm])) == 4
    assert measured(near + far, [alarm]) == expected(near + far, [alarm])


def test_an_alarm_that_a_person_closed_may_end_after_the_next_one() -> None:
    spans = [
        Span(1, "glucose_low", DAY, DAY + 300 * MINUTE),
        Span(1, "glucose_low", DAY + 10 * MINUTE, DAY + 20 * MINUTE),
    ]
    assert measured([breach(1, 200)], spans) == expected([breach(1, 200)], spans) == set()


def test_the_gap_is_as_long_as_an_alarm_takes_to_clear() -> None:
    assert Measure(VITALS, VITALS.rules).gap == timedelta(minutes=15)
    assert CONTRACT.alarms is not None
    slow = replace(CONTRACT, alarms=replace(CONTRACT.alarms, clear_after=timedelta(minutes=40)))
    assert Measure(slow, CONTRACT.rules).gap == timedelta(minutes=40)


def test_an_alert_of_a_rule_that_is_gone_is_about_itself() -> None:
    gone = breach(1, 0)._replace(rule="glucose_of_old")
    [found] = frame_of([gone]).rows(named=True)
    assert (found["cause"], found["value"], found["rank"]) == ("glucose_of_old", None, 2)
    [found] = Measure(CONTRACT, ()).breaches(alerts_of([gone]).lazy()).collect().rows(named=True)
    assert (found["cause"], found["value"], found["place"]) == ("glucose_of_old", None, 0)
