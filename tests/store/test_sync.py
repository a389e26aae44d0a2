"""Rows of silver in the store: appended, replaced, after resyncs and for some days only; on SQLite and on MariaDB."""

from datetime import timedelta

import polars as pl
import pytest

import assets.store_sync as store_sync
from assets.store_sync import StoreSync
from assets.sync.readings import glucose_readings
from resources.store import OvertakenError, Store
from tests.store.values import (
    DAY,
    DEVICES,
    GLUCOSE,
    NEXT_DAY,
    NOON,
    add,
    expected,
    numbers_of_rows,
    readings,
    replace_day,
    silver,
    stored,
)


@pytest.fixture
def sync(lake, store) -> StoreSync:
    return StoreSync(lake, store, clock=lambda: NOON)


@pytest.fixture
def small_portions(monkeypatch):
    monkeypatch.setattr(store_sync, "PORTION_ROWS", 40)


def test_a_table_that_does_not_exist_yet_gives_no_rows(sync, store):
    assert sync.catch_up(GLUCOSE) == 0
    assert store.state("GlucoseReadings") is None


def test_rows_have_the_values_of_silver_whatever_is_in_their_texts(sync, lake, store):
    rows = readings(range(50))
    add(lake, GLUCOSE, rows)
    assert sync.catch_up(GLUCOSE) == 50
    assert stored(store) == expected(rows)


def test_only_what_is_new_is_written(sync, lake, store):
    add(lake, GLUCOSE, readings(range(30)))
    sync.catch_up(GLUCOSE)
    add(lake, GLUCOSE, readings(range(30, 37)))
    assert sync.catch_up(GLUCOSE) == 7
    assert sync.catch_up(GLUCOSE) == 0
    assert stored(store) == expected(readings(range(37)))


def test_another_process_goes_on_where_one_was(sync, lake, store):
    add(lake, GLUCOSE, readings(range(30)))
    sync.catch_up(GLUCOSE)
    add(lake, GLUCOSE, readings(range(30, 37), NEXT_DAY))
    assert StoreSync(lake, store).catch_up(GLUCOSE) == 7
    assert stored(store) == expected(readings(range(30)) + readings(range(30, 37), NEXT_DAY))


@pytest.mark.usefixtures("small_portions")
def test_a_backlog_is_written_in_portions_of_all_partitions(sync, lake, store):
    rows = readings(range(100)) + readings(range(1, 400, 2), NEXT_DAY)[50:]
    add(lake, GLUCOSE, rows)
    sizes, before = [], 0

    def note(state):
        nonlocal before
        sizes.append(state.rows_written - before)
        before = state.rows_written

    sync.catch_up(GLUCOSE, on_progress=note)
    assert sum(sizes) == len(rows)
    assert max(sizes) <= 40
    assert stored(store) == expected(rows)


@pytest.mark.usefixtures("small_portions")
def test_a_backlog_that_was_interrupted_goes_on_though_partitions_differ_in_speed(sync, lake, store):
    # Partition 1 has all of its rows on the later day, partition 0 on the earlier one.
    rows = [
        *(each for each in readings(range(300)) if each["partition"] == 0),
        *(each for each in readings(range(300), NEXT_DAY) if each["partition"] == 1),
    ]
    add(lake, GLUCOSE, rows)
    for _ in range(20):
        # Each time in a process that knows nothing.
        StoreSync(lake, store, clock=lambda: NOON).catch_up(GLUCOSE, should_stop=lambda: True)
    assert stored(store) == expected(rows)


def test_compaction_adds_no_rows(sync, lake, store):
    for first in range(0, 30, 3):
        add(lake, GLUCOSE, readings(range(first, first + 3)))
    sync.catch_up(GLUCOSE)
    numbers = numbers_of_rows(store)
    silver(lake, GLUCOSE).maintain([("ingest_date", "=", DAY.isoformat())], small_files=2)
    assert sync.catch_up(GLUCOSE) == 0
    assert StoreSync(lake, store).catch_up(GLUCOSE) == 0
    assert numbers_of_rows(store) == numbers


