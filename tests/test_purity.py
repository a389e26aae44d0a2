"""The linter's ban on Dagster, IO and clocks in domain code: what it must refuse and where it must stay silent."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.service

ROOT = Path(__file__).parents[1]
IMPURE = [
    "import dagster as dg",
    "from dagster import asset",
    "from deltalake import DeltaTable",
    "import duckdb",
    "from azure.eventhub import EventHubConsumerClient",
    "from resources.lake import Lake",
    "from pathlib import Path",
    "import os",
    "import time",
    "from time import monotonic",
    "from datetime import datetime\n\nnow = datetime.now()",
    "import datetime as dt\n\nnow = dt.datetime.now(dt.UTC)",
    "import polars as pl\n\nframe = pl.scan_delta('table')",
]
PURE = """
import datetime as dt

import polars as pl

frame = pl.DataFrame({"at": [dt.datetime(2026, 1, 1, tzinfo=dt.UTC)]})
"""


def is_refused(code: str, path: str) -> bool:
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format=concise", "--stdin-filename", path]
    answer = subprocess.run(
        [*command, "--select=TID251", "-"], cwd=ROOT, input=code, capture_output=True, text=True, check=False
    )
    assert answer.returncode in (0, 1), answer.stderr
    return "TID251" in answer.stdout


@pytest.mark.parametrize("code", IMPURE)
def test_domain_code_is_refused_io_clock_and_orchestrator(code):
    assert is_refused(code, "assets/x/silver.py")


@pytest.mark.parametrize("file", ["contract", "silver", "rules", "gold"])
def test_every_domain_file_is_watched(file):
    assert is_refused("import dagster", f"assets/x/{file}.py")


def test_the_generator_is_watched():
    assert is_refused("import time", "generator/patients.py")


def test_frames_in_frames_out_is_accepted():
    assert not is_refused(PURE, "assets/x/silver.py")


@pytest.mark.parametrize(
    "path",
    [
        "assets/x/assets.py",
        "assets/stream.py",
        "assets/stream/session.py",
        "benchmarks/load.py",
        "emulator/server.py",
        "generator/publisher.py",
        "orchestration/definitions.py",
        "resources/lake.py",
        "tests/assets/x/test_silver.py",
    ],
)
def test_the_edges_may_touch_the_outside(path):
    assert not is_refused("import dagster\n", path)
