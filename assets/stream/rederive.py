"""Makes all tables of a stream but bronze anew, beside the old ones, and swaps them.

This helps where a contract changed so that its tables do not fit any more, where a rule should hold for all of history,
and where a clock was ahead. A rebuild replaces one day in tables that fit; this replaces all days.

```
 bronze ──▶ rederived/<stream>/…   every event again, in the order of processing; a killed run goes on from its log
                   │
                   └─ swap ──▶ the stream's tables, one commit each: their files are copied, readers see old or new rows
```
"""

import hashlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, timedelta
from itertools import groupby
from pathlib import Path

import polars as pl

from assets.archived import refuse_archived
from assets.stream.contract import Contract, Utc
from assets.stream.enrichment import References
from assets.stream.log import PUBLISHED, REDERIVED, REPLAY
from assets.stream.process import Processor
from assets.stream.slices import slices
from assets.stream.store import CHUNK_READINGS, StreamStore
from resources.copies import Copies
from resources.lake import ConcurrentWriteError, Lake
from resources.leases import Lease

FOLDER = "rederived"
ATTEMPTS = 10
"""How often a swap is tried while a session writes; each time what the session added is derived first."""

Say = Callable[[str], None]


def derive(contract: Contract, lake: Lake, say: Say = lambda _: None) -> None:
    """Processes all of bronze into tables beside the stream's; goes on where a killed run of the same code stopped.

    Sessions may write meanwhile; what they add is derived too, as far as bronze has it when the end is near.

    Raises:
        ProcessingError: events could not be processed.
        SchemaError: bronze does not fit; nothing was written.
        ArchivedError: bronze of a day that other tables have was archived; nothing was written.
    """
    store = StreamStore(contract, lake)
    store.bronze.ensure()
    store.look()
    days = {day for role in contract.derived_roles for day in store.tables[role].dates("ingest_date")}
    refuse_archived(lake, store.bronze, dict.fromkeys(days, "a rederive makes the other tables' rows from them"))
    beside = _beside(contract, lake)
    if (code := _code_of(contract)) != store.log.of("bronze").get(store.log.id(REDERIVED)):
        _folder(contract, lake).remove()
        store.log.set("bronze", {store.log.id(REDERIVED): code})
    _catch_up(beside, lake, say)


def swap(contract: Contract, lake: Lake, say: Say = lambda _: None, lease: Lease | None = None) -> None:
    """Puts the derived tables in the place of the stream's, while a session waits.

    No alert is published here. Alerts that waited for their hub, and those that sessions raised since they last stored
    some, wait afterwards: a session sends them, perhaps a second time.

    Raises:
        LeaseError: the session at work did not make room in time.
        ConcurrentWriteError: a session that knows nothing of the lease was faster each time. In both cases the derived
            tables stay for the next attempt.
    """
    beside, lease = _beside(contract, lake), lease or Lease()
    mark, code = beside.log.id(REDERIVED), _code_of(contract)
    copies = {
        role: beside.tables[role].copies_for(StreamStore(contract, lake).tables[role].create())
        for role in contract.derived_roles
    }
    try:
        # Copied ahead: what is left then takes less than a second, for which a session waits.
        _catch_up(beside, lake, say)
        for role in contract.derived_roles:
            copies[role].of(beside.tables[role].delta())
        with lease.turned():
            if StreamStore(contract, lake).bronze.transactions([mark]).get(mark) != code:
                raise ConcurrentWriteError(
                    f"{contract.stream}: what was derived is gone or was derived by other code; nothing was swapped. "
                    f"Run `pulselake rederive {contract.stream}` again."
                )
            _swap_at_once(contract, lake, beside, copies, say)
    except BaseException:
        _discard(copies)
        raise
    store = StreamStore(contract, lake)
    store.look()
    store.log.set("bronze", {store.log.id(REDERIVED): 0})
    _folder(contract, lake).remove()


def _swap_at_once(contract: Contract, lake: Lake, beside: StreamStore, copies: Mapping[str, Copies], say: Say) -> None:
    for attempt in range(1, ATTEMPTS + 1):
        store = StreamStore(contract, lake)
        store.look()
        # Whatever a session commits from here on, the swap notices.
        _catch_up(beside, lake, say)
        try:
            return _swap(store, beside, copies)
        except ConcurrentWriteError:
            if attempt == ATTEMPTS:
                raise


def is_ahead(contract: Contract, lake: Lake, now: datetime) -> bool:
    """Whether bronze holds events that were pulled in the future; file statistics tell."""
    newest = StreamStore(contract, lake).last_pulled_at()
    return newest is not None and newest > now


