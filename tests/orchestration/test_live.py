"""The whole system in child processes, as `pulselake dev` and `pulselake demo` run it."""

import signal
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import psutil
import pytest

from assets.glucose.assets import CONTRACT
from orchestration.live import cancel_runs, environment, prepare_dagster_home
from orchestration.processes import Children, free_port, is_open, python
from orchestration.sensors import IN_FLIGHT
from resources.settings import Settings
from tests.orchestration.commands import CommandLine, command_line, end
from tests.orchestration.site import wait_until

SLEEP = python("-c", "import time; time.sleep(600)")
STUBBORN = python(
    "-c", "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"
)


@pytest.fixture
def command(tmp_path: Path) -> Iterator[CommandLine]:
    """Nothing that carries the home's name is left when the test ends."""
    command = command_line(tmp_path)
    yield command
    try:
        wait_until(lambda: not processes_of(command), "the end of every process")
    finally:
        for process in processes_of(command):
            process.kill()


def processes_of(command: CommandLine) -> list[psutil.Process]:
    """Processes that run with a home below the test's own."""
    found = []
    for process in psutil.process_iter():
        try:
            carries = process.environ().get("PULSELAKE_HOME", "").startswith(str(command.home))
        except psutil.Error:
            continue
        if carries and process.status() != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def settings_of(command: CommandLine) -> Settings:
    return Settings(home=command.home)


def started(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_children_end_with_the_block_and_with_what_they_started(tmp_path):
    family = python(
        "-c", f"import subprocess, time; print(subprocess.Popen({SLEEP!r}).pid, flush=True); time.sleep(600)"
    )
    with Children(tmp_path) as children:
        children.start("family", family)
        wait_until(lambda: children.log("family").read_text().strip(), "the grandchild's start")
        grandchild = int(children.log("family").read_text())
        assert started(grandchild)
    wait_until(lambda: not started(grandchild), "the grandchild's end")


def test_a_child_that_ignores_the_interrupt_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr("orchestration.processes.STOP_AFTER_S", 0.5)
    with Children(tmp_path) as children:
        children.start("stubborn", STUBBORN)
        wait_until(lambda: children.log("stubborn").read_text(), "the child's start")
        (child,) = [each for each in psutil.Process().children() if "SIG_IGN" in " ".join(each.cmdline())]
    wait_until(lambda: not started(child.pid), "the child's end")


def test_settings_reach_children_unchanged(tmp_path, monkeypatch):
    given = Settings(
        home=tmp_path,
        hub_port=1234,
        web_port=2345,
        hubs={"glucose_readings": "monitoring"},
        lake=str(tmp_path / "other"),
    )
    for name, value in environment(given).items():
        monkeypatch.setenv(name, value)
    seen = Settings()
    assert seen.open_lake() == given.open_lake()
    assert seen.model_dump(exclude={"home", "lake", "event_hubs", "namespace"}) == given.model_dump(
        exclude={"home", "lake", "event_hubs", "namespace"}
    )
    assert (seen.root, seen.uses_local_hub) == (given.root, True)


def test_runs_that_an_earlier_dagster_left_behind_are_cancelled(offline):
    settings = Settings()
    prepare_dagster_home(settings)
    with dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance:
        offline.instance = instance
        runs = {status: offline.record("glucose_readings_session", status).run_id for status in IN_FLIGHT}
        cancel_runs(settings)
        after = {status: instance.get_run_by_id(run_id) for status, run_id in runs.items()}
    queued = dg.DagsterRunStatus.QUEUED
    assert {status: run.status for status, run in after.items() if run} == {
        status: queued if status is queued else dg.DagsterRunStatus.CANCELED for status in IN_FLIGHT
    }


@pytest.mark.slow
@pytest.mark.service
def test_the_system_runs_until_it_is_interrupted(command):
    web_port = free_port()
    dev = command.start("dev", "--rate", "20", "--patients", "10", PULSELAKE_WEB_PORT=str(web_port))
    assert dev.stderr is not None
    try:
        wait_until(lambda: "Ctrl-C ends" in dev.stderr.readline(), "the start")
        assert is_open(web_port)
        assert is_open(command.port)
        silver = settings_of(command).open_lake().table(CONTRACT.tables.silver)
        wait_until(lambda: (silver.version() or 0) > 0, "the first commit")
        finished = end(dev, signal.SIGINT)
    finally:
        dev.kill()
    assert finished.code == 0
    assert not is_open(web_port)
    assert not is_open(command.port)
    with dg.DagsterInstance.from_config(str(settings_of(command).dagster_home)) as instance:
        at_work = [status for status in IN_FLIGHT if status is not dg.DagsterRunStatus.QUEUED]
        assert instance.get_run_records(dg.RunsFilter(statuses=at_work)) == []


@pytest.mark.slow
@pytest.mark.service
@pytest.mark.timeout(600)
def test_the_demo_accounts_for_every_event_and_can_be_repeated(command):
    for _ in range(2):
        shown = command.run("demo", "--seconds", "10")
        assert "Every event accounted for" in shown.out
        lines = {
            tuple(cell.strip() for cell in line.split("│")[1:-1]) for line in shown.out.splitlines() if "│" in line
        }
        assert ("bronze = silver + quarantine + duplicates", "yes", "yes") in lines
        assert "Where to look next" in shown.out
        wait_until(lambda: not processes_of(command), "the end of every process")
