"""Alarms and their transitions in the store: exactly once, for some days only, and each with its reading."""

import re
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import assets.store_sync as store_sync
import resources.store_alarms as store_alarms
from assets.store_alarms import AlarmSync
from assets.store_sync import StoreSync
from resources.store import OvertakenError, Store
from tests.alarms.test_sessions import LOW, LOW_KINDS, send, until
from tests.store.values import (
    DAY,
    DEVICE_ALARMS,
    GLUCOSE,
    GLUCOSE_ALARMS,
    NEXT_DAY,
    NOON,
    VITALS_ALARMS,
    add,
    add_alarms,
    expected_alarms,
    expected_lifecycle,
    history,
    numbers_of_rows,
    readings,
    stored_alarms,
    stored_lifecycle,
    transition,
)
from tests.stream.hubs import MemoryHub
from tests.stream.scenarios import run_session

FEEDS = (GLUCOSE_ALARMS, DEVICE_ALARMS, VITALS_ALARMS)
OPERATIONS = Path(__file__).parents[2] / "docs/operations.md"
TABLES = ("Alerts", "AlertLifecycle")


@pytest.fixture
def sync(lake, store) -> AlarmSync:
    return AlarmSync(lake, store, clock=lambda: NOON)


@pytest.fixture
def small_portions(monkeypatch):
    monkeypatch.setattr(store_sync, "PORTION_ROWS", 40)


def require(store: Store, rows: list[dict[str, Any]]) -> None:
    assert stored_alarms(store) == expected_alarms(rows)
    assert stored_lifecycle(store) == expected_lifecycle(rows)


def numbers_of_readings(store: Store) -> dict[str, int | None]:
    found = (each for rows in store.rows("Alerts", ["alert_id", "reading_id"]) for each in rows.iter_rows())
    return dict(found)


def is_equal(sync: AlarmSync, day: date) -> list[bool | None]:
    found = [sync.compare(FEEDS, table, day) for table in TABLES]
    return [None if each is None else each.is_equal for each in found]


def test_a_stream_that_never_had_an_alarm_has_no_rows(sync, store):
    assert sync.catch_up(GLUCOSE_ALARMS) == 0
    assert store.state("Alerts/glucose_readings") is None
    assert is_equal(sync, DAY) == [True, True]


def test_transitions_are_there_once_and_what_is_none_is_not(sync, lake, store):
    add_alarms(lake, rows := history(range(1, 21)))
    assert sync.catch_up(GLUCOSE_ALARMS) == 20 + 19 + 18
    require(store, rows)
    assert is_equal(sync, DAY) == [True, True]


def test_only_what_is_new_is_written_also_by_another_process(sync, lake, store):
    rows = history(range(1, 11))
    add_alarms(lake, rows)
    sync.catch_up(GLUCOSE_ALARMS)
    for first in (11, 14):
        add_alarms(lake, more := history(range(first, first + 3), NEXT_DAY))
        rows += more
        again = sync if first == 11 else AlarmSync(lake, store, clock=lambda: NOON)
        assert again.catch_up(GLUCOSE_ALARMS) == 9
        assert again.catch_up(GLUCOSE_ALARMS) == 0
    require(store, rows)
    # An alarm is of the date of its last transition.
    assert is_equal(sync, DAY) == [True, True]
    assert is_equal(sync, NEXT_DAY) == [True, True]


def test_what_an_open_alarm_has_come_to_is_no_transition(sync, lake, store):
    add_alarms(lake, [transition(1, 0, "raised", 1)])
    sync.catch_up(GLUCOSE_ALARMS)
    state = store.state("Alerts/glucose_readings")
    add_alarms(lake, [transition(1, 0, "updated", 2, reading_count=9)])
    assert sync.catch_up(GLUCOSE_ALARMS) == 0
    assert store.state("Alerts/glucose_readings") == state
    assert sync.lag(GLUCOSE_ALARMS).rows == 0


def test_each_stream_has_its_own_alarms_and_its_column(sync, lake, store):
    for number, feed in enumerate(FEEDS):
        add_alarms(lake, [transition(number, 0, "raised", 1, stream=feed.stream, entity=7)], feed)
        sync.catch_up(feed)
    [rows] = store.rows("Alerts", ["stream", "patient_id", "device_id"])
    assert sorted(rows.rows()) == [("device_readings", None, 7), ("glucose_readings", 7, None), ("vitals", 7, None)]
    assert is_equal(sync, DAY) == [True, True]
    store.forget(DEVICE_ALARMS.table)
    sync.catch_up(DEVICE_ALARMS)
    # Filling one of them again touches no other.
    assert store.count("Alerts") == store.count("AlertLifecycle") == 3


