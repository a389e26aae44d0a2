"""The whole system in child processes, as `pulselake dev` and `pulselake demo` run it."""

import json
import os
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import psutil
import pytest

from assets.glucose.assets import CONTRACT
from orchestration.home import locked
from orchestration.hospital import make_hospital, served_telemetry
from orchestration.live import (
    Generators,
    Load,
    WarmRuns,
    environment,
    is_loaded,
    prepare_dagster_home,
    running,
    start_dagster,
    start_hospital,
    start_hub,
)
from orchestration.processes import ChildError, Children, StoppedError, free_port, is_open, python
from orchestration.started_runs import IN_FLIGHT, cancel_runs
from orchestration.warm.files import FOLDER, RunFiles
from resources.event_source import HubUnavailableError
from resources.settings import Settings
from resources.sources import namespace_of
from resources.storage import lake_of
from tests.children import children_with
from tests.clinical.api import Api
from tests.emulator.hub import RunningHub
from tests.orchestration.commands import (
    PULSELAKE,
    CommandLine,
    command_line,
    end,
    port_for_a_command,
    read_until,
)
from tests.orchestration.site import wait_until
from tests.scraped import scrape
from tests.services.loopback import says

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
            is_running = process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            continue
        if carries and is_running:
            found.append(process)
    return found


def settings_of(command: CommandLine) -> Settings:
    return Settings(home=command.home)


