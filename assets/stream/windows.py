"""Trailing means in event time, exact and the same in every order of arrival. Pure Polars and NumPy.

Sums are kept in millionths of the column's unit as integers: floating sums depend on what was added before, so a
streamed and a rebuilt mean could fall on different sides of a threshold.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from assets.stream.contract import MICROSECOND, Window

SCALE = 1_000_000

_Integers = NDArray[np.int64]
_TIME = "measured_at"


def trailing_means(known: pl.DataFrame, new: pl.DataFrame, windows: Sequence[Window], entity: str) -> pl.DataFrame:
    """The means at each new reading over all readings known when it was evaluated.

    Args:
        known: earlier readings of the same entities: entity, ``measured_at``, the windows' columns.
        new: the same columns and ``pulled_at``, the instant of the micro-batch that evaluated the reading.
        windows: what to average; their columns hold no nulls.
        entity: the column that readings are grouped by.

    Returns:
        One Float64 column for each window, in the order of `new`.
    """
    values = list(dict.fromkeys(window.column for window in windows))
    columns = [entity, _TIME, *values]
    rows = pl.concat([known[columns], new[[*columns, "pulled_at"]]], how="diagonal").with_row_index("row")
    rows = rows.with_columns(*((rows[value] * SCALE).round().cast(pl.Int64) for value in values))
    # Twice as fast as sorting by both at once where readings come in the order of time, as nearly all do.
    if not rows[_TIME].is_sorted():
        rows = rows.sort(_TIME, maintain_order=True)
    rows = rows.sort(entity, maintain_order=True)
    late = _late(rows, entity)
    row = rows["row"].to_numpy()
    at = np.flatnonzero(row >= known.height)
    place = row[at] - known.height
    means = {}
    for window in windows:
        totals, counts = np.empty((2, new.height), np.int64)
        totals[place], counts[place] = _sums(rows, at, window, entity)
        if late.height:
            unknown = _unknown(rows, late, window, entity)
            place_of_unknown = unknown["row"].to_numpy() - known.height
            totals[place_of_unknown] -= unknown["total"].to_numpy()
            counts[place_of_unknown] -= unknown["count"].to_numpy()
        means[window.name] = totals / (counts * SCALE)
    return pl.DataFrame(means)


def _sums(rows: pl.DataFrame, at: _Integers, window: Window, entity: str) -> tuple[_Integers, _Integers]:
    """Sums and counts of the readings in the windows of the rows `at`; `rows` are sorted by entity, then time."""
    length = window.length // MICROSECOND
    times, entities = rows[_TIME].to_physical().to_numpy(), rows[entity].rle_id().to_numpy()
    # One axis for all entities: where the next one begins it goes on by a window's length, so that no window reaches
    # over. Nor is any other gap longer than that, so that the axis cannot overflow.
    steps = np.minimum(np.diff(times, prepend=times[:1]), length)
    steps[1:][entities[1:] != entities[:-1]] = length
    axis = np.cumsum(steps)
    ends, begins = (np.searchsorted(axis, axis[at] - back, side="right") for back in (0, length))
    running = np.cumsum(np.append(0, rows[window.column].to_numpy()))
    return running[ends] - running[begins], ends - begins


def _late(rows: pl.DataFrame, entity: str) -> pl.DataFrame:
    """Readings that arrived in a later micro-batch than a reading of a later time: some means must not contain them."""
    if rows["pulled_at"].min() == rows["pulled_at"].max():
        return rows.clear()
    pulled = pl.col("pulled_at").fill_null(pl.lit(0).cast(rows.schema["pulled_at"]))
    earliest_from_here = pulled.reverse().cum_min().reverse().over(entity)
    return rows.with_columns(earliest=earliest_from_here).filter(pulled > pl.col("earliest").min().over(entity, _TIME))


def _unknown(rows: pl.DataFrame, late: pl.DataFrame, window: Window, entity: str) -> pl.DataFrame:
    """For each new row that has some: total and count of the late readings in its window that came after it."""
    return (
        rows.lazy()
        .filter(pl.col("pulled_at").is_not_null())
        .join_where(
            late.lazy().select(
                pl.col(entity).alias("late_entity"),
                pl.col(_TIME).alias("late_at"),
                pl.col("pulled_at").alias("late_pulled_at"),
                pl.col(window.column).alias("late_value"),
            ),
            pl.col(entity) == pl.col("late_entity"),
            pl.col("late_at") <= pl.col(_TIME),
            pl.col("late_at") > pl.col(_TIME) - window.length,
            pl.col("late_pulled_at") > pl.col("pulled_at"),
        )
        .group_by("row")
        .agg(total=pl.col("late_value").sum(), count=pl.len().cast(pl.Int64))
        .collect()
    )
