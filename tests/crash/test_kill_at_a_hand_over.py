"""A session is killed at each step of a hand-over, on either side, while events flow."""

import sys
import time
from functools import partial
from pathlib import Path

import pytest

from resources.lake import Lake
from tests.crash.hand_over_worker import lease_of
from tests.crash.scene import Sender, Worker, drain_and_verify
from tests.emulator.hub import RunningHub
from tests.stream.tables import row_count

pytestmark = [
    pytest.mark.crash,
    pytest.mark.slow,
    pytest.mark.service,
    # The SDK leaves the sockets of lost connections to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

WITHIN_S = 600.0
OF_THE_SUCCESSOR = ("take successor", "take active", "release successor")
OF_THE_ONE_AT_WORK = ("commit", "release active")


def wait_until(is_so, what: str) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not is_so():
        assert time.monotonic() < deadline, f"{what} not within {WITHIN_S:.0f} s"
        time.sleep(0.2)


def has_ended(worker: Worker) -> bool:
    return not worker.is_running


@pytest.mark.timeout(1800)
def test_whoever_dies_at_a_hand_over_every_table_is_exact_and_no_two_write(tmp_path: Path) -> None:
    lake, log = Lake(str(tmp_path / "lake")), tmp_path / "worker.log"
    with RunningHub(("glucose_readings:3", "alerts:2")) as hub:
        looked, started = lease_of(lake, "test"), list[Worker]()

        def start(step: str = "") -> Worker:
            name = f"session {len(started)}"
            command = [sys.executable, "-m", "tests.crash.hand_over_worker", hub.connection_string, lake.root]
            started.append(Worker([*command, name, step], log, greets=True))
            started[-1].start()
            return started[-1]

        def is_at_work(worker: Worker) -> bool:
            return (
                looked.active.is_held_elsewhere() and looked.active.last_holder() == f"session {started.index(worker)}"
            )

        def gets_on(worker: Worker) -> None:
            wait_until(lambda: is_at_work(worker), "its turn")
            before = row_count(lake, "silver")
            wait_until(lambda: row_count(lake, "silver") > before, "its commit")

        with Sender(hub.connection_string) as sender:
            gets_on(at_work := start())
            for step in OF_THE_SUCCESSOR:
                dying = start(step)
                wait_until(partial(has_ended, dying), f"the death at '{step}'")
                dying.kill()
                gets_on(following := start())
                wait_until(partial(has_ended, at_work), "the end of the session before")
                at_work = following
            for step in OF_THE_ONE_AT_WORK:
                gets_on(dying := start(step))
                gets_on(at_work := start())
                wait_until(partial(has_ended, dying), f"the death at '{step}'")
                dying.kill()
            at_work.kill()
        drain_and_verify(hub.connection_string, lake, sender.confirmed)
    assert "ConcurrentWriteError" not in log.read_text()
