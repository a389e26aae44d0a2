"""A table of a database as a source of batches: SQLite, MySQL or MariaDB, SQL Server and Azure SQL, by SQLAlchemy.

Rows are asked for from the watermark of the last pull on, in its order, over a cursor of the server. Values are taken
as the driver gives them: one that does not fit the type of its column is the row's fault and not the table's.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, NoSuchModuleError, SQLAlchemyError

from resources.batch_source import (
    PIECE_ROWS,
    BatchSourceError,
    Pulled,
    SqlTable,
    Watermark,
    digest,
    frame_of,
    one_line,
    trusted,
)

_MYSQL = ("mysql", "mariadb")
CONNECT_S, ANSWER_S = 15, 300
"""How long a connection and an answer are waited for."""

TIMEOUTS: dict[str, Mapping[str, Any]] = {
    "sqlite": {"timeout": CONNECT_S},
    "pymysql": {"connect_timeout": CONNECT_S, "read_timeout": ANSWER_S, "write_timeout": CONNECT_S},
    "pymssql": {"timeout": ANSWER_S, "login_timeout": CONNECT_S},
}


def engine_of(url: sa.URL, *, keeps_connections: bool = False) -> sa.Engine:
    """An engine that only reads, as far as SQLite knows of that, and waits for nothing without an end.

    Args:
        url: of the database.
        keeps_connections: whether they are used again, for a driver that does not bind them to a thread.

    Raises:
        ImportError: the driver is not installed.
        SQLAlchemyError, NoSuchModuleError, ValueError: the URL cannot be used.
    """
    if url.get_backend_name() == "sqlite" and url.database:
        # A database that is not there is an error, and not a new one; and nothing is ever written.
        query = {"mode": "ro", "uri": "true"}
        url = sa.URL.create("sqlite", database=f"file:{quote(url.database)}", query=query)
    driver = "sqlite" if url.get_backend_name() == "sqlite" else url.get_driver_name()
    pool: dict[str, Any] = {"poolclass": sa.NullPool}
    if keeps_connections:
        pool = {"poolclass": sa.QueuePool, "max_overflow": -1, "pool_pre_ping": True}
    return sa.create_engine(url, connect_args=dict(TIMEOUTS.get(driver, {})), **pool)


class SqlSource:
    """A table.

    Args:
        name: of the source, for messages.
        url: of the database, as SQLAlchemy has it.
        setting: the environment variable that holds the URL, for messages.
        place: the table and its watermark.
        piece_rows: how many rows are read together.
        clock: tells the time.
    """

    def __init__(
        self,
        name: str,
        url: str,
        setting: str,
        place: SqlTable,
        *,
        piece_rows: int = PIECE_ROWS,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._name, self._url, self._setting, self._place = name, url, setting, place
        self._piece_rows, self._clock = piece_rows, clock

    def pull(self, since: bytes | None) -> Iterator[Pulled]:
        """See `BatchSource.pull`."""
        mark = Watermark.of(self._name, since)
        # Two rows that are equal in all columns are two rows, so those of this pull are not compared with each other.
        known = frozenset(mark.seen)
        engine = self._engine()
        try:
            with engine.connect().execution_options(stream_results=True, max_row_buffer=self._piece_rows) as connection:
                result = connection.execute(self._statement(mark.start(), engine))
                names = list(result.keys())
                watermark = self._watermark(names)
                while rows := result.fetchmany(self._piece_rows):
                    if any(isinstance(row[watermark], bytes) for row in rows):
                        raise self._unusable("is binary, so that nothing can be read again around the newest row")
                    now = self._clock()
                    keyed = [(digest(row), trusted(row[watermark], now), row) for row in rows]
                    new = [row for key, _, row in keyed if key not in known]
                    mark.read((key, at) for key, at, _ in keyed)
                    mark.forget(self._name)
                    if new:
                        yield Pulled(frame_of([dict(zip(names, row, strict=True)) for row in new]), mark.cursor())
        except SQLAlchemyError as error:
            raise self._error(error) from None
        finally:
            engine.dispose()

    def _engine(self) -> sa.Engine:
        try:
            return engine_of(sa.make_url(self._url))
        except ImportError as error:
            raise BatchSourceError(
                self._name,
                "opening the database",
                f"its driver is not installed ({error})",
                f"Name one that is in {self._setting}: pymysql for MySQL, pymssql for SQL Server and Azure SQL; or "
                "install it into .venv.",
            ) from None
        except (SQLAlchemyError, NoSuchModuleError, ValueError) as error:
            raise BatchSourceError(
                self._name,
                "opening the database",
                f"{type(error).__name__}: the URL cannot be used",
                f"Set {self._setting} to a URL of SQLAlchemy, such as sqlite:////folder/ehr.sqlite, "
                "mysql+pymysql://USER:PASSWORD@HOST/DATABASE or mssql+pymssql://USER:PASSWORD@HOST/DATABASE.",
            ) from None

    def _statement(self, start: Any, engine: sa.Engine) -> sa.Select[Any]:
        # Columns without a type: the driver's values come as they are, and parameters go as they are.
        watermark: sa.ColumnClause[Any] = sa.column(self._place.watermark)
        # What MySQL calls a schema is the database, which the URL names.
        has_schemas = engine.dialect.name not in ("sqlite", *_MYSQL)
        table = sa.table(self._place.table, schema=self._place.schema if has_schemas else None)
        statement = sa.select(sa.text("*")).select_from(table)
        if start is not None:
            has_none: list[sa.ColumnElement[bool]] = [watermark.is_(None)]
            if engine.dialect.name in _MYSQL and isinstance(start, datetime):
                # A date of zeros is no null, and is before every other one.
                has_none.append(watermark < sa.literal_column("'1000-01-01'"))
            statement = statement.where(sa.or_(watermark >= start, *has_none))
        return statement.order_by(watermark)

    def _watermark(self, names: list[str]) -> int:
        for place, name in enumerate(names):
            if name.lower() == self._place.watermark.lower():
                return place
        raise self._unusable("is not there")

    def _unusable(self, what: str) -> BatchSourceError:
        return BatchSourceError(
            self._name,
            f"reading the table {self._place.table}",
            f"its column {self._place.watermark} {what}",
            "Name another watermark in assets/clinical/sources.py: best the time at which a row was changed.",
        )

    def _error(self, error: SQLAlchemyError) -> BatchSourceError:
        # SQLAlchemy's own text holds the statement and its parameters; a driver's text of bad data may hold the data.
        cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
        is_of_data = isinstance(error, sa.exc.DataError | sa.exc.IntegrityError)
        url = sa.make_url(self._url)
        shown = url.render_as_string(hide_password=True)
        reason = type(cause).__name__ if is_of_data else one_line(cause)
        if url.password:
            reason = reason.replace(str(url.password), "…")
        return BatchSourceError(
            self._name,
            f"reading the table {self._place.table} of {shown}",
            reason,
            f"Check that the database runs and can be reached, and {self._setting}. `pulselake hospital` makes the "
            "default one.",
        )
