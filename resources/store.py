"""The transactional store: tables in SQLite, MySQL, MariaDB or Azure SQL, by SQLAlchemy.

It opens the database, brings its tables up to date, and writes rows together with how far they reach, in one
transaction. Which rows these are, and when they are written, belongs to `assets.store_sync`.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import (
    URL,
    ColumnElement,
    Connection,
    Engine,
    Executable,
    Select,
    Table,
    create_engine,
    delete,
    event,
    func,
    insert,
    inspect,
    make_url,
    select,
    update,
)
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    NoSuchModuleError,
    OperationalError,
)
from sqlalchemy.exc import TimeoutError as NoConnectionError
from sqlalchemy.pool import ConnectionPoolEntry

from resources.store_tables import (
    EDITED_AT,
    GENERATION,
    INGEST_DATE,
    Base,
    SyncReference,
    SyncState,
    SyncVersion,
    edit_trigger,
    key_of,
    polars_schema,
)
from resources.store_writes import DoesNotFitError, LoadRefusedError, write

MIGRATIONS = Path(__file__).parent / "store_migrations"
CONNECT_S, ANSWER_S, LOCKED_S = 10, 300, 30
"""How long a connection, an answer, and a lock of SQLite's file are waited for."""
READ_ROWS, DELETED_ROWS, LISTED_KEYS = 20_000, 20_000, 500
"""How many rows are read, and removed, at once, and how many keys a statement names."""
DRIVERS = {"sqlite": "pysqlite", "mysql": "pymysql", "mariadb": "pymysql", "mssql": "mssqlpython"}
"""The databases, each with the driver that is taken where the URL names none."""
_MARIA = ("mysql", "mariadb")
_VALUES = re.compile(r"(?<!\w)'.*?'(?!\w)|(?<=key value is )\([^)]*\)")
"""What drivers quote: a text, in which there may be an apostrophe, and the key that Azure SQL has twice."""


class StoreError(RuntimeError):
    """The store cannot be used as it is; the message says what to do."""


class StoreUnavailableError(StoreError):
    """The database does not answer, or not as it should."""


class OvertakenError(RuntimeError):
    """Another sync wrote to a table since its state was read; nothing was written."""


@dataclass(frozen=True)
class State:
    """How far one table has come.

    Attributes:
        delta_id: Delta's id of the lake's table.
        version: of the lake's table; the store has everything of it.
        offsets: for each partition of the hub the last sequence number that is in the store.
        replaced: for each table of the lake that counts, how often its rows had been replaced.
        generation: what rows of this filling say.
        is_filling: whether rows of earlier fillings are still to be removed, once all of the lake's are here.
        kept_from: rows before this date are left out; None where all are kept.
        newest_ingest_date: no row with a later one is in the store.
        rows_written: how many rows were written so far.
        serial: the number of this state.
        synced_at: when it was written.
        problem: what keeps the table from following; empty if nothing does.
    """

    delta_id: str
    version: int = -1
    offsets: Mapping[str, int] = field(default_factory=dict)
    replaced: Mapping[str, int] = field(default_factory=dict)
    generation: int = 0
    is_filling: bool = False
    kept_from: date | None = None
    newest_ingest_date: date | None = None
    rows_written: int = 0
    serial: int = 0
    synced_at: datetime | None = None
    problem: str = ""


@dataclass(frozen=True)
class Edits:
    """What people changed in a table since the sync wrote to it.

    Attributes:
        rows: those that are new or have other values.
        gone: the keys of those that were removed.
    """

    rows: pl.DataFrame
    gone: tuple[int, ...]

    def __bool__(self) -> bool:
        return bool(self.rows.height or self.gone)


