"""Runs that are forked from the warm server, with a real Dagster instance and real processes, and how they end."""

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
import psutil
import pytest
from dagster._core.launcher import LaunchRunContext
from dagster._daemon.monitoring.run_monitoring import execute_run_monitoring_iteration

from orchestration.coordinator import PROMPT_TAG
from orchestration.warm import launcher
from orchestration.warm.files import RunFiles
from orchestration.warm.launcher import priority
from tests.orchestration.launching import LaunchSite, children_of, launch_site, wait_until
from tests.orchestration.site import SESSION, readings, today
from tests.stream.tables import assert_follows_bronze

pytestmark = [
    pytest.mark.service,
    # Dagster leaves its code servers to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

STATUS = dg.DagsterRunStatus
NO_ENGINE = """
import dagster as dg

@dg.op
def say():
    print("this is {version}")

@dg.job(executor_def=dg.in_process_executor)
def speak():
    say()

defs = dg.Definitions(jobs=[speak])
"""
WITH_ENGINE = NO_ENGINE + "import polars as pl\npl.DataFrame({{'a': [1]}}).lazy().select('a').collect()\n"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LaunchSite]:
    """One home and code server for all tests: to start one costs more than most of the tests."""
    with launch_site(tmp_path_factory.mktemp("warm")) as site:
        yield site


@pytest.fixture
def launched(home: LaunchSite) -> Iterator[LaunchSite]:
    yield home
    home.clear()


def monitor(site: LaunchSite) -> None:
    """One look of Dagster's daemon at all runs, as it takes one every `poll_interval_seconds`."""
    for error in execute_run_monitoring_iteration(site.context, logging.getLogger("monitor")):
        assert error is None


def process_of(site: LaunchSite, run_id: str) -> psutil.Process:
    pid = site.files.process(run_id)
    assert pid is not None
    return psutil.Process(pid)


def test_a_run_is_forked_and_leaves_nothing_but_its_record(launched):
    server = launched.start_server()
    run_id = launched.launch("three_steps")
    process = process_of(launched, run_id)
    assert process.ppid() == server.pid
    launched.wait_for(run_id, STATUS.SUCCESS)
    assert not launched.is_cold(run_id)
    assert launched.captured(run_id) == "this is stdout\n"
    wait_until(lambda: not process.is_running(), "the end of the run's process")
    assert children_of(server.pid) == []
    assert launched.files.runs() == []


def test_without_a_server_a_run_starts_as_dagster_starts_it_and_says_so_once(launched):
    run_id = launched.launch("three_steps")
    launched.wait_for(run_id, STATUS.SUCCESS)
    told = [message for message in launched.messages(run_id) if "fresh process" in message]
    assert told == ["[WarmRunLauncher] Starts in a fresh process: no warm server is running."]
    assert launched.files.runs() == []


def test_steps_in_processes_of_their_own_run_too(launched):
    launched.start_server()
    run_id = launched.launch("with_the_default_executor")
    launched.wait_for(run_id, STATUS.SUCCESS)
    assert not launched.is_cold(run_id)
    assert launched.captured(run_id) == "rows 3\n"


def test_a_terminated_run_is_cancelled(launched):
    server = launched.start_server()
    run_id = launched.launch("endless")
    launched.wait_for(run_id, STATUS.STARTED)
    wait_until(lambda: any("go_on" in message for message in launched.messages(run_id)), "the step's start")
    assert launched.instance.run_launcher.terminate(run_id)
    launched.wait_for(run_id, STATUS.CANCELED)
    wait_until(lambda: not children_of(server.pid), "the end of the run's process")
    wait_until(lambda: launched.files.runs() == [], "the removal of what is kept of the run")
    assert not launched.instance.run_launcher.terminate(run_id)


def test_a_run_that_is_terminated_before_it_has_started_is_cancelled(launched):
    server = launched.start_server()
    run_id = launched.launch("endless")
    assert launched.instance.run_launcher.terminate(run_id)
    launched.wait_for(run_id, STATUS.CANCELED)
    wait_until(lambda: not children_of(server.pid), "the end of the run's process")


