"""`pulselake reference …` as its users meet it."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from assets.reference.tables import DEVICES, PATIENTS, REFERENCES, SUBSCRIBERS, SUBSCRIPTIONS
from orchestration.cli import app
from orchestration.reference import generate_if_empty
from resources.settings import Settings
from resources.storage import lake_of
from tests.reference.values import csv_of


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own; the folder holds no settings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PULSELAKE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["reference", *arguments])


def file(text: str) -> str:
    Path("some.csv").write_text(text, encoding="utf-8")
    return "some.csv"


def test_a_file_is_loaded_and_shown_as_of_an_instant():
    some = file(csv_of(PATIENTS, {"patient_id": 1, "full_name": "A"}, {"patient_id": 2, "full_name": "B"}))
    done = run("load", "patients", some, "--valid-from", "2026-01-01", "--by", "ward 3")
    assert done.exit_code == 0, done.output
    assert "reference/patients: 2 added, 0 changed, 0 ended, 0 unchanged." in done.output
    assert "measured from 2026-01-01 00:00:00 UTC on" in done.output
    assert "pulled later than in 10 s" in done.output
    again = run("load", "reference.patients", some)
    assert again.output.splitlines() == ["reference/patients: 0 added, 0 changed, 0 ended, 2 unchanged."]
    other = file(csv_of(PATIENTS, {"patient_id": 2, "full_name": "C"}))
    replaced = run("load", "patients", other, "--replace", "--valid-from", "2026-02-01T01:00:00+01:00")
    assert "0 added, 1 changed, 1 ended, 0 unchanged" in replaced.output
    before = run("show", "patients", "--at", "2026-01-31T23:59:59Z").output
    assert "(2 rows)" in before
    assert "ward 3" in before
    after = run("show", "patients", "2", "--at", "2026-02-01").output
    assert "(1 row)" in after
    assert " C " in after
    gone = run("show", "patients", "1")
    assert gone.exit_code == 1
    assert "no patient_id 1 holds" in gone.output


def test_a_wrong_file_writes_nothing(home):
    done = run("load", "devices", file(csv_of(DEVICES, {"device_id": 1}) + "x,,,,,,\n"))
    assert done.exit_code == 1
    assert "some.csv is no file of reference/devices; nothing was written." in done.output
    assert "line 3, column device_id: a text of 1 characters; write a whole number" in done.output
    assert not (home / "lake").exists()


def test_an_empty_file_ends_nothing(home):
    done = run("load", "devices", file(csv_of(DEVICES)), "--replace")
    assert done.exit_code == 1
    assert "would end everything; nothing was written" in done.output
    assert not (home / "lake").exists()


def test_a_file_that_is_no_utf_8_names_the_line():
    Path("some.csv").write_bytes(csv_of(DEVICES).encode() + b"1,M\xfcller,,,,,\n")
    done = run("load", "devices", "some.csv")
    assert done.exit_code == 1
    assert "some.csv, line 2: it is not UTF-8; nothing was written." in done.output


@pytest.mark.parametrize("command", ["load", "show"])
def test_an_unknown_table_is_named_with_those_there_are(command):
    done = run(command, "doctors", *([file("x")] if command == "load" else []))
    assert done.exit_code == 1
    assert "There is no reference table 'doctors'." in done.output
    assert all(each.short in done.output for each in REFERENCES)


def test_what_is_no_instant_is_refused():
    done = run("load", "devices", file(csv_of(DEVICES)), "--valid-from", "yesterday")
    assert done.exit_code == 2
    assert "it is no instant" in done.output


def test_loads_go_where_the_settings_say(home):
    run("load", "devices", file(csv_of(DEVICES, {"device_id": 1})))
    assert lake_of(Settings()).table(DEVICES.table).count() == 1
    assert (home / "lake" / "reference" / "devices").exists()


def test_generated_data_is_loaded_once_and_leaves_loaded_data_alone():
    done = run("generate", "--patients", "5")
    assert done.exit_code == 0, done.output
    assert "reference/patients: 5 added" in done.output
    assert "reference/devices: 10 added" in done.output
    assert "reference/patients: 0 added, 0 changed, 0 ended, 5 unchanged." in run("generate", "--patients", "5").output
    assert "reference/patients: 1 added, 0 changed, 0 ended, 5 unchanged." in run("generate", "--patients", "6").output
    assert not generate_if_empty(lake_of(Settings()), 9)
    assert "(6 rows)" in run("show", "patients", "--at", "2020-01-01").output


def test_a_subscription_by_which_nobody_is_told_is_warned_of():
    night = {"subscriber_id": 900, "name": "Night ward", "type": "caregiver"}
    of_night = {"subscriber_id": 900, "tier": 0, "minimum_severity": "info"}
    subscriptions = [
        {"subscription_id": 1, "scope": "patient:7"} | of_night,
        {"subscription_id": 2, "scope": "group:icu"} | of_night,
        {"subscription_id": 3, "scope": "group:ICU"} | of_night,
        {"subscription_id": 4, "scope": "patient:8"} | of_night | {"subscriber_id": 999},
    ]
    run("load", "patients", file(csv_of(PATIENTS, {"patient_id": 7, "full_name": "A", "groups": "icu"})))
    run("load", "subscribers", file(csv_of(SUBSCRIBERS, night)))
    told = run("load", "subscriptions", file(csv_of(SUBSCRIPTIONS, *subscriptions)))
    assert told.exit_code == 0, told.output
    assert told.stderr.splitlines() == [
        "Unknown in reference/patients: group:ICU. Until it is loaded, nobody is told by this.",
        "Unknown in reference/subscribers: 999. Until it is loaded, nobody is told by this.",
    ]
