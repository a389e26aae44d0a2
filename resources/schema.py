"""How the columns of a Delta table differ from those of its contract. What follows from it belongs to `resources.lake`.

Columns are compared by name and Delta type; their order says nothing. Delta's own nullability says nothing either:
every column of every table is nullable there, and the contract tells which ones hold a value in every row.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import polars as pl
import pyarrow as pa
from deltalake import DeltaTable, Field
from deltalake import Schema as DeltaSchema
from deltalake.schema import PrimitiveType

from resources.table import Table


@dataclass(frozen=True)
class Difference:
    """What a table's columns have to become to be those of the contract; false where they are.

    Attributes:
        missing: columns of the contract that the table does not have.
        surplus: columns of the table that the contract does not have.
        retyped: columns whose types differ: the table's type and the contract's.
        partitions: the partition columns of the table and of the contract, where they differ.
    """

    missing: tuple[Field, ...]
    surplus: tuple[Field, ...]
    retyped: Mapping[str, tuple[str, str]]
    partitions: tuple[list[str], list[str]] | None

    def __bool__(self) -> bool:
        return bool(self.missing or self.surplus or self.retyped or self.partitions)

    @property
    def only_adds(self) -> bool:
        """Whether the contract has all that the table has, and more."""
        return bool(self.missing) and not (self.surplus or self.retyped or self.partitions)

    def __str__(self) -> str:
        """One clause a column."""
        found = [f"column '{name}' is {old} in the table and {new} in the contract" for name, (old, new) in self.types]
        found += [f"column '{each.name}' ({type_name(each)}) is not in the contract" for each in self.surplus]
        found += [f"column '{each.name}' ({type_name(each)}) is not in the table" for each in self.missing]
        if self.partitions:
            old, new = (", ".join(each) or "nothing" for each in self.partitions)
            found.append(f"the table is partitioned by {old}, the contract by {new}")
        return "; ".join(found)

    @property
    def types(self) -> list[tuple[str, tuple[str, str]]]:
        """`retyped`, by name."""
        return sorted(self.retyped.items())


def difference(delta: DeltaTable, table: Table) -> Difference:
    """Compares a table, as it was opened, with its contract; nothing more of the table is read."""
    has = {each.name: each for each in delta.schema().fields}
    wants = {each.name: each for each in delta_schema(table).fields}
    partitions = delta.metadata().partition_columns, list(table.partition_by)
    return Difference(
        tuple(each for name, each in wants.items() if name not in has),
        tuple(each for name, each in has.items() if name not in wants),
        {
            name: (type_name(has[name]), type_name(each))
            for name, each in wants.items()
            if name in has and has[name].type != each.type
        },
        None if partitions[0] == partitions[1] else partitions,
    )


def remedy(table: Table) -> str:
    """What can be done about a table whose columns differ from its contract's in a way that no one may decide alone."""
    if table.remedy:
        return table.remedy
    _, _, stream = table.name.partition("/")
    match table.layer:
        case "gold":
            return "It is made anew from what it is derived from: `pulselake drain`, or its job in Dagster."
        case "reference":
            return "Bring the contract back to these columns: what was loaded is held nowhere else."
        case "bronze":
            return "Bring the contract back to these columns: nothing else holds what bronze holds."
    return (
        f"Bring the contract back to these columns, or make the table anew from bronze: `pulselake rederive {stream}`."
    )


def type_name(field: Field) -> str:
    """What Delta calls the type of a column."""
    return field.type.type if isinstance(field.type, PrimitiveType) else str(field.type)


def arrow_schema(schema: pl.Schema) -> pa.Schema:
    """The Arrow types with which rows are handed to deltalake."""
    return pl.DataFrame(schema=schema).to_arrow(compat_level=pl.CompatLevel.oldest()).schema


@lru_cache(maxsize=256)
def delta_schema(table: Table) -> DeltaSchema:
    """The columns that Delta stores for the rows of a contract."""
    return DeltaSchema.from_arrow(arrow_schema(table.schema))
