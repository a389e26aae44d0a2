"""Child processes of `pulselake dev` and `demo`: started, watched and ended by their process ids."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

STOP_AFTER_S = 20.0
POLL_S = 0.2
RESTART_AFTER_S = 5.0
"""How long a child that may be started again has run at least before it is."""

AMQP_SASL = b"AMQP\x03\x01\x00\x00"
AMQP_ANSWER_S = 3.0


class ChildError(RuntimeError):
    """A child process ended or did not become ready; the message names its log."""


class StoppedError(RuntimeError):
    """The process was asked to end while it waited."""


def stop_on_signals() -> threading.Event:
    """An event that a signal to end sets; the terminal's end is one. More of them change nothing: all is ending."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # `nohup` has it ignored.
        if not (number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN):
            signal.signal(number, lambda *_: stop.set())
    return stop


@dataclass
class _Child:
    name: str
    start: Callable[[], subprocess.Popen[bytes]]
    is_restarted: bool
    started_at: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.process = self.start()

    def start_again(self) -> None:
        """Starts it again if it has ended, but not without a pause."""
        if time.monotonic() - self.started_at >= RESTART_AFTER_S:
            self.process, self.started_at = self.start(), time.monotonic()


class Children:
    """A set of processes that end together with the block, the last one first.

    Args:
        logs: the folder that their output goes to.
        stop: set when the process is asked to end; waiting ends then.
        lock: a descriptor that children keep open as long as they live.
    """

    def __init__(self, logs: Path, stop: threading.Event | None = None, lock: int | None = None) -> None:
        self._logs, self._stop = logs, stop or threading.Event()
        self._kept_open = () if lock is None else (lock,)
        self._running: list[_Child] = []
        self._ends = ExitStack()

    def __enter__(self) -> Self:
        self._logs.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends.close()

    def log(self, name: str) -> Path:
        """Where a child's output goes."""
        return self._logs / f"{name}.log"

    def start(
        self,
        name: str,
        command: Sequence[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        is_restarted: bool = False,
    ) -> int:
        """Starts a process of its own session, so that Ctrl-C reaches it through us and in order.

        Args:
            name: of its log.
            command, cwd, env: what is run, where, with which variables besides our own.
            is_restarted: whether it is started again when it has ended; else its end is an error.

        Returns:
            Its process id.
        """

        def start() -> subprocess.Popen[bytes]:
            with self.log(name).open("ab") as log:
                return subprocess.Popen(
                    command,
                    cwd=cwd,
                    env={**os.environ, **(env or {})},
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    pass_fds=self._kept_open,
                )

        child = _Child(name, start, is_restarted)
        self._running.append(child)
        self._ends.callback(lambda: _stop(child.process))
        return child.process.pid

    def at_end(self, do: Callable[[], object]) -> None:
        """Has something done when the block ends, before the processes end that were started until now."""
        self._ends.callback(do)

    def wait(self, seconds: float) -> None:
        """Waits while all children live.

        Raises:
            ChildError: a child has ended.
            StoppedError: the process was asked to end.
        """
        deadline = time.monotonic() + seconds
        while True:
            if self._stop.is_set():
                raise StoppedError("Stopped.")
            self._check()
            if (left := deadline - time.monotonic()) <= 0:
                return
            time.sleep(min(left, POLL_S))

    def wait_until(self, is_ready: Callable[[], bool], what: str, timeout_s: float) -> None:
        """Waits for a condition while all children live.

        Raises:
            ChildError: a child ended, or the time is over.
            StoppedError: the process was asked to end.
        """
        deadline = time.monotonic() + timeout_s
        while not is_ready():
            if time.monotonic() > deadline:
                raise ChildError(f"{what} was not ready within {timeout_s:.0f} s. See the logs in {self._logs}.")
            self.wait(POLL_S)

    def _check(self) -> None:
        for child in self._running:
            if child.process.poll() is None:
                continue
            if not child.is_restarted:
                raise ChildError(
                    f"{child.name} ended with code {child.process.returncode}. "
                    f"Its last words are in {self.log(child.name)}."
                )
            child.start_again()


def python(*arguments: str) -> list[str]:
    """A command of this interpreter."""
    return [sys.executable, *arguments]


def is_open(port: int) -> bool:
    """Whether something listens on a port of this machine."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def speaks_amqp(port: int) -> bool:
    """Whether what listens on a port answers as AMQP 1.0 does; the SDK would wait for ever for one that is silent."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), AMQP_ANSWER_S) as probe:
        probe.settimeout(AMQP_ANSWER_S)
        probe.sendall(AMQP_SASL)
        return probe.recv(len(AMQP_SASL), socket.MSG_WAITALL) == AMQP_SASL
    return False


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def graphql(port: int, query: str) -> dict[str, Any] | None:
    """Asks the Dagster webserver; None while it does not answer."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/graphql",
        data=json.dumps({"query": query}).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            found: dict[str, Any] = json.load(response)
            return found
    except (urllib.error.URLError, OSError, ValueError):
        return None


def interrupt(pids: Iterable[int]) -> None:
    """Asks processes to end, those that are still there."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGINT)


def wait_or_kill(pids: Iterable[int]) -> None:
    """Waits for the ends of processes, and kills those that go on regardless."""
    processes = []
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            processes.append(psutil.Process(pid))
    _, left = psutil.wait_procs(processes, STOP_AFTER_S)
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()


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
