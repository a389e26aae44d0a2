"""Gold by event date: which dates new silver rows touch, and how a date is made anew. The figures are the domains'.

A gold table's log says which version of silver each of its dates reflects, so what is pending is known after any crash
and without a cursor.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import polars as pl

from resources.lake import Lake, LakeTable
from resources.table import Table

_SILVER = "silver"


@dataclass(frozen=True)
class DailyGold:
    """A gold table by event date.

    Attributes:
        table: partitioned by ``event_date``.
        source: the silver table.
        compute: silver rows of the dates (and of the days before, see `days_back`) and the dates, to gold rows.
        days_back: how many earlier days of silver a date needs.
    """

    table: Table
    source: Table
    compute: Callable[[pl.LazyFrame, Sequence[date]], pl.DataFrame]
    days_back: int = 0

    def pending(self, lake: Lake) -> dict[date, int]:
        """The dates to make anew, each with the silver version that touched it last."""
        silver, gold = lake.table(self.source), lake.table(self.table)
        version = silver.version()
        if version is None:
            return {}
        touched = silver.touched_since(gold.transactions([_SILVER]).get(_SILVER))
        if touched is None:
            dates = silver.scan().select("event_date").unique().collect().to_series().to_list()
            touched = dict.fromkeys(dates, version)
        touched = self._with_followers(touched, silver)
        reflected = gold.transactions([_reflects(day) for day in touched])
        return {day: last for day, last in sorted(touched.items()) if reflected.get(_reflects(day), -1) < last}

    def refresh(self, lake: Lake, dates: Sequence[date]) -> int:
        """Replaces the rows of the given dates, and those only.

        Returns:
            The number of rows written.
        """
        gold = lake.table(self.table).ensure()
        silver = lake.table(self.source)
        version = silver.ensure().delta().version()
        pending = self.pending(lake)
        needed = {day - timedelta(days=back) for day in dates for back in range(self.days_back + 1)}
        rows = self.compute(silver.scan(version).filter(pl.col("event_date").is_in(sorted(needed))), sorted(dates))
        done = {_reflects(day): version for day in dates}
        if all(day in set(dates) for day in pending):
            done[_SILVER] = version
        listed = ", ".join(f"'{day.isoformat()}'" for day in dates)
        return gold.replace([rows], f"event_date IN ({listed})", transactions=done)

    def _with_followers(self, touched: dict[date, int], silver: LakeTable) -> dict[date, int]:
        if not self.days_back or not touched:
            return touched
        newest = silver.scan().select(pl.col("event_date").max()).collect().item()
        followers = (
            (day + timedelta(days=ahead), version)
            for day, version in touched.items()
            for ahead in range(self.days_back + 1)
        )
        found: dict[date, int] = {}
        for day, version in followers:
            if newest is not None and day <= newest:
                found[day] = max(version, found.get(day, -1))
        return found


@dataclass(frozen=True)
class DerivedGold:
    """A gold table that is made as a whole from another one."""

    table: Table
    source: Table
    compute: Callable[[pl.LazyFrame], pl.DataFrame]

    def refresh(self, lake: Lake) -> int:
        """Replaces all rows.

        Returns:
            The number of rows written.
        """
        return lake.table(self.table).ensure().replace([self.compute(lake.table(self.source).scan())], None)


def ranges(dates: Sequence[date]) -> list[tuple[date, date]]:
    """Dates as ranges of consecutive ones, first and last included."""
    found: list[tuple[date, date]] = []
    for day in sorted(dates):
        if found and day - found[-1][1] == timedelta(days=1):
            found[-1] = (found[-1][0], day)
        else:
            found.append((day, day))
    return found


def _reflects(day: date) -> str:
    return f"{_SILVER}/{day.isoformat()}"
