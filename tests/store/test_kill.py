"""The standing sync and the database are killed at any moment; afterwards every row and transition is there once.

`python -m benchmarks oltp_live` does the same ten times each, under the load of a session.
"""

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from assets.store_alarms import AlarmSync
from assets.store_sync import StoreSync
from orchestration.oltp import LEASE
from resources.lake import Lake
from resources.settings import Settings
from resources.store import Store, StoreUnavailableError
from tests.services.mariadb import MariaDb
from tests.store.values import (
    DAY,
    GLUCOSE,
    GLUCOSE_ALARMS,
    NEXT_DAY,
    add,
    add_alarms,
    expected,
    expected_alarms,
    expected_lifecycle,
    history,
    readings,
    replace_day,
    stored,
    stored_alarms,
    stored_lifecycle,
)

pytestmark = [pytest.mark.crash, pytest.mark.service]

ROOT = Path(__file__).parents[2]
PORTION = 50
SYNC_KILLS, DATABASE_KILLS = 4, 3
PATIENCE_S = 300.0
LIFECYCLE = ["alert_id", "transition_index", "action_type"]
ORPHANS = (
    "SELECT COUNT(*) FROM AlertLifecycle l WHERE NOT EXISTS (SELECT 1 FROM Alerts a WHERE a.alert_id = l.alert_id "
    "AND a.transition_index >= l.transition_index)"
)
"""Transitions without their alarm, or with one that has not come so far."""
COLUMNS = ["patient_id", "device_id", "timestamp", "glucose_level", "location", "range_flag", "ingest_date"]


class Syncs:
    """Standing syncs in processes of their own: one at work, and others that wait for its end."""

    def __init__(self, home: Path, url: str) -> None:
        self._home = home
        self._environment = os.environ | {"PULSELAKE_HOME": str(home), "PULSELAKE_OLTP": url, "PULSELAKE_LAKE": ""}
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def log(self) -> Path:
        return self._home / "sync.log"

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.store.sync_worker", str(PORTION)]
        with self.log.open("ab") as log:
            self._processes.append(subprocess.Popen(command, cwd=ROOT, env=self._environment, stdout=log, stderr=log))

    def kill_the_one_at_work(self) -> None:
        # The one before may have been killed just now.
        self.wait_until(self._at_work)
        [process] = self._at_work()
        process.kill()
        process.wait()
        self._processes.remove(process)

    def _at_work(self) -> list["subprocess.Popen[bytes]"]:
        holder = Settings(home=self._home).holders(LEASE).get("active")
        return [each for each in self._processes if holder is not None and each.pid == holder.pid]

    def wait_until(self, is_so: Callable[[], object]) -> None:
        end = time.monotonic() + PATIENCE_S
        while not is_so():
            assert time.monotonic() < end, self.log.read_text()
            assert all(each.poll() is None for each in self._processes), "a sync has ended"
            time.sleep(0.02)

    def end(self) -> None:
        for each in self._processes:
            each.kill()
            each.wait()


@contextmanager
def syncs(home: Path, url: str, count: int) -> Iterator[Syncs]:
    found = Syncs(home, url)
    try:
        for _ in range(count):
            found.start()
        yield found
    finally:
        found.end()


def has_written(store: Store, rows: int) -> bool:
    state = store.state("GlucoseReadings")
    return state is not None and state.rows_written >= rows


def is_equal(lake: Lake, store: Store, day: date) -> bool:
    alarms = AlarmSync(lake, store)
    compared = [
        StoreSync(lake, store).compare(GLUCOSE, day),
        *(alarms.compare([GLUCOSE_ALARMS], table, day) for table in ("Alerts", "AlertLifecycle")),
    ]
    return all(each is not None and each.is_equal for each in compared)


def is_up_to_date(lake: Lake, store: Store) -> bool:
    return not StoreSync(lake, store).lag(GLUCOSE).rows and not AlarmSync(lake, store).lag(GLUCOSE_ALARMS).rows


