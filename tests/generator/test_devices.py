import json
from collections import Counter
from datetime import timedelta
from itertools import pairwise

import numpy as np

from generator.cadence import HOUR_US, MINUTE_US
from generator.devices import Traits, battery, error_codes, firmware

CONSTANTS = {"repeats": 0, "late": 0, "variations": 0, "gaps": 0}


def traits() -> Traits:
    one = np.ones(1)
    return Traits(
        lasts_hours=40 * one, charges_hours=2 * one, lowest=10 * one, phase_hours=0 * one, firmware_lag_days=0 * one
    )


def test_a_battery_drains_slowly_and_charges_quickly():
    hours = np.array([0, 20, 39.999, 41, 42])
    levels = battery(traits(), np.zeros(5, dtype=np.int64), (hours * HOUR_US).astype(np.int64))
    assert levels.tolist() == [100, 55, 10, 55, 100]


def test_firmware_only_goes_up_every_ten_days():
    days = np.arange(0, 60_000_000, 10_000) * MINUTE_US
    releases = firmware(traits(), np.zeros(len(days), dtype=np.int64), days)
    assert releases[0] == 0
    assert set(np.diff(releases)) <= {0, 1}


def test_errors_have_causes():
    statuses = np.array(["Connected", "Poor Connection", "Connected", "Connected"])
    codes = error_codes(np.array([50, 50, 5, 50]), statuses, np.array([0.1, 0.1, 0.1, 0.999]))
    assert codes.tolist() == ["", "Err2", "Err1", "Err3"]


def test_a_month_of_a_fleet_shows_all_there_is(devices):
    events = devices(count=60_000, patients=10, spacing=timedelta(minutes=15), **CONSTANTS)
    reports = [json.loads(event.body) for event in events]
    statuses = Counter(report["connectivity_status"] for report in reports)
    assert set(statuses) == {"Connected", "Disconnected", "Poor Connection"}
    assert 0.85 < statuses["Connected"] / len(reports) < 0.95
    assert {report["error_codes"] for report in reports} == {"", "Err1", "Err2", "Err3"}
    assert all(0 <= report["battery_level"] <= 100 for report in reports)
    assert min(report["battery_level"] for report in reports) < 20
    assert len({report["firmware_version"] for report in reports}) > 4


def test_connectivity_comes_in_episodes(devices):
    events = devices(count=5000, patients=1, spacing=timedelta(minutes=1), **CONSTANTS)
    statuses = [json.loads(event.body)["connectivity_status"] for event in events]
    changes = sum(one != other for one, other in pairwise(statuses))
    assert 5 < changes <= 5000 / 20


def test_silent_gaps_last_half_an_hour(devices):
    events = devices(count=5000, patients=1, spacing=timedelta(minutes=1), **CONSTANTS | {"gaps": 0.1})
    stamps = np.array([json.loads(event.body)["timestamp"] for event in events], dtype="datetime64[m]")
    gaps = np.diff(stamps).astype(int)
    assert set(gaps[gaps > 1] % 30) == {1}
    assert 5 < (gaps > 1).sum() < 40


def test_devices_are_keyed_by_device_and_are_those_of_the_patients(devices, glucose):
    worn = {
        json.loads(event.body)["device_id"] for event in glucose(count=50, spacing=timedelta(minutes=5), variations=0)
    }
    events = list(devices(count=50, spacing=timedelta(minutes=5), variations=0))
    assert {int(event.key) for event in events} == worn
    assert all(json.loads(event.body)["device_id"] == int(event.key) for event in events)