def test_a_run_that_ignores_its_interrupt_is_killed(tmp_path):
    with launch_site(tmp_path, options=["--kill-after", "1"]) as site:
        site.start_server()
        run_id = site.launch("stubborn")
        site.wait_for(run_id, STATUS.STARTED)
        wait_until(lambda: any("ignore_interrupts" in each for each in site.messages(run_id)), "the step's start")
        site.instance.run_launcher.terminate(run_id)
        site.wait_for(run_id, STATUS.CANCELED)
        assert any("SIGKILL" in message for message in site.messages(run_id))


def test_a_run_whose_process_is_killed_fails_at_once_and_says_why(launched):
    launched.start_server()
    run_id = launched.launch("endless")
    launched.wait_for(run_id, STATUS.STARTED)
    process_of(launched, run_id).kill()
    launched.wait_for(run_id, STATUS.FAILURE)
    assert any(f"The process of run {run_id} was terminated by signal 9" in each for each in launched.messages(run_id))
    wait_until(lambda: launched.files.runs() == [], "the removal of what is kept of the run")


def test_a_run_whose_process_dies_before_it_reports_fails(launched):
    launched.start_server()
    run_id = launched.launch("endless")
    assert launched.status(run_id) is STATUS.STARTING
    process_of(launched, run_id).kill()
    launched.wait_for(run_id, STATUS.FAILURE)
    wait_until(lambda: any("by signal 9" in message for message in launched.messages(run_id)), "the reason")


def test_runs_outlive_their_server_and_the_next_ones_start_cold(launched, tmp_path):
    server, signal_file = launched.start_server(), tmp_path / "go"
    goes_on = launched.launch("until_file", {"ops": {"wait_for_file": {"config": {"file": str(signal_file)}}}})
    dies = launched.launch("endless")
    for run_id in (goes_on, dies):
        launched.wait_for(run_id, STATUS.STARTED)
    server.kill()
    server.wait()
    monitor(launched)
    assert {launched.status(goes_on), launched.status(dies)} == {STATUS.STARTED}
    cold = launched.launch("three_steps")
    launched.wait_for(cold, STATUS.SUCCESS)
    assert launched.is_cold(cold)
    process_of(launched, dies).kill()
    wait_until(lambda: launched.files.process(dies) is None, "the end of the run's process")
    monitor(launched)
    assert launched.status(dies) is STATUS.FAILURE
    assert any("The run's process died." in message for message in launched.messages(dies))
    signal_file.touch()
    launched.wait_for(goes_on, STATUS.SUCCESS)


def test_the_next_server_reports_runs_that_died_with_the_one_before(launched):
    first = launched.start_server()
    starting, started = launched.launch("endless"), launched.launch("endless")
    launched.wait_for(started, STATUS.STARTED)
    processes = [process_of(launched, run_id) for run_id in (starting, started)]
    first.kill()
    first.wait()
    for process in processes:
        process.kill()
    launched.start_server()
    for run_id in (starting, started):
        launched.wait_for(run_id, STATUS.FAILURE)
    wait_until(lambda: not launched.files.runs(), "the end of the files")


def test_a_second_server_of_a_home_is_refused(launched):
    launched.start_server()
    launched.start_server(says="BlockingIOError")
    run_id = launched.launch("three_steps")
    launched.wait_for(run_id, STATUS.SUCCESS)
    assert not launched.is_cold(run_id)


def test_an_interrupted_server_waits_for_its_runs_and_takes_no_others(launched, tmp_path):
    server, signal_file = launched.start_server(), tmp_path / "go"
    run_id = launched.launch("until_file", {"ops": {"wait_for_file": {"config": {"file": str(signal_file)}}}})
    launched.wait_for(run_id, STATUS.STARTED)
    server.send_signal(signal.SIGINT)
    wait_until(lambda: launched.said("Waits for"), "the server's last words", launched.log)
    cold = launched.launch("three_steps")
    launched.wait_for(cold, STATUS.SUCCESS)
    assert launched.is_cold(cold)
    assert server.poll() is None
    signal_file.touch()
    launched.wait_for(run_id, STATUS.SUCCESS)
    assert server.wait(300) == 0


