"""Rebuilds silver, quarantine and alerts of one ingest date from bronze and replaces that day.

Bronze keeps the order of processing, so the rows are those that a session would have written. `replay` is a rebuild of
the days whose quarantine a fix would change.
"""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import polars as pl

from assets.archived import archived, refuse_archived
from assets.stream.contract import Contract
from assets.stream.decode import body_size
from assets.stream.known import Known
from assets.stream.log import hub_epoch
from assets.stream.process import Outcome, Processor
from assets.stream.slices import slices
from assets.stream.store import CHUNK_BYTES, StreamStore, events_of, read_events
from resources.lake import Lake

EVENT = ["hub_epoch", "partition", "sequence_number"]
"""The key of an event."""

ROW_BYTES = 200
"""What a quarantined row weighs besides its body."""

DERIVED = ("silver", "alerts", "quarantine")
"""The roles of the tables that are made from bronze, in the order in which a rebuilt day is put into them.

Quarantine comes last: until it is replaced, a replay that was interrupted is found to be due again.
"""


class NotCaughtUpError(RuntimeError):
    """Silver is behind bronze, or alerts wait for the alerts hub: a session has to finish first."""


@dataclass(frozen=True)
class Rebuilt:
    """What a rebuild changed.

    Attributes:
        day: the ingest date.
        before, after: rows by role.
        event_dates: the dates whose gold must follow.
        new_alerts: how many alerts were stored on no day before.
    """

    day: date
    before: dict[str, int]
    after: dict[str, int]
    event_dates: tuple[date, ...]
    new_alerts: int


class _Spool:
    """Rows by role in temporary Parquet files: a day need not fit into memory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._parts = 0

    def add(self, outcome: Outcome) -> None:
        for role in DERIVED:
            if outcome.rows[role].height:
                outcome.rows[role].write_parquet(self._folder / f"{role}-{self._parts:06d}.parquet")
        self._parts += 1

    def with_earlier(self, store: StreamStore, role: str, earlier: pl.Expr) -> pl.LazyFrame:
        """The rows of a table that meet a condition, and those spooled for it."""
        table, files = store.tables[role], self._files(role)
        spooled = pl.scan_parquet(files) if files else pl.LazyFrame(schema=table.table.schema)
        return pl.concat([table.scan().filter(earlier), spooled])

    def frames(self, role: str) -> Iterator[pl.DataFrame]:
        for file in self._files(role):
            yield pl.read_parquet(file)

    def _files(self, role: str) -> list[Path]:
        return sorted(self._folder.glob(f"{role}-*.parquet"))


def rebuild(
    contract: Contract, lake: Lake, day: date, on_new_alerts: Callable[[pl.DataFrame], None] = lambda _: None
) -> Rebuilt:
    """Rebuilds one ingest date; running it twice changes nothing the second time.

    Args:
        contract: the stream.
        lake: where its tables are.
        day: the ingest date.
        on_new_alerts: called with the alerts that no day held before, some at a time, ahead of their commit.

    Raises:
        NotCaughtUpError: bronze holds events of the stream that silver does not.
        ConcurrentWriteError: a session wrote to the day meanwhile; nothing more was replaced.
        SchemaError: a table does not fit the contract; nothing was replaced.
        ArchivedError: the day's rows of bronze were archived; nothing was replaced.
    """
    store = StreamStore(contract, lake)
    store.open()
    refuse_archived(lake, store.bronze, {day: "silver, quarantine and alerts of a day are made from them"})
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
            silver=lambda: spool.with_earlier(store, "silver", earlier),
            alerts=lambda: spool.with_earlier(store, "alerts", earlier),
            newest=store.silver.newest("measured_at", earlier),
        )
        processor = Processor(contract, known)
        duplicates = 0
        for events in read_events(store.complete(day)):
            outcome = processor.process(events.positions, events.bodies)
            spool.add(outcome)
            known.mark_stored()
            duplicates += int(outcome.duplicates["duplicates"].sum())
        touched = spool.with_earlier(store, "silver", of_day).select("event_date").unique()
        event_dates = tuple(touched.collect().to_series().sort().to_list())
        before = {role: _count(store.tables[role].scan().filter(of_day)) for role in DERIVED}
        # Where the day's alerts were archived, it is not known which of them were stored before: none is told of.
        are_told = day not in archived(lake, store.alerts)
        new_alerts = 0
        for alerts in spool.frames("alerts"):
            new = _never_stored(store, alerts) if are_told else alerts.clear()
            new_alerts += new.height
            if new.height:
                on_new_alerts(new)
        after = {
            role: store.replace_day(role, day, spool.frames(role), event_dates, duplicates, is_newest=is_newest)
            for role in DERIVED
        }
    return Rebuilt(day, before, after, event_dates, new_alerts)


def _never_stored(store: StreamStore, alerts: pl.DataFrame) -> pl.DataFrame:
    """Those of the alerts that no day holds."""
    is_near = pl.col("measured_at").is_between(alerts["measured_at"].min(), alerts["measured_at"].max())
    stored = store.alerts.scan().filter(is_near).select("alert_id")
    return alerts.lazy().join(stored, on="alert_id", how="anti", maintain_order="left").collect()


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
    # A day whose events were archived cannot be rebuilt, so a fix does not reach it.
    in_bronze = {*store.bronze.dates("ingest_date")}
    quarantined = (day for day in store.quarantine.dates("ingest_date") if day in in_bronze)
    before = (day for day in quarantined if due is None or day < due)
    first = next((day for day in before if _is_changed(store, day)), due)
    return [] if first is None else [day for day in store.bronze.dates("ingest_date") if day >= first]


def _is_changed(store: StreamStore, day: date) -> bool:
    quarantine = store.quarantine.scan().filter(pl.col("ingest_date") == day)
    parts = slices(quarantine, "received_at", CHUNK_BYTES, (body_size.fill_null(0) + ROW_BYTES).sum())
    return any(_changes(store, day, part.with_columns(hub_epoch).collect()) for part in parts)


def _changes(store: StreamStore, day: date, quarantined: pl.DataFrame) -> bool:
    """Processes quarantined events alone, without what is known of others: enough to see whether a reason changed."""
    received = pl.col("received_at").is_between(quarantined["received_at"].min(), quarantined["received_at"].max())
    bronze = store.bronze.scan().filter(pl.col("ingest_date") == day, received).with_columns(hub_epoch)
    events = events_of(bronze.join(quarantined[EVENT].unique().lazy(), on=EVENT, how="semi"))
    outcome = Processor(store.contract, Known.nothing(store.contract)).process(events.positions, events.bodies)
    key = [*EVENT, "event_index", "reason"]
    # Whether a reading contradicts another one is not seen here.
    alone = quarantined.filter(pl.col("reason") != "conflicting_duplicate")
    return bool(alone.join(outcome.quarantine, on=key, how="anti").height)


def _count(rows: pl.LazyFrame) -> int:
    return int(rows.select(pl.len()).collect().item())
