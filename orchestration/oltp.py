"""The transactional store as a whole: a standing sync of all its tables, one that ends, and how far they have come."""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

import polars as pl
from azure.core.exceptions import AzureError
from deltalake.exceptions import DeltaError

from assets.reference_store import ReferenceClockError
from assets.store_alarms import AlarmSync
from assets.store_reference import ReferenceSync
from assets.store_sync import Lag, StoreSync, SyncError
from assets.sync.alarms import ALERTS, LIFECYCLE, AlarmFeed
from assets.sync.feed import AnyFeed
from assets.sync.reference import REFERENCE_FEEDS, ReferenceFeed
from orchestration.system import ALARM_FEEDS, FEEDS, open_lake
from resources.lake import ConcurrentWriteError, Lake, SchemaError
from resources.leases import LeaseError
from resources.logs import tell
from resources.settings import Settings
from resources.store import OvertakenError, State, Store, StoreError, StoreUnavailableError, opened
from resources.store_tables import Base

LEASE = "oltp"
LOOK_EVERY_S, REFERENCE_EVERY_S, EXPIRE_EVERY_S = 1.0, 10.0, 3600.0
"""How often silver's logs are looked at, reference data are exchanged, and old rows are removed."""
ALARMS_EVERY_S = 0.5
"""How often the logs of alarms are looked at: people wait for them."""
TURN_S = 1.0
"""For how long a backlog of a table is worked at, before the other tables are looked at."""
LONGEST_PAUSE_S = 15.0
"""How long a failing table, or a store that is away, is left alone at most."""
STUCK_AFTER_S = 60.0
"""How long another process that is at work may get nowhere until nobody waits for it any more."""

FAILURES = (
    StoreError,
    OvertakenError,
    SyncError,
    SchemaError,
    ConcurrentWriteError,
    ReferenceClockError,
    DeltaError,
    AzureError,
    pl.exceptions.PolarsError,
    OSError,
)
"""What may go wrong with a table at one look, and well at the next."""

_log = logging.getLogger(__name__)

Table = AnyFeed | AlarmFeed | ReferenceFeed
TABLES: Sequence[Table] = (*FEEDS, *ALARM_FEEDS, *REFERENCE_FEEDS)
"""All that is kept as the lake is; readings before alarms, which name them."""


class UnknownTableError(ValueError):
    """The sync fills no table of that name."""


@dataclass(frozen=True)
class TableStatus:
    """One table of the store, or the alarms of one stream, at this moment.

    Attributes:
        table: its name; of alarms, what `sync_state` calls them.
        state: how far it has come; None where it was never filled.
        lag: how far it is behind; None for a table of reference data.
    """

    table: str
    state: State | None
    lag: Lag | None


def open_store(settings: Settings) -> Store:
    """The store of the settings; the file in the home is made where it is missing.

    Raises:
        StoreError: its tables are not those that are declared, or a setting names a table that there is not.
        StoreUnavailableError: the database does not answer.
    """
    names = {*(feed.table for feed in FEEDS), ALERTS}
    if unknown := settings.oltp_keep_days.keys() - names:
        raise StoreError(
            f"PULSELAKE_OLTP_KEEP_DAYS names {', '.join(sorted(unknown))}, of which no rows expire; nothing was "
            f"opened. Rows expire in {', '.join(sorted(names))}."
        )
    return opened(settings.oltp_url, is_own=settings.uses_own_store)


def described(table: str) -> str:
    """What a row of a table of the store is."""
    rows = {each.class_.__tablename__: each.class_ for each in Base.registry.mappers}
    return " ".join((rows[table].__doc__ or "").split())


def may_sync() -> AbstractContextManager[bool]:
    """Says whether this process may sync the store of the settings, or another one does."""
    return at_work(Settings())


def filled_by(table: Table) -> Sequence[str]:
    """The tables of the store that a declaration fills, those before others that refer to them."""
    return (ALERTS, LIFECYCLE) if isinstance(table, AlarmFeed) else (table.table,)


def tables_named(name: str) -> Sequence[Table]:
    """The declarations that fill a table: one, but for alarms one for each stream.

    Raises:
        UnknownTableError: there is none; the message lists those there are.
    """
    if found := [each for each in TABLES if name.lower() in map(str.lower, filled_by(each))]:
        return found
    listed = ", ".join(dict.fromkeys(each for table in TABLES for each in filled_by(table)))
    raise UnknownTableError(f"The sync fills no table '{name}'. Tables: {listed}.")


