"""What `pulselake status` shows: lag, last micro-batch, quarantine by reason and alerts of today. Counts only."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime

import polars as pl

from assets.stream.store import StreamStore
from orchestration.backlog import Backlog, backlog
from orchestration.system import STREAMS, Stream
from resources.event_source import HubUnavailableError
from resources.lake import Lake, LakeTable
from resources.settings import Settings


@dataclass(frozen=True)
class StreamStatus:
    """One stream at this moment.

    Attributes:
        lag: by partition; None where the hub cannot be asked, then `problem` says why.
        last_pulled_at: the last committed micro-batch.
        rows: by layer.
        quarantine: today's rows by reason.
        alerts: today's rows by rule.
        duplicates: today's dropped repeats.
    """

    stream: Stream
    lag: Backlog | None
    problem: str
    last_pulled_at: datetime | None
    rows: Mapping[str, int]
    quarantine: Mapping[str, int]
    alerts: Mapping[str, int]
    duplicates: int


def status(settings: Settings, today: date) -> list[StreamStatus]:
    """The status of every stream."""
    lake = settings.open_lake()
    return [stream_status(stream, settings, lake, today) for stream in STREAMS]


def stream_status(stream: Stream, settings: Settings, lake: Lake, today: date) -> StreamStatus:
    """The status of one stream."""
    lag, problem = None, ""
    try:
        lag = backlog(stream.contract, lake, settings.event_hubs_namespace().source(settings.hub(stream.name)))
    except (HubUnavailableError, RuntimeError) as error:
        problem = str(error)
    store = StreamStore(stream.contract, lake)
    return StreamStatus(
        stream=stream,
        lag=lag,
        problem=problem,
        last_pulled_at=store.last_pulled_at(),
        rows={table.table.layer: table.scan().select(pl.len()).collect().item() for table in store.tables},
        quarantine=_counts(store.quarantine, "reason", today),
        alerts=_counts(store.alerts, "rule", today),
        duplicates=store.duplicates(today),
    )


def _counts(table: LakeTable, column: str, day: date) -> dict[str, int]:
    of_day = table.scan().filter(pl.col("ingest_date") == day)
    return dict(of_day.group_by(column).len().sort("len", column, descending=[True, False]).collect().iter_rows())
