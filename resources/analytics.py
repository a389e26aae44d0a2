"""SQL over the lake: DuckDB on every Delta table, read only.

A query runs on a connection of its own, in which each table is a view named `<layer>.<table>`, and so is what is
declared as a view of tables. DuckDB can neither read files nor change its settings there, so text from a user can do no
more than read the lake until its limit of memory or of time. How tables are scanned is in `scans`, how a result is
written in `results`; the reports are in `reports`, the prompt is in `sql_shell`.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from threading import Event, Thread

import duckdb
import polars as pl
import pyarrow as pa

from resources.lake import Lake
from resources.results import Result
from resources.scans import Dates, TableSource
from resources.table import Table, View

BATCH_ROWS = 50_000
ALLOWED = frozenset({"SELECT", "EXPLAIN", "MULTI"})
"""What DuckDB calls the statements that read; MULTI is a PIVOT whose columns come from the data."""

_PLAIN = re.compile(
    r"BOOLEAN|U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|FLOAT|DOUBLE|DECIMAL.*|VARCHAR|BLOB|DATE|TIME|TIMESTAMP.*|\"NULL\""
)
_NESTED = re.compile(r"(STRUCT|MAP|UNION)\(.*|.*\]", re.DOTALL)
_WRITES = re.compile(
    r"\s*(explain\b\s*(analyze\b|\([^)]*\))?)?\s*(create|insert|update|delete|merge|copy|attach|drop|alter)\b", re.I
)
_COMMENTS = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
_UNREADABLE = re.compile(
    r"failed: (?:SchemaError|IOError): (.*?(?:; the table was not read\.|is damaged).*?)(?=\.? Detail: |$)"
)
_TOO_LONG = "the scan takes too long"
_INTERRUPTED = re.compile(rf"INTERRUPT Error|Interrupted!|{_TOO_LONG}")
_INTERRUPT_EVERY_S = 0.2
_SHOW_TABLES = re.compile(r"\s*show\s+tables\s*;?\s*", re.I)
_LISTS_TABLES = re.compile(
    r"\binformation_schema\b|\b(duckdb|pg|sqlite)_|\b(show|describe|summarize|pragma|query|query_table)\b", re.I
)
"""What may tell of tables that the statement does not name."""
_TABLES = "SELECT table_schema AS schema, table_name AS name FROM information_schema.tables ORDER BY ALL"


class QueryError(ValueError):
    """A statement was refused, or DuckDB could not run it; the message is for whoever wrote it."""


class TooSlowError(QueryError):
    """A statement took longer than it may."""


class UnreadableTableError(QueryError):
    """A table that the statement reads has other columns than its contract; other tables can be read."""


@dataclass(frozen=True)
class Analytics:
    """DuckDB over the tables of a lake.

    Attributes:
        lake: where the tables are.
        tables: what can be queried; a table that was not created yet is empty.
        views: of some of the tables.
        memory_limit: of what DuckDB holds for one connection; batches that are read from Delta files come on top, a few
            hundred megabytes however large a table is.
        timeout_s: how long a statement may take, with the time in which its result is consumed.
        threads: of one connection.
        dates: only rows of these dates are seen, in tables that have the column; all if None.
    """

    lake: Lake
    tables: Sequence[Table]
    views: Sequence[View] = ()
    memory_limit: str = "1GB"
    timeout_s: float = 300.0
    threads: int = 4
    dates: Dates | None = None

    def names(self) -> list[Table | View]:
        """All that can be queried, by name."""
        return sorted([*self.tables, *self.views], key=lambda each: each.name)

    @contextmanager
    def connection(self, statement: str | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
        """A fresh connection in UTC with a view per table, closed to files, network, Python variables and settings.

        A table is opened when it is first read and keeps that version until the connection ends.

        Args:
            statement: the only one that will be run. Tables that it does not name get no view, since to make a hundred
                views takes much longer than most statements; by default all tables get one.
        """
        tables, views = (self.tables, self.views) if statement is None else self._named_in(statement)
        config: dict[str, str | bool | int | float | list[str]] = {
            "enable_external_access": False,
            "python_enable_replacements": False,
            "memory_limit": self.memory_limit,
            "threads": self.threads,
            # What does not fit into memory would be written to the working folder: health data on a disk.
            "temp_directory": "",
        }
        deadline = _Deadline(self.timeout_s)
        with duckdb.connect(config=config) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            for table in tables:
                schema, name = table.sql_name.split(".")
                connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"; USE "{schema}"')
                connection.from_arrow(TableSource(self.lake.table(table), self.dates, deadline.check)).create_view(name)
            for view in views:
                schema, _ = view.sql_name.split(".")
                connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
                connection.execute(f"CREATE VIEW {view.sql_name} AS {view.sql}")
            connection.execute("USE main; SET lock_configuration = true")
            with deadline.watching(connection):
                yield connection

    @contextmanager
    def stream(self, sql: str) -> Iterator[Result]:
        """The result of one statement, pulled as it is consumed.

        Types that Polars does not have become text, nested ones JSON text; equal column names are numbered.

        Raises:
            QueryError: the statement does not only read, or DuckDB could not run it.
            TooSlowError: it took longer than it may.
            UnreadableTableError: a table that it reads has other columns than its contract.
        """
        with ExitStack() as stack, self._explained():
            try:
                connection = stack.enter_context(self.connection(sql))
                relation = connection.sql(_checked(connection, sql))
            except duckdb.CatalogException:
                # With all tables there the message suggests names that are like the one that was not found.
                connection = stack.enter_context(self.connection())
                relation = connection.sql(_checked(connection, sql))
            reader = _with_plain_types(relation).to_arrow_reader(BATCH_ROWS)
            names = _unique(reader.schema.names)
            try:
                yield Result(_frame(reader.schema.empty_table(), names).schema, self._frames(reader, names))
            finally:
                reader.close()

    def query(self, sql: str) -> pl.DataFrame:
        """The result of one statement as a frame; see `stream`.

        Raises:
            QueryError: the statement does not only read, or DuckDB could not run it.
        """
        with self.stream(sql) as result:
            return result.collect()

    def _named_in(self, statement: str) -> tuple[Sequence[Table], Sequence[View]]:
        """The tables and views whose names occur in a statement, and those that these views are made of."""
        if _LISTS_TABLES.search(statement):
            return self.tables, self.views
        text, views = statement.lower(), list[View]()
        # A view is made of tables and of views before it.
        for view in reversed(self.views):
            if _name(view) in text:
                views.append(view)
                text += view.sql.lower()
        return [table for table in self.tables if _name(table) in text], views[::-1]

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except duckdb.Error as error:
            raise self._explanation(error) from error

    def _frames(self, reader: pa.RecordBatchReader, names: list[str]) -> Iterator[pl.DataFrame]:
        try:
            for batch in reader:
                yield _frame(pa.Table.from_batches([batch]), names)
        except OSError as error:
            raise self._explanation(error) from error

    def _explanation(self, error: Exception) -> QueryError:
        message = str(error)
        if isinstance(error, duckdb.InterruptException) or _INTERRUPTED.search(message):
            return TooSlowError(
                f"Stopped: the statement takes longer than {self.timeout_s:g} s. Read fewer days (by ingest_date or "
                "event_date) or columns. PULSELAKE_SQL_TIMEOUT_S gives `pulselake sql` more time."
            )
        if unreadable := _UNREADABLE.search(message):
            return UnreadableTableError(unreadable[1])
        if "Out of Memory" in message:
            return QueryError(
                f"Out of Memory: the statement needs more than {self.memory_limit}, and nothing is written to disk. "
                "Read fewer days (by ingest_date or event_date) or columns, or aggregate before joining and sorting. "
                "PULSELAKE_SQL_MEMORY gives `pulselake sql` more."
            )
        if isinstance(error, duckdb.CatalogException) and "Table with name" in message:
            message += f"\n\nTables: {', '.join(each.sql_name for each in self.names())}"
        return QueryError(message)


def _name(table: Table | View) -> str:
    """The name in SQL without its schema, in lower case."""
    return table.sql_name.rpartition(".")[2].lower()


class _Deadline:
    """The end of the time that a statement may take."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._is_done, self._is_over = Event(), Event()

    def check(self) -> None:
        """Ends a scan, which DuckDB waits for even if it is interrupted.

        Raises:
            TimeoutError: the time is over.
        """
        if self._is_over.is_set():
            raise TimeoutError(_TOO_LONG)

    @contextmanager
    def watching(self, connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
        """Interrupts what the connection runs once the time is over."""
        watcher = Thread(target=self._watch, args=(connection,), name="sql-deadline", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            self._is_done.set()
            watcher.join()

    def _watch(self, connection: duckdb.DuckDBPyConnection) -> None:
        if self._is_done.wait(self._seconds):
            return
        self._is_over.set()
        # An interruption counts for the statement that runs, and none may have begun.
        while not self._is_done.wait(_INTERRUPT_EVERY_S):
            connection.interrupt()


def _checked(connection: duckdb.DuckDBPyConnection, sql: str) -> str:
    statements = connection.extract_statements(sql)
    if len(statements) != 1:
        raise QueryError(f"One statement at a time; these are {len(statements)}.")
    kind = statements[0].type.name
    if kind not in ALLOWED or _WRITES.match(_COMMENTS.sub(" ", sql)):
        raise QueryError(
            f"{_first_word(sql)} is refused: the lake is read only here. Use SELECT, FROM, WITH, VALUES, PIVOT, "
            "DESCRIBE, SHOW, SUMMARIZE or EXPLAIN; keep a result by writing it as csv or json; Dagster writes tables."
        )
    return _TABLES if _SHOW_TABLES.fullmatch(sql) else sql


def _first_word(sql: str) -> str:
    return (_COMMENTS.sub(" ", sql).split() or [""])[0].upper()


def _with_plain_types(relation: duckdb.DuckDBPyRelation) -> duckdb.DuckDBPyRelation:
    types = [str(type_) for type_ in relation.types]
    if all(_PLAIN.fullmatch(type_) for type_ in types):
        return relation
    columns = zip(relation.columns, types, strict=True)
    return relation.project(", ".join(_plain(place, *column) for place, column in enumerate(columns, start=1)))


def _plain(place: int, name: str, type_: str) -> str:
    if _PLAIN.fullmatch(type_):
        value = f"#{place}"
    else:
        value = f"to_json(#{place})::VARCHAR" if _NESTED.fullmatch(type_) else f"#{place}::VARCHAR"
    quoted = name.replace('"', '""')
    return f'{value} AS "{quoted}"'


def _unique(names: list[str]) -> list[str]:
    unique: list[str] = []
    for name in names:
        candidates = (name if copy == 0 else f"{name}_{copy}" for copy in range(len(names)))
        unique.append(next(candidate for candidate in candidates if candidate not in unique))
    return unique


def _frame(rows: pa.Table, names: list[str]) -> pl.DataFrame:
    frame = pl.DataFrame(rows.rename_columns(names))
    huge = [name for name, type_ in frame.schema.items() if type_ == pl.Decimal(38, 0)]
    return frame.with_columns(pl.col(huge).cast(pl.Int128))
