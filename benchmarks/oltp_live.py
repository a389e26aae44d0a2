"""How soon the transactional store has what a session commits, and what is left of it when things are killed.

A session takes 1,000 events a second, the standing sync follows it into MariaDB. How long rows and alarms take is
measured from outside: from the moment at which a commit of the lake is there to that at which the store says that it
has it. Then, while readings go on, the database and the sync are killed and started again, ten times each. At the end
the store must be as the lake is, by count and by checksum.
"""

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from assets.glucose.assets import CONTRACT
from assets.store_alarms import AlarmSync
from assets.store_sync import StoreSync
from assets.sync.alarms import ALERTS, LIFECYCLE
from benchmarks.latency import quantiles, seconds_of
from benchmarks.report import Figures, say, show
from benchmarks.workers import ROOT, Worker
from orchestration.system import ALARM_FEEDS, FEEDS
from resources.lake import Lake
from resources.store import State, Store, StoreError
from tests.emulator.hub import RunningHub
from tests.services.mariadb import MariaDb

RATE = 1000.0
SECONDS, QUICK_SECONDS = 120.0, 20.0
KILLS, QUICK_KILLS = 10, 1
BEFORE_KILL_S, AWAY_S = 4.0, 1.0
"""How long at most until something is killed, and how long the database is away then."""
ROUND_S = 14.0
"""How long a kill takes at most, with what has to come before it and after it."""
PATIENCE_S = 120.0
POLL_S = 0.05
TARGET_ROWS_S, TARGET_ALARMS_S = 5.0, 2.0
READINGS, ALARMS = FEEDS[0], ALARM_FEEDS[0]


def run(*, quick: bool = False) -> Figures:
    """First undisturbed, then with kills; the session ends before the last comparison."""
    seconds, kills = (QUICK_SECONDS, QUICK_KILLS) if quick else (SECONDS, KILLS)
    with (
        TemporaryDirectory(prefix="bench-") as folder,
        RunningHub(("glucose:4", "alerts:4")) as hub,
        MariaDb(Path(folder) / "db", is_synced=True) as server,
    ):
        store = Store(server.url())
        store.migrate()
        lake = Lake(str(Path(folder) / "lake"))
        with _sync(Path(folder), store) as sync, _load(hub, lake, kills, seconds) as load:
            _wait(lambda: _reached(store)[0] >= 0, "the store has a first row")
            say(f"Following for {seconds:.0f} s …")
            with _Watch(store) as watch:
                time.sleep(seconds)
            figures: Figures = {"seconds": seconds, **_waits(lake, watch)}
            _show_waits(figures)
            figures["kills"] = _killed(server, sync, store, kills)
            load.end()
            figures["session"] = load.figures
            began = time.monotonic()
            _wait(lambda: not _behind(lake, store), "the store has all rows")
            figures["caught_up_s"] = time.monotonic() - began
            figures["compared"] = _compared(lake, store)
        store.close()
    _show_kills(figures)
    return figures


class _Load:
    """A generator and the session that takes its events, for as long as they are wanted."""

    def __init__(self, hub: RunningHub, lake: Lake, seconds: float) -> None:
        address = {"connection_string": hub.connection_string, "hub": "glucose"}
        self._generator = Worker("generate_worker", rate=RATE, seconds=seconds, **address)
        self._session = Worker(
            "session_worker", lake=lake.root, until_caught_up=False, max_duration_s=seconds + 5, **address
        )
        self.figures: Figures = {}

    def end(self) -> None:
        """Waits until both are done; what the hub has then is in the lake."""
        sent = self._generator.figures()
        found = self._session.figures()
        self.figures = {"sent": sent["events"], **{name: found[name] for name in ("events", "rows", "cpu_s")}}

    def stop(self) -> None:
        for each in (self._generator, self._session):
            if each.is_alive:
                each.stop()


@contextmanager
def _load(hub: RunningHub, lake: Lake, kills: int, seconds: float) -> Iterator[_Load]:
    # Readings come for as long as things may be killed, and some more.
    load = _Load(hub, lake, 30 + seconds + kills * 2 * ROUND_S)
    try:
        yield load
    finally:
        load.stop()


class _Sync:
    """The standing sync, as `pulselake oltp sync` runs it."""

    def __init__(self, home: Path, store: Store) -> None:
        url = store.url.render_as_string(hide_password=False)
        self._environment = os.environ | {"PULSELAKE_HOME": str(home), "PULSELAKE_OLTP": url, "PULSELAKE_LAKE": ""}
        self._log = home / "sync.log"
        self.process = self._started()

    def kill(self) -> None:
        """Ends it as a crash does, and starts another one."""
        self.process.kill()
        self.process.wait()
        self.process = self._started()

    def _started(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "orchestration.cli", "oltp", "sync"]
        with self._log.open("ab") as log:
            return subprocess.Popen(command, cwd=ROOT, env=self._environment, stdout=log, stderr=log)


@contextmanager
def _sync(home: Path, store: Store) -> Iterator[_Sync]:
    sync = _Sync(home, store)
    try:
        yield sync
    finally:
        sync.process.kill()
        sync.process.wait()


class _Watch:
    """Looks how far the store is, again and again: version of silver and step of alarms, with the time of day."""

    def __init__(self, store: Store) -> None:
        self._store, self._stop = store, threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.seen: list[tuple[float, int, int]] = []

    def __enter__(self) -> "_Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(POLL_S):
            self.seen.append((time.time(), *_reached(self._store)))


