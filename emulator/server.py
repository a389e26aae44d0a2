"""The running emulator: data directory locked, hubs open, port bound, until a signal ends it."""

import asyncio
import errno
import fcntl
import json
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from emulator.attaching import Termini
from emulator.auth import AccessKey
from emulator.config import HubConfig
from emulator.connection import Connection
from emulator.frames import AmqpError
from emulator.hub import Hub, Namespace
from emulator.log import LogSettings, StorageError
from emulator.requests import Nodes

DEFAULT_MAX_FRAME = 2 << 20
_EXPIRE_EVERY_SECONDS = 5.0
_GOODBYE_SECONDS = 2.0
_LOG = logging.getLogger(__name__)


class StartError(Exception):
    """The emulator cannot start; the message says why and what to do."""


@dataclass(frozen=True)
class ServerSettings:
    hubs: tuple[HubConfig, ...]
    data: Path
    host: str = "127.0.0.1"
    port: int = 5672
    key: AccessKey = field(default_factory=AccessKey)
    max_frame: int = DEFAULT_MAX_FRAME
    log: LogSettings = field(default_factory=LogSettings)

    def announcement(self, port: int) -> str:
        endpoint = f"Endpoint=sb://{self.host}:{port}"
        key = f"SharedAccessKeyName={self.key.name};SharedAccessKey={self.key.value}"
        return json.dumps(
            {
                "host": self.host,
                "port": port,
                "pid": os.getpid(),
                "hubs": [hub.name for hub in self.hubs],
                "connection_string": f"{endpoint};{key};UseDevelopmentEmulator=true",
            }
        )


def serve(settings: ServerSettings, announce: Callable[[str], None]) -> None:
    """Run until SIGTERM or SIGINT; what was accepted is on disk when this returns."""
    with _locked(settings.data):
        namespace = Namespace([Hub(hub, settings.data, settings.log, _now_ms) for hub in settings.hubs])
        try:
            asyncio.run(_serve(settings, namespace, announce))
        finally:
            namespace.close()


async def _serve(settings: ServerSettings, namespace: Namespace, announce: Callable[[str], None]) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signal_number, stop.set)
    connections: set[Connection] = set()
    termini = Termini(namespace, Nodes(namespace, settings.key))
    try:
        server = await loop.create_server(
            lambda: Connection(termini, connections, settings.max_frame), settings.host, settings.port
        )
    except OSError as error:
        reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be opened: {error.strerror}"
        raise StartError(
            f"port {settings.port} on {settings.host} {reason}; choose another with --port, or 0 for any free one"
        ) from error
    announce(settings.announcement(server.sockets[0].getsockname()[1]))
    expiry = asyncio.create_task(_expire_regularly(namespace))
    await stop.wait()
    expiry.cancel()
    server.close()
    await _say_goodbye(connections)


async def _expire_regularly(namespace: Namespace) -> None:
    while True:
        await asyncio.sleep(_EXPIRE_EVERY_SECONDS)
        try:
            namespace.expire()
        except OSError:
            _LOG.exception("old segments could not be dropped")


async def _say_goodbye(connections: set[Connection]) -> None:
    for connection in list(connections):
        connection.shut(AmqpError("amqp:connection:forced", "The emulator is shutting down."))
    deadline = time.monotonic() + _GOODBYE_SECONDS
    while connections and time.monotonic() < deadline:
        await asyncio.sleep(0.01)


@contextmanager
def _locked(data: Path) -> Iterator[None]:
    """One emulator per data directory; the lock goes with the process, however it ends."""
    try:
        data.mkdir(parents=True, exist_ok=True)
        fd = os.open(data / "emulator.lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise StorageError(f"the data directory {data} cannot be used: {error.strerror}") from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.read(fd, 32).decode(errors="replace").strip()
            raise StartError(
                f"the data directory {data} is in use by another emulator (pid {owner}); "
                "stop it or choose another --data"
            ) from error
        os.ftruncate(fd, 0)
        os.write(fd, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(fd)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
