"""The transactional store as a whole: a standing sync of all its tables, one that ends, and how far they have come."""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

import polars as pl
from azure.core.exceptions import AzureError
from deltalake.exceptions import DeltaError

from assets.reference_store import ReferenceClockError
from assets.store_reference import ReferenceSync
from assets.store_sync import Lag, StoreSync, SyncError
from assets.sync.feed import AnyFeed
from assets.sync.reference import REFERENCE_FEEDS, ReferenceFeed
from orchestration.system import FEEDS, open_lake
from resources.lake import ConcurrentWriteError, Lake, SchemaError
from resources.leases import LeaseError
from resources.logs import tell
from resources.settings import Settings
from resources.store import OvertakenError, State, Store, StoreError, StoreUnavailableError, opened
from resources.store_tables import Base

LEASE = "oltp"
LOOK_EVERY_S, REFERENCE_EVERY_S, EXPIRE_EVERY_S = 1.0, 10.0, 3600.0
"""How often silver's logs are looked at, reference data are exchanged, and old rows are removed."""
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

Table = AnyFeed | ReferenceFeed


class UnknownTableError(ValueError):
    """The sync fills no table of that name."""


@dataclass(frozen=True)
class TableStatus:
    """One table of the store at this moment.

    Attributes:
        table: its name.
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
    names = {feed.table for feed in FEEDS}
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


def table_named(name: str) -> Table:
    """The declaration of a table that the sync fills.

    Raises:
        UnknownTableError: there is none; the message lists those there are.
    """
    tables: Sequence[Table] = (*FEEDS, *REFERENCE_FEEDS)
    for each in tables:
        if each.table.lower() == name.lower():
            return each
    listed = ", ".join(each.table for each in tables)
    raise UnknownTableError(f"The sync fills no table '{name}'. Tables: {listed}.")


def tables_status(lake: Lake, store: Store) -> list[TableStatus]:
    """How far each table has come."""
    sync = StoreSync(lake, store)
    states = store.states([each.table for each in REFERENCE_FEEDS])
    return [
        *(TableStatus(feed.table, lag.state, lag) for feed, lag in ((feed, sync.lag(feed)) for feed in FEEDS)),
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
    """Keeps all tables of the store as the lake is, one after the other. A table that fails holds up no other.

    Attributes:
        lake, store: what is kept alike.
        sync, references: do it for one table.
        stop: set when the process is asked to end.
    """

    lake: Lake
    store: Store
    sync: StoreSync
    references: ReferenceSync
    stop: threading.Event = field(default_factory=threading.Event)
    on_progress: Callable[[str, State], None] = lambda _, __: None
    _pauses: dict[str, _Pause] = field(default_factory=dict)
    _told: dict[str, str] = field(default_factory=dict)
    _next: dict[str, float] = field(default_factory=dict)
    _backlogs: dict[str, Iterator[State]] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: Settings, lake: Lake, store: Store, stop: threading.Event | None = None) -> "Worker":
        """The worker of the settings."""
        sync = StoreSync(lake, store, settings.oltp_keep_days)
        return cls(lake, store, sync, ReferenceSync(lake, store), stop or threading.Event())

    def run(self) -> None:
        """Looks again and again until it is asked to end."""
        while not self.stop.is_set():
            self.look()
            # Without a backlog there is time until the next look.
            if not self._backlogs:
                self.stop.wait(LOOK_EVERY_S)

    def look(self) -> None:
        """Looks once at all tables whose turn it is."""
        with suppress(StoreUnavailableError):
            if not self._pause("").is_over:
                return
            for feed in FEEDS:
                self._try(feed.table, partial(self._advance, feed))
            if self._is_turn("references", REFERENCE_EVERY_S):
                for reference in REFERENCE_FEEDS:
                    self._try(reference.table, partial(self.references.exchange, reference))
            if self._is_turn("expire", EXPIRE_EVERY_S):
                for feed in FEEDS:
                    self._try(feed.table, partial(self.sync.expire, feed))

    def once(self, tables: Sequence[Table]) -> int:
        """Brings some tables up to date.

        Returns:
            How many rows were written.

        Raises:
            StoreError, SyncError, SchemaError, ConcurrentWriteError, ReferenceClockError: see `StoreSync.catch_up`.
        """
        return sum(self._at_once(each) for each in tables)

    def _at_once(self, table: Table) -> int:
        if isinstance(table, ReferenceFeed):
            found = self.references.exchange(table)
            return found.to_store + found.to_lake
        written = self._catch_up(table)
        self.sync.expire(table)
        self.store.note(table.table, "")
        return written

    def _advance(self, feed: AnyFeed) -> None:
        """Writes what is new in a table, of a backlog for some time only: then it is the next table's turn."""
        end = time.monotonic() + TURN_S
        steps = self._backlogs.pop(feed.table, None) or self.sync.steps(feed)
        for state in steps:
            self.on_progress(feed.table, state)
            if time.monotonic() > end or self.stop.is_set():
                self._backlogs[feed.table] = steps
                return

    def _catch_up(self, feed: AnyFeed) -> int:
        return self.sync.catch_up(feed, self.stop.is_set, lambda state: self.on_progress(feed.table, state))

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
            self.store.note(table, " ".join(str(error).split()))
        else:
            self._well(table)

    def _failed(self, table: str, error: Exception) -> None:
        self._pause(table).longer()
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
                    self.store.note(each, "")

    def _pause(self, table: str) -> _Pause:
        return self._pauses.setdefault(table, _Pause())

    def _is_turn(self, what: str, every_s: float) -> bool:
        if (now := time.monotonic()) < self._next.get(what, 0.0):
            return False
        self._next[what] = now + every_s
        return True


@contextmanager
def at_work(settings: Settings, stop: threading.Event | None = None) -> Iterator[bool]:
    """Within the block this process may sync, where no other one does.

    Args:
        settings: whose store.
        stop: where it is given, another process is waited for until it is set.

    Yields:
        Whether it may.
    """
    lease = settings.lease(LEASE, f"oltp sync {os.getpid()}")
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
            Worker.of(settings, lake, store, stop).run()
            store.close()


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
            worker = Worker.of(settings, lake, store)
            worker.on_progress = lambda table, state: say(f"{table}: {state.rows_written:,} rows")
            return worker.once(tables)
    _wait_for_the_other(settings, lake, store, tables)
    return 0


def _wait_for_the_other(settings: Settings, lake: Lake, store: Store, tables: Sequence[Table]) -> None:
    names = [each.table for each in tables]
    feeds = [each for each in tables if not isinstance(each, ReferenceFeed)]
    references = {each.table for each in tables if isinstance(each, ReferenceFeed)}
    sync, began = StoreSync(lake, store), datetime.now(UTC)
    before, end = store.states(names), time.monotonic() + STUCK_AFTER_S
    while True:
        lags, now = [sync.lag(feed) for feed in feeds], store.states(names)
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