class Store:
    """The database at a URL. Connections are opened when they are needed, and again after one was lost.

    Args:
        url: as SQLAlchemy has it, for instance ``mysql://user:password@host/database``.

    Raises:
        StoreError: it is no URL of a database that is known.
    """

    def __init__(self, url: str) -> None:
        self.url = _url(url)
        self._engine = _engine(self.url)
        self._may_load = True

    @property
    def name(self) -> str:
        """The URL without its password."""
        return self.url.render_as_string(hide_password=True)

    @property
    def dialect(self) -> str:
        """``sqlite``, ``mysql``, ``mariadb`` or ``mssql``."""
        return self._engine.dialect.name

    def close(self) -> None:
        """Closes its connections."""
        self._engine.dispose()

    def migrate(self) -> None:
        """Creates the tables, or brings them up to date; nothing changes where they are.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        # Of two at once on SQLite, one waits for the other.
        config = _alembic()
        connecting = self._engine.execution_options(is_immediate=True).begin
        with self._reached(), connecting() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def is_current(self) -> bool:
        """Whether the tables are those that are declared."""
        return self._revision() == _head()

    def _revision(self) -> str | None:
        with self._reached(), self._engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()

    def require_current(self) -> None:
        """Makes sure that the tables are those that are declared.

        Raises:
            StoreError: they are not; the message says what to do.
            StoreUnavailableError: the database does not answer.
        """
        found, wanted = self._revision(), _head()
        if found != wanted:
            has = f"is at migration {found}" if found else "has no tables yet"
            raise StoreError(
                f"The store {self.name} {has}, and migration {wanted} is needed; nothing was read or written. Run "
                "`pulselake oltp migrate`."
            )

    def table(self, name: str) -> Table:
        """A declared table.

        Raises:
            StoreError: there is none of that name.
        """
        for each in Base.metadata.tables.values():
            if each.name.lower() == name.lower():
                return each
        raise StoreError(f"The store has no table '{name}'. Tables: {', '.join(sorted(Base.metadata.tables))}.")

    def recreate(self, name: str) -> None:
        """Creates a table that was dropped, with its trigger and the views; one that is there stays.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        table = self.table(name)
        with self._reached(), self._engine.begin() as connection:
            if inspect(connection).has_table(table.name):
                return
            table.create(connection)
            trigger = edit_trigger(self.dialect, table.name, key_of(table)) if EDITED_AT in table.columns else None
            if trigger:
                connection.exec_driver_sql(trigger)

    def state(self, name: str) -> State | None:
        """How far a table has come; None where it is to be filled from the beginning.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        return self.states([name]).get(name)

    def states(self, names: Sequence[str]) -> dict[str, State]:
        """The same of several tables, by their names; those that are to be filled are left out."""
        with self._reached(), self._engine.connect() as connection:
            return _states(connection, names)

    def forget(self, name: str) -> None:
        """Lets a table be filled from the beginning; its rows stay until then.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        with self._reached(), self._engine.begin() as connection:
            connection.execute(delete(SyncState).where(SyncState.table_name == name))
            connection.execute(delete(SyncReference).where(SyncReference.table_name == name))

    def note(self, name: str, problem: str) -> None:
        """Notes what keeps a table from following, or that nothing does; a table that is to be filled has no note."""
        with self._reached(), self._engine.begin() as connection:
            is_other = (SyncState.table_name == name) & (func.coalesce(SyncState.problem, "") != problem)
            connection.execute(update(SyncState).where(is_other).values(problem=problem or None))

    @contextmanager
    def step(self, name: str, known: State | None, new: State, table: str | None = None) -> Iterator["Step"]:
        """One transaction that writes rows of a table and moves its state.

        Args:
            name: what the state is of.
            known: the state as it was read.
            new: the state afterwards; serial and time are set here.
            table: the table, where it has another name than the state.

        Raises:
            OvertakenError: the state is another one by now; nothing was written.
            StoreUnavailableError: the database does not answer, so it is not known whether the transaction took place;
                the state tells it later.
            StoreError: the database refused rows; nothing was written.
        """
        with self._reached(), self._engine.begin() as connection:
            # First of all: it locks the row, so that of two at once the second one waits, and is refused.
            yield Step(self, connection, self.table(table or name), _move(connection, name, known, new))

    def rows(self, name: str, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """The rows of a table, some at a time.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        with self._reached(), self._engine.connect() as connection:
            yield from _frames(connection, self.table(name), columns)

    @contextmanager
    def snapshot(
        self, name: str, columns: Sequence[str], day: date | None = None
    ) -> Iterator[tuple[State | None, Iterator[pl.DataFrame]]]:
        """The state of a table and its rows, of one ingest date or all, as they are at one moment.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        with self.snapshot_of([name], name, columns, day) as (states, frames):
            yield states.get(name), frames

    @contextmanager
    def snapshot_of(
        self, states: Sequence[str], name: str, columns: Sequence[str], day: date | None = None
    ) -> Iterator[tuple[dict[str, State], Iterator[pl.DataFrame]]]:
        """The same of a table that has several states."""
        with self._reached(), self._engine.connect() as connection, connection.begin():
            yield _states(connection, states), _frames(connection, self.table(name), columns, day)

    def count(self, name: str) -> int:
        """How many rows a table has."""
        with self._reached(), self._engine.connect() as connection:
            return int(connection.execute(select(func.count()).select_from(self.table(name))).scalar_one())

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """All rows of a statement."""
        with self._reached(), self._engine.connect() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(statement)]

    def selected(self, statement: Executable) -> list[tuple[Any, ...]]:
        """All rows of a statement that SQLAlchemy made."""
        with self._reached(), self._engine.connect() as connection:
            return [tuple(row) for row in connection.execute(statement)]

    def apply(self, statement: Executable) -> None:
        """A statement that SQLAlchemy made, in a transaction of its own."""
        with self._reached(), self._engine.begin() as connection:
            connection.execute(statement)

    def execute(self, statement: str) -> None:
        """One statement, in a transaction of its own."""
        with self._reached(), self._engine.begin() as connection:
            connection.exec_driver_sql(statement)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection to read by.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        with self._reached(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A connection with a transaction, which is committed at the end of the block.

        Raises:
            StoreUnavailableError: the database does not answer; it is not known whether the transaction took place.
        """
        with self._reached(), self._engine.begin() as connection:
            yield connection

    def newest_generation(self, name: str) -> int:
        """The greatest generation of a table's rows; 0 where there are none."""
        with self._reached(), self._engine.connect() as connection:
            found = connection.execute(select(func.max(self.table(name).c[GENERATION]))).scalar_one()
        return int(found or 0)

    def versions(self, name: str, entities: Sequence[str], generation: int) -> dict[str, str]:
        """Which versions a table has of some things, as far as this filling has come."""
        found: dict[str, str] = {}
        with self._reached(), self._engine.connect() as connection:
            for part in _parts(entities):
                wanted = select(SyncVersion.entity, SyncVersion.version_key).where(
                    SyncVersion.table_name == name,
                    SyncVersion.entity.in_(part),
                    SyncVersion.sync_generation == generation,
                )
                found |= {each.entity: each.version_key for each in connection.execute(wanted)}
        return found

    def expire(self, name: str, column: str, before: date) -> int:
        """Removes rows that are older than a date, some at a time, so that nobody waits for them long.

        Returns:
            How many were removed.
        """
        table = self.table(name)
        value: Any = before if column == INGEST_DATE else datetime.combine(before, datetime.min.time())
        return self.remove(name, table.c[column] < value)

    def sweep(self, name: str, generation: int) -> int:
        """Removes the rows of earlier fillings.

        Returns:
            How many were removed.
        """
        table, versions = self.table(name), Base.metadata.tables[SyncVersion.__tablename__]
        done = self.remove(name, table.c[GENERATION] != generation)
        is_old = (versions.c.table_name == name) & (versions.c[GENERATION] != generation)
        with self._reached(), self._engine.begin() as connection:
            connection.execute(delete(versions).where(is_old))
        return done

    def remove(self, name: str, where: ColumnElement[bool]) -> int:
        """Removes the rows of a table that meet a condition, some at a time, so that nobody waits for them long.

        Returns:
            How many were removed.
        """
        table = self.table(name)
        [key] = table.primary_key.columns
        # MySQL takes no LIMIT in a list that it looks into, but in a table that is made of it.
        some = select(key).where(where).limit(DELETED_ROWS).subquery()
        statement = delete(table).where(key.in_(select(some.c[key.name])))
        done = 0
        while True:
            with self._reached(), self._engine.begin() as connection:
                count = connection.execute(statement).rowcount
            done += count
            if count < DELETED_ROWS:
                return done

    def edits(self, name: str) -> Edits:
        """What people changed in a table since the sync wrote to it; the keys of the rows alone are compared."""
        table = self.table(name)
        key, written = table.c[key_of(table)], _written(name)
        is_other = written.c.row_key.is_(None) | (written.c.edited_at != table.c[EDITED_AT])
        changed = select(table).outerjoin(written, written.c.row_key == key).where(is_other)
        gone = select(written.c.row_key).outerjoin(table, written.c.row_key == key).where(key.is_(None))
        with self._reached(), self._engine.connect() as connection:
            rows = pl.concat([pl.DataFrame(schema=polars_schema(table)), *_read(connection, table, changed)])
            return Edits(rows, tuple(connection.execute(gone).scalars()))

    def written(self, name: str) -> dict[int, datetime]:
        """For each row that the sync wrote, when the version was known that it is of."""
        written = _written(name)
        with self._reached(), self._engine.connect() as connection:
            found = connection.execute(select(written.c.row_key, written.c.known_at))
            return {row_key: known_at.replace(tzinfo=UTC) for row_key, known_at in found}

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except DoesNotFitError as error:
            raise StoreError(
                f"The store {self.name}: {error}, so nothing was written. Somebody has changed the table: drop it, and "
                "run `pulselake oltp resync TABLE`."
            ) from error
        except DBAPIError as error:
            raise self._told(error) from error
        except NoConnectionError as error:
            raise StoreUnavailableError(
                f"The store {self.name} has no connection free in time; nothing was written. Look at the database and "
                "the network."
            ) from error

    def _told(self, error: DBAPIError) -> StoreError:
        said = _said(error)
        if _is_missing(error):
            return StoreError(
                f"A table of the store {self.name} is missing ({said}); nothing was written. If somebody dropped it, "
                "`pulselake oltp resync TABLE` creates and fills it; else run `pulselake oltp migrate`."
            )
        if isinstance(error, OperationalError | InterfaceError):
            return StoreUnavailableError(
                f"The store {self.name} does not answer as it should: {said}. Nothing is lost: what the lake has is "
                "written when it answers again. Look at the database, the network, and PULSELAKE_OLTP."
            )
        return StoreError(
            f"The store {self.name} refused what was asked: {said}. Nothing was written. Bring its tables up to date "
            "with `pulselake oltp migrate`, and look at the rights of the user."
        )


def opened(url: str, *, is_own: bool) -> Store:
    """The store at a URL, once its tables are those that are declared.

    Args:
        url: where it is.
        is_own: whether it is the file in the home, whose tables are made when they are first needed.

    Raises:
        StoreError: its tables are others; the message says what to do.
        StoreUnavailableError: the database does not answer.
    """
    store = Store(url)
    if is_own:
        Path(str(store.url.database)).parent.mkdir(parents=True, exist_ok=True)
        if not store.is_current():
            store.migrate()
    store.require_current()
    return store


class Step:
    """What one transaction writes into a table.

    Attributes:
        state: the table's, once the transaction has ended.
    """

    def __init__(self, store: Store, connection: Connection, table: Table, state: State) -> None:
        self._store, self._connection, self._table, self.state = store, connection, table, state

    def upsert(self, rows: pl.DataFrame, key: Sequence[str], table: str | None = None) -> None:
        """Adds rows; those whose key is there take the new values. Each key is given once."""
        into = self._table if table is None else self._store.table(table)
        try:
            write(self._connection, into, rows, key, may_load=self._store._may_load)
        except LoadRefusedError:
            self._store._may_load = False
            write(self._connection, into, rows, key, may_load=False)

    def delete_others(self, day: date, generation: int) -> int:
        """Removes the rows of an ingest date that are not of a generation."""
        columns = self._table.c
        where = (columns[INGEST_DATE] == day) & (columns[GENERATION] != generation)
        return self._connection.execute(delete(self._table).where(where)).rowcount

    def delete_where_in(self, column: str, values: Sequence[Any]) -> None:
        """Removes the rows that have one of some values."""
        for part in _parts(values):
            self._connection.execute(delete(self._table).where(self._table.c[column].in_(part)))

    def edited_at(self, keys: Sequence[int]) -> dict[int, datetime]:
        """When rows were edited last, by their keys. They are locked: nobody edits them until the transaction ends."""
        key, found = self._table.c[key_of(self._table)], dict[int, datetime]()
        for part in _parts(keys):
            wanted = select(key, self._table.c[EDITED_AT]).where(key.in_(part)).with_for_update()
            # Azure SQL has no FOR UPDATE.
            wanted = wanted.with_hint(self._table, "WITH (UPDLOCK)", "mssql")
            found |= {row[0]: row[1] for row in self._connection.execute(wanted)}
        return found

    def remember(self, written: pl.DataFrame, gone: Sequence[int]) -> None:
        """Notes what was written into a table that may be edited.

        Args:
            written: row_key, edited_at, known_at.
            gone: keys of rows that are not there any more.
        """
        name = self._table.name
        for part in _parts(gone):
            is_gone = (SyncReference.table_name == name) & SyncReference.row_key.in_(part)
            self._connection.execute(delete(SyncReference).where(is_gone))
        rows = written.with_columns(table_name=pl.lit(name))
        self.upsert(rows, ("table_name", "row_key"), SyncReference.__tablename__)


def _url(url: str) -> URL:
    try:
        found = make_url(url)
    except ArgumentError:
        found = None
    if found is None or found.get_backend_name() not in DRIVERS:
        # Not the text itself: it may hold a password.
        raise StoreError(
            "PULSELAKE_OLTP is no URL of a database that is known; nothing was opened. Write one like "
            "'mysql://USER:PASSWORD@HOST/DATABASE', 'mariadb://…', 'mssql://…' or 'sqlite:///FILE'."
        )
    backend = found.get_backend_name()
    return found if "+" in found.drivername else found.set(drivername=f"{backend}+{DRIVERS[backend]}")


def _engine(url: URL) -> Engine:
    backend = url.get_backend_name()
    arguments: dict[str, Any] = {}
    if backend in _MARIA:
        arguments = {
            "charset": "utf8mb4",
            "local_infile": True,
            "connect_timeout": CONNECT_S,
            "read_timeout": ANSWER_S,
            "write_timeout": ANSWER_S,
        }
    elif backend == "sqlite":
        arguments = {"timeout": LOCKED_S}
    try:
        engine = create_engine(url, connect_args=arguments, pool_pre_ping=True, hide_parameters=True)
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise StoreError(
            f"The driver of {url.drivername} is not installed ({error}); nothing was opened. For Azure SQL install the "
            "extra: .venv/bin/python -m pip install -e '.[mssql]'."
        ) from error
    if backend == "sqlite":
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    elif backend in _MARIA:
        event.listen(engine, "connect", _set_up_mysql)
    return engine


def _set_up_sqlite(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    # The driver begins transactions when it likes; SQLAlchemy tells when, in `_begin_sqlite`.
    connection.isolation_level = None
    cursor = connection.cursor()
    for setting in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON"):
        cursor.execute(f"PRAGMA {setting}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    is_immediate = connection.get_execution_options().get("is_immediate")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_immediate else "BEGIN")


def _set_up_mysql(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    cursor.execute("SET time_zone = '+00:00', sql_mode = 'STRICT_ALL_TABLES'")
    cursor.close()


def _alembic() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config


def _head() -> str | None:
    return ScriptDirectory.from_config(_alembic()).get_current_head()


def _states(connection: Connection, names: Sequence[str]) -> dict[str, State]:
    rows = connection.execute(select(SyncState.__table__).where(SyncState.table_name.in_(names)))
    return {each.table_name: _state_of(each) for each in rows}


def _state_of(row: Any) -> State:
    return State(
        row.delta_id,
        row.version,
        json.loads(row.offsets),
        json.loads(row.replaced),
        row.generation,
        row.is_filling,
        row.kept_from,
        row.newest_ingest_date,
        row.rows_written,
        row.serial,
        row.synced_at.replace(tzinfo=UTC),
        row.problem or "",
    )


def _move(connection: Connection, name: str, known: State | None, new: State) -> State:
    now = datetime.now(UTC)
    new = replace(new, serial=known.serial + 1 if known else 0, synced_at=now)
    values = {
        "delta_id": new.delta_id,
        "version": new.version,
        "offsets": json.dumps(dict(new.offsets), sort_keys=True),
        "replaced": json.dumps(dict(new.replaced), sort_keys=True),
        "generation": new.generation,
        "is_filling": new.is_filling,
        "kept_from": new.kept_from,
        "newest_ingest_date": new.newest_ingest_date,
        "rows_written": new.rows_written,
        "serial": new.serial,
        "synced_at": now.replace(tzinfo=None),
        "problem": new.problem or None,
    }
    if known is None:
        try:
            connection.execute(insert(SyncState).values(table_name=name, **values))
        except IntegrityError as error:
            raise _overtaken(name) from error
        return new
    is_known = (SyncState.table_name == name) & (SyncState.serial == known.serial)
    # Another filling begins with another number, even where it has the same serial.
    is_known &= SyncState.generation == known.generation
    if connection.execute(update(SyncState).where(is_known).values(**values)).rowcount != 1:
        raise _overtaken(name)
    return new


def _overtaken(name: str) -> OvertakenError:
    return OvertakenError(
        f"{name}: another sync wrote to the table since its state was read; nothing was written. Sync again."
    )


def next_state(known: State, **changes: Any) -> State:
    """A state that follows on another one."""
    return replace(known, **changes)


def _frames(
    connection: Connection, table: Table, columns: Sequence[str], day: date | None = None
) -> Iterator[pl.DataFrame]:
    rows = select(*(table.c[name] for name in columns))
    yield from _read(connection, table, rows if day is None else rows.where(table.c[INGEST_DATE] == day))


def _read(connection: Connection, table: Table, rows: Select[Any]) -> Iterator[pl.DataFrame]:
    """Rows of some columns of a table, in portions."""
    schema = polars_schema(table)
    with connection.execution_options(yield_per=READ_ROWS).execute(rows) as result:
        names = result.keys()
        types = {name: schema[name] for name in names}
        for part in result.partitions():
            yield pl.DataFrame([tuple(row) for row in part], schema=types, orient="row")


def _written(name: str) -> Any:
    return select(SyncReference.__table__).where(SyncReference.table_name == name).subquery()


def _parts(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for first in range(0, len(values), LISTED_KEYS):
        yield values[first : first + LISTED_KEYS]


def _is_missing(error: DBAPIError) -> bool:
    said = str(error.orig)
    return any(each in said for each in ("no such table", "doesn't exist", "Invalid object name"))


def _said(error: DBAPIError) -> str:
    """What the driver said in a line, without the values that it names: they may be a patient's."""
    # The arguments, since an error's own text may be a tuple, in which all that was said stands in quotes.
    said = " ".join(str(each) for each in error.orig.args) if error.orig else ""
    return _VALUES.sub("'…'", " ".join(said.split()))[:300]
