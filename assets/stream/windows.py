"""Trailing means and last known values in event time, the same in every order of arrival. Pure Polars and NumPy.

Sums are kept in millionths of the column's unit as integers: floating sums depend on what was added before, so a
streamed and a rebuilt mean could fall on different sides of a threshold.

Readings are put in the order of entity, time and arrival. A window is a stretch of them, found by binary search:

```
              begin           end
  entity 1 ───┬────────────────┬──── entity 2 ──▶
              └ t - length     └ t, with all readings of that instant
```

Several micro-batches may be evaluated at once. Then a stretch may hold readings that were not known yet: they are taken
out of sums again, and passed over where the last value is looked for.
"""

from collections.abc import Sequence
from datetime import timedelta
from functools import cached_property
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from assets.stream.contract import MICROSECOND, Last, Window

SCALE = 1_000_000

_Integers = NDArray[np.int64]
_TIME = "measured_at"


def trailing(known: pl.DataFrame, new: pl.DataFrame, windows: Sequence[Window | Last], entity: str) -> pl.DataFrame:
    """The windows at each new reading over all readings known when it was evaluated.

    Args:
        known: earlier readings of the same entities: entity, ``measured_at``, the windows' columns.
        new: the same columns and ``pulled_at``, the instant of the micro-batch that evaluated the reading.
        windows: what to average and what to carry forward.
        entity: the column that readings are grouped by.

    Returns:
        One Float64 column for each mean, two columns for each last value: the value and its age; in the order of `new`.
    """
    readings = _Readings(known, new, windows, entity)
    found: list[pl.Series] = []
    for window in windows:
        found += [_mean(readings, window)] if isinstance(window, Window) else _last(readings, window)
    return pl.DataFrame(found)


class _Stretch(NamedTuple):
    """For each new reading, in the order of rows, where its window begins and ends."""

    begins: _Integers
    ends: _Integers


