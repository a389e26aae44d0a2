"""What all crash tests share: a sender that never gives up, processes that are killed, a last look at the tables."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Self

import polars as pl
import psutil

from assets.glucose.assets import CONTRACT
from assets.gold import DailyGold
from assets.stream.contract import ALERTS_HUB, Contract
from assets.stream.session import Session, SessionLimits
from generator.events import Event
from generator.streams import device_events, glucose_events
from orchestration.system import STREAMS, Stream
from orchestration.work import refresh_gold
from resources.event_hubs import EventHubsNamespace, EventHubsSource
from resources.event_hubs_publisher import EventHubsPublisher
from resources.event_source import HubUnavailableError
from resources.lake import Lake
from resources.settings import DEFAULT_HUBS
from tests.midnight import wait_out_midnight
from tests.stream import oracle
from tests.stream.tables import assert_exact, bronze_events, rows

ROOT = Path(__file__).resolve().parents[2]
GLUCOSE, DEVICES = STREAMS[:2]
DOMAINS = {GLUCOSE.contract: oracle.GLUCOSE, DEVICES.contract: oracle.DEVICES}
KILLS = 5
EVENTS_PER_SEND, ENOUGH = 20, 200
PAUSE_S = 0.3
BACK = timedelta(days=30)
"""So far back the first readings were measured: at one instant in two minutes the senders need half an hour to come to
today. What they sent after that would be of the future, so that silver grew no more."""


class Sender:
    """Sends events all the time, in a thread; what the hub did not confirm is sent again, so it may come twice."""

    def __init__(self, connection_string: str, contract: Contract = CONTRACT) -> None:
        self._hub, self._contract = EventHubsNamespace(connection_string), contract
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._unconfirmed: list[Event] = []
        self.confirmed: list[bytes] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        start = datetime.now(UTC).replace(microsecond=0) - BACK
        generate = glucose_events if self._contract is CONTRACT else device_events
        events = generate(start=start, spacing=timedelta(minutes=2), faults=0.1, repeats=0.05, late=0.05)
        while not self._stop.is_set():
            try:
                with self._hub.publisher(self._contract.stream) as publisher:
                    self._send(publisher, events)
            except HubUnavailableError:
                self._stop.wait(PAUSE_S)

    def _send(self, publisher: EventHubsPublisher, events: Iterator[Event]) -> None:
        while not self._stop.is_set():
            self._unconfirmed = self._unconfirmed or list(islice(events, EVENTS_PER_SEND))
            bodies = [event.body for event in self._unconfirmed]
            publisher.publish(bodies, [event.key for event in self._unconfirmed])
            self.confirmed += bodies
            self._unconfirmed = []
            self._stop.wait(PAUSE_S)


class Worker:
    """A process that is killed and started again; one that greets has started when it printed a line."""

    def __init__(
        self, command: list[str], log: Path, environment: Mapping[str, str] | None = None, *, greets: bool = False
    ) -> None:
        self._command, self._log, self._environment, self._greets = command, log, dict(environment or {}), greets
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=os.environ | self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if self._greets else log,
                stderr=log,
            )
        if self._process.stdout is not None:
            assert self._process.stdout.readline(), self._log.read_text()[-2000:]

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            code = self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._process = None
            assert code == -signal.SIGKILL, self._log.read_text()[-2000:]


def session_worker(connection_string: str, lake: Lake, log: Path) -> Worker:
    return Worker([sys.executable, "-m", "tests.crash.session_worker", connection_string, lake.root], log, greets=True)


def source_of(connection_string: str, contract: Contract = CONTRACT) -> EventHubsSource:
    return EventHubsNamespace(connection_string).source(DEFAULT_HUBS.get(contract.stream, contract.stream))


def drain_and_verify(connection_string: str, lake: Lake, confirmed: list[bytes], stream: Stream = GLUCOSE) -> None:
    """Lets one last session work undisturbed; then every table, gold too, and the alerts hub must be exact."""
    contract = stream.contract
    # A session ends at midnight, whether it has caught up or not.
    wait_out_midnight()
    hubs, source = EventHubsNamespace(connection_string), source_of(connection_string, contract)
    with hubs.publisher(ALERTS_HUB) as publisher:
        limits = SessionLimits(trigger_s=0.05, until_caught_up=True)
        totals = Session(contract, lake, source, publisher, limits=limits).run()
    assert totals.alerts_withheld is None
    assert_exact(lake, source, contract, DOMAINS[contract])
    stored = Counter(event.body for event in bronze_events(lake, contract))
    lost = Counter(confirmed) - stored
    assert not lost, f"{sum(lost.values())} confirmed events are not in bronze"
    assert len(confirmed) >= ENOUGH, f"only {len(confirmed)} events were sent"
    unpublished = set(rows(lake, "alerts", contract)["alert_id"]) - published(hubs.source(ALERTS_HUB))
    assert not unpublished, f"{len(unpublished)} stored alerts are not in the alerts hub"
    refresh_gold(stream, lake)
    assert_gold_is_what_silver_says(lake, stream)


def published(alerts: EventHubsSource) -> set[str]:
    """The ids of all alerts in the hub."""
    ids: set[str] = set()
    waiting = sum(tail.last + 1 for tail in alerts.state().tails.values())
    with alerts.receive({}) as receiver:
        while waiting > 0:
            taken = receiver.take(timeout=300)
            assert taken, f"{waiting} events of the alerts hub did not arrive"
            for body in (body for pulled in taken for body in pulled.bodies):
                found = json.loads(body or b"")
                ids |= {alert["alert_id"] for alert in (found if isinstance(found, list) else [found])}
                waiting -= 1
    return ids


def assert_gold_is_what_silver_says(lake: Lake, stream: Stream) -> None:
    """Every daily gold table equals one that is made of all of silver at once."""
    for gold in stream.gold:
        if isinstance(gold, DailyGold):
            silver = lake.table(gold.source).scan()
            dates = silver.select(pl.col("event_date").unique()).collect().to_series().to_list()
            right = gold.compute(silver, dates)
            stored = lake.table(gold.table).scan().collect()
            assert stored.sort(pl.all()).equals(right.sort(pl.all())), gold.table.name


def carrying(name: str, value: str) -> list[psutil.Process]:
    """Processes with a variable in their environment: all that a daemon started, however far from it they are."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(name) == value:
                found.append(process)
        except psutil.Error:
            continue
    return found


def end(processes: Iterable[psutil.Process]) -> None:
    """Kills processes by their ids; some may have ended by themselves meanwhile."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
            process.wait(300)


@contextmanager
def none_left(name: str, value: str) -> Iterator[None]:
    """Kills by its id whatever carries the variable when the block ends."""
    try:
        yield
    finally:
        while left := carrying(name, value):
            end(left)
