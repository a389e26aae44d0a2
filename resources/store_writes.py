"""How rows get into a table of the store quickly, in the words of each database.

All of them come to the same: a row whose key is there takes the new values and keeps the number that the database gave
it; another one is added. MySQL and MariaDB read rows from a file in memory into a temporary table, and add them from
there. Where the server does not allow that, and on SQLite, rows are sent one by one in large packets.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import polars as pl
from sqlalchemy import Connection, Dialect, Table
from sqlalchemy.exc import DBAPIError

_LOAD_REFUSED = frozenset({1148, 3948, 2068, 4166})
"""Errors of MySQL and MariaDB which say that LOAD DATA LOCAL is switched off on the server or in the client."""
_PARAMETERS = 2_000
"""How many values one statement has on Azure SQL, which allows 2,100."""
_INSTANT = "%Y-%m-%d %H:%M:%S%.6f"


class LoadRefusedError(RuntimeError):
    """The server does not read files of its clients."""


class DoesNotFitError(RuntimeError):
    """The database would have changed values that it read; the transaction must not be committed."""


def write(connection: Connection, table: Table, rows: pl.DataFrame, key: Sequence[str], *, may_load: bool) -> None:
    """Adds rows, or gives those whose key is there the new values.

    Args:
        connection: with a transaction under way.
        table: the table.
        rows: the columns to write, by the types of `polars_schema`; each key once.
        key: the columns of a unique constraint.
        may_load: whether LOAD DATA LOCAL is tried where the database has it.

    Raises:
        LoadRefusedError: the server refused it; nothing was written, and the transaction is still good.
        DoesNotFitError: values would have been changed.
    """
    if rows.is_empty():
        return
    name = connection.dialect.name
    if name in ("mysql", "mariadb"):
        if may_load:
            _load(connection, table, rows, key)
        else:
            statement = mysql_upsert(connection.dialect, table, rows.columns, key)
            connection.exec_driver_sql(statement, _tuples(rows))
    elif name == "sqlite":
        statement = sqlite_upsert(connection.dialect, table, rows.columns, key)
        connection.exec_driver_sql(statement, _tuples(rows))
    else:
        for part in rows.iter_slices(max(1, _PARAMETERS // rows.width)):
            connection.exec_driver_sql(merge(connection.dialect, table, rows.columns, key, part.height), _flat(part))


def mysql_upsert(dialect: Dialect, table: Table, columns: Sequence[str], key: Sequence[str]) -> str:
    """The statement that the driver makes large packets of."""
    quote = dialect.identifier_preparer.quote
    listed, values = ", ".join(map(quote, columns)), ", ".join(["%s"] * len(columns))
    changed = ", ".join(f"{quote(each)} = VALUES({quote(each)})" for each in _others(columns, key))
    return f"INSERT INTO {_name(dialect, table)} ({listed}) VALUES ({values}) ON DUPLICATE KEY UPDATE {changed}"


def sqlite_upsert(dialect: Dialect, table: Table, columns: Sequence[str], key: Sequence[str]) -> str:
    """The statement for one row."""
    quote = dialect.identifier_preparer.quote
    listed, values = ", ".join(map(quote, columns)), ", ".join("?" * len(columns))
    changed = ", ".join(f"{quote(each)} = excluded.{quote(each)}" for each in _others(columns, key))
    return (
        f"INSERT INTO {_name(dialect, table)} ({listed}) VALUES ({values}) "
        f"ON CONFLICT ({', '.join(map(quote, key))}) DO UPDATE SET {changed}"
    )


def merge(dialect: Dialect, table: Table, columns: Sequence[str], key: Sequence[str], rows: int) -> str:
    """The statement for so many rows on Azure SQL."""
    quote = dialect.identifier_preparer.quote
    names = [quote(each) for each in columns]
    row = f"({', '.join(['?'] * len(columns))})"
    matched = " AND ".join(f"t.{quote(each)} = s.{quote(each)}" for each in key)
    changed = ", ".join(f"t.{quote(each)} = s.{quote(each)}" for each in _others(columns, key))
    return (
        f"MERGE INTO {_name(dialect, table)} WITH (HOLDLOCK) AS t "
        f"USING (VALUES {', '.join([row] * rows)}) AS s ({', '.join(names)}) ON {matched} "
        f"WHEN MATCHED THEN UPDATE SET {changed} "
        f"WHEN NOT MATCHED THEN INSERT ({', '.join(names)}) VALUES ({', '.join(f's.{each}' for each in names)});"
    )


def load_statements(dialect: Dialect, table: Table, columns: Sequence[str], key: Sequence[str]) -> list[str]:
    """The statements of one load: the temporary table, the file `{file}` into it, and from there into the table."""
    quote = dialect.identifier_preparer.quote
    name, stage = _name(dialect, table), quote(f"stage_{table.name}")
    types = {each.name: each.type.compile(dialect) for each in table.columns}
    listed = ", ".join(map(quote, columns))
    changed = ", ".join(f"{name}.{quote(each)} = {stage}.{quote(each)}" for each in _others(columns, key))
    return [
        # Quicker than to remove the rows of the last load; neither of the two ends the transaction.
        f"DROP TEMPORARY TABLE IF EXISTS {stage}",
        f"CREATE TEMPORARY TABLE {stage} "
        f"({', '.join(f'{quote(each)} {types[each]}' for each in columns)}) CHARACTER SET utf8mb4",
        # Without an escape, a backslash is itself, NULL is null, and "NULL" a text.
        f"LOAD DATA LOCAL INFILE '{{file}}' INTO TABLE {stage} CHARACTER SET utf8mb4 FIELDS TERMINATED BY '\\t' "
        f"OPTIONALLY ENCLOSED BY '\"' ESCAPED BY '' LINES TERMINATED BY '\\n' ({listed})",
        f"INSERT INTO {name} ({listed}) SELECT {listed} FROM {stage} ON DUPLICATE KEY UPDATE {changed}",
    ]


def _load(connection: Connection, table: Table, rows: pl.DataFrame, key: Sequence[str]) -> None:
    drop, create, load, insert = load_statements(connection.dialect, table, rows.columns, key)
    connection.exec_driver_sql(drop)
    connection.exec_driver_sql(create)
    with _file_of(rows) as file:
        try:
            connection.exec_driver_sql(load.replace("{file}", file))
        except DBAPIError as error:
            if error.orig is not None and error.orig.args and error.orig.args[0] in _LOAD_REFUSED:
                raise LoadRefusedError(str(error.orig.args[0])) from error
            raise
    # A load from a client does not fail where it changes values, it warns.
    if changed := connection.exec_driver_sql("SELECT @@warning_count").scalar_one():
        raise DoesNotFitError(f"{table.name}: {changed:,} values did not fit into their columns")
    connection.exec_driver_sql(insert)


@contextmanager
def _file_of(rows: pl.DataFrame) -> Iterator[str]:
    """The rows as a file in memory: what patients' readings say is not left on a disk."""
    descriptor = os.memfd_create("pulselake")
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            _as_text(rows).write_csv(
                file, include_header=False, separator="\t", null_value="NULL", quote_style="non_numeric"
            )
        yield f"/proc/{os.getpid()}/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _as_text(rows: pl.DataFrame) -> pl.DataFrame:
    """Instants as every database reads them, and truth as a number."""
    return rows.with_columns(
        pl.col(pl.Datetime).dt.strftime(_INSTANT),
        pl.col(pl.Date).dt.strftime("%Y-%m-%d"),
        pl.col(pl.Boolean).cast(pl.Int8),
    )


def _tuples(rows: pl.DataFrame) -> list[tuple[object, ...]]:
    return _as_text(rows).rows()


def _flat(rows: pl.DataFrame) -> tuple[object, ...]:
    return tuple(value for row in _tuples(rows) for value in row)


def _others(columns: Sequence[str], key: Sequence[str]) -> list[str]:
    """What changes where the key is there; the key itself where a table has nothing else."""
    return [each for each in columns if each not in key] or [key[0]]


def _name(dialect: Dialect, table: Table) -> str:
    return dialect.identifier_preparer.format_table(table)
