"""`gold/patient_360`: each part's figures, that nobody is lost, and that a refresh comes to what all rows come to."""

from datetime import date, timedelta
from pathlib import Path
from random import Random
from typing import Any

import polars as pl
import pytest

from assets.adverse_events.tables import REPORTS_BY_SUBSTANCE
from assets.alarms.measures import ALARMS
from assets.clinical.sources import EHR, EHR_ENCOUNTERS, EHR_MEDICATIONS, EHR_PATIENTS, TRIAL_LOGS
from assets.clinical.tables import DOCUMENT_INDEX
from assets.clinical_layers import EMPTIED, REVISION
from assets.glucose.tables import GLUCOSE_DAILY
from assets.patients import parts
from assets.patients.tables import PATIENT_360
from assets.patients_refresh import Patient360Refresh
from assets.reference.tables import PATIENTS
from assets.vitals.tables import NEWS2, VITALS_DAILY, VITALS_MINUTE
from resources.lake import ConcurrentWriteError, Lake
from tests.patients.tables import DAY, NOON, at, glucose_day, put


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def refreshed(lake: Lake) -> dict[int, dict[str, Any]]:
    """The rows after a refresh, by patient."""
    Patient360Refresh(lake).refresh(NOON)
    return {row["patient_id"]: row for row in lake.table(PATIENT_360).scan().collect().iter_rows(named=True)}


def lost(lake: Lake) -> int:
    gold = Patient360Refresh(lake)
    return gold.lost(NOON, gold.known(NOON))


def days(first: int, last: int) -> list[date]:
    return [DAY + timedelta(days=day) for day in range(first, last + 1)]


def test_control_is_of_the_14_dates_that_end_with_the_last_reading(lake):
    # 14 dates of 100 and 140 in turn; the dates before them would change every figure.
    of_window = [glucose_day(1, day, 100.0 if day.day % 2 else 140.0) for day in days(-13, 0)]
    before = [glucose_day(1, day, 300.0, tir_time_percent=0.0) for day in days(-20, -14)]
    away = [glucose_day(2, day, 200.0, active_percent=60.0) for day in days(-400, -395)]
    put(lake, GLUCOSE_DAILY, [*before, *of_window, *away])
    rows = refreshed(lake)
    one, two = rows[1], rows[2]
    assert (one["glucose_date"], one["glucose_at"].hour, one["glucose_mg_dl"]) == (DAY, 23, 141.0)
    assert (one["control_day_count"], one["control_reading_count"]) == (14, 14 * 288)
    assert one["mean_mg_dl"] == pytest.approx(120.0)
    assert one["gmi_percent"] == pytest.approx(3.31 + 0.02392 * 120)
    # The variance of all readings: within days 20², between days 20².
    n = 14 * 288
    variance = (14 * 287 * 400 + n * 400) / (n - 1)
    assert one["cv_percent"] == pytest.approx(100 * variance**0.5 / 120)
    assert one["tir_time_percent"] == pytest.approx(75.0)
    assert (one["control_active_percent"], one["has_enough_readings"]) == (100.0, True)
    # Who has been away for more than a year is there as they were.
    assert (two["glucose_date"], two["glucose_mg_dl"], two["control_day_count"]) == (days(-395, -395)[0], 201.0, 6)
    assert two["control_active_percent"] == pytest.approx(6 * 60 / 14)
    assert not two["has_enough_readings"]