def tables_status(lake: Lake, store: Store) -> list[TableStatus]:
    """How far each table has come."""
    syncs = Syncs.of(lake, store)
    lags = [(feed.table, syncs.lag(feed)) for feed in (*FEEDS, *ALARM_FEEDS)]
    states = store.states([each.table for each in REFERENCE_FEEDS])
    return [
        *(TableStatus(table, lag.state, lag) for table, lag in lags),
        *(TableStatus(each.table, states.get(each.table), None) for each in REFERENCE_FEEDS),
    ]


def line_of(settings: Settings) -> str:
    """One line about the store for `pulselake status`; empty where nobody has made one."""
    if settings.uses_own_store and not (settings.root / "oltp.db").exists():
        return ""
    try:
        store = open_store(settings)
        found = tables_status(open_lake(settings), store)
    except FAILURES as error:
        return f"store: {error}"
    behind = sum(each.lag.rows for each in found if each.lag)
    troubled = [each.table for each in found if each.state and each.state.problem]
    told = f"{behind:,} rows behind" if behind else "up to date"
    return f"store: {store.name}, {told}" + (f"; look at {', '.join(troubled)}" if troubled else "")


@dataclass(frozen=True)
class Syncs:
    """What keeps one table as the lake is, for each kind of table.

    Attributes:
        rows: tables that are filled from streams.
        alarms: alarms.
        references: reference data.
    """

    rows: StoreSync
    alarms: AlarmSync
    references: ReferenceSync

    @classmethod
    def of(cls, lake: Lake, store: Store, settings: Settings | None = None) -> "Syncs":
        """Those of a lake and a store; without settings all rows are kept."""
        keep_days = settings.oltp_keep_days if settings else {}
        return cls(StoreSync(lake, store, keep_days), AlarmSync(lake, store, keep_days), ReferenceSync(lake, store))

    def steps(self, feed: AnyFeed | AlarmFeed) -> Iterator[State]:
        """Brings a table up to date; see `StoreSync.steps`."""
        return self.alarms.steps(feed) if isinstance(feed, AlarmFeed) else self.rows.steps(feed)

    def lag(self, feed: AnyFeed | AlarmFeed) -> Lag:
        """How far a table is behind."""
        return self.alarms.lag(feed) if isinstance(feed, AlarmFeed) else self.rows.lag(feed)

    def expire(self, feed: AnyFeed | AlarmFeed) -> int:
        """Removes rows that are older than the table keeps them."""
        return self.alarms.expire(feed) if isinstance(feed, AlarmFeed) else self.rows.expire(feed)


@dataclass
class _Pause:
    """How long something is left alone after it has failed."""

    until: float = 0.0
    seconds: float = 0.0

    def longer(self) -> None:
        self.seconds = min(max(LOOK_EVERY_S, 2 * self.seconds), LONGEST_PAUSE_S)
        self.until = time.monotonic() + self.seconds

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self.until


