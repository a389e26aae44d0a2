"""The command line as its users meet it: what it prints, where to, and with which exit code."""

import csv
import io
import json
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
import typer

from assets.glucose.assets import CONTRACT
from assets.stream.store import StreamStore
from generator.streams import STREAMS as GENERATED
from orchestration.cli import app
from orchestration.processes import is_open
from resources.event_hubs import EventHubsNamespace
from resources.lake import Lake
from resources.settings import Settings
from tests.midnight import wait_out_midnight
from tests.orchestration.commands import CommandLine, command_line, end
from tests.orchestration.site import readings, wait_until

COMMANDS = sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
START = datetime.now(UTC) - timedelta(hours=1)
LINES = [
    *readings(4, first=START, value=120.0),
    b"not json",
    b"",
    b'{"patient_id": 1}',
    b"\xff\xfe",
    *readings(1, first=START, value=120.0),
]


@pytest.fixture
def command(tmp_path) -> CommandLine:
    return command_line(tmp_path)


@pytest.fixture(scope="module")
def drained(tmp_path_factory) -> Iterator[CommandLine]:
    """A home into which the file of nine lines has been drained, with its hub running."""
    wait_out_midnight(120)
    command = command_line(tmp_path_factory.mktemp("drained"))
    (command.folder / "recorded.ndjson").write_bytes(b"\n".join(LINES) + b"\n")
    hub = command.start_hub()
    try:
        published = command.invoke("publish", "glucose", command.folder / "recorded.ndjson")
        assert "Sent 9 events" in published.out
        behind = command.invoke("status").out
        assert not (command.home / "lake").exists()
        assert "glucose_readings" in behind
        assert "never" in behind
        done = command.run("drain")
        assert "glucose_readings: 9 events" in done.out
        assert "4 silver, 4 quarantined, 1 duplicate," in done.out
        assert "device_readings: 0 events" in done.out
        # Counts of today are asked for at once: it may be another day when a test runs.
        (command.folder / "status.txt").write_text(command.invoke("status").out)
        yield command
    finally:
        end(hub)


def test_every_command_is_known():
    known = (
        "ack alarms archive audit bridge close comment copy demo dev drain explain export generate hospital hub hubs"
        " import metrics notify oltp pages poll publish receive rederive reference replay retention rules snooze sql"
        " status tokens web"
    )
    assert known.split() == COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_what_a_command_does(command, name):
    shown = command.invoke(name, "--help")
    assert f"Usage: pulselake {name}" in shown.out
    assert shown.err == ""


def test_the_help_of_generate_names_every_stream_that_it_makes(command):
    shown = command.invoke("generate", "--help").out
    assert all(stream in shown for stream in GENERATED)


@pytest.mark.service
def test_without_a_command_all_are_listed(command):
    shown = command.run(code=2)
    assert "Usage: python -m orchestration.cli" in shown.out
    assert all(name in shown.out for name in COMMANDS)


@pytest.mark.service
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_hub_ends_cleanly(command, number):
    hub = command.start_hub()
    finished = end(hub, number)
    assert finished.code == 0
    ready = json.loads(finished.out)
    assert (ready["port"], ready["hubs"]) == (
        command.port,
        [
            *("glucose_readings", "device_readings", "patient-data", "adverse_events", "alarm_actions"),
            *("alerts", "alarms"),
        ],
    )
    assert (command.home / "hub").is_dir()


@pytest.mark.service
def test_two_hubs_cannot_share_a_port(drained, tmp_path):
    refused = CommandLine(tmp_path, drained.port).run("hub", code=2)
    assert f"port {drained.port} on 127.0.0.1 is in use" in refused.err


@pytest.mark.service
def test_a_second_drain_has_nothing_to_do(drained):
    done = drained.invoke("drain", "glucose_readings")
    assert "glucose_readings: 0 events" in done.out
    assert "device_readings" not in done.out


@pytest.mark.service
def test_status_shows_lag_rows_reasons_and_rules(drained):
    shown = (drained.folder / "status.txt").read_text()
    lines = {tuple(cell.strip() for cell in line.split("│")[1:-1]) for line in shown.splitlines() if "│" in line}
    lag = [cells for cells in lines if len(cells) == 6 and cells[0] == "glucose_readings" and cells[5] == "0"]
    assert len(lag) == 4
    assert "Last session" not in shown
    assert {("not_json", "3"), ("missing_field:device_id", "1"), ("glucose_high", "4")} <= lines


