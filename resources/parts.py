"""The rows of one date of a Delta table as they stood at one version, and how they are read in bounded memory.

Columns are those that the table has, whatever its contract says: what is archived must be all that there is.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cached_property

import polars as pl
import pyarrow as pa
from deltalake import DeltaTable
from deltalake.fs import DeltaStorageHandler
from deltalake.transaction import RemoveAction
from pyarrow.fs import PyFileSystem
from pyarrow.parquet import ParquetFile

from resources.maintenance import data_files

BATCH_ROWS = 131_072


@dataclass(frozen=True)
class Part:
    """The rows of one date. Its files are immutable, so the same files are the same rows.

    Attributes:
        delta_id, version: of the table when it was looked at.
        column: the partition column.
        day: the date.
        rows: how many, by the statistics of the files.
        sizes: in bytes, by the name of the file.
        schema: the columns of the table.
        uri, options: where the files are.
    """

    delta_id: str
    version: int
    column: str
    day: date
    rows: int
    sizes: Mapping[str, int]
    schema: pl.Schema
    uri: str = field(repr=False)
    options: Mapping[str, str] = field(repr=False)

    def frames(self) -> Iterator[pl.DataFrame]:
        """The rows, some at a time, with all columns of the table."""
        for name in sorted(self.sizes):
            with self._files.open_input_file(name) as file:
                for batch in ParquetFile(file).iter_batches(BATCH_ROWS):
                    rows = pl.DataFrame(batch)
                    known = {self.column: pl.lit(self.day)} | {each: pl.col(each) for each in rows.columns}
                    columns = (
                        known.get(each, pl.lit(None)).cast(type_).alias(each) for each, type_ in self.schema.items()
                    )
                    yield rows.select(columns)

    def removals(self) -> list[RemoveAction]:
        """What a commit has to remove, and nothing else: rows that came to the date later stay.

        They are marked as no change of data, as compaction marks what it replaces. Delta would else refuse every append
        that began before, and the session that writes at this moment would end.
        """
        now_ms = int(datetime.now(UTC).timestamp() * 1000)
        return [
            RemoveAction(name, False, now_ms, size, {self.column: self.day.isoformat()})
            for name, size in self.sizes.items()
        ]

    def is_in(self, delta: DeltaTable) -> bool:
        """Whether the date has the same rows in a table as it is now."""
        return (
            str(delta.metadata().id) == self.delta_id
            and self.sizes.keys() == _sizes(delta, self.column, self.day)[0].keys()
        )

    @cached_property
    def _files(self) -> PyFileSystem:
        return PyFileSystem(DeltaStorageHandler(self.uri, dict(self.options)))


def part_of(delta: DeltaTable, column: str, day: date, options: Mapping[str, str]) -> Part:
    """The rows of a date of a table as it was opened."""
    sizes, rows = _sizes(delta, column, day)
    schema = pl.DataFrame(pa.schema(delta.schema().to_arrow()).empty_table()).schema
    return Part(str(delta.metadata().id), delta.version(), column, day, rows, sizes, schema, delta.table_uri, options)


def _sizes(delta: DeltaTable, column: str, day: date) -> tuple[dict[str, int], int]:
    files = data_files(delta)
    if files.is_empty():
        return {}, 0
    files = files.filter(pl.col(f"partition.{column}") == day)
    return dict(files.select("path", "size_bytes").iter_rows()), int(files["num_records"].sum())
