"""What aliases, units and words in vital signs mean, through a processor, and that the oracle says the same."""

import json
from typing import Any

import pytest

from assets.stream.process import Outcome
from assets.vitals.assets import CONTRACT
from tests.stream.batches import differences, micro_batch, process_bodies
from tests.stream.oracle import VITALS

FIRST = {"patient_id": 1, "timestamp": "2026-11-23 11:00:00"}


def processed(*members: dict[str, Any]) -> Outcome:
    bodies = [json.dumps(FIRST | member).encode() for member in members]
    outcome = process_bodies(*bodies, contract=CONTRACT)
    assert differences(outcome, micro_batch(0, bodies), VITALS) == []
    return outcome


def value(column: str, **member: Any) -> Any:
    return processed(member).silver[column].item()


def reason(**member: Any) -> str:
    outcome = processed(member)
    assert outcome.silver.is_empty()
    return str(outcome.quarantine["reason"].item())


@pytest.mark.parametrize(
    ("column", "member", "right"),
    [
        ("heart_rate_bpm", {"pulse": 72}, 72),
        ("heart_rate_bpm", {"pulse": 72, "heart_rate": 74}, 74),
        ("heart_rate_bpm", {"pulse": 72, "heart_rate": None}, 72),
        ("spo2_percent", {"spo2": 0.97}, 97),
        ("spo2_percent", {"spo2": 0.57}, 57),
        ("spo2_percent", {"spo2": 1}, 100),
        ("spo2_percent", {"spo2": 98}, 98),
        ("temperature_c", {"temperature": 100.4, "unit": "F"}, 38),
        ("temperature_c", {"temperature": 102.38, "unit": " °f "}, 39.1),
        ("temperature_c", {"temperature": 95, "unit": "[degF]"}, 35),
        ("temperature_c", {"temperature": 36.6, "unit": "Cel"}, 36.6),
        ("temperature_c", {"temperature": 36.6}, 36.6),
        ("consciousness", {"consciousness": " unresponsive"}, "U"),
        ("consciousness", {"consciousness": "c"}, "C"),
        ("consciousness", {"consciousness": "New confusion", "spo2": 84}, "C"),
        ("consciousness", {"consciousness": "verbal"}, "V"),
        ("is_on_oxygen", {"on_oxygen": False}, False),
        ("is_sport_mode", {"pulse": 150, "sport_mode": True}, True),
        ("device_id", {"pulse": 150}, None),
    ],
)
def test_what_a_field_means(column: str, member: dict[str, Any], right: Any) -> None:
    assert value(column, **member) == right


@pytest.mark.parametrize(
    ("member", "right"),
    [
        ({}, "no_measurement"),
        ({"sport_mode": True}, "no_measurement"),
        ({"heart_rate": None, "spo2": None}, "no_measurement"),
        ({"temperature": 98.6}, "implausible:temperature"),
        ({"temperature": 37, "unit": "F"}, "implausible:temperature"),
        ({"temperature": 310, "unit": "K"}, "bad_type:unit"),
        ({"consciousness": "GCS 15"}, "bad_type:consciousness"),
        ({"heart_rate": "72"}, "bad_type:heart_rate"),
        ({"sport_mode": 1}, "bad_type:sport_mode"),
        ({"systolic_bp": 80, "diastolic_bp": 80}, "implausible:diastolic_bp"),
        ({"glucose_level": 5.6}, "implausible:glucose_level"),
        ({"glucose_level": 22.2}, "implausible:glucose_level"),
        ({"spo2": 0}, "implausible:spo2"),
        ({"spo2": 0.3}, "implausible:spo2"),
    ],
)
def test_what_is_refused(member: dict[str, Any], right: str) -> None:
    assert reason(**member) == right


@pytest.mark.parametrize(
    ("field", "lowest", "highest"),
    [
        ("heart_rate", 20, 300),
        ("systolic_bp", 40, 300),
        ("diastolic_bp", 20, 200),
        ("spo2", 40, 100),
        ("temperature", 25, 45),
        ("respiratory_rate", 2, 80),
        ("glucose_level", 20, 1000),
    ],
)
def test_both_ends_of_a_plausible_range_are_in_it(field: str, lowest: int, highest: int) -> None:
    for good in (lowest, highest):
        assert processed({field: good, "device_id": 1}).silver.height == 1
    for bad in (lowest - 0.5, highest + 0.5, -lowest):
        assert reason(**{field: bad}) == f"implausible:{field}"


def test_one_implausible_field_refuses_the_whole_reading() -> None:
    assert reason(heart_rate=70, spo2=98, respiratory_rate=90) == "implausible:respiratory_rate"


def test_the_opinion_of_a_sender_is_kept_in_bronze_only() -> None:
    outcome = processed({"heart_rate": 70, "high_heart_rate": True, "alert": True, "alert_occurrence": 3})
    assert outcome.silver.height == 1
    assert outcome.alerts.is_empty()
    assert outcome.unknown_fields == {"high_heart_rate": 1, "alert": 1, "alert_occurrence": 1}


def test_a_reading_without_a_device_repeats_another_one_without_a_device() -> None:
    outcome = processed({"pulse": 70}, {"heart_rate": 70}, {"pulse": 71}, {"pulse": 71, "device_id": 1})
    assert outcome.silver["device_id"].to_list() == [None, 1]
    assert outcome.duplicates["duplicates"].sum() == 1
    assert outcome.quarantine["reason"].to_list() == ["conflicting_duplicate"]


def test_a_value_that_is_missing_contradicts_one_that_is_there() -> None:
    outcome = processed({"pulse": 70}, {"pulse": 70, "spo2": 80})
    assert outcome.quarantine["reason"].to_list() == ["conflicting_duplicate"]
    assert outcome.alerts.select("rule", "is_revision").rows() == [("spo2_low", True), ("spo2_urgent_low", True)]


def test_sport_excuses_a_fast_heart_and_nothing_else() -> None:
    outcome = processed(
        {"heart_rate": 150, "systolic_bp": 150, "sport_mode": True},
        {"heart_rate": 150, "device_id": 1, "sport_mode": False},
    )
    assert outcome.alerts.select("rule", "device_id").rows() == [("systolic_high", None), ("heart_rate_high", 1)]
