"""What is asked of alarms opens the dates that may have it, and no others: files of years are left alone."""

from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from assets.glucose.assets import CONTRACT
from assets.stream.alarm_history import AlarmUnknownError, explained, found, standing
from resources.lake import Lake
from tests.stream.hubs import MemoryHub
from tests.stream.scenarios import NOON, body, lake_in, reading, run_session, ticking

BEGIN = NOON - timedelta(hours=1)
DAY = 24 * 60
IS_LOW = pl.col("cause") == "glucose_low"
LOW = ((0, 90), (5, 66), (10, 90), (30, 95))


def live(lake: Lake, hub: MemoryHub, days_ago: int) -> None:
    """A low that begins and ends on a day, and a session of that day."""
    for minute, value in LOW:
        at = minute - days_ago * DAY
        hub.send([body(reading(at, value))], BEGIN + timedelta(minutes=at))
        run_session(lake, hub, clock=ticking(BEGIN + timedelta(minutes=at, seconds=1), timedelta(0)))


def lose(lake: Lake, day: date) -> None:
    """Takes all files of an ingest date away, as if a disk had lost them: whoever opens one fails."""
    files = [*Path(lake.root).rglob(f"ingest_date={day}/**/*.parquet")]
    assert len(files) > 3
    for each in files:
        each.unlink()


@pytest.fixture
def lived(tmp_path: Path) -> Lake:
    lake, hub = lake_in(tmp_path), MemoryHub(partitions=1)
    for days_ago in (40, 3, 0):
        live(lake, hub, days_ago)
    return lake


def ids(lake: Lake) -> list[str]:
    rows = lake.table(CONTRACT.tables["alarms"]).scan().filter(IS_LOW, pl.col("kind") == "raised").collect()
    return rows.sort("raised_at")["alarm_id"].to_list()


def test_an_alarm_is_found_however_old_it_is_and_explained(lived: Lake) -> None:
    assert len(ids(lived)) == 3
    for alarm_id in ids(lived):
        for asked in (alarm_id, alarm_id[:9]):
            contract, transitions = found([CONTRACT], lived, asked)
            assert transitions["kind"].to_list() == ["raised", "cleared"]
            assert explained(contract, lived, transitions).is_same


def test_an_alarm_of_today_needs_no_file_of_before(lived: Lake) -> None:
    [*_, newest] = ids(lived)
    for days_ago in (40, 3):
        lose(lived, (NOON - timedelta(days=days_ago)).date())
    contract, transitions = found([CONTRACT], lived, newest, NOON.date())
    assert transitions["kind"].to_list() == ["raised", "cleared"]
    assert explained(contract, lived, transitions).is_same
    assert standing(CONTRACT, lived, BEGIN).filter(IS_LOW)["alarm_id"].to_list() == [newest]


def test_what_is_over_for_long_needs_no_file_of_after(lived: Lake) -> None:
    oldest, *_ = ids(lived)
    _, transitions = found([CONTRACT], lived, oldest)
    lose(lived, NOON.date())
    assert explained(CONTRACT, lived, transitions).is_same


def test_dates_before_what_is_asked_for_are_not_looked_at(lived: Lake) -> None:
    oldest, *_ = ids(lived)
    since = (NOON - timedelta(days=10)).date()
    for asked in (oldest, oldest[:9], "f" * 16):
        with pytest.raises(AlarmUnknownError):
            found([CONTRACT], lived, asked, since)


def test_open_alarms_need_the_dates_since_they_were_all_written(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), MemoryHub(partitions=1)
    live(lake, hub, 3)
    for minute, value in ((0, 66), (7, 66), (14, 66)):
        hub.send([body(reading(minute, value, patient=2))], BEGIN + timedelta(minutes=minute))
        run_session(lake, hub, clock=ticking(BEGIN + timedelta(minutes=minute, seconds=1), timedelta(0)))
    before = standing(CONTRACT, lake)
    assert before.filter(IS_LOW)["entity"].to_list() == [2]
    lose(lake, (NOON - timedelta(days=3)).date())
    assert standing(CONTRACT, lake).equals(before)


def test_without_a_table_nothing_stands(tmp_path: Path) -> None:
    assert standing(CONTRACT, lake_in(tmp_path), NOON).is_empty()
    with pytest.raises(AlarmUnknownError):
        found([CONTRACT], lake_in(tmp_path), "f" * 16)
