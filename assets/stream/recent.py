"""Readings and alerts that a session keeps in memory: those newer than a floor. Pure.

```
            oldest in memory (the floor)                 newest
  look-ups        │   stored: pieces of many micro-batches   │
  ────────────────┼──────────────────────────────────────────┼──▶ measured_at
                  │   not stored: a piece for each micro-batch, whatever its times
```

Readings are kept in pieces of about `PIECE_ROWS`. A piece is dropped as a whole, so that no reading has to be copied
when others are dropped. The readings of a micro-batch count as stored when its commit has ended. Until then they are
kept, even below the floor, because a look-up would not find them.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import pairwise
from typing import NamedTuple, cast

import polars as pl

from assets.stream.contract import Utc

PIECE_ROWS = 100_000
"""How many readings make a piece; memory and time stay the same however long a session lasts."""

TIME = "measured_at"
ALERTS = {"id": pl.UInt128(), TIME: Utc}
"""The columns that are kept of an alert; as a number its id takes a third of the memory of its text."""


class Piece(NamedTuple):
    """Readings of one or more micro-batches, the alerts that they raised, and the times of both."""

    readings: pl.DataFrame
    alerts: pl.DataFrame
    oldest: datetime | None
    newest: datetime | None

    @classmethod
    def of(cls, readings: pl.DataFrame, alerts: pl.DataFrame) -> "Piece":
        """A piece of these readings and alerts."""
        if readings.is_empty() and alerts.is_empty():
            return cls(readings, alerts, None, None)
        spans = [times(frame) for frame in (readings, alerts) if frame.height]
        return cls(readings, alerts, min(first for first, _ in spans), max(last for _, last in spans))

    def is_above(self, floor: datetime) -> bool:
        """Whether anything in it is newer."""
        return self.newest is not None and self.newest > floor

    def overlaps(self, oldest: datetime, newest: datetime) -> bool:
        """Whether it may hold rows of a span of time."""
        return self.oldest is not None and self.newest is not None and self.oldest <= newest and oldest <= self.newest


class Recent:
    """The pieces in memory.

    Args:
        readings: stored readings above the floor; their columns are what is kept of later ones.
        alerts: stored alerts above the floor: `alert_id`, `measured_at`.
        floor: the oldest time in memory; None where nothing is stored.
    """

    def __init__(self, readings: pl.DataFrame, alerts: pl.DataFrame, floor: datetime | None) -> None:
        self.floor = floor
        self._none = Piece.of(readings.clear(), pl.DataFrame(schema=ALERTS))
        self._stored = list(_pieces(readings, numbered(alerts)))
        self._not_stored: list[Piece] = []

    @property
    def rows(self) -> int:
        """How many readings are in memory."""
        return sum(piece.readings.height for piece in (*self._stored, *self._not_stored))

    @property
    def none(self) -> pl.DataFrame:
        """No reading, with the columns of readings."""
        return self._none.readings

    @property
    def columns(self) -> list[str]:
        """The columns of readings."""
        return self._none.readings.columns

    def add(self, readings: pl.DataFrame, alerts: pl.DataFrame) -> None:
        """Adds the readings and alerts of a micro-batch."""
        self._not_stored.append(Piece.of(readings, alerts))

    def mark_stored(self, micro_batches: int | None, floor_of: Callable[[datetime], datetime]) -> None:
        """Marks the oldest micro-batches as stored, raises the floor and drops what is below it.

        Args:
            micro_batches: how many of those that were added and not marked yet; None for all.
            floor_of: the floor that follows from the newest stored instant.
        """
        count = len(self._not_stored) if micro_batches is None else micro_batches
        stored, self._not_stored = self._not_stored[:count], self._not_stored[count:]
        newest = [times(piece.readings)[1] for piece in stored if piece.readings.height]
        if newest:
            floor = floor_of(max(newest))
            self.floor = floor if self.floor is None else max(floor, self.floor)
        if self.floor is None:
            self._stored += [Piece.of(piece.readings, numbered(piece.alerts)) for piece in stored]
            return
        self._stored = [piece for piece in self._stored if piece.is_above(self.floor)]
        # Alerts are numbered as late as this, because in a backlog most of them are below the floor by now.
        added = [_above(piece, self.floor) for piece in stored if piece.is_above(self.floor)]
        if added and self._stored and self._stored[-1].readings.height < PIECE_ROWS:
            added.insert(0, self._stored.pop())
        if added:
            self._stored.append(_joined(added))

    def stored_readings(self, oldest: datetime, newest: datetime) -> pl.DataFrame:
        """Readings of pieces that are stored and overlap a span of time, some outside of it among them."""
        return self._readings(self._stored, oldest, newest)

    def other_readings(self, oldest: datetime, newest: datetime) -> pl.DataFrame:
        """Readings of pieces that are not stored yet and overlap a span of time, some outside of it among them."""
        return self._readings(self._not_stored, oldest, newest)

    def alerts(self, oldest: datetime, newest: datetime) -> pl.DataFrame:
        """Alerts of all pieces that overlap a span of time, some outside of it among them."""
        stored = [piece.alerts for piece in self._overlapping(self._stored, oldest, newest)]
        others = [numbered(piece.alerts) for piece in self._not_stored if piece.overlaps(oldest, newest)]
        return pl.concat([*stored, *others])

    def _readings(self, pieces: Iterable[Piece], oldest: datetime, newest: datetime) -> pl.DataFrame:
        return pl.concat([piece.readings for piece in self._overlapping(pieces, oldest, newest)])

    def _overlapping(self, pieces: Iterable[Piece], oldest: datetime, newest: datetime) -> list[Piece]:
        return [self._none, *(piece for piece in pieces if piece.overlaps(oldest, newest))]


def times(rows: pl.DataFrame) -> tuple[datetime, datetime]:
    """The oldest and the newest instant of a frame that is not empty."""
    return cast(datetime, rows[TIME].min()), cast(datetime, rows[TIME].max())


def numbered(alerts: pl.DataFrame) -> pl.DataFrame:
    """Alerts as `ALERTS`."""
    return pl.DataFrame([alerts["alert_id"].cast(pl.UInt128).alias("id"), alerts[TIME]])


def _above(piece: Piece, floor: datetime) -> Piece:
    is_above = pl.col(TIME) > floor
    return Piece.of(piece.readings.filter(is_above), numbered(piece.alerts.filter(is_above)))


def _joined(pieces: Sequence[Piece]) -> Piece:
    """One piece, in memory of its own."""
    readings = pl.concat([piece.readings for piece in pieces], rechunk=True)
    return Piece.of(readings, pl.concat([piece.alerts for piece in pieces], rechunk=True))


def _pieces(readings: pl.DataFrame, alerts: pl.DataFrame) -> Iterator[Piece]:
    """Restored readings and alerts, in pieces of consecutive times, each in memory of its own."""
    starts = readings[TIME].sort().gather_every(PIECE_ROWS).unique(maintain_order=True).to_list()
    if not starts:
        yield Piece.of(readings, alerts)
    for number, (start, end) in enumerate(pairwise([*starts, None])):
        # The alerts of revisions, whose readings are not in silver, may be older than all readings.
        is_here = pl.lit(True) if number == 0 else pl.col(TIME) >= start
        is_here &= pl.col(TIME) < end if end else pl.lit(True)
        yield Piece.of(readings.filter(is_here), alerts.filter(is_here))
