"""What runs that are forked rely on in Dagster and Polars, and what no documentation promises."""

import inspect
import os
import subprocess
import sys

import dagster as dg
import pytest
from dagster._cli import api
from dagster._core.launcher import LaunchRunContext, WorkerStatus
from dagster._core.launcher.base import CheckRunHealthResult, RunLauncher
from dagster._core.launcher.default_run_launcher import DefaultRunLauncher
from dagster._core.run_coordinator import SubmitRunContext
from dagster._core.run_coordinator.queued_run_coordinator import QueuedRunCoordinator
from dagster._daemon import sensor
from dagster._utils import get_run_crash_explanation

from orchestration.coordinator import PromptRunCoordinator
from orchestration.live import prepare_dagster_home
from orchestration.warm.launcher import WarmRunLauncher
from resources.settings import Settings

pytestmark = pytest.mark.contract


def parameters(function) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_the_body_of_a_run_is_a_function_of_its_id_and_an_instance():
    expected = ["run_id", "instance", "write_stream_fn", "set_exit_code_on_failure"]
    assert parameters(api._execute_run_command_body) == expected


def test_what_the_default_launcher_has_and_is_asked():
    assert parameters(DefaultRunLauncher.launch_run) == ["self", "context"]
    assert parameters(DefaultRunLauncher.terminate) == ["self", "run_id"]
    assert {"dagster_run", "workspace"} <= set(LaunchRunContext._fields)
    assert {"status", "msg", "run_worker_id"} <= set(CheckRunHealthResult._fields)
    assert {WorkerStatus.RUNNING, WorkerStatus.FAILED} <= set(WorkerStatus)
    assert DefaultRunLauncher()._run_ids == set()
    for name in ("check_run_worker_health", "get_run_worker_debug_info", "supports_check_run_worker_health"):
        assert hasattr(RunLauncher, name)


def test_what_the_queue_is_asked():
    assert parameters(QueuedRunCoordinator.submit_run) == ["self", "context"]
    assert {"dagster_run", "workspace"} <= set(SubmitRunContext._fields)


def test_the_crash_of_a_process_is_explained_by_its_exit_code():
    assert get_run_crash_explanation("It", -9).startswith("It was terminated by signal 9 (SIGKILL).")
    assert get_run_crash_explanation("It", 70) == "It unexpectedly exited with code 70."


def test_the_projects_settings_name_the_launcher_and_the_coordinator(tmp_path):
    settings = Settings(home=tmp_path)
    prepare_dagster_home(settings)
    with dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance:
        assert isinstance(instance.run_launcher, WarmRunLauncher)
        coordinator = instance.run_coordinator
        assert isinstance(coordinator, PromptRunCoordinator)
        assert coordinator.dequeue_interval_seconds == 1
        queue = instance.get_concurrency_config().run_queue_config
        assert queue is not None
        assert queue.max_concurrent_runs == 20


def test_sensors_are_looked_at_every_five_seconds_at_most():
    assert sensor.MIN_INTERVAL_LOOP_TIME == 5


def test_polars_starts_its_threads_late_and_reads_their_number_again():
    program = (
        "import os, polars as pl\n"
        "from polars._plr import config_reload_env_vars\n"
        "tasks = os.listdir('/proc/self/task')\n"
        "assert 'polars-0\\n' not in [open(f'/proc/self/task/{task}/comm').read() for task in tasks]\n"
        "os.environ['POLARS_MAX_THREADS'] = '1'\n"
        "config_reload_env_vars()\n"
        "print(pl.thread_pool_size())\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "POLARS_MAX_THREADS"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
