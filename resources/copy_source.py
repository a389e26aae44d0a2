"""A database whose tables are copied as they are: what it has, and its rows in pieces of bounded memory.

Rows are read in the order of a key, each piece from behind the last one, so that a copy that ended in the middle goes
on there. A table without a usable key is read in one go and in no order. What SQL and types each database has is in
`copy_mysql`, `copy_sqlite` and `copy_sql_server`; `copy_sources` opens the one that a URL names.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, ClassVar, NamedTuple
from urllib.parse import quote, quote_plus

import polars as pl
import sqlalchemy as sa

from resources.batch_source import one_line
from resources.batch_sql import engine_of
from resources.copy_columns import CopyColumn, conformed, frame_of

PIECE_BYTES = 12 << 20
"""How much of a table is read, and committed, together. Two pieces of a table are in memory at once."""
FETCH_BYTES = 4 << 20
"""How much of it a driver hands over at once, as values of Python, which take several times as much."""
ROW_BYTES = 16 << 10
"""What a row is thought to weigh before the first ones were read, if the database does not say: notes may be long."""
MIN_ROWS, FIRST_ROWS, MAX_ROWS = 1, 20_000, 2_000_000
"""How many rows a piece has at least, the first one at most, and any at most."""

Key = tuple[int | str, ...]
"""The values of the key's columns in one row; dates and instants as text."""


class CopyError(RuntimeError):
    """A database or one of its tables cannot be copied; the message says what was not done."""


class TableName(NamedTuple):
    """A table; `schema` is None in the schema that is looked in where none is named."""

    name: str
    schema: str | None = None

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}" if self.schema else self.name


@dataclass(frozen=True)
class Described:
    """What is known of a table before it is read.

    Attributes:
        table: its name.
        columns: in its order.
        key: columns that tell its rows apart and hold a value in each; none if there is no usable key.
        rows: about how many there are.
        row_bytes: about what one weighs.
    """

    table: TableName
    columns: tuple[CopyColumn, ...]
    key: tuple[str, ...]
    rows: int
    row_bytes: int = ROW_BYTES

    @property
    def schema(self) -> pl.Schema:
        """The columns in the lake."""
        return pl.Schema({each.name: each.type for each in self.columns})


class Piece(NamedTuple):
    """Rows that follow each other.

    Attributes:
        rows: as the lake has them.
        last: the key of the last one; None if the table has no usable key.
        undated: for each column how many dates the calendar does not have.
    """

    rows: pl.DataFrame
    last: Key | None
    undated: Counter[str]


