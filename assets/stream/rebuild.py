"""Rebuilds silver, quarantine and alerts of one ingest date from bronze and replaces that day.

Bronze keeps the order of processing, so the rows are those that a session would have written. `replay` is a rebuild of
the days whose quarantine a fix would change.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import date, timedelta

import polars as pl

from assets.archived import archived, refuse_archived
from assets.stream.contract import Contract
from assets.stream.decode import body_size
from assets.stream.enrichment import References
from assets.stream.known import Known
from assets.stream.log import hub_epoch
from assets.stream.process import Outcome, Processor
from assets.stream.slices import slices
from assets.stream.store import CHUNK_BYTES, StreamStore, between, events_of, read_events
from resources.audit import audited
from resources.lake import Lake
from resources.leases import Lease

EVENT = ["hub_epoch", "partition", "sequence_number"]
"""The key of an event."""

FOLDER = "rebuilt"
CATCHES_UP_IN_S, _AGAIN_AFTER_S = 5.0, 0.2
"""How long silver may be behind bronze while a session is at work."""

ROW_BYTES = 200
"""What a quarantined row weighs besides its body."""


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


def _derived(contract: Contract) -> list[str]:
    """The roles of the tables that are made from bronze, in the order in which a rebuilt day is put into them.

    Quarantine comes last: until it is replaced, a replay that was interrupted is found to be due again.
    """
    order = ("silver", "alerts", "quarantine")
    return [*(role for role in contract.derived_roles if role not in order), *order]


class _DayBeside:
    """The new rows of one ingest date, in tables beside the stream's: a day need not fit into memory.

    Args:
        store: the stream's tables.
        folder: where the tables beside them are.
        day: the ingest date.
    """

    def __init__(self, store: StreamStore, folder: Lake, day: date) -> None:
        self._day = day
        self.tables = {role: folder.table(store.tables[role].table).create() for role in _derived(store.contract)}
        self._copies = {role: table.copies_for(store.tables[role]) for role, table in self.tables.items()}
        self.duplicates = self.skipped = 0

    def add(self, outcome: Outcome) -> None:
        """Adds what some micro-batches produced."""
        for role, table in self.tables.items():
            if (rows := outcome.rows[role]).height:
                table.append(rows, transactions={})
        self.duplicates += int(outcome.duplicates["duplicates"].sum())
        self.skipped += int(outcome.skipped["skipped"].sum())

    def with_earlier(self, store: StreamStore, role: str) -> pl.LazyFrame:
        """The rows of earlier ingest dates, and those added here."""
        earlier = store.tables[role].scan().filter(pl.col("ingest_date") < self._day)
        return pl.concat([earlier, self.tables[role].scan()])

    def copy(self) -> None:
        """Copies what was added since the last call into the folders of the stream's tables."""
        for role, copies in self._copies.items():
            copies.of(self.tables[role].delta())

    def event_dates(self, role: str) -> set[date]:
        """The event dates of the new rows."""
        return {*self.tables[role].distinct("event_date")}

    def replace(self, store: StreamStore, event_dates: Mapping[str, Sequence[date]], *, is_newest: bool) -> None:
        """Puts the rows into the place of the day's rows, one commit a table."""
        if store.contract.children:
            # Gold must not take new children for those that it counted, also where this process dies in between.
            store.log.set("silver", store.log.next_replacement(self._day))
        for role, table in self.tables.items():
            store.replace_day(
                role,
                self._day,
                table,
                self._copies[role],
                event_dates.get(role, ()),
                self.duplicates,
                self.skipped,
                is_newest=is_newest,
            )
            # Now they are the table's own.
            self._copies[role].keep()

    def discard(self) -> None:
        """Removes copies that no commit named."""
        for copies in self._copies.values():
            copies.discard()


