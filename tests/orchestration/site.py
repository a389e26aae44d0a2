"""Everything a sensor or a run needs, for one test: a real hub, a lake in a folder and a Dagster instance."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import dagster as dg
import polars as pl
import pytest
from dagster._core.remote_origin import InProcessCodeLocationOrigin, RemoteRepositoryOrigin
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

from assets.glucose.assets import CONTRACT
from assets.stream.store import StreamStore
from orchestration.definitions import defs
from resources.event_source import EventSource
from resources.lake import Lake
from resources.settings import Settings
from resources.sources import namespace_of
from resources.storage import lake_of
from tests.emulator.clients import send
from tests.emulator.hub import RunningHub
from tests.system_hubs import system_hubs

HUBS = system_hubs(glucose_readings=2)
SESSION, GOLD = "glucose_readings_session", "glucose_readings_gold"
PATIENCE_S = 300.0

_ORIGIN = RemoteRepositoryOrigin(
    InProcessCodeLocationOrigin(LoadableTargetOrigin(module_name="orchestration.definitions")), "__repository__"
)


@dataclass
class Site:
    """One installation, by the settings in the environment; the hub is started by the tests that need it."""

    folder: Path
    instance: dg.DagsterInstance
    hub: RunningHub
    environment: pytest.MonkeyPatch
    started: list[RunningHub] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.set(PULSELAKE_HOME=str(self.folder), PULSELAKE_IDLE_TIMEOUT_S="0.4")

    def set(self, **settings: str) -> None:
        for name, value in settings.items():
            self.environment.setenv(name, value)

    def start(self, hub: RunningHub) -> None:
        """Starts a hub that all that follows is about."""
        self.started.append(hub)
        self.hub = hub.start()
        self.set(EVENTHUB_CONNECTION_STRING=hub.connection_string)

    @property
    def lake(self) -> Lake:
        return lake_of(Settings())

    @property
    def store(self) -> StreamStore:
        return StreamStore(CONTRACT, self.lake)

    @property
    def source(self) -> EventSource:
        return namespace_of(Settings()).source(CONTRACT.stream)

    def send(self, bodies: Iterable[bytes], partition: int = 0) -> None:
        send(self.hub.connection_string, bodies, str(partition), CONTRACT.stream)

    def tick(self, sensor: str) -> Any:
        """One evaluation of a sensor: what it requests, or why it requests nothing."""
        with dg.build_sensor_context(instance=self.instance, definitions=defs, resources=defs.resources) as context:
            return defs.resolve_sensor_def(sensor).evaluate_tick(context)

    def run(self, job: str, *, only: Sequence[str] = (), **options: Any) -> dg.ExecuteInProcessResult:
        """One run in this process; a failure is in the result."""
        return defs.resolve_job_def(job).execute_in_process(
            instance=self.instance,
            raise_on_error=False,
            asset_selection=[dg.AssetKey(name.split("/")) for name in only] or None,
            **options,
        )

    def run_session(self) -> dg.ExecuteInProcessResult:
        return self.run(SESSION, partition_key=today().isoformat())

    def record(self, job: str, status: dg.DagsterRunStatus) -> dg.DagsterRun:
        """A run that another process is said to be at."""
        return self.instance.create_run_for_job(
            defs.resolve_job_def(job), status=status, remote_job_origin=_ORIGIN.get_job_origin(job)
        )

    def rows(self, layer: str) -> pl.DataFrame:
        """A table of the glucose stream, in a fixed order."""
        table = self.store.tables[layer]
        order = [name for name in ("partition", "sequence_number", "event_index", "rule") if name in table.table.schema]
        return table.scan().collect().sort(order)


def today() -> date:
    return datetime.now(UTC).date()


def reading(at: datetime, value: Any = 100.0, patient: int = 1, **more: Any) -> bytes:
    payload = {"patient_id": patient, "device_id": 10, "glucose_level": value, "timestamp": at.isoformat()}
    return json.dumps(payload | more).encode()


def readings(count: int, *, first: datetime | None = None, value: Any = 100.0) -> list[bytes]:
    """Readings a minute apart, the last of them a minute old unless the first is given."""
    first = first or datetime.now(UTC) - timedelta(minutes=count)
    return [reading(first + timedelta(minutes=minute), value) for minute in range(count)]


def wait_until(is_so: Callable[[], Any], what: str) -> None:
    deadline = monotonic() + PATIENCE_S
    while not is_so():
        assert monotonic() < deadline, f"{what} did not happen within {PATIENCE_S:.0f} s"
        sleep(0.05)
