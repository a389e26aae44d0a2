"""Which event dates of gold are made anew: those that new silver rows touch, also after a crash and an expired log."""

import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import dataframely as dy
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from assets.glucose.assets import CONTRACT, GOLD
from assets.glucose.gold import glucose_daily, glucose_daily_of, glucose_moving_average, patient_comparison
from assets.gold import DailyGold, DerivedGold, pieces
from orchestration.system import Stream
from orchestration.work import refresh_gold
from resources.lake import ConcurrentWriteError, Lake
from resources.table import Table
from tests.stream.scenarios import NOON, body, hub_with, lake_in, reading, run_session, ticking
from tests.stream.tables import rows

pytestmark = pytest.mark.slow

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


def expire_log(lake: Lake, keep: int = 1) -> None:
    """Leaves only the last commits in silver's log, as the house-keeping of a later session does."""
    silver = lake.table(CONTRACT.tables.silver)
    silver.delta().create_checkpoint()
    for entry in sorted((Path(silver.uri) / "_delta_log").glob("*.json"))[:-keep]:
        entry.unlink()


def maintain(lake: Lake) -> None:
    """House-keeping of silver, which commits without touching a date; it needs files of two sessions."""
    silver = lake.table(CONTRACT.tables.silver)
    before = silver.version()
    silver.maintain([("ingest_date", "!=", "1970-01-01")], small_files=0)
    assert silver.version() != before


def remove_from_silver(lake: Lake, day: date) -> None:
    silver = lake.table(CONTRACT.tables.silver)
    rest = silver.scan().filter(pl.col("event_date") != day).collect()
    silver.replace([rest], None, event_dates=[day])


def assert_gold_follows_silver(lake: Lake) -> None:
    assert_frame_equal(
        lake.table(DAILY.table).scan().collect(), glucose_daily(rows(lake, "silver")), check_row_order=False
    )


def elsewhere(action: Callable[[], object]) -> None:
    """Does something as another process would: while Delta waits for rows, its thread can open no other table."""
    with ThreadPoolExecutor(1) as other:
        other.submit(action).result()


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

    def meanwhile(slots, dates):
        elsewhere(lambda: stream(lake, [DATES[2]], value=300))
        return DAILY.combine(slots, dates)

    replace(DAILY, combine=meanwhile).refresh(lake, DATES)
    assert list(DAILY.pending(lake)) == [DATES[2]]
    refresh(lake)
    assert_gold_follows_silver(lake)


def test_a_refresh_holds_some_dates_and_what_they_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake, seen = lake_in(tmp_path), list[tuple[list[date], list[date]]]()

    def combine(slots, dates):
        seen.append((dates, slots["event_date"].unique().sort().to_list()))
        return MOVING.combine(slots, dates)

    stream(lake, DATES)
    monkeypatch.setattr("assets.gold.MAX_ROWS", 4)
    assert replace(MOVING, combine=combine).refresh(lake, [DATES[3], *DATES[:2]]) == 3
    assert seen == [([DATES[0]], DATES[:1]), ([DATES[1]], DATES[:2]), ([DATES[3]], DATES[2:])]
    monkeypatch.setattr("assets.gold.MAX_ROWS", 6)
    seen.clear()
    MOVING.refresh(lake, [DATES[2]])
    replace(MOVING, combine=combine).refresh(lake, DATES)
    assert [dates for dates, _ in seen] == [DATES[:2], [DATES[2]], [DATES[3]]]
    assert_frame_equal(
        lake.table(MOVING.table).scan().collect(),
        glucose_moving_average(rows(lake, "silver"), DATES),
        check_row_order=False,
    )


def test_a_refresh_that_dies_before_its_commit_leaves_everything_pending(tmp_path: Path) -> None:
    def die(slots, dates):
        raise KeyboardInterrupt

    lake = lake_in(tmp_path)
    stream(lake, DATES)
    with pytest.raises(KeyboardInterrupt):
        replace(DAILY, combine=die).refresh(lake, DATES)
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
    stream(lake, [DATES[1]])
    stream(lake, [DATES[2]])
    expire_log(lake)
    assert list(DAILY.pending(lake)) == DATES
    refresh(lake)
    assert DAILY.pending(lake) == {}


