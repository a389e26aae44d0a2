"""Rebuilds silver, quarantine and alerts of one ingest date from bronze and replaces that day.

Bronze keeps the order of processing, so the rows are those that a session would have written. `replay` is a rebuild of
the days whose quarantine a fix would change.
"""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl

from assets.stream.contract import Contract
from assets.stream.known import Known
from assets.stream.process import Outcome, Processor
from assets.stream.slices import slices
from assets.stream.store import CHUNK_BYTES, StreamStore, read_events
from resources.lake import Lake, LakeTable

ROW_BYTES = 200
"""What a quarantined row weighs besides its body."""


class NotCaughtUpError(RuntimeError):
    """Silver is behind bronze, or alerts wait for the alerts hub: a session has to finish first."""


@dataclass(frozen=True)
class Rebuilt:
    """What a rebuild changed.

    Attributes:
        day: the ingest date.
        before, after: rows by layer.
        event_dates: the dates whose gold must follow.
        new_alerts: alert rows that were not there before.
    """

    day: date
    before: dict[str, int]
    after: dict[str, int]
    event_dates: tuple[date, ...]
    new_alerts: pl.DataFrame = field(repr=False)


class _Spool:
    """Rows by layer in temporary Parquet files: a day need not fit into memory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._parts = 0

    def add(self, outcome: Outcome) -> None:
        for layer in ("silver", "quarantine", "alerts"):
            frame: pl.DataFrame = getattr(outcome, layer)
            if frame.height:
                frame.write_parquet(self._folder / f"{layer}-{self._parts:06d}.parquet")
        self._parts += 1

    def scan(self, table: LakeTable) -> pl.LazyFrame:
        files = self._files(table)
        return pl.scan_parquet(files) if files else pl.LazyFrame(schema=table.table.schema)

    def frames(self, table: LakeTable) -> Iterator[pl.DataFrame]:
        for file in self._files(table):
            yield pl.read_parquet(file)

    def _files(self, table: LakeTable) -> list[Path]:
        return sorted(self._folder.glob(f"{table.table.layer}-*.parquet"))


def rebuild(
    contract: Contract, lake: Lake, day: date, on_new_alerts: Callable[[pl.DataFrame], None] = lambda _: None
) -> Rebuilt:
    """Rebuilds one ingest date; running it twice changes nothing the second time.

    Args:
        contract: the stream.
        lake: where its tables are.
        day: the ingest date.
        on_new_alerts: called with the alerts that were not there before, if any, ahead of their commit.

    Raises:
        NotCaughtUpError: bronze holds events of the stream that silver does not.
        ConcurrentWriteError: a session wrote to the day meanwhile; nothing more was replaced.
    """
    store = StreamStore(contract, lake)
    store.open()
    if store.is_behind():
        raise NotCaughtUpError(
            f"{contract.stream}: silver is behind bronze, so {day} cannot be rebuilt. "
            f"Run `pulselake drain {contract.stream}` first."
        )
    is_newest = store.is_newest(day)
    of_day, earlier = pl.col("ingest_date") == day, pl.col("ingest_date") < day
    with tempfile.TemporaryDirectory(prefix="pulselake-rebuild-") as folder:
        spool = _Spool(Path(folder))
        known = Known(
            contract,
            silver=lambda: pl.concat([store.silver.scan().filter(earlier), spool.scan(store.silver)]),
            alerts=lambda: pl.concat([store.alerts.scan().filter(earlier), spool.scan(store.alerts)]),
            newest=store.silver.newest("measured_at", earlier),
        )
        processor = Processor(contract, known)
        duplicates = 0
        for events in read_events(store.complete(day)):
            outcome = processor.process(events.positions, events.bodies)
            spool.add(outcome)
            known.forget()
            duplicates += int(outcome.duplicates["duplicates"].sum())
        touched = (
            pl.concat([store.silver.scan().filter(of_day), spool.scan(store.silver)]).select("event_date").unique()
        )
        event_dates = tuple(touched.collect().to_series().sort().to_list())
        # Quarantine last: until it is replaced, a replay that was interrupted is found to be due again.
        tables = (store.silver, store.alerts, store.quarantine)
        before = {table.table.layer: _count(table.scan().filter(of_day)) for table in tables}
        new_alerts = (
            spool.scan(store.alerts).join(store.alerts.scan().filter(of_day), on="alert_id", how="anti").collect()
        )
        if new_alerts.height:
            on_new_alerts(new_alerts)
        after = {
            table.table.layer: store.replace_day(
                table, day, spool.frames(table), event_dates, duplicates, is_newest=is_newest
            )
            for table in tables
        }
    return Rebuilt(day, before, after, event_dates, new_alerts)


def replay(
    contract: Contract,
    lake: Lake,
    on_new_alerts: Callable[[pl.DataFrame], None] = lambda _: None,
    on_progress: Callable[[Rebuilt], None] = lambda _: None,
) -> list[Rebuilt]:
    """Rebuilds the ingest dates that a fix changes, and goes on where a replay was interrupted.

    Raises:
        NotCaughtUpError: see `rebuild`; also while alerts wait for the alerts hub, which would get new ones twice.
        ConcurrentWriteError: see `rebuild`; run it again to finish.
    """
    store = StreamStore(contract, lake)
    if store.has_unpublished():
        raise NotCaughtUpError(
            f"{contract.stream}: alerts wait for the alerts hub, so nothing is replayed. When the hub is back, "
            f"a session publishes them, or `pulselake drain {contract.stream}`; then replay."
        )
    done = []
    for day in (days := days_to_replay(contract, lake)):
        store.mark_replay(day)
        done.append(rebuild(contract, lake, day, on_new_alerts))
        on_progress(done[-1])
    if days:
        store.mark_replay(None)
    return done


def days_to_replay(contract: Contract, lake: Lake) -> list[date]:
    """The ingest dates to rebuild, in order, so that a fix reaches what it changes in quarantine.

    From the first day whose quarantined readings would not all be quarantined for the same reason again: readings of
    the days after it may repeat what the fix lets in, or be averaged with it.
    """
    store = StreamStore(contract, lake)
    due = store.replay_due_from
    before = (day for day in store.quarantine.dates("ingest_date") if due is None or day < due)
    first = next((day for day in before if _is_changed(store, day)), due)
    return [] if first is None else [day for day in store.bronze.dates("ingest_date") if day >= first]


def _is_changed(store: StreamStore, day: date) -> bool:
    quarantine = store.quarantine.scan().filter(pl.col("ingest_date") == day)
    size = pl.coalesce(pl.col("body").str.len_bytes(), pl.col("body_bytes").bin.size()).cast(pl.Int64).fill_null(0)
    parts = slices(quarantine, "received_at", CHUNK_BYTES, (size + ROW_BYTES).sum())
    return any(_changes(store.contract, part.collect()) for part in parts)


def _changes(contract: Contract, quarantined: pl.DataFrame) -> bool:
    """Processes quarantined events alone, without what is known of others: enough to see whether a reason changed."""
    first = quarantined.sort("partition", "sequence_number", "event_index")
    events = first.unique(["partition", "sequence_number"], keep="first", maintain_order=True)
    empty = {table.layer: table.schema for table in contract.tables}
    known = Known(
        contract, lambda: pl.LazyFrame(schema=empty["silver"]), lambda: pl.LazyFrame(schema=empty["alerts"]), None
    )
    bodies = events.select(pl.coalesce("body_bytes", pl.col("body").cast(pl.Binary))).to_series().to_list()
    positions = events.select(
        "partition", "sequence_number", "received_at", pulled_at=pl.lit(datetime(2000, 1, 1, tzinfo=UTC))
    )
    outcome = Processor(contract, known).process(
        positions.with_columns(pl.col("pulled_at").cast(positions.schema["received_at"])), bodies
    )
    key = ["partition", "sequence_number", "event_index", "reason"]
    # Whether a reading contradicts another one is not seen here.
    alone = quarantined.filter(pl.col("reason") != "conflicting_duplicate")
    return bool(alone.join(outcome.quarantine, on=key, how="anti").height)


def _count(rows: pl.LazyFrame) -> int:
    return int(rows.select(pl.len()).collect().item())
