"""What a table of the lake is: its name, its rows' contract and its partition columns; and what a view of tables is.

Pure: domains declare their tables with it, `resources.lake` reads and writes them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import dataframely as dy
import polars as pl


@dataclass(frozen=True)
class Table:
    """A Delta table.

    Attributes:
        name: ``<layer>/<table>``, which is also its path in the lake and, with a dot, its name in SQL.
        rows: the contract of one row; its docstring says what a row is and its keys.
        partition_by: the partition columns.
        remedy: what can be done where the table in the lake has other columns; by default what its layer says.
        is_append_only: whether Delta refuses to remove or change rows of it; decided when it is created.
    """

    name: str
    rows: type[dy.Schema]
    partition_by: tuple[str, ...] = ()
    remedy: str = ""
    is_append_only: bool = False

    @property
    def schema(self) -> pl.Schema:
        """Column names and Polars types, in the order of the contract."""
        # An empty frame would start the engine, and a process that has started it cannot be forked.
        return pl.Schema({name: column.dtype for name, column in self.rows.columns().items()})

    @property
    def required(self) -> list[str]:
        """Columns that hold a value in every row."""
        return [name for name, column in self.rows.columns().items() if not column.nullable]

    @property
    def layer(self) -> str:
        """``bronze``, ``silver``, ``quarantine``, ``alerts``, ``gold``, ``reference`` or ``audit``."""
        return self.name.split("/")[0]

    @property
    def sql_name(self) -> str:
        """The name in DuckDB: ``silver.glucose_readings``."""
        return self.name.replace("/", ".")

    @property
    def description(self) -> str:
        """What one row is: the docstring of the contract."""
        return " ".join((self.rows.__doc__ or "").split())


@dataclass(frozen=True)
class View:
    """Rows of some tables in SQL, which no one writes.

    Attributes:
        name: ``<layer>/<name>``, as of a table.
        description: what one row is.
        tables: what it reads.
        sql: the statement that selects all rows.
    """

    name: str
    description: str
    tables: Sequence[Table]
    sql: str

    @property
    def sql_name(self) -> str:
        """The name in DuckDB: ``silver.all_streams``."""
        return self.name.replace("/", ".")