def test_a_replaced_day_replaces_its_rows_and_the_others_keep_their_numbers(sync, lake, store):
    add(lake, GLUCOSE, readings(range(40)))
    add(lake, GLUCOSE, readings(range(40, 60), NEXT_DAY))
    sync.catch_up(GLUCOSE)
    numbers = numbers_of_rows(store)
    new = readings(range(10, 40), value=50.0)
    replace_day(lake, GLUCOSE.contract, DAY, new)
    sync.catch_up(GLUCOSE)
    assert stored(store) == expected(new + readings(range(40, 60), NEXT_DAY))
    assert numbers_of_rows(store).items() <= numbers.items()


def test_a_reading_that_moves_to_another_day_is_there_once(sync, lake, store):
    add(lake, GLUCOSE, readings(range(20)))
    add(lake, GLUCOSE, readings(range(20, 40), NEXT_DAY))
    sync.catch_up(GLUCOSE)
    replace_day(lake, GLUCOSE.contract, DAY, readings(range(30)))
    replace_day(lake, GLUCOSE.contract, NEXT_DAY, readings(range(30, 40), NEXT_DAY))
    sync.catch_up(GLUCOSE)
    assert stored(store) == expected(readings(range(30)) + readings(range(30, 40), NEXT_DAY))


def test_a_replacement_that_does_not_say_what_it_replaced_fills_the_table_anew(sync, lake, store):
    add(lake, GLUCOSE, readings(range(40)))
    sync.catch_up(GLUCOSE)
    numbers = numbers_of_rows(store)
    table = silver(lake, GLUCOSE)
    rows = pl.DataFrame(readings(range(5, 40)), schema=table.table.schema)
    table.replace([rows], None, transactions={"glucose_readings/replaced": 1})
    sync.catch_up(GLUCOSE)
    assert stored(store) == expected(readings(range(5, 40)))
    # Rows are never away: they are written again, and what is not among them goes at the end.
    assert numbers_of_rows(store).items() <= numbers.items()


def test_a_table_that_was_made_anew_in_the_lake_takes_the_place_of_the_old_one(sync, lake, store):
    add(lake, GLUCOSE, readings(range(40)))
    sync.catch_up(GLUCOSE)
    lake.remove()
    add(lake, GLUCOSE, readings(range(3)))
    sync.catch_up(GLUCOSE)
    assert stored(store) == expected(readings(range(3)))


def test_rows_that_were_deleted_come_back_by_a_resync(sync, lake, store):
    add(lake, GLUCOSE, readings(range(40)))
    sync.catch_up(GLUCOSE)
    store.expire("GlucoseReadings", "ingest_date", NEXT_DAY)
    assert stored(store) == []
    assert sync.catch_up(GLUCOSE) == 0
    store.forget("GlucoseReadings")
    sync.catch_up(GLUCOSE)
    assert stored(store) == expected(readings(range(40)))


def test_two_at_once_write_nothing_twice(sync, lake, store):
    add(lake, GLUCOSE, readings(range(40)))
    sync.catch_up(GLUCOSE)
    state = store.state("GlucoseReadings")
    add(lake, GLUCOSE, readings(range(40, 50)))
    sync.catch_up(GLUCOSE)
    with pytest.raises(OvertakenError, match="GlucoseReadings: another sync wrote"):
        with store.step("GlucoseReadings", state, state) as step:
            step.delete_where_in("patient_id", [0, 1, 2, 3, 4])
    assert stored(store) == expected(readings(range(50)))


def test_days_are_compared_by_count_and_by_checksum(sync, lake, store):
    add(lake, GLUCOSE, readings(range(40)))
    add(lake, GLUCOSE, readings(range(40, 50), NEXT_DAY))
    sync.catch_up(GLUCOSE)
    for day, rows in ((DAY, 40), (NEXT_DAY, 10)):
        compared = sync.compare(GLUCOSE, day)
        assert (compared.lake_rows, compared.store_rows, compared.is_equal) == (rows, rows, True)
    # What came since then is not missed.
    add(lake, GLUCOSE, readings(range(50, 60), NEXT_DAY))
    assert sync.compare(GLUCOSE, NEXT_DAY).is_equal
    [lost] = expected(readings([45], NEXT_DAY))
    with store.step("GlucoseReadings", state := store.state("GlucoseReadings"), state) as step:
        step.delete_where_in("reading_id", [numbers_of_rows(store)[lost[:3]]])
    compared = sync.compare(GLUCOSE, NEXT_DAY)
    assert (compared.lake_rows, compared.store_rows, compared.is_equal) == (10, 9, False)


