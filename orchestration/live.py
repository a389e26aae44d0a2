"""The whole system in child processes: the local hub, the generator, and Dagster with its web page."""

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import dagster as dg

from generator.publisher import Published, publish
from generator.streams import events
from orchestration.processes import Children, graphql, is_open, python
from orchestration.sensors import IN_FLIGHT
from orchestration.system import ROOT
from resources.settings import Settings

HUB_CONFIG = ROOT / "hubs.json"
HUB_READY_S, DAGSTER_READY_S = 30.0, 120.0
SENSORS_RUNNING = "{ workspaceOrError { ... on Workspace { locationEntries { name loadStatus } } } }"


@dataclass(frozen=True)
class Load:
    """What the generator sends to one stream."""

    stream: str
    hub: str
    patients: int
    rate: float
    faults: float
    seed: int = 1


@dataclass
class Generators:
    """Generators on threads of this process, until stopped."""

    stop: threading.Event = field(default_factory=threading.Event)
    published: dict[str, Published] = field(default_factory=dict)
    failures: dict[str, Exception] = field(default_factory=dict)
    threads: list[threading.Thread] = field(default_factory=list)

    def start(self, settings: Settings, load: Load, seconds: float | None) -> None:
        """Starts to send; `published` has the result once joined."""
        thread = threading.Thread(
            target=self._send, args=(settings, load, seconds), name=f"generate {load.stream}", daemon=True
        )
        self.threads.append(thread)
        thread.start()

    def join(self) -> None:
        """Waits for all generators; raises what one of them raised."""
        for thread in self.threads:
            thread.join()
        for failure in self.failures.values():
            raise failure

    def is_alive(self) -> bool:
        """Whether any is still sending."""
        return any(thread.is_alive() for thread in self.threads)

    def _send(self, settings: Settings, load: Load, seconds: float | None) -> None:
        made = events(
            load.stream,
            start=datetime.now(UTC),
            rate=load.rate,
            patients=load.patients,
            faults=load.faults,
            seed=load.seed,
            seconds=seconds,
        )
        try:
            with settings.event_hubs_namespace().producer(settings.hub(load.hub)) as producer:
                self.published[load.hub] = publish(made, producer, stop=self.stop)
        except Exception as error:
            self.failures[load.hub] = error


def start_hub(children: Children, settings: Settings) -> None:
    """Starts the local hub if it is the one that the settings name and nothing serves its port yet."""
    if not settings.uses_local_hub or is_open(settings.hub_port):
        return
    children.start("hub", python("-m", "orchestration.cli", "hub"), env=environment(settings))
    children.wait_until(lambda: is_open(settings.hub_port), "The local hub", HUB_READY_S)


def start_dagster(children: Children, settings: Settings) -> None:
    """Starts Dagster's daemon and web page and waits until the definitions are loaded."""
    prepare_dagster_home(settings)
    cancel_runs(settings)
    command = python("-m", "dagster", "dev", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(settings.web_port))
    children.start("dagster", command, cwd=ROOT, env=environment(settings))
    children.wait_until(
        lambda: "LOADED" in str(graphql(settings.web_port, SENSORS_RUNNING)), "Dagster", DAGSTER_READY_S
    )


def prepare_dagster_home(settings: Settings) -> None:
    """Creates Dagster's home with the project's settings."""
    settings.dagster_home.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(ROOT / "dagster.yaml", settings.dagster_home / "dagster.yaml")


def cancel_runs(settings: Settings) -> None:
    """Marks runs as cancelled that an earlier Dagster of this home left behind: nobody is at work on them any more."""
    with _instance(settings) as instance:
        for run in _started_runs(instance):
            instance.report_run_canceled(run, message="It ended together with the Dagster that had started it.")


def announce_cancellation(settings: Settings) -> None:
    """Marks what is at work as being cancelled: then the interrupt that follows is an end and not a failure."""
    with _instance(settings) as instance:
        for run in _started_runs(instance):
            instance.report_run_canceling(run)


def _instance(settings: Settings) -> dg.DagsterInstance:
    return dg.DagsterInstance.from_config(str(settings.dagster_home))


def _started_runs(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    at_work = [status for status in IN_FLIGHT if status is not dg.DagsterRunStatus.QUEUED]
    return [record.dagster_run for record in instance.get_run_records(dg.RunsFilter(statuses=at_work))]


def environment(settings: Settings) -> dict[str, str]:
    """What children need to see the same settings."""
    return {
        "PULSELAKE_HOME": str(settings.root),
        # Empty is unset: what stands in a file .env must not lead the children elsewhere.
        "PULSELAKE_LAKE": settings.open_lake().root,
        "PULSELAKE_HUBS": ",".join(f"{stream}={hub}" for stream, hub in settings.hubs.items()),
        "EVENTHUB_CONNECTION_STRING": settings.event_hubs or "",
        "EVENTHUB_NAMESPACE": settings.namespace or "",
        "EVENTHUB_CONSUMER_GROUP": settings.consumer_group,
        "PULSELAKE_HUB_PORT": str(settings.hub_port),
        "PULSELAKE_WEB_PORT": str(settings.web_port),
        "PULSELAKE_MAX_SESSION_S": str(settings.max_session_s),
        "PULSELAKE_IDLE_TIMEOUT_S": str(settings.idle_timeout_s),
        "PULSELAKE_KEEP_RUNS_DAYS": str(settings.keep_runs_days),
        "DAGSTER_HOME": str(settings.dagster_home),
        "DAGSTER_DISABLE_TELEMETRY": "yes",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        "PYTHONWARNINGS": "ignore",
    }


@contextmanager
def running(settings: Settings) -> Iterator[Children]:
    """The local hub and Dagster, until the block ends."""
    with Children(settings.root / "logs") as children:
        start_hub(children, settings)
        start_dagster(children, settings)
        try:
            yield children
        finally:
            announce_cancellation(settings)
