"""A Dagster home with the project's settings, a code server, a warm server if it is started, and runs of all kinds."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
from dagster._cli.job import _create_run
from dagster._core.storage.compute_log_manager import ComputeIOType
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import ModuleTarget

from orchestration.warm.files import FOLDER, RunFiles
from orchestration.warm.server import READY

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 300.0
JOBS = "tests.orchestration.warm_jobs"


@dataclass
class LaunchSite:
    """One home of Dagster.

    Attributes:
        module: where the definitions are, below `folder` or the project.
        folder: where the code is, which the warm server watches.
        variables: of the warm server's environment.
        options: of the warm server.
    """

    home: Path
    instance: dg.DagsterInstance
    context: WorkspaceProcessContext
    module: str
    folder: Path
    variables: Mapping[str, str]
    options: Sequence[str]
    servers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def files(self) -> RunFiles:
        return RunFiles(self.home / FOLDER)

    @property
    def log(self) -> Path:
        return self.home / "warm.log"

    def start_server(self, says: str = READY) -> subprocess.Popen[bytes]:
        """Starts a warm server and waits for what it says when it serves."""
        command = [sys.executable, "-m", "orchestration.warm", str(self.home), "--module", self.module]
        command += ["--working-directory", str(self.folder), *self.options]
        if self.folder != ROOT:
            command += ["--watch", str(self.folder)]
        before = self.said(says)
        with self.log.open("ab") as log:
            server = subprocess.Popen(
                command,
                cwd=self.folder,
                env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"} | dict(self.variables),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.servers.append(server)
        wait_until(lambda: self.said(says) > before, f"the warm server's {says!r}", self.log)
        return server

    def clear(self) -> None:
        """Ends the warm servers and their runs."""
        for server in self.servers:
            server.kill()
            server.wait()
        self.servers.clear()
        for pid in self.files.processes():
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.files.folder, ignore_errors=True)
        self.log.unlink(missing_ok=True)

    def said(self, text: str) -> int:
        return self.log.read_text().count(text) if self.log.exists() else 0

    def create(self, job: str, config: Mapping[str, Any] | None = None, **tags: str) -> dg.DagsterRun:
        workspace = self.context.create_request_context()
        location = workspace.get_code_location("launched")
        [repository] = location.get_repositories().values()
        run: dg.DagsterRun = _create_run(
            instance=self.instance,
            code_location=location,
            remote_repo=repository,
            remote_job=repository.get_full_job(job),
            run_config=config or {},
            tags={name.replace("__", "/"): value for name, value in tags.items()},
            op_selection=None,
            run_id=None,
        )
        return run

    def launch(self, job: str, config: Mapping[str, Any] | None = None, **tags: str) -> str:
        """Launches a run past the queue."""
        run_id = self.create(job, config, **tags).run_id
        self.instance.launch_run(run_id, self.context.create_request_context())
        return run_id

    def status(self, run_id: str) -> dg.DagsterRunStatus:
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        return run.status

    def wait_for(self, run_id: str, status: dg.DagsterRunStatus) -> None:
        try:
            wait_until(lambda: self.status(run_id) is status, f"status {status.value}", self.log)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.status(run_id)}\n" + "\n".join(self.messages(run_id))) from error

    def messages(self, run_id: str) -> list[str]:
        """Everything that the event log says of a run."""
        return [entry.message or str(entry.user_message) for entry in self.instance.all_logs(run_id)]

    def is_cold(self, run_id: str) -> bool:
        return any("Starts in a fresh process" in message for message in self.messages(run_id))

    def captured(self, run_id: str) -> str:
        """What a run's steps wrote to stdout, as the web page shows it."""
        manager = self.instance.compute_log_manager
        keys = manager.get_log_keys_for_log_key_prefix([run_id, "compute_logs"], io_type=ComputeIOType.STDOUT)
        return "".join((manager.get_log_data(key).stdout or b"").decode() for key in keys)


def wait_until(is_so: Callable[[], Any], what: str, log: Path | None = None) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        if time.monotonic() > deadline:
            said = log.read_text()[-3000:] if log is not None and log.exists() else ""
            raise AssertionError(f"{what} did not happen within {PATIENCE_S:.0f} s. {said}")
        time.sleep(0.02)


@contextmanager
def launch_site(
    folder: Path,
    module: str = JOBS,
    code: Path = ROOT,
    variables: Mapping[str, str] | None = None,
    options: Sequence[str] = (),
) -> Iterator[LaunchSite]:
    """A home below a folder. When the block ends no process is left of what was started here."""
    home = folder / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(ROOT / "dagster.yaml", home / "dagster.yaml")
    before = psutil.Process().children()
    target = ModuleTarget(module, None, str(code), "launched")
    with (
        dg.DagsterInstance.from_config(str(home)) as instance,
        WorkspaceProcessContext(instance, target) as context,
    ):
        code_servers = [each for each in psutil.Process().children() if each not in before]
        site = LaunchSite(home, instance, context, module, code, variables or {}, options)
        try:
            yield site
        finally:
            site.clear()
            for server in code_servers:
                server.kill()
                server.wait()


def children_of(pid: int) -> list[psutil.Process]:
    found: list[psutil.Process] = psutil.Process(pid).children(recursive=True)
    return found
