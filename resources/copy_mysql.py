"""MySQL and MariaDB as sources of copies, read by connectorx, which is several times as fast as a driver in Python.

What connectorx cannot read as it is, it gets in another form: dates as days, since it ends with a panic at 0000-00-00,
and decimals as text, since it cuts them after ten places. Where it fails all the same, PyMySQL reads the table.
"""

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import connectorx
import polars as pl
import pymysql
import sqlalchemy as sa

from resources.background import Background
from resources.batch_sql import ANSWER_S, engine_of
from resources.copy_columns import FIRST_DAY, INSTANT, MAX_DIGITS, NO_DATE, CopyColumn, frame_of
from resources.copy_source import (
    PIECE_BYTES,
    ROW_BYTES,
    CopyError,
    CopySource,
    Described,
    Key,
    TableName,
    usable_key,
)
from resources.logs import tell

_log = logging.getLogger(__name__)

_BATCH_ROWS = 20_000
_WHOLE = ("tinyint", "smallint", "mediumint", "int", "bigint")
_TEXTS = ("char", "varchar", "tinytext", "text", "mediumtext", "longtext")
_BYTES = ("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob")
_SHAPES = (
    "geometry",
    "point",
    "linestring",
    "polygon",
    "multipoint",
    "multilinestring",
    "multipolygon",
    "geometrycollection",
    "geomcollection",
)
_SYSTEM = "'information_schema', 'mysql', 'performance_schema', 'sys'"