def test_a_changed_value_is_found_by_the_checksum(sync, lake, store):
    add(lake, GLUCOSE, readings(range(40)))
    sync.catch_up(GLUCOSE)
    state = store.state("GlucoseReadings")
    other = pl.DataFrame(readings([7], value=100.001), schema=silver(lake, GLUCOSE).table.schema)
    with store.step("GlucoseReadings", state, state) as step:
        made = glucose_readings(other, other).with_columns(sync_generation=pl.lit(1, pl.Int64))
        step.upsert(made, GLUCOSE.key)
    compared = sync.compare(GLUCOSE, DAY)
    assert (compared.lake_rows, compared.store_rows, compared.is_equal) == (40, 40, False)


def test_the_lag_says_how_many_rows_wait_and_since_when(sync, lake):
    add(lake, GLUCOSE, readings(range(40)))
    assert sync.lag(GLUCOSE).rows == 40
    sync.catch_up(GLUCOSE)
    assert (sync.lag(GLUCOSE).rows, sync.lag(GLUCOSE).oldest) == (0, None)
    add(lake, GLUCOSE, new := readings(range(40, 50)))
    lag = sync.lag(GLUCOSE)
    assert (lag.rows, lag.oldest) == (10, min(each["received_at"] for each in new))


def test_rows_are_kept_for_the_days_that_were_set(lake, store):
    old, new = readings(range(20)), readings(range(20_000, 20_010), NEXT_DAY)
    add(lake, GLUCOSE, old + new)
    keep = {"GlucoseReadings": 1}
    sync = StoreSync(lake, store, keep, clock=lambda: NOON + timedelta(days=1))
    sync.catch_up(GLUCOSE)
    assert stored(store) == expected(old + new)
    later = StoreSync(lake, store, keep, clock=lambda: NOON + timedelta(days=2))
    assert later.expire(GLUCOSE) == 20
    assert stored(store) == expected(new)
    compared = later.compare(GLUCOSE, DAY)
    assert compared is not None
    assert compared.is_equal
    # What comes late and is older is not written; what is replaced neither.
    replace_day(lake, GLUCOSE.contract, NEXT_DAY, [*readings(range(20, 25), NEXT_DAY), *new])
    later.catch_up(GLUCOSE)
    assert stored(store) == expected(new)


def test_a_longer_time_of_keeping_brings_old_rows_back(lake, store):
    add(lake, GLUCOSE, rows := readings(range(20)))
    after = NOON + timedelta(days=10)
    StoreSync(lake, store, {"GlucoseReadings": 5}, clock=lambda: after).catch_up(GLUCOSE)
    assert stored(store) == []
    StoreSync(lake, store, {"GlucoseReadings": 30}, clock=lambda: after).catch_up(GLUCOSE)
    assert stored(store) == expected(rows)


def test_device_reports(sync, lake, store):
    rows = [
        each | {"battery_level": 12.5, "firmware_version": "1.2.3", "connectivity_status": "Connected"}
        for each in readings(range(10))
    ]
    known = silver(lake, DEVICES).table.schema
    add(lake, DEVICES, [{name: value for name, value in each.items() if name in known} for each in rows])
    assert sync.catch_up(DEVICES) == 10
    assert sync.compare(DEVICES, DAY).is_equal
    columns = ["device_id", "timestamp", "battery_level", "firmware_version", "connectivity_status", "error_codes"]
    [found] = store.rows("DeviceOperationalData", columns)
    first = found.sort("timestamp").row(0)
    assert first == (1000, NOON.replace(tzinfo=None), 12.5, "1.2.3", "Connected", "")


def test_a_store_of_another_dialect_of_texts_has_latin_defaults_and_still_all_letters(store: Store, sync, lake):
    # The database of the tests has the character set latin1 on MariaDB.
    add(lake, GLUCOSE, readings(range(8)))
    sync.catch_up(GLUCOSE)
    [found] = store.rows("GlucoseReadings", ["location"])
    assert "心電図 😀" in found["location"].to_list()
