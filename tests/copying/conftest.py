"""Databases to copy: a file of SQLite and a real MariaDB, each with the tables of `omop`."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pymysql
import pytest
import sqlalchemy as sa

from resources.lake import Lake
from tests.copying import omop
from tests.copying.sources import SOURCES
from tests.services.mariadb import MariaDb

SIZE = 3_000


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    SOURCES.close()


@pytest.fixture(scope="session")
def omop_mariadb(mariadb: MariaDb) -> str:
    url = mariadb.url()
    with closing(connected(url)) as connection:
        omop.fill(connection, mark="%s", size=SIZE, is_sqlite=False)
    return url


@pytest.fixture(scope="session")
def omop_sqlite(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("omop") / "omop.sqlite"
    with closing(sqlite3.connect(file)) as connection:
        omop.fill(connection, mark="?", size=SIZE, is_sqlite=True)
    return f"sqlite:///{file}"


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def connected(url: str) -> "pymysql.connections.Connection[pymysql.cursors.Cursor]":
    """A connection to a database of MariaDB, whose default charset is another one."""
    made = sa.make_url(url)
    connection = pymysql.connect(
        host=made.host or "", port=made.port or 0, user=made.username or "", database=made.database, charset="utf8mb4"
    )
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER DATABASE {made.database} CHARACTER SET utf8mb4")
    return connection
