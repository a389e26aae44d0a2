"""What became of the demo's events: counts, checks, alerts that arrived, and how fast. How they came is in `demo`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

import msgspec
import polars as pl

from assets.stream.checks import evaluate
from assets.stream.contract import ALERTS_HUB, Utc
from assets.stream.findings import Finding
from assets.stream.store import StreamStore
from generator.publisher import Published
from orchestration.demo_page import OnThePage
from orchestration.demo_people import Reached
from orchestration.hospital_loads import LoadedSource
from orchestration.status import StreamStatus, stream_status
from orchestration.system import STREAMS, Stream, tables
from resources import sources
from resources.event_source import HubUnavailableError
from resources.lake import Lake
from resources.settings import Settings
from resources.storage import lake_of
from resources.table import Table


@dataclass(frozen=True)
class Latency:
    """From an event's arrival in the hub to its alert's arrival in the alerts hub, in seconds."""

    alerts: int
    p50: float
    p99: float


@dataclass(frozen=True)
class Summary:
    """What the demo has to show.

    Attributes:
        published: what the generators sent, by stream.
        streams: what became of it, over all ingest dates.
        findings: the checks of every ingest date, by stream.
        silent: by stream the stored alerts that never reached the alerts hub.
        gold: rows by table.
        latency: None if all alerts are of events that waited for the first session.
        settings: of the demo's home.
        told: what reached people and the store; None where nobody was told.
        hospital: what became of the rows of the clinical sources.
        page: which alarms the live page showed; None where there was none.
    """

    published: dict[str, Published]
    streams: list[StreamStatus]
    findings: dict[str, list[Finding]]
    silent: dict[str, int]
    gold: dict[str, int]
    latency: Latency | None
    settings: Settings
    told: Reached | None = None
    hospital: Sequence[LoadedSource] = ()
    page: OnThePage | None = None

    @property
    def problems(self) -> list[str]:
        """Why the counts do not reconcile; empty if they do."""
        found = []
        for each in self.streams:
            name, bronze = each.stream.name, each.rows["bronze"]
            sent = self.published.get(name)
            # What was sent again after an error may be in the hub once or twice.
            if sent is not None and not sent.events <= bronze <= sent.events + sent.resent:
                again = f" and {sent.resent} of them again" if sent.resent else ""
                found.append(f"{name}: {sent.events} events were sent{again}, {bronze} are in bronze")
            if silent := self.silent.get(name):
                found.append(f"{name}: {silent} alerts are stored but did not reach the alerts hub")
            found += [
                f"{name}: check {finding.name} failed: {dict(finding.counts)}"
                for finding in self.findings[name]
                if finding.is_error and not finding.passed
            ]
        found += [f"{each.name}: its rows do not add up: {each}" for each in self.hospital if not each.is_reconciled]
        return [*found, *(self.told.problems if self.told else []), *(self.page.problems if self.page else [])]


def account(
    settings: Settings,
    published: dict[str, Published],
    reports: Mapping[str, int],
    told: Reached | None = None,
    hospital: Sequence[LoadedSource] = (),
    page: OnThePage | None = None,
) -> Summary:
    """Counts and compares what stands in the tables and in the alerts hub.

    Args:
        settings: of the demo's home.
        published: what the generators sent, by stream.
        reports: rows by report.
        told: what reached people and the store.
        hospital: what became of the rows of the clinical sources.
        page: which alarms the live page showed.
    """
    lake = lake_of(settings)
    gold = {table.sql_name: rows_of(lake, table) for table in tables() if table.layer == "gold"}
    gold |= {f"gold.report_{name}": rows for name, rows in reports.items()}
    days = {stream.name: lake.table(stream.contract.tables.bronze).dates("ingest_date") for stream in STREAMS}
    alerts = published_alerts(settings)
    return Summary(
        published,
        [stream_status(stream, settings, lake, days[stream.name]) for stream in STREAMS],
        {stream.name: _findings(stream, lake, days[stream.name]) for stream in STREAMS},
        {stream.name: silent_alerts(stream, lake, alerts) for stream in STREAMS},
        gold,
        latency(lake, alerts),
        settings,
        told,
        hospital,
        page,
    )


def rows_of(lake: Lake, table: Table) -> int:
    """How many rows a table has."""
    rows: int = lake.table(table).scan().select(pl.len()).collect().item()
    return rows


def _findings(stream: Stream, lake: Lake, days: list[date]) -> list[Finding]:
    store, now = StreamStore(stream.contract, lake), datetime.now(UTC)
    return [finding for day in days for finding in evaluate(store, day, now)]


# Longer than a receiver takes to connect again.
_SILENCE_S = 30.0


class _Alert(msgspec.Struct):
    alert_id: str


def published_alerts(settings: Settings) -> pl.DataFrame:
    """What a consumer of alerts has seen: each `alert_id` of the alerts hub, and when it first came (`seen_at`).

    Raises:
        HubUnavailableError: the hub cannot be reached, or stops to answer before all that it held has come.
    """
    source = sources.source(settings, ALERTS_HUB)
    ends = {partition: tail.last for partition, tail in source.state().tails.items() if tail.first <= tail.last}
    decoder = msgspec.json.Decoder(_Alert | list[_Alert])
    ids, seen = [], []
    with source.receive({}) as receiver:
        while ends:
            arrived = receiver.take(timeout=_SILENCE_S)
            if not arrived:
                raise HubUnavailableError(
                    f"Hub '{source.name}': its alerts were counted up to a point and then none came for "
                    f"{_SILENCE_S:.0f} s, although partitions {sorted(ends)} held more when the count began; they may "
                    f"have expired meanwhile. Look whether the hub is there, and count again."
                )
            for pulled in arrived:
                if pulled.sequence_numbers[-1] >= ends.get(pulled.partition, 0):
                    ends.pop(pulled.partition, None)
                for enqueued_ms, body in zip(pulled.enqueued_ms, pulled.bodies, strict=True):
                    found = decoder.decode(body or b"[]")
                    alerts = found if isinstance(found, list) else [found]
                    ids += [alert.alert_id for alert in alerts]
                    seen += [enqueued_ms] * len(alerts)
    frame = pl.DataFrame({"alert_id": ids, "seen_at": seen}, schema={"alert_id": pl.String, "seen_at": pl.Int64})
    seen_at = pl.from_epoch("seen_at", time_unit="ms").dt.replace_time_zone("UTC")
    return frame.group_by("alert_id").agg(pl.col("seen_at").min()).with_columns(seen_at)


def silent_alerts(stream: Stream, lake: Lake, published: pl.DataFrame) -> int:
    """How many alerts are stored that never reached the alerts hub."""
    return _stored_alerts(stream, lake).join(published, on="alert_id", how="anti").height


def _stored_alerts(stream: Stream, lake: Lake) -> pl.DataFrame:
    return lake.table(stream.contract.tables.alerts).scan().select("alert_id", "received_at").collect()


def latency(lake: Lake, published: pl.DataFrame) -> Latency | None:
    """How long alerts took.

    Events that came before a stream's own first micro-batch are left out: they waited for a session to start.
    """
    waits = pl.concat(
        [
            _stored_alerts(stream, lake)
            .filter(pl.col("received_at") > pl.lit(_first_pulled_at(stream, lake), Utc))
            .join(published, on="alert_id")
            .select((pl.col("seen_at") - pl.col("received_at")).dt.total_milliseconds() / 1000)
            .to_series()
            for stream in STREAMS
        ]
    )
    if waits.is_empty():
        return None
    return Latency(len(waits), waits.quantile(0.5) or 0.0, waits.quantile(0.99) or 0.0)


def _first_pulled_at(stream: Stream, lake: Lake) -> datetime | None:
    first: datetime | None = (
        lake.table(stream.contract.tables.bronze).scan().select(pl.col("pulled_at").min()).collect().item()
    )
    return first
