"""The store in Dagster: a run brings a table up to date and compares it with the lake."""

from contextlib import nullcontext

import dagster as dg
import pytest

from assets.reference.tables import PATIENTS
from assets.store_asset import alarm_store_asset, reference_store_asset, store_asset, store_key
from assets.sync.reference import REFERENCE_FEEDS
from orchestration.oltp import described
from orchestration.system import ALARM_FEEDS
from resources.dagster_resources import LakeResource, StoreResource
from resources.store import Store
from tests.store.test_reference import load, patient
from tests.store.values import (
    GLUCOSE,
    NEXT_DAY,
    add,
    add_alarms,
    expected,
    expected_lifecycle,
    history,
    readings,
    replace_day,
    stored,
    stored_lifecycle,
)

pytestmark = pytest.mark.service


def materialized(asset, lake, store: Store) -> dg.ExecuteInProcessResult:
    resources = {"lake": LakeResource(root=lake.root), "store": StoreResource(url=str(store.url))}
    with dg.DagsterInstance.ephemeral() as instance:
        return dg.materialize([asset], resources=resources, instance=instance)


@pytest.fixture
def store(tmp_path):
    found = Store(f"sqlite:///{tmp_path / 'store.db'}")
    yield found
    found.close()


@pytest.fixture
def asset(tmp_path, monkeypatch):
    monkeypatch.setenv("PULSELAKE_HOME", str(tmp_path))
    return store_asset(GLUCOSE, described("GlucoseReadings"), lambda: nullcontext(True))


def results(run: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {each.check_name: each.passed for each in run.get_asset_check_evaluations()}


def test_a_run_brings_the_table_up_to_date_and_compares_the_last_whole_day(asset, lake, store):
    add(lake, GLUCOSE, rows := readings(range(20)))
    run = materialized(asset, lake, store)
    assert stored(store) == expected(rows)
    [made] = run.asset_materializations_for_node("store__GlucoseReadings")
    assert (made.metadata["rows"].value, made.metadata["rows_behind"].value) == (20, 0)
    assert results(run) == {"rows_equal": True, "sync_lag": True}


def test_a_difference_is_found(asset, lake, store):
    add(lake, GLUCOSE, readings(range(20)))
    materialized(asset, lake, store)
    with store._engine.begin() as connection:
        connection.exec_driver_sql("UPDATE GlucoseReadings SET glucose_level = glucose_level + 1 WHERE patient_id = 3")
    assert results(materialized(asset, lake, store)) == {"rows_equal": False, "sync_lag": True}
    replace_day(lake, GLUCOSE.contract, NEXT_DAY, readings(range(20, 30), NEXT_DAY))
    store.forget("GlucoseReadings")
    assert results(materialized(asset, lake, store)) == {"rows_equal": True, "sync_lag": True}


def test_alarms_of_all_streams_are_brought_up_to_date_and_compared(lake, store, tmp_path, monkeypatch):
    monkeypatch.setenv("PULSELAKE_HOME", str(tmp_path))
    add_alarms(lake, rows := history(range(1, 6)))
    add_alarms(lake, more := history([6], NEXT_DAY))
    for table, count in (("Alerts", 6), ("AlertLifecycle", 15)):
        asset = alarm_store_asset(ALARM_FEEDS, table, described(table), lambda: nullcontext(True))
        run = materialized(asset, lake, store)
        [made] = run.asset_materializations_for_node(f"store__{table}")
        assert (made.metadata["rows"].value, made.metadata["rows_behind"].value) == (count, 0)
        assert results(run) == {"rows_equal": True, "sync_lag": True}
    assert stored_lifecycle(store) == expected_lifecycle(rows + more)
    # Both days are over, so the last one is compared; of alarms that is the date of their last transition.
    store.execute("UPDATE AlertLifecycle SET action_note = 'x' WHERE action_type = 'raised'")
    assert results(materialized(asset, lake, store)) == {"rows_equal": False, "sync_lag": True}


def test_reference_data_are_exchanged(lake, store, tmp_path, monkeypatch):
    monkeypatch.setenv("PULSELAKE_HOME", str(tmp_path))
    load(lake, PATIENTS, patient(1), patient(2))
    feed = REFERENCE_FEEDS[1]
    asset = reference_store_asset(feed, described(feed.table), lambda: nullcontext(True))
    run = materialized(asset, lake, store)
    [made] = run.asset_materializations_for_node("store__Patient")
    assert (made.asset_key, made.metadata["rows"].value) == (store_key("Patient"), 2)
