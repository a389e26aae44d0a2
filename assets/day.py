"""How an event date is cut into slots of a quarter of an hour. Pure: constants and expressions only.

Gold is summed up slot by slot, so a new reading costs the slot in which it was measured, not the whole day. Silver's
commits name slots by these numbers, hence another length needs another name for them; see `resources.lake.EVENT_SLOTS`.
"""

from typing import Final

import polars as pl

SLOTS_PER_DAY: Final = 96
US_PER_DAY: Final = 86_400 * 1_000_000
SLOT_US: Final = US_PER_DAY // SLOTS_PER_DAY

MICRO: Final = 1_000_000
"""Values are summed as integer millionths of their unit, so that no order of addition changes the sum."""

_LIMB: Final = 1 << 32


def slot() -> pl.Expr:
    """The number of the slot in which a reading was measured, from 0."""
    return (pl.col("measured_at").dt.epoch("us") % US_PER_DAY // SLOT_US).alias("slot")


def millionths(column: str) -> pl.Expr:
    """A column of numbers in whole millionths."""
    return (pl.col(column) * MICRO).round().cast(pl.Int64)


def limbs(product: pl.Expr, name: str) -> tuple[pl.Expr, pl.Expr]:
    """The sum of a group's products in two columns, ``<name>_high`` and ``<name>_low``: in one it would overflow.

    Args:
        product: below 2⁶³ in each row.
        name: of the sum.
    """
    return (product // _LIMB).sum().alias(f"{name}_high"), (product % _LIMB).sum().alias(f"{name}_low")


def whole(name: str) -> pl.Expr:
    """The sum that `limbs` cut, as a 128-bit integer."""
    return wide(f"{name}_high") * _LIMB + wide(f"{name}_low")


def wide(column: str) -> pl.Expr:
    """A column as 128-bit integers."""
    return pl.col(column).cast(pl.Int128)