def redate(contract: Contract, lake: Lake, now: datetime) -> int:
    """Moves events that were pulled by a clock that was ahead to this moment; their order stays.

    The other tables follow by `derive` and `swap`.

    Returns:
        How many events were moved.

    Raises:
        ConcurrentWriteError: a session wrote meanwhile; nothing was moved.
    """
    store = StreamStore(contract, lake)
    store.look()
    is_ahead = pl.col("pulled_at") > now
    pulls = store.bronze.scan().group_by("pulled_at").len().sort("pulled_at").collect()
    ahead = pulls.filter(is_ahead)
    if ahead.is_empty():
        return 0
    last = pulls.filter(~is_ahead)["pulled_at"].tail(1).to_list()
    first = max([now - timedelta(microseconds=ahead.height), *last])
    moved_to = ahead.select(
        "pulled_at", to=pl.lit(first, Utc) + pl.duration(microseconds=pl.int_range(1, ahead.height + 1))
    )
    today = first.date()
    affected = store.bronze.scan().filter(pl.col("ingest_date") >= today)

    def frames() -> Iterator[pl.DataFrame]:
        for rows in slices(affected, "pulled_at", CHUNK_READINGS):
            moved = rows.join(moved_to.lazy(), on="pulled_at", how="left", maintain_order="left")
            pulled_at = pl.coalesce("to", "pulled_at")
            new = moved.with_columns(pulled_at=pulled_at, ingest_date=pulled_at.dt.date()).drop("to")
            yield new.select(store.bronze.table.schema.names()).collect()

    known = store.log.of("bronze")
    store.bronze.replace(
        frames(),
        f"ingest_date >= '{today.isoformat()}'",
        # What was derived from the events as they were is of no use.
        transactions=known | store.log.next_commit("bronze") | {store.log.id(REDERIVED): 0},
        expected=known,
    )
    return int(ahead["len"].sum())


def _catch_up(beside: StreamStore, lake: Lake, say: Say) -> None:
    beside.open()
    behind = sum(beside.offsets("bronze").values()) - sum(beside.offsets("silver").values())
    if not beside.is_behind():
        return
    references, done = References(beside.contract, lake), 0
    # Of these events, since which no later ones are looked at here, every version that counts is known by now.
    references.refresh()
    processor = Processor(beside.contract, beside.remembered(references.reach).known, references)
    by_day = groupby(beside.behind(), key=lambda events: events.positions["pulled_at"][0].date())
    for day, of_day in by_day:
        for events in of_day:
            beside.commit([processor.process(events.positions, events.bodies)])
            processor.known.mark_stored()
            done += len(events.bodies)
            say(f"{beside.contract.stream}: {done:,} of about {behind:,} events, now of {day} …")
        beside.maintain(day)


def _swap(store: StreamStore, beside: StreamStore, copies: Mapping[str, Copies]) -> None:
    published = store.waiting.settled(store.log.offsets("silver"))
    days = store.bronze.dates("ingest_date")
    if store.contract.children:
        # Gold must not take new children for those that it counted.
        store.log.set("silver", store.log.next_replacement(None))
    # Silver, the commit point, comes last.
    for role in store.contract.derived_roles:
        table, other = store.tables[role], beside.tables[role]
        new = store.log.numbered("", beside.offsets(role)) | store.log.next_commit(role)
        dates: list[date] = []
        if role in ("silver", "alerts"):
            dates = sorted({*table.distinct("event_date"), *other.distinct("event_date")})
        if role == "silver":
            ids = [name(day) for day in days for name in (beside.log.duplicates_id, beside.log.skipped_id)]
            new |= dict.fromkeys(ids, 0) | beside.silver.transactions(ids)
            new |= store.log.next_replacement(None)
        if role == "alerts":
            # Alerts that a session published and did not store yet count as waiting: twice is better than never.
            new |= store.log.numbered(PUBLISHED, published)
        if role == "quarantine":
            new |= {store.log.id(REPLAY): 0}
        table.adopt(other, copies[role], transactions=new, expected=store.log.of(role), event_dates=dates)
        # Now they are the table's own.
        copies[role].keep()


def _discard(copies: Mapping[str, Copies]) -> None:
    for each in copies.values():
        each.discard()


def _folder(contract: Contract, lake: Lake) -> Lake:
    return lake.below(f"{FOLDER}/{contract.stream}")


def _beside(contract: Contract, lake: Lake) -> StreamStore:
    return StreamStore(contract, lake, derived=_folder(contract, lake))


def _code_of(contract: Contract) -> int:
    """A number for the code of the engine and of the domain: a run does not go on with what other code derived."""
    engine = Path(__file__).parent
    folders = {
        engine,
        engine.parent / "adapters",
        engine.parent / "reference",
        Path(inspect.getfile(contract.clean)).parent,
    }
    files = sorted([file for folder in folders for file in folder.glob("*.py")] + [engine.parent / "bitemporal.py"])
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).digest()
    return int.from_bytes(digest[:7])
