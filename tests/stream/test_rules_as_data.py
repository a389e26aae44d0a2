"""Rules as data in sessions, after restarts, and where days are made anew."""

import threading
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import polars as pl
import pytest

from assets.bitemporal import SAFETY_DELAY
from assets.glucose.assets import CONTRACT
from assets.reference.rules import RULES, Wanted
from assets.reference.tables import PATIENTS
from assets.reference_store import put_rules
from assets.stream import enrichment
from assets.stream.contract import Contract
from assets.stream.rebuild import rebuild
from assets.stream.rederive import derive, swap
from assets.stream.session import SessionLimits
from assets.vitals.assets import CONTRACT as VITALS
from resources.lake import Lake
from tests.reference.values import LONG_AGO, load_patients
from tests.stream.feeding import wait_until
from tests.stream.hubs import MemoryHub, MemoryPublisher
from tests.stream.rule_rows import holding
from tests.stream.scenarios import NOON, body, hub_with, lake_in, reading, run_session, ticking
from tests.stream.tables import assert_exact, everything, rows

pytestmark = pytest.mark.slow

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
FIRST = NOON - timedelta(hours=1)
HOURS = (None, ("22:00", "11:30"), ("11:30", "12:00"))
GROUPS = {1: "icu", 2: "a;icu", 3: "a", 4: None}
ZONES = {1: "UTC", 2: "Asia/Kathmandu", 3: "America/New_York", 4: None}


def put(lake: Lake, *wanted: Wanted, valid_from: datetime = LONG_AGO, known_at: datetime = LONG_AGO) -> pl.DataFrame:
    return put_rules(lake, [CONTRACT, VITALS], wanted, valid_from=valid_from, clock=lambda: known_at).rows


def raised(lake: Lake, contract: Contract = CONTRACT) -> list[tuple[Any, ...]]:
    alerts = rows(lake, "alerts", contract).sort("measured_at", "patient_id", "rule")
    return alerts.select("patient_id", "rule", "rule_version", "severity", "threshold").rows()


def test_an_alert_says_the_version_that_held(tmp_path: Path) -> None:
    lake, publisher = lake_in(tmp_path), MemoryPublisher()
    put(lake, Wanted("glucose_high", {"threshold": 130.0, "severity": "info"}, "patient:1"))
    put(lake, Wanted("glucose_average_high", {"is_enabled": False}))
    put(lake, Wanted("glucose_average_high", {"threshold": 110.0, "is_enabled": True}, "patient:2"))
    hub = hub_with([body(reading(0, value, patient=who)) for who in (1, 2) for value in (120,)])
    run_session(lake, hub, publisher=publisher)
    hub.send([body(reading(20, 131, patient=1)), body(reading(20, 105, patient=2))], NOON)
    run_session(lake, hub, publisher=publisher)
    assert raised(lake) == [
        (2, "glucose_average_high", 3, "warning", 110.0),
        (2, "glucose_high", 1, "warning", 115.0),
        (1, "glucose_high", 2, "info", 130.0),
    ]
    means = rows(lake, "alerts").sort("measured_at", "rule")["mean_10_min"].to_list()
    assert means == [120.0, None, None]


def test_an_absent_or_empty_table_changes_nothing(tmp_path: Path) -> None:
    for name in ("absent", "empty", "other"):
        lake, hub = lake_in(tmp_path / name), hub_with([body(reading(0, 300)), body(reading(0, 40))])
        if name == "empty":
            lake.table(RULES).ensure()
        if name == "other":
            put(lake, Wanted("spo2_low", {"threshold": 90.0}))
        run_session(lake, hub)
        assert_exact(lake, hub)


