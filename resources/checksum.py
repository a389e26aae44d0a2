"""A checksum of rows that says nothing of their order, and that any later version can compute again.

It is the sum, modulo 2 to the power of 128, of XXH3 (128 bits) of each row. A row is hashed as little-endian integers
of 64 bits: first a bit for each null, the least significant one for the first column, then the columns by name. A
number is itself, a Float64 its bits, a date its days and an instant its microseconds since 1970; of a text or of bytes
it is XXH3 (64 bits). A null counts as 0. It finds mistakes, not forgers: those are found by the SHA-256 of files.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import polars_hash as plh
from numpy.typing import NDArray

_MODULUS = 1 << 128
_MOST_COLUMNS = 63
_TEXTS = (pl.String, pl.Binary)
_NUMBERS = (pl.Boolean, pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.Date, pl.Datetime)


@dataclass
class Tally:
    """How many rows were added, and the sum of their hashes."""

    rows: int = 0
    total: int = 0

    def add(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Counts rows in, and gives them back."""
        if rows.height:
            self.rows += rows.height
            self.total = (self.total + int(_hashes(rows).sum())) % _MODULUS
        return rows

    @property
    def checksum(self) -> str:
        """As 32 hexadecimal digits."""
        return f"{self.total:032x}"


def _hashes(rows: pl.DataFrame) -> pl.Series:
    names = sorted(rows.columns)
    if len(names) > _MOST_COLUMNS:
        raise TypeError(f"No checksum of more than {_MOST_COLUMNS} columns: the nulls of a row are bits of one number.")
    nulls = np.zeros(rows.height, np.int64)
    for place, name in enumerate(names):
        if rows[name].null_count():
            nulls |= rows[name].is_null().to_numpy().astype(np.int64) << place
    bytes_ = (
        np.column_stack([nulls, *(_numbers(rows[name]) for name in names)]).astype("<i8", copy=False).view(np.uint8)
    )
    packed = pl.Series("row", bytes_).cast(pl.List(pl.UInt8)).cast(pl.Binary)
    return packed.to_frame().select(plh.col("row").nchash.xxh3_128()).to_series()


def _numbers(column: pl.Series) -> NDArray[np.int64]:
    """One integer for each value."""
    found: Any
    if isinstance(column.dtype, _TEXTS):
        # The plugin is asked on a frame: a Series does not have its methods.
        texts = column.alias("text").cast(pl.Binary).to_frame()
        found = texts.select(plh.col("text").nchash.xxh3_64()).to_series().fill_null(0).to_numpy().view(np.int64)
    elif isinstance(column.dtype, pl.Float64):
        found = column.fill_null(0.0).to_numpy().view(np.int64)
    elif isinstance(column.dtype, _NUMBERS):
        found = column.to_physical().cast(pl.Int64).fill_null(0).to_numpy()
    else:
        raise TypeError(f"No checksum of column '{column.name}': its type {column.dtype} has no rule here.")
    return np.asarray(found, np.int64)