def test_a_run_never_uses_code_that_has_changed_since(tmp_path):
    code = tmp_path / "code"
    code.mkdir()
    file = code / "spoken_jobs.py"
    file.write_text(NO_ENGINE.format(version="the first version"))
    with launch_site(tmp_path, "spoken_jobs", code) as site:
        server = site.start_server()
        before = site.launch("speak")
        site.wait_for(before, STATUS.SUCCESS)
        file.write_text(NO_ENGINE.format(version="the second, longer version"))
        changed = site.launch("speak")
        site.wait_for(changed, STATUS.SUCCESS)
        wait_until(lambda: site.said("Ready") == 2, "the server's second start", site.log)
        after = site.launch("speak")
        site.wait_for(after, STATUS.SUCCESS)
        assert [site.is_cold(run_id) for run_id in (before, changed, after)] == [False, True, False]
        assert [site.captured(run_id) for run_id in (before, changed, after)] == [
            "this is the first version\n",
            *2 * ["this is the second, longer version\n"],
        ]
        assert server.poll() is None


@pytest.mark.parametrize(
    ("source", "reason"),
    [(WITH_ENGINE, "polars-0"), (NO_ENGINE + "x = 1 / 0", "ZeroDivisionError")],
)
def test_a_server_that_must_not_fork_refuses_and_recovers_when_the_code_is_mended(tmp_path, source, reason):
    code = tmp_path / "code"
    code.mkdir()
    file = code / "spoken_jobs.py"
    file.write_text(NO_ENGINE.format(version="good"))
    with launch_site(tmp_path, "spoken_jobs", code) as site:
        good = site.create("speak")
        file.write_text(source.format(version="bad"))
        site.start_server(says="Runs are refused")
        assert reason in site.log.read_text()
        file.write_text(NO_ENGINE.format(version="good again"))
        wait_until(lambda: site.said("Ready") == 1, "the server's second start", site.log)
        site.instance.launch_run(good.run_id, site.context.create_request_context())
        site.wait_for(good.run_id, STATUS.SUCCESS)
        assert not site.is_cold(good.run_id)


def test_a_refused_run_names_the_reason(tmp_path):
    code = tmp_path / "code"
    code.mkdir()
    (code / "spoken_jobs.py").write_text(WITH_ENGINE.format(version="good"))
    with launch_site(tmp_path, "spoken_jobs", code) as site:
        site.start_server(says="Runs are refused")
        run_id = site.launch("speak")
        site.wait_for(run_id, STATUS.SUCCESS)
        assert any("process: the imports started threads" in message for message in site.messages(run_id))


def test_a_run_has_the_niceness_and_the_threads_of_its_tags(launched):
    launched.start_server()
    run_id = launched.launch("priority", pulselake__nice="10", pulselake__threads="1")
    launched.wait_for(run_id, STATUS.SUCCESS)
    assert launched.captured(run_id) == f"nice {min(19, os.nice(0) + 10)} threads 1\n"


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({}, {}),
        ({"pulselake/nice": "5", "dagster/backfill": "abc"}, {"nice": 5}),
        ({"dagster/backfill": "abc"}, {"nice": 10}),
        ({"pulselake/nice": "much", "pulselake/threads": "1"}, {"threads": 1}),
    ],
)
def test_the_priority_of_a_run_by_its_tags(tags, expected):
    assert priority(tags) == expected


