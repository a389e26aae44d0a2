"""Keeps tables of the transactional store as silver is: which rows are new, and in which portions they are written.

A table of the store has all rows of silver up to some offsets. Rows and offsets are written in one transaction, so
after any crash, of this process or of the database, the offsets say what the store has:

```
 silver    │ in the store │ portion │ portion │ …        in the order of their positions in the hub,
 partition 0 ─────────────┼─────────┼─────────┼──▶       all partitions side by side
 partition 1 ─────────────┼─────────┼─────────┼──▶
                       offsets   offsets   offsets       one transaction each
```

Days that were replaced in silver, which its log numbers, replace their rows in one transaction each. Where that cannot
be told, and where a table is new, all rows are written again, as another *generation*; those of older ones are removed
at the end, so nobody sees an empty table. The rows themselves are made in `assets.sync`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl

from assets.discretion import without_text
from assets.stream.contract import POSITION
from assets.stream.log import ALL_DATES, REPLACED, HubPartition, Offsets, hub_epoch, is_in
from assets.stream.store import between
from assets.sync.feed import AnyFeed, Feed, VersionedFeed, kept, version_key
from resources.checksum import Tally
from resources.lake import Lake, Snapshot
from resources.store import State, Step, Store, next_state
from resources.store_tables import GENERATION, SyncVersion
from resources.table import Table

PORTION_ROWS = 50_000
"""How many rows are written in one transaction, and held in memory."""
_BUCKETS = 1 << 15
"""Into how many parts at most the positions of a backlog are cut, to find portions of that many rows."""
_ONE_DAY = timedelta(days=1)
_POSITION = list(POSITION)


class SyncError(RuntimeError):
    """Rows could not be made for the store; the message names the table and what failed."""

    @classmethod
    def of(cls, table: str, said: str) -> "SyncError":
        """The error of a table."""
        return cls(
            f"{table}: rows for the store could not be made: {said}. The store keeps what it has, and follows once "
            "that is mended."
        )


@dataclass(frozen=True)
class Lag:
    """How far a table of the store is behind silver.

    Attributes:
        rows: how many of silver it does not have yet.
        oldest: when the first of them was received.
        is_filling: whether it is being filled anew.
        state: the store's.
    """

    rows: int
    oldest: datetime | None
    is_filling: bool
    state: State | None


@dataclass(frozen=True)
class Compared:
    """An ingest date of silver and of the store.

    Attributes:
        lake_rows, store_rows: how many rows there should be, and are.
        is_equal: whether they are the same, by their checksums.
    """

    lake_rows: int
    store_rows: int
    is_equal: bool


@dataclass(frozen=True)
class _Seen:
    """Which files of silver are in the store already."""

    delta_id: str
    version: int
    paths: frozenset[str]


class StoreSync:
    """Brings tables of the store up to date. One process at a time does so; a second one is refused and loses nothing.

    Args:
        lake: where silver is.
        store: the store.
        keep_days: for how many days a table keeps rows, by its name; what is not named is kept.
        clock: the time of day, UTC.
    """

    def __init__(
        self,
        lake: Lake,
        store: Store,
        keep_days: Mapping[str, int] | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._lake, self._store, self._keep_days, self._clock = lake, store, keep_days or {}, clock
        # It only spares reading: what is new is decided by offsets.
        self._seen: dict[str, _Seen] = {}

    def catch_up(
        self,
        feed: AnyFeed,
        should_stop: Callable[[], bool] = lambda: False,
        on_progress: Callable[[State], None] = lambda _: None,
    ) -> int:
        """Brings one table up to date with silver as it is now.

        Args:
            feed: which table.
            should_stop: asked between portions; what was written until then is complete.
            on_progress: told the state after each portion.

        Returns:
            How many rows were written.

        Raises:
            StoreUnavailableError, StoreError, OvertakenError: see `Store.step`.
            SchemaError: silver does not fit its contract.
            SyncError: rows could not be made.
        """
        return taken(self.steps(feed), should_stop, on_progress)

    def steps(self, feed: AnyFeed) -> Iterator[State]:
        """The same step by step: gives the state at the beginning, and after each portion.

        Whoever has several tables takes a step of each in turn, so that a backlog of one holds up no other. All steps
        are of silver as it was at the first of them.
        """
        silver = self._lake.table(feed.contract.tables.silver).snapshot()
        if silver is None:
            return
        work = _Work(self._lake, self._store, feed, silver)
        state = self._begun(work)
        yield state
        for written in self._written(work, state):
            state = written
            yield state
        if state.is_filling:
            self._store.sweep(feed.table, state.generation)
        if state.is_filling or state.version != silver.version:
            done = next_state(state, **work.complete())
            with self._store.step(feed.table, state, done) as step:
                state = step.state
        self._seen[feed.table] = _Seen(silver.id, silver.version, frozenset(silver.files["path"]))
        yield state

    def expire(self, feed: AnyFeed) -> int:
        """Removes rows that are older than the table keeps them.

        Returns:
            How many were removed.
        """
        kept_from = self._kept_from(feed)
        if kept_from is None or not note_kept(self._store, feed.table, kept_from):
            return 0
        return self._store.expire(feed.table, feed.at, kept_from)

    def lag(self, feed: AnyFeed) -> Lag:
        """How far a table is behind silver."""
        silver, state = self._lake.table(feed.contract.tables.silver).snapshot(), self._store.state(feed.table)
        if silver is None:
            return Lag(0, None, False, state)
        rows = silver.scan() if state is None else _since(silver.scan(), state)
        counted = rows.select(pl.len(), oldest=pl.col("received_at").min()).collect(engine="streaming")
        return Lag(counted.item(0, 0), counted.item(0, 1), state is None or state.is_filling, state)

    def compare(self, feed: AnyFeed, day: date) -> Compared | None:
        """Compares an ingest date of the store with that of silver, as far as the store has come.

        Returns:
            None where the store is being filled, or has not followed a replacement of rows yet.
        """
        columns, stored, wanted = _columns(self._store, feed), Tally(), Tally()
        with self._store.snapshot(feed.table, columns, day) as (state, frames):
            for rows in frames:
                stored.add(kept(rows, feed.at, state.kept_from if state else None))
        silver = self._lake.table(feed.contract.tables.silver).snapshot()
        if silver is None:
            return Compared(0, stored.rows, stored.rows == 0)
        work = _Work(self._lake, self._store, feed, silver)
        if state is None or state.is_filling or state.replaced != work.replaced():
            return None
        for rows in work.rows_of_day(day, _offsets(state)):
            wanted.add(kept(rows, feed.at, state.kept_from).select(columns))
        return Compared(wanted.rows, stored.rows, wanted == stored)

    def _begun(self, work: "_Work") -> State:
        """The state to go on from: replaced days are in place, or the table is to be filled."""
        feed, kept_from = work.feed, self._kept_from(work.feed)
        state, replaced = self._store.state(feed.table), work.replaced()
        if state is None or not self._follows(state, work.silver, replaced, kept_from):
            return self._filled_anew(work, state, replaced, kept_from)
        if state.replaced == replaced:
            return state
        days = work.replaced_days(state.replaced, replaced)
        if days is None or state.is_filling or isinstance(feed, VersionedFeed):
            return self._filled_anew(work, state, replaced, kept_from)
        for place, day in enumerate(days, start=1):
            # Until the last day is in place, a crash lets all of them be replaced again, which changes nothing.
            reached = replaced if place == len(days) else state.replaced
            state = self._day_replaced(work, state, day, reached)
        if not days:
            with self._store.step(feed.table, state, next_state(state, replaced=replaced)) as step:
                state = step.state
        return state

    def _follows(self, state: State, silver: Snapshot, replaced: Mapping[str, int], kept_from: date | None) -> bool:
        """Whether silver is the table that the store has rows of, later; and the store has all that it shall keep."""
        is_later = state.version <= silver.version and all(
            count <= replaced.get(name, 0) for name, count in state.replaced.items()
        )
        return state.delta_id == silver.id and is_later and has_kept(state, kept_from)

    def _filled_anew(
        self, work: "_Work", known: State | None, replaced: Mapping[str, int], kept_from: date | None
    ) -> State:
        self._seen.pop(work.feed.table, None)
        new = State(
            work.silver.id,
            replaced=replaced,
            generation=self._generation(work.feed, known),
            is_filling=True,
            kept_from=kept_from,
            rows_written=known.rows_written if known else 0,
        )
        with self._store.step(work.feed.table, known, new) as step:
            return step.state

    def _day_replaced(self, work: "_Work", known: State, day: date, replaced: Mapping[str, int]) -> State:
        feed = work.feed
        generation = self._generation(feed, known)
        new = next_state(known, replaced=replaced, generation=generation)
        with self._store.step(feed.table, known, new) as step:
            for rows in work.rows_of_day(day, None):
                _upsert(step, feed, kept(rows, feed.at, known.kept_from), generation)
            step.delete_others(day, generation)
            return step.state

    def _written(self, work: "_Work", state: State) -> Iterator[State]:
        """Writes what silver has behind the state, in portions, and gives the state after each."""
        work.newest_ingest_date = state.newest_ingest_date
        rows = self._candidates(work, state)
        portions = [*_portions(rows, _offsets(state), work.weight)]
        for place, portion in enumerate(portions, start=1):
            found = rows.filter(between(portion.after, portion.to)).collect(engine="streaming")
            work.note(found)
            new = next_state(state, offsets={partition.name: last for partition, last in portion.to.items()})
            if place == len(portions) and not state.is_filling:
                new = next_state(new, **work.complete())
            state = work.write(found, portion, state, new)
            yield state

    def _candidates(self, work: "_Work", state: State) -> pl.LazyFrame:
        """Rows of silver among which all new ones are: those of new files where these are known."""
        silver, seen = work.silver, self._seen.get(work.feed.table)
        if seen is not None and (seen.delta_id, seen.version) == (state.delta_id, state.version):
            new = set(silver.files["path"]) - seen.paths
            return silver.scan(new).filter(_is_beyond(_offsets(state)))
        return _since(silver.scan(), state)

    def _kept_from(self, feed: AnyFeed) -> date | None:
        return first_kept(self._keep_days.get(feed.table), self._clock())

    def _generation(self, feed: AnyFeed, known: State | None) -> int:
        return next_generation(self._store, feed.table, known, self._clock())


def taken(steps: Iterator[State], should_stop: Callable[[], bool], on_progress: Callable[[State], None]) -> int:
    """Takes the steps of a table until one is the last or it shall stop; see `StoreSync.catch_up`.

    Returns:
        How many rows they wrote.
    """
    first = None
    state: State | None = None
    for state in steps:
        if first is None:
            first = state.rows_written
            continue
        on_progress(state)
        if should_stop():
            break
    return state.rows_written - (first or 0) if state else 0


def note_kept(store: Store, name: str, kept_from: date, table: str | None = None) -> bool:
    """Notes from which date on rows are kept, before older ones are removed.

    Args:
        store: the store.
        name: of the state.
        kept_from: the date.
        table: the table, where it has another name than the state.

    Returns:
        Whether there may be rows to remove.
    """
    state = store.state(name)
    if state is None:
        return False
    if state.kept_from is None or state.kept_from < kept_from:
        with store.step(name, state, next_state(state, kept_from=kept_from), table):
            pass
    return True


def has_kept(state: State, kept_from: date | None) -> bool:
    """Whether the store has all rows from a date on, or all there are, as far as it has come."""
    return state.kept_from is None or (kept_from is not None and state.kept_from <= kept_from)


def first_kept(days: int | None, now: datetime) -> date | None:
    """The first date of which rows are kept for so many days; None where all are kept."""
    return None if days is None else now.date() - timedelta(days=days)


def next_generation(store: Store, table: str, known: State | None, now: datetime) -> int:
    """A number that no row of a table has yet, whatever the clock says."""
    last = known.generation if known else store.newest_generation(table)
    return max(int(now.timestamp() * 1_000_000), last + 1)


@dataclass(frozen=True)
class _Portion:
    """Rows behind some offsets and up to others."""

    after: Offsets
    to: Offsets


class _Work:
    """One table of the store and silver at one version, with the tables that belong to it."""

    def __init__(self, lake: Lake, store: Store, feed: AnyFeed, silver: Snapshot) -> None:
        self._lake, self._store, self.feed, self.silver = lake, store, feed, silver
        self.newest_ingest_date: date | None = None

    def note(self, silver: pl.DataFrame) -> None:
        """Notes the ingest dates of rows that are written."""
        newest: Any = silver["ingest_date"].max()
        self.newest_ingest_date = max(filter(None, [self.newest_ingest_date, newest]), default=None)

    def complete(self) -> dict[str, Any]:
        """What the state says once all rows are written.

        The newest date is not said before: portions of partitions with other speeds are of other dates.
        """
        return {
            "is_filling": False,
            "version": self.silver.version,
            "newest_ingest_date": self.newest_ingest_date,
        }

    @property
    def weight(self) -> pl.Expr:
        """How many rows of the store are made of a row of silver."""
        return self.feed.weight if isinstance(self.feed, VersionedFeed) else pl.col("sequence_number").is_not_null()

    def replaced(self) -> dict[str, int]:
        """How often rows of silver were replaced, and those of alerts where they are needed."""
        app_id = f"{self.feed.contract.stream}/{REPLACED}"
        found = {"silver": self.silver.transactions([app_id]).get(app_id, 0)}
        if isinstance(self.feed, Feed) and self.feed.alerts_before is not None:
            alerts = self._lake.table(self.feed.contract.tables.alerts)
            # In the log of alerts is the number of silver's replacement that they have followed.
            found["alerts"] = alerts.transactions([app_id]).get(app_id, 0)
        return found

    def replaced_days(self, known: Mapping[str, int], now: Mapping[str, int]) -> list[date] | None:
        """The ingest dates whose rows were replaced since; None where it may be all."""
        numbers = {number for name, last in now.items() for number in range(known.get(name, 0) + 1, last + 1)}
        ids = {number: f"{self.feed.contract.stream}/{REPLACED}/{number}" for number in numbers}
        found = self.silver.transactions(ids.values())
        days = {found.get(app_id, ALL_DATES) for app_id in ids.values()}
        return None if ALL_DATES in days else sorted(map(date.fromordinal, days))

    def rows_of_day(self, day: date, to: Offsets | None) -> Iterator[pl.DataFrame]:
        """The rows of the store that are made of an ingest date of silver, up to some offsets or all."""
        of_day = self.silver.scan().filter(pl.col("ingest_date") == day)
        if to is not None:
            of_day = of_day.filter(between({}, to))
        if isinstance(self.feed, VersionedFeed):
            yield from self._current_of_day(self.feed, of_day, day, to)
            return
        for portion in _portions(of_day, {}, self.weight):
            rows = of_day.filter(between(portion.after, portion.to)).collect(engine="streaming")
            yield self._made(self.feed, rows)

    def write(self, silver: pl.DataFrame, portion: _Portion, known: State, new: State) -> State:
        """Writes the rows of the store that are made of some rows of silver."""
        feed = self.feed
        if isinstance(feed, VersionedFeed):
            return self._write_versions(feed, silver, portion, known, new)
        rows = kept(self._made(feed, silver), feed.at, new.kept_from)
        new = next_state(new, rows_written=known.rows_written + rows.height)
        with self._store.step(feed.table, known, new) as step:
            _upsert(step, feed, rows, new.generation)
            return step.state

    def _made(self, feed: Feed, silver: pl.DataFrame) -> pl.DataFrame:
        alerts = self._alerts(feed, silver)
        return _told(feed, lambda: feed.rows(silver, alerts))

    def _alerts(self, feed: Feed, silver: pl.DataFrame) -> pl.DataFrame:
        """Alerts of rows of silver, and of the same patients in the time before."""
        table = self._lake.table(feed.contract.tables.alerts)
        names = list(dict.fromkeys([*_POSITION, feed.contract.entity, "measured_at", "rule"]))
        if feed.alerts_before is None or silver.is_empty():
            return pl.DataFrame(schema={name: table.table.schema[name] for name in names})
        # One reading that came weeks late must not let all alerts of these weeks be read.
        before = silver["measured_at"] - feed.alerts_before
        days = pl.concat([silver["event_date"], before.dt.date()]).unique().sort()
        near = table.scan().filter(
            pl.col("ingest_date") >= days[0] - _ONE_DAY,
            pl.col("measured_at").is_between(before.min(), silver["measured_at"].max()),
            pl.col("event_date").is_in(days.implode()),
            pl.col(feed.contract.entity).is_in(silver[feed.contract.entity].unique().implode()),
        )
        return near.select(names).collect(engine="streaming")

    def _write_versions(
        self, feed: VersionedFeed, silver: pl.DataFrame, portion: _Portion, known: State, new: State
    ) -> State:
        newest = _newest(feed, silver)
        has = self._store.versions(feed.table, newest["_entity"].to_list(), new.generation)
        stored = pl.col("_entity").replace_strict(has, default="", return_dtype=pl.String)
        current = kept(newest.filter(pl.col("_key") > stored), "ingest_date", new.kept_from)
        rows = self._combined(feed, current, between(portion.after, portion.to))
        new = next_state(new, rows_written=known.rows_written + rows.height)
        versions = current.select(
            "ingest_date",
            table_name=pl.lit(feed.table),
            entity="_entity",
            version_key="_key",
            sync_generation=pl.lit(new.generation, pl.Int64),
        )
        with self._store.step(feed.table, known, new) as step:
            step.delete_where_in(feed.entity, current["_entity"].to_list())
            _upsert(step, feed, rows, new.generation)
            step.upsert(versions, ("table_name", "entity"), SyncVersion.__tablename__)
            return step.state

    def _current_of_day(
        self, feed: VersionedFeed, of_day: pl.LazyFrame, day: date, to: Offsets | None
    ) -> Iterator[pl.DataFrame]:
        """The rows of things whose current version came in on a day."""
        entity = feed.contract.entity
        entities = of_day.select(pl.col(entity).unique()).collect(engine="streaming")[entity]
        silver = self.silver.scan().filter(pl.col(entity).is_in(entities.implode()))
        if to is not None:
            silver = silver.filter(between({}, to))
        current = _newest(feed, silver.collect(engine="streaming")).filter(pl.col("ingest_date") == day)
        places = current.select(feed.weight.cum_sum() // PORTION_ROWS).to_series()
        for part in current.with_columns(_part=places).partition_by("_part", maintain_order=True):
            yield self._combined(feed, part.drop("_part"), pl.col("ingest_date") == day)

    def _combined(self, feed: VersionedFeed, current: pl.DataFrame, where: pl.Expr) -> pl.DataFrame:
        """The rows of some versions, with what their children say; `where` tells where the children are."""
        places = current.select(_POSITION).lazy()
        rows = {"silver": current.drop("_entity", "_key").lazy()}
        for child in feed.contract.children:
            table: Table = feed.contract.tables[child.role]
            of_child = self._lake.table(table).scan().filter(where).with_columns(hub_epoch)
            rows[child.role] = of_child.join(places, on=_POSITION, how="semi")
        return _told(feed, lambda: feed.rows(rows).collect(engine="streaming"))


def _newest(feed: VersionedFeed, silver: pl.DataFrame) -> pl.DataFrame:
    """Of rows of silver those of the current versions among them, with `_entity` and `_key`."""
    keyed = silver.with_columns(hub_epoch, _entity=feed.name_of, _key=version_key(feed.contract))
    return keyed.sort("_key").unique("_entity", keep="last", maintain_order=True)


def _upsert(step: Step, feed: AnyFeed, rows: pl.DataFrame, generation: int) -> None:
    step.upsert(rows.with_columns(pl.lit(generation, pl.Int64).alias(GENERATION)), feed.key)


def _told(feed: AnyFeed, make: Callable[[], pl.DataFrame]) -> pl.DataFrame:
    return without_text(lambda said: SyncError.of(feed.table, said), make)


def _columns(store: Store, feed: AnyFeed) -> Sequence[str]:
    """What is compared: all columns but those that the store makes by itself."""
    table = store.table(feed.table)
    return [each.name for each in table.columns if each.name != GENERATION and not each.primary_key]


def _offsets(state: State) -> Offsets:
    return {HubPartition.named(name): last for name, last in state.offsets.items()}


def _since(silver: pl.LazyFrame, state: State) -> pl.LazyFrame:
    """Rows of silver behind a state; dates that cannot have any are not read."""
    rows = silver.filter(_is_beyond(_offsets(state)))
    if state.newest_ingest_date is not None:
        rows = rows.filter(pl.col("ingest_date") >= state.newest_ingest_date - _ONE_DAY)
    if state.kept_from is not None:
        # A reading is measured at most some minutes after it is received.
        rows = rows.filter(pl.col("ingest_date") >= state.kept_from - _ONE_DAY)
    return rows


def _is_beyond(offsets: Offsets) -> pl.Expr:
    """Whether a row's event lies behind the offsets; comparisons alone, by which files are left out."""
    if not offsets:
        return pl.lit(True)
    is_known = [(hub_epoch == at.epoch) & (pl.col("partition") == at.number) for at in offsets]
    beyond = [is_in(at, after=last, to=2**62) for at, last in offsets.items()]
    return pl.any_horizontal(*beyond, ~pl.any_horizontal(is_known))


