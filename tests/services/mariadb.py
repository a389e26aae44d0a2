"""MariaDB as a real service on a free loopback port, with a data folder of its own.

Installing, starting, killing and stopping it belongs here; what is stored in it belongs to the tests that use it.
"""

import os
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import pymysql

from tests.services.process import tail
from tests.services.program import installed

START_S = 300.0


class MariaDbError(RuntimeError):
    """MariaDB could not be started; the message says what to do."""


class MariaDb:
    """`with MariaDb(folder) as database:` runs a server on that folder until the block ends.

    Args:
        folder: where its data are; it is created.
        is_synced: whether it waits for the disk, as a server of a real system does. Tests end only its process, which
            what is written survives without that.
    """

    def __init__(self, folder: Path, *, is_synced: bool = False) -> None:
        self._folder, self._is_synced = folder, is_synced
        self._log, self._temporary = folder / "mariadb.log", folder / "tmp"
        self._environment = os.environ | {"TMPDIR": str(self._temporary)}
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0
        self.port = _free_port()

    def __enter__(self) -> Self:
        self._server, create = installed("mariadb", "mariadbd", "mariadb-install-db")
        # A server that starts removes what others have in a folder for temporary tables that they share.
        self._temporary.mkdir(parents=True, exist_ok=True)
        made = subprocess.run(
            [
                create,
                "--no-defaults",
                f"--datadir={self._folder / 'data'}",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                f"--user={_user()}",
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=START_S,
            env=self._environment,
        )
        if made.returncode:
            raise MariaDbError(f"{create} ended with {made.returncode}:\n{made.stdout}{made.stderr}")
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Starts it on the port that it has had, and waits until it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self._server,
                    "--no-defaults",
                    f"--user={_user()}",
                    f"--datadir={self._folder / 'data'}",
                    # Unix limits the length of the path of a socket.
                    f"--socket=/tmp/pulselake-{self.port}.sock",
                    f"--pid-file={self._folder / 'pid'}",
                    f"--port={self.port}",
                    "--bind-address=127.0.0.1",
                    "--local-infile=1",
                    f"--innodb-buffer-pool-size={'512M' if self._is_synced else '64M'}",
                    "--innodb-flush-log-at-trx-commit=1",
                    *([] if self._is_synced else ["--innodb-flush-method=nosync"]),
                    "--performance-schema=OFF",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
            )
        end = time.monotonic() + START_S
        while True:
            with suppress(pymysql.err.OperationalError):
                self._connect().close()
                return
            if self._process.poll() is not None or time.monotonic() > end:
                raise MariaDbError(f"MariaDB did not answer; its log {self._log} ends:\n{tail(self._log)}")
            time.sleep(0.05)

    def kill(self) -> None:
        """Ends it as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        Path(f"/tmp/pulselake-{self.port}.sock").unlink(missing_ok=True)

    def url(self) -> str:
        """The URL of a database that is new and empty."""
        self._databases += 1
        name = f"store_{os.getpid()}_{self._databases}"
        with self._connect() as connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name} CHARACTER SET latin1")
        return f"mysql://root@127.0.0.1:{self.port}/{name}"

    def _connect(self) -> "pymysql.connections.Connection[pymysql.cursors.Cursor]":
        return pymysql.connect(host="127.0.0.1", port=self.port, user="root", connect_timeout=30)


def _user() -> str:
    return "root" if os.getuid() == 0 else os.environ.get("USER", "nobody")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