def rebuild(
    contract: Contract,
    lake: Lake,
    day: date,
    on_new_alerts: Callable[[pl.DataFrame], None] = lambda _: None,
    lease: Lease | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Rebuilt:
    """Rebuilds one ingest date; running it twice changes nothing the second time.

    A session goes on meanwhile. It waits only while the rows of the newest days, which it remembers, are replaced.

    Args:
        contract: the stream.
        lake: where its tables are.
        day: the ingest date.
        on_new_alerts: called with the alerts that no day held before, some at a time, ahead of their commit.
        lease: the caller's part in the work on the stream; by default it is alone.
        should_stop: asked while another rebuild or the session is waited for.

    Raises:
        NotCaughtUpError: bronze holds events of the stream that silver does not, and no session is at work on them.
        LeaseError: another rebuild or the session did not make room in time.
        ConcurrentWriteError: a session wrote to the day meanwhile; nothing more was replaced.
        SchemaError: a table does not fit the contract; nothing was replaced.
        ArchivedError: the day's rows of bronze were archived; nothing was replaced.
    """
    lease = lease or Lease()
    with lease.rebuilding(should_stop=should_stop), _audited("rebuild", contract, lake, day) as note:
        return note(_rebuild(contract, lake, day, on_new_alerts, lease, should_stop))


@contextmanager
def _audited(kind: str, contract: Contract, lake: Lake, day: date) -> Iterator[Callable[[Rebuilt], Rebuilt]]:
    """Notes the rebuild of a day in the audit."""
    tables = contract.tables
    with audited(lake, kind, tables.silver.name, source=f"{tables.bronze.name} of {day}") as entry:

        def note(done: Rebuilt) -> Rebuilt:
            entry.rows_out, entry.rows_rejected = done.after["silver"], done.after["quarantine"]
            return done

        yield note


def _rebuild(
    contract: Contract,
    lake: Lake,
    day: date,
    on_new_alerts: Callable[[pl.DataFrame], None],
    lease: Lease,
    should_stop: Callable[[], bool] = lambda: False,
) -> Rebuilt:
    store = _caught_up(contract, lake)
    refuse_archived(lake, store.bronze, {day: "silver, quarantine and alerts of a day are made from them"})
    # Where the day's alerts were archived, it is not known which of them were stored before: none is told of.
    are_told = day not in archived(lake, store.alerts)
    folder = lake.below(f"{FOLDER}/{contract.stream}")
    folder.remove()
    rebuilt = _DayBeside(store, folder, day)
    references = References(contract, lake)
    references.refresh()
    known = Known(
        contract,
        silver=lambda: rebuilt.with_earlier(store, "silver"),
        alerts=lambda: rebuilt.with_earlier(store, "alerts"),
        newest=store.silver.newest("measured_at", pl.col("ingest_date") < day),
        reach=references.reach,
    )
    processor, new_alerts = Processor(contract, known, references), 0

    def process(bronze: pl.LazyFrame) -> None:
        nonlocal new_alerts
        # What was loaded meanwhile counts for what a session has added meanwhile.
        references.refresh()
        for events in read_events(bronze):
            outcome = processor.process(events.positions, events.bodies)
            rebuilt.add(outcome)
            known.mark_stored()
            new = _never_stored(store, outcome.alerts) if are_told else outcome.alerts.clear()
            new_alerts += new.height
            if new.height:
                on_new_alerts(new)
        rebuilt.copy()

    of_day = pl.col("ingest_date") == day
    try:
        process(store.complete(day))
        # A revision raises alerts on a date of which silver may have no row.
        dates = {role: _event_dates(store, role, of_day) for role in ("silver", "alerts")}
        before = {role: _count(store.tables[role].scan().filter(of_day)) for role in rebuilt.tables}
        reached = store.offsets("silver")
        with lease.turned(should_stop=should_stop) if _is_remembered(store, day) else nullcontext():
            # What a session has added meanwhile, in the little time that it waits for.
            store = _caught_up(contract, lake)
            added = between(reached, store.offsets("silver"))
            process(store.complete(day).filter(added))
            for role in dates:
                dates[role] |= _event_dates(store, role, of_day & added) | rebuilt.event_dates(role)
            rebuilt.replace(
                store, {role: sorted(found) for role, found in dates.items()}, is_newest=store.is_newest(day)
            )
    finally:
        rebuilt.discard()
    after = {role: table.count() for role, table in rebuilt.tables.items()}
    folder.remove()
    return Rebuilt(day, before, after, tuple(sorted(dates["silver"])), new_alerts)


def _event_dates(store: StreamStore, role: str, where: pl.Expr) -> set[date]:
    dates = store.tables[role].scan().filter(where).select(pl.col("event_date").unique())
    return {*dates.collect(engine="streaming").to_series()}


def _caught_up(contract: Contract, lake: Lake) -> StreamStore:
    """The stream's tables, once silver has all that bronze has. A session at work is behind for moments only."""
    end = time.monotonic() + CATCHES_UP_IN_S
    while True:
        store = StreamStore(contract, lake)
        store.open()
        if not store.is_behind():
            return store
        if time.monotonic() > end:
            raise NotCaughtUpError(
                f"{contract.stream}: silver is behind bronze, so nothing can be made anew. "
                f"Run `pulselake drain {contract.stream}` first."
            )
        time.sleep(_AGAIN_AFTER_S)


def _is_remembered(store: StreamStore, day: date) -> bool:
    """Whether a session may remember rows of an ingest date, or still write to it."""
    newest = max(store.bronze.dates("ingest_date"), default=day)
    return day >= newest - timedelta(days=1)


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
    lease: Lease | None = None,
) -> list[Rebuilt]:
    """Rebuilds the ingest dates that a fix changes, and goes on where a replay was interrupted.

    Raises:
        NotCaughtUpError: see `rebuild`; also while alerts wait for the alerts hub, which would get new ones twice.
        LeaseError: see `rebuild`.
        ConcurrentWriteError: see `rebuild`; run it again to finish.
    """
    store = StreamStore(contract, lake)
    if store.has_unpublished():
        raise NotCaughtUpError(
            f"{contract.stream}: alerts wait for the alerts hub, so nothing is replayed. When the hub is back, "
            f"a session publishes them, or `pulselake drain {contract.stream}`; then replay."
        )
    lease, done = lease or Lease(), []
    with lease.rebuilding():
        for day in (days := days_to_replay(contract, lake)):
            store.mark_replay(day)
            with _audited("replay", contract, lake, day) as note:
                done.append(note(_rebuild(contract, lake, day, on_new_alerts, lease)))
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
    references = References(contract, lake)
    # Ids of other systems that were added since let in what was quarantined.
    references.refresh()
    first = next((day for day in before if _is_changed(store, references, day)), due)
    return [] if first is None else [day for day in store.bronze.dates("ingest_date") if day >= first]


