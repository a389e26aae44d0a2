"""`gold/patient_360` and the first load of clinical sources under Dagster: what sensors start, what checks find."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from assets.clinical.sources import EHR, SOURCES
from assets.patients.tables import PATIENT_360
from assets.patients_refresh import Patient360Refresh
from orchestration.hospital import make_hospital, served_telemetry
from orchestration.hospital_loads import load_hospital, reconciled
from resources.batch_sources import EHR_FILE, TRIALS_FILE
from resources.settings import Settings
from tests.orchestration.site import GOLD, Site, readings, today

pytestmark = pytest.mark.service


@pytest.fixture
def hospital(offline: Site) -> Iterator[Path]:
    """A small hospital, whose telemetry is served."""
    folder = Settings().hospital
    make_hospital(folder, patients=3, days=2, until=datetime.now(UTC))
    with served_telemetry(folder, 0) as address:
        offline.set(PULSELAKE_TELEMETRY_URL=address)
        yield folder


def checks(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {check.check_name: check.passed for check in result.get_asset_check_evaluations()}


def test_a_patient_of_a_stream_is_in_the_table_and_the_sensor_rests_until_there_is_news(site):
    assert site.tick("patients_sensor").run_requests
    result = site.run("patient_360")
    assert result.success
    assert site.lake.table(PATIENT_360).count() == 0
    assert not site.tick("patients_sensor").run_requests
    site.send(readings(3, value=150.0))
    assert site.run_session().success
    assert site.run(GOLD, partition_key=today().isoformat()).success
    assert site.tick("patients_sensor").run_requests
    result = site.run("patient_360")
    assert checks(result) == {"one_row_a_patient": True, "no_patient_lost": True}
    [row] = site.lake.table(PATIENT_360).scan().collect().iter_rows(named=True)
    assert (row["patient_id"], row["glucose_mg_dl"], row["has_enough_readings"]) == (1, 150.0, False)
    # What Dagster is told are counts.
    assert "150" not in "".join(str(event) for event in result.all_events if event.is_step_materialization)
    # A row that is there twice, and a patient who has none, are found.
    table = site.lake.table(PATIENT_360)
    twice = table.scan().collect().with_columns(patient_id=pl.lit(77, pl.Int64))
    table.replace([pl.concat([twice, twice])], None)
    gold, now = Patient360Refresh(site.lake), datetime.now(UTC)
    assert (gold.repeated(), gold.lost(now, gold.known(now))) == (1, 1)


def test_sources_that_are_set_up_are_loaded_once_at_once(offline, hospital):
    [request] = offline.tick("clinical_first_load_sensor").run_requests
    only = [key.to_user_string() for key in request.asset_selection]
    assert {f"bronze/{each.name}" for each in SOURCES} <= {*only}
    # A first load may take longer than an hour, and some sources have silver before others: no second run is started.
    at_work = offline.record("clinical_load", dg.DagsterRunStatus.STARTED)
    assert not offline.tick("clinical_first_load_sensor").run_requests
    offline.instance.report_run_canceled(at_work)
    # One that cannot be loaded keeps no other from it, and is tried again.
    (hospital / TRIALS_FILE).rename(hospital / "away")
    assert not offline.run("clinical_load", only=only, partition_key=request.partition_key).success
    [again] = offline.tick("clinical_first_load_sensor").run_requests
    assert {key.path[-1] for key in again.asset_selection} == {"trials", "trial_logs"}
    assert again.run_key != request.run_key
    (hospital / "away").rename(hospital / TRIALS_FILE)
    only = [key.to_user_string() for key in again.asset_selection]
    assert offline.run("clinical_load", only=only, partition_key=again.partition_key).success
    assert not offline.tick("clinical_first_load_sensor").run_requests


def test_every_row_of_a_hospital_is_accounted_for_and_one_that_is_lost_is_noticed(offline):
    lake, folder = offline.lake, Settings().hospital
    make_hospital(folder, patients=8, days=3, until=datetime.now(UTC))
    with closing(sqlite3.connect(folder / EHR_FILE)) as connection:
        # So few patients have a bad row in most stretches of three days, not in all.
        connection.execute("UPDATE EHR SET reading = 'n/a' WHERE id = (SELECT min(id) FROM EHR)")
        connection.commit()
    loaded = load_hospital(Settings(), lake, patients=8, days=3)
    assert [each.name for each in loaded if not each.is_reconciled] == []
    assert sum(each.quarantined for each in loaded)
    silver = lake.table(EHR.silver)
    silver.replace([silver.scan().collect().tail(-1)], None)
    assert not reconciled(lake, EHR).is_reconciled
