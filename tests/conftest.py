"""Fixtures of the whole test suite: real services, one of each per test process."""

import gc
import os
import signal
from collections.abc import Iterator
from itertools import zip_longest

import pytest
from hypothesis import HealthCheck, settings

from tests.services.azurite import Azurite
from tests.services.mariadb import MariaDb

os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "yes")

# How long an example takes says how busy the machine is.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")

# Whoever starts the tests may ignore signals, as `nohup` does and `&` in a script; children inherit that, and Dagster
# handles SIGTERM as SIGINT. What the tests start must end by signals.
for _number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.SIG_DFL)


@pytest.fixture(autouse=True, scope="module")
def _no_garbage_of_a_module() -> Iterator[None]:
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _no_garbage() -> Iterator[None]:
    """A socket that a test leaves to the garbage collector fails this test, and not one that runs later."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    with Azurite(tmp_path_factory.mktemp("azurite")) as service:
        yield service


@pytest.fixture(scope="session")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDb]:
    """Each test takes databases of its own, by `url()`. One that kills the server starts it again."""
    with MariaDb(tmp_path_factory.mktemp("mariadb")) as server:
        yield server


def pytest_collection_finish() -> None:
    """What is imported stays: with it among what is looked through, to collect garbage takes 0.3 s of CPU time."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, in turn with those that start services, and the quick ones come last.

    Each worker takes a file when it has done with one, so that none is left alone with a slow one at the end.
    """
    slow, services, quick = list[list[pytest.Item]](), list[list[pytest.Item]](), list[list[pytest.Item]]()
    files: dict[str, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.nodeid.partition("::")[0], []).append(item)
    for tests in files.values():
        marks = {mark.name for test in tests for mark in test.iter_markers()}
        kind = slow if marks & {"slow", "crash"} else services if "service" in marks else quick
        kind.append(tests)
    in_turn = [tests for pair in zip_longest(slow, services) for tests in pair if tests]
    items[:] = [test for tests in [*in_turn, *quick] for test in tests]
