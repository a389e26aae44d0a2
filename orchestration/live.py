"""The whole system in child processes: the local hub, the generator, and Dagster with its web page."""

import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
from pydantic import SecretStr

from assets.stream.contract import ALARMS_HUB, ALERTS_HUB
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
from orchestration.started_runs import announce_cancellation, cancel_runs
from orchestration.system import HUBS, ROOT, STREAMS
from orchestration.system import stream as stream_of
from orchestration.warm.files import FOLDER, RunFiles
from resources import sources
from resources.event_source import HubUnavailableError
from resources.settings import CLINICAL, KAFKA, Settings
from resources.storage import lake_of
from resources.tokens import Tokens

HUB_CONFIG = ROOT / "hubs.json"
HUB_RETENTION_HOURS = 72.0
HUB_READY_S, DAGSTER_READY_S = 120.0, 300.0
ANSWER_S = 10.0
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
    lake = lake_of(settings)
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


def start_notifications(
    children: Children, settings: Settings, secrets: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Starts the process that tells subscribers of alarms; if it ends it is started again.

    Args:
        children, settings: of the system.
        secrets: addresses of channels by their names, beside those of the environment.
    """
    command = python("-m", "orchestration.cli", "notify", "run")
    children.start("notify", command, cwd=ROOT, env=environment(settings) | dict(secrets), is_restarted=True)


def start_page(children: Children, settings: Settings) -> None:
    """Starts the live page; if it ends it is started again."""
    command = python("-m", "dashboard")
    children.start("page", command, cwd=ROOT, env=environment(settings), is_restarted=True)


def start_hospital(children: Children, settings: Settings, patients: int) -> None:
    """Starts the process that makes a synthetic hospital and serves its telemetry, unless one is served already.

    It is not waited for: its sources count as set up once all of it is made.

    Raises:
        ChildError: something else has its port.
    """
    port = settings.hospital_port
    if is_open(port):
        if not _serves_telemetry(port):
            raise ChildError(
                f"Port {port} on 127.0.0.1 is taken by a program that is no hospital. End what listens there, or "
                "choose another port with PULSELAKE_HOSPITAL_PORT."
            )
        return
    command = python("-m", "orchestration.cli", "hospital", "--patients", str(patients))
    children.start("hospital", command, cwd=ROOT, env=environment(settings), is_restarted=True)


def _serves_telemetry(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/telemetry?limit=1", timeout=ANSWER_S).is_success
    except httpx.HTTPError:
        return False


def start_receiver(children: Children, settings: Settings) -> str | None:
    """Starts the process that apps post to, if any app has a token; if it ends it is started again.

    Returns:
        Its address, or None where it is not started.

    Raises:
        TokenError: the file of tokens cannot be read.
    """
    if not any(token.revoked_at is None for token in Tokens(settings.tokens_file).all()):
        return None
    command = python("-m", "orchestration.cli", "receive")
    children.start("receive", command, cwd=ROOT, env=environment(settings), is_restarted=True)
    scheme = "http" if settings.receive_certificate is None else "https"
    return f"{scheme}://{settings.receive_host}:{settings.receive_port}/"


def start_bridges(children: Children, settings: Settings) -> list[str]:
    """Starts the bridges whose other end is set, and names them; one that ends is started again."""
    named = {"mqtt": settings.mqtt_url, "iothub": settings.iot_hub}
    wanted = [name for name, other_end in named.items() if other_end]
    for name in wanted:
        command = python("-m", "orchestration.cli", "bridge", name)
        children.start(f"bridge-{name}", command, cwd=ROOT, env=environment(settings), is_restarted=True)
    return wanted


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


def environment(settings: Settings) -> dict[str, str]:
    """What children need to see the same settings."""
    return {
        "PULSELAKE_HOME": str(settings.root),
        # Empty is unset: what stands in a file .env must not lead the children elsewhere.
        "PULSELAKE_LAKE": settings.lake_root,
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
        "PULSELAKE_PAGE_PORT": str(settings.page_port),
        "PULSELAKE_PAGE_ORIGIN": settings.page_origin or "",
        "PULSELAKE_PAGE_CONSUMER_GROUP": settings.page_consumer_group,
        "PULSELAKE_PAGE_IDLE_MINUTES": str(settings.page_idle_minutes),
        "PULSELAKE_PAGE_AUDIT_DAYS": str(settings.page_audit_days),
        "PULSELAKE_PAGE_PASSWORDS": str(settings.page_passwords),
        "PULSELAKE_OIDC_ISSUER": settings.oidc_issuer or "",
        "PULSELAKE_OIDC_CLIENT_ID": settings.oidc_client_id,
        "PULSELAKE_OIDC_SECRET": settings.oidc_secret,
        "PULSELAKE_OIDC_SCOPE": settings.oidc_scope,
        "PULSELAKE_OIDC_CLAIM": settings.oidc_claim,
        "PULSELAKE_MAX_SESSION_S": str(settings.max_session_s),
        "PULSELAKE_IDLE_TIMEOUT_S": str(settings.idle_timeout_s or ""),
        "PULSELAKE_LOG": settings.log,
        **{f"PULSELAKE_{name.upper()}": _plain(getattr(settings, name)) for name in CLINICAL},
        "PULSELAKE_HOSPITAL_PORT": str(settings.hospital_port),
        "PULSELAKE_OLTP": settings.oltp,
        "PULSELAKE_OLTP_KEEP_DAYS": ",".join(f"{table}={days}" for table, days in settings.oltp_keep_days.items()),
        "PULSELAKE_KEY_VAULT": settings.key_vault or "",
        "PULSELAKE_ACCOUNTS": _absolute(settings.accounts),
        "PULSELAKE_RECEIVE_HOST": settings.receive_host,
        "PULSELAKE_RECEIVE_PORT": str(settings.receive_port),
        "PULSELAKE_RECEIVE_CERTIFICATE": _absolute(settings.receive_certificate),
        "PULSELAKE_RECEIVE_KEY": _absolute(settings.receive_key),
        "PULSELAKE_KEEP_RUNS_DAYS": str(settings.keep_runs_days),
        "PULSELAKE_MQTT_URL": settings.mqtt_url or "",
        "PULSELAKE_MQTT_TOPICS": settings.mqtt_topics,
        "PULSELAKE_MQTT_USER": settings.mqtt_user,
        "PULSELAKE_MQTT_PASSWORD": settings.mqtt_password,
        "PULSELAKE_MQTT_CA_FILE": settings.mqtt_ca_file,
        "PULSELAKE_MQTT_CLIENT_ID": settings.mqtt_client_id,
        "PULSELAKE_MQTT_VERSION": settings.mqtt_version,
        "PULSELAKE_IOT_HUB": settings.iot_hub or "",
        "PULSELAKE_IOT_HUB_GROUP": settings.iot_hub_group,
        "PULSELAKE_WATCH": settings.watch or "",
        "PULSELAKE_OPENFDA": str(settings.openfda),
        "DAGSTER_HOME": str(settings.dagster_home),
        "DAGSTER_DISABLE_TELEMETRY": "yes",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        "PYTHONWARNINGS": "ignore",
    }


def _plain(value: SecretStr | str | None) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else value or ""


def _absolute(file: Path | None) -> str:
    return "" if file is None else str(file.expanduser().resolve())


@contextmanager
def running(
    settings: Settings,
    lock: int,
    stop: threading.Event,
    *,
    hospital: int = 0,
    first: Callable[[Children], object] = lambda _: None,
) -> Iterator[Children]:
    """The local hub and Dagster, until the block ends.

    Args:
        settings: of a home that is `locked`.
        lock: the lock's descriptor.
        stop: set when the process is asked to end.
        hospital: of how many patients a synthetic hospital is made and served too; 0 for none.
        first: starts what shall not wait until Dagster is up.

    Raises:
        ChildError, HubUnavailableError, HubRecreatedError: see `start_hub` and `start_dagster`.
        StoppedError: `stop` was set before all was up.
    """
    with Children(settings.root / "logs", stop, lock) as children:
        start_hub(children, settings)
        first(children)
        if hospital:
            start_hospital(children, settings, hospital)
        start_dagster(children, settings)
        try:
            yield children
        finally:
            announce_cancellation(settings)