@dataclass
class Worker:
    """Keeps tables of the store as the lake is, one after the other. A table that fails holds up no other.

    Attributes:
        store, syncs: what is kept, and by what.
        tables: which of them.
        every_s: how often they are looked at.
        stop: set when the process is asked to end.
    """

    store: Store
    syncs: Syncs
    tables: Sequence[Table] = TABLES
    every_s: float = LOOK_EVERY_S
    stop: threading.Event = field(default_factory=threading.Event)
    on_progress: Callable[[str, State], None] = lambda _, __: None
    _pauses: dict[str, _Pause] = field(default_factory=dict)
    _told: dict[str, str] = field(default_factory=dict)
    _next: dict[str, float] = field(default_factory=dict)
    _backlogs: dict[str, Iterator[State]] = field(default_factory=dict)
    _without_problem: set[str] = field(default_factory=set)

    def run(self) -> None:
        """Looks again and again until it is asked to end."""
        while not self.stop.is_set():
            self.look()
            # Without a backlog there is time until the next look.
            if not self._backlogs:
                self.stop.wait(self.every_s)

    def look(self) -> None:
        """Looks once at all tables whose turn it is."""
        with suppress(StoreUnavailableError):
            if not self._pause("").is_over:
                return
            for feed in self._feeds:
                self._try(feed.table, partial(self._advance, feed))
            alarms = [each for each in self.tables if isinstance(each, AlarmFeed)]
            if alarms and self._is_turn("readings of alarms", LOOK_EVERY_S):
                is_whole = self._is_turn("readings of all alarms", EXPIRE_EVERY_S)
                for each in alarms:
                    self._try(each.table, partial(self.syncs.alarms.link, each, is_whole=is_whole))
            references = [each for each in self.tables if isinstance(each, ReferenceFeed)]
            if references and self._is_turn("references", REFERENCE_EVERY_S):
                for reference in references:
                    self._try(reference.table, partial(self.syncs.references.exchange, reference))
            if self._is_turn("expire", EXPIRE_EVERY_S):
                for feed in self._feeds:
                    self._try(feed.table, partial(self.syncs.expire, feed))

    @property
    def _feeds(self) -> list[AnyFeed | AlarmFeed]:
        return [each for each in self.tables if not isinstance(each, ReferenceFeed)]

    def once(self) -> int:
        """Brings the tables up to date.

        Returns:
            How many rows were written.

        Raises:
            StoreError, SyncError, SchemaError, ConcurrentWriteError, ReferenceClockError: see `StoreSync.catch_up`.
        """
        return sum(self._at_once(each) for each in self.tables)

    def _at_once(self, table: Table) -> int:
        if isinstance(table, ReferenceFeed):
            found = self.syncs.references.exchange(table)
            return found.to_store + found.to_lake
        written = self._catch_up(table)
        self.syncs.expire(table)
        self.store.note(table.table, "")
        return written

    def _advance(self, feed: AnyFeed | AlarmFeed) -> None:
        """Writes what is new in a table, of a backlog for some time only: then it is the next table's turn."""
        end = time.monotonic() + TURN_S
        steps = self._backlogs.pop(feed.table, None) or self.syncs.steps(feed)
        for state in steps:
            self.on_progress(feed.table, state)
            if time.monotonic() > end or self.stop.is_set():
                self._backlogs[feed.table] = steps
                return
        if feed.table not in self._without_problem:
            # An earlier process may have noted one.
            self.store.note(feed.table, "")
            self._without_problem.add(feed.table)

    def _catch_up(self, feed: AnyFeed | AlarmFeed) -> int:
        def say(state: State) -> None:
            self.on_progress(feed.table, state)

        if isinstance(feed, AlarmFeed):
            return self.syncs.alarms.catch_up(feed, self.stop.is_set, say)
        return self.syncs.rows.catch_up(feed, self.stop.is_set, say)

    def _try(self, table: str, work: Callable[[], object]) -> None:
        if self.stop.is_set() or not self._pause(table).is_over:
            return
        try:
            work()
        except StoreUnavailableError as error:
            # It is away for all tables.
            self._failed("", error)
            raise
        except FAILURES as error:
            self._failed(table, error)
            self._note(table, " ".join(str(error).split()))
        else:
            self._well(table)

    def _note(self, table: str, problem: str) -> None:
        """Notes what keeps a table from following. Where even that is refused, the log says both."""
        try:
            self.store.note(table, problem)
        except StoreUnavailableError as error:
            self._failed("", error)
            raise
        except StoreError as error:
            said = " ".join(str(error).split())
            tell(_log, "what keeps a table from following cannot be noted", logging.WARNING, table=table, error=said)

    def _failed(self, table: str, error: Exception) -> None:
        self._pause(table).longer()
        self._without_problem.discard(table)
        said = " ".join(str(error).split())
        if self._told.get(table) != said:
            tell(_log, "the store does not follow", logging.WARNING, table=table or "all", error=said)
            self._told[table] = said

    def _well(self, table: str) -> None:
        for each in ("", table):
            if self._told.pop(each, None) is not None:
                tell(_log, "the store follows again", table=each or "all")
                self._pauses.pop(each, None)
                if each:
                    self._note(each, "")

    def _pause(self, table: str) -> _Pause:
        return self._pauses.setdefault(table, _Pause())

    def _is_turn(self, what: str, every_s: float) -> bool:
        if (now := time.monotonic()) < self._next.get(what, 0.0):
            return False
        self._next[what] = now + every_s
        return True


@contextmanager
def at_work(settings: Settings, stop: threading.Event | None = None, lease_name: str = LEASE) -> Iterator[bool]:
    """Within the block this process may do a standing work with the store, where no other one does.

    Args:
        settings: whose store.
        stop: where it is given, another process is waited for until it is set.
        lease_name: which work; by default the sync.

    Yields:
        Whether it may.
    """
    lease = settings.lease(lease_name, f"{lease_name} {os.getpid()}")
    try:
        while not (mine := lease.active.take()) and stop is not None and not stop.wait(LOOK_EVERY_S):
            pass
        yield mine
    finally:
        lease.release()


