"""The whole system in child processes: the local hub, the generator, and Dagster with its web page."""

import os
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from assets.stream.asset import ALARMS_HUB, ALERTS_HUB
from assets.stream.session import HubRecreatedError
from generator.events import Event
from generator.publisher import Published, PublishError, publish
from generator.streams import events
from orchestration.backlog import backlog
from orchestration.processes import (
    ChildError,
    Children,
    graphql,
    interrupt,
    is_open,
    python,
    speaks_amqp,
    wait_or_kill,
)
from orchestration.sensors import IN_FLIGHT
from orchestration.system import HUBS, ROOT, STREAMS
from orchestration.system import stream as stream_of
from orchestration.warm.files import FOLDER, RunFiles
from resources import sources
from resources.event_source import HubUnavailableError
from resources.settings import KAFKA, Settings

HUB_CONFIG = ROOT / "hubs.json"
HUB_RETENTION_HOURS = 72.0
HUB_READY_S, DAGSTER_READY_S = 30.0, 120.0
AGAIN_AFTER_S = 1.0
"""How long a generator without an end waits after its hub was away, before it sends again."""
LOCATIONS = """{
    workspaceOrError { ... on Workspace { locationEntries {
        loadStatus
        locationOrLoadError { ... on PythonError { message } }
    } } }
}"""


@dataclass(frozen=True)
class Load:
    """What the generator sends to one stream."""

    stream: str
    patients: int
    rate: float
    faults: float
    seed: int = 1

    def events(self, seconds: float | None) -> Iterator[Event]:
        """What is sent from now on.

        Raises:
            ValueError: the generator cannot do that; the message says why.
        """
        return events(
            self.stream,
            start=datetime.now(UTC),
            rate=self.rate,
            patients=self.patients,
            faults=self.faults,
            seed=self.seed,
            seconds=seconds,
        )


@dataclass
class Generators:
    """Generators on threads of this process, until `stop` is set."""

    stop: threading.Event
    published: dict[str, Published] = field(default_factory=dict)
    failures: dict[str, Exception] = field(default_factory=dict)
    threads: list[threading.Thread] = field(default_factory=list)

    def start(self, settings: Settings, load: Load, seconds: float | None) -> None:
        """Starts to send; once joined, `published` has the result by the stream's name."""
        thread = threading.Thread(
            target=self._send, args=(settings, load, seconds), name=f"generate {load.stream}", daemon=True
        )
        self.threads.append(thread)
        thread.start()

    def check(self) -> None:
        """Raises what a generator raised."""
        for failure in list(self.failures.values()):
            raise failure

    def join(self) -> None:
        """Waits for all generators; raises what one of them raised."""
        for thread in self.threads:
            thread.join()
        self.check()

    def is_alive(self) -> bool:
        """Whether any is still sending."""
        return any(thread.is_alive() for thread in self.threads)

    def _send(self, settings: Settings, load: Load, seconds: float | None) -> None:
        found = stream_of(load.stream)
        try:
            with sources.publisher(settings, found.name) as publisher:
                has_sent = False
                while True:
                    try:
                        self.published[found.name] = publish(load.events(seconds), publisher, stop=self.stop)
                        return
                    except (PublishError, HubUnavailableError) as error:
                        # Without an end it outlives an outage of its hub; who sends for a time must know of one.
                        has_sent |= isinstance(error, PublishError)
                        if seconds is not None or not has_sent or self.stop.wait(AGAIN_AFTER_S):
                            raise
        except Exception as error:
            self.failures[found.name] = error