class CopySource(ABC):
    """A database.

    Args:
        url: as SQLAlchemy has it.
        piece_bytes: how much is read together.
    """

    quotes: ClassVar[tuple[str, str]] = ('"', '"')

    def __init__(self, url: sa.URL, piece_bytes: int = PIECE_BYTES) -> None:
        self._url, self._piece_bytes = url, piece_bytes
        self._engine = engine_of(url)

    @property
    def _fetch_bytes(self) -> int:
        return min(FETCH_BYTES, self._piece_bytes)

    @property
    def name(self) -> str:
        """Where it is, without a user and a password."""
        address = self._url.host or ""
        address += f":{self._url.port}" if self._url.port else ""
        return f"{self._url.get_backend_name()}://{address}/{self._url.database}"

    @abstractmethod
    def all_tables(self) -> list[TableName]:
        """Every table that may be copied; no views."""

    @abstractmethod
    def describe(self, table: TableName) -> Described:
        """What is known of a table.

        Raises:
            CopyError: it cannot be looked at.
        """

    @abstractmethod
    def _text(self, value: str) -> str:
        """A text as a literal of SQL."""

    def tables(self) -> list[TableName]:
        """The tables that are copied where none are named, by name."""
        return sorted(self.all_tables(), key=str)

    def named(self, names: Sequence[str]) -> list[TableName]:
        """The tables of these names, ``table`` or ``schema.table``; case counts where it tells two apart.

        Raises:
            CopyError: there is no such table, or there are several.
        """
        known, found = self.all_tables(), list[TableName]()
        for name in names:
            same = [each for each in known if str(each) == name]
            same = same or [each for each in known if str(each).lower() == name.lower()]
            if len(same) != 1:
                listed = ", ".join(map(str, same or sorted(known, key=str)[:100])) or "none"
                raise CopyError(
                    f"{self.name} has {'several tables' if same else 'no table'} '{name}', so nothing was copied. "
                    f"Name tables as they are written there: {listed}."
                )
            found += same
        return list(dict.fromkeys(found))

    def pieces(self, table: Described, after: Key | None) -> Generator[Piece, None, None]:
        """The rows of a table from behind a key on; all of them if `after` is None.

        Raises:
            CopyError: it cannot be read; what was handed out is good.
        """
        return self._in_order(table, after) if table.key else self._in_one_go(table)

    def read_again(self, table: Described, until: Key | None) -> Iterator[pl.DataFrame]:
        """The rows up to a key, in no order and by the plain driver, to be compared with what was copied.

        Raises:
            CopyError: as for `pieces`.
        """
        for rows in self._fetched(table, self._select(table, until=until)):
            yield conformed(rows, table.columns)[0]

    def count(self, table: Described, until: Key | None) -> int:
        """How many rows there are now, up to a key.

        Raises:
            CopyError: as for `pieces`.
        """
        where = self._where(table, None, until)
        [[count]] = self._ask(f"SELECT COUNT(*) FROM {self._place(table.table)}{where}", table.table)
        return int(count)

    def close(self) -> None:
        """Gives back what it holds."""
        self._engine.dispose()

    def _read(self, table: Described, after: Key | None, rows: int) -> pl.DataFrame:
        """The next rows of a table with a key."""
        found = list(self._fetched(table, self._select(table, after=after, rows=rows)))
        return pl.concat(found) if found else frame_of([], table.columns)

    def _in_order(self, table: Described, after: Key | None) -> Generator[Piece, None, None]:
        wanted = _between(MIN_ROWS, self._piece_bytes // max(1, table.row_bytes), FIRST_ROWS)
        while True:
            read = self._read(table, after, wanted)
            rows, undated = conformed(read, table.columns)
            if rows.height:
                after = self._key(table, rows)
                yield Piece(rows, after, undated)
            if rows.height < wanted:
                return
            wanted = _between(MIN_ROWS, self._piece_bytes * rows.height // max(1, int(rows.estimated_size())), MAX_ROWS)

    def _in_one_go(self, table: Described) -> Generator[Piece, None, None]:
        gathered, size = list[pl.DataFrame](), 0
        for rows in self._fetched(table, self._select(table)):
            gathered.append(rows)
            size += int(rows.estimated_size())
            if size >= self._piece_bytes:
                yield self._gathered(table, gathered)
                gathered, size = [], 0
        if gathered:
            yield self._gathered(table, gathered)

    @staticmethod
    def _gathered(table: Described, gathered: list[pl.DataFrame]) -> Piece:
        rows, undated = conformed(pl.concat(gathered), table.columns)
        return Piece(rows, None, undated)

    def _key(self, table: Described, rows: pl.DataFrame) -> Key:
        values = [rows[name][-1] for name in table.key]
        if None in values:
            raise CopyError(
                f"the table {table.table} of {self.name} got a row without a value in its key while it was copied; "
                "copy it again"
            )
        return tuple(map(_plain, values))

    def _fetched(self, table: Described, statement: str) -> Iterator[pl.DataFrame]:
        """What a statement gives, some rows at a time, as the plain driver reads it."""
        wanted = _between(MIN_ROWS, self._fetch_bytes // max(1, table.row_bytes), FIRST_ROWS)
        with self._explained(table.table), self._cursor() as cursor:
            cursor.execute(statement)
            while rows := cursor.fetchmany(wanted):
                found = frame_of(rows, table.columns)
                wanted = _between(
                    MIN_ROWS, self._fetch_bytes * found.height // max(1, int(found.estimated_size())), FIRST_ROWS
                )
                yield found

    def _ask(self, statement: str, table: TableName | None = None) -> list[Any]:
        with self._explained(table), self._cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())

    @contextmanager
    def _cursor(self) -> Iterator[Any]:
        """A cursor of the driver: SQLAlchemy's own statements would read ``%`` in a name as a parameter."""
        with closing(self._engine.raw_connection()) as connection, closing(connection.cursor()) as cursor:
            yield cursor

    def _select(
        self, table: Described, *, after: Key | None = None, until: Key | None = None, rows: int | None = None
    ) -> str:
        columns = ", ".join(f"{each.select} AS {self._quoted(each.name)}" for each in table.columns)
        key = ", ".join(self._ordered(table.table, name) for name in table.key)
        order = f" ORDER BY {key}" if rows is not None else ""
        where = self._where(table, after, until)
        return self._limited(columns, f"FROM {self._place(table.table)}{where}{order}", rows)

    def _ordered(self, table: TableName, name: str) -> str:
        """A column of the key, by which rows are put in order."""
        return self._quoted(name)

    def _limited(self, columns: str, rest: str, rows: int | None) -> str:
        return f"SELECT {columns} {rest}{'' if rows is None else f' LIMIT {rows}'}"

    def _where(self, table: Described, after: Key | None, until: Key | None) -> str:
        found = [
            *([self._beyond(table.key, after, ">", ">")] if after else []),
            *([self._beyond(table.key, until, "<", "<=")] if until else []),
        ]
        return f" WHERE {' AND '.join(found)}" if found else ""

    def _beyond(self, key: Sequence[str], values: Key, sign: str, last_sign: str) -> str:
        """Rows before or behind a key; its columns compared one by one, as every database can and has an index for."""
        places = [(self._quoted(name), self._literal(value)) for name, value in zip(key, values, strict=True)]
        choices = []
        for number, (name, value) in enumerate(places):
            same = [f"{other} = {its}" for other, its in places[:number]]
            compared = last_sign if number == len(places) - 1 else sign
            choices.append(" AND ".join([*same, f"{name} {compared} {value}"]))
        if len(choices) == 1:
            return choices[0]
        name, value = places[0]
        return f"{name} {sign}= {value} AND (({') OR ('.join(choices)}))"

    def _literal(self, value: int | str) -> str:
        return str(value) if isinstance(value, int) else self._text(value)

    def _place(self, table: TableName) -> str:
        return ".".join(map(self._quoted, filter(None, (table.schema, table.name))))

    def _quoted(self, name: str) -> str:
        first, last = self.quotes
        return f"{first}{name.replace(last, last * 2)}{last}"

    @contextmanager
    def _explained(self, table: TableName | None) -> Iterator[None]:
        what = f"the table {table} of {self.name}" if table else self.name
        try:
            yield
        except ValueError as error:
            raise CopyError(
                f"{what} cannot be copied: {error}; it was changed meanwhile, or has values that its types do not "
                "name. Copy it again."
            ) from None
        except Exception as error:
            raise CopyError(
                f"{what} cannot be read: {self.redacted(one_line(error))}. Check that it can be reached, with this "
                "user and password; what was copied before stays, and the next copy goes on there."
            ) from None

    def redacted(self, text: str) -> str:
        """A text without the password, in any form in which the URL may hold it."""
        password = self._url.password
        for form in (str(password), quote(str(password)), quote_plus(str(password))) if password else ():
            text = text.replace(form, "…")
        return text


def usable_key(candidates: Sequence[Sequence[str]], columns: Sequence[CopyColumn]) -> tuple[str, ...]:
    """The first of some unique keys all of whose columns can be compared with a value; none if there is none."""
    able = {each.name for each in columns if each.can_be_key}
    return next((tuple(each) for each in candidates if each and able.issuperset(each)), ())


def _plain(value: Any) -> int | str:
    if isinstance(value, datetime):
        return value.replace(tzinfo=None).isoformat(sep=" ")
    if isinstance(value, date):
        return value.isoformat()
    return value if isinstance(value, str) else int(value)


def _between(least: int, value: int, most: int) -> int:
    return max(least, min(value, most))
