"""The standing sync of all tables: none of them holds up another."""

from datetime import UTC, datetime

import pytest

import assets.store_sync as store_sync
import orchestration.oltp as oltp
from assets.reference.tables import PATIENTS
from assets.store_reference import ReferenceSync
from assets.store_sync import StoreSync
from orchestration.oltp import Worker, tables_status
from resources.store import Store
from tests.store.test_patient_status import vital
from tests.store.test_reference import load, names, patient
from tests.store.values import GLUCOSE, VITALS, add, expected, readings, stored


@pytest.fixture
def store(template, tmp_path):
    file = tmp_path / "store.db"
    file.write_bytes(template.read_bytes())
    found = Store(f"sqlite:///{file}")
    yield found
    found.close()


@pytest.fixture
def worker(lake, store) -> Worker:
    return Worker(lake, store, StoreSync(lake, store), ReferenceSync(lake, store))


def test_a_look_brings_all_tables_up_to_date(worker, lake, store):
    add(lake, GLUCOSE, rows := readings(range(20)))
    add(lake, VITALS, [vital(0, 1)])
    load(lake, PATIENTS, patient(1))
    worker.look()
    assert stored(store) == expected(rows)
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


def test_rows_expire_while_it_stands(lake, store):
    add(lake, GLUCOSE, readings(range(20)))
    Worker(lake, store, StoreSync(lake, store), ReferenceSync(lake, store)).look()
    after = datetime(2027, 1, 1, tzinfo=UTC)
    sync = StoreSync(lake, store, {"GlucoseReadings": 10}, clock=lambda: after)
    Worker(lake, store, sync, ReferenceSync(lake, store)).look()
    assert stored(store) == []