@pytest.mark.service
def test_sql_prints_a_table_csv_or_json(drained):
    statement = "SELECT patient_id, glucose_mg_dl FROM silver.glucose_readings ORDER BY measured_at LIMIT 2"
    assert "(2 rows)" in drained.run("sql", statement).out
    rows = list(csv.DictReader(io.StringIO(drained.invoke("sql", statement, "--format", "csv").out)))
    assert rows == [{"patient_id": "1", "glucose_mg_dl": "120.0"}] * 2
    assert (
        json.loads(drained.invoke("sql", statement, "--format", "json").out)
        == [{"patient_id": 1, "glucose_mg_dl": 120.0}] * 2
    )


@pytest.mark.service
def test_sql_knows_every_layer(drained):
    layers = ("bronze.glucose_readings", "quarantine.glucose_readings", "alerts.glucose_readings", "gold.glucose_daily")
    counts = ", ".join(f'(SELECT count(*) FROM {name}) AS "{name.split(".")[0]}"' for name in layers)
    (row,) = json.loads(drained.invoke("sql", f"SELECT {counts}", "--format", "json").out)
    assert row["bronze"] == 9
    assert row["quarantine"] == 4
    assert row["alerts"] >= 4
    assert row["gold"] >= 1


@pytest.mark.service
def test_a_report_can_be_asked(drained):
    statement = "SELECT readings_count FROM (SELECT reading_count AS readings_count FROM gold.report_data_quality)"
    assert json.loads(drained.invoke("sql", statement, "--format", "json").out) == [{"readings_count": 9}]


@pytest.mark.service
@pytest.mark.parametrize(
    "statement", ["SELECT nonsense", "DROP TABLE silver.glucose_readings", "SELECT * FROM '/etc/passwd'"]
)
def test_a_statement_that_fails_is_explained(drained, statement):
    refused = drained.invoke("sql", statement, code=1)
    assert refused.err.strip()
    assert refused.out == ""


@pytest.mark.service
def test_a_replay_without_a_fix_changes_nothing(drained):
    shown = drained.invoke("replay", "glucose")
    assert shown.out.strip() == (
        "glucose_readings: every quarantined reading would be quarantined again; nothing changed."
    )


@pytest.mark.service
def test_a_replay_after_a_fix_rebuilds_the_day(command):
    (command.folder / "recorded.ndjson").write_bytes(b"\n".join(readings(3, value=120.0)) + b"\n")
    hub = command.start_hub()
    try:
        command.invoke("publish", "glucose", "recorded.ndjson")
        command.invoke("drain", "glucose")
        store = StreamStore(CONTRACT, Lake(str(command.home / "lake")))
        silver, alerts = store.silver.scan().collect(), store.alerts.scan().collect()
        refuse_all(store)
        shown = command.invoke("replay", "glucose")
        assert f"quarantine 3 → 0, silver 0 → 3, {alerts.height} new alerts" in shown.out
        order = ["partition", "sequence_number"]
        assert store.silver.scan().collect().sort(order).equals(silver.sort(order))
        assert store.quarantine.scan().collect().is_empty()
        assert "nothing changed" in command.invoke("replay", "glucose").out
    finally:
        end(hub)


def refuse_all(store: StreamStore) -> None:
    """Leaves the tables as a clean function would that takes every timestamp for a bad one."""
    bronze, quarantine = store.bronze.scan().collect(), store.quarantine
    refused = bronze.with_columns(event_index=pl.lit(0, pl.Int64), reason=pl.lit("bad_timestamp"))
    quarantine.append(refused.select(quarantine.table.schema.names()), transactions={})
    for table in (store.silver, store.alerts):
        table.replace([], None)


@pytest.mark.service
def test_generate_sends_at_its_rate_until_it_is_stopped(drained):
    generator = drained.start("generate", "--stream", "devices", "--rate", "50", "--patients", "5")
    assert generator.stderr is not None
    assert "Sending to event hub 'device_readings' at 127.0.0.1" in generator.stderr.readline()
    wait_until(lambda: "events" in generator.stderr.readline(), "the first progress")
    finished = end(generator, signal.SIGINT)
    assert finished.code == 0
    assert finished.out.startswith("Sent ")
    sent = int(finished.out.split()[1].replace(",", ""))
    assert f"device_readings: {sent:,} events" in drained.invoke("drain", "devices").out