class MySqlSource(CopySource):
    """A database of MySQL or MariaDB."""

    quotes = ("`", "`")

    def __init__(self, url: sa.URL, piece_bytes: int = PIECE_BYTES) -> None:
        super().__init__(url.set(drivername="mysql+pymysql"), piece_bytes)
        if not url.database:
            raise CopyError(f"{self.name} names no database, so nothing was copied. Add it: mysql://HOST/DATABASE.")
        # PyMySQL reads the system's certificates for each connection, a tenth of a second for a small table.
        self._engine = engine_of(self._url, keeps_connections=True)
        self._fast_url = url.set(drivername="mysql", query={}).render_as_string(hide_password=False)
        # connectorx takes no certificates: what is to be encrypted must not go past them in the clear.
        self._is_encrypted = any(name.startswith("ssl") for name in url.query)
        self._slow = set[TableName]()
        # It is asked once, when the first text is written as a literal.
        self._escapes: bool | None = None

    def all_tables(self) -> list[TableName]:
        found = self._ask(
            "SELECT table_name, IF(table_schema = DATABASE(), NULL, table_schema) FROM information_schema.tables "
            f"WHERE table_type IN ('BASE TABLE', 'SYSTEM VERSIONED') AND table_schema NOT IN ({_SYSTEM})"
        )
        return [TableName(name, schema) for name, schema in found]

    def tables(self) -> list[TableName]:
        return [each for each in super().tables() if each.schema is None]

    def describe(self, table: TableName) -> Described:
        where = f"table_schema = {self._schema(table)} AND table_name = {self._text(table.name)}"
        columns = tuple(
            self._column(*row)
            for row in self._ask(
                "SELECT column_name, data_type, column_type, numeric_precision, numeric_scale "
                f"FROM information_schema.columns WHERE {where} ORDER BY ordinal_position",
                table,
            )
        )
        if not columns:
            raise CopyError(f"the table {table} of {self.name} is gone or cannot be looked at")
        keys: dict[str, list[str]] = {}
        nullable = set[str]()
        for index, name, is_nullable, part in self._ask(
            "SELECT index_name, column_name, nullable, sub_part FROM information_schema.statistics "
            f"WHERE {where} AND non_unique = 0 ORDER BY index_name <> 'PRIMARY', index_name, seq_in_index",
            table,
        ):
            keys.setdefault(index, []).append(name)
            if name is None or is_nullable == "YES" or part is not None:
                nullable.add(index)
        able = [each for index, each in keys.items() if index not in nullable]
        dates = {each.name for each in columns if each.form in ("days", "micros")}
        undated = self._undated(table, dates.intersection(chain.from_iterable(able)))
        key = usable_key([each for each in able if undated.isdisjoint(each)], columns)
        [[rows, weight]] = self._ask(
            f"SELECT table_rows, avg_row_length FROM information_schema.tables WHERE {where}", table
        )
        return Described(table, columns, key, int(rows or 0), int(weight or ROW_BYTES))

    def _undated(self, table: TableName, names: Collection[str]) -> set[str]:
        """The columns with dates that the calendar does not have: no piece can begin behind such a one."""
        found = set[str]()
        for name in names:
            where = f"WHERE COALESCE(TO_DAYS({self._quoted(name)}), 0) < {FIRST_DAY}"
            if self._ask(f"SELECT 1 FROM {self._place(table)} {where} LIMIT 1", table):
                found.add(name)
        return found

    def _schema(self, table: TableName) -> str:
        return self._text(table.schema) if table.schema else "DATABASE()"

    def _column(self, name: str, kind: str, full: str, digits: int | None, places: int | None) -> CopyColumn:
        column, kind = self._quoted(name), kind.lower()
        as_text = f"CAST({column} AS CHAR)"
        if kind in _WHOLE:
            if kind == "bigint" and "unsigned" in full:
                return CopyColumn(name, pl.Decimal(20, 0), as_text, "decimal", can_be_key=True)
            return CopyColumn(name, pl.Int64(), column, can_be_key=True)
        if kind in _TEXTS:
            return CopyColumn(name, pl.String(), column, can_be_key=kind in ("char", "varchar"))
        if kind in _BYTES:
            return CopyColumn(name, pl.Binary(), column)
        if kind == "decimal" and (digits or 0) <= MAX_DIGITS:
            return CopyColumn(name, pl.Decimal(digits, places or 0), as_text, "decimal")
        if kind in ("float", "double"):
            # A float is given in a few digits of text to one driver, and as it is to the other.
            return CopyColumn(name, pl.Float64(), f"({column} + 0e0)")
        if kind == "bit":
            if full == "bit(1)":
                return CopyColumn(name, pl.Boolean(), f"({column} + 0)", "flag")
            if full == "bit(64)":
                return CopyColumn(name, pl.Decimal(20, 0), f"CAST({column} + 0 AS CHAR)", "decimal")
            return CopyColumn(name, pl.Int64(), f"({column} + 0)")
        if kind == "year":
            return CopyColumn(name, pl.Int64(), f"({column} + 0)")
        if kind == "date":
            select = _known(column, f"TO_DAYS({column})")
            return CopyColumn(name, pl.Date(), select, "days", can_be_key=True)
        if kind == "datetime":
            select = _known(column, f"TIMESTAMPDIFF(MICROSECOND, TIMESTAMP'1970-01-01 00:00:00', {column})")
            return CopyColumn(name, INSTANT, select, "micros", can_be_key=True)
        if kind == "timestamp":
            # It is an instant, which the time zone of the session does not change; 0 is no instant.
            seconds = f"NULLIF(UNIX_TIMESTAMP({column}), 0)"
            return CopyColumn(name, INSTANT, _known(column, f"CAST({seconds} * 1000000 AS SIGNED)"), "micros")
        if kind in _SHAPES:
            return CopyColumn(name, pl.Binary(), f"ST_AsBinary({column})")
        return CopyColumn(name, pl.String(), as_text, can_be_key=kind == "uuid")

    def _read(self, table: Described, after: Key | None, rows: int) -> pl.DataFrame:
        if not self._is_encrypted and table.table not in self._slow:
            try:
                return self._fast(table, self._select(table, after=after, rows=rows))
            except (KeyboardInterrupt, SystemExit, GeneratorExit):
                raise
            except BaseException as error:
                # connectorx panics, and that is no Exception.
                self._slow.add(table.table)
                failure = type(error).__name__
                tell(_log, "connectorx cannot read a table", logging.INFO, table=str(table.table), failure=failure)
        return super()._read(table, after, rows)

    def _fast(self, table: Described, statement: str) -> pl.DataFrame:
        """Reads by connectorx, which itself waits for an answer for ever."""
        [found] = Background(self._batches, [statement], "connectorx").results(ANSWER_S)
        types = pl.Schema({each.name: each.read_as for each in table.columns})
        return pl.concat([each.cast(types) for each in found]) if found else frame_of([], table.columns)

    def _batches(self, statement: str) -> list[pl.DataFrame]:
        stream = connectorx.read_sql(self._fast_url, statement, return_type="arrow_stream", batch_size=_BATCH_ROWS)
        # A batch after the other: Arrow's own memory of texts is given back with each.
        return [pl.DataFrame(batch) for batch in stream]

    @contextmanager
    def _cursor(self) -> Iterator[Any]:
        connection = self._engine.raw_connection()
        driver: Any = connection.driver_connection
        try:
            # Rows stay with the server until they are fetched.
            with driver.cursor(pymysql.cursors.SSCursor) as cursor:
                try:
                    yield cursor
                except BaseException:
                    # A cursor reads what is left before it closes: most of a large table, or from a lost connection.
                    if driver._result is not None:
                        driver._result.unbuffered_active = False
                    connection.invalidate()
                    raise
        finally:
            connection.close()

    def _ordered(self, table: TableName, name: str) -> str:
        # The bare name would be that of the SELECT's expression, for which no index serves.
        return f"{self._place(table)}.{self._quoted(name)}"

    def _text(self, value: str) -> str:
        if self._escapes is None:
            [[self._escapes]] = self._ask("SELECT FIND_IN_SET('NO_BACKSLASH_ESCAPES', @@sql_mode) = 0")
        text = value.replace("\\", "\\\\") if self._escapes else value
        return "'" + text.replace("'", "''") + "'"


def _known(column: str, value: str) -> str:
    """The value, or what stands for a date that the calendar does not have."""
    return f"IF({column} IS NULL, NULL, COALESCE({value}, {NO_DATE}))"
