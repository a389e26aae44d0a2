"""Gold of things that have versions, such as case reports: of each only the current version counts.

A gold table is brought up to date by the entities that new rows of silver are of. What they came to before is taken
away and what they come to now is added, so a day's reports cost little beside all others, and whatever order versions
come in, the table is the one that all of silver at once gives.

A gold table's log says how much of silver it reflects, all named after the silver table's id:

- ``reflects/<id>/<hub partition>``: the last sequence number of each partition.
- ``reflects/<id>/replaced``: how often rows of silver had been replaced. Where that differs the table is made anew.
- ``reflects/<id>/code``: a number of the code that computed it. Where that differs, too.
"""

import hashlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import polars as pl

from assets.discretion import without_text
from assets.slots import GoldError
from assets.stream.contract import POSITION, Contract
from assets.stream.log import HubPartition, Offsets, hub_epoch, is_in
from assets.stream.store import StreamStore, between
from resources.lake import ConcurrentWriteError, Lake, LakeTable
from resources.table import Table

AT_ONCE = 100_000
"""How many entities are computed together when a table is made anew."""
ENTITIES_AT_ONCE = 2_000_000
"""Of how many entities the current versions are found together."""
MANY = 0.2
"""From which share of all entities on a table is rather made anew, and from `AT_ONCE` changed ones on."""
REST = timedelta(minutes=1)
"""How long a table of a million rows is left alone between two refreshes; others in proportion."""

_POSITION = list(POSITION)

Rows = Mapping[str, pl.LazyFrame]
"""By role (silver and the contract's children), the rows of the current versions of some entities."""


class _Reached(NamedTuple):
    """How much of silver there is, or is reflected."""

    silver: str
    offsets: Offsets
    replaced: int
    code: int

    def transactions(self) -> dict[str, int]:
        begin = f"reflects/{self.silver}/"
        counted = {f"{begin}replaced": self.replaced, f"{begin}code": self.code}
        return {f"{begin}{at.name}": last for at, last in self.offsets.items()} | counted

    def follows(self, other: "_Reached") -> bool:
        """Whether it differs from another one by new rows alone."""
        return (self.silver, self.replaced, self.code) == (other.silver, other.replaced, other.code)


@dataclass(frozen=True)
class VersionedGold(ABC):
    """A gold table that is made of the current versions of a stream's entities.

    Attributes:
        contract: the stream; it declares `versions`.
        table: the gold table.
        compute: rows of some entities, each with all of its rows, to rows of the table.
    """

    contract: Contract
    table: Table
    compute: Callable[[Rows], pl.LazyFrame]

    @property
    def sources(self) -> list[Table]:
        """The tables that it is made of."""
        return [self.contract.tables[role] for role in _roles(self.contract)]

    def is_pending(self, lake: Lake) -> bool:
        """Whether silver has moved on."""
        store = StreamStore(self.contract, lake)
        reached = self._reached(store)
        return reached is not None and (
            _known(lake.table(self.table), reached) != reached or not lake.table(self.table).is_current()
        )

    def is_due(self, lake: Lake, now: datetime) -> bool:
        """Whether silver has moved on, and the table was written long enough ago for its size: it is written whole."""
        gold = lake.table(self.table)
        if not gold.exists():
            return self.is_pending(lake)
        written_at, rows = gold.written_at(), gold.count()
        return now >= written_at + REST * rows / 1_000_000 and self.is_pending(lake)

    def refresh(self, lake: Lake) -> int:
        """Brings the table up to date.

        Returns:
            The number of rows written; 0 where no version became current or ceased to be.

        Raises:
            ConcurrentWriteError: another refresh came first, or rows of silver were replaced meanwhile; nothing was
                written. Refresh again.
        """
        gold, store = lake.table(self.table).create(), StreamStore(self.contract, lake)
        reached = self._reached(store)
        if reached is None:
            return 0
        marks = reached.transactions()
        log = gold.transactions(marks)
        known, part = _known(gold, reached), _Part(store, reached)
        frames: Iterator[pl.DataFrame] | None = self._anew(part)
        predicate = None
        if known is not None and reached.follows(known) and gold.is_current():
            changed = self._changed(store, known, reached)
            if changed is not None:
                frames, predicate = self._moved(gold, part, _Part(store, known), changed)
        self._refuse_replaced(lake, reached)
        if frames is None:
            gold.append(pl.DataFrame(schema=self.table.schema), transactions=marks, expected=log)
            return 0
        return gold.replace(
            frames,
            predicate,
            transactions=marks,
            expected={name: log.get(name) for name in marks},
            # Whatever is derived from this table is told that it changed.
            event_dates=[datetime.now(UTC).date()],
            renew=predicate is None,
        )

    def _refuse_replaced(self, lake: Lake, reached: "_Reached") -> None:
        """Refuses to go on if rows of silver were replaced before all of its tables were opened."""
        now = self._reached(StreamStore(self.contract, lake))
        if now is None or not now.follows(reached):
            raise ConcurrentWriteError(
                f"{self.table.name}: rows of silver were replaced meanwhile; nothing was written. Refresh again."
            )

    def _changed(self, store: StreamStore, known: _Reached, reached: _Reached) -> pl.Series | None:
        """The entities of new rows; None where they are so many that the table is rather made anew."""
        entity = self.contract.entity
        new = store.silver.scan().filter(between(known.offsets, reached.offsets)).select(pl.col(entity).unique())
        changed = new.collect(engine="streaming").to_series()
        few = min(AT_ONCE, max(1000, MANY * store.silver.count()))
        return changed if changed.len() <= few else None

    def _reached(self, store: StreamStore) -> _Reached | None:
        """How far silver has come; None where it was not created."""
        if (silver := store.silver.id()) is None:
            return None
        store.look(roles=("silver",))
        return _Reached(silver, store.offsets("silver"), store.log.replacements, _code_of(self.compute))

    def _computed(self, rows: Rows) -> pl.DataFrame:
        names = self.table.schema.names()
        return without_text(
            partial(GoldError.of, self.table.name),
            lambda: self.compute(rows).select(names).collect(engine="streaming"),
        )

    @abstractmethod
    def _anew(self, part: "_Part") -> Iterator[pl.DataFrame]:
        """All rows of the table."""

    @abstractmethod
    def _moved(
        self, gold: LakeTable, now: "_Part", before: "_Part", changed: pl.Series
    ) -> tuple[Iterator[pl.DataFrame] | None, str | None]:
        """The rows that replace those of a predicate, given the entities with new rows; None where none is another."""