@pytest.mark.usefixtures("small_portions")
def test_a_backlog_that_is_interrupted_after_each_portion_goes_on_and_is_whole_at_each(sync, lake, store):
    add_alarms(lake, history(range(1, 4)))
    sync.catch_up(GLUCOSE_ALARMS)
    rows = history(range(1, 101))
    add_alarms(lake, [each for each in rows if each["fold"] > 3])
    for _ in range(12):
        # Each time in a process that knows nothing.
        again = AlarmSync(lake, store, clock=lambda: NOON)
        again.catch_up(GLUCOSE_ALARMS, should_stop=lambda: True)
        [reached] = store.state(GLUCOSE_ALARMS.table).offsets.values()
        require(store, [each for each in rows if each["fold"] <= reached])
    assert reached == 100
    assert again.lag(GLUCOSE_ALARMS).rows == 0


@pytest.mark.usefixtures("small_portions")
def test_an_alarm_that_is_over_does_not_open_again_while_tables_are_filled_anew(sync, lake, store):
    add_alarms(lake, rows := history(range(1, 101)))
    sync.catch_up(GLUCOSE_ALARMS)
    store.forget(GLUCOSE_ALARMS.table)
    steps, seen = sync.steps(GLUCOSE_ALARMS), 0
    for state in steps:
        assert stored_alarms(store) == expected_alarms(rows)
        seen += state.is_filling
    assert seen > 3
    require(store, rows)


def test_transitions_that_the_lake_does_not_have_go_when_the_tables_are_filled_anew(sync, lake, store):
    add_alarms(lake, history(range(1, 21)))
    sync.catch_up(GLUCOSE_ALARMS)
    lake.remove()
    # The same alarms, of which less has happened; so is a lake that was restored from an older copy.
    add_alarms(lake, rows := history(range(1, 11)))
    sync.catch_up(GLUCOSE_ALARMS)
    require(store, rows)
    assert is_equal(sync, DAY) == [True, True]


def test_rows_that_were_deleted_come_back_by_a_resync(sync, lake, store):
    add_alarms(lake, rows := history(range(1, 21)))
    sync.catch_up(GLUCOSE_ALARMS)
    store.execute("DELETE FROM Alerts")
    assert stored_lifecycle(store) == []
    assert sync.catch_up(GLUCOSE_ALARMS) == 0
    assert is_equal(sync, DAY) == [False, False]
    store.forget(GLUCOSE_ALARMS.table)
    sync.catch_up(GLUCOSE_ALARMS)
    require(store, rows)


def test_a_changed_transition_is_found_by_the_checksum(sync, lake, store):
    add_alarms(lake, history(range(1, 21)))
    sync.catch_up(GLUCOSE_ALARMS)
    store.execute("UPDATE AlertLifecycle SET action_type = 'cleared' WHERE transition_index = 1")
    assert is_equal(sync, DAY) == [True, False]


def test_two_at_once_write_nothing_twice(sync, lake, store):
    add_alarms(lake, history(range(1, 11)))
    sync.catch_up(GLUCOSE_ALARMS)
    add_alarms(lake, history(range(11, 21)))
    one, other = (AlarmSync(lake, store, clock=lambda: NOON).steps(GLUCOSE_ALARMS) for _ in range(2))
    next(one), next(other)
    next(one)
    with pytest.raises(OvertakenError, match="Alerts/glucose_readings: another sync wrote"):
        next(other)
    require(store, history(range(1, 21)))


def test_alarms_are_kept_since_they_are_over_and_open_ones_always(lake, store):
    add_alarms(lake, old := history(range(1, 11)))
    AlarmSync(lake, store, clock=lambda: NOON).catch_up(GLUCOSE_ALARMS)
    later = AlarmSync(lake, store, {"Alerts": 1}, clock=lambda: NOON + timedelta(days=2))
    assert later.expire(GLUCOSE_ALARMS) == 8
    open_ones = {f"{number:016x}" for number in (9, 10)}
    left = [each for each in old if each["alarm_id"] in open_ones]
    require(store, left)
    assert is_equal(later, DAY) == [True, True]
    # Nor are those that have gone written again when the tables are filled, but all are once they are to be kept.
    store.forget(GLUCOSE_ALARMS.table)
    later.catch_up(GLUCOSE_ALARMS)
    require(store, left)
    AlarmSync(lake, store, {"Alerts": 9}, clock=lambda: NOON + timedelta(days=2)).catch_up(GLUCOSE_ALARMS)
    require(store, old)


def test_an_alarm_that_ended_while_the_store_was_away_for_longer_than_it_keeps_alarms_is_not_left_open(lake, store):
    keep = {"Alerts": 1}
    add_alarms(lake, [transition(1, 0, "raised", 1)])
    AlarmSync(lake, store, keep, clock=lambda: NOON).catch_up(GLUCOSE_ALARMS)
    add_alarms(lake, [transition(1, 1, "cleared", 2)])
    later = AlarmSync(lake, store, keep, clock=lambda: NOON + timedelta(days=5))
    later.expire(GLUCOSE_ALARMS)
    assert [row[3] for row in stored_alarms(store)] == ["open"]
    later.catch_up(GLUCOSE_ALARMS)
    assert [row[3] for row in stored_alarms(store)] == ["cleared"]
    assert later.expire(GLUCOSE_ALARMS) == 1


