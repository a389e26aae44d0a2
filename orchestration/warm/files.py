"""Which runs live: a file for each run that was started warm, locked by the run's process.

The kernel gives the lock back when the process ends, however it ends. A run that ends in order removes its file, so a
file without a lock is a run whose process died.
"""

import fcntl
import os
from contextlib import suppress
from pathlib import Path

FOLDER = "warm"
"""In Dagster's home."""
SOCKET = "socket"
_COLD = "cold"
_SUFFIX = ".run"


class TakenError(RuntimeError):
    """Somebody has begun to start this run already."""


class RunFiles:
    """The files of one Dagster home."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def file(self, run_id: str) -> Path:
        """Where a run's file is, if it has one."""
        return self.folder / f"{run_id}{_SUFFIX}"

    def take(self, run_id: str) -> int:
        """Makes a run's file and locks it; a process that is forked then keeps the lock with the descriptor.

        Raises:
            TakenError: the run has a file.
        """
        try:
            descriptor = os.open(self.file(run_id), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError as error:
            raise TakenError(f"Run {run_id} was started before.") from error
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return descriptor

    def mark_cold(self, run_id: str) -> bool:
        """Sees to it that no server starts this run any more; false if one has begun to."""
        try:
            descriptor = self.take(run_id)
        except TakenError:
            return False
        os.write(descriptor, _COLD.encode())
        os.close(descriptor)
        return True

    def is_warm(self, run_id: str) -> bool:
        """Whether a server has started this run, and nobody has taken note of its end."""
        return self._text(run_id) not in (None, _COLD)

    def process(self, run_id: str) -> int | None:
        """The id of the process that works at a run; None if there is none."""
        return self.last_process(run_id) if self.is_locked(run_id) else None

    def is_locked(self, run_id: str) -> bool:
        """Whether a process works at a run, or is being made."""
        with suppress(FileNotFoundError):
            descriptor = os.open(self.file(run_id), os.O_RDONLY)
            try:
                # A shared lock: two that look at the same moment must not take each other for the run.
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            finally:
                os.close(descriptor)
        return False

    def runs(self) -> list[str]:
        """Runs that have a file."""
        return sorted(file.stem for file in self.folder.glob(f"*{_SUFFIX}"))

    def processes(self) -> list[int]:
        """The ids of all processes that work at runs."""
        return [pid for run_id in self.runs() if (pid := self.process(run_id))]

    def dead(self) -> list[str]:
        """Runs whose process died."""
        return [run_id for run_id in self.warm_runs() if not self.is_locked(run_id)]

    def warm_runs(self) -> list[str]:
        """Runs that a server has started and whose end nobody has taken note of."""
        return [run_id for run_id in self.runs() if self.is_warm(run_id)]

    def forget_cold(self) -> None:
        """Removes the files of runs that were started cold."""
        for run_id in set(self.runs()) - set(self.warm_runs()):
            self.remove(run_id)

    def last_process(self, run_id: str) -> int | None:
        """The id of the process that works at a run, or did."""
        text = self._text(run_id) or ""
        return int(text) if text.isdigit() else None

    def remove(self, run_id: str) -> None:
        """Forgets a run."""
        self.file(run_id).unlink(missing_ok=True)

    def _text(self, run_id: str) -> str | None:
        try:
            return self.file(run_id).read_text()
        except FileNotFoundError:
            return None
