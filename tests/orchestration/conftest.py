"""A site of its own for each test."""

import os
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from tests.emulator.hub import RunningHub
from tests.midnight import wait_out_midnight
from tests.orchestration.site import HUBS, Site


@pytest.fixture(autouse=True)
def one_date() -> None:
    """Today is the same date when the test ends."""
    wait_out_midnight()


@pytest.fixture(autouse=True)
def only_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine, and no `.env`, reaches a test."""
    for name in os.environ:
        if name.startswith(("PULSELAKE_", "EVENTHUB_", "OPENFDA_", "DAGSTER_HOME")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A site whose hub does not run."""
    data = tmp_path / "hub"
    data.mkdir()
    with dg.DagsterInstance.ephemeral() as instance:
        site = Site(tmp_path, instance, RunningHub(HUBS, data), monkeypatch)
        yield site
    for hub in site.started:
        hub.stop()


@pytest.fixture
def site(offline: Site) -> Site:
    """A site with its hub running."""
    offline.start(offline.hub)
    return offline
