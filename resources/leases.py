"""Who works on a stream now, and who wants to: locks that end with the process that holds them.

Delta refuses two writers that commit side by side; these locks make the one wait for the other instead, so that a
stream passes from session to session within a fraction of a second. Each lock is a file, locked by the kernel. So the
lock of a killed process is free at once, and nobody has to ask whether another process lives. All processes of a stream
run on one machine, or on machines that share a file system with locks.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, Self

POLL_S = 0.02
TURN_S, REBUILD_S = 60.0, 3600.0
"""How long a turn, and the end of another rebuild, are waited for."""


class LeaseError(RuntimeError):
    """Another process works on the stream and did not make room in time; nothing was changed."""


class Lock(Protocol):
    """An exclusive lock, which also says who holds it or held it last."""

    def take(self) -> bool:
        """Takes the lock if it is free, and says whether it is ours now."""
        ...

    def release(self) -> None:
        """Gives the lock back if it is ours."""
        ...

    def is_held_elsewhere(self) -> bool:
        """Whether another holder has the lock."""
        ...

    def last_holder(self) -> str:
        """The name of whoever holds the lock or held it last; empty if it was never taken."""
        ...


@dataclass(frozen=True)
class Holder:
    """Who holds a lock: the name and the id of a process, and since when."""

    name: str
    pid: int | None
    since: datetime


class FileLock:
    """A lock on a file of its own, whose folder exists. It ends with the process that holds it."""

    def __init__(self, file: Path, name: str) -> None:
        self._file, self._name = file, name
        self._descriptor: int | None = None

    def take(self) -> bool:
        """Takes the lock if it is free, and says whether it is ours now."""
        if self._descriptor is None:
            descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return False
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{self._name}\n{os.getpid()}".encode())
            self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Gives the lock back if it is ours."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)

    def is_held_elsewhere(self) -> bool:
        """Whether another holder has the lock."""
        if self._descriptor is not None:
            return False
        try:
            descriptor = os.open(self._file, os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            # Shared: two that look at the same moment must not see each other.
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def last_holder(self) -> str:
        """The name of whoever holds the lock or held it last; empty if it was never taken."""
        return self._written()[0]

    def last_pid(self) -> int | None:
        """The process id of whoever holds the lock or held it last."""
        pid = self._written()[1]
        return int(pid) if pid else None

    def holder(self) -> Holder | None:
        """Who else holds the lock; None if nobody does."""
        try:
            # It is written to when it is taken.
            since = datetime.fromtimestamp(self._file.stat().st_mtime, UTC)
        except FileNotFoundError:
            return None
        return Holder(self.last_holder(), self.last_pid(), since) if self.is_held_elsewhere() else None

    def _written(self) -> tuple[str, str]:
        try:
            name, _, pid = self._file.read_text().partition("\n")
        except FileNotFoundError:
            return "", ""
        return name, pid


class NoLock:
    """A lock that nobody else wants, for whoever is alone."""

    def take(self) -> bool:
        """It is always ours."""
        return True

    def release(self) -> None:
        """Nobody waits for it."""

    def is_held_elsewhere(self) -> bool:
        """Nobody wants it."""
        return False

    def last_holder(self) -> str:
        """Nobody else held it."""
        return ""


@dataclass(frozen=True)
class Lease:
    """The part that one process has in the work on a stream.

    Attributes:
        active: whoever holds it may commit.
        successor: held by a session that waits for `active` and could begin at once. The active session ends then.
        turn: held by a rebuild, a replay or a swap that waits for `active` or has it. The active session commits, gives
            `active` away, takes it again after the other one, and goes on.
        rebuild: held by whoever makes rows of the stream anew, as long as that takes.
    """

    active: Lock = field(default_factory=NoLock)
    successor: Lock = field(default_factory=NoLock)
    turn: Lock = field(default_factory=NoLock)
    rebuild: Lock = field(default_factory=NoLock)

    @classmethod
    def of(cls, folder: Path, stream: str, name: str) -> Self:
        """A process's part, by files in a folder that all processes share.

        Args:
            folder: it is created where it is missing.
            stream: the stream's name.
            name: the process's name, for others to read: the id of a run.
        """
        folder.mkdir(parents=True, exist_ok=True)
        return cls(*(FileLock(folder / f"{stream}.{lock.name}", name) for lock in fields(cls)))

    def release(self) -> None:
        """Gives back all that is ours."""
        for lock in (self.turn, self.successor, self.active, self.rebuild):
            lock.release()

    @contextmanager
    def turned(self, seconds: float = TURN_S, should_stop: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Within the block the stream's tables are ours: a session that is active has committed, and waits.

        Raises:
            LeaseError: the session did not give its place away within the time, or the caller was asked to stop.
        """
        if not (wait(self.turn.take, seconds, should_stop) and wait(self.active.take, seconds, should_stop)):
            self.turn.release()
            raise LeaseError(
                f"'{self.active.last_holder() or 'another process'}' works on the stream and did not give its place "
                f"away within {seconds:.0f} s. Nothing was changed; look at what it does, and try again."
            )
        try:
            yield
        finally:
            # In this order nobody sees that the turn is over and the stream still taken.
            self.active.release()
            self.turn.release()

    def begin(self) -> bool:
        """Takes `active` for a session, if it is free and nobody's turn, and says whether it is ours now."""
        return not self.turn.is_held_elsewhere() and self.active.take()

    @contextmanager
    def rebuilding(self, seconds: float = REBUILD_S, should_stop: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Within the block no other process makes rows of the stream anew.

        Raises:
            LeaseError: another one still does when the time is over, or when the caller was asked to stop.
        """
        if not wait(self.rebuild.take, seconds, should_stop):
            raise LeaseError(
                f"'{self.rebuild.last_holder()}' is still making rows of the stream anew. Nothing was changed; try "
                "again when it has ended."
            )
        try:
            yield
        finally:
            self.rebuild.release()


def holders(folder: Path, stream: str) -> dict[str, Holder]:
    """Who holds which of a stream's locks, by the names in `Lease`; it creates nothing."""
    found = {lock.name: FileLock(folder / f"{stream}.{lock.name}", "").holder() for lock in fields(Lease)}
    return {name: holder for name, holder in found.items() if holder}


def wait(take: Callable[[], bool], seconds: float, should_stop: Callable[[], bool] = lambda: False) -> bool:
    """Tries to take a lock until it is ours, and says whether it is when the time is over."""
    end = time.monotonic() + seconds
    while not take():
        if should_stop() or time.monotonic() > end:
            return False
        time.sleep(POLL_S)
    return True
