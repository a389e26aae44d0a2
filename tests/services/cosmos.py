"""A server with the API of Azure Cosmos DB, as a real service on a free loopback port; its data are in memory.

Its change feed is none: a continuation answers with nothing. Installing, starting and stopping it belongs here.
"""

import base64
import os
from pathlib import Path
from typing import Any

from azure.cosmos import CosmosClient, PartitionKey

from tests.services.azurite import CACHE, install_package
from tests.services.process import Service

PACKAGE, VERSION = "@vercel/cosmosdb-server", "1.0.1"
KEY = base64.b64encode(b"k" * 64).decode()
SERVE = """
const server = require("@vercel/cosmosdb-server").createHttpsServer();
server.listen(0, "127.0.0.1", () => console.log(`listens on ${server.address().port}`));
"""


class Cosmos(Service):
    """`with Cosmos(folder) as cosmos:` runs the service until the block ends; its log is in the folder."""

    key = KEY

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "Cosmos")
        self.url = ""

    def container(self, database: str, name: str) -> Any:
        """A container, which is made if it is not there."""
        client = CosmosClient(self.url, KEY, connection_verify=False, connection_timeout=5)
        made = client.create_database_if_not_exists(database)
        return made.create_container_if_not_exists(name, partition_key=PartitionKey(path="/device_id"))

    def start(self) -> None:
        node, modules = install_package(CACHE, PACKAGE, VERSION)
        environment = {**os.environ, "NODE_PATH": str(modules)}
        port = self.run([node, "-e", SERVE], r"listens on (\d+)", environment)
        self.url = f"https://localhost:{port}"
