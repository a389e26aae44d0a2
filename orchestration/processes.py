"""Child processes of `pulselake dev` and `demo`: started, watched and ended by their process ids."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

STOP_AFTER_S = 20.0


class ChildError(RuntimeError):
    """A child process ended or did not become ready; the message names its log."""


class Children:
    """A set of processes that end together with the block."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: list[tuple[str, subprocess.Popen[bytes]]] = []

    def __enter__(self) -> Self:
        self._logs.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _, process in reversed(self._running):
            _stop(process)

    def log(self, name: str) -> Path:
        """Where a child's output goes."""
        return self._logs / f"{name}.log"

    def start(
        self, name: str, command: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None
    ) -> None:
        """Starts a process of its own session, so that Ctrl-C reaches it through us and in order."""
        with self.log(name).open("ab") as log:
            process = subprocess.Popen(
                command, cwd=cwd, env={**os.environ, **(env or {})}, stdout=log, stderr=log, start_new_session=True
            )
        self._running.append((name, process))

    def check(self) -> None:
        """Raises `ChildError` if a child has ended."""
        for name, process in self._running:
            if process.poll() is not None:
                raise ChildError(
                    f"{name} ended with code {process.returncode}. Its last words are in {self.log(name)}."
                )

    def wait_until(self, is_ready: Callable[[], bool], what: str, timeout_s: float) -> None:
        """Waits for a condition while all children live.

        Raises:
            ChildError: a child ended, or the time is over.
        """
        deadline = time.monotonic() + timeout_s
        while not is_ready():
            self.check()
            if time.monotonic() > deadline:
                raise ChildError(f"{what} was not ready within {timeout_s:.0f} s. See the logs in {self._logs}.")
            time.sleep(0.2)


def python(*arguments: str) -> list[str]:
    """A command of this interpreter."""
    return [sys.executable, *arguments]


def is_open(port: int) -> bool:
    """Whether something listens on a port of this machine."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def graphql(port: int, query: str) -> dict[str, object] | None:
    """Asks the Dagster webserver; None while it does not answer."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/graphql",
        data=json.dumps({"query": query}).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            found: dict[str, object] = json.load(response)
            return found
    except (urllib.error.URLError, OSError, ValueError):
        return None


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Interrupts a child and the runs that it works at, waits for their ends, and kills what goes on regardless."""
    runs = _runs_below(process.pid)
    for interrupted in (*runs, process):
        with suppress(psutil.NoSuchProcess):
            interrupted.send_signal(signal.SIGINT)
    psutil.wait_procs(runs, STOP_AFTER_S)
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_AFTER_S)
    # What the child itself started is in its session and goes with it.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _runs_below(pid: int) -> list[psutil.Process]:
    """Dagster starts each run by multiprocessing, in a process that ends cleanly only if it is interrupted itself."""
    with suppress(psutil.NoSuchProcess):
        return [
            each for each in psutil.Process(pid).children(recursive=True) if "spawn_main" in " ".join(_command(each))
        ]
    return []


def _command(process: psutil.Process) -> list[str]:
    with suppress(psutil.Error):
        found: list[str] = process.cmdline()
        return found
    return []