def _is_changed(store: StreamStore, references: References, day: date) -> bool:
    quarantine = store.quarantine.scan().filter(pl.col("ingest_date") == day)
    parts = slices(quarantine, "received_at", CHUNK_BYTES, (body_size.fill_null(0) + ROW_BYTES).sum())
    return any(_changes(store, references, day, part.with_columns(hub_epoch).collect()) for part in parts)


def _changes(store: StreamStore, references: References, day: date, quarantined: pl.DataFrame) -> bool:
    """Processes quarantined events alone, without what is known of others: enough to see whether a reason changed."""
    received = pl.col("received_at").is_between(quarantined["received_at"].min(), quarantined["received_at"].max())
    bronze = store.bronze.scan().filter(pl.col("ingest_date") == day, received).with_columns(hub_epoch)
    events = events_of(bronze.join(quarantined[EVENT].unique().lazy(), on=EVENT, how="semi"))
    known = Known.nothing(store.contract)
    outcome = Processor(store.contract, known, references).process(events.positions, events.bodies)
    key = [*EVENT, "event_index", "reason"]
    # Whether a reading contradicts another one is not seen here.
    alone = quarantined.filter(pl.col("reason") != "conflicting_duplicate")
    return bool(alone.join(outcome.quarantine, on=key, how="anti").height)


def _count(rows: pl.LazyFrame) -> int:
    return int(rows.select(pl.len()).collect().item())
