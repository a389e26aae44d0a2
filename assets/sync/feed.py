"""What it is to fill a table of the store from a stream. Pure declarations.

A row of the store has the columns that the feed makes, `ingest_date` among them: by it a replaced day replaces its
rows, and a day of the store is compared with that of the lake.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

import polars as pl

from assets.stream.contract import POSITION, Contract

Rows = Mapping[str, pl.LazyFrame]
"""Rows of silver and of its children by role, all of some readings."""


@dataclass(frozen=True, eq=False)
class Feed:
    """A table of the store with a row for each row of silver.

    Attributes:
        table: of the store.
        contract: the stream.
        rows: rows of silver, and alerts near them, to rows of the store.
        key: the columns that tell rows of the store apart.
        at: the column by which old rows are removed.
        alerts_before: how long before a reading alerts are looked at; None where they are not needed.
    """

    table: str
    contract: Contract
    rows: Callable[[pl.DataFrame, pl.DataFrame], pl.DataFrame]
    key: tuple[str, ...]
    at: str = "timestamp"
    alerts_before: timedelta | None = None


@dataclass(frozen=True, eq=False)
class VersionedFeed:
    """A table of the store with some rows for each thing that silver has versions of, in its current version.

    Attributes:
        table: of the store.
        contract: the stream; it declares `versions`.
        rows: rows of some versions and their children to rows of the store.
        key: the columns that tell rows of the store apart.
        entity: the column of the store that says of which thing a row is.
        name_of: the contract's entity, as the store has it.
        weight: of a row of silver, how many rows of the store are made of it at most.
        at: the column by which old rows are removed.
    """

    table: str
    contract: Contract
    rows: Callable[[Rows], pl.LazyFrame]
    key: tuple[str, ...]
    entity: str
    name_of: pl.Expr
    weight: pl.Expr
    at: str = "ingest_date"


AnyFeed = Feed | VersionedFeed

instant = pl.col("measured_at").dt.replace_time_zone(None)
"""The time of a reading as the store has instants: in UTC, without a zone."""


def version_key(contract: Contract) -> pl.Expr:
    """A text for each version of a thing; of two versions the current one has the greater text.

    It is made of the columns by which the contract orders versions, unknown values first, and then of the position.
    """
    parts = [_ordered(pl.col(name).to_physical()) for name in contract.versions]
    parts += [_ordered(pl.col(name).fill_null(0) if name == "hub_epoch" else pl.col(name)) for name in POSITION]
    return pl.concat_str(parts, separator="/")


def _ordered(number: pl.Expr) -> pl.Expr:
    """Whole numbers as texts of one length in the same order; a null comes before all."""
    # The first digit tells the sign, so that the others are those of a number that is not negative.
    is_negative = number < 0
    digits = pl.when(is_negative).then(number + (2**62) + (2**62)).otherwise(number).cast(pl.String).str.zfill(19)
    sign = pl.when(number.is_null()).then(pl.lit("0")).when(is_negative).then(pl.lit("1")).otherwise(pl.lit("2"))
    return pl.concat_str([sign, digits.fill_null("0" * 19)])


def kept(rows: pl.DataFrame, at: str, kept_from: date | None) -> pl.DataFrame:
    """Rows that are not older than a date; all where it is None."""
    if kept_from is None:
        return rows
    return rows.filter(pl.col(at).cast(pl.Date) >= kept_from)
