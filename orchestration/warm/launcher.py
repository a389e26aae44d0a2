"""How Dagster starts, ends and watches runs that the warm server forks; dagster.yaml names this class.

The web page and the daemon import this module, so it imports nothing of the project's definitions.
"""

import json
import os
import signal
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from dagster import DagsterRun, DagsterRunStatus
from dagster._core.launcher import LaunchRunContext, WorkerStatus
from dagster._core.launcher.base import CheckRunHealthResult
from dagster._core.launcher.default_run_launcher import DefaultRunLauncher

from orchestration.warm.files import FOLDER, SOCKET, RunFiles
from orchestration.warm.sockets import short_path

ANSWER_S = 5.0
BEGINS_WITHIN_S, LOOK_EVERY_S = 3.0, 0.05
"""How long a run that is cancelled before it has begun is watched."""
_NOT_YET = (DagsterRunStatus.QUEUED, DagsterRunStatus.NOT_STARTED, DagsterRunStatus.STARTING)
NICE_TAG, THREADS_TAG = "pulselake/nice", "pulselake/threads"
BACKFILL_TAG = "dagster/backfill"
BACKGROUND_NICE = 10
"""So sessions, which have no niceness, get nine tenths of a processor that both want."""


class WarmRunLauncher(DefaultRunLauncher):
    """Has runs forked by the warm server of this Dagster home; starts them as Dagster does where none answers."""

    @property
    def files(self) -> RunFiles:
        """The files of runs that were started warm."""
        return RunFiles(Path(self._instance.root_directory) / FOLDER)

    def launch_run(self, context: LaunchRunContext) -> None:
        """Has a run forked, or starts it cold and says why."""
        run = context.dagster_run
        refusal = self._fork(run)
        if refusal is None:
            self._run_ids.add(run.run_id)
            return
        self._instance.report_engine_event(f"Starts in a fresh process: {refusal}.", run, cls=type(self))
        super().launch_run(context)

    def _fork(self, run: DagsterRun) -> str | None:
        """Has a run forked; None, or why it is not."""
        files = self.files
        origin = run.job_code_origin
        if origin is None:
            return "it does not say where its code is"
        request = {"run_id": run.run_id, "executable": origin.executable_path, **priority(run.tags)}
        try:
            answer = ask(files.folder, request)
        except (FileNotFoundError, ConnectionRefusedError):
            return "no warm server is running"
        except OSError as error:
            # The request may have arrived, and a run must not be started twice.
            started = not files.mark_cold(run.run_id)
            return None if started else f"the warm server did not answer ({error})"
        refusal: str | None = answer.get("refused")
        return refusal

    def terminate(self, run_id: str) -> bool:
        """Interrupts a run, which then ends in order."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        if (pid := self.files.process(run_id)) is None:
            return bool(super().terminate(run_id))  # type: ignore[no-untyped-call]
        self._instance.report_run_canceling(run)
        if run.status in _NOT_YET:
            self._cancel_what_begins(run_id)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGINT)
        with suppress(OSError):
            ask(self.files.folder, {"run_id": run_id, "is_interrupted": True})
        return True

    def _cancel_what_begins(self, run_id: str) -> None:
        # A run that begins at this moment overwrites that it is to be cancelled, and its end would count as a failure.
        deadline = time.monotonic() + BEGINS_WITHIN_S
        while time.monotonic() < deadline:
            run = self._instance.get_run_by_id(run_id)
            if run is None or run.is_finished:
                return
            if run.status is DagsterRunStatus.STARTED:
                self._instance.report_run_canceling(run)
                return
            time.sleep(LOOK_EVERY_S)

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Dagster's monitoring may ask whether a run lives."""
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Whether a run's process lives. Of one that was started cold the code server takes care."""
        files = self.files
        if not files.is_warm(run.run_id):
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        if files.is_locked(run.run_id):
            return CheckRunHealthResult(WorkerStatus.RUNNING, run_worker_id=str(files.last_process(run.run_id)))
        return CheckRunHealthResult(WorkerStatus.FAILED, "The run's process died.")

    def get_run_worker_debug_info(self, run: DagsterRun, include_container_logs: bool | None = True) -> str | None:
        """What is known of a run's process."""
        files = self.files
        if not files.is_warm(run.run_id):
            return None
        pid = files.process(run.run_id)
        return f"Process {files.last_process(run.run_id)} died." if pid is None else f"Process {pid} lives."


def priority(tags: Mapping[str, str]) -> dict[str, int]:
    """How a run's process is to be scheduled, by the run's tags; what is no number is ignored."""
    found = {}
    nice = tags.get(NICE_TAG, str(BACKGROUND_NICE) if BACKFILL_TAG in tags else "")
    for name, text in (("nice", nice), ("threads", tags.get(THREADS_TAG, ""))):
        with suppress(ValueError):
            found[name] = int(text)
    return found


def ask(folder: Path, request: Mapping[str, Any]) -> dict[str, Any]:
    """The warm server's answer.

    Raises:
        FileNotFoundError, ConnectionRefusedError: there is no server.
        OSError: the server does not answer. It may have got the request nevertheless.
    """
    with socket.socket(socket.AF_UNIX) as client, short_path(folder) as short:
        client.settimeout(ANSWER_S)
        client.connect(f"{short}/{SOCKET}")
        client.sendall(json.dumps(request).encode() + b"\n")
        with client.makefile() as lines:
            line = lines.readline()
    if not line:
        raise ConnectionAbortedError("it closed the connection")
    found: dict[str, Any] = json.loads(line)
    return found
