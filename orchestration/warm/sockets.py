"""The socket between the launcher and the warm server, in a folder whose name may be long."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from orchestration.warm.files import SOCKET


@contextmanager
def listening(folder: Path) -> Iterator[socket.socket]:
    """A socket in a folder, however long the folder's name is."""
    with suppress(FileNotFoundError):
        (folder / SOCKET).unlink()
    with socket.socket(socket.AF_UNIX) as listener, short_path(folder) as short:
        listener.bind(f"{short}/{SOCKET}")
        listener.listen(64)
        yield listener


@contextmanager
def short_path(folder: Path) -> Iterator[str]:
    """A name of a folder that is short enough for the address of a socket, which holds about a hundred bytes."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
