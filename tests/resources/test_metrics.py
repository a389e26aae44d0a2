"""Metrics of several processes at one endpoint, and logs for machines."""

import json
import logging
import multiprocessing
import urllib.request
from collections import Counter
from pathlib import Path

import polars as pl
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from assets.stream.observer import Committed, Observer
from resources.logs import set_up, tell
from resources.metrics import MAX_REASONS, OTHER, SessionMetrics
from resources.metrics_endpoint import EndpointError, served
from resources.task_metrics import SensorMetrics, noted
from tests.scraped import Scraped, scrape

PORT = 0


def scraped(folder: Path) -> Scraped:
    with served(folder, PORT) as address:
        return scrape(address)


def ended_session(folder: Path, stream: str, done: Committed) -> None:
    metrics = SessionMetrics(stream, folder, [("low", "urgent")])
    metrics.began(is_successor=False)
    metrics.opened(0.5, is_successor=False)
    metrics.looked(3, 0.2)
    metrics.committed(done, 0.1)
    metrics.ended({"events": 3}, None)


def note_a_run(folder: Path, part: str, rows: int) -> None:
    with noted(folder, "gold", stream="glucose_readings", part=part) as note:
        note.rows = rows


def test_where_nothing_was_written_there_is_an_answer(tmp_path):
    assert scraped(tmp_path / "nowhere").value("pulselake_metrics_files_unreadable") == 0


def test_two_processes_have_one_family_with_one_type(tmp_path):
    folder, context = tmp_path / "metrics", multiprocessing.get_context("spawn")
    done = Committed(Counter(bronze=3, silver=2), 1, Counter(late=1), Counter({("low", "urgent"): 2}))
    streams = ("glucose_readings", "device_readings")
    processes = [context.Process(target=ended_session, args=(folder, stream, done)) for stream in streams]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
        assert process.exitcode == 0
    found = scraped(folder)
    assert found.text.count("# TYPE pulselake_rows_total counter") == 1
    for stream in streams:
        assert found.value("pulselake_rows_total", stream=stream, layer="silver") == 2
        assert found.value("pulselake_alerts_total", stream=stream, rule="low", severity="urgent") == 2
        assert found.value("pulselake_quarantined_total", stream=stream, reason="late") == 1
        assert found.value("pulselake_session_active", stream=stream) == 0
        assert found.value("pulselake_metrics_file_age_seconds", file=f"session.{stream}") >= 0


def test_prometheus_may_ask_for_either_format(tmp_path):
    note_a_run(tmp_path, "gold/glucose_daily", 5)
    ended_session(tmp_path, "glucose_readings", Committed())
    with served(tmp_path, PORT) as address:
        asked = urllib.request.Request(address, headers={"Accept": "application/openmetrics-text; version=1.0.0"})
        with urllib.request.urlopen(asked, timeout=60) as answer:
            families = {family.name for family in openmetrics(answer.read().decode())}  # type: ignore[no-untyped-call]
    assert {"pulselake_rows", "pulselake_task_runs", "pulselake_step_duration_seconds"} <= families


def test_a_file_that_cannot_be_read_is_counted_and_keeps_no_other_from_being_served(tmp_path):
    note_a_run(tmp_path, "gold/glucose_daily", 5)
    (tmp_path / "broken.prom").write_text('pulselake_rows_total{layer="silver" 1')
    found = scraped(tmp_path)
    assert found.value("pulselake_metrics_files_unreadable") == 1
    assert found.value("pulselake_task_rows_total", task="gold") == 5


def test_a_taken_port_is_named(tmp_path):
    with served(tmp_path, PORT) as address:
        port = int(address.split(":")[2].split("/")[0])
        with pytest.raises(EndpointError, match=f"Port {port} .*PULSELAKE_METRICS_PORT"), served(tmp_path, port):
            pass


