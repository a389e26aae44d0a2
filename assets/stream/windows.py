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
    columns = [entity, _TIME, *dict.fromkeys(window.column for window in windows)]
    rows = pl.concat(
        [
            known.select(*columns, pulled_at=pl.lit(None, new.schema["pulled_at"]), row=pl.lit(None, pl.Int64)),
            new.select(*columns, "pulled_at", row=pl.int_range(pl.len(), dtype=pl.Int64)),
        ]
    )
    # Twice as fast as sorting by both at once where readings come in the order of time.
    rows = rows.sort(_TIME, maintain_order=True).sort(entity, maintain_order=True)
    late = _late(rows, entity)
    means = rows.select("row", *(_mean(rows, window, entity, late) for window in windows)).drop_nulls("row")
    unset = pl.zeros(new.height, pl.Float64, eager=True)
    return pl.DataFrame([unset.scatter(means["row"], means[window.name]).alias(window.name) for window in windows])


def _mean(rows: pl.DataFrame, window: Window, entity: str, late: pl.DataFrame) -> pl.Series:
    sums = (
        rows.with_columns((pl.col(window.column) * SCALE).round().cast(pl.Int64).alias("value"))
        .rolling(_TIME, period=window.length, group_by=entity)
        .agg(total=pl.col("value").sum(), count=pl.len().cast(pl.Int64))
    )
    if late.height:
        sums = _without_unknown(sums.hstack(rows.select("pulled_at", "row")), late, window, entity)
    return sums.select((pl.col("total") / (pl.col("count") * SCALE)).alias(window.name)).to_series()


def _late(rows: pl.DataFrame, entity: str) -> pl.DataFrame:
    """Readings that arrived in a later micro-batch than a reading of a later time: some means must not contain them."""
    if rows["pulled_at"].drop_nulls().n_unique() < 2:
        return rows.clear()
    pulled = pl.col("pulled_at").fill_null(pl.lit(0).cast(rows.schema["pulled_at"]))
    earliest_from_here = pulled.reverse().cum_min().reverse().over(entity)
    return rows.with_columns(earliest=earliest_from_here).filter(pulled > pl.col("earliest").min().over(entity, _TIME))


def _without_unknown(sums: pl.DataFrame, late: pl.DataFrame, window: Window, entity: str) -> pl.DataFrame:
    unknown = (
        sums.lazy()
        .drop_nulls("row")
        .join_where(
            late.lazy().select(
                pl.col(entity).alias("late_entity"),
                pl.col(_TIME).alias("late_at"),
                pl.col("pulled_at").alias("late_pulled_at"),
                (pl.col(window.column) * SCALE).round().cast(pl.Int64).alias("late_value"),
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