def test_vital_signs_are_the_last_known_ones_of_two_dates(lake):
    yesterday, today = days(-1, 0)
    put(lake, VITALS_DAILY, [{"patient_id": 1, "event_date": day, "reading_count": 1} for day in days(-2, 0)])
    minutes = [
        {"event_date": days(-2, -2)[0], "minute_at": at(-2), "spo2_percent_mean": 80.0, "heart_rate_bpm_mean": 50.0},
        {"event_date": yesterday, "minute_at": at(-1), "temperature_c_mean": 38.5, "heart_rate_bpm_mean": 60.0},
        {"event_date": today, "minute_at": at(0, 9), "heart_rate_bpm_mean": 71.0},
        {"event_date": today, "minute_at": at(0, 8), "heart_rate_bpm_mean": 70.0},
        {"event_date": today, "minute_at": at(0, 10), "respiratory_rate_per_min_mean": 14.0},
    ]
    put(lake, VITALS_MINUTE, [{"patient_id": 1, "reading_count": 1} | row for row in minutes])
    scores = [(at(-1), 7, "high"), (at(-1, 13), 3, "low")]
    put(
        lake,
        NEWS2,
        [
            {"patient_id": 1, "event_date": yesterday, "evaluated_at": when, "news2_score": score, "news2_risk": risk}
            for when, score, risk in scores
        ],
    )
    [row] = refreshed(lake).values()
    assert (row["vitals_date"], row["heart_rate_bpm"], row["heart_rate_bpm_at"]) == (today, 71.0, at(0, 9))
    assert (row["temperature_c"], row["temperature_c_at"]) == (38.5, at(-1))
    assert (row["respiratory_rate_per_min"], row["spo2_percent"]) == (14.0, None)
    assert (row["news2_score"], row["news2_risk"], row["news2_at"]) == (3, "low", at(-1, 13))


def test_open_alarms_are_counted_and_those_of_devices_and_those_that_ended_are_not(lake):
    def alarm(severity: str, hour: int, **more: Any) -> dict[str, Any]:
        return {
            "alarm_id": f"{severity}{hour}",
            "entity": 1,
            "entity_key": "patient_id",
            "stream": "glucose_readings",
            "worst_severity": severity,
            "raised_at": at(0, hour),
            "is_open": True,
        } | more

    put(
        lake,
        ALARMS,
        [
            alarm("warning", 9, acknowledged_at=NOON),
            alarm("urgent", 10),
            alarm("info", 11),
            alarm("urgent", 1, is_open=False),
            alarm("urgent", 2, entity_key="device_id"),
            alarm("info", 3, entity=5),
        ],
    )
    rows = refreshed(lake)
    one = rows[1]
    assert {*rows} == {1, 5}
    assert (one["open_alarm_count"], one["unacknowledged_alarm_count"]) == (3, 2)
    assert (one["worst_alarm_severity"], one["open_alarm_since"]) == ("urgent", at(0, 9))
    put(lake, ALARMS, [])
    assert refreshed(lake) == {}


