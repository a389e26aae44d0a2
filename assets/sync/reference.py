"""Rows of reference data as the store has them, and back. Pure Polars.

The store has the original's columns and behind them what reference data say besides, so that all of it may be edited
there. Two things differ: a device names its manufacturer by id, and a subscription says in columns of their own which
patient or which group it is about.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import polars as pl

from assets.reference.cells import CellError
from assets.reference.tables import (
    DEVICES,
    MANUFACTURERS,
    PATIENTS,
    SUBSCRIBERS,
    SUBSCRIPTIONS,
    Reference,
    Row,
)

CHANGED_BY = "store"
"""Who versions are by that come from the store."""

Names = Mapping[int, str]
"""The names of manufacturers by their ids."""


def _same(rows: pl.DataFrame, _: Names) -> pl.DataFrame:
    return rows


def _same_row(row: Row, _: Row | None, __: Names) -> dict[str, Any]:
    return dict(row)


@dataclass(frozen=True, eq=False)
class ReferenceFeed:
    """A table of the store that holds what a table of reference data says now, and may be edited.

    Attributes:
        table: of the store.
        reference: the table of the lake.
        renamed: columns of the lake that have another name in the store.
        to_store: rows of the lake, renamed, to rows of the store.
        to_lake: a row of the store, what the lake holds of it, and the names of manufacturers to a row of the lake.
        needs_names: whether names of manufacturers are needed for it.
    """

    table: str
    reference: Reference
    renamed: Mapping[str, str]
    to_store: Callable[[pl.DataFrame, Names], pl.DataFrame] = _same
    to_lake: Callable[[Row, Row | None, Names], dict[str, Any]] = _same_row
    needs_names: bool = False

    def stored(self, held: pl.DataFrame, names: Names) -> pl.DataFrame:
        """What holds in the lake as rows of the store, without `edited_at`."""
        return self.to_store(held.select([*self.reference.cells]).rename(dict(self.renamed)), names)

    def row_of_lake(self, row: Row, held: Row | None, names: Names, today: date) -> dict[str, Any]:
        """A row of the store as one of the lake, once all of it is right.

        Args:
            row: of the store.
            held: what the lake holds of it.
            names: of manufacturers.
            today: in UTC; nobody is born later.

        Raises:
            EditError: some of it is wrong.
        """
        back = {theirs: ours for ours, theirs in self.renamed.items()}
        found = self.to_lake({back.get(name, name): value for name, value in row.items()}, held, names)
        checked = {name: self._checked(name, found.get(name)) for name in self.reference.cells}
        for name, error in self.reference.wrong(checked, today):
            raise EditError(self.renamed.get(name, name), error)
        return checked

    def _checked(self, name: str, value: Any) -> Any:
        text = "" if value is None else value.isoformat() if isinstance(value, date | datetime) else str(value).strip()
        try:
            if text:
                return self.reference.cells[name](text)
            if name in self.reference.required:
                raise CellError("an empty value", "write one, since every row needs one here")
        except CellError as error:
            raise EditError(self.renamed.get(name, name), error) from error
        return None


class EditError(ValueError):
    """A value that somebody wrote into the store is none that reference data may have.

    Attributes:
        column: of the store.
    """

    def __init__(self, column: str, error: CellError) -> None:
        super().__init__(f"column {column}: {error.found}; {error.remedy}")
        self.column = column


def _device_to_store(rows: pl.DataFrame, names: Names) -> pl.DataFrame:
    ids = {name: number for number, name in sorted(names.items(), reverse=True)}
    number = pl.col("manufacturer").replace_strict(ids, default=None, return_dtype=pl.Int64)
    return rows.with_columns(manufacturer_id=number).drop("manufacturer")


def _device_to_lake(row: Row, held: Row | None, names: Names) -> dict[str, Any]:
    number, before = row["manufacturer_id"], held["manufacturer"] if held else None
    if number is None:
        # A name that no manufacturer has cannot be said in the store, so it stays.
        return {**row, "manufacturer": None if before in names.values() else before}
    # Several manufacturers may have one name.
    return {**row, "manufacturer": names.get(number, before)}


def _subscription_to_store(rows: pl.DataFrame, _: Names) -> pl.DataFrame:
    kind, who = (
        pl.col("scope").str.extract("^(patient|group):"),
        pl.col("scope").str.extract("^(?:patient|group):(.*)$"),
    )
    return rows.with_columns(
        patient_id=pl.when(kind == "patient").then(who).cast(pl.Int64, strict=False),
        group_name=pl.when(kind == "group").then(who),
    ).drop("scope")


def _subscription_to_lake(row: Row, _: Row | None, __: Names) -> dict[str, Any]:
    patient, group = row["patient_id"], row["group_name"]
    if (patient is None) == (not group):
        raise EditError(
            "patient_id", CellError("neither a patient nor a group, or both", "write patient_id or group_name")
        )
    return {**row, "scope": f"group:{group}" if patient is None else f"patient:{patient}"}


REFERENCE_FEEDS = (
    ReferenceFeed("Manufacturer", MANUFACTURERS, {}),
    ReferenceFeed("Patient", PATIENTS, {"groups": "patient_groups"}),
    ReferenceFeed("DeviceStaticInfo", DEVICES, {}, _device_to_store, _device_to_lake, needs_names=True),
    ReferenceFeed("Subscriber", SUBSCRIBERS, {"channels": "contact_details"}),
    ReferenceFeed("SubscribedPatients", SUBSCRIPTIONS, {}, _subscription_to_store, _subscription_to_lake),
)
"""Manufacturers come first: devices refer to them."""


def differing(wanted: pl.DataFrame, stored: pl.DataFrame, key: str) -> Iterator[int]:
    """The keys of wanted rows that are not stored, or with other values."""
    columns = wanted.columns
    compared = wanted.join(stored.select(columns).with_columns(_stored=pl.lit(True)), on=key, how="left", suffix="_now")
    others = [name for name in columns if name != key]
    is_same = pl.all_horizontal(pl.col(name).eq_missing(pl.col(f"{name}_now")) for name in others)
    yield from compared.filter(pl.col("_stored").is_null() | ~is_same)[key].to_list()
