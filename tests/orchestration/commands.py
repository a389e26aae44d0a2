"""`pulselake` as its users start it: a process with a home, a port and an environment of its own.

What a command says before it connects to anything is the same in this process, and there in a tenth of the time.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from typer.testing import CliRunner

from orchestration.cli import app
from orchestration.processes import is_open
from tests.orchestration.site import wait_until

ROOT = Path(__file__).resolve().parents[2]
PULSELAKE = [sys.executable, "-m", "orchestration.cli"]
TIMEOUT_S = 480.0
_PORTS = iter(range(10_000 + os.getpid() % 200 * 100, 32_000))


@dataclass(frozen=True)
class Finished:
    code: int
    out: str
    err: str


@dataclass
class CommandLine:
    """Commands that share one home; where they are started holds no settings."""

    folder: Path
    port: int

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def environment(self, **settings: str) -> dict[str, str]:
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PULSELAKE_", "EVENTHUB_", "OPENFDA_", "DAGSTER_HOME"))
        }
        own = {
            "PYTHONPATH": str(ROOT),
            "PULSELAKE_HOME": str(self.home),
            "PULSELAKE_HUB_PORT": str(self.port),
            "PULSELAKE_IDLE_TIMEOUT_S": "1",
            "COLUMNS": "120",
            "PULSELAKE_PAGE_PORT": str(port_for_a_command()),
        }
        return inherited | own | settings

    def run(self, *arguments: object, code: int = 0, **settings: str) -> Finished:
        """Runs a command to its end; its exit code is as expected and no stack trace is shown."""
        command = [*PULSELAKE, *map(str, arguments)]
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment(**settings),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode == code, done.stdout + done.stderr
        return Finished(done.returncode, done.stdout, done.stderr)

    def invoke(self, *arguments: object, code: int = 0, **settings: str) -> Finished:
        """The same without a process; no setting of the machine may be in the environment."""
        with _signals_kept():
            done = CliRunner().invoke(
                app, list(map(str, arguments)), prog_name="pulselake", env=self.environment(**settings)
            )
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        assert done.exit_code == code, done.stdout + done.stderr
        return Finished(done.exit_code, done.stdout, done.stderr)

    def start(self, *arguments: object, **settings: str) -> subprocess.Popen[str]:
        command = [*PULSELAKE, *map(str, arguments)]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment(PULSELAKE_HOSPITAL_PORT=str(port_for_a_command()), **settings),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def start_hub(self) -> subprocess.Popen[str]:
        hub = self.start("hub")
        wait_until(lambda: is_open(self.port) or hub.poll() is not None, "the hub's start")
        assert hub.poll() is None, hub.communicate()
        return hub


def read_until(lines: IO[str] | None, text: str) -> None:
    """Reads what a command prints up to a line with the text; if it ends before, what it printed says why."""
    assert lines is not None
    seen: list[str] = []
    while not seen or text not in seen[-1]:
        seen.append(lines.readline())
        assert seen[-1], "".join(seen)


def end(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> Finished:
    process.send_signal(number)
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert "Traceback" not in err, err
    return Finished(process.returncode, out, err)


def command_line(folder: Path) -> CommandLine:
    return CommandLine(folder, port_for_a_command())


def port_for_a_command() -> int:
    """A port that nothing listens on, nor takes before the command does: the system gives none below 32768 to others.

    Each process of the tests begins elsewhere, and no port is given twice.
    """
    return next(port for port in _PORTS if not is_open(port))


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Puts back what a command does to signals when it starts."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
