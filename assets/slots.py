"""Keeps what slots of silver come to, so that a gold date is not computed from all of its readings again.

The table of slots holds nothing that silver does not tell: it may be lost, or forgotten in part, and gold is the same.
Only dates with many readings are in it; the others are quick to sum up again.

A date has six parts of sixteen slots, and a part is one partition, which is replaced as a whole and in one commit. Of
a part, those slots are summed up again that silver's commits have touched since, from all of their readings, and the
others are kept. So what is in a part is exact, and a commit is as much progress as a kill can cost. The column
`reflects` says from which version of silver a part was made. The table's app transactions are:

- ``silver/<id>/<definition>``, the mark: each part reflects all that touched it up to this version of silver, or up to
  its own one if that is later. Silver with another id, or another definition of the sums, makes all parts void.
- ``commits``: how many there were. Of two refreshes at once the slower one is refused.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cached_property, partial
from typing import Any

import dataframely as dy
import polars as pl

from assets.day import SLOT_US, SLOTS_PER_DAY, slot
from assets.discretion import without_text
from resources.lake import ConcurrentWriteError, Lake
from resources.table import Table

SLOTS_PER_PART = 16
PARTS = range(SLOTS_PER_DAY // SLOTS_PER_PART)
MAX_ROWS = 1_200_000
"""How many readings are summed up together: the memory of a refresh."""
MIN_STORED = 200_000
"""Dates with fewer readings are summed up each time."""
KEPT = timedelta(days=35)
"""How far behind the newest one a date may be before its slots are forgotten."""

MARK_EVERY = 100
"""How many commits of silver the mark may be behind it: setting it is a commit, and being behind costs reading them."""

_COMMITS = "commits"


class GoldError(RuntimeError):
    """A gold table could not be computed; its rows stay as they are."""

    @classmethod
    def of(cls, table: str, told: str) -> "GoldError":
        """With what may be told of the original error."""
        return cls(
            f"{table}: computing it failed with {told}. Its rows stay as they are; the text of the error is left out, "
            "since it may quote a reading. Mend the code; the sensor, or `pulselake drain`, then makes it anew."
        )


@dataclass(frozen=True)
class Slots:
    """How a stream's silver rows are summed up by slots, and where the sums are kept.

    Attributes:
        source: the silver table.
        rows: the contract of the sums; it has the columns `event_date` and `slot`.
        summarise: all silver rows of some slots to their sums, sorted by key.
        entity: a column of whole numbers; silver rows with different values of it are summed up apart.
        definition: raised when the same columns come to mean something else.
    """

    source: Table
    rows: type[dy.Schema]
    summarise: Callable[[pl.LazyFrame], pl.DataFrame]
    entity: str
    definition: int = 1
    min_stored: int = MIN_STORED

    @cached_property
    def table(self) -> Table:
        """Where the sums are kept."""
        columns = {"part": dy.Int64(nullable=False), "reflects": dy.Int64(nullable=False)}
        doc = {"__doc__": self.rows.__doc__, "__module__": self.rows.__module__}
        # Delta keeps statistics of a table's first 32 columns, and `reflects` is read from them.
        stored = type(f"Stored{self.rows.__name__}", (dy.Schema,), doc | columns | self.rows.columns())
        return Table(f"slots/{self.source.name.partition('/')[2]}", stored, ("event_date", "part"))

    def sums(self, silver: pl.LazyFrame) -> pl.DataFrame:
        """What `summarise` makes of rows.

        Raises:
            GoldError: it failed.
        """
        return without_text(partial(GoldError.of, self.table.name), lambda: self.summarise(silver))

    def prepare(
        self,
        lake: Lake,
        version: int,
        dates: Sequence[date],
        *,
        anew: Collection[date] = (),
        should_stop: Callable[[], bool] = lambda: False,
    ) -> "Prepared":
        """Brings the slots of some dates to a version of silver.

        Args:
            lake: the lake.
            version: of silver.
            dates: in the order in which they are wanted.
            anew: those whose stored slots are not to be trusted.
            should_stop: asked after each commit; True leaves out the dates that are not done.

        Raises:
            ConcurrentWriteError: another refresh came first. What was committed before stays.
        """
        return _Refresh(self, lake, version).run(dates, anew, should_stop)

    def settle(self, lake: Lake) -> None:
        """Moves the mark on, and forgets what is old.

        Raises:
            ConcurrentWriteError: a refresh came first.
        """
        silver, table = lake.table(self.source), lake.table(self.table)
        if (version := silver.version()) is not None and table.exists() and table.is_current():
            _Refresh(self, lake, version).settle(KEPT)


@dataclass(frozen=True)
class Prepared:
    """The slots of some dates at a version of silver.

    Attributes:
        dates: those that are done.
        silver: rows of silver.
        stored: rows of the table of slots.
        counts: how many silver rows each date has that is not stored; dates without rows are left out.
        is_stored: the dates whose slots are in the table.
        sums: what rows of silver come to; see `Slots.sums`.
        columns: of the sums.
    """

    dates: frozenset[date]
    silver: pl.LazyFrame = field(repr=False)
    stored: pl.LazyFrame = field(repr=False)
    counts: Mapping[date, int]
    is_stored: Collection[date]
    sums: Callable[[pl.LazyFrame], pl.DataFrame]
    columns: Sequence[str]

    def weight(self, day: date) -> int:
        """About how many rows are read for a date."""
        return MIN_STORED if day in self.is_stored else self.counts.get(day, 0)

    def of(self, dates: Collection[date], is_needed: pl.Expr | None = None) -> pl.DataFrame:
        """The slots of some dates that are done.

        Args:
            dates: of which slots are wanted.
            is_needed: which of their rows; None for all.
        """
        is_needed = pl.lit(True) if is_needed is None else is_needed
        kept = [day for day in dates if day in self.is_stored]
        others = [day for day in dates if day not in self.is_stored and self.counts.get(day)]
        frames = [_on(self.stored, kept).filter(is_needed).select(self.columns).collect()]
        return pl.concat([*frames, self.sums(_on(self.silver, others)).filter(is_needed)] if others else frames)


class _Refresh:
    """The table of slots as it was found, and what is changed in it for a version of silver."""

    def __init__(self, slots: Slots, lake: Lake, version: int) -> None:
        self._slots, self._version = slots, version
        self._table, source = lake.table(slots.table), lake.table(slots.source)
        self._silver = source.scan(version)
        self._mark_id = f"silver/{source.id()}/{slots.definition}"
        self._known = self._table.transactions([self._mark_id, _COMMITS])
        self._mark = self._known.get(self._mark_id) if self._table.is_current() else None
        self._parts = self._stored_parts() if self._mark is not None else {}
        self._has_made = False
        since = version if self._mark is None else min(self._mark, version)
        self._known_since, self._touches = source.touches_since(since)

    def run(self, dates: Sequence[date], anew: Collection[date], should_stop: Callable[[], bool]) -> Prepared:
        new = [day for day in dates if day not in self._dates()]
        counts = _counts(_on(self._silver, new), "event_date") if new else {}
        done: list[date] = []
        for day in dates:
            is_stored = day in self._dates() or counts.get(day, 0) >= self._slots.min_stored
            if is_stored and not self._bring(day, should_stop, is_anew=day in anew):
                break
            done.append(day)
        if self._parts and (self._mark is None or self._version - self._mark > MARK_EVERY):
            self.settle()
        stored = self._dates() & {*done}
        return Prepared(
            frozenset(done),
            self._silver,
            self._scan(stored),
            counts,
            stored,
            self._slots.sums,
            list(self._slots.rows.column_names()),
        )

    def _scan(self, dates: Collection[date]) -> pl.LazyFrame:
        """The table as it is now, where it still has all parts of some dates.

        Raises:
            ConcurrentWriteError: house-keeping has forgotten some meanwhile.
        """
        if not dates:
            return pl.LazyFrame(schema=self._slots.table.schema)
        version = self._table.version()
        if {each for each in self._parts if each[0] in dates} - self._stored_parts(version).keys():
            raise ConcurrentWriteError(
                f"{self._table.name}: slots were forgotten while they were wanted. No gold was written; try again."
            )
        return self._table.scan(version)

    def settle(self, kept: timedelta | None = None) -> None:
        """Sets the mark to what all parts reflect; those of which silver's log no longer tells are forgotten.

        Args:
            kept: how far behind the newest date others may be before they are forgotten too; any if None.
        """
        oldest = max(self._dates()) - kept if kept and self._parts else date.min
        void = {each for each in self._parts if each[0] < oldest or self._stale(*each) is None}
        behind = [self._reached(each) for each in self._parts if each not in void and self._stale(*each)]
        mark = min([self._version, *behind])
        days = sorted({day for day, _ in void})
        if days:
            # A date is forgotten as a whole: one of which some parts are left would be taken for one that is stored.
            listed = ", ".join(f"'{day.isoformat()}'" for day in days)
            self._replace([], f"event_date IN ({listed})", mark)
            self._parts = {each: reflects for each, reflects in self._parts.items() if each[0] not in days}
        elif self._mark is not None and mark > self._mark:
            self._replace(None, "", mark)

    def _dates(self) -> set[date]:
        return {day for day, _ in self._parts}

    def _stored_parts(self, version: int | None = None) -> dict[tuple[date, int], int]:
        found: dict[tuple[date, int], int] = {}
        for file in self._table.files(version).iter_rows(named=True):
            part = date.fromisoformat(str(file["event_date"])), int(file["part"])
            found[part] = min(file["min.reflects"], found.get(part, file["min.reflects"]))
        return found

    def _reached(self, part: tuple[date, int]) -> int:
        return max(self._parts.get(part, -1), -1 if self._mark is None else self._mark)

    def _stale(self, day: date, part: int) -> list[int] | None:
        """The slots of a part that were touched since; None for all, where that is not known."""
        mine = _slots_of(part)
        if (day, part) not in self._parts:
            return [*mine]
        reached = self._reached((day, part))
        if reached < self._known_since:
            return None
        touched: set[int] = set()
        for touch in self._touches:
            if reached < touch.version <= self._version and day in touch.slots:
                slots = touch.slots[day]
                touched |= {*mine} if slots is None else {*slots}
        return sorted(touched & {*mine})

    def _bring(self, day: date, should_stop: Callable[[], bool], *, is_anew: bool) -> bool:
        """Replaces the stale parts of a date, the latest first; False where it was asked to stop before the end."""
        for part in reversed(PARTS):
            found = None if is_anew else self._stale(day, part)
            slots = [*_slots_of(part)] if found is None else found
            counts = self._count(day, slots) if slots else {}
            if not counts and ((day, part) not in self._parts or not slots):
                continue
            if self._has_made and should_stop():
                return False
            self._make(day, part, slots, counts)
        return True

    def _count(self, day: date, slots: Sequence[int]) -> dict[int, int]:
        found = _counts(self._rows(day, slots).select(slot()), "slot")
        return {number: count for number, count in found.items() if number in slots}

    def _make(self, day: date, part: int, slots: Sequence[int], counts: Mapping[int, int]) -> None:
        kept = _on(self._table.scan(), [day]).filter(pl.col("part") == part, pl.col("slot").is_in(slots).not_())
        columns = self._slots.table.schema.names()
        frames = [kept.select(columns).collect()] if (day, part) in self._parts else []
        for batch in _batches(slots, counts):
            for rows in self._shares(day, batch, sum(counts.get(number, 0) for number in batch)):
                sums = self._slots.sums(rows)
                sums = sums.with_columns(part=pl.lit(part, pl.Int64), reflects=pl.lit(0, pl.Int64))
                frames.append(sums.select(columns))
        frame = pl.concat(frames).select(columns).with_columns(reflects=pl.lit(self._version, pl.Int64))
        self._replace([frame], f"event_date = '{day.isoformat()}' AND part = {part}", None)
        self._has_made = True
        self._parts[day, part] = self._version
        if frame.is_empty():
            del self._parts[day, part]

    def _shares(self, day: date, slots: Sequence[int], count: int) -> Iterator[pl.LazyFrame]:
        """The rows of some slots, in as many shares of entities as memory asks for."""
        shares = -(-count // MAX_ROWS)
        rows = self._rows(day, slots)
        for share in range(shares):
            yield rows if shares == 1 else rows.filter(pl.col(self._slots.entity) % shares == share)

    def _rows(self, day: date, slots: Sequence[int]) -> pl.LazyFrame:
        """Silver rows of consecutive slots; files and row groups of other times are skipped by their statistics."""
        midnight = pl.lit(day).cast(pl.Datetime("us", "UTC"))
        begin, end = (pl.duration(microseconds=number * SLOT_US) for number in (slots[0], slots[-1] + 1))
        at = pl.col("measured_at")
        return self._silver.filter(at >= midnight + begin, at < midnight + end)

    def _replace(self, frames: Iterable[pl.DataFrame] | None, predicate: str, mark: int | None) -> None:
        """Replaces what a predicate selects; without frames it sets the mark only."""
        # Of parts of another silver, or of other sums, none is kept.
        is_void, table = self._mark is None, self._table.create()
        reached = self._mark if mark is None else mark
        new = {
            _COMMITS: self._known.get(_COMMITS, 0) + 1,
            self._mark_id: self._version if is_void or reached is None else reached,
        }
        expected = {app_id: self._known.get(app_id) for app_id in new}
        if frames is None:
            self._table.append(pl.DataFrame(schema=table.table.schema), transactions=new, expected=self._known)
        else:
            table.replace(frames, None if is_void else predicate, transactions=new, expected=expected, renew=is_void)
        self._known, self._mark = new, new[self._mark_id]


def _slots_of(part: int) -> range:
    return range(part * SLOTS_PER_PART, (part + 1) * SLOTS_PER_PART)


def _on(rows: pl.LazyFrame, dates: Collection[date]) -> pl.LazyFrame:
    """Rows of some dates."""
    if not dates:
        return rows.filter(pl.lit(False))
    day = pl.col("event_date")
    # The bounds let files and row groups be skipped.
    return rows.filter(day.is_between(min(dates), max(dates)), day.is_in(sorted(dates)))


def _counts(rows: pl.LazyFrame, column: str) -> dict[Any, int]:
    return dict(rows.group_by(column).agg(pl.len()).collect(engine="streaming").iter_rows())


def _batches(slots: Sequence[int], counts: Mapping[int, int]) -> Iterator[list[int]]:
    """Slots in batches of consecutive ones that hold rows; one that has too many for a batch is one by itself."""
    batch: list[int] = []
    rows = 0
    for number in slots:
        more = counts.get(number, 0)
        if batch and (number != batch[-1] + 1 or rows + more > MAX_ROWS):
            if rows:
                yield batch
            batch, rows = [], 0
        batch.append(number)
        rows += more
    if rows:
        yield batch