@dataclass(frozen=True)
class CountedGold(VersionedGold):
    """Counts of entities: the table's integer columns can be added up over entities, the others are its key."""

    counts: tuple[str, ...]

    @property
    def _key(self) -> list[str]:
        return [name for name in self.table.schema.names() if name not in self.counts]

    def _added(self, frames: Iterable[pl.DataFrame]) -> pl.DataFrame:
        rows = pl.concat(frames)
        return rows.group_by(self._key).agg(pl.col(self.counts).sum()).select(rows.columns)

    def _sorted(self, rows: pl.DataFrame) -> pl.DataFrame:
        return rows.filter(pl.any_horizontal(pl.col(self.counts) != 0)).sort(self._key)

    def _anew(self, part: "_Part") -> Iterator[pl.DataFrame]:
        total = pl.DataFrame(schema=self.table.schema)
        for rows in part.parts():
            total = self._added([total, self._computed(rows)])
        yield self._sorted(total)

    def _moved(
        self, gold: LakeTable, now: "_Part", before: "_Part", changed: pl.Series
    ) -> tuple[Iterator[pl.DataFrame] | None, str | None]:
        if changed.is_empty():
            return None, None
        gone = self._computed(before.of(changed)).with_columns(-pl.col(self.counts))
        moved = self._added([gone, self._computed(now.of(changed))])
        moved = moved.filter(pl.any_horizontal(pl.col(self.counts) != 0))
        if moved.is_empty():
            return None, None
        rows = self._added([gold.scan().collect(), moved])
        if rows.select(pl.any_horizontal(pl.col(self.counts) < 0).any()).item():
            # Somebody changed a table.
            return self._anew(now), None
        return iter([self._sorted(rows)]), None


@dataclass(frozen=True)
class CurrentGold(VersionedGold):
    """Rows of each entity's current version, partitioned by month.

    Attributes:
        month: of a silver row, the value of the partition column; never null.
    """

    month: pl.Expr

    @property
    def _partition(self) -> str:
        [column] = self.table.partition_by
        return column

    def _anew(self, part: "_Part") -> Iterator[pl.DataFrame]:
        for rows in part.months(self.month):
            yield self._computed(rows).sort(self._partition)

    def _moved(
        self, gold: LakeTable, now: "_Part", before: "_Part", changed: pl.Series
    ) -> tuple[Iterator[pl.DataFrame] | None, str | None]:
        is_changed = pl.col(self.contract.entity).is_in(changed.implode())
        new = self._computed(now.of(changed))
        # deltalake asks for frames where no table can be opened.
        stored = gold.scan()
        old = stored.filter(is_changed).select(pl.col(self._partition).unique()).collect().to_series()
        months = pl.concat([old, new[self._partition]]).unique().sort().to_list()

        def frames() -> Iterator[pl.DataFrame]:
            for month in months:
                of_month = pl.col(self._partition) == month
                rest = stored.filter(of_month, ~is_changed).collect()
                yield pl.concat([rest, new.filter(of_month)])

        listed = ", ".join(f"'{month.isoformat()}'" for month in months)
        return (frames(), f"{self._partition} IN ({listed})") if months else (None, None)


