"""A lake wherever it can be."""

from collections.abc import Iterator
from itertools import count

import pytest

from resources.lake import Lake
from tests.services.azurite import ACCOUNT, Azurite

names = (f"lake{number}" for number in count())


@pytest.fixture(params=["folder", pytest.param("azure", marks=pytest.mark.service)])
def lake(request: pytest.FixtureRequest) -> Iterator[Lake]:
    """An empty lake: a folder, or a container of the storage emulator."""
    if request.param == "folder":
        yield Lake(str(request.getfixturevalue("tmp_path")))
        return
    azurite: Azurite = request.getfixturevalue("azurite")
    azurite.create_container(name := next(names))
    yield Lake(f"abfss://{name}@{ACCOUNT}.dfs.core.windows.net/lake/", azurite.storage_options)