def _reached(store: Store) -> tuple[int, int]:
    """The version of silver and the step of alarms that the store has; -1 and 0 before it has any."""
    states = store.states([READINGS.table, ALARMS.table])
    readings, alarms = states.get(READINGS.table), states.get(ALARMS.table)
    return (-1 if readings is None else readings.version), (0 if alarms is None else _step(alarms))


def _step(state: State) -> int:
    return state.offsets.get(ALARMS.stream, 0)


def _waits(lake: Lake, watch: _Watch) -> Figures:
    """For each commit with rows that was made while the store was looked at: seconds until the store had it."""
    at, versions, steps = (np.array(each) for each in zip(*watch.seen, strict=True))
    found: dict[str, list[float]] = {"rows": [], "alarms": []}
    for number, committed_at, actions in _commits(lake, CONTRACT.tables.silver.name):
        if at[0] < committed_at < at[-1] - TARGET_ROWS_S and any(map(_adds_rows, actions)):
            found["rows"].append(_first(at, versions >= number) - committed_at)
    folds = f"{ALARMS.stream}/folds"
    for _, committed_at, actions in _commits(lake, CONTRACT.tables["alarms"].name):
        has_transitions = any(
            each.get("add", {}).get("partitionValues", {}).get("is_update") == "false" for each in actions
        )
        if has_transitions and at[0] < committed_at < at[-1] - TARGET_ROWS_S:
            [step] = [each["txn"]["version"] for each in actions if each.get("txn", {}).get("appId") == folds]
            found["alarms"].append(_first(at, steps >= step) - committed_at)
    return {name: quantiles(np.array(waits)) for name, waits in found.items()}


def _adds_rows(action: dict[str, Any]) -> bool:
    """Compaction adds files too, but no rows."""
    return bool(action.get("add", {}).get("dataChange"))


def _first(at: Any, is_there: Any) -> float:
    """When it was there first; what was not there at all took until the end at least."""
    return float(at[np.argmax(is_there)] if is_there.any() else at[-1])


def _commits(lake: Lake, table: str) -> Iterator[tuple[int, float, list[dict[str, Any]]]]:
    """The commits of a table with the time of day at which each was there."""
    for file in sorted((Path(lake.root) / table / "_delta_log").glob("*.json")):
        yield int(file.stem), file.stat().st_mtime, [json.loads(line) for line in file.read_text().splitlines()]


def _killed(server: MariaDb, sync: _Sync, store: Store, rounds: int) -> Figures:
    """Kills the database and the sync in turn, each time once the store has come further since the last time."""
    chance, away = random.Random(5), list[float]()
    for number in range(2 * rounds):
        before = _reached(store)
        _wait(lambda before=before: _reached(store) > before, "the store follows")
        time.sleep(chance.random() * BEFORE_KILL_S)
        say(f"  kill {number + 1} of {2 * rounds}: {'the sync' if number % 2 else 'the database'}")
        began = time.monotonic()
        if number % 2:
            sync.kill()
        else:
            server.kill()
            time.sleep(chance.random() * AWAY_S)
            server.start()
        before = _reached(store)
        _wait(lambda before=before: _reached(store) > before, "the store follows again")
        away.append(time.monotonic() - began)
    return {"database": rounds, "sync": rounds, "until_it_follows_s": away}


def _behind(lake: Lake, store: Store) -> int:
    return StoreSync(lake, store).lag(READINGS).rows + AlarmSync(lake, store).lag(ALARMS).rows


def _compared(lake: Lake, store: Store) -> Figures:
    """Counts and checksums of all ingest dates; fails where one differs."""
    sync, alarms, found = StoreSync(lake, store), AlarmSync(lake, store), dict[str, int]()
    for table in (READINGS.table, ALERTS, LIFECYCLE):
        rows = 0
        for day in lake.table(CONTRACT.tables.silver).dates("ingest_date"):
            compared = sync.compare(READINGS, day) if table == READINGS.table else alarms.compare([ALARMS], table, day)
            if compared is None or not compared.is_equal:
                raise RuntimeError(f"{table} of {day} is not as the lake is: {compared}")
            rows += compared.store_rows
        if rows != store.count(table):
            raise RuntimeError(f"{table} has {store.count(table):,} rows, and {rows:,} of the lake's dates")
        found[table] = rows
    return found


def _wait(is_so: Any, what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            if is_so():
                return
        except StoreError as error:
            if time.monotonic() > end:
                raise RuntimeError(f"It took too long until {what}") from error
        if time.monotonic() > end:
            raise RuntimeError(f"It took too long until {what}")
        time.sleep(POLL_S)


def _show_waits(figures: Figures) -> None:
    wanted = {"rows": TARGET_ROWS_S, "alarms": TARGET_ALARMS_S}
    show(
        f"From a commit of the lake to the store, at {RATE:,.0f} events/s for {figures['seconds']:.0f} s; seconds",
        ("", "commits", "p50", "p99", "max", "wanted p99"),
        [[f"{name} of glucose", *seconds_of(figures[name]), f"≤ {target:.0f}"] for name, target in wanted.items()],
    )


def _show_kills(figures: Figures) -> None:
    kills, compared = figures["kills"], figures["compared"]
    show(
        f"After {kills['database']} kills of the database and {kills['sync']} of the sync",
        ("", "rows, equal in lake and store"),
        [[table, f"{rows:,}"] for table, rows in compared.items()],
    )
    away = kills["until_it_follows_s"]
    say(f"After a kill the store came further within {max(away):.1f} s at most, {np.median(away):.1f} s in the middle.")


if __name__ == "__main__":
    run()