@pytest.mark.service
def test_generate_sends_a_backlog_at_once(drained):
    shown = drained.run(
        "generate", "--stream", "devices", "--backlog", "200", "--pack", "2", "--patients", "5", "--seed", "7"
    )
    assert "Sent 200 events with 400 readings" in shown.out


@pytest.mark.service
@pytest.mark.parametrize(
    "arguments",
    [("drain",), ("publish", "glucose", "recorded.ndjson"), ("generate", "--seconds", "1"), ("status",)],
    ids=lambda arguments: arguments[0],
)
def test_without_a_hub_it_says_how_to_start_one(command, arguments):
    (command.folder / "recorded.ndjson").write_bytes(b"\n".join(LINES))
    refused = command.invoke(*arguments, code=1)
    assert "`pulselake hub`" in refused.out + refused.err


@pytest.mark.parametrize("name", ["drain", "replay"])
def test_an_unknown_stream_is_answered_with_those_there_are(command, name):
    refused = command.invoke(name, "heartbeat", code=1)
    assert refused.err.strip() == (
        "There is no stream 'heartbeat'. Streams: glucose_readings, device_readings, vitals, adverse_events, "
        "alarm_actions."
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("generate", "--faults", "1"),
        ("generate", "--rate", "1e9"),
        ("generate", "--backlog", "10", "--faults", "0.96"),
        ("dev", "--faults", "1"),
        ("dev", "--rate", "1e9"),
    ],
    ids=" ".join,
)
def test_what_the_generator_cannot_do_is_refused(command, arguments):
    refused = command.invoke(*arguments, code=2)
    assert arguments[-2] in refused.err
    assert not command.home.exists()


@pytest.mark.service
def test_all_that_may_be_malformed_is_possible(command):
    assert "`pulselake hub`" in command.invoke("generate", "--faults", "0.95", "--seconds", "1", code=1).err


@pytest.mark.service
def test_the_hub_keeps_no_more_than_it_is_told(command):
    (command.folder / "recorded.ndjson").write_bytes(b"\n".join(readings(3)) + b"\n")
    hub = command.start("hub", "--retention-bytes-per-partition", "1", "--retention-hours", "0.00001")
    wait_until(lambda: is_open(command.port) or hub.poll() is not None, "the hub's start")
    try:
        command.invoke("publish", "glucose", "recorded.ndjson")
        source = EventHubsNamespace(Settings(hub_port=command.port).local_connection_string).source("glucose_readings")
        wait_until(lambda: not any(tail.last >= tail.first for tail in source.state().tails.values()), "the expiry")
    finally:
        end(hub)


def test_a_lake_that_cannot_be_opened_is_explained(command):
    log = command.home / "lake" / "bronze" / "glucose_readings" / "_delta_log"
    log.mkdir(parents=True)
    (log / "00000000000000000000.json").write_text("no log")
    for arguments in (("status",), ("drain",), ("replay", "glucose"), ("sql", "SELECT 1")):
        assert "PULSELAKE_LAKE" in command.invoke(*arguments, code=1).err


def test_a_missing_file_is_named(command):
    assert "nowhere.ndjson" in command.invoke("publish", "glucose", "nowhere.ndjson", code=2).err


def test_an_unknown_format_is_answered_with_those_there_are(command):
    refused = command.invoke("sql", "SELECT 1", "--format", "xml", code=2)
    assert all(name in refused.err for name in ("table", "csv", "json"))


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("PULSELAKE_HUB_PORT", "five"),
        ("PULSELAKE_WEB_PORT", "70000"),
        ("PULSELAKE_MAX_SESSION_S", "-1"),
        ("PULSELAKE_HUBS", "no-pairs"),
        ("EVENTHUB_CONNECTION_STRING", "SharedAccessKey=very-secret"),
    ],
)
def test_a_bad_setting_is_named_without_its_value(command, setting, value):
    refused = command.invoke("status", code=1, **{setting: value})
    assert refused.err.startswith(f"Setting {setting}: ")
    assert value not in refused.err


@pytest.mark.service
def test_settings_may_stand_in_a_file(drained, tmp_path):
    (tmp_path / ".env").write_text(f"PULSELAKE_LAKE={drained.home / 'lake'}\n")
    elsewhere = CommandLine(tmp_path, drained.port)
    counted = elsewhere.invoke("sql", "SELECT count(*) AS n FROM bronze.glucose_readings", "--format", "json")
    assert json.loads(counted.out) == [{"n": 9}]