def test_the_hospital_s_facts_are_those_of_its_tables(lake):
    reading = {"patient_id": 1, "kind": "glucose", "unit": "mg/dL", "revision": 1}
    put(
        lake,
        EHR.silver,
        [
            reading | {"event_date": day, "measured_at": at(back), "reading": 100.0 + back, "is_outlier": back == -29}
            for back, day in zip(range(-30, 1), days(-30, 0), strict=True)
        ],
    )
    entry = {"patient_id": 1, "kind": "Adverse", "revision": 1}
    put(
        lake,
        TRIAL_LOGS.silver,
        [
            entry | {"log_id": 1, "trial_id": "NCT-2", "event_date": days(-365, -365)[0], "logged_at": at(-365)},
            entry | {"log_id": 2, "trial_id": "NCT-3", "event_date": days(-364, -364)[0], "logged_at": at(-364)},
            entry | {"log_id": 3, "trial_id": "NCT-1", "event_date": DAY, "logged_at": NOON, "kind": "visit"},
            entry | {"log_id": 4, "trial_id": "NCT-9", "event_date": DAY, "logged_at": NOON, "patient_id": None},
        ],
    )
    put(
        lake,
        EHR_ENCOUNTERS.silver,
        [
            {"encounter_id": 2, "patient_id": 1, "admitted_at": NOON, "kind": "inpatient", "department": "Cardiology"},
            {"encounter_id": 3, "patient_id": 1, "admitted_at": at(-9), "discharged_at": at(-8), "kind": "emergency"},
        ],
    )
    put(
        lake,
        DOCUMENT_INDEX,
        [{"path": f"patient-1/<{number}>.txt", "patient_id": 1, "modified_at": at(-number)} for number in (1, 0, 2)]
        + [{"path": "x", "patient_id": None}],
    )
    drug = {"patient_id": 1, "ended_on": None}
    put(
        lake,
        EHR_MEDICATIONS.silver,
        [
            drug | {"medication_id": 1, "drug_name": "Metformin", "substance": "METFORMIN"},
            drug | {"medication_id": 2, "drug_name": "METFORMIN", "substance": "METFORMIN"},
            drug | {"medication_id": 3, "drug_name": "Unheard", "substance": "UNHEARD"},
            drug | {"medication_id": 4, "drug_name": "Warfarin", "substance": "WARFARIN", "ended_on": DAY},
            drug | {"medication_id": 5, "drug_name": "once", "substance": "METFORMIN", "ended_on": DAY},
            drug | {"medication_id": 6, "patient_id": 2, "substance": "WARFARIN", "ended_on": DAY},
        ],
    )
    reports = [("METFORMIN", 12, 5), ("WARFARIN", 100, 100)]
    put(
        lake,
        REPORTS_BY_SUBSTANCE,
        [{"substance": name, "report_count": count, "serious_count": bad} for name, count, bad in reports],
    )
    rows = refreshed(lake)
    row = rows[1]
    assert (rows[2]["drugs"], rows[2]["drug_count"], rows[2]["drug_report_count"]) == ("", 0, 0)
    assert lost(lake) == 0
    assert (row["ehr_at"], row["ehr_reading"], row["ehr_reading_count"], row["ehr_outlier_count"]) == (NOON, 100, 30, 1)
    assert (row["trials"], row["trial_count"], row["trial_entry_count"]) == ("NCT-1; NCT-3", 2, 2)
    assert (row["trial_adverse_count"], row["trial_entry_at"]) == (1, NOON)
    assert (row["encounter_count"], row["encounter_department"], row["discharged_at"]) == (2, "Cardiology", None)
    assert (row["document_count"], row["latest_document"]) == (3, "patient-1/<0>.txt")
    assert (row["drugs"], row["drug_count"], row["reported_drug_count"]) == ("Metformin; Unheard", 2, 1)
    assert (row["drug_report_count"], row["drug_serious_count"]) == (12, 5)


def test_who_is_known_in_reference_data_or_in_the_hospital_alone_has_a_row(lake):
    version = {"valid_from": at(-9), "known_at": at(-9), "gender": "female"}
    put(
        lake,
        PATIENTS.table,
        [
            version | {"patient_id": 1, "full_name": "before"},
            version | {"patient_id": 1, "full_name": "<b>Anna</b>", "valid_from": at(-1)},
            version | {"patient_id": 1, "full_name": "later", "valid_from": at(1)},
            version | {"patient_id": 3, "full_name": "there once", "valid_from": at(-2)},
            version | {"patient_id": 3, "full_name": "gone", "is_deleted": True, "valid_from": at(-1)},
            version | {"patient_id": 4, "full_name": "not there yet", "valid_from": at(1)},
        ],
    )
    put(
        lake,
        EHR_PATIENTS.silver,
        [
            {"patient_id": 1, "full_name": "A. of the hospital", "date_of_birth": DAY},
            {"patient_id": 2, "full_name": "Łukasz"},
        ],
    )
    rows = refreshed(lake)
    assert {patient: (row["full_name"], row["is_in_reference"], row["is_in_ehr"]) for patient, row in rows.items()} == {
        1: ("<b>Anna</b>", True, True),
        2: ("Łukasz", False, True),
    }
    assert rows[1]["date_of_birth"] == DAY
    assert (lost(lake), Patient360Refresh(lake).repeated()) == (0, 0)
    put(lake, GLUCOSE_DAILY, [glucose_day(5, DAY), glucose_day(1, DAY)], DAY)
    assert lost(lake) == 1


