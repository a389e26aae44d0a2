"""Looks up earlier readings and alerts in their tables, where memory does not hold them.

It is pure: scans are passed in.
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from time import monotonic
from typing import NamedTuple

import polars as pl

from assets.stream.contract import Contract
from assets.stream.recent import ALERTS, TIME, numbered, times

Scan = Callable[[], pl.LazyFrame]
"""All earlier rows of a table, at its newest version."""

MAX_LOOK_UPS = 32
"""How often a table is scanned for one micro-batch, whatever dates its readings have."""


class LookUps(NamedTuple):
    """How many scans were made, and how long they took together."""

    scans: int = 0
    seconds: float = 0.0

    def since(self, earlier: "LookUps") -> "LookUps":
        """Without those that were made earlier."""
        return LookUps(self.scans - earlier.scans, self.seconds - earlier.seconds)


class History:
    """Earlier rows of one stream.

    Args:
        contract: the stream.
        silver: all earlier silver rows.
        alerts: all earlier alert rows.
        none: an empty frame with the columns that are wanted of readings.
    """

    def __init__(self, contract: Contract, silver: Scan, alerts: Scan, none: pl.DataFrame) -> None:
        self._entity, self._silver, self._alerts, self._none = contract.entity, silver, alerts, none
        self._is_by_date = not contract.versions
        self.looked_up = LookUps()
        """The scans so far."""

    def readings(self, new: pl.DataFrame, reach: timedelta, oldest: datetime, newest: datetime) -> pl.DataFrame:
        """Stored readings between two times, of the new readings' entities, from `reach` before each of those.

        A reading may come twice, and some come that no new reading needs.
        """
        found = [self._none]
        for part in self._parts(new):
            first, last = times(part)
            is_within = pl.col(TIME).is_between(max(oldest, first - reach), min(newest, last))
            readings = self._silver().select(self._none.columns)
            found.append(self._collected(readings.filter(is_within, self._is_of(part), self._is_on(part, reach))))
        return pl.concat(found)

    def alerts(self, alerts: pl.DataFrame, newest: datetime) -> pl.DataFrame:
        """Stored alerts of the same entities and times, up to a time, as `ALERTS`; some others among them."""
        found = [pl.DataFrame(schema=ALERTS)]
        for part in self._parts(alerts.filter(pl.col(TIME) <= newest)):
            is_within = pl.col(TIME).is_between(*times(part))
            stored = self._alerts().filter(is_within, self._is_of(part), self._is_on(part, timedelta(0)))
            found.append(numbered(self._collected(stored.select("alert_id", TIME))))
        return pl.concat(found)

    def _collected(self, scan: pl.LazyFrame) -> pl.DataFrame:
        began = monotonic()
        rows = scan.collect()
        scans, seconds = self.looked_up
        self.looked_up = LookUps(scans + 1, seconds + monotonic() - began)
        return rows

    def _parts(self, rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
        """What is looked up by one scan each."""
        if self._is_by_date:
            yield from _by_date(rows)
        elif rows.height:
            yield rows

    def _is_on(self, rows: pl.DataFrame, reach: timedelta) -> pl.Expr:
        return _is_on_dates(rows, reach) if self._is_by_date else pl.lit(True)

    def _is_of(self, rows: pl.DataFrame) -> pl.Expr:
        return pl.col(self._entity).is_in(rows[self._entity].unique().to_list())


def _by_date(rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """The rows of one date at a time: two rows of very different dates must not load all that lies between them.

    Of very many dates those that are closest together are looked up at once.
    """
    date = rows[TIME].dt.date()
    days = date.unique().sort()
    begins = days if len(days) <= MAX_LOOK_UPS else _behind_largest_gaps(days)
    part = begins.search_sorted(date, side="right")
    yield from rows.with_columns(_part=part).partition_by("_part", include_key=False)


def _behind_largest_gaps(days: pl.Series) -> pl.Series:
    """Splits days at their largest gaps into `MAX_LOOK_UPS` parts; returns the first day of each."""
    gaps = days.diff().dt.total_days().fill_null(0)
    return pl.concat([days.head(1), days[gaps.arg_sort(descending=True).head(MAX_LOOK_UPS - 1)]]).unique().sort()


def _is_on_dates(rows: pl.DataFrame, reach: timedelta) -> pl.Expr:
    """Whether a stored row is of a date that the rows, or what lies in their reach, may have."""
    if reach >= timedelta(days=1):
        return pl.lit(True)
    dates = pl.concat([rows[TIME].dt.date(), (rows[TIME] - reach).dt.date()]).unique()
    return pl.col(TIME).dt.date().is_in(dates.implode())
