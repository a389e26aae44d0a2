"""One system at a time in a home, whatever becomes of who started it."""

import os
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from orchestration.home import HomeInUseError, locked
from orchestration.processes import Children, python

SLEEP = python("-c", "import time; time.sleep(600)")


def test_a_home_is_free_again_when_the_block_ends(tmp_path):
    for _ in range(2):
        with locked(tmp_path / "home"):
            pass


def test_a_home_that_is_in_use_is_named_with_what_to_do(tmp_path):
    with locked(tmp_path), pytest.raises(HomeInUseError) as refused:
        with locked(tmp_path):
            pass
    assert str(tmp_path) in str(refused.value)
    assert "PULSELAKE_HOME" in str(refused.value)


@pytest.mark.service
def test_a_home_is_held_by_children_that_outlive_who_started_them(tmp_path):
    with ExitStack() as killed:
        lock = killed.enter_context(locked(tmp_path))
        with Children(tmp_path / "logs", lock=lock) as children:
            orphan = children.start("orphan", SLEEP)
            killed.close()
            with pytest.raises(HomeInUseError, match=f"`kill {orphan}`"), locked(tmp_path):
                pass
    with locked(tmp_path) as lock:
        assert not os.get_inheritable(lock)


@pytest.mark.service
@pytest.mark.parametrize("command", ["tokens create anna --patient 7", "rules set glucose_low --threshold 65"])
def test_a_home_in_which_nothing_can_be_written_is_named(tmp_path, command):
    # Whoever may write everywhere cannot write below a file either.
    (tmp_path / "file").touch()
    home = tmp_path / "file" / "home"
    done = subprocess.run(
        [*python("-m", "orchestration.cli"), *command.split()],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PULSELAKE_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"Nothing can be written in {home}, so the command was not completed." in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