def started(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@pytest.mark.service
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


@pytest.mark.service
def test_a_child_that_ignores_the_interrupt_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr("orchestration.processes.STOP_AFTER_S", 0.5)
    with Children(tmp_path) as children:
        children.start("stubborn", STUBBORN)
        wait_until(lambda: children.log("stubborn").read_text(), "the child's start")
        (child,) = children_with(" ".join(STUBBORN))
    wait_until(lambda: not started(child.pid), "the child's end")


def test_a_hospital_that_is_served_is_taken_and_another_program_on_its_port_is_named(tmp_path):
    folder = tmp_path / "hospital"
    make_hospital(folder, patients=1, days=1, until=datetime(2026, 11, 20, 12, tzinfo=UTC))
    with served_telemetry(folder, 0) as address, Children(tmp_path) as children:
        start_hospital(children, Settings(home=tmp_path, hospital_port=int(address.rpartition(":")[2])), 1)
        assert not children.log("hospital").exists()
    with Api() as other, Children(tmp_path) as children:
        other.fail(says(404))
        settings = Settings(home=tmp_path, hospital_port=int(other.url.rpartition(":")[2]))
        with pytest.raises(ChildError, match=r"is no hospital.*PULSELAKE_HOSPITAL_PORT"):
            start_hospital(children, settings, 1)


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
    assert lake_of(seen) == lake_of(given)
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


@pytest.mark.service
def test_a_wait_ends_when_the_process_is_asked_to_end(tmp_path):
    stop = threading.Event()
    with Children(tmp_path, stop) as children:
        children.start("sleeper", SLEEP)
        threading.Timer(0.1, stop.set).start()
        with pytest.raises(StoppedError):
            children.wait_until(lambda: False, "nothing", timeout_s=600)


@pytest.mark.service
def test_a_child_that_ended_is_told_with_its_log(tmp_path):
    with Children(tmp_path) as children:
        children.start("short", python("-c", "raise SystemExit(3)"))
        with pytest.raises(ChildError, match=r"short ended with code 3.*short\.log"):
            children.wait(600)


@pytest.mark.service
def test_a_child_that_may_be_restarted_is(tmp_path, monkeypatch):
    monkeypatch.setattr("orchestration.processes.RESTART_AFTER_S", 0.0)
    with Children(tmp_path) as children:
        first = children.start("sleeper", SLEEP, is_restarted=True)
        psutil.Process(first).kill()
        psutil.wait_procs([psutil.Process(first)], 10)
        children.wait(0)
        (second,) = children_with(" ".join(SLEEP))
        assert second.pid != first
    assert not started(second.pid)


@pytest.mark.service
def test_what_is_done_at_the_end_comes_before_the_ends_of_what_started_before(tmp_path):
    seen: list[tuple[str, bool, bool]] = []
    with Children(tmp_path) as children:
        first = children.start("first", SLEEP)
        children.at_end(lambda: seen.append(("middle", started(first), started(second))))
        second = children.start("second", SLEEP)
        children.at_end(lambda: seen.append(("last", started(first), started(second))))
    assert seen == [("last", True, True), ("middle", True, False)]


@pytest.mark.service
def test_a_run_is_interrupted_once_and_waited_for(tmp_path):
    noting = python(
        "-c",
        "import signal, time\n"
        "def note(*_):\n"
        "    print('noted', flush=True); signal.signal(signal.SIGINT, lambda *_: print('twice', flush=True))\n"
        "    time.sleep(0.5); raise SystemExit\n"
        "signal.signal(signal.SIGINT, note); print('up', flush=True); time.sleep(600)",
    )
    files = RunFiles(tmp_path)
    lock = files.take("run")
    with (tmp_path / "log").open("wb") as log:
        run = subprocess.Popen(noting, stdout=log, pass_fds=[lock])
    os.write(lock, str(run.pid).encode())
    os.close(lock)
    wait_until(lambda: "up" in (tmp_path / "log").read_text(), "the run's start")
    runs = WarmRuns(files)
    runs.interrupt()
    reaper = threading.Thread(target=run.wait)
    reaper.start()
    runs.end()
    reaper.join()
    assert (tmp_path / "log").read_text().split() == ["up", "noted"]


@pytest.mark.parametrize(
    ("entries", "loaded"),
    [
        ([], False),
        ([{"loadStatus": "LOADING", "locationOrLoadError": None}], False),
        ([{"loadStatus": "LOADED", "locationOrLoadError": {}}], True),
    ],
)
def test_dagster_is_ready_when_the_definitions_are_loaded(entries, loaded):
    assert is_loaded({"data": {"workspaceOrError": {"locationEntries": entries}}}) is loaded


def test_before_it_answers_dagster_is_not_ready():
    assert not is_loaded(None)
    assert not is_loaded({"errors": []})


def test_definitions_that_cannot_be_loaded_are_not_taken_for_loaded():
    entry = {"loadStatus": "LOADED", "locationOrLoadError": {"message": "ImportError: no module"}}
    with pytest.raises(ChildError, match=r"definitions\.py.*ImportError: no module"):
        is_loaded({"data": {"workspaceOrError": {"locationEntries": [entry]}}})


@pytest.mark.slow
def test_what_a_generator_cannot_do_is_told(tmp_path):
    generators = Generators(threading.Event())
    settings = Settings(home=tmp_path, hub_port=free_port())
    generators.start(settings, Load("glucose", 1, rate=1.0, faults=0.0), None)
    wait_until(lambda: generators.failures, "the failure")
    with pytest.raises(HubUnavailableError, match="'glucose_readings'"):
        generators.check()


@pytest.mark.service
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_generator_without_an_end_outlives_an_outage_of_its_hub(tmp_path, monkeypatch):
    monkeypatch.setattr("generator.publisher.GIVE_UP_AFTER_SECONDS", 0.5)
    monkeypatch.setattr("resources.event_hubs_publisher.PUBLISH_TIMEOUT_S", 4.0)
    stop = threading.Event()
    with RunningHub(("glucose_readings:1",)) as hub:
        settings = Settings(home=tmp_path, EVENTHUB_CONNECTION_STRING=hub.connection_string)
        source = namespace_of(settings).source("glucose_readings")
        generators = Generators(stop)
        generators.start(settings, Load("glucose", 5, rate=50.0, faults=0.0), None)
        wait_until(lambda: source.state().tails[0].last > 0, "the first events")
        hub.freeze(8)
        before = source.state().tails[0].last
        wait_until(lambda: source.state().tails[0].last > before + 20, "events after the outage")
        generators.check()
        stop.set()
        generators.join()


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which something listens and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_hub_port_that_something_else_has_is_told(tmp_path, taken, monkeypatch):
    monkeypatch.setattr("orchestration.processes.AMQP_ANSWER_S", 0.3)
    with Children(tmp_path) as children, pytest.raises(ChildError, match=rf"Port {taken} .*PULSELAKE_HUB_PORT"):
        start_hub(children, Settings(home=tmp_path, hub_port=taken))


def test_a_web_port_that_something_else_has_is_told(tmp_path, taken):
    with Children(tmp_path) as children, pytest.raises(ChildError, match=rf"Port {taken} .*PULSELAKE_WEB_PORT"):
        start_dagster(children, Settings(home=tmp_path, web_port=taken))


@pytest.mark.service
def test_what_shall_not_wait_for_dagster_starts_when_the_hub_is_there(tmp_path, taken):
    settings = Settings(home=tmp_path, hub_port=port_for_a_command(), web_port=taken)
    seen = []
    with pytest.raises(ChildError, match="web page cannot use it"), locked(tmp_path) as lock:
        with running(settings, lock, threading.Event(), first=lambda _: seen.append(is_open(settings.hub_port))):
            pass
    assert seen == [True]


@pytest.mark.service
def test_a_hub_of_another_home_is_not_taken_for_ours(tmp_path):
    with RunningHub(("glucose_readings:1",)) as other, Children(tmp_path) as children:
        with pytest.raises(ChildError, match=r"not the hub of this home.*PULSELAKE_HUB_PORT.*'device_readings'"):
            start_hub(children, Settings(home=tmp_path, hub_port=other.port))


@pytest.mark.service
def test_a_hub_that_runs_already_is_used(command):
    hub = command.start_hub()
    try:
        before = psutil.Process().children()
        with Children(command.folder) as children:
            start_hub(children, Settings(home=command.home, hub_port=command.port))
            assert psutil.Process().children() == before
    finally:
        end(hub)


@pytest.mark.service
@pytest.mark.parametrize(("name", "number"), [("dev", signal.SIGINT), ("dev", signal.SIGHUP), ("demo", signal.SIGTERM)])
def test_a_signal_while_it_starts_ends_it(command, name, number):
    starting = command.start(name, PULSELAKE_WEB_PORT=str(port_for_a_command()))
    try:
        read_until(starting.stderr, "Starting")
        finished = end(starting, number)
    finally:
        starting.kill()
    assert (finished.code, finished.err.strip()) == (130, "Stopped.")


@pytest.mark.slow
@pytest.mark.service
def test_the_system_runs_until_it_is_interrupted_and_outlives_the_process_that_runs_are_forked_from(command):
    web_port, metrics_port, page_port = (port_for_a_command() for _ in range(3))
    ports = {
        "PULSELAKE_WEB_PORT": str(web_port),
        "PULSELAKE_METRICS_PORT": str(metrics_port),
        "PULSELAKE_PAGE_PORT": str(page_port),
    }
    dev = command.start("dev", "--rate", "20", "--patients", "10", PULSELAKE_LOG="json", **ports)
    files = RunFiles(settings_of(command).dagster_home / FOLDER)
    try:
        read_until(dev.stderr, f"Live page: http://127.0.0.1:{page_port}")
        read_until(dev.stderr, f"Metrics: http://127.0.0.1:{metrics_port}/metrics")
        wait_until(lambda: is_open(page_port), "the live page")
        assert is_open(web_port)
        assert is_open(command.port)
        silver = lake_of(settings_of(command)).table(CONTRACT.tables.silver)
        wait_until(lambda: (silver.version() or 0) > 0, "the first commit")
        assert f"{command.home} is in use" in command.run("dev", code=1).err
        shown = command.run("status").out
        assert "Last session" in shown
        assert "started" in shown
        assert "At work" in shown
        address = f"http://127.0.0.1:{metrics_port}/metrics"
        wait_until(lambda: silver_rows(address) > 0, "the first figures of a session")
        assert scrape(address).samples("pulselake_lag_events", stream=CONTRACT.stream)
        [server] = [each for each in processes_of(command) if is_warm_server(each, dev.pid)]
        assert psutil.Process(files.processes()[0]).ppid() == server.pid
        server.kill()
        wait_until(
            lambda: any(is_warm_server(each, dev.pid) and each != server for each in processes_of(command)),
            "the next warm server",
        )
        finished = end(dev, signal.SIGINT)
    finally:
        dev.kill()
    assert finished.code == 0
    assert not is_open(web_port)
    assert not is_open(page_port)
    assert not is_open(command.port)
    assert files.runs() == []
    assert runs_at_work(command) == []
    log = "\n".join((command.home / "logs" / f"{name}.log").read_text() for name in ("dagster", "warm"))
    events = [json.loads(line)["event"] for line in log.splitlines() if line.startswith('{"time"')]
    assert {"session started", "session ended"} <= set(events)


def silver_rows(address: str) -> float:
    found = scrape(address).samples("pulselake_rows_total", stream=CONTRACT.stream, layer="silver")
    return found[0].value if found else 0.0


def is_warm_server(process: psutil.Process, parent: int) -> bool:
    try:
        return process.ppid() == parent and "orchestration.warm" in process.cmdline()
    except psutil.Error:
        return False


@pytest.mark.slow
@pytest.mark.service
def test_the_system_ends_with_its_terminal(command):
    terminal = python("-c", "import pty, sys; pty.spawn(sys.argv[1:])")
    ports = {f"PULSELAKE_{name}_PORT": str(port_for_a_command()) for name in ("WEB", "HOSPITAL")}
    settings = command.environment(**ports)
    window = subprocess.Popen(
        [*terminal, *PULSELAKE, "dev"],
        cwd=command.folder,
        env=settings,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    with window:
        try:
            read_until(window.stdout, "Ctrl-C ends")
            silver = lake_of(settings_of(command)).table(CONTRACT.tables.silver)
            wait_until(lambda: (silver.version() or 0) > 0, "the first commit")
        finally:
            window.kill()
    wait_until(lambda: not processes_of(command), "the end of every process")
    assert runs_at_work(command) == []


def runs_at_work(command: CommandLine) -> list[dg.RunRecord]:
    with dg.DagsterInstance.from_config(str(settings_of(command).dagster_home)) as instance:
        at_work = [status for status in IN_FLIGHT if status is not dg.DagsterRunStatus.QUEUED]
        return list(instance.get_run_records(dg.RunsFilter(statuses=at_work)))


@pytest.mark.slow
@pytest.mark.service
@pytest.mark.timeout(1800)
def test_the_demo_accounts_for_every_event_and_can_be_repeated(command):
    for seconds in (10, 2):
        shown = command.run("demo", "--seconds", seconds)
        assert "Every event accounted for" in shown.out
        lines = {
            tuple(cell.strip() for cell in line.split("│")[1:-1]) for line in shown.out.splitlines() if "│" in line
        }
        assert ("bronze = silver + quarantine + duplicates", *["yes"] * 4) in lines
        assert ("every alert is in the alerts hub", *["yes"] * 4) in lines
        assert ("all of them as sent, and as in the lake", "yes") in lines
        on_the_page = re.search(r"Open alarms on the live page: ([\d,]+) of ([\d,]+)", shown.out)
        assert on_the_page is not None
        assert on_the_page[1] == on_the_page[2] != "0"
        assert re.search(r"open http://127.0.0.1:\d+, and sign in as admin with \S{12,}", shown.out)
        assert "Where to look next" in shown.out
        wait_until(lambda: not processes_of(command), "the end of every process")
