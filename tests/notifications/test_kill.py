"""The process that notifies, and the database, are killed at any moment: everybody is told, hardly anybody twice."""

import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from orchestration.notifying import LEASE
from resources.lake import Lake
from resources.outbox import Outbox
from resources.settings import Settings
from resources.store import Store, StoreError
from tests.notifications.servers import Answer, Request, Sink, sink
from tests.notifications.world import fresh, load_people, record
from tests.services.mariadb import MariaDb

pytestmark = [pytest.mark.crash, pytest.mark.service]

ROOT = Path(__file__).parents[2]
PATIENCE_S = 300.0
CHANNELS = ("QUICK", "SLOW", "FLAKY")
CANARY = "canary-4711"


class Notifying:
    """Processes of `pulselake notify run`: one at work, and others that wait for its end."""

    def __init__(self, home: Path, url: str, server: Sink) -> None:
        self._home = home
        addresses = {name: server.webhook(f"/{name}", CANARY) for name in CHANNELS}
        # Nothing listens there: the tables are followed.
        hub = {"PULSELAKE_HUB_PORT": "1", "EVENTHUB_CONNECTION_STRING": "", "EVENTHUB_NAMESPACE": ""}
        own = {"PULSELAKE_HOME": str(home), "PULSELAKE_OLTP": url, "PULSELAKE_LAKE": "", "PULSELAKE_LOG": "json"}
        self._environment = os.environ | own | hub | addresses
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def log(self) -> Path:
        return self._home / "notify.log"

    def start(self) -> None:
        command = [sys.executable, "-m", "orchestration.cli", "notify", "run"]
        with self.log.open("ab") as log:
            self._processes.append(subprocess.Popen(command, cwd=ROOT, env=self._environment, stdout=log, stderr=log))

    def kill_the_one_at_work(self) -> None:
        self.wait_until(lambda: Settings(home=self._home).holders(LEASE))
        holder = Settings(home=self._home).holders(LEASE)["active"]
        [process] = [each for each in self._processes if each.pid == holder.pid]
        assert CANARY not in Path(f"/proc/{process.pid}/cmdline").read_text()
        process.kill()
        process.wait()
        self._processes.remove(process)

    def wait_until(self, is_so: Callable[[], object]) -> None:
        end = time.monotonic() + PATIENCE_S
        while not is_so():
            assert time.monotonic() < end, self.log.read_text()
            assert all(each.poll() is None for each in self._processes), self.log.read_text()
            time.sleep(0.05)

    def end(self) -> None:
        for each in self._processes:
            each.terminate()
        for each in self._processes:
            each.wait(300)


@contextmanager
def notifying(home: Path, url: str, server: Sink, count: int = 1) -> Iterator[Notifying]:
    found = Notifying(home, url, server)
    for _ in range(count):
        found.start()
    try:
        yield found
    finally:
        found.end()


@pytest.fixture
def server() -> Iterator[Sink]:
    calls = Counter[str]()

    def answer(request: Request) -> Answer:
        calls[request.path] += 1
        if request.path == "/SLOW":
            return Answer(after_s=0.05)
        # It says no and takes nothing.
        return Answer(500 if request.path == "/FLAKY" and calls[request.path] % 4 == 0 else 200)

    with sink() as found:
        found.answer = answer
        yield found


@contextmanager
def alarms(lake: Lake, count: int) -> Iterator[list[tuple[str, int]]]:
    """Alarms that are raised, and cleared a little later, all the while; what happened to them."""
    happened: list[tuple[str, int]] = []
    stop = threading.Event()

    def raise_and_clear() -> None:
        for step in range(count):
            given = [fresh(f"a{step}", severity="urgent")]
            if step >= 3:
                given.append(fresh(f"a{step - 3}", 1, "cleared"))
            record(lake, given, step + 1)
            happened.extend((each.alarm_id, each.index) for each in given)
            if stop.wait(0.1):
                return

    thread = threading.Thread(target=raise_and_clear)
    thread.start()
    try:
        yield happened
    finally:
        stop.set()
        thread.join()


def taken(server: Sink, channel: str) -> list[list[tuple[str, int]]]:
    """The transitions in each message that a channel took."""
    calls = server.to(f"/{channel}")
    if channel == "FLAKY":
        calls = [each for place, each in enumerate(calls, start=1) if place % 4]
    return [[(row["alarm_id"], row["index"]) for row in each.json["notifications"]] for each in calls]


def has_more(server: Sink, least: int) -> bool:
    return len(server.requests) >= least


def is_told(store: Store, happened: list[tuple[str, int]]) -> bool:
    rows = Outbox(store).log(100_000, failed=False)
    return rows.height == len(CHANNELS) * len(happened) and set(rows["state"]) == {"sent"}


def repeats(server: Sink, happened: list[tuple[str, int]]) -> dict[str, int]:
    """How many messages of each channel told something again; all that happened was told."""
    found = {}
    for channel in CHANNELS:
        seen, again = set[tuple[str, int]](), 0
        for message in taken(server, channel):
            again += not seen.isdisjoint(message)
            seen.update(message)
        assert seen == set(happened), channel
        found[channel] = again
    return found


def test_a_killed_process_repeats_a_message_at_most_and_loses_none(tmp_path, lake, store, url, server):
    chance, kills = random.Random(3), 3 if store.dialect == "sqlite" else 4
    load_people(lake, {1: ";".join(CHANNELS)})
    with notifying(tmp_path, url, server, 2) as processes:
        processes.wait_until(lambda: Outbox(store).position() is not None)
        with alarms(lake, 1500) as happened:
            for number in range(kills):
                seen = len(server.requests)
                processes.wait_until(partial(has_more, server, seen + 3))
                time.sleep(chance.random() * 0.5)
                processes.kill_the_one_at_work()
                if number < kills - 1:
                    processes.start()
        processes.wait_until(lambda: is_told(store, happened))
    assert len(happened) > 50
    assert all(count <= kills for count in repeats(server, happened).values())
    assert CANARY not in processes.log.read_text()
    assert CANARY not in str(Outbox(store).log(100_000, failed=False).rows())


def test_a_killed_database_loses_nothing_and_doubles_nothing(tmp_path, lake, emptied, mariadb: MariaDb, server):
    chance = random.Random(5)
    store = Store(emptied)
    load_people(lake, {1: ";".join(CHANNELS)})
    with notifying(tmp_path, emptied, server) as processes:
        processes.wait_until(lambda: Outbox(store).position() is not None)
        with alarms(lake, 1500) as happened:
            for _ in range(3):
                seen = len(server.requests)
                processes.wait_until(partial(has_more, server, seen + 5))
                time.sleep(chance.random() * 0.3)
                mariadb.kill()
                with pytest.raises(StoreError):
                    Outbox(store).position()
                time.sleep(chance.random())
                mariadb.start()
        processes.wait_until(lambda: is_told(store, happened))
    # The process lives, so it knows what it has sent until the database takes note of it.
    assert repeats(server, happened) == dict.fromkeys(CHANNELS, 0)
    store.close()