def _portions(rows: pl.LazyFrame, after: Offsets, weight: pl.Expr) -> Iterator[_Portion]:
    """Cuts rows behind some offsets into portions, each of all partitions side by side.

    The numbers of each partition, from its first row to its last, are cut into the same number of parts. A portion is
    some consecutive parts, so partitions come forward together, as they did when the rows arrived.
    """
    number = pl.col("sequence_number")
    ends = rows.group_by(hub_epoch, "partition").agg(
        first=number.min(), last=number.max(), weight=weight.sum().cast(pl.Int64)
    )
    found = ends.collect(engine="streaming")
    if found.is_empty():
        return
    spans = {
        HubPartition(epoch, partition): (first, last - first + 1)
        for epoch, partition, first, last in found.select("hub_epoch", "partition", "first", "last").iter_rows()
    }
    total = int(found["weight"].sum())
    if total <= PORTION_ROWS:
        yield _Portion(after, after | {at: first + span - 1 for at, (first, span) in spans.items()})
        return
    count = min(_BUCKETS, max(span for _, span in spans.values()), 16 * -(-total // PORTION_ROWS))
    firsts = found.lazy().select("hub_epoch", "partition", "first", span=pl.col("last") - pl.col("first") + 1)
    bucket = (number - pl.col("first")) * count // pl.col("span")
    weights = (
        rows.select(hub_epoch, "partition", "sequence_number", _weight=weight)
        .join(firsts, on=["hub_epoch", "partition"])
        .group_by(bucket.alias("bucket"))
        .agg(pl.col("_weight").sum().cast(pl.Int64))
        .sort("bucket")
        .collect(engine="streaming")
    )
    reached, held = after, 0
    for place, rows_of_bucket in weights.iter_rows():
        if held and held + rows_of_bucket > PORTION_ROWS:
            # All parts before this one.
            to = reached | {at: first - 1 - (-place * span // count) for at, (first, span) in spans.items()}
            yield _Portion(reached, to)
            reached, held = to, 0
        held += rows_of_bucket
    yield _Portion(reached, reached | {at: first + span - 1 for at, (first, span) in spans.items()})
