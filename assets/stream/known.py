"""What a session knows of earlier readings: enough to find repeats and to average windows, in bounded memory.

Readings newer than `floor` are in memory; the few that reach further back are matched by a look-up in silver, so
repeats are found however late they come. Nothing here reads or writes a table by itself: look-ups are passed in.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import NamedTuple, cast

import polars as pl

from assets.stream.contract import FUTURE_TOLERANCE, MICROSECOND, Contract, Utc

LookUp = Callable[[], pl.LazyFrame]
"""All earlier rows of a table, at its newest version."""

PIECE_ROWS = 100_000
"""Readings are forgotten in pieces of so many: nothing that stays is copied, so memory and time stay the same."""
FEW = 4
"""So many known readings for each new one are few."""
TIMELY = timedelta(minutes=1)
"""How far behind the middle of a micro-batch readings may be that are looked for together."""

_TIME = "measured_at"
_RAISED = {"id": pl.UInt128(), _TIME: Utc}
"""What is kept of an alert; as a number its id takes a third of the memory."""


class _Held(NamedTuple):
    """Readings of one or more micro-batches, and ids and times of the alerts that they raised."""

    readings: pl.DataFrame
    raised: pl.DataFrame
    oldest: datetime | None = None
    newest: datetime | None = None

    def is_above(self, floor: datetime) -> bool:
        return self.newest is not None and self.newest > floor

    def above(self, floor: datetime) -> "_Held":
        """What is newer, with numbers for the alerts' ids."""
        is_above = pl.col(_TIME) > floor
        return _held(self.readings.filter(is_above), _numbered(self.raised.filter(is_above)))

    def overlaps(self, oldest: datetime, newest: datetime) -> bool:
        return self.oldest is not None and self.newest is not None and self.oldest <= newest and oldest <= self.newest


class Known:
    """Earlier readings and alerts of one stream.

    Args:
        contract: the stream.
        silver: all earlier silver rows.
        alerts: all earlier alert rows.
        newest: the newest event time among `silver`, None where there is none.
    """

    def __init__(self, contract: Contract, silver: LookUp, alerts: LookUp, newest: datetime | None) -> None:
        self._contract = contract
        self._look_up, self._look_up_alerts = silver, alerts
        self._columns = list(dict.fromkeys([*contract.keys, _TIME, *contract.values, *_averaged(contract)]))
        self._span = contract.lateness + contract.reach + FUTURE_TOLERANCE
        self._newest_stored = newest
        self._floor = None if newest is None else newest - self._span
        readings = self._above_floor(silver().select(self._columns))
        self._none = _Held(readings.clear(), pl.DataFrame(schema=_RAISED))
        self._newest = newest
        self._last = [_newest_by(contract.entity, readings[[contract.entity, _TIME]])]
        raised = self._above_floor(alerts().select("alert_id", _TIME))
        self._stored = list(_pieces(readings, _numbered(raised)))
        self._unstored: list[_Held] = []

    @property
    def rows(self) -> int:
        """How many readings are in memory."""
        return sum(held.readings.height for held in (*self._stored, *self._unstored))

    def late(self, new: pl.DataFrame) -> pl.DataFrame:
        """Those of the new readings that are not newer than all that is known of their entity."""
        if new.is_empty() or self._newest is None or _times(new)[0] > self._newest:
            return new.clear()
        entity = self._contract.entity
        last = new[[entity]].join(self._last_by_entity(), on=entity, how="left", maintain_order="left")[_TIME]
        is_late = (new[_TIME] <= last).fill_null(False)
        if self._floor is not None:
            is_late |= new[_TIME] <= self._floor
        return new.filter(is_late) if is_late.any() else new.clear()

    def near(self, new: pl.DataFrame, reach: timedelta) -> pl.DataFrame:
        """Earlier readings of the new readings' entities from `reach` before each to its own time, and some more."""
        if new.is_empty():
            return self._none.readings
        oldest, newest = _times(new)
        # From the middle: a single clock that is fast must not make all others late.
        timely = cast(datetime, new[_TIME].median()) - TIMELY
        is_late = new[_TIME] < timely
        if not 0 < is_late.sum() < new.height // 4:
            return self._between(new, reach, oldest - reach, newest)
        # For the sake of a few late readings not all that is known of all entities need be looked through.
        return pl.concat(
            [
                self._between(new.filter(is_late), reach, oldest - reach, timely - reach - MICROSECOND),
                self._between(new, reach, timely - reach, newest),
            ]
        )

    def _between(self, new: pl.DataFrame, reach: timedelta, oldest: datetime, newest: datetime) -> pl.DataFrame:
        """What `near` finds of these times."""
        entity = self._contract.entity
        if self._floor is None or oldest > self._floor:
            found = self._readings([*self._stored, *self._unstored], oldest, newest)
            found = found.filter((found[_TIME] >= oldest) & (found[_TIME] <= newest))
            # Looking for the entities costs more than what a few readings of others do later.
            return found if found.height <= FEW * new.height else found.filter(_is_of(new, entity))
        is_near = (pl.col(_TIME).is_between(oldest, newest), _is_of(new, entity))
        stored, unstored = (self._readings(held, oldest, newest) for held in (self._stored, self._unstored))
        reaching = new.filter(pl.col(_TIME) >= oldest, pl.col(_TIME) - reach <= self._floor)
        beyond = self._looked_up(reaching, reach, oldest, min(newest, self._floor))
        # What a commit that ended just now has stored is also still held.
        return pl.concat(
            [
                pl.concat([beyond, unstored.filter(is_near)]).unique(),
                stored.filter(*is_near, pl.col(_TIME) > self._floor),
            ]
        )

    def raised(self, alerts: pl.DataFrame) -> pl.DataFrame:
        """Those of the alerts that an earlier reading raised."""
        if alerts.is_empty():
            return alerts
        oldest, newest = _times(alerts)
        known = [held.raised for held in self._overlapping(self._stored, oldest, newest)]
        known += [_numbered(held.raised) for held in self._unstored if held.overlaps(oldest, newest)]
        if self._floor is not None and oldest <= self._floor:
            stored = self._look_up_alerts().filter(pl.col(_TIME).is_between(oldest, newest))
            known.append(_numbered(stored.select("alert_id", _TIME).collect()))
        ids = pl.concat(known)["id"]
        return alerts.filter(pl.col("alert_id").cast(pl.UInt128).is_in(ids.implode()))

    def add(self, silver: pl.DataFrame, alerts: pl.DataFrame) -> None:
        """Takes in what a micro-batch produced."""
        readings = silver[self._columns]
        held = _held(readings, alerts[["alert_id", _TIME]])
        self._unstored.append(held)
        self._last.append(readings[self._last[0].columns])
        self._newest = max(filter(None, (self._newest, held.newest)), default=None)

    def forget(self, micro_batches: int | None = None) -> None:
        """Drops readings behind the floor.

        Args:
            micro_batches: how many of those added since the last call the look-ups contain now; None for all.
        """
        count = len(self._unstored) if micro_batches is None else micro_batches
        stored, self._unstored = self._unstored[:count], self._unstored[count:]
        newest = [held.newest for held in stored if held.newest] + (
            [self._newest_stored] if self._newest_stored else []
        )
        if not newest:
            return
        self._newest_stored = max(newest)
        self._floor = self._newest_stored - self._span
        self._stored = [held for held in self._stored if held.is_above(self._floor)]
        # Numbered only now: in a backlog most are behind the floor already.
        added = [held.above(self._floor) for held in stored]
        if self._stored and self._stored[-1].readings.height < PIECE_ROWS:
            added.insert(0, self._stored.pop())
        if added:
            self._stored.append(_joined(added))
        self._last = [self._last_by_entity().filter(pl.col(_TIME) > self._floor)]

    def _overlapping(self, held: Iterable[_Held], oldest: datetime, newest: datetime) -> list[_Held]:
        """What may hold rows of a span of time; never nothing."""
        return [self._none, *(each for each in held if each.overlaps(oldest, newest))]

    def _readings(self, held: Iterable[_Held], oldest: datetime, newest: datetime) -> pl.DataFrame:
        return pl.concat([each.readings for each in self._overlapping(held, oldest, newest)])

    def _above_floor(self, rows: pl.LazyFrame) -> pl.DataFrame:
        return (rows if self._floor is None else rows.filter(pl.col(_TIME) > self._floor)).collect()

    def _last_by_entity(self) -> pl.DataFrame:
        """The newest instant of each entity, of which micro-batches only add theirs."""
        if len(self._last) > 1:
            self._last = [_newest_by(self._contract.entity, pl.concat(self._last))]
        return self._last[0]

    def _looked_up(self, new: pl.DataFrame, reach: timedelta, oldest: datetime, newest: datetime) -> pl.DataFrame:
        """Stored readings of these times, one event date at a time: very different dates must not load all between."""
        entity = self._contract.entity
        found = [self._none.readings]
        for day in _by_date(new):
            first, last = _times(day)
            found.append(
                self._look_up()
                .select(self._columns)
                .filter(
                    pl.col(_TIME).is_between(max(oldest, first - reach), min(newest, last)),
                    pl.col(entity).is_in(day[entity].unique().to_list()),
                )
                .collect()
            )
        return pl.concat(found)


