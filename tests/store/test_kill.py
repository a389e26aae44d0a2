"""The standing sync and the database are killed at any moment; afterwards every row is there once."""

import multiprocessing
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest

from assets.store_sync import StoreSync
from resources.lake import Lake
from resources.store import Store, StoreUnavailableError
from tests.services.mariadb import MariaDb
from tests.store.sync_worker import work
from tests.store.values import DAY, GLUCOSE, NEXT_DAY, add, expected, readings, replace_day, stored

pytestmark = [pytest.mark.crash, pytest.mark.service]

PORTION = 50
PATIENCE_S = 60.0


# Processes are forked from one that has imported everything: to start cold takes them seconds.
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["tests.store.sync_worker"])


@contextmanager
def worker(home: Path, url: str) -> Iterator[ForkServerProcess]:
    process = _PROCESSES.Process(target=work, args=(str(home), url, PORTION), daemon=True)
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def wait_until(is_so: Callable[[], object], process: ForkServerProcess | None = None) -> None:
    end = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < end
        assert process is None or process.is_alive(), "the sync has ended"
        time.sleep(0.005)


def written(store: Store) -> int:
    state = store.state("GlucoseReadings")
    return state.rows_written if state else 0


def require_consistent(store: Store, rows: list[dict[str, Any]]) -> None:
    """The store has all rows up to the offsets that it says, and no others."""
    state = store.state("GlucoseReadings")
    offsets = state.offsets if state else {}
    reached = [each for each in rows if each["sequence_number"] <= offsets.get(str(each["partition"]), -1)]
    assert stored(store) == expected(reached)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def lake(home: Path) -> Lake:
    return Lake(str(home / "lake"))


def test_a_killed_sync_goes_on_where_it_was(home, lake, store, url):
    rows, chance = readings(range(3_000)), random.Random(7)
    add(lake, GLUCOSE, rows)
    for stop_at in sorted(chance.sample(range(200, 2_600), 4)):
        with worker(home, url) as process:
            wait_until(lambda stop_at=stop_at: written(store) >= stop_at, process)
            time.sleep(chance.random() * 0.05)
            process.kill()
            process.join()
        require_consistent(store, rows)
        more = readings(range(len(rows), len(rows) + 100), NEXT_DAY)
        add(lake, GLUCOSE, more)
        rows += more
    replaced = readings(range(100, 3_000), value=70.0)
    replace_day(lake, GLUCOSE.contract, DAY, replaced)
    rows = replaced + rows[3_000:]
    with worker(home, url) as process:
        wait_until(lambda: stored(store) == expected(rows), process)
        sync = StoreSync(lake, store)
        assert sync.compare(GLUCOSE, DAY).is_equal
        assert sync.compare(GLUCOSE, NEXT_DAY).is_equal


def test_the_sync_outlives_a_killed_database(home, lake, emptied, mariadb: MariaDb):
    rows, chance = readings(range(4_000)), random.Random(11)
    add(lake, GLUCOSE, rows)
    store = Store(emptied)
    with worker(home, emptied) as process:
        for stop_at in sorted(chance.sample(range(300, 3_500), 3)):
            wait_until(lambda stop_at=stop_at: written(store) >= stop_at, process)
            mariadb.kill()
            with pytest.raises(StoreUnavailableError, match="Nothing is lost"):
                store.state("GlucoseReadings")
            time.sleep(chance.random())
            mariadb.start()
        wait_until(lambda: written(store) >= len(rows), process)
        wait_until(lambda: StoreSync(lake, store).lag(GLUCOSE).rows == 0, process)
        # In the same process, which now follows at once again.
        more = readings(range(4_000, 4_100))
        add(lake, GLUCOSE, more)
        wait_until(lambda: StoreSync(lake, store).lag(GLUCOSE).rows == 0, process)
    assert stored(store) == expected(rows + more)
    assert StoreSync(lake, store).compare(GLUCOSE, DAY).is_equal
    assert (
        "follows again" in (home / "worker.log").read_text()
        or "kept as the lake is" in (home / "worker.log").read_text()
    )
    store.close()


def test_rows_are_in_the_store_within_five_seconds_of_their_commit(home, lake, store, url):
    add(lake, GLUCOSE, readings(range(10)))
    with worker(home, url) as process:
        wait_until(lambda: written(store) == 10, process)
        for first in range(10, 40, 10):
            add(lake, GLUCOSE, readings(range(first, first + 10)))
            began = time.monotonic()
            wait_until(lambda first=first: written(store) == first + 10, process)
            assert time.monotonic() - began < 5.0


def test_a_second_sync_waits_and_takes_over_from_a_killed_one(home, lake, tmp_path):
    url = f"sqlite:///{tmp_path / 'oltp.db'}"
    store = Store(url)
    store.migrate()
    with worker(home, url) as first:
        add(lake, GLUCOSE, readings(range(10)))
        wait_until(lambda: written(store) == 10, first)
        with worker(home, url) as second:
            time.sleep(0.2)
            assert second.is_alive()
            first.kill()
            add(lake, GLUCOSE, readings(range(10, 20)))
            wait_until(lambda: written(store) == 20, second)
    store.close()
