"""A server with the API of Azure Cosmos DB, as a real service on a free loopback port; its data are in memory.

Its change feed is none: a continuation answers with nothing. Installing, starting and stopping it belongs here.
"""

import base64
import os
import re
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from azure.cosmos import CosmosClient, PartitionKey

from tests.services.azurite import CACHE, install_package, tail

PACKAGE, VERSION = "@vercel/cosmosdb-server", "1.0.1"
KEY = base64.b64encode(b"k" * 64).decode()
SERVE = """
const server = require("@vercel/cosmosdb-server").createHttpsServer();
server.listen(0, "127.0.0.1", () => console.log(`listens on ${server.address().port}`));
"""


class Cosmos:
    """`with Cosmos(folder) as cosmos:` runs the service until the block ends; its log is in the folder."""

    key = KEY

    def __init__(self, folder: Path) -> None:
        self._folder, self._log = folder, folder / "cosmos.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def container(self, database: str, name: str) -> Any:
        """A container, which is made if it is not there."""
        client = CosmosClient(self.url, KEY, connection_verify=False, connection_timeout=5)
        made = client.create_database_if_not_exists(database)
        return made.create_container_if_not_exists(name, partition_key=PartitionKey(path="/device_id"))

    def __enter__(self) -> Self:
        node, modules = install_package(CACHE, PACKAGE, VERSION)
        self._folder.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "NODE_PATH": str(modules)}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [node, "-e", SERVE], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment
            )
        try:
            self.url = f"https://localhost:{self._port(self._process)}"
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _port(self, process: subprocess.Popen[bytes], seconds: float = 60) -> str:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := re.search(r"listens on (\d+)", self._log.read_text(errors="replace")):
                return found[1]
            if process.poll() is not None:
                break
            time.sleep(0.05)
        raise RuntimeError(f"The Cosmos server did not start; its log ends:\n{tail(self._log)}")

    def _stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
