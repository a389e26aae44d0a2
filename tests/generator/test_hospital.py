"""The synthetic hospital: the same seed gives the same days, with the faults that hospitals have."""

import json
from collections import Counter
from datetime import date, timedelta

from generator.hospital import hospital_day, patient_rows, trial_rows

DAY = date(2026, 11, 20)


def test_a_day_depends_on_the_seed_and_the_day_alone():
    assert hospital_day(DAY, 5) == hospital_day(DAY, 5)
    assert hospital_day(DAY, 5).ehr != hospital_day(DAY, 5, seed=1).ehr
    # More patients change no one.
    few, many = hospital_day(DAY, 5), hospital_day(DAY, 9)
    assert [row for row in many.ehr if row["patient_id"] <= 5] == few.ehr
    assert patient_rows(9, 0, DAY)[:5] == patient_rows(5, 0, DAY)


def test_the_smallest_hospital_has_something_of_every_kind_on_every_day():
    for number in range(20):
        assert all(hospital_day(DAY + timedelta(days=number), 1)[:4]), number
        assert hospital_day(DAY + timedelta(days=number), 1).documents, number


def test_keys_of_rows_are_unique_over_days():
    days = [hospital_day(DAY + timedelta(days=number), 30) for number in range(5)]
    for name, key in (("ehr", "id"), ("telemetry", "id"), ("encounters", "encounter_id"), ("logs", "log_id")):
        keys = [row[key] for made in days for row in getattr(made, name)]
        assert keys
        assert len(keys) == len(set(keys)), name


def test_faults_happen_and_are_rare():
    rows = [row for number in range(8) for row in hospital_day(DAY + timedelta(days=number), 50).ehr]
    kinds = Counter(type(row["reading"]).__name__ for row in rows)
    assert kinds["NoneType"]
    assert kinds["str"]
    assert kinds["float"] > 0.97 * len(rows)
    assert any(row["timestamp"] == "yesterday" for row in rows)
    repeated = Counter((row["patient_id"], row["timestamp"]) for row in rows)
    assert max(repeated.values()) > 1


def test_some_lines_of_events_are_damaged():
    lines = [line for number in range(8) for line in hospital_day(DAY + timedelta(days=number), 50).events]

    def is_json(line: str) -> bool:
        try:
            return bool(json.loads(line))
        except ValueError:
            return False

    good = sum(map(is_json, lines))
    assert 0.95 * len(lines) < good < len(lines)


def test_trials_grow_until_they_are_complete():
    first, last = trial_rows(date(2026, 2, 1)), trial_rows(date(2030, 1, 1))
    assert all(a["enrolled"] <= b["enrolled"] for a, b in zip(first, last, strict=True))
    assert {row["status"] for row in last} == {"completed"}
