"""What the page of data quality counts. It knows all of the system, so it loads Dagster; it runs in `apart` only."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime

import polars as pl

from assets.clinical.sources import LOADS
from assets.stream.checks import descriptions, evaluate
from assets.stream.store import StreamStore
from dashboard.quality_found import Checked, Quality, SessionFound, StoredTable, StoreFound, StreamFound
from orchestration.asking import analytics
from orchestration.last_sessions import last_sessions
from orchestration.oltp import FAILURES, TableStatus, open_store, tables_status
from orchestration.status import StreamStatus, stream_status
from orchestration.system import STREAMS, Stream
from resources.analytics import QueryError
from resources.lake import Lake
from resources.settings import Settings
from resources.storage import lake_of
from resources.store_tables import Base

LOADS_SHOWN = 30
_OUTBOX = "notification"
_NOTIFICATIONS = f"SELECT state, count(*) FROM {_OUTBOX} GROUP BY state ORDER BY state"


def found(settings: Settings, days: Sequence[date], now: datetime) -> Quality:
    """All that the page shows; what is counted by day, of these ingest dates."""
    lake = lake_of(settings)
    sessions = [
        SessionFound(each.stream.name, each.run_id, each.outcome, each.started_at, each.duration)
        for each in last_sessions(settings, now)
    ]
    return Quality(
        _streams(settings, lake, days),
        sessions,
        quarantine(settings, days).to_dicts(),
        [check for stream in STREAMS for check in _checks(lake, stream, now)],
        loads(settings).to_dicts(),
        _store(settings, lake),
    )


def quarantine(settings: Settings, days: Sequence[date]) -> pl.DataFrame:
    """How many rows of the last days are quarantined, by stream, date and reason."""
    lake = lake_of(settings)
    parts = [
        lake.table(each.contract.tables.quarantine)
        .scan()
        .filter(pl.col("ingest_date").is_in([*days]))
        .group_by("ingest_date", "reason")
        .agg(row_count=pl.len().cast(pl.Int64))
        .select(pl.lit(each.name).alias("stream"), "ingest_date", "reason", "row_count")
        for each in STREAMS
    ]
    rows = pl.concat(pl.collect_all(parts))
    return rows.sort(["ingest_date", "stream", "row_count", "reason"], descending=[True, False, True, False])


def loads(settings: Settings) -> pl.DataFrame:
    """The newest loads of clinical sources."""
    statement = f"SELECT * FROM {LOADS.sql_name} ORDER BY loaded_at DESC LIMIT {LOADS_SHOWN}"
    try:
        return analytics(lake_of(settings), settings).query(statement)
    except QueryError:
        return pl.DataFrame()


def _streams(settings: Settings, lake: Lake, days: Sequence[date]) -> list[StreamFound]:
    """All streams. A hub that is silent keeps only its own stream waiting."""
    with ThreadPoolExecutor(len(STREAMS)) as pool:
        return [_stream(each) for each in pool.map(lambda each: stream_status(each, settings, lake, days), STREAMS)]


def _stream(status: StreamStatus) -> StreamFound:
    return StreamFound(
        status.stream.name,
        None if status.lag is None else status.lag.events,
        status.problem,
        status.last_pulled_at,
        dict(status.rows),
        None if status.open_alarms is None else sum(status.open_alarms.values()),
    )


def _checks(lake: Lake, stream: Stream, now: datetime) -> list[Checked]:
    """The checks of today, as sessions make them; of a stream that never ran there are none."""
    tables = StreamStore(stream.contract, lake)
    if not tables.silver.exists():
        return []
    tables.look()
    says = descriptions(stream.contract)
    return [
        Checked(
            stream.name,
            each.table,
            each.name,
            each.passed,
            each.is_error,
            dict(each.counts),
            says.get((each.table, each.name), ""),
        )
        for each in evaluate(tables, now.date(), now, recent=True, at_work=True)
    ]


def _store(settings: Settings, lake: Lake) -> StoreFound:
    """How far the transactional store has come. Looking creates none."""
    if settings.uses_own_store and not (settings.root / "oltp.db").exists():
        return StoreFound((), "Nobody has filled a store: `pulselake oltp sync` does.")
    try:
        opened = open_store(settings)
        tables = [_table(each) for each in tables_status(lake, opened)]
        told = opened.query(_NOTIFICATIONS) if _OUTBOX in Base.metadata.tables else []
    except FAILURES as error:
        return StoreFound((), str(error))
    return StoreFound(tables, "", dict(told))


def _table(status: TableStatus) -> StoredTable:
    state, lag = status.state, status.lag
    return StoredTable(
        status.table,
        None if lag is None else lag.rows,
        None if lag is None else lag.oldest,
        0 if state is None else state.rows_written,
        None if state is None else state.synced_at,
        "" if state is None else state.problem,
    )
