"""A service in a process of its own, from its start to its end; what is special to one is in its module."""

import re
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

START_S, STOP_S = 300.0, 120.0


class ServiceError(RuntimeError):
    """A service did not start; the message has the end of its log."""


class Service(ABC):
    """`with` an instance runs a service until the block ends.

    Args:
        folder: where its log is, and what it keeps.
        name: of the service, for messages and for its log.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self._log = folder / f"{name.lower()}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def start(self) -> None:
        """Starts it, by `run`."""

    def run(self, command: Sequence[str | Path], announced: str, environment: Mapping[str, str] | None = None) -> str:
        """Runs a command, and waits until its output has what a pattern says; returns the pattern's group.

        Raises:
            ServiceError: it ended, or did not say so in time.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._log.open("wb") as log:
            process = self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment
            )
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            if found := re.search(announced, self._log.read_text(errors="replace")):
                return found[1]
            if process.poll() is not None:
                raise ServiceError(f"{self.name} ended with {process.returncode} at its start:\n{tail(self._log)}")
            time.sleep(0.05)
        raise ServiceError(f"{self.name} did not start within {START_S:.0f} s; {self._log} ends:\n{tail(self._log)}")

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


def tail(log: Path, lines: int = 20) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