def _averaged(contract: Contract) -> list[str]:
    return [window.column for window in contract.windows]


def _by_date(rows: pl.DataFrame) -> list[pl.DataFrame]:
    return rows.with_columns(_date=pl.col(_TIME).dt.date()).partition_by("_date", include_key=False)


def _numbered(alerts: pl.DataFrame) -> pl.DataFrame:
    return pl.DataFrame([alerts["alert_id"].cast(pl.UInt128).alias("id"), alerts[_TIME]])


def _newest_by(entity: str, times: pl.DataFrame) -> pl.DataFrame:
    return times.group_by(entity).agg(pl.col(_TIME).max())


def _is_of(new: pl.DataFrame, entity: str) -> pl.Expr:
    return pl.col(entity).is_in(new[entity].unique().implode())


def _times(rows: pl.DataFrame) -> tuple[datetime, datetime]:
    """The oldest and the newest instant of a frame that is not empty."""
    return cast(datetime, rows[_TIME].min()), cast(datetime, rows[_TIME].max())


def _held(readings: pl.DataFrame, raised: pl.DataFrame) -> _Held:
    return _Held(readings, raised, *(_times(readings) if readings.height else (None, None)))


def _joined(held: Sequence[_Held]) -> _Held:
    """One piece, in memory of its own."""
    readings = pl.concat([each.readings for each in held], rechunk=True)
    return _held(readings, pl.concat([each.raised for each in held], rechunk=True))


def _pieces(readings: pl.DataFrame, raised: pl.DataFrame) -> Iterator[_Held]:
    """What is restored, in pieces of consecutive times, each in memory of its own."""
    starts = readings[_TIME].sort().gather_every(PIECE_ROWS).unique(maintain_order=True).to_list()
    for start, end in pairwise([*starts, None]):
        is_here = (pl.col(_TIME) >= start) & (pl.col(_TIME) < end if end else pl.lit(True))
        yield _held(readings.filter(is_here), raised.filter(is_here))