def start_hub(children: Children, settings: Settings) -> None:
    """Starts the local hub if it is the one that the settings name and it does not run yet; checks the hubs then.

    Raises:
        ChildError: it did not start, or something else has its port.
        HubUnavailableError, HubRecreatedError: the hubs are not those of this home.
    """
    if not settings.uses_local_hub or all(settings.transport(name) == KAFKA for name in HUBS):
        check_hubs(settings)
    elif is_open(settings.hub_port):
        _check_local_hub(settings)
    else:
        # Not by `pulselake hub`: without the rest of the system the process is a tenth as large.
        command = python("-m", "emulator", *hub_arguments(settings, settings.hub_port))
        children.start("hub", command, env=environment(settings))
        children.wait_until(lambda: is_open(settings.hub_port), "The local hub", HUB_READY_S)
        check_hubs(settings)


def hub_arguments(settings: Settings, port: int, retention_hours: float = HUB_RETENTION_HOURS) -> list[str]:
    """How the local hub of a home is started; its folder is made."""
    settings.hub_data.mkdir(parents=True, exist_ok=True)
    arguments = ["--config", str(HUB_CONFIG), "--data", str(settings.hub_data), "--port", str(port)]
    return [*arguments, "--retention-hours", str(retention_hours)]


def check_hubs(settings: Settings) -> None:
    """Asks every hub that the system reads or writes.

    Raises:
        HubUnavailableError, HubRecreatedError: one does not answer, or is not the one that the tables were read from.
    """
    lake = settings.open_lake()
    for stream in STREAMS:
        backlog(stream.contract, lake, sources.source(settings, stream.name))
    # Asked by a sender: the right to read these hubs is not needed otherwise.
    for hub in (ALERTS_HUB, ALARMS_HUB):
        with sources.publisher(settings, hub) as publisher:
            publisher.publish([], [])


def _check_local_hub(settings: Settings) -> None:
    port = settings.hub_port
    remedy = "End what listens there, or choose another port with PULSELAKE_HUB_PORT."
    if not speaks_amqp(port):
        raise ChildError(f"Port {port} on 127.0.0.1 is taken by a program that is no Event Hubs. {remedy}")
    try:
        check_hubs(settings)
    except (HubUnavailableError, HubRecreatedError) as error:
        raise ChildError(
            f"What listens on port {port} of 127.0.0.1 is not the hub of this home. {remedy} {error}"
        ) from error


def start_dagster(children: Children, settings: Settings) -> None:
    """Starts Dagster's daemon and web page and waits until the definitions are loaded.

    Raises:
        ChildError: it did not start, something else has its port, or the definitions cannot be loaded.
    """
    port = settings.web_port
    if is_open(port):
        raise ChildError(
            f"Port {port} on 127.0.0.1 is taken, so Dagster's web page cannot use it. End what listens there, or "
            "choose another port with PULSELAKE_WEB_PORT."
        )
    prepare_dagster_home(settings)
    cancel_runs(settings)
    # A sensor may have launched a run between the announcement of the end and the end.
    children.at_end(lambda: cancel_runs(settings))
    start_warm_server(children, settings)
    runs = WarmRuns(RunFiles(settings.dagster_home / FOLDER))
    children.at_end(runs.end)
    command = python("-m", "dagster", "dev", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(port))
    children.start("dagster", command, cwd=ROOT, env=environment(settings))
    # Dagster is asked right afterwards, so that its sensors start no other session.
    children.at_end(runs.interrupt)
    children.wait_until(lambda: is_loaded(graphql(port, LOCATIONS)), "Dagster", DAGSTER_READY_S)


def start_warm_server(children: Children, settings: Settings) -> None:
    """Starts the process that runs are forked from; without it they start in fresh processes, which takes seconds."""
    if not settings.warm_runs:
        return
    command = python("-m", "orchestration.warm", str(settings.dagster_home))
    children.start("warm", command, cwd=ROOT, env=environment(settings), is_restarted=True)


def start_store_sync(children: Children, settings: Settings) -> None:
    """Starts the process that keeps the transactional store as the lake is; if it ends it is started again."""
    command = python("-m", "orchestration.cli", "oltp", "sync")
    children.start("store", command, cwd=ROOT, env=environment(settings), is_restarted=True)