def require_consistent(store: Store, rows: list[dict[str, Any]], alarms: list[dict[str, Any]]) -> None:
    """At any moment the store has all rows up to the offsets that it says, and no others."""
    with store.snapshot_of([GLUCOSE_ALARMS.table], "AlertLifecycle", LIFECYCLE) as (states, frames):
        transitions = sorted(each for frame in frames for each in frame.iter_rows())
    last = states[GLUCOSE_ALARMS.table].offsets.get(GLUCOSE_ALARMS.stream, 0) if states else 0
    assert transitions == [each[:3] for each in expected_lifecycle(each for each in alarms if each["fold"] <= last)]
    assert store.query(ORPHANS) == [(0,)]
    with store.snapshot("GlucoseReadings", COLUMNS) as (state, frames):
        found = sorted(each for frame in frames for each in frame.iter_rows())
    offsets: Mapping[str, int] = state.offsets if state else {}
    reached = [each for each in rows if each["sequence_number"] <= offsets.get(str(each["partition"]), -1)]
    assert found == expected(reached)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def test_another_sync_goes_on_where_a_killed_one_was(tmp_path, lake, store, url):
    rows, alarms, chance = readings(range(3_000)), history(range(1, 301)), random.Random(7)
    add(lake, GLUCOSE, rows)
    add_alarms(lake, alarms)
    kills = SYNC_KILLS if store.dialect != "sqlite" else 2
    with syncs(tmp_path, url, 2) as processes:
        for place, stop_at in enumerate(sorted(chance.sample(range(200, 2_600), kills))):
            processes.wait_until(partial(has_written, store, stop_at))
            time.sleep(chance.random() * 0.05)
            processes.kill_the_one_at_work()
            require_consistent(store, rows, alarms)
            if place < kills - 1:
                processes.start()
            more = readings(range(len(rows), len(rows) + 100), NEXT_DAY)
            add(lake, GLUCOSE, more)
            rows += more
            add_alarms(lake, steps := history(range(301 + 50 * place, 351 + 50 * place), NEXT_DAY))
            alarms += steps
        replaced = readings(range(100, 3_000), value=70.0)
        replace_day(lake, GLUCOSE.contract, DAY, replaced)
        rows = replaced + rows[3_000:]
        processes.wait_until(lambda: is_equal(lake, store, DAY))
        processes.wait_until(lambda: is_up_to_date(lake, store))
    assert stored(store) == expected(rows)
    assert stored_alarms(store) == expected_alarms(alarms)
    assert stored_lifecycle(store) == expected_lifecycle(alarms)
    assert is_equal(lake, store, NEXT_DAY)


def test_the_sync_outlives_a_killed_database_and_follows_within_seconds(tmp_path, lake, emptied, mariadb: MariaDb):
    rows, alarms, chance = readings(range(4_000)), history(range(1, 301)), random.Random(11)
    add(lake, GLUCOSE, rows)
    add_alarms(lake, alarms)
    store = Store(emptied)
    with syncs(tmp_path, emptied, 1) as process:
        for place, stop_at in enumerate(sorted(chance.sample(range(300, 3_500), DATABASE_KILLS))):
            process.wait_until(partial(has_written, store, stop_at))
            mariadb.kill()
            with pytest.raises(StoreUnavailableError, match="Nothing is lost"):
                store.state("GlucoseReadings")
            time.sleep(chance.random())
            mariadb.start()
            require_consistent(store, rows, alarms)
            add_alarms(lake, steps := history(range(301 + 50 * place, 351 + 50 * place)))
            alarms += steps
        process.wait_until(lambda: is_up_to_date(lake, store))
        for first in range(4_000, 4_300, 100):
            rows += (more := readings(range(first, first + 100)))
            add(lake, GLUCOSE, more)
            began = time.monotonic()
            process.wait_until(lambda: is_up_to_date(lake, store))
            assert time.monotonic() - began < 5.0
        assert "the store follows again" in process.log.read_text()
    assert stored(store) == expected(rows)
    assert stored_alarms(store) == expected_alarms(alarms)
    assert stored_lifecycle(store) == expected_lifecycle(alarms)
    assert is_equal(lake, store, DAY)
    store.close()
