"""Rules of every kind as data, in sessions, after restarts and where days are made anew, against a plain evaluation."""

import operator
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from assets.glucose.assets import CONTRACT
from assets.reference.rules import RULES, Wanted
from assets.reference_store import put_rules
from assets.stream.rebuild import rebuild
from assets.stream.rederive import derive, swap
from assets.stream.spans import Forecast
from resources.lake import Lake
from tests.reference.values import LONG_AGO
from tests.stream.hubs import MemoryHub
from tests.stream.plain_spans import Reading, plain
from tests.stream.rule_rows import holding
from tests.stream.scenarios import NOON, body, lake_in, reading, run_session, ticking
from tests.stream.tables import everything

pytestmark = pytest.mark.slow

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
OF_COMPARISON: dict[str, Callable[[float, float], bool]] = {
    "above": operator.gt,
    "below": operator.lt,
    "at_least": operator.ge,
    "at_most": operator.le,
}
KINDS = {
    "falls": ("glucose_rate_15_min", "below", -2.0),
    "rises": ("glucose_rate_15_min", "at_least", 2.5),
    "stays_low": ("glucose_sustained_low_15_min", "below", 80.0),
    "stays_low_long": ("glucose_sustained_low_30_min", "at_most", 90.0),
    "stays_high": ("glucose_sustained_high_30_min", "above", 150.0),
    "often_low": ("glucose_low_3_of_4", "below", 75.0),
    "often_high": ("glucose_high_3_of_4", "above", 180.0),
    "will_be_low": ("glucose_forecast_20_min", "below", 70.0),
    "will_be_low_later": ("glucose_forecast_30_min", "below", 60.0),
    "will_be_low_too": ("glucose_forecast_ar2_20_min", "below", 70.0),
    "will_be_high": ("glucose_forecast_ar2_30_min", "above", 200.0),
}
"""Rules by id: column, comparison, threshold."""


def of_kinds(scope: str = "all", shift: float = 0.0) -> list[Wanted]:
    return [
        Wanted(
            rule_id,
            {
                "stream": CONTRACT.stream,
                "column": column,
                "comparison": comparison,
                "threshold": threshold + (shift / 10 if "rate" in column else shift),
                "severity": "warning",
            },
            scope,
        )
        for rule_id, (column, comparison, threshold) in KINDS.items()
    ]


def put(lake: Lake, wanted: Iterable[Wanted], **when: Any) -> None:
    at = {"valid_from": LONG_AGO, "known_at": LONG_AGO} | when
    put_rules(lake, [CONTRACT], [*wanted], valid_from=at["valid_from"], clock=lambda: at["known_at"])


def plainly(lake: Lake) -> dict[tuple[Any, ...], set[float | None]]:
    """The alerts that rules of these kinds must raise, from silver and the table of rules, and their values."""
    stored = everything(lake)
    pulled = {(row["partition"], row["sequence_number"]): row["pulled_at"] for row in stored["bronze"]}
    versions = lake.table(RULES).scan().collect().to_dicts()
    by_patient = defaultdict(list)
    for row in stored["silver"]:
        by_patient[row["patient_id"]].append((pulled[row["partition"], row["sequence_number"]], row))
    raised: dict[tuple[Any, ...], set[float | None]] = defaultdict(set)
    for patient, readings in by_patient.items():
        for at, row in readings:
            known = [Reading(each["measured_at"], each["glucose_mg_dl"]) for since, each in readings if since <= at]
            for rule_id, (column, comparison, _) in KINDS.items():
                held = holding(versions, [], rule_id, patient, row["measured_at"], at)
                if held is None or not held["is_enabled"]:
                    continue
                span, own = CONTRACT.spans[column], Reading(row["measured_at"], row["glucose_mg_dl"])
                value = plain(span, own, known, CONTRACT.plausible["glucose_mg_dl"])
                is_beyond = OF_COMPARISON[comparison]
                if value is None or not is_beyond(value, held["threshold"]):
                    continue
                if isinstance(span, Forecast) and is_beyond(row["glucose_mg_dl"], held["threshold"]):
                    continue
                raised[patient, row["measured_at"], rule_id, held["version"], held["threshold"]].add(value)
    return raised


def raised(lake: Lake) -> dict[tuple[Any, ...], float]:
    found = {}
    for row in everything(lake)["alerts"]:
        if row["rule"] in KINDS:
            told = {column: row[column] for column in CONTRACT.spans if row[column] is not None}
            [(column, value)] = told.items()
            assert column == KINDS[row["rule"]][0]
            key = (row["patient_id"], row["measured_at"], row["rule"], row["rule_version"], row["threshold"])
            assert key not in found
            found[key] = value
    return found


def hours_of(patient: int, random: Random, since: float, until: float) -> list[tuple[float, bytes]]:
    """Readings with the minute in which each arrives: most at once, some late, some of a second device."""
    level, slope, found = random.choice((75.0, 120.0, 190.0)), 0.0, []
    for number in range(int(since // 5), int(until // 5)):
        slope = slope * 0.9 + random.gauss(0, 1.2)
        level = min(max(level + slope * 5, 42), 380)
        if random.random() < 0.05:
            continue
        minute = number * 5 + random.uniform(-0.2, 0.2)
        arrives = minute + random.choice((0, 0, 0, 0, 0, 7, 25, 150))
        found.append((arrives, body(reading(round(minute * 60) / 60, round(level, 1), patient))))
        if random.random() < 0.05:
            other = reading(round(minute * 60) / 60, round(level + random.gauss(0, 8), 1), patient, device=11)
            found.append((arrives + random.choice((0, 20)), body(other)))
    return found


def of_a_rebuild(lake: Lake) -> None:
    rebuild(CONTRACT, lake, NOON.date())


def of_a_rederivation(lake: Lake) -> None:
    derive(CONTRACT, lake)
    swap(CONTRACT, lake)


def test_rules_of_every_kind_raise_the_alerts_of_a_plain_evaluation(tmp_path: Path) -> None:
    random, lake, hub = Random(5), lake_in(tmp_path), MemoryHub(take=20)
    is_ar2 = {each.rule_id: "ar2" in each.given["column"] for each in of_kinds()}
    changes = {
        0: [each for each in of_kinds() if not is_ar2[each.rule_id]],
        3: of_kinds("patient:2", 7.5)[:-2],
        # A longer span than any before, from the middle on.
        5: [each for each in of_kinds() if is_ar2[each.rule_id]],
        7: [Wanted("falls", {"is_enabled": False}, "patient:1"), *of_kinds("patient:3", -3.0)[::2]],
    }
    events = sorted(each for patient in (1, 2, 3, 4) for each in hours_of(patient, random, -240, 180))
    each_session = len(events) // 9 + 1
    for number in range(9):
        # Most events were pulled long after they were measured, as in a backlog; only the order matters.
        now = NOON + 3 * HOUR + number * MINUTE
        if number in changes:
            put(lake, changes[number], known_at=now - 30 * SECOND)
        for place, (_, event) in enumerate(events[number * each_session : (number + 1) * each_session]):
            hub.send([event], now, place % 2)
        run_session(lake, hub, clock=ticking(now))
    streamed, right = everything(lake), plainly(lake)
    found = raised(lake)
    assert {rule for _, _, rule, *_ in found} == {*KINDS}
    assert found.keys() == right.keys()
    for key, value in found.items():
        assert any(value == pytest.approx(each, abs=2e-6) for each in right[key]), key
    for make_anew in (of_a_rebuild, of_a_rederivation):
        make_anew(lake)
        assert everything(lake) == streamed
