"""What a forked process does: it works at one run, or reports a run whose process died."""

import os
import threading
from collections.abc import Mapping
from typing import Any

from dagster import DagsterInstance, DagsterRunStatus
from dagster._cli.api import _execute_run_command_body
from dagster._core.instance.ref import InstanceRef
from dagster._utils import get_run_crash_explanation
from dagster._utils.interrupts import capture_interrupts
from polars._plr import config_reload_env_vars

from orchestration.warm.files import RunFiles

UNFINISHED = 70
"""The exit code of a run's process that ended without having finished the run."""


def execute(files: RunFiles, instance_ref: InstanceRef, request: Mapping[str, Any]) -> int:
    """Works at a run to its end.

    Returns:
        The exit code. It is not 0 if the run is not finished: then somebody has to report it.
    """
    _adjust(request)
    run_id = request["run_id"]
    with capture_interrupts(), DagsterInstance.from_ref(instance_ref) as instance:
        _execute_run_command_body(run_id, instance, lambda _: None, set_exit_code_on_failure=False)
        run = instance.get_run_by_id(run_id)
        is_finished = run is None or run.is_finished
    # Threads that are no daemons are waited for, as at the end of any other program.
    threading._shutdown()  # type: ignore[attr-defined]
    if not is_finished:
        return UNFINISHED
    files.remove(run_id)
    return 0


def bury(files: RunFiles, run_id: str, instance_ref: InstanceRef, code: int | None) -> int:
    """Says of a run that its process died."""
    with DagsterInstance.from_ref(instance_ref) as instance:
        run = instance.get_run_by_id(run_id)
        if run is not None and not run.is_finished:
            message = explanation(run_id, code)
            if run.status is DagsterRunStatus.CANCELING:
                instance.report_run_canceled(run, message)
            else:
                instance.report_run_failed(run, message)
    files.remove(run_id)
    return 0


def explanation(run_id: str, code: int | None) -> str:
    """What is known of the end of a run's process."""
    prefix = f"The process of run {run_id}"
    return f"{prefix} died." if code is None else get_run_crash_explanation(prefix, code)


def _adjust(request: Mapping[str, Any]) -> None:
    if niceness := request.get("nice"):
        os.nice(niceness)
    if threads := request.get("threads"):
        # Polars starts its threads when it is used for the first time, but has read its variables when it was imported.
        os.environ["POLARS_MAX_THREADS"] = str(threads)
        config_reload_env_vars()