class _Readings:
    """Known and new readings, sorted by entity, then time."""

    def __init__(self, known: pl.DataFrame, new: pl.DataFrame, windows: Sequence[Window | Last], entity: str) -> None:
        averaged = list(dict.fromkeys(window.column for window in windows if isinstance(window, Window)))
        carried = list(dict.fromkeys(window.column for window in windows if isinstance(window, Last)))
        columns = list(dict.fromkeys([entity, _TIME, *averaged, *carried]))
        rows = pl.concat([known[columns], new[[*columns, "pulled_at"]]], how="diagonal").with_row_index("row")
        self.millionths = {each: f"{each} in millionths" if each in carried else each for each in averaged}
        """By column the one that holds it as integers, which takes its place unless it is carried forward, too."""
        rows = rows.with_columns(
            *((rows[each] * SCALE).round().cast(pl.Int64).alias(name) for each, name in self.millionths.items())
        )
        if carried and not new["pulled_at"].is_sorted():
            rows = rows.sort("pulled_at", maintain_order=True)
        # Twice as fast as sorting by both at once where readings come in the order of time, as nearly all do.
        if not rows[_TIME].is_sorted():
            rows = rows.sort(_TIME, maintain_order=True)
        self.rows = rows.sort(entity, maintain_order=True)
        self.entity = entity
        row = self.rows["row"].to_numpy()
        self.known = known.height
        self.at = np.flatnonzero(row >= known.height)
        """The places of new readings among the rows."""
        self.place = row[self.at] - known.height
        """The places of the same readings in `new`."""
        self.times = self.rows[_TIME].to_physical().to_numpy()
        self.entities = self.rows[entity].rle_id().to_numpy()
        self._stretches: dict[timedelta, _Stretch] = {}

    def stretch(self, length: timedelta) -> _Stretch:
        """The windows of a length."""
        if length not in self._stretches:
            self._stretches[length] = self._stretch(length // MICROSECOND)
        return self._stretches[length]

    def _stretch(self, length: int) -> _Stretch:
        # One axis for all entities: where the next one begins it goes on by a window's length, so that no window
        # reaches over. Nor is any other gap longer than that, so that the axis cannot overflow.
        steps = np.minimum(np.diff(self.times, prepend=self.times[:1]), length)
        steps[1:][self.entities[1:] != self.entities[:-1]] = length
        axis = np.cumsum(steps)
        ends, begins = (np.searchsorted(axis, axis[self.at] - back, side="right") for back in (0, length))
        return _Stretch(begins, ends)

    @cached_property
    def late(self) -> pl.DataFrame:
        """Readings of a later micro-batch than one of a later time: some means must not contain them."""
        rows, entity = self.rows, self.entity
        if not self.has_several_micro_batches:
            return rows.clear()
        pulled = pl.col("pulled_at").fill_null(pl.lit(0).cast(rows.schema["pulled_at"]))
        earliest_from_here = pulled.reverse().cum_min().reverse().over(entity)
        rows = rows.with_columns(earliest=earliest_from_here)
        return rows.filter(pulled > pl.col("earliest").min().over(entity, _TIME))

    @cached_property
    def has_several_micro_batches(self) -> bool:
        """Whether the new readings were pulled at different times."""
        pulled = self.rows["pulled_at"]
        return bool(pulled.min() != pulled.max())

    @cached_property
    def pulled(self) -> _Integers:
        """When each row was pulled; before all others where it was known before."""
        return self.rows["pulled_at"].to_physical().fill_null(np.iinfo(np.int64).min).to_numpy()

    @cached_property
    def instants(self) -> _Integers | None:
        """The number of each row's entity and instant; None where no two rows share one."""
        is_other = (np.diff(self.times) != 0) | (np.diff(self.entities.astype(np.int64)) != 0)
        return None if is_other.all() else np.cumsum(np.append(0, is_other))

    def in_order_of_new(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values of the rows `at`, in the order of `new`."""
        found = np.empty_like(values)
        found[self.place] = values
        return found


def _mean(readings: _Readings, window: Window) -> pl.Series:
    column = readings.rows[readings.millionths[window.column]]
    begins, ends = readings.stretch(window.length)
    has_nulls = column.has_nulls()
    running = np.cumsum(np.append(0, (column.fill_null(0) if has_nulls else column).to_numpy()))
    totals, counts = running[ends] - running[begins], ends - begins
    if has_nulls:
        number = np.cumsum(np.append(0, column.is_not_null().to_numpy()))
        counts = number[ends] - number[begins]
    if readings.late.height:
        unknown = _unknown(readings, window)
        order = np.searchsorted(readings.at, unknown["place"].to_numpy())
        totals[order] -= unknown["total"].to_numpy()
        counts[order] -= unknown["count"].to_numpy()
    if not has_nulls:
        return pl.Series(window.name, readings.in_order_of_new(totals / (counts * SCALE)))
    means = np.divide(totals, counts * SCALE, out=np.full(len(totals), np.nan), where=counts > 0)
    return pl.Series(window.name, readings.in_order_of_new(means)).fill_nan(None)


def _unknown(readings: _Readings, window: Window) -> pl.DataFrame:
    """For each new row that has some: total and count of the late readings in its window that came after it."""
    entity, value = readings.entity, readings.millionths[window.column]
    return (
        readings.rows.lazy()
        .with_row_index("place")
        .filter(pl.col("pulled_at").is_not_null())
        .join_where(
            readings.late.lazy().select(
                pl.col(entity).alias("late_entity"),
                pl.col(_TIME).alias("late_at"),
                pl.col("pulled_at").alias("late_pulled_at"),
                pl.col(value).alias("late_value"),
            ),
            pl.col(entity) == pl.col("late_entity"),
            pl.col("late_at") <= pl.col(_TIME),
            pl.col("late_at") > pl.col(_TIME) - window.length,
            pl.col("late_pulled_at") > pl.col("pulled_at"),
        )
        .group_by("place")
        .agg(total=pl.col("late_value").sum(), count=pl.col("late_value").count().cast(pl.Int64))
        .collect()
    )


def _last(readings: _Readings, window: Last) -> list[pl.Series]:
    column = readings.rows[window.column]
    begins, ends = readings.stretch(window.length)
    is_known = column.is_not_null().to_numpy()
    newest = np.maximum.accumulate(np.where(is_known, np.arange(len(column)), -1))
    """The newest row with a value up to each row."""
    found = newest[ends - 1]
    if readings.has_several_micro_batches:
        _pass_over_unknown(readings, found, newest, begins)
    has_value = found >= begins
    found[~has_value] = 0
    age = (readings.times[readings.at] - readings.times[found]) / SCALE
    order = np.empty_like(readings.place)
    order[readings.place] = np.arange(len(order))
    places = pl.Series(found[order]).set(pl.Series(~has_value[order]), None)
    ages = pl.Series(window.age_name, age[order]).set(places.is_null(), None)
    return [_of_instants(readings, column, window).gather(places).alias(window.name), ages]


def _pass_over_unknown(readings: _Readings, found: _Integers, newest: _Integers, begins: _Integers) -> None:
    """Goes back, step by step, from readings that came after the one that is evaluated."""
    pulled, own = readings.pulled, readings.pulled[readings.at]
    active = np.flatnonzero((found >= begins) & (pulled[found] > own))
    while active.size:
        at = found[active]
        found[active] = np.where(at > 0, newest[at - 1], -1)
        is_unknown = pulled[found[active]] > own[active]
        active = active[(found[active] >= begins[active]) & is_unknown]


def _of_instants(readings: _Readings, column: pl.Series, window: Last) -> pl.Series:
    """The values; of readings of one instant each row has the lowest or highest of those that came up to it."""
    if (instants := readings.instants) is None:
        return column
    values = column.drop_nulls().unique().sort(descending=window.of_equals == "lowest")
    if values.is_empty():
        return column
    ranks = pl.Series(np.arange(1, len(values) + 1))
    rank = column.replace_strict(values, ranks, default=0, return_dtype=pl.Int64).to_numpy()
    # An instant's number outweighs every rank, so a running maximum begins anew with each instant.
    best = np.maximum.accumulate(instants * (len(values) + 1) + rank) % (len(values) + 1)
    return values.gather(np.maximum(best - 1, 0))
