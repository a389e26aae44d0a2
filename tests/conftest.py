"""Fixtures of the whole test suite: real services, one of each per test process."""

import os
from collections.abc import Iterator

import pytest

from tests.services.azurite import Azurite

os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "yes")


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    with Azurite(tmp_path_factory.mktemp("azurite")) as service:
        yield service
