"""What `pulselake status` finds, and how it is shown."""

import io
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from rich.console import Console

from assets.glucose.assets import CONTRACT
from orchestration.last_sessions import LastSession, last_sessions
from orchestration.live import prepare_dagster_home
from orchestration.screens import show_status
from orchestration.status import StreamStatus, status
from orchestration.system import STREAMS, LakeUnavailableError, open_lake
from orchestration.watch import watch
from resources.event_source import HubUnavailableError
from resources.lake import Lake
from resources.settings import Settings
from tests.orchestration.site import SESSION, Site, today

GLUCOSE = STREAMS[0]


def shown(streams: list[StreamStatus], sessions: list[LastSession]) -> str:
    text = io.StringIO()
    show_status(Console(file=text, width=120), streams, sessions)
    return text.getvalue()


def stream_with(**changes: Any) -> StreamStatus:
    rows = dict.fromkeys(("bronze", "silver", "quarantine", "alerts"), 0)
    empty: dict[str, Any] = {"last_pulled_at": None, "quarantine": {}, "alerts": {}, "duplicates": 0}
    return StreamStatus(**{"stream": GLUCOSE, "lag": None, "problem": "", "rows": rows} | empty | changes)


def in_home(site: Site, instance: dg.DagsterInstance, run_status: dg.DagsterRunStatus) -> dg.DagsterRun:
    site.instance = instance
    return site.record(SESSION, run_status)


def test_all_hubs_are_asked_at_once(tmp_path, monkeypatch):
    together = threading.Barrier(len(STREAMS))

    def ask(*_: object) -> None:
        together.wait(300)
        raise HubUnavailableError("It is away.")

    for module in ("status", "watch"):
        monkeypatch.setattr(f"orchestration.{module}.backlog", ask)
    settings, text = Settings(home=tmp_path), io.StringIO()
    assert [each.problem for each in status(settings, today())] == ["It is away."] * len(STREAMS)
    watch(settings, Console(file=text, width=120), 0.1, looks=1)
    assert "It is away." in text.getvalue()


@pytest.mark.service
def test_a_session_that_was_started_by_materializing_bronze_is_found(site):
    settings = Settings()
    prepare_dagster_home(settings)
    with dg.DagsterInstance.from_config(str(settings.dagster_home)) as site.instance:
        in_home(site, site.instance, dg.DagsterRunStatus.SUCCESS)
        by_hand = site.run("__ASSET_JOB", only=["bronze/glucose_readings"], partition_key=today().isoformat())
    (found,) = last_sessions(settings, datetime.now(UTC))
    assert (found.run_id, found.outcome) == (by_hand.run_id, "success")


def test_where_dagster_never_ran_there_is_no_session(offline):
    assert last_sessions(Settings(), datetime.now(UTC)) == []
    assert not Settings().dagster_home.exists()


def test_the_newest_session_is_found_with_start_duration_and_outcome(offline):
    settings = Settings()
    prepare_dagster_home(settings)
    with dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance:
        in_home(offline, instance, dg.DagsterRunStatus.SUCCESS)
        run = in_home(offline, instance, dg.DagsterRunStatus.STARTING)
        (waiting,) = last_sessions(settings, datetime.now(UTC))
        assert (waiting.stream, waiting.outcome, waiting.started_at) == (GLUCOSE, "starting", None)
        instance.report_dagster_event(dg.DagsterEvent("PIPELINE_START", run.job_name), run.run_id)
        instance.report_run_failed(run)
    (failed,) = last_sessions(settings, datetime.now(UTC) + timedelta(hours=1))
    assert (failed.run_id, failed.outcome) == (run.run_id, "failure")
    assert failed.started_at is not None
    assert failed.started_at.date() == today()
    assert failed.duration < timedelta(hours=1)


def test_a_session_is_shown():
    started = datetime(2026, 11, 23, 8, 0, 5, tzinfo=UTC)
    session = LastSession(GLUCOSE, "0123456789", "success", started, timedelta(seconds=61))
    (line,) = [line for line in shown([stream_with()], [session]).splitlines() if "success" in line]
    assert [cell.strip() for cell in line.split("│")[1:-1]] == [
        "glucose_readings",
        "11-23 08:00:05",
        "61",
        "success",
        "01234567",
    ]


def test_a_problem_is_shown_once_and_as_it_is():
    assert shown([stream_with(problem="the hub said [/x]")] * 2, []).count("the hub said [/x]") == 1


def test_a_lake_that_cannot_be_opened_is_named_with_what_to_do(tmp_path):
    damage(tmp_path / "lake")
    with pytest.raises(LakeUnavailableError, match=r"lake cannot be opened: .*PULSELAKE_LAKE"):
        status(Settings(lake=str(tmp_path / "lake")), today())


def test_what_a_storage_says_becomes_a_line(monkeypatch):
    for name, value in {"ACCOUNT_NAME": "name", "ACCOUNT_KEY": "c2VjcmV0", "ALLOW_HTTP": "true"}.items():
        monkeypatch.setenv(f"AZURE_STORAGE_{name}", value)
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", "http://127.0.0.1:1/name")
    with pytest.raises(LakeUnavailableError, match=r"Connection refused .*Check PULSELAKE_LAKE") as refused:
        open_lake(Settings(lake="abfss://container@name.dfs.core.windows.net/path"))
    assert str(refused.value).isprintable()


@pytest.mark.service
def test_who_looks_creates_no_tables(site):
    (found, *_) = status(Settings(), today())
    assert found.problem == ""
    assert found.lag is not None
    assert [lag.bronze for lag in found.lag.partitions] == [-1, -1]
    assert not Path(site.lake.root).exists()


def damage(lake: Path) -> None:
    """A log that is none."""
    log = Path(Lake(str(lake)).table(CONTRACT.tables.bronze).uri) / "_delta_log"
    log.mkdir(parents=True)
    (log / "00000000000000000000.json").write_text("no log")
