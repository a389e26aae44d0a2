"""SQLite as a source of copies.

A column of SQLite has a declared type and values of any. So all values are looked at first: where one does not fit the
declared type exactly, the column gets the type that holds them all. Nothing is rounded and nothing is refused.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

import polars as pl

from resources.copy_columns import EXACT_FLOATS, INSTANT, MAX_DIGITS, CopyColumn, series
from resources.copy_source import CopySource, Described, TableName, usable_key

_LOOKED_AT = 1_000
"""How many rows are looked at together: a row may be a long note."""
_DIGITS = re.compile(r"\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\)")


class SqliteSource(CopySource):
    """A file of SQLite."""

    @contextmanager
    def _cursor(self) -> Iterator[Any]:
        with closing(self._engine.raw_connection()) as connection:
            driver: Any = connection.driver_connection
            driver.text_factory = _text_or_bytes
            with closing(connection.cursor()) as cursor:
                yield cursor

    @property
    def name(self) -> str:
        return f"sqlite:///{self._url.database}"

    def all_tables(self) -> list[TableName]:
        return [
            TableName(name)
            for [name] in self._ask(
                "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' "
                "AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
            )
        ]

    def describe(self, table: TableName) -> Described:
        text = self._text(table.name)
        rows = self._ask(
            f'SELECT name, type, "notnull", pk FROM pragma_table_xinfo({text}) WHERE hidden <> 1 ORDER BY cid', table
        )
        columns = [CopyColumn(name, _declared(kind), self._quoted(name)) for name, kind, _, _ in rows]
        columns = self._fitting(table, columns)
        primary = [(place, name, kind, filled) for name, kind, filled, place in rows if place]
        # Only this spelling is the number of the row, which is never null; other primary keys may be.
        is_number = len(primary) == 1 and primary[0][2].upper() == "INTEGER"
        [[without_number]] = self._ask(f"SELECT wr FROM pragma_table_list WHERE schema = 'main' AND name = {text}")
        filled = {name for name, _, is_filled, _ in rows if is_filled}
        keys = [[name for _, name, _, _ in sorted(primary)]] if is_number or without_number else []
        # Of constraints only: an index of its own may tell texts apart that are equal in the order of the column.
        unique = self._ask(
            f"SELECT name FROM pragma_index_list({text}) WHERE \"unique\" AND NOT partial AND origin <> 'c'", table
        )
        for [index] in unique:
            names = [
                name for [name] in self._ask(f"SELECT name FROM pragma_index_info({self._text(index)}) ORDER BY seqno")
            ]
            if filled.issuperset(names):
                keys.append(names)
        count = self.count(Described(table, tuple(columns), (), 0), None)
        return Described(table, tuple(columns), usable_key(keys, columns), count)

    def _fitting(self, table: TableName, columns: Sequence[CopyColumn]) -> list[CopyColumn]:
        """The columns with types that hold all their values."""
        kinds: list[set[type]] = [set() for _ in columns]
        does_fit = [True] * len(columns)
        with self._explained(table), self._cursor() as cursor:
            cursor.execute(f"SELECT {', '.join(each.select for each in columns)} FROM {self._place(table)}")
            while rows := cursor.fetchmany(_LOOKED_AT):
                for place, values in enumerate(zip(*rows, strict=True)):
                    kinds[place] |= {type(value) for value in values}
                    does_fit[place] = does_fit[place] and _fits(columns[place], values)
        found = []
        for each, fits, of_values in zip(columns, does_fit, kinds, strict=True):
            of_values.discard(type(None))
            type_ = each.type if fits else _holding(of_values)
            if type_ == pl.Float64() and int in of_values and self._has_inexact(table, each):
                type_ = pl.String()
            # Values of several types have an order of their own.
            can_be_key = len(of_values) < 2 and isinstance(type_, pl.Int64 | pl.String | pl.Date)
            found.append(replace(each, type=type_, can_be_key=can_be_key))
        return found

    def _has_inexact(self, table: TableName, column: CopyColumn) -> bool:
        """Whether a whole number of a column is none of the numbers that a float can be."""
        name = column.select
        where = f"typeof({name}) = 'integer' AND {name} NOT BETWEEN -{EXACT_FLOATS} AND {EXACT_FLOATS}"
        return bool(self._ask(f"SELECT 1 FROM {self._place(table)} WHERE {where} LIMIT 1", table))

    def _text(self, value: str) -> str:
        return "'" + value.replace("'", "''") + "'"


def _text_or_bytes(value: bytes) -> str | bytes:
    """A text; the bytes of one that is not in UTF-8, as programs write that know nothing of it."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def _declared(kind: str) -> pl.DataType:
    """What SQL means by a type; SQLite itself knows five affinities and takes any word."""
    name, digits = kind.upper().partition("(")[0].strip(), _DIGITS.search(kind)
    if "DATETIME" in name or "TIMESTAMP" in name:
        return INSTANT
    if "BOOL" in name or name == "BIT":
        return pl.Boolean()
    if "INT" in name:
        return pl.Int64()
    if "CHAR" in name or "CLOB" in name or "TEXT" in name:
        return pl.String()
    if "BLOB" in name or "BINARY" in name:
        return pl.Binary()
    if any(each in name for each in ("REAL", "FLOA", "DOUB")):
        return pl.Float64()
    if ("DECIMAL" in name or "NUMERIC" in name) and digits and int(digits[1]) <= MAX_DIGITS:
        return pl.Decimal(int(digits[1]), int(digits[2] or 0))
    if "DATE" in name:
        return pl.Date()
    # A number of any kind, or no type: whole numbers fit, and otherwise the values decide.
    return pl.Int64() if name else pl.String()


def _fits(column: CopyColumn, values: Sequence[Any]) -> bool:
    if isinstance(column.type, pl.String) and not all(value is None or isinstance(value, str) for value in values):
        return False
    if isinstance(column.type, pl.Binary) and not all(value is None or isinstance(value, bytes) for value in values):
        return False
    try:
        series(column.name, values, column.type)
    except ValueError:
        return False
    return True


def _holding(kinds: set[type]) -> pl.DataType:
    """The type that holds values of these kinds, whatever they are."""
    if bytes in kinds:
        return pl.Binary()
    if str in kinds or not kinds:
        return pl.String()
    return pl.Float64() if float in kinds else pl.Int64()
