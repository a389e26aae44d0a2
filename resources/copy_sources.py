"""Opens the database that a URL names as a source of copies."""

import sqlalchemy as sa

from resources.copy_mysql import MySqlSource
from resources.copy_source import CopyError, CopySource
from resources.copy_sql_server import SqlServerSource
from resources.copy_sqlite import SqliteSource

_KINDS: dict[str, type[CopySource]] = {
    "mysql": MySqlSource,
    "mariadb": MySqlSource,
    "mssql": SqlServerSource,
    "sqlite": SqliteSource,
}


def copy_source(url: str) -> CopySource:
    """The database of a URL of SQLAlchemy.

    Raises:
        CopyError: the URL cannot be used; the message does not repeat it, since it may hold a password.
    """
    advice = (
        "Nothing was copied. Give one such as mysql://USER:PASSWORD@HOST/DATABASE, mssql://USER:PASSWORD@HOST/DATABASE "
        "or sqlite:////folder/file.sqlite, or the name of an environment variable that holds one."
    )
    try:
        made = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        raise CopyError(f"The URL of the database cannot be used. {advice}") from None
    kind = _KINDS.get(made.get_backend_name())
    if kind is None or not made.drivername:
        raise CopyError(f"Tables of {made.get_backend_name()} cannot be copied. {advice}")
    if kind is SqliteSource and not made.database:
        raise CopyError(f"The URL names no file of SQLite. {advice}")
    return kind(made)
