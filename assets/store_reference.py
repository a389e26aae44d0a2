"""Reference data both ways: what holds in the lake is in the store, and what is edited there gets into the lake.

The store notes for each row when it was written by the sync. A row that says another time was edited; one that is gone
was removed. What the sync takes from the store is a version by `store`, and it is written back in the form that the
lake gives it, so that it is not taken for an edit again. Where both sides changed a thing, the later one wins.

| the store's row | the lake's version | what happens |
|---|---|---|
| as it was written | as it was, or another one | the row becomes what the lake has |
| edited or removed | as it was, or one by `store` | the lake becomes what the store has |
| edited | another one | the later of the two |
| removed | another one | the row comes back: nobody knows when it was removed |

A crash between the two writes leaves an edited row and a version by `store` that is equal to it.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import polars as pl

from assets.bitemporal import CHANGED_BY, KNOWN_AT, VALID_FROM, holding, standing
from assets.reference.tables import MANUFACTURERS
from assets.reference_store import put
from assets.sync.reference import CHANGED_BY as BY_STORE
from assets.sync.reference import EditError, Names, ReferenceFeed, differing
from resources.lake import Lake
from resources.store import Edits, State, Store
from resources.store_tables import EDITED_AT

MANY_GONE = 100
"""From how many removed rows on, if they are half of a table, somebody is asked whether that was meant."""
MAX_TOLD = 5
"""Of how many wrong rows is told what is wrong."""


@dataclass(frozen=True)
class Exchanged:
    """What one look changed.

    Attributes:
        to_store: how many rows of the store were written or removed.
        to_lake: how many versions were added to the lake.
        problem: what was edited and cannot be taken; empty if all can.
    """

    to_store: int = 0
    to_lake: int = 0
    problem: str = ""


class ReferenceSync:
    """Exchanges reference data between the lake and the store. One process at a time does so.

    Args:
        lake: where the tables of reference data are.
        store: the store.
        clock: the time of day, UTC.
    """

    def __init__(self, lake: Lake, store: Store, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._lake, self._store, self._clock = lake, store, clock
        # When the next version begins to hold that is known already, by table.
        self._due: dict[str, datetime | None] = {}

    def exchange(self, feed: ReferenceFeed) -> Exchanged:
        """Brings one table of the store and of the lake together.

        Raises:
            StoreUnavailableError, StoreError, OvertakenError: see `Store.step`.
            ReferenceClockError, ConcurrentWriteError, SchemaError: see `assets.reference_store.put`.
        """
        state, edits, now = self._store.state(feed.table), self._store.edits(feed.table), self._clock()
        loads = self._loads(feed)
        due = self._due.get(feed.table, now)
        if state is not None and state.replaced == loads and (due is None or now < due) and not edits:
            return Exchanged(problem=state.problem)
        return self._exchanged(feed, state, edits, loads, now)

    def _exchanged(
        self, feed: ReferenceFeed, state: State | None, edits: Edits, loads: dict[str, int], now: datetime
    ) -> Exchanged:
        look = _Look.at(self._lake, self._store, feed, edits, now)
        self._due[feed.table] = look.next_valid_from(now)
        to_lake, ending, problem = look.for_the_lake(now)
        added = 0
        if to_lake or ending:
            schema = feed.reference.table.schema
            rows = pl.DataFrame(to_lake, schema={name: schema[name] for name in feed.reference.cells})
            found = put(
                self._lake,
                feed.reference,
                rows,
                valid_from=now,
                clock=self._clock,
                changed_by=BY_STORE,
                ending=ending,
            )
            added = found.rows.height
            # The rows of the store stay those that were taken: what was edited since then is seen the next time.
            look = look.after(self._lake, self._clock())
            loads = self._loads(feed)
        taken = {row[feed.reference.key] for row in to_lake} | {*ending}
        written = self._write(feed, state, look, taken, loads, problem)
        return Exchanged(written, added, problem)

    def _write(
        self,
        feed: ReferenceFeed,
        state: State | None,
        look: "_Look",
        taken: Collection[int],
        loads: dict[str, int],
        problem: str,
    ) -> int:
        """Writes what the store is to have, but no row that was edited since it was read."""
        keys = look.for_the_store() | {*taken}
        known = look.wanted.filter(pl.col(look.key).is_in([*keys]))
        gone = sorted(keys - {*known[look.key].to_list()})
        delta_id = self._lake.table(feed.reference.table).id() or ""
        new = replace(state or State(delta_id), delta_id=delta_id, replaced=loads, problem=problem)
        new = replace(new, rows_written=new.rows_written + known.height)
        if state is not None and not keys and (state.replaced, state.problem) == (loads, problem):
            return 0
        with self._store.step(feed.table, state, new) as step:
            now_edited = step.edited_at(sorted(keys))
            untouched = {key for key in keys if now_edited.get(key) == look.edited_at.get(key)}
            rows = known.filter(pl.col(look.key).is_in([*untouched]))
            removed = [key for key in gone if key in untouched]
            step.delete_where_in(look.key, removed)
            step.upsert(rows.rename({KNOWN_AT: EDITED_AT}), (look.key,))
            marks = rows.select(row_key=look.key, edited_at=KNOWN_AT, known_at=KNOWN_AT)
            step.remember(marks, removed)
        return rows.height + len(removed)

    def _loads(self, feed: ReferenceFeed) -> dict[str, int]:
        """How often each table that counts was loaded; a table that was made anew counts from its beginning."""
        tables = [feed.reference, *([MANUFACTURERS] if feed.needs_names else [])]
        found = {}
        for reference in tables:
            table, app_id = self._lake.table(reference.table), f"{reference.table.name}/loads"
            found[f"{reference.short}/{table.id() or ''}"] = table.transactions([app_id]).get(app_id, 0)
        return found


class _Look:
    """Both sides at one moment."""

    def __init__(
        self,
        feed: ReferenceFeed,
        versions: pl.DataFrame,
        names: Names,
        rows: pl.DataFrame,
        written: Mapping[int, datetime],
        edits: Edits,
        now: datetime,
    ) -> None:
        self._feed, self._versions, self._edits = feed, versions, edits
        self._rows, self._written = rows, written
        self.key, self.names = feed.reference.key, names
        self._held = holding(versions, self.key, now)
        latest = standing(versions, self.key, now).select(self.key, KNOWN_AT, CHANGED_BY)
        self._latest = {key: (known_at, by) for key, known_at, by in latest.iter_rows()}
        self._stored = feed.stored(self._held, names)
        known = self._held.select(self.key, pl.col(KNOWN_AT).dt.replace_time_zone(None))
        self.wanted = self._stored.join(known, on=self.key, how="left")
        self.edited_at = dict(rows.select(self.key, EDITED_AT).iter_rows())
        self._edited = {*edits.rows[self.key].to_list()}

    @classmethod
    def at(cls, lake: Lake, store: Store, feed: ReferenceFeed, edits: Edits, now: datetime) -> "_Look":
        """What both sides have now."""
        versions = lake.table(feed.reference.table).scan().collect()
        names = _names(lake, now) if feed.needs_names else {}
        rows = pl.concat([edits.rows.clear(), *store.rows(feed.table, edits.rows.columns)])
        return cls(feed, versions, names, rows, store.written(feed.table), edits, now)

    def after(self, lake: Lake, now: datetime) -> "_Look":
        """The same once the lake has got what it is to get from the store."""
        versions = lake.table(self._feed.reference.table).scan().collect()
        return _Look(self._feed, versions, self.names, self._rows, self._written, self._edits, now)

    def next_valid_from(self, now: datetime) -> datetime | None:
        """When the next version begins to hold."""
        return min(self._versions.filter(pl.col(VALID_FROM) > now)[VALID_FROM].to_list(), default=None)

    def for_the_lake(self, now: datetime) -> tuple[list[dict[str, Any]], list[int], str]:
        """The rows and the ends that the lake is to get from the store, and what cannot be taken."""
        held = {row[self.key]: row for row in self._held.iter_rows(named=True)}
        rows, wrong = [], []
        for row in self._rows.filter(pl.col(self.key).is_in([*self._from_store()])).iter_rows(named=True):
            try:
                rows.append(self._feed.row_of_lake(row, held.get(row[self.key]), self.names, now.date()))
            except EditError as error:
                wrong.append(f"{self.key} {row[self.key]}, {error}")
        ending = [key for key in self._edits.gone if not self._lake_changed(key)]
        told = []
        if wrong:
            more = f" … and {len(wrong) - MAX_TOLD:,} more" if len(wrong) > MAX_TOLD else ""
            told.append(f"{len(wrong):,} rows do not get into reference data: {'; '.join(wrong[:MAX_TOLD])}{more}")
        if len(ending) >= max(MANY_GONE, len(self._written) / 2):
            told.append(
                f"{len(ending):,} rows were removed at once, so reference data keep them; `pulselake oltp resync "
                f"{self._feed.table}` brings them back"
            )
            ending = []
        return rows, ending, ". ".join(told)

    def for_the_store(self) -> set[int]:
        """The keys of rows that the store is to get from the lake, or to lose."""
        from_store = self._from_store()
        gone = {key for key in self._edits.gone if not self._lake_changed(key)}
        held = {*self._stored[self.key].to_list()}
        wanted = {*differing(self._stored, self._rows, self.key)} - from_store - gone
        ended = self.edited_at.keys() - held - from_store
        # One whose values are the lake's by chance only lacks the note that it was written.
        unnoted = (self._edited & held) - from_store
        return wanted | ended | unnoted | {key for key in self._edits.gone if self._lake_changed(key)}

    def _from_store(self) -> set[int]:
        """The keys of rows that count as they are in the store."""
        # The lake may have lost what the store still has.
        unknown = self.edited_at.keys() - self._latest.keys()
        return {key for key in self._edited if not self._lake_wins(key)} | unknown

    def _lake_wins(self, key: int) -> bool:
        return self._lake_changed(key) and self._latest[key][0] >= self.edited_at[key].replace(tzinfo=UTC)

    def _lake_changed(self, key: int) -> bool:
        """Whether the lake has a version that the store never had, and that is not by the store itself."""
        known_at, by = self._latest.get(key, (None, None))
        if known_at is None or by == BY_STORE:
            return False
        written = self._written.get(key)
        return written is None or known_at > written


def _names(lake: Lake, now: datetime) -> Names:
    held = holding(lake.table(MANUFACTURERS.table).scan().collect(), MANUFACTURERS.key, now)
    named = held.filter(pl.col("manufacturer_name").is_not_null())
    return dict(named.select(MANUFACTURERS.key, "manufacturer_name").iter_rows())
