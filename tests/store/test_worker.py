"""The standing sync of all tables: none of them holds up another."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest

import assets.store_sync as store_sync
import orchestration.oltp as oltp
from assets.reference.tables import PATIENTS
from assets.store_sync import StoreSync
from assets.sync.feed import AnyFeed
from orchestration.oltp import Syncs, Worker, keep, tables_status
from resources.settings import Settings
from resources.store import State, Store
from tests.store.test_patient_status import vital
from tests.store.test_reference import load, names, patient
from tests.store.values import (
    DEVICE_ALARMS,
    GLUCOSE,
    GLUCOSE_ALARMS,
    VITALS,
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
    transition,
)


@pytest.fixture
def store(template, tmp_path):
    file = tmp_path / "store.db"
    file.write_bytes(template.read_bytes())
    found = Store(f"sqlite:///{file}")
    yield found
    found.close()


@pytest.fixture
def worker(lake, store) -> Worker:
    return Worker(store, Syncs.of(lake, store))


def test_a_look_brings_all_tables_up_to_date(worker, lake, store):
    add(lake, GLUCOSE, rows := readings(range(20)))
    add(lake, VITALS, [vital(0, 1)])
    load(lake, PATIENTS, patient(1))
    add_alarms(lake, alarms := history(range(1, 6)))
    worker.look()
    assert stored(store) == expected(rows)
    assert stored_lifecycle(store) == expected_lifecycle(alarms)
    assert {each for [each] in store.query("SELECT reading_id IS NULL FROM Alerts")} == {0}
    assert (store.count("patient_status"), names(store)) == (1, {1: "Patient 1"})
    found = {each.table: each for each in tables_status(lake, store)}
    assert {each.lag.rows for each in found.values() if each.lag} == {0}
    assert found["Patient"].state is not None


def test_a_backlog_of_one_table_holds_up_no_other(worker, lake, store, monkeypatch):
    monkeypatch.setattr(store_sync, "PORTION_ROWS", 40)
    monkeypatch.setattr(oltp, "TURN_S", 0.0)
    add(lake, GLUCOSE, rows := readings(range(1_200)))
    worker.look()
    before = store.count("GlucoseReadings")
    assert before < 1_200
    for second in range(3):
        add(lake, VITALS, [vital(second, second)])
        while store.count("patient_status") <= second:
            worker.look()
        assert store.count("GlucoseReadings") < 1_200
    while store.count("GlucoseReadings") < 1_200:
        worker.look()
    assert stored(store) == expected(rows)


def test_alarms_do_not_wait_for_other_tables(lake, store, tmp_path, monkeypatch):
    """A portion of readings takes until the alarms are there."""
    add(lake, GLUCOSE, rows := readings(range(20)))
    add_alarms(lake, alarms := history(range(1, 6)))
    stop, are_there, steps = threading.Event(), threading.Event(), StoreSync.steps

    def slow(sync: StoreSync, feed: AnyFeed) -> Iterator[State]:
        assert are_there.wait(300)
        return steps(sync, feed)

    monkeypatch.setattr(StoreSync, "steps", slow)
    thread = threading.Thread(target=keep, args=(lake, store, stop, Settings(home=tmp_path)))
    thread.start()
    try:
        while len(stored_lifecycle(store)) < len(expected_lifecycle(alarms)):
            assert not stop.wait(0.01), "the sync has ended"
        assert stored(store) == []
        are_there.set()
        while len(stored(store)) < len(rows):
            assert not stop.wait(0.01), "the sync has ended"
    finally:
        are_there.set()
        stop.set()
        thread.join()
    assert stored_alarms(store) == expected_alarms(alarms)


def test_a_mistake_in_one_part_of_the_sync_ends_all_of_it(lake, store, tmp_path, monkeypatch):
    def wrong(*_: object) -> None:
        raise ZeroDivisionError

    add_alarms(lake, history(range(1, 6)))
    monkeypatch.setattr("assets.store_alarms.AlarmSync.steps", wrong)
    with pytest.raises(ZeroDivisionError):
        keep(lake, store, threading.Event(), Settings(home=tmp_path))


def test_alarms_of_a_stream_that_fail_hold_up_no_others(worker, lake, store, monkeypatch):
    add_alarms(lake, [transition(1, 0, "raised", 1, severity=None)])
    add_alarms(lake, [transition(2, 0, "raised", 1, stream=DEVICE_ALARMS.stream)], DEVICE_ALARMS)
    worker.look()
    assert store.query("SELECT stream FROM Alerts") == [("device_readings",)]
    state = store.state(GLUCOSE_ALARMS.table)
    assert state is not None
    assert state.problem


def test_a_table_that_fails_is_told_and_holds_up_no_other(worker, lake, store, monkeypatch):
    add(lake, GLUCOSE, rows := readings(range(20)))
    worker.look()
    store.execute("DROP TABLE GlucoseReadings")
    add(lake, GLUCOSE, more := readings(range(20, 30)))
    add(lake, VITALS, [vital(0, 1)])
    worker.look()
    assert store.count("patient_status") == 1
    state = store.state("GlucoseReadings")
    assert state is not None
    assert "is missing" in state.problem
    store.recreate("GlucoseReadings")
    store.forget("GlucoseReadings")
    # It is left alone for a while.
    worker.look()
    assert stored(store) == []
    monkeypatch.setattr(oltp._Pause, "is_over", True)
    worker.look()
    assert stored(store) == expected(rows + more)
    state = store.state("GlucoseReadings")
    assert state is not None
    assert state.problem == ""


def test_a_table_whose_failure_cannot_be_noted_either_holds_up_no_other(worker, lake, store, monkeypatch, caplog):
    add(lake, GLUCOSE, rows := readings(range(20)))
    worker.look()
    # No state can be written, so neither rows nor problems can.
    store.execute(
        "CREATE TRIGGER refused BEFORE UPDATE ON sync_state WHEN OLD.table_name = 'GlucoseReadings' "
        "BEGIN SELECT RAISE(ABORT, 'refused'); END"
    )
    add(lake, GLUCOSE, more := readings(range(20, 30)))
    add(lake, VITALS, [vital(0, 1)])
    worker.look()
    assert store.count("patient_status") == 1
    assert "what keeps a table from following cannot be noted" in caplog.messages
    store.execute("DROP TRIGGER refused")
    monkeypatch.setattr(oltp._Pause, "is_over", True)
    worker.look()
    assert stored(store) == expected(rows + more)


def test_what_an_earlier_process_noted_is_taken_back_once_the_table_follows(worker, lake, store):
    add(lake, GLUCOSE, readings(range(20)))
    add(lake, VITALS, [vital(0, 1)])
    worker.look()
    for table in ("GlucoseReadings", "patient_status"):
        store.note(table, "failed")
    add(lake, GLUCOSE, readings(range(20, 30)))
    other = Worker(store, Syncs.of(lake, store))
    other.look()
    while other._backlogs:
        other.look()
    states = store.states(["GlucoseReadings", "patient_status"])
    assert [each.problem for each in states.values()] == ["", ""]


def test_rows_expire_while_it_stands(lake, store):
    add(lake, GLUCOSE, readings(range(20)))
    Worker(store, Syncs.of(lake, store)).look()
    after = datetime(2027, 1, 1, tzinfo=UTC)
    rows = StoreSync(lake, store, {"GlucoseReadings": 10}, clock=lambda: after)
    Worker(store, replace(Syncs.of(lake, store), rows=rows)).look()
    assert stored(store) == []
