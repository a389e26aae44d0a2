"""Trailing means in event time, exact and the same in every order of arrival. Pure Polars.

Sums are kept in millionths of the column's unit as integers: floating sums depend on what was added before, so a
streamed and a rebuilt mean could fall on different sides of a threshold.
"""

from collections.abc import Sequence

import polars as pl

from assets.stream.contract import Window

SCALE = 1_000_000
_TIME = "measured_at"


def trailing_means(known: pl.DataFrame, new: pl.DataFrame, windows: Sequence[Window], entity: str) -> pl.DataFrame:
    """The means at each new reading over all readings known when it was evaluated.

    Args:
        known: earlier readings of the same entities: entity, ``measured_at``, the windows' columns.
        new: the same columns and ``pulled_at``, the instant of the micro-batch that evaluated the reading.
        windows: what to average.
        entity: the column that readings are grouped by.

    Returns:
        One Float64 column for each window, in the order of `new`.
    """
    values = list(dict.fromkeys(window.column for window in windows))
    columns = [entity, _TIME, *values]
    pulled_at = pl.Series("pulled_at", [None], dtype=new.schema["pulled_at"]).new_from_index(0, known.height)
    rows = pl.concat([known[columns], new[columns]]).hstack([pl.concat([pulled_at, new["pulled_at"]])])
    rows = rows.with_columns((pl.col(values) * SCALE).round().cast(pl.Int64), row=pl.int_range(pl.len()) - known.height)
    # Twice as fast as sorting by both at once where readings come in the order of time, as nearly all do.
    if not rows[_TIME].is_sorted():
        rows = rows.sort(_TIME, maintain_order=True)
    rows = rows.sort(entity, maintain_order=True)
    late = _late(rows, entity)
    is_new = rows["row"] >= 0
    place, unset = rows["row"].filter(is_new), pl.zeros(new.height, pl.Float64, eager=True)
    return pl.DataFrame(
        [
            unset.scatter(place, _mean(rows, window, entity, late).filter(is_new)).alias(window.name)
            for window in windows
        ]
    )


def _mean(rows: pl.DataFrame, window: Window, entity: str, late: pl.DataFrame) -> pl.Series:
    sums = rows.rolling(_TIME, period=window.length, group_by=entity).agg(
        total=pl.col(window.column).sum(), count=pl.len().cast(pl.Int64)
    )
    if late.height:
        sums = _without_unknown(sums.hstack(rows[["pulled_at", "row"]]), late, window, entity)
    return sums["total"] / (sums["count"] * SCALE)


def _late(rows: pl.DataFrame, entity: str) -> pl.DataFrame:
    """Readings that arrived in a later micro-batch than a reading of a later time: some means must not contain them."""
    if rows["pulled_at"].min() == rows["pulled_at"].max():
        return rows.clear()
    pulled = pl.col("pulled_at").fill_null(pl.lit(0).cast(rows.schema["pulled_at"]))
    earliest_from_here = pulled.reverse().cum_min().reverse().over(entity)
    return rows.with_columns(earliest=earliest_from_here).filter(pulled > pl.col("earliest").min().over(entity, _TIME))


def _without_unknown(sums: pl.DataFrame, late: pl.DataFrame, window: Window, entity: str) -> pl.DataFrame:
    unknown = (
        sums.lazy()
        .filter(pl.col("row") >= 0)
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
        .agg(unknown_total=pl.col("late_value").sum(), unknown_count=pl.len().cast(pl.Int64))
        .collect()
    )
    return sums.join(unknown, on="row", how="left", maintain_order="left").with_columns(
        pl.col("total") - pl.col("unknown_total").fill_null(0),
        pl.col("count") - pl.col("unknown_count").fill_null(0),
    )