def test_a_refresh_without_news_writes_nothing_and_house_keeping_of_a_source_only_a_mark(lake):
    put(lake, GLUCOSE_DAILY, [glucose_day(1, DAY)], DAY)
    gold = Patient360Refresh(lake)
    assert gold.is_pending(NOON)
    refreshed(lake)
    assert not gold.is_pending(NOON)
    version, [file] = lake.table(PATIENT_360).version(), lake.table(PATIENT_360).delta().file_uris()
    refreshed(lake)
    assert lake.table(PATIENT_360).version() == version
    lake.table(GLUCOSE_DAILY).append(pl.DataFrame(schema=GLUCOSE_DAILY.schema), transactions={"x": 1})
    assert gold.is_pending(NOON)
    refreshed(lake)
    assert not gold.is_pending(NOON)
    assert lake.table(PATIENT_360).delta().file_uris() == [file]


def test_only_the_rows_of_patients_and_dates_that_changed_are_read(lake, monkeypatch):
    put(lake, GLUCOSE_DAILY, [glucose_day(1, day) for day in days(-40, 0)] + [glucose_day(2, days(-90, -90)[0])])
    refreshed(lake)
    seen = list[pl.DataFrame]()

    def spy(self: Patient360Refresh, source: parts.Source, last: pl.DataFrame, count: int) -> pl.DataFrame:
        seen.append(last)
        return real(self, source, last, count)

    real = Patient360Refresh._window
    monkeypatch.setattr(Patient360Refresh, "_window", spy)
    put(lake, GLUCOSE_DAILY, [glucose_day(1, DAY, 150.0)], DAY)
    rows = refreshed(lake)
    assert [frame["patient_id"].to_list() for frame in seen] == [[1]]
    assert (rows[1]["glucose_mg_dl"], rows[2]["glucose_date"]) == (151.0, days(-90, -90)[0])
    # A date that is in nobody's window changes nothing.
    put(lake, GLUCOSE_DAILY, [glucose_day(1, days(-30, -30)[0], 400.0)], days(-30, -30)[0])
    assert refreshed(lake) == rows
    assert len(seen) == 1


def test_a_drug_counts_until_the_day_of_its_planned_end_and_no_table_need_change_for_that(lake):
    drug = {"patient_id": 1, "medication_id": 1, "drug_name": "Metformin", "substance": "METFORMIN"}
    put(lake, EHR_MEDICATIONS.silver, [drug | {"ended_on": days(1, 1)[0]}])
    put(lake, REPORTS_BY_SUBSTANCE, [{"substance": "METFORMIN", "report_count": 12, "serious_count": 5}])
    row = refreshed(lake)[1]
    assert (row["drugs"], row["drug_count"], row["drug_report_count"]) == ("Metformin", 1, 12)
    gold = Patient360Refresh(lake)
    assert not gold.is_pending(NOON)
    assert gold.is_pending(at(1))
    gold.refresh(at(1))
    [row] = lake.table(PATIENT_360).scan().collect().iter_rows(named=True)
    assert (row["drugs"], row["drug_count"], row["drug_report_count"]) == ("", 0, 0)
    assert not gold.is_pending(at(1))


def test_a_patient_who_comes_or_goes_during_a_refresh_is_not_lost(lake):
    put(lake, GLUCOSE_DAILY, [glucose_day(1, DAY), glucose_day(2, DAY)], DAY)
    gold = Patient360Refresh(lake)
    known = gold.known(NOON)
    put(lake, GLUCOSE_DAILY, [glucose_day(1, DAY)], DAY)
    gold.refresh(NOON)
    put(lake, GLUCOSE_DAILY, [glucose_day(3, days(-1, -1)[0])], days(-1, -1)[0])
    assert gold.lost(NOON, known) == 0
    lake.table(PATIENT_360).replace([], None)
    assert gold.lost(NOON, known) == 1


