"""The process of the hub is killed several times at random moments while events flow and sessions run."""

import time
from pathlib import Path
from random import Random

import pytest

from resources.lake import Lake
from tests.crash.scene import ENOUGH, KILLS, Sender, drain_and_verify, session_worker
from tests.emulator.hub import RunningHub

pytestmark = [
    pytest.mark.crash,
    pytest.mark.slow,
    pytest.mark.service,
    # The SDK leaves the sockets of lost connections to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def test_a_hub_that_is_killed_again_and_again_leaves_every_table_exact(tmp_path: Path) -> None:
    lake, moments, data = Lake(str(tmp_path / "lake")), Random(20261124), tmp_path / "hub"
    data.mkdir()
    with RunningHub(("glucose_readings:3", "alerts:2"), data=data) as hub:
        worker = session_worker(hub.connection_string, lake, tmp_path / "worker.log")
        worker.start()
        try:
            with Sender(hub.connection_string) as sender:
                for _ in range(KILLS):
                    time.sleep(moments.uniform(0.5, 3.0))
                    hub.kill()
                    time.sleep(moments.uniform(0.0, 0.5))
                    hub.start()
                time.sleep(moments.uniform(2.0, 3.0))
                # On a busy machine a connection takes longer than a hub lives.
                deadline = time.monotonic() + 600
                while len(sender.confirmed) < ENOUGH:
                    assert time.monotonic() < deadline, f"{len(sender.confirmed)} of {ENOUGH} events came through"
                    time.sleep(0.1)
        finally:
            worker.kill()
        drain_and_verify(hub.connection_string, lake, sender.confirmed)