@pytest.mark.slow
def test_what_ends_is_added_up_over_processes(tmp_path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=note_a_run, args=(tmp_path, "daily", number)) for number in (1, 2, 4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
    note_a_run(tmp_path, "average", 8)
    with pytest.raises(LookupError), noted(tmp_path, "gold", stream="glucose_readings", part="average"):
        raise LookupError
    found = scraped(tmp_path)
    assert found.value("pulselake_task_rows_total", part="daily") == 7
    assert found.value("pulselake_task_runs_total", part="daily", outcome="success") == 3
    assert found.value("pulselake_task_runs_total", part="average", outcome="failure") == 1
    succeeded, failed = (
        found.value(f"pulselake_task_last_{outcome}_timestamp_seconds", part="average")
        for outcome in ("success", "failure")
    )
    assert 0 < succeeded <= failed


def test_counts_begin_anew_where_the_file_is_damaged(tmp_path):
    note_a_run(tmp_path, "daily", 1)
    (tmp_path / "gold.glucose_readings.prom").write_text("no {metrics")
    note_a_run(tmp_path, "daily", 2)
    assert scraped(tmp_path).value("pulselake_task_rows_total", part="daily") == 2


def test_a_sensor_tells_the_lag_and_who_is_at_work(tmp_path):
    sensor = SensorMetrics("glucose_readings")
    sensor.looked(tmp_path, {0: 7, 1: 0}, waits=True, has_session=True, has_successor=False)
    sensor.failed(tmp_path)
    found = scraped(tmp_path)
    assert found.value("pulselake_lag_events", partition="0") == 7
    assert found.value("pulselake_alerts_waiting") == found.value("pulselake_session_at_work") == 1
    assert found.value("pulselake_hub_up") == 0
    assert found.value("pulselake_sensor_failures_total") == 1


def test_where_nothing_can_be_written_work_goes_on(tmp_path):
    (tmp_path / "metrics").write_text("a file where the folder should be")
    ended_session(tmp_path / "metrics", "glucose_readings", Committed())
    note_a_run(tmp_path / "metrics", "daily", 1)
    SensorMetrics("glucose_readings").failed(tmp_path / "metrics")


def test_what_is_no_name_gets_no_series_of_its_own(tmp_path):
    metrics = SessionMetrics("glucose_readings", tmp_path)
    metrics.began(is_successor=False)
    reasons = Counter({f"failed:Error{number}": 1 for number in range(MAX_REASONS + 5)})
    metrics.committed(Committed(reasons=reasons), 0.1)
    metrics.committed(Committed(reasons=Counter({'Jane "Doe", 1985-04-12': 2, "": 1})), 0.1)
    metrics.ended({}, None)
    found = scraped(tmp_path)
    assert found.value("pulselake_quarantined_total", reason=OTHER) == 8
    assert len(found.samples("pulselake_quarantined_total")) == MAX_REASONS + 1
    assert "Doe" not in found.text


def test_latencies_are_counted_in_their_buckets(tmp_path):
    metrics = SessionMetrics("glucose_readings", tmp_path)
    metrics.began(is_successor=False)
    metrics.published(pl.Series([0.05, 0.06, 0.35, 9000.0]), set_aside=1)
    metrics.published(pl.Series([0.35]), set_aside=0)
    metrics.ended({}, None)
    found = scraped(tmp_path)
    buckets = {
        le: found.value("pulselake_alert_latency_seconds_bucket", le=le) for le in ("0.05", "0.1", "0.4", "+Inf")
    }
    assert buckets == {"0.05": 1, "0.1": 2, "0.4": 4, "+Inf": 5}
    assert found.value("pulselake_alert_latency_seconds_count") == 5
    assert found.value("pulselake_alerts_published_total") == 4
    assert found.value("pulselake_alerts_set_aside_total") == 1


@pytest.fixture
def logs_kept():
    yield
    set_up()


@pytest.mark.usefixtures("logs_kept")
def test_a_log_for_machines_has_one_object_a_line(capsys):
    set_up("json", run="0123")
    observer = Observer("glucose_readings")
    observer.opened(1.23456, is_successor=True)
    observer.alerts_hub(is_away=True)
    observer.alerts_hub(is_away=True)
    observer.alerts_hub(is_away=False)
    observer.ended({"events": 3}, "SchemaError")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["event"] for line in lines] == [
        "session took over",
        "alerts hub is away",
        "alerts hub is back",
        "session ended",
    ]
    assert all(line["run"] == "0123" and line["stream"] == "glucose_readings" and line["time"] for line in lines)
    assert lines[0] | {"level": "info", "logger": "assets.stream.observer", "seconds": 1.235} == lines[0]
    assert lines[-1] | {"level": "warning", "events": 3, "failure": "SchemaError"} == lines[-1]


@pytest.mark.usefixtures("logs_kept")
def test_a_log_for_people_has_short_lines_and_is_set_up_once(capsys):
    set_up()
    set_up("text", run="0123456789")
    tell(logging.getLogger("assets.x"), "session ended", stream="glucose_readings", events=12345, failure=None)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("INFO glucose_readings: session ended (events 12,345, run 01234567)")


@pytest.mark.usefixtures("logs_kept")
@pytest.mark.parametrize("form", ["text", "json"])
def test_a_log_tells_the_type_of_an_error_and_nothing_else_of_it(capsys, form):
    set_up(form)
    try:
        raise LookupError("canary-4711")
    except LookupError:
        logging.getLogger("assets.x").exception("it failed")
    written = capsys.readouterr().err
    assert "LookupError" in written
    assert "canary" not in written


@pytest.mark.usefixtures("logs_kept")
def test_a_closed_stderr_stops_nothing(monkeypatch):
    set_up()
    with monkeypatch.context() as patch:
        patch.setattr("sys.stderr", None)
        tell(logging.getLogger("assets.x"), "session ended")


def test_parsing_what_is_served_gives_what_was_served(tmp_path):
    ended_session(tmp_path, "glucose_readings", Committed(Counter(bronze=1)))
    first = scraped(tmp_path).text
    assert {family.name for family in text_string_to_metric_families(first)} == {
        line.split()[2].removesuffix("_total") for line in first.splitlines() if line.startswith("# TYPE")
    }
