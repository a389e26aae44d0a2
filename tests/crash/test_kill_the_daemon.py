"""The hub freezes, then Dagster's daemon is killed at random moments, while sensors start sessions and events flow."""

import re
import sys
import time
from pathlib import Path
from random import Random

import pytest

from assets.glucose.assets import CONTRACT
from orchestration.backlog import backlog
from orchestration.system import STREAMS
from resources.lake import Lake
from tests.crash.scene import (
    DEVICES,
    ROOT,
    Sender,
    Worker,
    carrying,
    drain_and_verify,
    end,
    none_left,
    source_of,
)
from tests.emulator.hub import RunningHub
from tests.system_hubs import system_hubs

pytestmark = [
    pytest.mark.crash,
    pytest.mark.slow,
    pytest.mark.service,
    # The SDK leaves the sockets of lost connections to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

COMMAND = [sys.executable, "-m", "dagster._daemon", "run", "-w", str(ROOT / "workspace.yaml")]
WITHIN_S = 900
"""It guards against waiting for ever: on a busy machine a start takes minutes."""
KILLS = 3
"""Each is followed by a whole start, with the loading of all definitions."""
FROZEN_S = 20.0
"""A hub that is stopped for so long answers nothing, and its connections stay open."""


def impatient(settings: Path) -> str:
    """The project's settings, with runs that died looked for more often.

    How long a run may take to start stays: where all take longer, Dagster ends one after the other.
    """
    text, found = re.subn(r"(?m)^(  poll_interval_seconds:) .*", r"\1 2", settings.read_text())
    assert found == 1
    return text


def wait_until(what: str, is_true, log: Path) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not is_true():
        assert time.monotonic() < deadline, f"{what} not within {WITHIN_S} s:\n{log.read_text()[-3000:]}"
        time.sleep(0.2)


@pytest.mark.timeout(1800)
def test_a_daemon_that_is_killed_again_and_again_leaves_every_table_exact(tmp_path: Path) -> None:
    home, log, moments = tmp_path / "dagster", tmp_path / "daemon.log", Random(20261125)
    home.mkdir()
    (home / "dagster.yaml").write_text(impatient(ROOT / "dagster.yaml"))
    lake = Lake(str(tmp_path / "lake"))
    with (
        RunningHub(system_hubs(glucose_readings=2)) as hub,
        none_left("DAGSTER_HOME", str(home)),
    ):
        environment = {
            "DAGSTER_HOME": str(home),
            "PULSELAKE_HOME": str(tmp_path),
            "PULSELAKE_LAKE": lake.root,
            "EVENTHUB_CONNECTION_STRING": hub.connection_string,
            "PULSELAKE_IDLE_TIMEOUT_S": "1",
            "PULSELAKE_MAX_SESSION_S": "4",
        }
        daemon = Worker(COMMAND, log, environment)

        def committed() -> int:
            return lake.table(CONTRACT.tables.silver).version() or 0

        with Sender(hub.connection_string) as sender, Sender(hub.connection_string, DEVICES.contract) as devices:
            daemon.start()
            wait_until("a first session", committed, log)
            hub.freeze(FROZEN_S)
            before = committed()
            wait_until("a session after the hub froze", lambda: committed() > before, log)
            assert daemon.is_running
            for _ in range(KILLS):
                time.sleep(moments.uniform(0.5, 7.0))
                daemon.kill()
                daemon.start()
            before = committed()
            wait_until("a session after the last kill", lambda: committed() > before, log)
        sources = [(each.contract, source_of(hub.connection_string, each.contract)) for each in STREAMS]
        wait_until(
            "the end of the backlog",
            lambda: not any(backlog(contract, lake, source).events for contract, source in sources),
            log,
        )
        daemon.kill()
        end(carrying("DAGSTER_HOME", str(home)))
        drain_and_verify(hub.connection_string, lake, sender.confirmed)
        drain_and_verify(hub.connection_string, lake, devices.confirmed, DEVICES)
