"""Rows in slices of time: what must hold of a day is decided without a day in memory."""

from collections.abc import Iterator
from itertools import pairwise

import polars as pl

ROWS = pl.len().cast(pl.Int64)


def slices(rows: pl.LazyFrame, column: str, most: int, weight: pl.Expr = ROWS) -> Iterator[pl.LazyFrame]:
    """The rows by time, some minutes of them at once; rows of one time are never apart.

    Args:
        rows: to cut; they are read anew for each slice.
        column: the time.
        most: what a slice weighs, and a minute's rows more.
        weight: of a minute's rows; by default their number.
    """
    time, weight_before = pl.col(column), pl.col("weight").cum_sum() - pl.col("weight")
    minutes = rows.group_by(start=time.dt.truncate("1m")).agg(weight=weight).sort("start").collect(engine="streaming")
    starts = minutes.group_by(weight_before // most, maintain_order=True).agg(pl.col("start").first())["start"]
    for first, following in pairwise([*starts, None]):
        yield rows.filter(time >= first, True if following is None else time < following)
