"""The databases that the store is tested with: a file of SQLite, and a real MariaDB."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, event

from resources.lake import Lake
from resources.store import Store
from resources.store_tables import Base
from tests.services.mariadb import MariaDb
from tests.store.azure import say_to_azure


@pytest.fixture(scope="session")
def migrated(mariadb: MariaDb) -> str:
    """A database with the tables; to make them takes longer than most tests."""
    store = Store(mariadb.url())
    store.migrate()
    store.close()
    return store.url.render_as_string(hide_password=False)


@pytest.fixture
def emptied(migrated: str) -> str:
    """The same with nothing in them."""
    engine = create_engine(migrated)
    with engine.begin() as connection:
        for table in reversed(Base.metadata.sorted_tables):
            connection.execute(table.delete())
    engine.dispose()
    return migrated


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of SQLite with the tables."""
    file = tmp_path_factory.mktemp("sqlite") / "store.db"
    store = Store(f"sqlite:///{file}")
    store.migrate()
    store.close()
    return file


@pytest.fixture(params=["sqlite", pytest.param("mariadb", marks=pytest.mark.service)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        file = tmp_path / "store.db"
        shutil.copyfile(request.getfixturevalue("template"), file)
        return f"sqlite:///{file}"
    found: str = request.getfixturevalue("emptied")
    return found


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    opened = Store(url)
    event.listen(opened._engine, "before_execute", say_to_azure)
    yield opened
    opened.close()


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))
