"""Vital signs in the store: what the rules said of a reading, and where an alert begins."""

from datetime import timedelta
from typing import Any

import polars as pl
import pytest

from assets.store_sync import StoreSync
from assets.sync.vitals import patient_status
from tests.store.values import DAY, NEXT_DAY, NOON, VITALS, add, replace_day, silver

ALERTS = VITALS.contract.tables.alerts
SILVER = VITALS.contract.tables.silver


def vital(seconds: float, number: int, patient: int = 1, **values: Any) -> dict[str, Any]:
    at = NOON + timedelta(seconds=seconds)
    plain = {
        "patient_id": patient,
        "measured_at": at,
        "received_at": at,
        "heart_rate_bpm": 80.0,
        "partition": 0,
        "sequence_number": number,
        "event_index": 0,
        "event_date": at.date(),
        "ingest_date": DAY,
    }
    return plain | values


def alert(of: dict[str, Any], rule: str) -> dict[str, Any]:
    known = ALERTS.schema
    said = {"alert_id": f"{rule}/{of['sequence_number']}", "rule": rule, "rule_version": 1, "severity": "warning"}
    return {name: value for name, value in (of | said | {"threshold": 1.0}).items() if name in known}


def status(readings: list[dict[str, Any]], alerts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = patient_status(pl.DataFrame(readings, schema=SILVER.schema), pl.DataFrame(alerts, schema=ALERTS.schema))
    return rows.sort("timestamp", "patient_id").to_dicts()


def test_each_broken_rule_has_its_column_and_any_rule_is_an_alert():
    readings = [vital(60 * number, number) for number in range(4)]
    rules = ["heart_rate_high", "systolic_high", "vitals_glucose_high", "spo2_low"]
    found = status(readings, [alert(each, rule) for each, rule in zip(readings, rules, strict=True)])
    columns = ("high_heart_rate", "high_bp", "high_glucose", "alert")
    assert [tuple(each[name] for name in columns) for each in found] == [
        (True, False, False, True),
        (False, True, False, True),
        (False, False, True, True),
        (False, False, False, True),
    ]


def test_a_reading_without_an_alert_has_none():
    [found] = status([vital(0, 1, heart_rate_bpm=None, is_sport_mode=None)], [])
    assert (found["alert"], found["high_bp"], found["alert_occurrence"], found["heart_rate"]) == (False, False, 0, None)
    assert (found["device_id"], found["sport_mode"], found["timestamp"]) == (-1, None, NOON.replace(tzinfo=None))


def occurrences(readings: list[dict[str, Any]]) -> list[int]:
    return [each["alert_occurrence"] for each in status(readings, [alert(each, "spo2_low") for each in readings])]


def test_an_alert_within_a_minute_of_another_one_belongs_to_it():
    # One minute after it, it does still: the window is [t - 60 s, t).
    assert occurrences([vital(0, 1), vital(30, 2), vital(90, 3), vital(150.001, 4)]) == [1, 0, 0, 1]


def test_in_sport_the_time_is_longer():
    assert occurrences([vital(0, 1), vital(100, 2, is_sport_mode=True), vital(240, 3, is_sport_mode=True)]) == [1, 0, 1]


def test_patients_and_partitions_do_not_count_for_each_other():
    assert occurrences([vital(0, 1), vital(1, 2, patient=2), vital(2, 3, partition=1)]) == [1, 1, 1]


def test_an_alert_that_came_later_does_not_change_what_was_said_before():
    # Number 5 was measured before number 4 and came after it.
    assert occurrences([vital(10, 4), vital(0, 5), vital(20, 6)]) == [1, 1, 0]


def test_several_rules_of_one_reading_are_one_occurrence():
    reading = vital(0, 1)
    [found] = status([reading], [alert(reading, "spo2_low"), alert(reading, "heart_rate_high")])
    assert (found["alert_occurrence"], found["high_heart_rate"]) == (1, True)


@pytest.fixture
def sync(lake, store) -> StoreSync:
    return StoreSync(lake, store, clock=lambda: NOON)


def rows_of(store) -> list[tuple[Any, ...]]:
    columns = ["timestamp", "patient_id", "heart_rate", "alert", "alert_occurrence"]
    return sorted(each for rows in store.rows("patient_status", columns) for each in rows.iter_rows())


def add_alerts(lake, readings) -> None:
    table = lake.table(ALERTS).create()
    table.append(
        pl.DataFrame([alert(each, "heart_rate_high") for each in readings], schema=ALERTS.schema), transactions={}
    )


def test_alerts_of_earlier_commits_count(sync, lake, store):
    first, second = [vital(0, 1)], [vital(20, 2), vital(40, 3)]
    add_alerts(lake, first)
    add(lake, VITALS, first)
    sync.catch_up(VITALS)
    add_alerts(lake, second[1:])
    add(lake, VITALS, second)
    sync.catch_up(VITALS)
    assert [each[3:] for each in rows_of(store)] == [(True, 1), (False, 0), (True, 0)]
    assert sync.compare(VITALS, DAY).is_equal


def test_a_rebuild_of_alerts_reaches_the_store_though_it_follows_that_of_silver(sync, lake, store):
    readings = [vital(0, 1), vital(100, 2)]
    add_alerts(lake, readings)
    add(lake, VITALS, readings)
    sync.catch_up(VITALS)
    replace_day(lake, VITALS.contract, DAY, readings)
    sync.catch_up(VITALS)
    # As a rebuild: silver first, then alerts, with silver's number.
    lake.table(ALERTS).replace([], f"ingest_date = '{DAY}'", transactions={"vitals/replaced": 1})
    sync.catch_up(VITALS)
    assert [each[3:] for each in rows_of(store)] == [(False, 0), (False, 0)]
    assert sync.compare(VITALS, DAY).is_equal


def test_the_view_has_the_newest_row_of_each_patient(sync, lake, store):
    add(lake, VITALS, [vital(0, 1), vital(10, 2, device_id=7), vital(10, 3, device_id=8), vital(5, 4, patient=2)])
    add(lake, VITALS, [vital(-5, 5, patient=3, ingest_date=NEXT_DAY)])
    sync.catch_up(VITALS)
    assert store.count("patient_status") == 5
    newest = store.query("SELECT patient_id, device_id FROM patient_status_latest ORDER BY patient_id")
    assert newest == [(1, 8), (2, -1), (3, -1)]
    assert silver(lake, VITALS).count() == 5
