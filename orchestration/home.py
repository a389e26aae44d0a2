"""One `dev` or `demo` at a time for each home."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

LOCK = "lock"


class HomeInUseError(RuntimeError):
    """Another process runs the system in this home; nothing was started or changed."""


def is_writable(home: Path) -> bool:
    """Whether a home is a folder, or can be made one, in which this user may write."""
    place = next(each for each in (home, *home.parents) if os.path.exists(each))
    return place.is_dir() and os.access(place, os.W_OK | os.X_OK)


@contextmanager
def locked(home: Path) -> Iterator[int]:
    """Holds a home for the block.

    Yields:
        The lock's descriptor. Children get it too: a home is free when the last process that works in it has ended,
        even if this one was killed.

    Raises:
        HomeInUseError: the message says by which processes, and what to do.
    """
    home.mkdir(parents=True, exist_ok=True)
    file = home / LOCK
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holders = " ".join(map(str, _holders(file))) or "(unknown)"
            raise HomeInUseError(
                f"The home {home} is in use by process {holders}: `pulselake dev` or `demo` already runs there, or was "
                f"killed and left it behind. End it there with Ctrl-C or here with `kill {holders}`, or choose another "
                "home with PULSELAKE_HOME."
            ) from error
        yield descriptor
    finally:
        os.close(descriptor)


def _holders(file: Path) -> list[int]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid != os.getpid() and any(each.path == str(file) for each in process.open_files()):
                found.append(process.pid)
    return found
