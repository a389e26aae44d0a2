"""DuckDB's scan of a Delta table: opened when it is first read, filtered by Polars and handed over in batches.

```
 Delta log ─▶ partitions that the filters leave ─▶ groups of them ─▶ Polars, streaming ─▶ batches ─▶ DuckDB
```

DuckDB's own scan of a Polars frame collects all rows that a statement wants before it takes the first one. This one
holds some row groups and batches, however large the table is. A group of partitions is scanned after the other, so that
a scan that finds nothing for a long time can be ended between two of them.
"""

from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from queue import Full, Queue
from threading import Event, Lock, Thread

import polars as pl
import pyarrow as pa
from deltalake.exceptions import TableNotFoundError
from duckdb._sources.nodes import Node, Untranslatable
from duckdb._sources.polars import LazyFrameSource
from duckdb._sources.to_polars import to_polars

from resources.lake import LakeTable
from resources.maintenance import data_files

GROUP_ROWS = 20_000_000
"""How many rows a group of partitions holds at least, if there are so many."""

_BATCH_ROWS = 50_000
_FRAMES_AHEAD = 2
_LOOK_EVERY_S = 0.2
_ROWS = "rows"


class DamagedFileError(OSError):
    """A file of a table cannot be read as what it should be."""


@dataclass(frozen=True)
class Dates:
    """Only the rows of some dates.

    Attributes:
        column: a date column; tables without it are read as a whole.
        days: the dates.
    """

    column: str
    days: frozenset[date]

    @property
    def predicate(self) -> pl.Expr:
        """Whether a row is of one of the dates."""
        if not self.days:
            return pl.lit(False)
        column = pl.col(self.column)
        # Files are left out by their smallest and greatest value.
        return column.is_between(min(self.days), max(self.days)) & column.is_in(sorted(self.days))


class TableSource(LazyFrameSource):
    """A table for DuckDB. One that was opened keeps its version.

    Args:
        table: what is read.
        dates: which rows are read; all if None.
        check: called between two groups and two batches; it raises an error to end the scan.
    """

    def __init__(self, table: LakeTable, dates: Dates | None, check: Callable[[], None]) -> None:
        super().__init__(table)
        self._table, self._check, self._lock = table, check, Lock()
        self._schema = table.table.schema
        self._dates = dates if dates and dates.column in self._schema else None
        self._opened: tuple[pl.LazyFrame, pl.DataFrame | None] | None = None

    def _empty_frame(self) -> pl.DataFrame:
        return pl.DataFrame(schema=self._schema)

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """All rows; DuckDB takes what has this method for a source, and then calls `stream`."""
        return self.stream(None, ())[0]

    def stream(self, columns: Sequence[int] | None, filters: Sequence[Node]) -> tuple[object, bool]:
        """The rows after `filters`, narrowed to `columns` unless none are asked for."""
        with self._lock:
            rows, partitions = self._opened = self._opened or self._open()
        for node in filters:
            rows = rows.filter(to_polars(node, self._schema))
            partitions = _left(partitions, node)
        # A frame without columns has no rows.
        wanted = list(self._schema.names()) if not columns else [self._schema.names()[place] for place in columns]
        schema = pa.RecordBatchReader.from_stream(self._empty_frame().select(wanted)).schema
        plans = [rows.filter(group).select(wanted) for group in _groups(partitions)]
        return pa.RecordBatchReader.from_batches(schema, self._batches(plans)).__arrow_c_stream__(), bool(columns)

    def _open(self) -> tuple[pl.LazyFrame, pl.DataFrame | None]:
        self._check()
        table, dates = self._table, self._dates
        column = next(iter(table.table.partition_by), None)
        try:
            delta = table.delta()
        except TableNotFoundError:
            return pl.LazyFrame(schema=self._schema), None
        rows = table.scan(delta.version())
        rows = rows.filter(dates.predicate) if dates else rows
        if column is None:
            return rows, None
        files = data_files(delta)
        if dates:
            files = _touching(files, dates)
        value, count = pl.col(f"partition.{column}").alias(column), pl.col("num_records").sum()
        return rows, files.group_by(value).agg(count.alias(_ROWS)).sort(column)

    def _batches(self, plans: Collection[pl.LazyFrame]) -> Iterator[pa.RecordBatch]:
        for plan in plans:
            self._check()
            with self._explained(), closing(frames_of(plan)) as frames:
                for frame in frames:
                    self._check()
                    yield from pa.RecordBatchReader.from_stream(frame)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except pl.exceptions.PanicException:
            raise DamagedFileError(
                f"{self._table.name}: one of its data files is damaged or not whole, so rows would be missing from an "
                "answer. Restore the file from a copy of the lake, or make its rows anew: a rebuild replaces a date of "
                "silver, quarantine and alerts, a backfill one of gold."
            ) from None


def frames_of(plan: pl.LazyFrame) -> Generator[pl.DataFrame]:
    """The rows of a plan, some at a time; an error of the engine is raised.

    `LazyFrame.collect_batches` would do, but where the engine panics, as on a truncated file, it ends as if there were
    no more rows.
    """
    frames: Queue[pl.DataFrame | BaseException | None] = Queue(_FRAMES_AHEAD)
    is_over = Event()

    def put(frame: pl.DataFrame | BaseException | None) -> bool:
        """Whether no more frames are wanted."""
        while not is_over.is_set():
            with suppress(Full):
                frames.put(frame, timeout=_LOOK_EVERY_S)
                break
        return is_over.is_set()

    def run() -> None:
        try:
            plan.sink_batches(put, chunk_size=_BATCH_ROWS, maintain_order=False, engine="streaming")
        except BaseException as error:
            put(error)
        else:
            put(None)

    thread = Thread(target=run, name="scan", daemon=True)
    thread.start()
    try:
        while isinstance(frame := frames.get(), pl.DataFrame):
            yield frame
        if isinstance(frame, BaseException):
            raise frame
    finally:
        is_over.set()
        thread.join()


def _touching(files: pl.DataFrame, dates: Dates) -> pl.DataFrame:
    """The files that may hold a row of the dates, by their statistics."""
    if not dates.days:
        return files.clear()
    if (partition := f"partition.{dates.column}") in files.columns:
        return files.filter(pl.col(partition).is_in(sorted(dates.days)))
    least, most = f"min.{dates.column}", f"max.{dates.column}"
    if least not in files.columns or most not in files.columns:
        return files
    is_apart = (pl.col(least) > max(dates.days)) | (pl.col(most) < min(dates.days))
    return files.filter(~is_apart.fill_null(False))


def _left(partitions: pl.DataFrame | None, node: Node) -> pl.DataFrame | None:
    """The partitions that a filter leaves; all of them where it looks at other columns too."""
    if partitions is None:
        return None
    try:
        return partitions.filter(to_polars(node, pl.Schema({partitions.columns[0]: partitions.dtypes[0]})))
    except Untranslatable:
        return partitions


def _groups(partitions: pl.DataFrame | None) -> list[pl.Expr]:
    """Conditions that select consecutive partitions, each some millions of rows."""
    if partitions is None:
        return [pl.lit(True)]
    column = partitions.columns[0]
    numbered = partitions.with_columns(group=(pl.col(_ROWS).cum_sum() - pl.col(_ROWS)) // GROUP_ROWS)
    bounds = numbered.group_by("group").agg(least=pl.col(column).min(), most=pl.col(column).max()).sort("group")
    return [pl.col(column).is_between(least, most) for _, least, most in bounds.iter_rows()]
