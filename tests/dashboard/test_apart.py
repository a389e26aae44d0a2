"""What is heavy runs in processes of its own: few at a time, none for long, and none that outlives the server."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from dashboard.apart import Apart, ApartError
from tests.children import children_with
from tests.dashboard.serving import served
from tests.dashboard.world import wait_until


def children() -> list[psutil.Process]:
    return children_with("dashboard.apart")


def test_a_function_is_done_in_another_process_which_ends() -> None:
    apart = Apart()
    assert apart.do("os:getpid") != os.getpid()
    assert apart.do("math:hypot", 3, 4) == 5.0
    assert apart.do("builtins:print", "what is printed is no answer") is None
    assert children() == []


def test_an_error_that_is_expected_comes_as_it_is_and_another_without_its_text() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        Apart().do("builtins:int", "glucose 47", raises=(ValueError,))
    with pytest.raises(ApartError, match=r"could not be computed \(ValueError\)") as raised:
        Apart().do("builtins:int", "glucose 47")
    assert "47" not in str(raised.value)
    with pytest.raises(ApartError, match="ended before"):
        Apart().do("os:_exit", 3)


def test_what_takes_too_long_is_ended() -> None:
    with pytest.raises(ApartError, match="not computed within"):
        Apart(longest_s=0.5).do("time:sleep", 600)
    assert children() == []


def test_there_are_few_at_a_time_and_the_next_has_its_turn() -> None:
    apart = Apart(at_once=1, wait_s=0.1)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(apart.do, "time:sleep", 600)
        wait_until(lambda: len(children()) == 1, "the first one")
        with pytest.raises(ApartError, match="Try again in a minute"):
            apart.do("os:getpid")
        for child in children():
            child.kill()
        with pytest.raises(ApartError):
            first.result(20)
    assert apart.do("os:getpid")


def test_only_some_may_wait_and_the_rest_is_refused_at_once() -> None:
    apart = Apart(at_once=1, waiting=0, wait_s=600)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(apart.do, "time:sleep", 600)
        wait_until(lambda: len(children()) == 1, "the first one")
        with pytest.raises(ApartError, match="Try again in a minute"):
            pool.submit(apart.do, "os:getpid").result(20)
        for child in children():
            child.kill()
        with pytest.raises(ApartError):
            first.result(20)
    assert apart.do("os:getpid")


def test_a_server_that_has_too_many_files_open_says_to_try_again() -> None:
    # Files are opened until there is no number left, but for those of the log.
    script = """
import os, resource
from dashboard.apart import Apart, ApartError
from tests.dashboard.serving import served
apart = Apart()
assert apart.do("math:hypot", 3, 4) == 5.0
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
opened = []
try:
    while True:
        opened.append(os.dup(2))
except OSError:
    pass
for _ in range(20):
    try:
        apart.do("math:hypot", 3, 4)
    except ApartError as error:
        print(error)
for each in opened:
    os.close(each)
print(apart.do("math:hypot", 3, 4))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=300)
    *refused, found = done.stdout.splitlines()
    assert len(refused) == 20
    [said] = {*refused}
    assert said.startswith("The server cannot begin to compute it (Too many open files). Try again in a minute;")
    assert found == "5.0"
    assert "a process was not started" in done.stderr


def test_what_is_not_computed_is_a_page_that_says_when_to_try_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(tmp_path) as page:
        monkeypatch.setattr(sys, "executable", str(tmp_path / "missing"))
        said = page.of("sofia").get("/quality", headers={"accept": "text/html"})
        assert (said.status_code, said.headers["retry-after"]) == (503, "60")
        assert "The server cannot begin to compute it (No such file or directory)" in said.text


def test_none_outlives_the_end_of_the_server() -> None:
    apart = Apart()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(apart.do, "time:sleep", 600)
        wait_until(lambda: len(children()) == 1, "the process")
        apart.close()
        with pytest.raises(ApartError):
            running.result(20)
    assert children() == []
    with pytest.raises(ApartError, match="server ends"):
        apart.do("os:getpid")


def test_none_outlives_a_server_that_is_killed() -> None:
    server = subprocess.Popen(
        [sys.executable, "-c", "from dashboard.apart import Apart; Apart().do('time:sleep', 600)"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        found = list[psutil.Process]()

        def has_begun() -> bool:
            found[:] = psutil.Process(server.pid).children()
            # Before it has taken the task it would not notice.
            return bool(found) and found[0].num_threads() > 1

        wait_until(has_begun, "the process")
    finally:
        server.send_signal(signal.SIGKILL)
        server.wait(300)
    gone, left = psutil.wait_procs(found, 20)
    for each in left:
        each.kill()
    assert (len(gone), left) == (1, [])