@pytest.mark.parametrize("is_first", [True, False])
def test_refreshes_of_some_dates_while_sessions_commit_come_to_an_end(tmp_path: Path, is_first: bool) -> None:
    lake = lake_in(tmp_path)
    stream(lake, [DATES[0], DATES[1]])
    stream(lake, [DATES[3]])
    if not is_first:
        refresh(lake)
        stream(lake, [TODAY])
        stream(lake, [TODAY])
        expire_log(lake)
    pending = list(DAILY.pending(lake))
    assert pending == [DATES[0], DATES[1], DATES[3]]
    for day in DATES[:2]:
        DAILY.refresh(lake, [day])
        stream(lake, [TODAY])
        pending.remove(day)
        assert list(DAILY.pending(lake)) == pending
    refresh(lake)
    assert DAILY.pending(lake) == {}
    assert_gold_follows_silver(lake)


def test_dates_that_are_pending_in_turn_do_not_tie_gold_to_old_commits(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    stream(lake, DATES)
    refresh(lake)
    for day, other in [(DATES[0], DATES[3]), (DATES[3], DATES[0])] * 3:
        stream(lake, [day, other])
        DAILY.refresh(lake, [day])
        assert list(DAILY.pending(lake)) == [other]
    expire_log(lake, keep=2)
    assert list(DAILY.pending(lake)) == [DATES[0]]
    refresh(lake)
    assert_gold_follows_silver(lake)


def test_every_date_is_pending_after_silver_was_removed_and_made_anew(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    for _ in range(4):
        stream(lake, DATES[:2])
    refresh(lake)
    shutil.rmtree(lake.table(CONTRACT.tables.silver).uri)
    stream(lake, [DATES[1]])
    assert refresh(lake) == DATES[:2]
    assert_gold_follows_silver(lake)
    stream(lake, [DATES[0]])
    assert refresh(lake) == [DATES[0]]
    assert_gold_follows_silver(lake)


def interrupted(gold: DailyGold, lake: Lake) -> DailyGold:
    """The same table, but when it is computed first, something is streamed and refreshed before it is written."""
    calls = []

    def overtake() -> None:
        stream(lake, [DATES[0]], value=200)
        gold.refresh(lake, list(gold.pending(lake)))

    def combine(slots, dates):
        result = gold.combine(slots, dates)
        calls.append(dates)
        if len(calls) == 1:
            elsewhere(overtake)
        return result

    return replace(gold, combine=combine)


def test_an_older_refresh_does_not_overwrite_a_newer_one(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    stream(lake, DATES)
    refresh(lake)
    stream(lake, [DATES[0], DATES[3]])
    with pytest.raises(ConcurrentWriteError, match="Nothing was written"):
        interrupted(DAILY, lake).refresh(lake, [DATES[0]])
    assert DAILY.pending(lake) == {}
    assert_gold_follows_silver(lake)


def test_two_first_refreshes_do_not_overwrite_each_other(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    stream(lake, DATES)
    with pytest.raises(ConcurrentWriteError, match="Nothing was written"):
        interrupted(DAILY, lake).refresh(lake, [DATES[0]])
    assert_gold_follows_silver(lake)


def test_the_command_line_refreshes_again_what_another_refresh_overtook(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    stream(lake, DATES)
    refresh_gold(Stream("glucose", CONTRACT, [interrupted(DAILY, lake), COMPARISON]), lake)
    assert DAILY.pending(lake) == {}
    assert_gold_follows_silver(lake)
    assert not COMPARISON.is_pending(lake)


def test_gold_that_settles_outlives_the_log_of_silvers_house_keeping(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    stream(lake, DATES[:2])
    stream(lake, DATES[2:])
    refresh(lake)
    maintain(lake)
    DAILY.settle(lake)
    stream(lake, [DATES[1]])
    expire_log(lake)
    assert list(DAILY.pending(lake)) == [DATES[1]]


def test_a_refresh_of_nothing_from_the_command_line_settles(tmp_path: Path) -> None:
    lake, glucose = lake_in(tmp_path), Stream("glucose", CONTRACT, GOLD)
    stream(lake, DATES[:2])
    stream(lake, DATES[2:])
    assert set(refresh_gold(glucose, lake)) == {"gold/alarms", *(gold.table.name for gold in GOLD)}
    maintain(lake)
    assert refresh_gold(glucose, lake) == {}
    stream(lake, [DATES[3]])
    expire_log(lake)
    assert list(DAILY.pending(lake)) == list(MOVING.pending(lake)) == [DATES[3]]


def test_settling_commits_only_where_silver_moved_on_and_hides_nothing(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    for gold in GOLD:
        gold.settle(lake)
        assert not lake.table(gold.table).exists()
    stream(lake, DATES)
    refresh_gold(Stream("glucose", CONTRACT, GOLD), lake)
    before = [lake.table(gold.table).version() for gold in GOLD]
    for gold in GOLD:
        gold.settle(lake)
    assert [lake.table(gold.table).version() for gold in GOLD] == before
    stream(lake, [DATES[1]])
    maintain(lake)
    for gold in GOLD:
        gold.settle(lake)
    assert list(DAILY.pending(lake)) == [DATES[1]]
    assert list(MOVING.pending(lake)) == DATES[1:3]


def test_a_date_without_rows_any_more_loses_its_gold_rows_also_when_the_log_expired(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    stream(lake, DATES)
    refresh(lake)
    remove_from_silver(lake, DATES[1])
    stream(lake, [TODAY])
    expire_log(lake)
    assert refresh(lake) == DATES
    assert_gold_follows_silver(lake)


def test_the_newest_date_loses_its_two_day_mean_with_its_rows(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    stream(lake, DATES)
    MOVING.refresh(lake, DATES)
    remove_from_silver(lake, TODAY)
    assert list(MOVING.pending(lake)) == [TODAY]
    MOVING.refresh(lake, [TODAY])
    assert lake.table(MOVING.table).scan().collect()["event_date"].max() == DATES[2]


def test_house_keeping_of_silver_makes_no_date_pending(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    stream(lake, DATES[:2])
    stream(lake, DATES[2:])
    refresh(lake)
    maintain(lake)
    assert DAILY.pending(lake) == {}


def test_the_comparison_of_patients_is_made_from_the_days(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    stream(lake, DATES)
    refresh(lake)
    assert COMPARISON.refresh(lake) == 1
    days = lake.table(DAILY.table).scan().collect()
    assert_frame_equal(lake.table(COMPARISON.table).scan().collect(), patient_comparison(days))


def test_a_comparison_that_a_crash_left_behind_is_made_by_the_next_refresh(tmp_path: Path) -> None:
    lake, glucose = lake_in(tmp_path), Stream("glucose", CONTRACT, GOLD)
    assert not COMPARISON.is_pending(lake)
    stream(lake, DATES)
    refresh_gold(glucose, lake)
    assert not COMPARISON.is_pending(lake)
    stream(lake, [TODAY])
    for gold in (DAILY, MOVING):
        gold.refresh(lake, list(gold.pending(lake)))
    assert COMPARISON.is_pending(lake)
    assert refresh_gold(glucose, lake) == {COMPARISON.table.name: 1}
    assert lake.table(COMPARISON.table).scan().collect()["reading_count"].to_list() == [10]
    assert refresh_gold(glucose, lake) == {}


def test_house_keeping_of_the_days_makes_no_comparison_pending(tmp_path: Path) -> None:
    lake, glucose = lake_in(tmp_path), Stream("glucose", CONTRACT, GOLD)
    stream(lake, DATES)
    refresh_gold(glucose, lake)
    lake.table(DAILY.table).maintain()
    assert not COMPARISON.is_pending(lake)


def test_a_comparison_is_made_from_days_that_were_removed_and_made_anew(tmp_path: Path) -> None:
    lake, glucose = lake_in(tmp_path), Stream("glucose", CONTRACT, GOLD)
    stream(lake, DATES)
    refresh_gold(glucose, lake)
    shutil.rmtree(lake.table(DAILY.table).uri)
    assert set(refresh_gold(glucose, lake)) == {DAILY.table.name, COMPARISON.table.name}


def test_the_newest_date_comes_first_and_alone_and_the_others_in_bounded_pieces() -> None:
    today = date(2026, 11, 23)
    scattered = [today - timedelta(days=2 * number) for number in range(1, 400)]
    found = pieces({today, *scattered})
    assert found[0] == [today]
    assert [day for piece in found for day in piece] == [today, *scattered]
    assert all(len(piece) <= 100 and piece[0] - piece[-1] <= timedelta(days=365) for piece in found)
    assert len(found) == 1 + -(-399 // 100)
    assert pieces([today, today - timedelta(days=1), today - timedelta(days=2)]) == [
        [today, today - timedelta(days=1)],
        [today - timedelta(days=2)],
    ]
    assert pieces([]) == []


def changed(table: Table, **columns: dy.Column) -> Table:
    """A table after columns of its contract were added or changed."""
    rows = type("Changed", (dy.Schema,), {"__module__": __name__, **table.rows.columns(), **columns})
    return Table(table.name, rows, table.partition_by)


SPREAD = pl.col("max_mg_dl") - pl.col("min_mg_dl")
WITH_SPREAD = replace(
    DAILY,
    table=changed(DAILY.table, spread_mg_dl=dy.Float64(nullable=False)),
    combine=lambda slots, _: glucose_daily_of(slots).with_columns(spread_mg_dl=SPREAD),
)
WITH_EXACT_COUNTS = replace(
    DAILY,
    table=changed(DAILY.table, reading_count=dy.Float64(nullable=False)),
    combine=lambda slots, _: glucose_daily_of(slots).with_columns(pl.col("reading_count").cast(pl.Float64)),
)
CHANGED = {"a column more": WITH_SPREAD, "another type": WITH_EXACT_COUNTS}


@pytest.mark.parametrize("gold", CHANGED.values(), ids=CHANGED)
def test_gold_whose_contract_changed_is_made_anew_date_by_date(tmp_path: Path, gold: DailyGold) -> None:
    lake = lake_in(tmp_path)
    stream(lake, DATES)
    refresh(lake)
    before = lake.table(gold.table).version()
    assert list(gold.pending(lake)) == DATES
    gold.settle(lake)
    assert lake.table(gold.table).version() == before, "only a refresh changes the columns"
    gold.refresh(lake, DATES[:1])
    assert list(gold.pending(lake)) == DATES[1:]
    stream(lake, [DATES[0]])
    assert list(gold.pending(lake)) == DATES
    gold.refresh(lake, DATES)
    assert gold.pending(lake) == {}
    assert_frame_equal(
        lake.table(gold.table).scan().collect(), gold.compute(rows(lake, "silver").lazy(), DATES), check_row_order=False
    )
    stream(lake, [DATES[2]])
    expire_log(lake, keep=1)
    gold.refresh(lake, list(gold.pending(lake)))
    gold.settle(lake)
    assert gold.pending(lake) == {}


def test_gold_that_gained_a_column_keeps_its_rows_until_they_are_made_anew(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    stream(lake, DATES)
    refresh(lake)
    WITH_SPREAD.refresh(lake, DATES[:1])
    found = lake.table(WITH_SPREAD.table).scan().sort("event_date").collect()
    assert found["spread_mg_dl"].is_null().to_list() == [False, True, True, True]
    assert found["reading_count"].to_list() == [2, 2, 2, 2]


def test_gold_whose_contract_changes_there_and_back_is_made_anew_each_time(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    stream(lake, DATES[:2])
    for gold in (DAILY, WITH_EXACT_COUNTS, DAILY, WITH_SPREAD, DAILY):
        assert list(gold.pending(lake)) == DATES[:2]
        gold.refresh(lake, DATES[:2])
        assert gold.pending(lake) == {}
    assert_gold_follows_silver(lake)


def test_two_refreshes_that_find_other_columns_do_not_undo_each_other(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    stream(lake, DATES)
    refresh(lake)
    with pytest.raises(ConcurrentWriteError, match="Nothing was written"):
        interrupted(WITH_EXACT_COUNTS, lake).refresh(lake, [DATES[0]])
    assert WITH_EXACT_COUNTS.pending(lake) == {}


def test_a_comparison_whose_contract_changed_is_made_anew_in_one_commit(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    stream(lake, DATES)
    refresh_gold(Stream("glucose", CONTRACT, GOLD), lake)
    table = lake.table(changed(COMPARISON.table, rank=dy.Float64(nullable=False)))
    exact = DerivedGold(
        table.table,
        COMPARISON.source,
        lambda days: patient_comparison(days).with_columns(pl.col("rank").cast(pl.Float64)),
    )
    before = table.version()
    exact.settle(lake)
    assert exact.is_pending(lake)
    assert exact.refresh(lake) == 1
    assert not exact.is_pending(lake)
    assert before is not None
    assert table.version() == before + 1
    assert table.scan().collect()["rank"].to_list() == [1.0]


def test_a_comparison_follows_days_whose_contract_changed(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    stream(lake, DATES)
    refresh_gold(Stream("glucose", CONTRACT, GOLD), lake)
    WITH_SPREAD.refresh(lake, DATES)
    assert COMPARISON.is_pending(lake)