def test_a_run_that_a_silent_server_was_asked_for_is_not_started_twice(launched, monkeypatch):
    monkeypatch.setattr(launcher, "ANSWER_S", 0.3)
    server = launched.start_server()
    server.send_signal(signal.SIGSTOP)
    run_id = launched.launch("three_steps")
    server.send_signal(signal.SIGCONT)
    launched.wait_for(run_id, STATUS.SUCCESS)
    assert launched.is_cold(run_id)
    next_one = launched.launch("three_steps")
    launched.wait_for(next_one, STATUS.SUCCESS)
    assert not launched.is_cold(next_one)
    assert sum("Started process for run" in message for message in launched.messages(run_id)) == 1


def test_a_run_that_is_launched_twice_is_started_once(launched):
    launched.start_server()
    run_id = launched.launch("endless")
    launched.wait_for(run_id, STATUS.STARTED)
    run = launched.instance.get_run_by_id(run_id)
    launched.instance.run_launcher.launch_run(LaunchRunContext(run, launched.context.create_request_context()))
    assert not launched.is_cold(run_id)
    assert sum("Started process for run" in message for message in launched.messages(run_id)) == 1


def test_what_a_server_has_begun_is_not_started_cold_though_its_answer_was_lost(tmp_path):
    files = RunFiles(tmp_path)
    lock = files.take("run")
    assert not files.mark_cold("run")
    assert files.is_locked("run")
    assert files.process("run") is None
    os.close(lock)
    assert not files.is_locked("run")


def test_a_run_that_is_marked_cold_is_nothing_to_a_server(tmp_path):
    files = RunFiles(tmp_path)
    assert files.mark_cold("run")
    assert (files.is_warm("run"), files.dead(), files.runs()) == (False, [], ["run"])
    files.forget_cold()
    assert files.runs() == []


def test_two_that_look_at_a_dead_run_do_not_take_each_other_for_it(tmp_path):
    files = RunFiles(tmp_path)
    os.close(files.take("run"))
    stop, seen = threading.Event(), set()

    def look() -> None:
        while not stop.is_set():
            seen.add(files.is_locked("run"))

    lookers = [threading.Thread(target=look) for _ in range(2)]
    for each in lookers:
        each.start()
    time.sleep(0.2)
    stop.set()
    for each in lookers:
        each.join()
    assert seen == {False}


def test_prompt_runs_pass_the_queue(launched):
    launched.start_server()
    workspace = launched.context.create_request_context()
    prompt, patient = launched.create("three_steps", **{PROMPT_TAG: "true"}), launched.create("three_steps")
    for run in (patient, prompt):
        launched.instance.submit_run(run.run_id, workspace)
    launched.wait_for(prompt.run_id, STATUS.SUCCESS)
    assert launched.status(patient.run_id) is STATUS.QUEUED


@pytest.mark.slow
def test_a_terminated_session_commits_what_it_pulled(site, tmp_path):
    site.set(PULSELAKE_IDLE_TIMEOUT_S="600")
    stop = threading.Event()

    def feed() -> None:
        minute = 0
        while not stop.wait(0.1):
            minute += 5
            site.send(readings(5, first=datetime(2026, 3, 1, tzinfo=UTC) + timedelta(minutes=minute), value=120.0))

    feeder = threading.Thread(target=feed)
    with launch_site(tmp_path, "orchestration.definitions") as launched:
        launched.start_server()
        feeder.start()
        try:
            run_id = launched.launch(SESSION, dagster__partition=today().isoformat())
            wait_until(lambda: site.store.silver.exists() and site.rows("silver").height > 0, "the first commit")
            assert launched.instance.run_launcher.terminate(run_id)
            launched.wait_for(run_id, STATUS.CANCELED)
        finally:
            stop.set()
            feeder.join()
        logged = [entry.asset_materialization for entry in launched.instance.all_logs(run_id)]
        assert not launched.is_cold(run_id)
        wait_until(lambda: not launched.files.runs(), "the end of the run's process")
    events = {each.asset_key.path[0]: each.metadata for each in logged if each}["bronze"]["events"].value
    assert events == site.rows("bronze").height
    assert_follows_bronze(site.lake)
