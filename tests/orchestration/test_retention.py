"""Retention as it is run: by the command, by the job, by settings."""

from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from assets.archived import ArchivedError
from orchestration.retention import retire, verify
from orchestration.status import stream_status
from orchestration.system import STREAMS, open_lake
from resources.settings import EXPIRING_LAYERS, Settings
from resources.storage import archive_of, lake_of
from tests.orchestration.commands import CommandLine, command_line
from tests.orchestration.site import Site
from tests.orchestration.test_status import shown, stream_with
from tests.stream.scenarios import NOON, hub_with, run_session, ticking, troubled_bodies

pytestmark = pytest.mark.slow

OLD = NOON.date()
KEEP = "bronze=30,silver=30,quarantine=30,alerts=30"


def fill(settings: Settings) -> None:
    """Readings of two days, which are long ago."""
    for number in range(2):
        hub = hub_with(troubled_bodies(40 + number, seed=1, start=NOON))
        run_session(lake_of(settings), hub, clock=ticking(NOON - timedelta(days=500 - number)))


@pytest.fixture
def filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    command = command_line(tmp_path)
    monkeypatch.setenv("PULSELAKE_HOME", str(command.home))
    fill(Settings())
    return command


def test_the_command_shows_removes_verifies_and_puts_back(filled: CommandLine) -> None:
    day = OLD - timedelta(days=500)
    dry = filled.invoke("retention", "--dry-run", PULSELAKE_KEEP_DAYS=KEEP).out
    assert dry.count(f"{day} would be archived and removed") == 4
    assert f"{day} removed" not in filled.invoke("retention").out, "without the setting everything is kept"
    gone = filled.invoke("retention", PULSELAKE_KEEP_DAYS=KEEP).out
    assert gone.count(f"{day} removed") == 4
    assert f"archived in bronze/glucose_readings/ingest_date={day}/" in gone
    assert "No ingest date has expired" in filled.invoke("retention", PULSELAKE_KEEP_DAYS=KEEP).out
    assert "4 archives are intact, 0 are not" in filled.invoke("archive", "verify").out
    status = stream_status(STREAMS[0], Settings(), open_lake(Settings()), [])
    assert {role: dates for role, (dates, _) in status.archived.items()} == dict.fromkeys(EXPIRING_LAYERS, 1)
    back = filled.invoke("archive", "restore", "bronze/glucose_readings", day)
    assert f"rows of {day} are back" in back.out
    again = filled.invoke("archive", "restore", "bronze/glucose_readings", day, code=1)
    assert "has rows, so nothing was put back" in again.err
    for manifest in (filled.home / "archive").rglob("*.json"):
        manifest.unlink()
    broken = filled.invoke("archive", "verify", code=1)
    assert "0 archives are intact, 4 are not" in broken.out
    assert "is not there" in broken.err


def test_what_went_wrong_is_told_and_the_rest_is_done(filled: CommandLine) -> None:
    settings = Settings(keep_days={"bronze": 30, "silver": 30})
    folder = settings.root / "archive" / "bronze"
    folder.parent.mkdir()
    folder.write_text("a file where a folder should be")
    told = filled.invoke("retention", code=1, PULSELAKE_KEEP_DAYS=KEEP).err
    assert "Retention removed 3 dates of tables, and not these. bronze/glucose_readings of 2025-07-11: " in told
    folder.unlink()
    assert "1 " not in filled.invoke("archive", "verify").out[:2]
    assert [each.table for each in retire(settings, print).retired] == ["bronze/glucose_readings"]
    assert [each.problem for each in verify(settings)] == [""] * 4


def test_the_job_removes_what_has_expired(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(Settings())
    assert site.run("retention").success
    assert len(open_lake(Settings()).table(STREAMS[0].contract.tables.bronze).dates("ingest_date")) == 2
    monkeypatch.setenv("PULSELAKE_KEEP_DAYS", KEEP)
    assert site.run("retention").success
    assert len(open_lake(Settings()).table(STREAMS[0].contract.tables.bronze).dates("ingest_date")) == 1


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("bronze", "must be like"),
        ("bronze=many", "must be like"),
        ("gold=400", "rows expire in bronze, silver, quarantine, alerts"),
        ("bronze=400,silver=2", "at least 7 days"),
    ],
)
def test_a_setting_that_is_wrong_is_refused(monkeypatch: pytest.MonkeyPatch, setting: str, said: str) -> None:
    monkeypatch.setenv("PULSELAKE_KEEP_DAYS", setting)
    with pytest.raises(ValidationError, match=said):
        Settings()


def test_settings_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().keep_days == {}
    monkeypatch.setenv("PULSELAKE_KEEP_DAYS", "bronze=400, silver/glucose_readings=90,")
    assert Settings().keep_days == {"bronze": 400, "silver/glucose_readings": 90}
    archive = archive_of(Settings())
    assert archive is not None
    assert Path(archive.root) == Settings().root / "archive"
    monkeypatch.setenv("PULSELAKE_ARCHIVE", "none")
    assert archive_of(Settings()) is None


def test_an_unknown_table_and_an_archive_on_this_machine_for_a_lake_on_azure_are_refused() -> None:
    with pytest.raises(ArchivedError, match=r"names silver/steps, which is no layer or table.*nothing was done"):
        retire(Settings(keep_days={"silver/steps": 90}), print)
    far = Settings(keep_days={"silver": 90}, lake="abfss://lake@account.dfs.core.windows.net/lake")
    with pytest.raises(ArchivedError, match=r"PULSELAKE_ARCHIVE is not set.*Nothing was read or removed"):
        retire(far, print)
    with pytest.raises(ArchivedError, match="there is no archive; nothing was read"):
        verify(Settings(archive="none"))


def test_status_shows_what_is_archived() -> None:
    assert "archived" not in shown([stream_with()], [])
    text = shown([stream_with(archived={"bronze": (3, 1_234_567)})], [])
    assert "glucose_readings: archived: bronze 1,234,567 rows of 3 ingest dates" in text
