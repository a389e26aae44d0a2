"""Looks up earlier readings and alerts in their tables, where memory does not hold them.

It is pure: scans are passed in.
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import polars as pl

from assets.stream.contract import Contract
from assets.stream.recent import ALERTS, TIME, numbered, times

Scan = Callable[[], pl.LazyFrame]
"""All earlier rows of a table, at its newest version."""


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

    def readings(self, new: pl.DataFrame, reach: timedelta, oldest: datetime, newest: datetime) -> pl.DataFrame:
        """Stored readings between two times, of the new readings' entities, from `reach` before each of those."""
        found = [self._none]
        for day in _by_date(new):
            first, last = times(day)
            is_within = pl.col(TIME).is_between(max(oldest, first - reach), min(newest, last))
            found.append(self._silver().select(self._none.columns).filter(is_within, self._is_of(day)).collect())
        return pl.concat(found)

    def alerts(self, alerts: pl.DataFrame, newest: datetime) -> pl.DataFrame:
        """Stored alerts of the same entities and times, up to a time, as `ALERTS`."""
        found = [pl.DataFrame(schema=ALERTS)]
        for day in _by_date(alerts.filter(pl.col(TIME) <= newest)):
            is_within = pl.col(TIME).is_between(*times(day))
            stored = self._alerts().filter(is_within, self._is_of(day)).select("alert_id", TIME)
            found.append(numbered(stored.collect()))
        return pl.concat(found)

    def _is_of(self, rows: pl.DataFrame) -> pl.Expr:
        return pl.col(self._entity).is_in(rows[self._entity].unique().to_list())


def _by_date(rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """The rows of one date at a time: two rows of very different dates must not load all that lies between them."""
    yield from rows.with_columns(_date=pl.col(TIME).dt.date()).partition_by("_date", include_key=False)
