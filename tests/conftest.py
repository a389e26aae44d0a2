"""Fixtures of the whole test suite: real services, one of each per test process."""

import os
import signal
from collections.abc import Iterator

import pytest

from tests.services.azurite import Azurite

os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "yes")

# Whoever starts the tests may ignore signals (`nohup` does), and children inherit that; these must end by signals.
for _number in (signal.SIGTERM, signal.SIGHUP):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.SIG_DFL)


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    with Azurite(tmp_path_factory.mktemp("azurite")) as service:
        yield service
