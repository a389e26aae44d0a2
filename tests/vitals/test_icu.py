"""Held vital signs of intensive care: alerts by patient and rule are those of a plain evaluation of each reading."""

import csv
import json
from collections import Counter, defaultdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from assets.stream.rebuild import rebuild
from assets.vitals.assets import CONTRACT
from assets.vitals.rules import alert_payload
from tests.stream.batches import differences, flat, micro_batches, process
from tests.stream.oracle import NEWS2_WORSE, VITALS, news2_points
from tests.stream.scenarios import AT_THE_END, NOON, hub_with, lake_in, parts, run_session, shuffled, ticking
from tests.stream.tables import assert_exact, everything

RECORD = Path(__file__).parents[1] / "fixtures" / "bidmc_01_numerics.csv"
BEGIN = NOON - timedelta(hours=1)
PATIENTS = {1: (0.0, 0.0), 2: (8.0, 3.0), 3: (-60.0, -14.0)}
"""What is added to the saturation's lack and to respiration, so that patients differ."""

Member = dict[str, Any]


def record(patient: int) -> list[Member]:
    """A monitor at 1 Hz with the gaps of the record, and a cuff with a thermometer every four minutes."""
    lack, breaths = PATIENTS[patient]
    members: list[Member] = []
    with RECORD.open() as lines:
        for number, row in enumerate(csv.DictReader(lines, skipinitialspace=True)):
            at = (BEGIN + timedelta(seconds=number)).isoformat()
            seen = {
                "heart_rate": float(row["HR"]) + max(lack, 0.0) * 2,
                "pulse": float(row["PULSE"]),
                "respiratory_rate": float(row["RESP"]) + breaths,
                "spo2": float(row["SpO2"]) - max(lack, 0.0),
            }
            present = {name: value for name, value in seen.items() if value == value}
            members.append({"patient_id": patient, "device_id": patient, "timestamp": at, **present})
            if number % 240 == 30 and lack >= 0:
                cuff = {"systolic_bp": 100 - lack, "diastolic_bp": 60, "temperature": 38.2 + lack / 8}
                members.append({"patient_id": patient, "device_id": 100 + patient, "timestamp": at, **cuff})
    return members


def plain_counts(members: list[Member]) -> Counter[tuple[int, str]]:
    """Alerts by patient and rule of readings that are all known before each is evaluated."""
    found: Counter[tuple[int, str]] = Counter()
    by_patient: dict[int, list[Member]] = defaultdict(list)
    for member in members:
        by_patient[member["patient_id"]].append(member)
    for patient, readings in by_patient.items():
        medium: set[str] = set()
        high: set[str] = set()
        for one in readings:
            spo2, breaths, degrees = one.get("spo2", 100), one.get("respiratory_rate", 16), one.get("temperature", 37)
            heart: Any = one.get("heart_rate", one.get("pulse", 60))
            broken = {
                "heart_rate_high": heart > 100,
                "systolic_high": one.get("systolic_bp", 100) > 130,
                "spo2_low": spo2 < 92,
                "spo2_urgent_low": spo2 < 88,
                "temperature_high": degrees > 38.0,
                "temperature_urgent_high": degrees >= 39.1,
                "respiratory_rate_urgent_high": breaths >= 25,
                "respiratory_rate_urgent_low": breaths <= 8,
            }
            found.update((patient, rule) for rule, is_broken in broken.items() if is_broken)
            score = plain_score(one["timestamp"], readings)
            if score is not None and score >= 5:
                medium.add(one["timestamp"])
            if score is not None and score >= 7:
                high.add(one["timestamp"])
        # Two readings of one instant raise one alert about the score of that instant.
        found.update({(patient, "news2_medium"): len(medium), (patient, "news2_high"): len(high)})
    return +found


def plain_score(timestamp: str, readings: list[Member]) -> int | None:
    at = datetime.fromisoformat(timestamp)
    names = dict(
        zip(NEWS2_WORSE, ("respiratory_rate", "spo2", "on_oxygen", "systolic_bp", "heart_rate", "", ""), strict=True)
    )
    names |= {"temperature_c": "temperature", "consciousness": "consciousness"}
    known: dict[str, Any] = {"is_on_oxygen": False, "consciousness": "A"}
    for one in readings:
        if timedelta(0) <= at - datetime.fromisoformat(one["timestamp"]) < timedelta(minutes=5):
            known |= {column: one[name] for column, name in names.items() if name in one}
    points = [news2_points(column, known.get(column)) for column in NEWS2_WORSE]
    return None if None in points else sum(each for each in points if each is not None)


def test_alerts_of_held_vital_signs_are_those_of_a_plain_evaluation() -> None:
    members = sorted((one for patient in PATIENTS for one in record(patient)), key=lambda one: one["timestamp"])
    bodies = [json.dumps(one).encode() for one in members]
    outcome = process(micro_batches(*parts(bodies, 97)), CONTRACT)
    counted = Counter(outcome.alerts.select("patient_id", "rule").rows())
    # A micro-batch may end between two readings of one instant, so all are compared with the oracle too.
    assert differences(outcome, flat(micro_batches(*parts(bodies, 97))), VITALS) == []
    assert counted == plain_counts(members)
    assert {rule for _, rule in counted} >= {"spo2_low", "heart_rate_high", "news2_medium", "news2_high"}
    assert outcome.silver["spo2_percent"].null_count() > 20


def test_an_alert_says_the_points_and_the_age_of_each_parameter() -> None:
    members = sorted(record(2), key=lambda one: one["timestamp"])
    outcome = process(micro_batches([json.dumps(one).encode() for one in members]), CONTRACT)
    told = alert_payload(outcome.alerts).filter(rule="news2_medium").to_dicts()
    assert all(each["value"] == each["news2"]["score"] >= 5 for each in told)
    for each in told:
        parameters = {name: value for name, value in each["news2"].items() if name not in ("score", "risk")}
        assert sum(one["points"] for one in parameters.values()) == each["news2"]["score"]
        assert parameters["consciousness"]["age_s"] is None
        assert 0 <= parameters["systolic_mmhg"]["age_s"] < 300
    assert {each["news2"]["temperature_c"]["age_s"] for each in told} >= {0.0, 1.0, 100.0, 239.0}
    others = alert_payload(outcome.alerts).filter(~outcome.alerts["rule"].str.starts_with("news2"))
    assert others["news2"].null_count() == others.height > 0


@pytest.mark.slow
def test_late_readings_restarts_and_a_rebuild_agree(tmp_path: Path) -> None:
    members = [one for patient in PATIENTS for one in record(patient)]
    in_time = sorted(members, key=lambda one: one["timestamp"])
    late = shuffled([json.dumps(one).encode() for one in in_time[::5]])
    bodies = [json.dumps(one).encode() for number, one in enumerate(in_time) if number % 5]
    lake, hub = lake_in(tmp_path), hub_with([], take=120)
    cuts = [*parts(bodies, 400), *parts(late, 150), bodies[:50]]
    for number, part in enumerate(cuts):
        for partition in (0, 1):
            hub.send(part[partition::2], NOON, partition)
        run_session(lake, hub, contract=CONTRACT, limits=AT_THE_END, clock=ticking(NOON + timedelta(minutes=number)))
    truth = assert_exact(lake, hub, CONTRACT, VITALS)
    assert sum(each["rule"].startswith("news2") for each in truth.alerts) > 100
    streamed = everything(lake, CONTRACT)
    rebuild(CONTRACT, lake, NOON.date())
    assert everything(lake, CONTRACT) == streamed