def test_an_alarm_names_the_reading_that_raised_it_also_where_that_comes_later(sync, lake, store):
    add_alarms(lake, history(range(1, 6)))
    sync.catch_up(GLUCOSE_ALARMS)
    assert {*numbers_of_readings(store).values()} == {None}
    rows = StoreSync(lake, store, clock=lambda: NOON)
    add(lake, GLUCOSE, readings(range(4)))
    rows.catch_up(GLUCOSE)
    sync.link(GLUCOSE_ALARMS)
    by_time = {each[2]: number for each, number in numbers_of_rows(store).items()}

    def right(*found: int) -> dict[str, int | None]:
        times = {number: (NOON + timedelta(seconds=5 * number, microseconds=number)) for number in range(1, 6)}
        return {f"{n:016x}": by_time[at.replace(tzinfo=None)] if n in found else None for n, at in times.items()}

    assert numbers_of_readings(store) == right(1, 2, 3)
    # The number stays when the alarm changes.
    add_alarms(lake, history([6]))
    sync.catch_up(GLUCOSE_ALARMS)
    assert numbers_of_readings(store) == right(1, 2, 3) | {f"{6:016x}": None}
    # Readings that are gone have no number, and those that came back have theirs.
    store.execute("DELETE FROM GlucoseReadings WHERE patient_id = 3")
    sync.link_all(GLUCOSE_ALARMS)
    assert numbers_of_readings(store) == right(1, 2) | {f"{6:016x}": None}


def test_readings_of_old_alarms_are_noted_in_parts(lake, store, monkeypatch):
    monkeypatch.setattr(store_alarms, "LINKED_AT_ONCE", 10)
    later = AlarmSync(lake, store, clock=lambda: NOON + timedelta(days=9))
    add_alarms(lake, history(range(1, 26)))
    later.catch_up(GLUCOSE_ALARMS)
    add(lake, GLUCOSE, readings(range(26)))
    StoreSync(lake, store, clock=lambda: NOON).catch_up(GLUCOSE)
    later.link(GLUCOSE_ALARMS)
    assert {*numbers_of_readings(store).values()} == {None}
    assert [later.link(GLUCOSE_ALARMS, is_whole=number == 0) for number in range(4)] == [True, True, False, False]
    assert None not in numbers_of_readings(store).values()


def test_no_reading_raised_a_silence(sync, lake, store):
    add(lake, GLUCOSE, readings(range(4)))
    StoreSync(lake, store, clock=lambda: NOON).catch_up(GLUCOSE)
    add_alarms(lake, [transition(1, 0, "raised", 1, cause="silence", value=None, threshold=30.0, worst_value=None)])
    sync.catch_up(GLUCOSE_ALARMS)
    assert numbers_of_readings(store) == {f"{1:016x}": None}
    [[row]] = [rows.rows() for rows in store.rows("Alerts", ["message", "timestamp"])]
    assert row == ("silence, warning, threshold 30.0", datetime(2026, 11, 23, 12, 0, 5, 1))


def test_what_a_session_decided_is_in_the_store_with_its_reading(sync, lake, store):
    hub = MemoryHub(partitions=1, take=1)
    send(hub, *LOW)
    run_session(lake, hub, clock=until(46))
    StoreSync(lake, store, clock=lambda: NOON).catch_up(GLUCOSE)
    sync.catch_up(GLUCOSE_ALARMS)
    raised = "SELECT state, severity, message, glucose_level FROM Alerts JOIN GlucoseReadings USING (reading_id)"
    assert store.query(f"{raised} WHERE alert_type = 'glucose_low'") == [
        ("cleared", "warning", "glucose low, warning: 95.0, threshold 70.0, worst 50.0", 68.0)
    ]
    steps = "SELECT action_type FROM AlertLifecycle l JOIN Alerts USING (alert_id) WHERE alert_type = 'glucose_low'"
    assert store.query(f"{steps} ORDER BY l.transition_index") == [(kind,) for kind in LOW_KINDS]
    assert is_equal(sync, DAY) == [True, True]


def test_the_statements_of_the_documentation_run(sync, lake, store):
    section = OPERATIONS.read_text().split("\n## The transactional store\n")[1].split("\n## ")[0]
    [statements] = re.findall("```sql\n(.*?)```", section, re.DOTALL)
    add_alarms(lake, history(range(1, 6)))
    sync.catch_up(GLUCOSE_ALARMS)
    store.execute("INSERT INTO Subscriber (subscriber_id, name) VALUES (5, 'Nurse 5')")
    open_ones, happened, unacknowledged = (store.query(each) for each in statements.split(";")[:-1])
    assert [row[0] for row in open_ones] == [f"{number:016x}" for number in (4, 5)]
    assert [(row[0][-1], row[2], row[3]) for row in happened] == [
        ("4", "raised", None),
        ("4", "acknowledged", "Nurse 5"),
        ("5", "raised", None),
    ]
    assert unacknowledged == [(0, 1)]
