"""A whole small hospital for tests of the live page: a real hub, sessions, a server in a process of its own."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import polars as pl

from assets.reference.tables import DEVICES, PATIENTS, Reference
from assets.reference_store import put
from assets.stream.contract import ALARMS_HUB, ALERTS_HUB
from assets.stream.session import Session, SessionLimits
from dashboard import access
from dashboard.access import Role, Scope, Unit
from dashboard.audit import Audit, AuditRow
from dashboard.database import page_database
from dashboard.users import User, Users
from orchestration.system import HUBS, stream
from resources import sources
from resources.lake import Lake
from resources.settings import DEFAULT_HUBS, Settings
from resources.storage import lake_of
from tests.emulator.hub import RunningHub

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "four words that nobody guesses"
SCRIPT = "<script>document.title='taken over'</script><img src=x onerror=\"document.title='taken over'\">"
"""What must stay a text wherever it is shown."""
GROUP = "pulselake-page"
PATIENTS_SHOWN = 6


def now() -> datetime:
    return datetime.now(UTC)


def load(lake: Lake, reference: Reference, rows: list[dict[str, Any]]) -> None:
    schema = {name: reference.table.schema[name] for name in reference.cells}
    put(lake, reference, pl.DataFrame(rows, schema=schema), valid_from=now() - timedelta(days=1), clock=now)


def people(lake: Lake) -> None:
    """Six patients: 1 to 3 are of the north, 4 to 6 of the south; the name of 3 is a script."""
    names = ["Ana Silva", "Bram Visser", SCRIPT, "Dora Graf", "Emil Tamm", "Fleur Petit"]
    load(
        lake,
        PATIENTS,
        [
            {
                "patient_id": number,
                "full_name": name,
                "date_of_birth": datetime(1980, 1, number).date(),
                "time_zone": "Europe/Lisbon",
                "groups": "north" if number <= 3 else "south",
                "care_team": "days",
            }
            for number, name in enumerate(names, 1)
        ],
    )
    load(lake, DEVICES, [{"device_id": 100 + number, "patient_id": number} for number in range(1, PATIENTS_SHOWN + 1)])


def add_quickly(users: Users, *added: User) -> None:
    """Adds people whose password is `PASSWORD`, by hashes that take no time: what they cost is looked at elsewhere."""
    with mock.patch.object(access, "_COST", 2):
        for user in added:
            users.add(user, PASSWORD)


def accounts(home: Path) -> None:
    """An account of each role; all have the same password."""
    database = page_database(home)
    mmol: Unit = "mmol/L"
    add_quickly(
        Users(database, now),
        User("nora", Role.CLINICIAN, Scope(frozenset({"north"})), zone="Europe/Lisbon"),
        User("carl", Role.CAREGIVER, Scope(patients=frozenset({1})), mmol),
        User("alan", Role.ANALYST, Scope(is_everyone=True)),
        User("sofia", Role.SAFETY_OFFICER, Scope()),
        User("adam", Role.ADMINISTRATOR, Scope()),
        User("wera", Role.CLINICIAN, Scope(is_everyone=True)),
    )
    database.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class World:
    """What the tests act on."""

    folder: Path
    hub: RunningHub
    settings: Settings
    stack: ExitStack = field(default_factory=ExitStack)
    server: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.settings.page_port}"

    @property
    def lake(self) -> Lake:
        return lake_of(self.settings)

    def send(self, name: str, *payloads: dict[str, Any]) -> None:
        with sources.publisher(self.settings, name) as publisher:
            bodies = [json.dumps(each).encode() for each in payloads]
            publisher.publish(bodies, [str(each.get("patient_id", each.get("device_id", ""))) for each in payloads])

    def glucose(self, patient: int, value: float, minutes_ago: float = 0.0, **more: Any) -> None:
        at = now() - timedelta(minutes=minutes_ago)
        payload = {
            "patient_id": patient,
            "device_id": 100 + patient,
            "glucose_level": value,
            "timestamp": at.isoformat(),
        }
        self.send("glucose_readings", payload | more)

    def follow(self, *names: str) -> None:
        """Runs sessions of streams in threads until the world ends."""
        stop = threading.Event()
        for name in names:
            thread = threading.Thread(target=self._session, args=(name, stop), name=f"session {name}", daemon=True)
            thread.start()
            self.stack.callback(thread.join, 60)
        self.stack.callback(stop.set)

    def _session(self, name: str, stop: threading.Event) -> None:
        contract = stream(name).contract
        limits = SessionLimits(commit_interval_s=contract.commit_every.total_seconds())
        with (
            sources.publisher(self.settings, ALERTS_HUB) as alerts,
            sources.publisher(self.settings, ALARMS_HUB) as alarms,
        ):
            source = sources.source(self.settings, name)
            Session(contract, self.lake, source, alerts, limits=limits, should_stop=stop.is_set, alarms=alarms).run()

    def environment(self) -> dict[str, str]:
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("PULSELAKE_", "EVENTHUB_"))
        }
        return inherited | {
            "PULSELAKE_HOME": str(self.settings.root),
            "PULSELAKE_PAGE_PORT": str(self.settings.page_port),
            "EVENTHUB_CONNECTION_STRING": self.settings.event_hubs or "",
            "PYTHONPATH": str(ROOT),
        }

    def serve(self) -> None:
        """Starts the server, and waits until it answers."""
        with (self.folder / "page.log").open("ab") as log:
            command = [sys.executable, "-m", "orchestration.cli", "web"]
            self.server = subprocess.Popen(command, cwd=self.folder, env=self.environment(), stdout=log, stderr=log)
        wait_until(lambda: answers(self.settings.page_port) or self.server is None, "the page's start")

    def kill(self) -> None:
        """SIGKILL to the server."""
        assert self.server is not None
        self.server.kill()
        self.server.wait(300)
        self.server = None

    def audit(self) -> list[AuditRow]:
        """The audit trail, oldest first."""
        database = page_database(self.settings.root)
        rows = Audit(database, now).rows(10_000)
        database.close()
        return rows[::-1]

    def logged(self) -> str:
        return (self.folder / "page.log").read_text()


def answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(is_so: Callable[[], object], what: str, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, f"{what} did not come within {seconds} s"
        time.sleep(0.05)


@contextmanager
def world(folder: Path, followed: Sequence[str] = ("glucose_readings", "alarm_actions")) -> Iterator[World]:
    """A world with patients, accounts, sessions of some streams and a server."""
    hubs = [f"{DEFAULT_HUBS.get(name, name)}:1:{GROUP}" for name in HUBS]
    with RunningHub(hubs) as hub, ExitStack() as stack:
        settings = Settings(
            home=folder / "home", event_hubs=hub.connection_string, page_port=free_port(), _env_file=None
        )
        settings.root.mkdir(parents=True)
        made = World(folder, hub, settings, stack)
        people(made.lake)
        accounts(settings.root)
        made.follow(*followed)
        made.serve()
        try:
            yield made
        finally:
            if made.server is not None:
                made.server.terminate()
                made.server.wait(300)
