"""Gold by event date: which dates new silver rows touch, and how a date is made anew. The figures are the domains'.

A date is added up from slots, which are summed up again only where silver touched them (`assets.slots`). A gold
table's log says which version of silver each of its dates reflects, so what is pending is known after any crash and
without a cursor. Its app transactions, all named after the silver table's id, since another table counts anew:

- ``silver/<id>/<date>``: the silver version that the date was made from.
- ``silver/<id>``, the mark: every date reflects all that touched it up to this version; later commits are looked up.
- ``silver/<id>/base``: set with a mark where silver's log no longer told which dates it touched. Every date that
  reflects an older version than this one is pending, whatever the log says.
- ``columns``: how often the columns of the gold table changed. Marks are named after it too, ``silver/<id>/columns-1``,
  so with other columns every date is pending: what stands in a new column of an old row is no figure.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import partial

import polars as pl

from assets.archived import closed_event_dates, refuse_closed, refuse_renewal
from assets.discretion import without_text
from assets.slots import GoldError, Prepared, Slots
from resources.lake import Lake, LakeTable
from resources.table import Table

MAX_DATES, MAX_SPAN = 100, timedelta(days=365)
"""How many dates are made in one commit, and how far apart the oldest and the newest of them may be."""
MAX_ROWS = 1_000_000
"""How many rows dates have that are computed together: a device with a dead clock names thousands with a row each."""

_COLUMNS = "columns"


@dataclass(frozen=True)
class _Standing:
    """How far a gold table has come, by its own log and by silver's.

    Attributes:
        silver: what the app ids begin with.
        version: of silver; what is pending was found at this version or a later one.
        known: the app transactions that the gold table's log holds.
        is_usable: whether silver's log reaches back to the mark.
        pending: the dates to make anew, each with the silver version that touched it last.
    """

    silver: str
    version: int
    known: Mapping[str, int]
    is_usable: bool
    pending: Mapping[date, int]

    def reflects(self, day: date) -> str:
        return f"{self.silver}/{day.isoformat()}"

    def marks(self, done: Collection[date] = ()) -> dict[str, int]:
        """The mark to set once some dates are done: the oldest version that any of the others still reflects.

        Nothing where the mark would not move on. For instance, with silver at version 9 and one date left that
        reflects version 4, the mark is 4.
        """
        rest = [self.known.get(self.reflects(day), -1) for day in self.pending if day not in done]
        if not self.is_usable:
            return {self.silver: self.version} | ({_base(self.silver): self.version} if rest else {})
        mark = min([self.version, *rest])
        return {self.silver: mark} if mark > self.known[self.silver] else {}

    def expected(self, transactions: Mapping[str, int]) -> dict[str, int | None]:
        """What the log must still hold for those app ids; otherwise another refresh came first."""
        return {app_id: self.known.get(app_id) for app_id in transactions}


@dataclass(frozen=True)
class DailyGold:
    """A gold table by event date.

    Attributes:
        table: partitioned by ``event_date``.
        slots: what it is added up from.
        combine: slots of the dates (and of the days before, see `days_back`) and the dates, to gold rows.
        days_back: how many earlier days a date needs.
        of_days_back: which rows of slots it needs of dates that are not made themselves; None for all.
    """

    table: Table
    slots: Slots
    combine: Callable[[pl.DataFrame, Collection[date]], pl.DataFrame]
    days_back: int = 0
    of_days_back: pl.Expr | None = None

    @property
    def source(self) -> Table:
        """The silver table."""
        return self.slots.source

    def compute(self, silver: pl.LazyFrame, dates: Collection[date]) -> pl.DataFrame:
        """The gold rows of some dates from all of their silver rows at once; a refresh comes to the same."""
        return self.combine(self.slots.summarise(silver), dates)

    def pending(self, lake: Lake) -> dict[date, int]:
        """The dates to make anew, each with the silver version that touched it last."""
        standing = self._standing(lake)
        return dict(standing.pending) if standing else {}

    def refresh(
        self,
        lake: Lake,
        dates: Sequence[date],
        *,
        is_anew: bool = False,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> int:
        """Replaces the rows of the given dates, and those only, in one commit and in bounded memory.

        Args:
            lake: the lake.
            dates: any number; the newest are summed up first.
            is_anew: whether all of their silver rows are read again, also where their sums are kept.
            should_stop: asked now and then; True leaves dates that are not summed up yet as they are. What was done of
                them is kept.

        Returns:
            The number of rows written.

        Raises:
            ConcurrentWriteError: another refresh came first; nothing was written. Refresh what is pending then.
            ArchivedError: silver rows of a date were archived; nothing was written.
        """
        gold, silver = lake.table(self.table).create(), lake.table(self.source).create()
        if not gold.is_current():
            refuse_renewal(gold, self._closed(lake))
            _renew(gold)
        standing = self._standing(lake, dates)
        # Read after the standing, so whatever another refresh wrote before is older, and what it writes now is noticed.
        version = silver.delta().version()
        assert standing is not None, "the source was just created"
        refuse_closed(gold.name, self._closed(lake, version), dates)
        needed = self._needed(sorted(dates, reverse=True))
        prepared = self.slots.prepare(lake, version, needed, anew=needed if is_anew else (), should_stop=should_stop)
        done = [day for day in sorted(dates) if prepared.dates.issuperset(self._needed([day]))]
        if not done:
            return 0
        frames = (
            _computed(self.table, self.combine, self._slots_of(prepared, some), some)
            for some in self._together(done, prepared)
        )
        transactions = {standing.reflects(day): version for day in done} | standing.marks(set(done))
        listed = ", ".join(f"'{day.isoformat()}'" for day in done)
        return gold.replace(
            frames,
            f"event_date IN ({listed})",
            transactions=transactions,
            expected=standing.expected(transactions),
            event_dates=done,
        )

    def _slots_of(self, prepared: Prepared, dates: Collection[date]) -> pl.DataFrame:
        """The slots that some dates are made of."""
        is_needed = None if self.of_days_back is None else pl.col("event_date").is_in([*dates]) | self.of_days_back
        return prepared.of(self._needed(dates), is_needed)

    def _needed(self, dates: Iterable[date]) -> list[date]:
        """Dates and the days before them that they need, each once and in that order."""
        backs = [timedelta(days=back) for back in range(self.days_back + 1)]
        return list(dict.fromkeys(day - back for day in dates for back in backs))

    def _together(self, dates: Sequence[date], prepared: Prepared) -> Iterator[list[date]]:
        """Dates in the runs that are computed together: one, or several that have few rows."""
        some: list[date] = []
        rows = 0
        for day in dates:
            more = sum(prepared.weight(each) for each in self._needed([day]))
            if some and rows + more > MAX_ROWS:
                yield some
                some, rows = [], 0
            some.append(day)
            rows += more
        if some:
            yield some

    def settle(self, lake: Lake) -> None:
        """Moves the mark on without new rows: silver's house-keeping commits too, and its log is kept for hours only.

        Raises:
            ConcurrentWriteError: a refresh came first, and did the same.
        """
        self.slots.settle(lake)
        standing, gold = self._standing(lake), lake.table(self.table)
        if standing and gold.exists() and gold.is_current():
            _set(gold, standing.marks(), standing.known)

    def _standing(self, lake: Lake, dates: Sequence[date] = ()) -> _Standing | None:
        """None where silver does not exist yet.

        Args:
            dates: more dates whose app transactions are wanted.
        """
        silver, gold = lake.table(self.source), lake.table(self.table)
        if (silver_id := silver.id()) is None or (version := silver.version()) is None:
            return None
        changes = gold.transactions([_COLUMNS]).get(_COLUMNS, 0) + (0 if gold.is_current() else 1)
        mark = f"silver/{silver_id}" + (f"/columns-{changes}" if changes else "")
        known = gold.transactions([mark, _base(mark)])
        touched = silver.touched_since(known.get(mark))
        is_usable = touched is not None
        if touched is None:
            touched = dict.fromkeys(_event_dates(silver) | {*gold.dates("event_date")}, version)
        elif (base := known.get(_base(mark), -1)) >= known[mark]:
            touched = dict.fromkeys(_event_dates(silver) | {*gold.dates("event_date")}, base) | touched
        touched = self._with_followers(touched, silver)
        if touched:
            closed = self._closed(lake)
            touched = {day: last for day, last in touched.items() if day not in closed}
        found = _Standing(mark, version, known, is_usable, touched)
        reflected = gold.transactions([found.reflects(day) for day in {*touched, *dates}])
        pending = {day: last for day, last in sorted(touched.items()) if reflected.get(found.reflects(day), -1) < last}
        return replace(found, known=known | reflected, pending=pending)

    def _closed(self, lake: Lake, version: int | None = None) -> set[date]:
        return closed_event_dates(lake, self.source, self.days_back, version)

    def _with_followers(self, touched: dict[date, int], silver: LakeTable) -> dict[date, int]:
        if not self.days_back or not touched:
            return touched
        newest = silver.newest("event_date")
        found = dict(touched)
        for day, version in touched.items():
            for ahead in range(1, self.days_back + 1):
                follower = day + timedelta(days=ahead)
                if newest is not None and follower <= newest:
                    found[follower] = max(version, found.get(follower, -1))
        return found


@dataclass(frozen=True)
class DerivedGold:
    """A gold table that is made as a whole from another one.

    Its app transaction ``source/<id of the source>`` is the version of the source that it reflects.
    """

    table: Table
    source: Table
    compute: Callable[[pl.LazyFrame], pl.DataFrame]

    @property
    def sources(self) -> list[Table]:
        """The tables that it is made of."""
        return [self.source]

    def is_pending(self, lake: Lake) -> bool:
        """Whether dates of the source were made anew since, or its log no longer tells."""
        source, gold = lake.table(self.source), lake.table(self.table)
        if (source_id := source.id()) is None:
            return False
        reflects = _source(source_id)
        touched = source.touched_since(gold.transactions([reflects]).get(reflects))
        return touched is None or bool(touched) or not gold.is_current()

    def refresh(self, lake: Lake) -> int:
        """Replaces all rows.

        Returns:
            The number of rows written.

        Raises:
            ConcurrentWriteError: another refresh came first; nothing was written.
        """
        gold, source = lake.table(self.table).create(), lake.table(self.source).create()
        reflects = _source(str(source.id()))
        known = gold.transactions([reflects])
        version = source.delta().version()
        rows = _computed(self.table, self.compute, source.scan(version))
        return gold.replace(
            [rows], None, transactions={reflects: version}, expected={reflects: known.get(reflects)}, renew=True
        )

    def settle(self, lake: Lake) -> None:
        """Records the newest version where nothing is pending, as `DailyGold.settle` does.

        Raises:
            ConcurrentWriteError: a refresh came first, and did the same.
        """
        source, gold = lake.table(self.source), lake.table(self.table)
        if (source_id := source.id()) is None or (version := source.version()) is None:
            return
        known = gold.transactions([_source(source_id)])
        if not self.is_pending(lake) and version > known.get(_source(source_id), -1):
            _set(gold, {_source(source_id): version}, known)


def _computed(table: Table, compute: Callable[..., pl.DataFrame], *arguments: object) -> pl.DataFrame:
    return without_text(partial(GoldError.of, table.name), lambda: compute(*arguments))


def pieces(dates: Collection[date], max_dates: int = MAX_DATES) -> list[list[date]]:
    """Dates in pieces that are made one after the other, each in one commit and in bounded time, the newest first.

    The first piece holds the newest date, and the one before it if that is due too: today must not wait for dates of
    long ago, of which a device with a dead clock can name thousands.
    """
    found: list[list[date]] = []
    for day in sorted(dates, reverse=True):
        piece = found[-1] if found else []
        most = 2 if len(found) == 1 else max_dates
        span = timedelta(days=1) if len(found) == 1 else MAX_SPAN
        if piece and len(piece) < most and piece[0] - day <= span:
            piece.append(day)
        else:
            found.append([day])
    return found


def _renew(gold: LakeTable) -> None:
    known = gold.transactions([_COLUMNS])
    changed = {_COLUMNS: known.get(_COLUMNS, 0) + 1}
    # Whoever derives another table from this one learns that the rows of all dates are other ones.
    gold.renew(transactions=changed, expected={_COLUMNS: known.get(_COLUMNS)}, event_dates=gold.dates("event_date"))


def _base(silver: str) -> str:
    return f"{silver}/base"


def _source(source_id: str) -> str:
    return f"source/{source_id}"


def _event_dates(silver: LakeTable) -> set[date]:
    dates = silver.scan().select(pl.col("event_date").unique()).collect(engine="streaming")
    return set(dates.to_series())


def _set(table: LakeTable, transactions: Mapping[str, int], known: Mapping[str, int]) -> None:
    if transactions:
        table.append(pl.DataFrame(schema=table.table.schema), transactions=transactions, expected=known)
