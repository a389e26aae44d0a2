"""A storage that accepts connections and never answers: every operation ends in an error, none waits for ever."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from deltalake import DeltaTable

from orchestration.system import LakeUnavailableError, open_lake
from resources.lake import Lake, LakeTable
from resources.settings import AzureStorage, Settings
from tests.resources.numbers import NUMBERS, frame
from tests.services.azurite import ACCOUNT, KEY, Azurite


@dataclass
class AlreadyOpen(LakeTable):
    """A table whose log was read before its storage fell silent."""

    opened: DeltaTable | None = None

    def delta(self, version=None):
        return self.opened


ROOT = Path(__file__).parents[2]
LAKE = f"abfss://lake@{ACCOUNT}.dfs.core.windows.net/lake"
PATIENCE = {"timeout": "1s", "connect_timeout": "1s", "max_retries": "1", "retry_timeout": "1s"}
# Delta's operations try once, Polars' four times; the rest is for a busy machine.
ENDS_WITHIN_S = 30


@pytest.fixture
def silent() -> Iterator[str]:
    """The endpoint of a storage that takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/{ACCOUNT}"


def environment(endpoint: str, **more: str) -> dict[str, str]:
    values = {"ACCOUNT_NAME": ACCOUNT, "ACCOUNT_KEY": KEY, "ALLOW_HTTP": "true", "ENDPOINT": endpoint} | more
    return {f"AZURE_STORAGE_{name.upper()}": value for name, value in values.items()} | {"PULSELAKE_LAKE": LAKE}


def duration_of(operation: Callable[[], object], error: type[Exception], match: str) -> float:
    started = time.monotonic()
    with pytest.raises(error, match=match):
        operation()
    return time.monotonic() - started


def test_opening_a_silent_lake_ends_with_its_address_and_what_to_do(
    silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(silent, **PATIENCE).items():
        monkeypatch.setenv(name, value)
    said = rf"The lake {LAKE} cannot be opened: .*{silent}.*timed out\. Check PULSELAKE_LAKE.*nothing was read"
    assert duration_of(lambda: open_lake(Settings()), LakeUnavailableError, said) < ENDS_WITHIN_S


@pytest.mark.service
def test_what_deltalake_and_polars_do_with_a_silent_storage_ends(silent: str, azurite: Azurite) -> None:
    azurite.create_container("deadlines")
    root = LAKE.replace("lake@", "deadlines@")
    sound = Lake(root, azurite.storage_options | PATIENCE).table(NUMBERS).ensure()
    sound.append(frame(1), transactions={})
    table = Lake(root, azurite.storage_options | PATIENCE | {"endpoint": silent}).table(NUMBERS)
    opened = sound.delta()
    rows = AlreadyOpen(table.table, table.uri, table.lake, opened).scan()
    for operation in (table.exists, table.ensure, table.version, lambda: table.append(frame(2), transactions={})):
        assert duration_of(operation, OSError, "timed out") < ENDS_WITHIN_S
    assert duration_of(rows.collect, OSError, "error sending request") < ENDS_WITHIN_S


@pytest.mark.service
def test_status_of_a_silent_lake_ends(silent: str, tmp_path: Path) -> None:
    settings = {"PULSELAKE_HOME": str(tmp_path)} | environment(silent, **PATIENCE)
    command = [sys.executable, "-m", "orchestration.cli", "status"]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **settings}, capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 1
    assert f"The lake {LAKE} cannot be opened" in " ".join(done.stderr.split())


def test_a_request_has_a_deadline_unless_the_settings_give_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert AzureStorage().options() == {
        "timeout": "20s",
        "connect_timeout": "5s",
        "max_retries": "3",
        "retry_timeout": "10s",
    }
    monkeypatch.setenv("AZURE_STORAGE_TIMEOUT", "90s")
    monkeypatch.setenv("AZURE_STORAGE_MAX_RETRIES", "0")
    lake = Lake(LAKE, AzureStorage().options())
    assert (lake.options()["timeout"], lake.options()["max_retries"]) == ("90s", "0")
    assert lake.polars_options() == {
        "timeout": "90s",
        "connect_timeout": "5s",
        "max_retries": 0,
        "retry_timeout_ms": 10_000,
    }


def test_a_deadline_that_is_none_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULSELAKE_LAKE", LAKE)
    monkeypatch.setenv("AZURE_STORAGE_TIMEOUT", "soon")
    with pytest.raises(LakeUnavailableError, match=r"was not opened: AZURE_STORAGE_TIMEOUT .*Correct the settings"):
        open_lake(Settings())
