"""Which event dates of gold are made anew: those that new silver rows touch, also after a crash and an expired log."""

from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

import pytest
from polars.testing import assert_frame_equal

from assets.glucose.assets import GOLD
from assets.glucose.gold import glucose_daily, glucose_moving_average, patient_comparison
from assets.gold import DailyGold, DerivedGold, ranges
from resources.lake import Lake
from tests.stream.scenarios import CONTRACT, NOON, body, hub_with, lake_in, reading, run_session, ticking
from tests.stream.tables import rows

DAILY, MOVING, COMPARISON = GOLD
assert isinstance(DAILY, DailyGold)
assert isinstance(MOVING, DailyGold)
assert isinstance(COMPARISON, DerivedGold)

DAY = timedelta(days=1)
TODAY = NOON.date()
DATES = [TODAY - 3 * DAY, TODAY - 2 * DAY, TODAY - DAY, TODAY]


def stream(lake: Lake, dates: Sequence[date], value: float = 100) -> None:
    """One session that brings two readings for each of the dates, where no earlier session did."""
    number = rows(lake, "bronze").height
    measured = [(day - TODAY).days * 24 * 60 + number + minutes for day in dates for minutes in (0, 5)]
    bodies = [body(reading(minutes, value + minutes % 7)) for minutes in measured]
    hub = hub_with([])
    hub.send([b"[]"] * number + bodies, NOON)
    run_session(lake, hub, clock=ticking(NOON + timedelta(minutes=number)))


def refresh(lake: Lake) -> list[date]:
    """Refreshes what is pending; returns it."""
    dates = list(DAILY.pending(lake))
    DAILY.refresh(lake, dates)
    return dates


def test_only_dates_that_new_rows_touch_are_pending(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    assert DAILY.pending(lake) == {}
    stream(lake, DATES[1:])
    assert refresh(lake) == DATES[1:]
    assert DAILY.pending(lake) == {}
    stream(lake, [DATES[0], DATES[3]])
    stream(lake, [DATES[2]])
    assert refresh(lake) == [DATES[0], DATES[2], DATES[3]]
    assert DAILY.pending(lake) == {}


def test_a_refresh_replaces_the_rows_of_its_dates_and_no_others(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    stream(lake, DATES)
    refresh(lake)
    files = set(lake.table(DAILY.table).delta().file_uris())
    stream(lake, [DATES[1]], value=200)
    DAILY.refresh(lake, [DATES[1]])
    gold = lake.table(DAILY.table)
    assert len(files - set(gold.delta().file_uris())) == 1
    assert_frame_equal(gold.scan().collect(), glucose_daily(rows(lake, "silver")), check_row_order=False)


def test_a_date_that_was_refreshed_alone_leaves_the_others_pending(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    stream(lake, DATES)
    DAILY.refresh(lake, DATES[:2])
    assert list(DAILY.pending(lake)) == DATES[2:]
    DAILY.refresh(lake, DATES[2:])
    assert DAILY.pending(lake) == {}


def test_a_date_that_is_touched_while_it_is_refreshed_stays_pending(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    stream(lake, DATES)

    def meanwhile(silver, dates):
        stream(lake, [DATES[2]], value=300)
        return glucose_daily(silver)

    DailyGold(DAILY.table, DAILY.source, meanwhile).refresh(lake, DATES)
    assert list(DAILY.pending(lake)) == [DATES[2]]
    refresh(lake)
    assert_frame_equal(
        lake.table(DAILY.table).scan().collect(), glucose_daily(rows(lake, "silver")), check_row_order=False
    )


def test_a_refresh_that_dies_before_its_commit_leaves_everything_pending(tmp_path: Path) -> None:
    def die(silver, dates):
        raise KeyboardInterrupt

    lake = lake_in(tmp_path)
    stream(lake, DATES)
    with pytest.raises(KeyboardInterrupt):
        DailyGold(DAILY.table, DAILY.source, die).refresh(lake, DATES)
    assert refresh(lake) == DATES


def test_the_two_day_mean_of_a_date_follows_the_day_before_it(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    stream(lake, DATES)
    MOVING.refresh(lake, list(MOVING.pending(lake)))
    stream(lake, [DATES[1]], value=300)
    assert list(MOVING.pending(lake)) == [DATES[1], DATES[2]]
    MOVING.refresh(lake, [DATES[1], DATES[2]])
    assert MOVING.pending(lake) == {}
    assert_frame_equal(
        lake.table(MOVING.table).scan().collect(),
        glucose_moving_average(rows(lake, "silver"), DATES),
        check_row_order=False,
    )


def test_new_rows_of_the_newest_date_make_no_date_after_it_pending(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    stream(lake, DATES)
    MOVING.refresh(lake, DATES)
    stream(lake, [TODAY])
    assert list(MOVING.pending(lake)) == [TODAY]


def test_a_log_that_does_not_reach_back_makes_every_date_pending(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    stream(lake, DATES)
    refresh(lake)
    silver = lake.table(CONTRACT.tables.silver)
    stream(lake, [DATES[1]])
    stream(lake, [DATES[2]])
    silver.delta().create_checkpoint()
    log = Path(silver.uri) / "_delta_log"
    for entry in sorted(log.glob("*.json"))[:-1]:
        entry.unlink()
    assert list(DAILY.pending(lake)) == DATES
    refresh(lake)
    assert DAILY.pending(lake) == {}


def test_house_keeping_of_silver_makes_no_date_pending(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    stream(lake, DATES)
    refresh(lake)
    lake.table(CONTRACT.tables.silver).maintain([("ingest_date", "!=", "1970-01-01")], small_files=0)
    assert DAILY.pending(lake) == {}


def test_the_comparison_of_patients_is_made_from_the_days(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    stream(lake, DATES)
    refresh(lake)
    assert COMPARISON.refresh(lake) == 1
    days = lake.table(DAILY.table).scan().collect()
    assert_frame_equal(lake.table(COMPARISON.table).scan().collect(), patient_comparison(days))


def test_dates_become_ranges_of_consecutive_ones() -> None:
    assert ranges([DATES[3], DATES[0], DATES[1]]) == [(DATES[0], DATES[1]), (DATES[3], DATES[3])]
    assert ranges([]) == []
