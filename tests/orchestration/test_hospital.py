"""`pulselake hospital`: what it makes, that a second time adds nothing, and the API that it serves."""

import json
import socket
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from orchestration.cli import app
from orchestration.hospital import Made, make_hospital, served_telemetry
from resources.settings import Settings

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def asked(url: str, **headers: str) -> tuple[list[dict[str, Any]], Any]:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20) as answer:
        return json.load(answer), answer.headers


def test_a_hospital_grows_with_time_and_never_changes_what_happened(tmp_path: Path):
    made = make_hospital(tmp_path, patients=4, days=2, until=NOON)
    assert made.ehr > 4 * 4
    assert make_hospital(tmp_path, patients=4, days=2, until=NOON) == Made(0, 0, 0, 0)
    later = make_hospital(tmp_path, patients=4, days=2, until=NOON + timedelta(days=1))
    assert later.ehr >= 4 * 4 - 4
    assert later.events or later.telemetry


def test_telemetry_is_served_in_pages_and_not_again_if_nothing_changed(tmp_path: Path):
    make_hospital(tmp_path, patients=4, days=2, until=NOON)
    with served_telemetry(tmp_path, 0) as url:
        rows, headers = asked(f"{url}/telemetry")
        assert len(rows) > 20
        first, headers = asked(f"{url}/telemetry?limit=7")
        assert len(first) == 7
        second, _ = asked(url + headers["Link"].partition(">")[0].strip("<"))
        assert [*first, *second] == rows[:14]
        since = rows[-3]["received_at"].replace("+", "%2B")
        newest, headers = asked(f"{url}/telemetry?since={since}")
        assert newest == rows[-3:]
        with pytest.raises(urllib.error.HTTPError, match="304"):
            asked(f"{url}/telemetry?since={since}", **{"If-None-Match": headers["ETag"]})
        with pytest.raises(urllib.error.HTTPError, match="404"):
            asked(f"{url}/patients")


def test_the_command_makes_a_hospital(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PULSELAKE_HOME", str(tmp_path))
    result = CliRunner().invoke(app, ["hospital", "--patients", "2", "--days", "2", "--no-serve"])
    assert result.exit_code == 0, result.output
    assert "Added" in result.output
    assert {file.name for file in Settings().hospital.iterdir()} >= {"ehr.sqlite", "trials.sqlite", "documents"}


def test_a_port_that_is_taken_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("PULSELAKE_HOME", str(tmp_path))
        monkeypatch.setenv("PULSELAKE_HOSPITAL_PORT", str(taken.getsockname()[1]))
        result = CliRunner().invoke(app, ["hospital", "--patients", "1", "--days", "1"])
    assert result.exit_code == 1
    assert "Set PULSELAKE_HOSPITAL_PORT" in " ".join(result.output.split())
