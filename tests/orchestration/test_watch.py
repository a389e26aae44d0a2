"""`pulselake status --watch`, `pulselake metrics`, and who is at work."""

import os
import pty
import signal
import subprocess
from datetime import UTC, datetime

import pytest

from orchestration.screens import at_work, watched
from orchestration.system import STREAMS
from orchestration.watch import Look, Worker, workers
from resources.leases import Holder
from resources.settings import Settings
from tests.orchestration.commands import PULSELAKE, TIMEOUT_S, command_line, end, port_for_a_command, read_until
from tests.orchestration.site import readings, today
from tests.scraped import scrape

STREAM = "glucose_readings"
RUN = "01234567-89ab-cdef-0123-456789abcdef"
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def looked(seconds: float, silver: int, worker: Worker, problem: str = "") -> Look:
    rows = {"bronze": silver, "silver": silver, "quarantine": 0, "alerts": 0}
    return Look(NOON, seconds, worker, None if problem else 7, problem, rows)


def test_who_looks_creates_nothing(tmp_path):
    assert workers(Settings(home=tmp_path))[0] == Worker(STREAM, None, None, None)
    assert list(tmp_path.iterdir()) == []


def test_who_is_at_work_is_told_by_the_locks(tmp_path):
    settings = Settings(home=tmp_path)
    before = datetime.now(UTC).replace(microsecond=0)
    at_work, waiting = settings.lease(STREAM, RUN), settings.lease(STREAM, "drain 7")
    assert at_work.active.take()
    assert waiting.successor.take()
    found = workers(settings)[0]
    assert found.active is not None
    assert (found.active.name, found.active.pid) == (RUN, os.getpid())
    assert found.active.since >= before
    assert found.successor is not None
    assert found.successor.name == "drain 7"
    for lease in (at_work, waiting):
        lease.release()
    assert workers(settings)[0] == Worker(STREAM, None, None, None)


def test_a_worker_and_nobody_are_shown():
    worker = Worker(STREAM, Holder(RUN, 4711, NOON), Holder("drain 7", 8, NOON), None)
    assert at_work(worker) == ("01234567", "4711", "11-23 12:00:00", "drain 7", "")
    assert at_work(Worker(STREAM, None, None, None)) == ("nobody", "", "", "", "")


def test_rates_are_those_since_the_last_look():
    worker = Worker(STREAM, None, None, None)
    before, now = looked(10.0, 100, worker), looked(12.0, 150, worker)
    assert now.rates(before, ["silver", "alerts"]) == [25.0, 0.0]
    assert now.rates(now, ["silver"]) == [0.0]
    assert watched([now], [before]).renderables


@pytest.mark.service
def test_each_look_is_added_where_there_is_no_terminal(site):
    command = command_line(site.folder)
    shown = command.run(
        "status", "--watch", "0.1", "--looks", "2", EVENTHUB_CONNECTION_STRING=site.hub.connection_string
    )
    assert shown.out.count("silver/s") == 2
    assert shown.out.count("nobody") == 2 * len(STREAMS)


@pytest.mark.service
def test_without_a_hub_the_watch_goes_on_and_says_why(tmp_path):
    shown = command_line(tmp_path).run("status", "--watch", "0.1", "--looks", "2")
    assert "`pulselake hub`" in shown.out
    assert shown.out.count("silver/s") == 2


@pytest.mark.service
def test_a_terminal_is_drawn_anew_until_ctrl_c(site):
    command = command_line(site.folder)
    environment = command.environment(EVENTHUB_CONNECTION_STRING=site.hub.connection_string, TERM="xterm")
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [*PULSELAKE, "status", "--watch", "0.1"],
        cwd=command.folder,
        env=environment,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    shown = ""
    try:
        while shown.count("silver/s") < 3:
            shown += os.read(controller, 65536).decode(errors="replace")
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT_S) == 0
    finally:
        process.kill()
        os.close(controller)
    assert "\x1b[2K" in shown
    assert "Traceback" not in shown


@pytest.mark.service
def test_the_command_serves_what_a_run_and_a_sensor_have_written(site):
    site.send(readings(3, value=300.0))
    site.tick("glucose_readings_sensor")
    assert site.run_session().success
    gold = ["gold/glucose_daily"]
    assert site.run("__ASSET_JOB", only=gold, partition_key=today().isoformat()).success
    assert site.run("housekeeping").success
    port = port_for_a_command()
    command = command_line(site.folder)
    serving = command.start("metrics", "--port", port, PULSELAKE_HOME=str(site.folder))
    try:
        read_until(serving.stderr, "Metrics: ")
        found = scrape(f"http://127.0.0.1:{port}/metrics")
        taken = command.run("metrics", "--port", port, code=1)
        finished = end(serving, signal.SIGINT)
    finally:
        serving.kill()
    assert finished.code == 0
    assert "PULSELAKE_METRICS_PORT" in taken.err
    assert found.value("pulselake_rows_total", stream=STREAM, layer="silver") == 3
    assert found.value("pulselake_lag_events", stream=STREAM, partition="0") == 3
    assert found.value("pulselake_task_rows_total", task="session", stream=STREAM) == 3
    assert found.value("pulselake_task_rows_total", task="gold", part=gold[0]) == 1
    assert found.value("pulselake_task_runs_total", task="housekeeping", part="gold", outcome="success") == 1
    ages = {sample.labels["file"] for sample in found.samples("pulselake_metrics_file_age_seconds")}
    assert ages >= {f"session.{STREAM}", f"sessions.{STREAM}", f"sensor.{STREAM}", f"gold.{STREAM}", "housekeeping"}
