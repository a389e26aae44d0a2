"""`pulselake demo`: the whole system for a minute on synthetic patients, then an account of every event."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime

import msgspec
import polars as pl

from assets.stream.asset import ALERTS_HUB
from assets.stream.checks import Finding, evaluate
from assets.stream.store import StreamStore
from generator.publisher import Published
from orchestration.backlog import backlog
from orchestration.live import Generators, Load, running
from orchestration.processes import free_port
from orchestration.status import StreamStatus, stream_status
from orchestration.system import STREAMS, Stream, tables
from orchestration.work import refresh_gold, refresh_reports
from resources.lake import Lake
from resources.settings import Settings
from resources.table import Table

LOADS = (
    Load("glucose", "glucose_readings", patients=200, rate=200.0, faults=0.02),
    Load("devices", "device_readings", patients=200, rate=40.0, faults=0.02),
)
SETTLE_S = 120.0

Say = Callable[[str], None]


@dataclass(frozen=True)
class Latency:
    """From an event's arrival in the hub to its alert's arrival in the alerts hub, in seconds."""

    alerts: int
    p50: float
    p99: float


@dataclass(frozen=True)
class Summary:
    """What the demo has to show."""

    published: dict[str, Published]
    streams: list[StreamStatus]
    findings: dict[str, list[Finding]]
    gold: dict[str, int]
    latency: Latency | None
    settings: Settings

    @property
    def problems(self) -> list[str]:
        """Why the counts do not reconcile; empty if they do."""
        found = []
        for each in self.streams:
            name = each.stream.name
            sent = self.published.get(name)
            if sent is not None and each.rows["bronze"] != sent.events + sent.resent:
                found.append(f"{name}: {sent.events} events were sent, {each.rows['bronze']} are in bronze")
            found += [
                f"{name}: check {finding.name} failed: {dict(finding.counts)}"
                for finding in self.findings[name]
                if finding.is_error and not finding.passed
            ]
        return found


def demo(settings: Settings, seconds: float, say: Say) -> Summary:
    """Runs the demo in a fresh home below the configured one.

    Raises:
        ChildError: a part of the system did not start or ended.
    """
    home = settings.root / "demo"
    shutil.rmtree(home, ignore_errors=True)
    own = Settings(home=home, hub_port=free_port(), web_port=free_port(), idle_timeout_s=6.0)
    own = own.model_copy(update={"event_hubs": None, "namespace": None, "lake": None, "hubs": {}})
    say("Starting the local hub and Dagster (daemon, sensors, web page) …")
    with running(own) as children:
        say(f"Dagster is up: http://127.0.0.1:{own.web_port} (until the demo ends)")
        generators = Generators()
        for load in LOADS:
            generators.start(own, load, seconds)
        say(f"Streaming for {seconds:.0f} s: " + ", ".join(f"{load.rate:.0f} {load.stream} events/s" for load in LOADS))
        started = time.monotonic()
        while generators.is_alive():
            children.check()
            time.sleep(5)
            say(f"  {time.monotonic() - started:4.0f} s  " + _progress(own))
        generators.join()
        say("All events are sent. Waiting until the sessions have caught up …")
        children.wait_until(lambda: _is_settled(own), "The last session", SETTLE_S)
        latency = _latency(own)
        today = datetime.now(UTC).date()
        say("Building gold and reports …")
        lake = own.open_lake()
        for stream in STREAMS:
            refresh_gold(stream, lake)
        reports = refresh_reports(lake)
        gold = {table.sql_name: _rows(lake, table) for table in tables() if table.layer == "gold"}
        gold |= {f"gold.report_{name}": rows for name, rows in reports.items()}
        return Summary(
            generators.published,
            [stream_status(stream, own, own.open_lake(), [today]) for stream in STREAMS],
            {stream.name: _findings(own, stream.name, today) for stream in STREAMS},
            gold,
            latency,
            own,
        )


def _rows(lake: Lake, table: Table) -> int:
    rows: int = lake.table(table).scan().select(pl.len()).collect().item()
    return rows


def _findings(settings: Settings, name: str, day: date) -> list[Finding]:
    contract = next(stream.contract for stream in STREAMS if stream.name == name)
    return evaluate(StreamStore(contract, settings.open_lake()), day, datetime.now(UTC))


def _progress(settings: Settings) -> str:
    lake = settings.open_lake()
    counts = (
        f"{table.sql_name} {lake.table(table).scan().select(pl.len()).collect().item():,}"
        for stream in STREAMS
        for table in (stream.contract.tables.silver, stream.contract.tables.alerts)
    )
    return "  ".join(counts)


def _is_settled(settings: Settings) -> bool:
    lake, namespace = settings.open_lake(), settings.event_hubs_namespace()
    return all(
        backlog(stream.contract, lake, namespace.source(settings.hub(stream.name))).events <= 0 for stream in STREAMS
    )


def _latency(settings: Settings) -> Latency | None:
    """Reads the alerts hub: what a consumer of alerts would have seen, and when.

    Events that came before a stream's first micro-batch are left out: they waited for the first session to start.
    """
    lake, source = settings.open_lake(), settings.event_hubs_namespace().source(settings.hub(ALERTS_HUB))
    first = min(filter(None, (_first_pulled_at(stream, lake) for stream in STREAMS)), default=None)
    expected = sum(tail.last - tail.first + 1 for tail in source.state().tails.values() if tail.last >= 0)
    decoder = msgspec.json.Decoder(_Received)
    seen, waits = 0, []
    with source.receive({}) as receiver:
        while seen < expected:
            for pulled in receiver.take(timeout=5.0):
                for enqueued_ms, body in zip(pulled.enqueued_ms, pulled.bodies, strict=True):
                    seen += 1
                    received_at = decoder.decode(body).received_at
                    if first is not None and received_at > first:
                        waits.append(enqueued_ms / 1000 - received_at.timestamp())
    if not waits:
        return None
    found = pl.Series(waits)
    return Latency(len(waits), found.quantile(0.5) or 0.0, found.quantile(0.99) or 0.0)


def _first_pulled_at(stream: Stream, lake: Lake) -> datetime | None:
    first: datetime | None = (
        lake.table(stream.contract.tables.bronze).scan().select(pl.col("pulled_at").min()).collect().item()
    )
    return first


class _Received(msgspec.Struct):
    received_at: datetime