def test_a_slower_refresh_is_refused(lake):
    put(lake, GLUCOSE_DAILY, [glucose_day(1, DAY)], DAY)
    refreshed(lake)
    put(lake, GLUCOSE_DAILY, [glucose_day(1, DAY, 150.0)], DAY)
    slower, faster = Patient360Refresh(lake), Patient360Refresh(lake)
    known = lake.table(PATIENT_360).transactions(slower._marks(NOON))
    faster.refresh(NOON)
    with pytest.raises(ConcurrentWriteError):
        lake.table(PATIENT_360).replace([], None, transactions=slower._marks(NOON), expected=dict(known))


def test_an_entry_whose_date_is_corrected_leaves_the_date_before(lake):
    entry = {"log_id": 1, "trial_id": "NCT-1", "patient_id": 1, "kind": "visit"}
    wrong, right = days(0, 0)[0], days(-9, -9)[0]
    put(lake, TRIAL_LOGS.silver, [entry | {"event_date": wrong, "logged_at": NOON, "revision": 1}], wrong)
    assert refreshed(lake)[1]["trial_date"] == wrong
    put(lake, TRIAL_LOGS.silver, [entry | {"event_date": right, "logged_at": at(-9), "revision": 2}], wrong, right)
    row = refreshed(lake)[1]
    assert (row["trial_date"], row["trial_entry_count"], row["trial_entry_at"]) == (right, 1, at(-9))


def test_a_date_that_lost_all_its_rows_counts_no_more(lake):
    entry = {"trial_id": "NCT-1", "patient_id": 1, "kind": "visit"}
    early, late = days(-100, -100)[0], days(0, 0)[0]
    put(
        lake,
        TRIAL_LOGS.silver,
        [
            entry | {"log_id": 1, "event_date": early, "logged_at": at(-100), "revision": 1},
            entry | {"log_id": 2, "event_date": late, "logged_at": NOON, "revision": 2},
        ],
    )
    assert refreshed(lake)[1]["trial_entry_count"] == 2
    marks = {REVISION: 3, EMPTIED: 3}
    lake.table(TRIAL_LOGS.silver).replace([], f"event_date = '{early}'", transactions=marks)
    assert Patient360Refresh(lake).is_pending(NOON)
    assert refreshed(lake)[1]["trial_entry_count"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_whatever_changes_a_refresh_comes_to_what_all_rows_come_to(lake, tmp_path, seed):
    """Dates are added, replaced and emptied, in any order, also of patients who were away, and a log is lost."""
    rng, span = Random(seed), days(-60, 0)
    for revision in range(1, 15):
        day = rng.choice(span[-20:] if rng.random() < 0.7 else span)
        patients = [patient for patient in range(1, 6) if rng.random() < 0.5]
        if rng.random() < 0.6:
            put(lake, GLUCOSE_DAILY, [glucose_day(each, day, rng.uniform(60, 300)) for each in patients], day)
        else:
            row = {"event_date": day, "measured_at": at((day - DAY).days), "revision": revision}
            # Silver of the hospital loses no row.
            put(lake, EHR.silver, [row | {"patient_id": each, "reading": rng.random()} for each in (*patients, 9)], day)
        if revision == 9:
            # As after a long outage: the log no longer tells what changed.
            lake.table(GLUCOSE_DAILY).delta().create_checkpoint()
            for entry in sorted(Path(lake.root).glob("gold/glucose_daily/_delta_log/*.json"))[:-1]:
                entry.unlink()
        if rng.random() < 0.7:
            assert refreshed(lake) == refreshed(beside(lake, tmp_path / f"anew {revision}")), revision


def beside(lake: Lake, folder: Path) -> Lake:
    """A lake with the same tables but for `gold/patient_360`."""
    (folder / "gold").mkdir(parents=True)
    for name in ("silver", "gold/glucose_daily"):
        (folder / name).symlink_to(Path(lake.root) / name)
    return Lake(str(folder))