class _Part:
    """Silver and its children as far as some offsets, and which of their rows are of current versions."""

    def __init__(self, store: StreamStore, reached: _Reached) -> None:
        self._contract = contract = store.contract
        within = between({}, reached.offsets)
        self._tables = {
            role: store.tables[role].scan().filter(within).with_columns(hub_epoch) for role in _roles(contract)
        }

    def of(self, entities: pl.Series) -> Rows:
        """The rows of some entities."""
        which = pl.col(self._contract.entity).is_in(entities.implode())
        wanted = self._current(which).lazy()
        rows = {role: each.filter(which) for role, each in self._tables.items()}
        return {role: each.join(wanted, on=_POSITION, how="semi") for role, each in rows.items()}

    def parts(self) -> Iterator[Rows]:
        """The rows of all entities, some entities at a time, in the order in which they are stored."""
        for part in self._all_current().sort(_POSITION).iter_slices(AT_ONCE):
            yield self._at(part)

    def months(self, month: pl.Expr) -> Iterator[Rows]:
        """The rows of all entities, those of some months at a time."""
        current = self._all_current(month)
        held: list[date] = []
        size = 0
        for first, count in current.group_by("month").len().sort("month").iter_rows():
            held, size = [*held, first], size + count
            if size >= AT_ONCE:
                yield self._at(current.filter(pl.col("month").is_in(held)))
                held, size = [], 0
        if held:
            yield self._at(current.filter(pl.col("month").is_in(held)))

    def _all_current(self, month: pl.Expr | None = None) -> pl.DataFrame:
        """The positions of all current versions, found for some entities at a time."""
        entity = pl.col(self._contract.entity)
        entities = self._tables["silver"].select(entity.approx_n_unique()).collect(engine="streaming").item()
        count = max(1, -(-entities // ENTITIES_AT_ONCE))
        return pl.concat(self._current(entity.hash() % count == number, month) for number in range(count))

    def _current(self, which: pl.Expr, month: pl.Expr | None = None) -> pl.DataFrame:
        """The positions of the current versions of some entities, with their month where that is wanted."""
        order, entity = [*self._contract.versions, *_POSITION], self._contract.entity
        months = {} if month is None else {"month": month}
        versions = self._tables["silver"].filter(which).select(entity, *order, **months).collect(engine="streaming")
        return versions.sort(order, nulls_last=False).unique(entity, keep="last").select(*_POSITION, *months)

    def _at(self, positions: pl.DataFrame) -> Rows:
        """The rows at some positions. Files that hold none of them are not read, as far as statistics tell."""
        number = pl.col("sequence_number")
        ends = [number.min().alias("first"), number.max().alias("last")]
        within = pl.any_horizontal(
            is_in(HubPartition(epoch, partition), after=first - 1, to=last)
            for epoch, partition, first, last in positions.group_by("hub_epoch", "partition").agg(ends).iter_rows()
        )
        wanted = positions.select(_POSITION).lazy()
        return {role: each.filter(within).join(wanted, on=_POSITION, how="semi") for role, each in self._tables.items()}


def _roles(contract: Contract) -> list[str]:
    return ["silver", *(child.role for child in contract.children)]


@cache
def _code_of(compute: Callable[[Rows], pl.LazyFrame]) -> int:
    """A number of the code that a function is part of."""
    return int.from_bytes(hashlib.sha256(Path(inspect.getfile(compute)).read_bytes()).digest()[:7])


def _known(gold: LakeTable, reached: _Reached) -> _Reached | None:
    """What the table reflects of this silver table; None where nothing is known."""
    begin = f"reflects/{reached.silver}/"
    found = gold.transactions(reached.transactions())
    names = {name.removeprefix(begin): last for name, last in found.items()}
    replaced, code = names.pop("replaced", None), names.pop("code", None)
    if replaced is None or code is None:
        return None
    return _Reached(reached.silver, {HubPartition.named(name): last for name, last in names.items()}, replaced, code)
