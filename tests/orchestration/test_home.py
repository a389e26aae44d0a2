"""One system at a time in a home, whatever becomes of who started it."""

import os
from contextlib import ExitStack

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