def stand(settings: Settings, stop: threading.Event, say: Callable[[str], None] = lambda _: None) -> None:
    """Syncs until it is asked to end; where another process does, it waits for its turn.

    A store or a lake that is away, or that is not ready, is asked again and again.
    """
    with at_work(settings, stop) as mine:
        if not mine:
            return
        pause, told = _Pause(), ""
        while not stop.is_set():
            try:
                lake, store = open_lake(settings), open_store(settings)
            except (*FAILURES, RuntimeError) as error:
                if str(error) != told:
                    told = str(error)
                    say(told)
                pause.longer()
                stop.wait(pause.seconds)
                continue
            say(f"The store {store.name} is kept as the lake is.")
            keep(lake, store, stop, settings)
            store.close()


def keep(lake: Lake, store: Store, stop: threading.Event, settings: Settings) -> None:
    """Keeps all tables as the lake is until it is asked to end; alarms in a thread of their own, so none waits."""
    others = [each for each in TABLES if not isinstance(each, AlarmFeed)]
    with ThreadPoolExecutor(2, "store") as pool:
        running = [
            pool.submit(Worker(store, Syncs.of(lake, store, settings), tables, every_s, stop).run)
            for tables, every_s in ((ALARM_FEEDS, ALARMS_EVERY_S), (others, LOOK_EVERY_S))
        ]
        try:
            for each in as_completed(running):
                each.result()
        finally:
            # A mistake in one of them ends the other one too, so that the process is seen to fail.
            stop.set()


def sync_once(
    settings: Settings,
    tables: Sequence[Table],
    say: Callable[[str], None] = lambda _: None,
) -> int:
    """Brings some tables up to date; where another process is at work, it is waited for instead.

    Returns:
        How many rows were written here.

    Raises:
        StoreError, StoreUnavailableError, LakeUnavailableError: see `open_store` and `open_lake`.
        LeaseError: another process is at work and gets nowhere.
    """
    lake, store = open_lake(settings), open_store(settings)
    with at_work(settings) as mine:
        if mine:
            worker = Worker(store, Syncs.of(lake, store, settings), tables)
            worker.on_progress = lambda table, state: say(f"{table}: {state.rows_written:,} rows")
            return worker.once()
    _wait_for_the_other(settings, lake, store, tables)
    return 0


def resync(settings: Settings, tables: Sequence[Table], say: Callable[[str], None] = lambda _: None) -> int:
    """Fills tables from the beginning; those that were dropped are created.

    Returns, raises: see `sync_once`.
    """
    lake, store = open_lake(settings), open_store(settings)
    for name in dict.fromkeys(each for table in tables for each in filled_by(table)):
        store.recreate(name)
    for table in tables:
        store.forget(table.table)
    names, alarms = {each.table for each in tables}, AlarmSync(lake, store)
    # Readings that are given numbers anew must not be taken for others meanwhile.
    named = [feed for feed in ALARM_FEEDS if feed.readings in names]
    for feed in named:
        alarms.unlink(feed)
    written = sync_once(settings, tables, say)
    for feed in named:
        alarms.link_all(feed)
    return written


def _wait_for_the_other(settings: Settings, lake: Lake, store: Store, tables: Sequence[Table]) -> None:
    names = [each.table for each in tables]
    feeds = [each for each in tables if not isinstance(each, ReferenceFeed)]
    references = {each.table for each in tables if isinstance(each, ReferenceFeed)}
    syncs, began = Syncs.of(lake, store), datetime.now(UTC)
    before, end = store.states(names), time.monotonic() + STUCK_AFTER_S
    while True:
        lags, now = [syncs.lag(feed) for feed in feeds], store.states(names)
        is_behind = any(lag.rows or lag.is_filling for lag in lags if not _is_newer(lag, began))
        if not is_behind and references <= now.keys():
            return
        if now != before:
            before, end = now, time.monotonic() + STUCK_AFTER_S
        if time.monotonic() > end:
            who = settings.holders(LEASE).get("active")
            raise LeaseError(
                f"'{who.name if who else 'another process'}' syncs the store and got nowhere for {STUCK_AFTER_S:.0f} "
                "s. Nothing was changed; look at `pulselake oltp status` and at its log."
            )
        time.sleep(LOOK_EVERY_S / 2)


def _is_newer(lag: Lag, began: datetime) -> bool:
    """Whether what a table lacks came after it was asked for."""
    return not lag.is_filling and lag.oldest is not None and lag.oldest > began
