"""The databases that the store is tested with: a file of SQLite, and a real MariaDB."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from resources.store import Store
from tests.services.mariadb import MariaDb


@pytest.fixture(scope="session")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDb]:
    with MariaDb(tmp_path_factory.mktemp("mariadb")) as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("mariadb", marks=pytest.mark.service)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.db'}"
    server: MariaDb = request.getfixturevalue("mariadb")
    return server.url()


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    opened = Store(url)
    opened.migrate()
    yield opened
    opened.close()