@dataclass
class WarmRuns:
    """The runs that were started warm, wherever they are: those of a server that died are nobody's children."""

    files: RunFiles
    interrupted: set[int] = field(default_factory=set)

    def interrupt(self) -> None:
        """Asks all to end. Nobody is asked twice, since a second interrupt makes a session drop its work."""
        running = set(self.files.processes()) - self.interrupted
        interrupt(running)
        self.interrupted |= running

    def end(self) -> None:
        """Waits for the ends of all, also of those that were started meanwhile."""
        self.interrupt()
        wait_or_kill(self.interrupted)


def is_loaded(answer: Mapping[str, Any] | None) -> bool:
    """Whether the definitions are loaded, by Dagster's answer to `LOCATIONS`.

    Raises:
        ChildError: they cannot be.
    """
    entries = ((answer or {}).get("data") or {}).get("workspaceOrError", {}).get("locationEntries", [])
    for entry in entries:
        if message := (entry["locationOrLoadError"] or {}).get("message"):
            raise ChildError(
                f"Dagster cannot load orchestration/definitions.py; mend it and start again. {message.strip()}"
            )
    return bool(entries) and all(entry["loadStatus"] == "LOADED" for entry in entries)


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
        "PULSELAKE_TRANSPORTS": ",".join(f"{stream}={name}" for stream, name in settings.transports.items()),
        "PULSELAKE_KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
        "PULSELAKE_KAFKA_SECURITY": settings.kafka_security,
        "PULSELAKE_KAFKA_MECHANISM": settings.kafka_mechanism,
        "PULSELAKE_KAFKA_USER": settings.kafka_user,
        "PULSELAKE_KAFKA_PASSWORD": settings.kafka_password,
        "PULSELAKE_KAFKA_CA_FILE": settings.kafka_ca_file,
        "PULSELAKE_KAFKA_MAX_MESSAGE_BYTES": str(settings.kafka_max_message_bytes),
        "EVENTHUB_CONNECTION_STRING": settings.event_hubs or "",
        "EVENTHUB_NAMESPACE": settings.namespace or "",
        "EVENTHUB_CONSUMER_GROUP": settings.consumer_group,
        "PULSELAKE_HUB_PORT": str(settings.hub_port),
        "PULSELAKE_FAST_AMQP": str(settings.fast_amqp),
        "PULSELAKE_WEB_PORT": str(settings.web_port),
        "PULSELAKE_WARM_RUNS": str(settings.warm_runs),
        "PULSELAKE_MAX_SESSION_S": str(settings.max_session_s),
        "PULSELAKE_IDLE_TIMEOUT_S": str(settings.idle_timeout_s or ""),
        "PULSELAKE_LOG": settings.log,
        "PULSELAKE_OLTP": settings.oltp,
        "PULSELAKE_OLTP_KEEP_DAYS": ",".join(f"{table}={days}" for table, days in settings.oltp_keep_days.items()),
        "PULSELAKE_KEEP_RUNS_DAYS": str(settings.keep_runs_days),
        "DAGSTER_HOME": str(settings.dagster_home),
        "DAGSTER_DISABLE_TELEMETRY": "yes",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        "PYTHONWARNINGS": "ignore",
    }


@contextmanager
def running(settings: Settings, lock: int, stop: threading.Event) -> Iterator[Children]:
    """The local hub and Dagster, until the block ends.

    Args:
        settings: of a home that is `locked`.
        lock: the lock's descriptor.
        stop: set when the process is asked to end.

    Raises:
        ChildError, HubUnavailableError, HubRecreatedError: see `start_hub` and `start_dagster`.
        StoppedError: `stop` was set before all was up.
    """
    with Children(settings.root / "logs", stop, lock) as children:
        start_hub(children, settings)
        start_dagster(children, settings)
        try:
            yield children
        finally:
            announce_cancellation(settings)
