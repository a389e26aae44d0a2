"""The commands `pulselake oltp …`, and what `pulselake status` says of the store."""

import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from assets.reference.tables import PATIENTS
from assets.store_sync import Compared, StoreSync
from orchestration import oltp, terminal
from orchestration.cli import app
from orchestration.oltp import LEASE, line_of
from resources.lake import Lake
from resources.settings import Settings
from resources.store import Store
from tests.store.test_reference import load, patient
from tests.store.values import (
    DAY,
    GLUCOSE,
    add,
    add_alarms,
    expected,
    expected_alarms,
    expected_lifecycle,
    history,
    readings,
    stored,
    stored_alarms,
    stored_lifecycle,
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PULSELAKE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(terminal.out, "_width", 200)
    return tmp_path


@pytest.fixture
def lake(home: Path) -> Lake:
    return Lake(str(home / "lake"))


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["oltp", *arguments])
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def own(home: Path) -> Store:
    return Store(f"sqlite:///{home / 'oltp.db'}")


def test_the_file_in_the_home_is_made_at_its_first_use(home, lake):
    add(lake, GLUCOSE, rows := readings(range(20)))
    load(lake, PATIENTS, patient(1))
    assert "21 rows were written; the store has what the lake has." in run("sync", "--once")
    assert stored(own(home)) == expected(rows)
    assert own(home).count("Patient") == 1
    assert "0 rows were written" in run("sync", "--once")


def test_status_says_how_far_each_table_is(home, lake):
    add(lake, GLUCOSE, readings(range(20)))
    add_alarms(lake, history([1]))
    run("sync", "--once")
    add(lake, GLUCOSE, readings(range(20, 25)))
    add_alarms(lake, history([2]))
    told = run("status")
    assert "nobody: run `pulselake oltp sync`" in told
    assert "│ GlucoseReadings │ 1 │ 5 │" in told
    assert "│ Alerts/glucose_readings │ 1 │ 2 │" in told
    lease = Settings().lease(LEASE, "oltp sync 7")
    lease.active.take()
    assert "at work: oltp sync 7 since" in run("status")
    lease.release()


def test_status_fails_where_an_edit_cannot_be_taken(home, lake):
    load(lake, PATIENTS, patient(1))
    run("sync", "--once")
    store = own(home)
    with store._engine.begin() as connection:
        connection.exec_driver_sql("UPDATE Patient SET gender = 'unclear'")
    run("sync", "--once")
    assert "Patient: 1 rows do not get into reference data: patient_id 1, column gender" in run("status", code=1)
    assert "look at Patient" in line_of(Settings())


def test_the_line_of_status_makes_no_store(home):
    assert line_of(Settings()) == ""
    assert not (home / "oltp.db").exists()
    run("migrate")
    assert line_of(Settings()).endswith("oltp.db, up to date")


def test_resync_brings_deleted_rows_and_dropped_tables_back(home, lake):
    add(lake, GLUCOSE, rows := readings(range(20)))
    run("sync", "--once")
    store = own(home)
    for statement in ("DELETE FROM GlucoseReadings", "DROP TABLE GlucoseReadings"):
        with store._engine.begin() as connection:
            connection.exec_driver_sql(statement)
        assert "GlucoseReadings: 20 rows were written; it has what the lake has." in run("resync", "glucosereadings")
        assert stored(store) == expected(rows)
    assert StoreSync(lake, store).compare(GLUCOSE, DAY) == Compared(20, 20, is_equal=True)


@pytest.mark.parametrize("table", ["alerts", "AlertLifecycle"])
def test_resync_fills_both_tables_of_alarms(home, lake, table):
    add_alarms(lake, rows := history(range(1, 6)))
    run("sync", "--once")
    store = own(home)
    for statement in ("DELETE FROM Alerts", "DROP TABLE AlertLifecycle"):
        store.execute(statement)
        assert "Alerts and AlertLifecycle: 12 rows were written; it has what the lake has." in run("resync", table)
        assert stored_alarms(store) == expected_alarms(rows)
        assert stored_lifecycle(store) == expected_lifecycle(rows)


def test_alarms_name_readings_by_the_numbers_that_a_resync_gave_them(home, lake):
    add(lake, GLUCOSE, readings(range(6)))
    add_alarms(lake, history(range(1, 6)))
    run("sync", "--once")
    store = own(home)
    same = "SELECT COUNT(*) FROM Alerts JOIN GlucoseReadings USING (reading_id, patient_id, timestamp)"
    assert store.query(same) == [(5,)]
    store.execute("DROP TABLE GlucoseReadings")
    lake.remove()
    # In the lake as it is now they come in another order.
    add(lake, GLUCOSE, readings(reversed(range(6))))
    add_alarms(lake, history(range(1, 6)))
    run("resync", "GlucoseReadings")
    assert store.query(same) == [(5,)]


@pytest.mark.parametrize("table", ["GlucoseReadings", "Patient"])
def test_resync_waits_for_the_sync_at_work(home, lake, monkeypatch, table):
    monkeypatch.setattr(oltp, "LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(oltp, "REFERENCE_EVERY_S", 0.05)
    add(lake, GLUCOSE, rows := readings(range(20)))
    load(lake, PATIENTS, patient(1))
    stop = threading.Event()
    thread = threading.Thread(target=oltp.stand, args=(Settings(), stop))
    thread.start()
    try:
        assert "the store has what the lake has" in run("sync", "--once")
        own(home).execute(f"DELETE FROM {table}")
        assert f"{table}: the sync at work has filled it; it has what the lake has." in run("resync", table)
        assert stored(own(home)) == expected(rows)
        assert own(home).count("Patient") == 1
    finally:
        stop.set()
        thread.join()


def test_a_table_that_is_not_filled_is_named(home):
    told = run("resync", "Glucose", code=1)
    assert "The sync fills no table 'Glucose'. Tables: GlucoseReadings, DeviceOperationalData" in told


def test_a_setting_that_names_no_table_is_refused(home, monkeypatch):
    monkeypatch.setenv("PULSELAKE_OLTP_KEEP_DAYS", "Glucose=3")
    assert "PULSELAKE_OLTP_KEEP_DAYS names Glucose, of which no rows expire" in run("sync", "--once", code=1)
    monkeypatch.setenv("PULSELAKE_OLTP_KEEP_DAYS", "GlucoseReadings=0")
    assert "PULSELAKE_OLTP_KEEP_DAYS: must be like 'GlucoseReadings=30" in run("status", code=1)


def test_old_rows_are_removed_by_a_sync(home, lake, monkeypatch):
    add(lake, GLUCOSE, readings(range(20)))
    run("sync", "--once")
    monkeypatch.setenv("PULSELAKE_OLTP_KEEP_DAYS", "GlucoseReadings=3")
    run("sync", "--once")
    # They are of a day in 2026, and what is kept is of the last three.
    expired = datetime.now(UTC).date() > DAY.replace(day=DAY.day + 3)
    assert own(home).count("GlucoseReadings") == (0 if expired else 20)


def test_a_store_that_needs_a_migration_is_told(home, monkeypatch):
    monkeypatch.setenv("PULSELAKE_OLTP", f"sqlite:///{home / 'other.db'}")
    assert "has no tables yet" in run("status", code=1)
    assert "are up to date" in run("migrate")
    run("status")
