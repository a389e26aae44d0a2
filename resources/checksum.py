"""A checksum of rows that says nothing of their order, and that any later version can compute again.

It is the sum, modulo 2 to the power of 128, of XXH3 (128 bits) of each row. A row is hashed as little-endian integers
of 64 bits: first a bit for each null, the least significant one for the first column and 63 to an integer, then the
columns by name. A number is itself, a Float64 its bits, a date its days and an instant its microseconds since 1970; a
decimal is the two halves of its digits as an integer, the lower one first; of a text or of bytes it is XXH3 (64 bits).
A null counts as 0. It finds mistakes, not forgers: those are found by the SHA-256 of files.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import polars_hash as plh
from numpy.typing import NDArray

_MODULUS = 1 << 128
_COLUMNS_OF_NULLS = 63
# Rows are hashed in a form that takes several times their memory.
_ROWS_TOGETHER = 16_384
_TEXTS = (pl.String, pl.Binary)
_NUMBERS = (pl.Boolean, pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.Date, pl.Datetime)


@dataclass
class Tally:
    """How many rows were added, and the sum of their hashes."""

    rows: int = 0
    total: int = 0

    def add(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Counts rows in, and gives them back."""
        self.rows += rows.height
        for some in rows.iter_slices(_ROWS_TOGETHER) if rows.height else ():
            self.total = (self.total + int(_hashes(some).sum())) % _MODULUS
        return rows

    @property
    def checksum(self) -> str:
        """As 32 hexadecimal digits."""
        return f"{self.total:032x}"


def _hashes(rows: pl.DataFrame) -> pl.Series:
    names = sorted(rows.columns)
    nulls = np.zeros((rows.height, max(1, -(-len(names) // _COLUMNS_OF_NULLS))), np.int64)
    for place, name in enumerate(names):
        if rows[name].null_count():
            number, bit = divmod(place, _COLUMNS_OF_NULLS)
            nulls[:, number] |= rows[name].is_null().to_numpy().astype(np.int64) << bit
    # Polars is asked once for all columns: each call costs as much as some thousand rows.
    numbers = rows.select(_numbers(name, rows.schema[name]) for name in names)
    bytes_ = np.column_stack([nulls, *map(_of_64_bits, numbers)]).astype("<i8", copy=False).view(np.uint8)
    packed = pl.Series("row", bytes_).cast(pl.List(pl.UInt8)).cast(pl.Binary)
    return packed.to_frame().select(plh.col("row").nchash.xxh3_128()).to_series()


def _numbers(name: str, type_: pl.DataType) -> pl.Expr:
    """A number for each value of a column."""
    if isinstance(type_, pl.Decimal):
        return pl.col(name).fill_null(0)
    if isinstance(type_, _TEXTS):
        text: Any = plh.col(name).cast(pl.Binary)
        hashed: pl.Expr = text.nchash.xxh3_64()
        return hashed.fill_null(0)
    if isinstance(type_, pl.Float64):
        return pl.col(name).fill_null(0.0)
    if isinstance(type_, _NUMBERS):
        return pl.col(name).to_physical().cast(pl.Int64).fill_null(0)
    raise TypeError(f"No checksum of column '{name}': its type {type_} has no rule here.")


def _of_64_bits(numbers: pl.Series) -> NDArray[np.int64]:
    """One integer for each number, or two for a decimal."""
    if isinstance(numbers.dtype, pl.Decimal):
        values = numbers.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
        halves = np.frombuffer(values.buffers()[1], np.int64).reshape(-1, 2)
        return halves[values.offset : values.offset + len(values)]
    return np.asarray(numbers.to_numpy().view(np.int64), np.int64)
