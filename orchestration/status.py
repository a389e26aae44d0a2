"""What `pulselake status` shows: lag, last session and micro-batch, quarantine by reason and alerts. Counts only."""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, datetime

import polars as pl

from assets.archived import archived
from assets.stream.alarm_history import standing
from assets.stream.log import FOLDS, TOLD
from assets.stream.session import HubRecreatedError
from assets.stream.store import StreamStore
from orchestration.backlog import Backlog, backlog
from orchestration.system import STREAMS, Stream, open_lake
from resources import sources
from resources.event_source import HubUnavailableError
from resources.lake import Lake, LakeTable, SchemaError
from resources.settings import Settings


@dataclass(frozen=True)
class StreamStatus:
    """One stream at this moment.

    Attributes:
        lag: by partition; None where the hub cannot be asked.
        problem: why the hub or a table cannot be asked; empty if all can.
        last_pulled_at: the last committed micro-batch.
        rows: by role of the table.
        quarantine: rows of the asked days by reason.
        alerts: rows of the asked days by rule.
        duplicates: dropped repeats of the asked days.
        archived: by role of the table how many ingest dates retention removed, and how many rows they had.
        hub: its hub in the words of its transport.
        open_alarms: how many are open, by severity; None where the stream has no alarms.
        has_untold_alarms: whether something that happened to alarms waits for their hub.
    """

    stream: Stream
    lag: Backlog | None
    problem: str
    last_pulled_at: datetime | None
    rows: Mapping[str, int]
    quarantine: Mapping[str, int]
    alerts: Mapping[str, int]
    duplicates: int
    archived: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    hub: str = ""
    open_alarms: Mapping[str, int] | None = None
    has_untold_alarms: bool = False


def status(settings: Settings, today: date) -> list[StreamStatus]:
    """The status of every stream today. All hubs are asked at once: one that is away keeps no other waiting.

    Raises:
        LakeUnavailableError: see `open_lake`.
    """
    lake = open_lake(settings)
    with ThreadPoolExecutor(len(STREAMS)) as pool:
        return [*pool.map(lambda stream: stream_status(stream, settings, lake, [today]), STREAMS)]


def stream_status(stream: Stream, settings: Settings, lake: Lake, days: Iterable[date]) -> StreamStatus:
    """The status of one stream; what is counted by day, for these ingest dates."""
    asked, problems = list(days), []
    lag = None
    quarantine: dict[str, int] = {}
    alerts: dict[str, int] = {}
    store = StreamStore(stream.contract, lake)
    gone = {role: archived(lake, table).values() for role, table in store.tables.items()}
    try:
        lag = backlog(stream.contract, lake, sources.source(settings, stream.name))
    except (HubUnavailableError, HubRecreatedError) as error:
        problems.append(str(error))
    try:
        quarantine, alerts = _counts(store.quarantine, "reason", asked), _counts(store.alerts, "rule", asked)
    except SchemaError as error:
        problems.append(str(error))
    open_alarms, has_untold = _alarms(stream, store, lake)
    return StreamStatus(
        stream=stream,
        open_alarms=open_alarms,
        has_untold_alarms=has_untold,
        hub=sources.described(settings, stream.name),
        lag=lag,
        problem="\n".join(problems),
        last_pulled_at=store.last_pulled_at(),
        rows={role: table.count() for role, table in store.tables.items()},
        quarantine=quarantine,
        alerts=alerts,
        duplicates=sum(store.duplicates(day) for day in asked),
        archived={role: (len(each), sum(record.rows for record in each)) for role, each in gone.items() if each},
    )


def _alarms(stream: Stream, store: StreamStore, lake: Lake) -> tuple[dict[str, int] | None, bool]:
    if stream.contract.alarms is None:
        return None, False
    by_severity = standing(stream.contract, lake)["severity"].value_counts()
    folds, told = (store.log.id(each) for each in (FOLDS, TOLD))
    steps = store.alarms.transactions([folds, told])
    return dict(by_severity.iter_rows()), steps.get(told, 0) < steps.get(folds, 0)


def _counts(table: LakeTable, column: str, days: list[date]) -> dict[str, int]:
    of_days = table.scan().filter(pl.col("ingest_date").is_in(days))
    return dict(of_days.group_by(column).len().sort("len", column, descending=[True, False]).collect().iter_rows())