def test_a_revision_is_judged_by_the_version_that_held(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    put(lake, Wanted("glucose_low", {"threshold": 80.0, "severity": "urgent"}, "patient:1"))
    put(lake, Wanted("glucose_urgent_low", {"is_enabled": False}, "patient:2"))
    given = [reading(0, value, patient=who) for who in (1, 2) for value in (100, 75 if who == 1 else 50)]
    run_session(lake, hub_with([body(each) for each in given]))
    assert raised(lake) == [(1, "glucose_low", 2, "urgent", 80.0)]
    assert rows(lake, "alerts")["is_revision"].to_list() == [True]


def test_a_rule_of_the_table_alone_raises_alerts_after_those_of_the_contract(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    definition = {"stream": "vitals", "column": "news2_score", "comparison": "at_least", "severity": "info"}
    put(lake, Wanted("news2_any", {**definition, "threshold": 1.0}, "group:icu"))
    load_patients(lake, {"patient_id": 1, "groups": "icu"}, {"patient_id": 2})
    signs = {"timestamp": FIRST.isoformat(), "respiratory_rate": 22, "spo2": 97, "systolic_bp": 120, "temperature": 37}
    given = [body(signs | {"patient_id": who, "heart_rate": 80}) for who in (1, 2)]
    run_session(lake, hub_with(given), contract=VITALS)
    assert raised(lake, VITALS) == [(1, "news2_any", 1, "info", 1.0)]
    assert rows(lake, "alerts", VITALS)["news2_score"].to_list() == [2]


def of_a_rebuild(lake: Lake) -> None:
    rebuild(CONTRACT, lake, NOON.date())


def of_a_rederivation(lake: Lake) -> None:
    derive(CONTRACT, lake)
    swap(CONTRACT, lake)


def plainly(lake: Lake) -> set[tuple[Any, ...]]:
    """The alerts that rules about single readings must raise, from silver and the tables of reference data."""
    pulled = {(row["partition"], row["sequence_number"]): row["pulled_at"] for row in everything(lake)["bronze"]}
    versions = lake.table(RULES).scan().collect().to_dicts()
    people = lake.table(PATIENTS.table).scan().collect().to_dicts()
    found = set()
    for row in everything(lake)["silver"]:
        at = pulled[row["partition"], row["sequence_number"]]
        for rule in CONTRACT.rules:
            if rule.column != "glucose_mg_dl":
                continue
            held = holding(versions, people, rule.id, row["patient_id"], row["measured_at"], at)
            version, threshold = (held["version"], held["threshold"]) if held else (rule.version, rule.threshold)
            value = row["glucose_mg_dl"]
            if (held is None or held["is_enabled"]) and (
                value > threshold if rule.comparison == "above" else value < threshold
            ):
                found.add((row["patient_id"], row["measured_at"], rule.id, version, threshold))
    return found


@pytest.mark.parametrize("make_anew", [of_a_rebuild, of_a_rederivation])
@pytest.mark.parametrize("seed", range(3))
def test_sessions_restarts_and_days_made_anew_agree_whatever_rules_become_known_when(
    tmp_path: Path, seed: int, make_anew: Any
) -> None:
    lake, hub, random = lake_in(tmp_path), MemoryHub(take=3), Random(seed)
    load_patients(lake, *({"patient_id": who, "time_zone": ZONES[who], "groups": GROUPS[who]} for who in ZONES))
    for number in range(8):
        now = NOON + number * MINUTE
        # Known shortly before a session, so that it counts for the later ones of its micro-batches only; backdated,
        # of the future, or a correction of an earlier version.
        put(
            lake,
            *_random_changes(random),
            valid_from=NOON + random.choice((-60, -45, -30, -10, 5)) * MINUTE,
            known_at=now,
        )
        for minutes in random.sample(range(-30, 60), 12):
            value, who = random.choice((50, 60, 72, 90, 118, 140, 260)), random.randrange(1, 5)
            hub.send([body(reading(minutes, value, patient=who))], now, random.randrange(2))
        run_session(lake, hub, clock=ticking(now + 4 * SECOND, step=3 * SECOND))
    streamed = everything(lake)
    of_readings = {
        (row["patient_id"], row["measured_at"], row["rule"], row["rule_version"], row["threshold"])
        for row in streamed["alerts"]
        if row["rule"] != "glucose_average_high" and not row["is_revision"]
    }
    assert of_readings == plainly(lake)
    assert len({row["rule_version"] for row in streamed["alerts"]}) > 4
    # What is known later changes nothing that was decided.
    put(lake, *(Wanted(rule.id, {"threshold": 60.0}) for rule in CONTRACT.rules), known_at=NOON + timedelta(hours=1))
    make_anew(lake)
    assert everything(lake) == streamed


def _random_changes(random: Random) -> Iterable[Wanted]:
    each_once = {}
    for _ in range(6):
        rule = random.choice(("glucose_low", "glucose_high", "glucose_urgent_low", "glucose_average_high"))
        scope = random.choice(("all", "group:icu", "group:a", "patient:1", "patient:2", "patient:4"))
        begins, ends = random.choice(HOURS) or (None, None)
        given = {"threshold": float(random.randint(50, 130)), "is_enabled": random.random() < 0.8}
        each = Wanted(rule, given, scope, begins, ends)
        each_once[each.thing] = each
    return each_once.values()


def test_a_version_counts_only_once_every_session_must_know_it(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), MemoryHub()
    put(lake, Wanted("glucose_high", {"threshold": 90.0}), known_at=NOON)
    for number, after in enumerate((SAFETY_DELAY - SECOND, SAFETY_DELAY)):
        hub.send([body(reading(number))], NOON)
        run_session(lake, hub, clock=ticking(NOON + after, step=timedelta(0)))
    assert raised(lake) == [(1, "glucose_high", 2, "warning", 90.0)]


def test_a_rule_that_is_changed_while_a_session_runs_reaches_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enrichment, "REFRESH_EVERY_S", 0.01)
    lake, hub, stop = lake_in(tmp_path), hub_with([body(reading(0))]), threading.Event()
    options = {
        "limits": SessionLimits(trigger_s=0.01, commit_interval_s=0),
        "should_stop": stop.is_set,
        "clock": ticking(NOON, step=timedelta(milliseconds=20)),
    }
    session = threading.Thread(target=run_session, args=(lake, hub), kwargs=options)
    session.start()
    numbers = iter(range(1, 100_000))

    def is_raised(version: int) -> bool:
        hub.send([body(reading(next(numbers) / 100))], NOON)
        return any(row[:3] == (1, "glucose_high", version) for row in raised(lake))

    try:
        wait_until(lambda: lake.table(CONTRACT.tables.silver).count(), "the first reading is not stored")
        for version, threshold in ((2, 90.0), (3, 95.0)):
            change = Wanted("glucose_high", {"threshold": threshold}, "patient:1")
            put(lake, change, known_at=NOON - SAFETY_DELAY)
            wait_until(partial(is_raised, version), "the version does not reach the session")
    finally:
        stop.set()
        session.join()
    assert {row[2:] for row in raised(lake)} == {(2, "warning", 90.0), (3, "warning", 95.0)}
