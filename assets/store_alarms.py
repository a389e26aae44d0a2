"""Keeps `Alerts` and `AlertLifecycle` as the tables of alarms are: which transitions are new, and how they are written.

The fold of a stream's alarms goes by numbered steps, and each commit of the lake names the last one. The store has all
transitions of a stream up to some step. Both tables and that step are written in one transaction, an alarm before its
transitions, so that nobody ever sees one without the other:

```
 alarms/<stream>   │ in the store │ portion │ portion │ …      whole steps of the fold, in their order
                 step           step      step               one transaction each
```

Transitions are never replaced, so there is nothing else to follow. A table of alarms that is another one, or an earlier
one, is written again as another *generation*, as other tables of the store are (see `assets.store_sync`). An alarm is
written as it stands at the end of all that is written then: one that is over does not open again meanwhile.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import polars as pl

import assets.store_sync as store_sync
from assets.discretion import without_text
from assets.store_sync import Compared, Lag, SyncError, first_kept, has_kept, next_generation, note_kept, taken
from assets.stream.log import FOLDS
from assets.sync.alarms import (
    ALERTS,
    COLUMNS,
    LIFECYCLE,
    OVER,
    AlarmFeed,
    alert_lifecycle,
    alerts,
    is_transition,
    store_state,
)
from resources.checksum import Tally
from resources.lake import Lake, Snapshot
from resources.store import State, Store, next_state
from resources.store_alarms import expire, link_new, link_page, sweep, unlink_readings
from resources.store_tables import GENERATION

LINKED_FOR = timedelta(days=2)
"""How far back readings of alarms are looked for at each look; of older ones only when all are looked for."""
_ONE_DAY = timedelta(days=1)
_KEYS: Mapping[str, tuple[str, ...]] = {ALERTS: ("alert_id",), LIFECYCLE: ("alert_id", "transition_index")}
_OF_STORE = ("reading_id", "lifecycle_id", GENERATION)
"""Columns that the store makes by itself."""


@dataclass(frozen=True)
class _Looked:
    """Up to which step a process has looked for transitions; it only spares reading."""

    delta_id: str
    serial: int
    step: int


class AlarmSync:
    """Brings the alarms of the store up to date. One process at a time does so; a second one is refused.

    Args:
        lake: where the tables of alarms are.
        store: the store.
        keep_days: for how many days a table keeps rows, by its name; of alarms, since they are over.
        clock: the time of day, UTC.
    """

    def __init__(
        self,
        lake: Lake,
        store: Store,
        keep_days: Mapping[str, int] | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._lake, self._store, self._clock = lake, store, clock
        self._keep_days = (keep_days or {}).get(ALERTS)
        self._looked: dict[str, _Looked] = {}
        self._linked: dict[str, Mapping[str, State]] = {}
        self._page: dict[str, str] = {}

    def catch_up(
        self,
        feed: AlarmFeed,
        should_stop: Callable[[], bool] = lambda: False,
        on_progress: Callable[[State], None] = lambda _: None,
    ) -> int:
        """Brings the alarms of a stream up to date with the lake and with the store's readings as they are now.

        The arguments and the errors are those of `StoreSync.catch_up`.

        Returns:
            How many transitions were written.
        """
        written = taken(self.steps(feed), should_stop, on_progress)
        self.link_all(feed)
        return written

    def steps(self, feed: AlarmFeed) -> Iterator[State]:
        """The same step by step: gives the state at the beginning, and after each portion."""
        source = _Source.of(self._lake, feed)
        if source is None:
            return
        state = self._begun(feed, source)
        yield state
        looked = self._looked.get(feed.table)
        after = state.offsets.get(feed.stream, 0)
        if looked is not None and (looked.delta_id, looked.serial) == (source.id, state.serial):
            after = max(after, looked.step)
        for portion in source.portions(after, state):
            state = self._written(feed, source, portion, state)
            yield state
        if state.is_filling:
            sweep(self._store, feed.stream, state.generation)
            with self._store.step(feed.table, state, next_state(state, is_filling=False), ALERTS) as step:
                state = step.state
            yield state
        # Who fills the tables anew begins with another serial.
        self._looked[feed.table] = _Looked(source.id, state.serial, source.step)

    def link(self, feed: AlarmFeed, *, is_whole: bool = False) -> bool:
        """Notes in alarms of the last days which readings of the store raised them; a reading may come later.

        Args:
            feed: the stream.
            is_whole: take away the numbers of readings that are gone, and begin to look at alarms of any age: at some
                of them at each call, so that no new alarm waits long.

        Returns:
            Whether it is to be called again for these.
        """
        if feed.readings is None:
            return False
        if is_whole:
            self.unlink(feed)
            self._page[feed.table] = ""
        states = self._store.states([feed.readings, feed.table])
        if states != self._linked.get(feed.table):
            link_new(self._store, feed.stream, self._clock().date() - LINKED_FOR)
            self._linked[feed.table] = states
        if (after := self._page.pop(feed.table, None)) is None:
            return False
        if (reached := link_page(self._store, feed.stream, after)) is not None:
            self._page[feed.table] = reached
        return reached is not None

    def unlink(self, feed: AlarmFeed) -> None:
        """Takes away the numbers of readings that the store does not have, or has by other numbers."""
        unlink_readings(self._store, feed.stream)

    def link_all(self, feed: AlarmFeed) -> None:
        """Notes in all alarms of a stream which readings of the store raised them."""
        is_left = self.link(feed, is_whole=True)
        while is_left:
            is_left = self.link(feed)

    def expire(self, feed: AlarmFeed) -> int:
        """Removes alarms that have been over for longer than they are kept, with their transitions.

        Returns:
            How many alarms were removed.
        """
        kept_from = self._kept_from()
        if kept_from is None or not note_kept(self._store, feed.table, kept_from, ALERTS):
            return 0
        return expire(self._store, feed.stream, OVER, kept_from)

    def lag(self, feed: AlarmFeed) -> Lag:
        """How far the alarms of a stream are behind the lake, in transitions; `oldest` says when it was decided."""
        source, state = _Source.of(self._lake, feed), self._store.state(feed.table)
        if source is None:
            return Lag(0, None, False, state)
        after = 0 if state is None else state.offsets.get(feed.stream, 0)
        rows = source.rows(after, state)
        counted = rows.select(pl.len(), oldest=pl.col("decided_at").min()).collect(engine="streaming")
        return Lag(counted.item(0, 0), counted.item(0, 1), state is None or state.is_filling, state)

    def compare(self, feeds: Sequence[AlarmFeed], table: str, day: date) -> Compared | None:
        """Compares an ingest date of `Alerts` or `AlertLifecycle` with that of the lake, as far as the store has come.

        An alarm is of the date of its last transition.

        Returns:
            None where one of the streams is being filled.
        """
        columns = [each.name for each in self._store.table(table).columns if each.name not in _OF_STORE]
        stored, wanted = Tally(), Tally()
        with self._store.snapshot_of([each.table for each in feeds], table, columns, day) as (states, frames):
            for rows in frames:
                stored.add(rows)
        for feed in feeds:
            if (source := _Source.of(self._lake, feed)) is None:
                continue
            state = states.get(feed.table)
            if state is None or state.is_filling or state.delta_id != source.id:
                return None
            transitions, last = source.of_day(day, state)
            made = alert_lifecycle(transitions) if table == LIFECYCLE else alerts(last, feed.contract.entity)
            wanted.add(made.filter(pl.col("ingest_date") == day).select(columns))
        return Compared(wanted.rows, stored.rows, wanted == stored)

    def _begun(self, feed: AlarmFeed, source: "_Source") -> State:
        """The state to go on from."""
        kept_from, state = self._kept_from(), self._store.state(feed.table)
        if state is not None:
            is_later = state.version <= source.version and state.offsets.get(feed.stream, 0) <= source.step
            if state.delta_id == source.id and is_later and has_kept(state, kept_from):
                return state
        generation = next_generation(self._store, ALERTS, state, self._clock())
        new = State(source.id, generation=generation, is_filling=True, kept_from=kept_from)
        new = next_state(new, rows_written=state.rows_written if state else 0)
        with self._store.step(feed.table, state, new, ALERTS) as step:
            return step.state

    def _written(self, feed: AlarmFeed, source: "_Source", to: int, known: State) -> State:
        """Writes the transitions up to a step, and their alarms."""
        transitions = source.rows(known.offsets.get(feed.stream, 0), known, to).collect(engine="streaming")
        last = _last(transitions)
        if known.is_filling and to < source.step:
            last = source.last(transitions, source.step)
        # Otherwise one that is over since long might stand open in the store; what is too old is removed later.
        kept = _kept(last, known.kept_from) if known.is_filling else last
        transitions = transitions.join(kept, on="alarm_id", how="semi")
        newest = max(filter(None, [known.newest_ingest_date, _newest(transitions)]), default=None)
        new = next_state(
            known,
            offsets={feed.stream: to},
            version=source.version,
            newest_ingest_date=newest,
            rows_written=known.rows_written + transitions.height,
        )
        made = _told(
            feed,
            lambda: {ALERTS: alerts(kept, feed.contract.entity), LIFECYCLE: alert_lifecycle(transitions)},
        )
        with self._store.step(feed.table, known, new, ALERTS) as step:
            for table, rows in made.items():
                generation = pl.lit(new.generation, pl.Int64).alias(GENERATION)
                step.upsert(rows.with_columns(generation), _KEYS[table], table)
            return step.state

    def _kept_from(self) -> date | None:
        return first_kept(self._keep_days, self._clock())


@dataclass(frozen=True)
class _Source:
    """A table of alarms at one version.

    Attributes:
        step: the last one of the fold whose transitions the version has.
    """

    snapshot: Snapshot
    id: str
    version: int
    step: int

    @classmethod
    def of(cls, lake: Lake, feed: AlarmFeed) -> "_Source | None":
        """The newest version; None where the stream never had an alarm."""
        snapshot = lake.table(feed.contract.tables["alarms"]).snapshot()
        if snapshot is None:
            return None
        folds = f"{feed.stream}/{FOLDS}"
        return cls(snapshot, snapshot.id, snapshot.version, snapshot.transactions([folds]).get(folds, 0))

    def rows(self, after: int, state: State | None, to: int | None = None) -> pl.LazyFrame:
        """The transitions behind a step and up to another one; dates that cannot have any are not read."""
        rows = self._transitions().filter(pl.col("fold") > after, pl.col("fold") <= (self.step if to is None else to))
        if state is not None and state.newest_ingest_date is not None:
            rows = rows.filter(pl.col("ingest_date") >= state.newest_ingest_date - _ONE_DAY)
        return rows

    def portions(self, after: int, state: State) -> Iterator[int]:
        """The steps at which portions of the transitions behind a step end."""
        if after >= self.step:
            return
        counts = self.rows(after, state).group_by("fold").len().sort("fold").collect(engine="streaming")
        held = reached = 0
        for fold, rows in counts.iter_rows():
            if held and held + rows > store_sync.PORTION_ROWS:
                yield reached
                held = 0
            held, reached = held + rows, fold
        if held:
            yield self.step

    def last(self, transitions: pl.DataFrame, to: int) -> pl.DataFrame:
        """The last transitions, up to a step, of the alarms that some transitions are of."""
        if transitions.is_empty():
            return transitions
        ids = transitions["alarm_id"].unique().implode()
        later = self._transitions().filter(
            pl.col("ingest_date") >= transitions["ingest_date"].min(),
            pl.col("fold") >= transitions["fold"].min(),
            pl.col("fold") <= to,
            pl.col("alarm_id").is_in(ids),
        )
        return _last(later.collect(engine="streaming"))

    def of_day(self, day: date, state: State) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The transitions of an ingest date that the store is to have, and the last ones of their alarms."""
        [to] = state.offsets.values() or [0]
        rows = self._transitions().filter(pl.col("ingest_date") == day, pl.col("fold") <= to)
        transitions = rows.collect(engine="streaming")
        kept = _kept(self.last(transitions, to), state.kept_from)
        return transitions.join(kept, on="alarm_id", how="semi"), kept

    def _transitions(self) -> pl.LazyFrame:
        return self.snapshot.scan().filter(is_transition).select(COLUMNS)


def _last(transitions: pl.DataFrame) -> pl.DataFrame:
    """The last transition of each alarm."""
    return transitions.sort("fold", "index").unique("alarm_id", keep="last", maintain_order=True)


def _kept(last: pl.DataFrame, kept_from: date | None) -> pl.DataFrame:
    """Without alarms that have been over since before a date."""
    if kept_from is None:
        return last
    return last.filter((pl.col("ingest_date") >= kept_from) | ~store_state().is_in(OVER))


def _newest(transitions: pl.DataFrame) -> date | None:
    [newest] = transitions.select(pl.col("ingest_date").max()).to_series().to_list()
    return newest if isinstance(newest, date) else None


def _told(feed: AlarmFeed, make: Callable[[], Mapping[str, pl.DataFrame]]) -> Mapping[str, pl.DataFrame]:
    return without_text(lambda said: SyncError.of(feed.table, said), make)
