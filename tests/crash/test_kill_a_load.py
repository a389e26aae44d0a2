"""Loads of a clinical source whose process is killed between any two steps."""

import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from assets.clinical.sources import EHR
from resources.lake import Lake
from tests.clinical.hospital import Database, reading

pytestmark = pytest.mark.crash

ROOT = Path(__file__).resolve().parents[2]
ROWS = 60


def start(folder: Path, lake: Lake) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.crash.load_worker", str(folder), lake.root]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def kill_at(process: subprocess.Popen[str], steps: int) -> list[str]:
    """Kills a load when it has told so many steps."""
    assert process.stdout
    told = []
    with process:
        for line in process.stdout:
            told.append(line.strip())
            if len(told) == steps:
                process.kill()
                break
        process.stdout.read()
    assert process.wait() == -signal.SIGKILL
    return told


def test_rows_are_loaded_once_however_often_the_process_is_killed(tmp_path):
    lake, database = Lake(str(tmp_path / "lake")), Database(tmp_path)
    database.insert(*(reading(number) for number in range(ROWS)))
    steps = {kill_at(start(tmp_path, lake), count)[-1] for count in (1, 3, 5)}
    assert steps == {"landing", "state", "bronze"}
    with start(tmp_path, lake) as process:
        process.communicate(timeout=300)
    assert process.returncode == 0
    bronze = lake.table(EHR.bronze).scan().collect()
    assert sorted(bronze["id"]) == list(range(ROWS))
    assert lake.table(EHR.silver).count() == ROWS
    # What was landed is complete: a file is there as a whole or not at all.
    landed = pl.concat(pl.read_parquet(file) for file in Path(lake.root).glob("landing/ehr/*/*.parquet"))
    assert set(landed["id"]) == set(range(ROWS))
    assert landed.height > ROWS
