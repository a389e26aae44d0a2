"""What a load adds: the versions by which its rows differ from those that hold. Pure."""

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

import polars as pl

from assets.bitemporal import holding
from assets.reference.tables import Reference


class Changes(NamedTuple):
    """What a load adds to a table.

    Attributes:
        rows: the versions.
        added: how many things did not hold before.
        changed: how many have other values.
        ended: how many do not hold any more.
        unchanged: how many rows equal what holds, so that they add nothing.
    """

    rows: pl.DataFrame
    added: int
    changed: int
    ended: int
    unchanged: int


def changes(
    reference: Reference,
    versions: pl.DataFrame,
    rows: pl.DataFrame,
    *,
    valid_from: datetime,
    known_at: datetime,
    changed_by: str | None,
    replaces: bool = False,
    ending: Collection[int] = (),
) -> Changes:
    """Compares rows with the versions that hold at `valid_from`.

    Args:
        reference: the table.
        versions: all of its rows.
        rows: one for each thing, with the columns of a file.
        valid_from: from when they hold.
        known_at: when they are loaded; later than that of every version.
        changed_by: who loads them.
        replaces: whether what holds then and is not among the rows ends.
        ending: keys of things that end, as far as they hold.
    """
    key, columns = [*reference.keys], [*reference.cells]
    held = holding(versions, key, valid_from)[columns].with_columns(is_held=pl.lit(True))
    compared = rows.join(held, on=key, how="left", suffix="_held", maintain_order="left")
    is_held = compared["is_held"].fill_null(False)
    held = held.drop("is_held")
    equal = (pl.col(name).eq_missing(pl.col(f"{name}_held")) for name in reference.attributes)
    is_same = compared.select(pl.all_horizontal(*equal)).to_series() & is_held
    new, changed = rows.filter(~is_same), int((is_held & ~is_same).sum())
    others = held.join(rows, on=key, how="anti")
    # Only tables of one key end things by it.
    ended = others if replaces else others.filter(pl.col(key[0]).is_in([*ending])) if ending else others.clear()
    added = pl.concat(
        [
            new.with_columns(is_deleted=pl.lit(False)),
            ended.select(key).with_columns(is_deleted=pl.lit(True)),
        ],
        how="diagonal",
    )
    schema = reference.table.schema
    of_load = {"valid_from": valid_from, "known_at": known_at, "changed_by": changed_by}
    complete = added.with_columns(pl.lit(value, schema[name]).alias(name) for name, value in of_load.items())
    return Changes(complete[schema.names()], new.height - changed, changed, ended.height, int(is_same.sum()))
