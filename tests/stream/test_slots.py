"""Gold that is added up from kept slots is what all silver rows at once come to, to the last byte, in any history."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from assets.day import slot
from assets.devices.assets import CONTRACT as DEVICES
from assets.devices.assets import GOLD as DEVICE_GOLD
from assets.glucose.assets import CONTRACT, GOLD, SLOTS
from assets.gold import DailyGold
from assets.slots import PARTS, GoldError, Slots, _Refresh
from assets.stream.contract import Contract
from resources.lake import ConcurrentWriteError, Lake, LakeTable
from tests.stream.scenarios import lake_in

pytestmark = pytest.mark.slow

MONDAY = date(2026, 11, 23)
TUESDAY, WEDNESDAY = MONDAY + timedelta(days=1), MONDAY + timedelta(days=2)
STORING = replace(SLOTS, min_stored=1)
"""Slots of every date are kept, however few readings it has."""


def storing(golds: Sequence[Any]) -> list[DailyGold]:
    daily = [gold for gold in golds if isinstance(gold, DailyGold)]
    slots = replace(daily[0].slots, min_stored=1)
    return [replace(gold, slots=slots) for gold in daily]


DAILY, MOVING = storing(GOLD)
[HEALTH] = storing(DEVICE_GOLD)

Reading = tuple[int, int, date, timedelta, float]
"""Patient, device, date, time of the day, value."""


def silver_rows(contract: Contract, rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Rows of silver; what is not given is of no matter to gold."""
    schema = contract.tables.silver.schema
    at = datetime(2026, 11, 25, 23, tzinfo=UTC)
    others = {"received_at": at, "partition": 0, "sequence_number": 0, "event_index": 0, "ingest_date": WEDNESDAY}
    others |= {"firmware_version": "1.0.0"}
    whole = [{name: (others | {**row}).get(name) for name in schema} for row in rows]
    return pl.DataFrame(whole, schema=schema).with_columns(event_date=pl.col("measured_at").dt.date())


def of_readings(readings: Sequence[Reading]) -> pl.DataFrame:
    return silver_rows(
        CONTRACT,
        [
            {
                "patient_id": patient,
                "device_id": device,
                "measured_at": datetime.combine(on, time(), UTC) + after,
                "glucose_mg_dl": value,
            }
            for patient, device, on, after, value in readings
        ],
    )


def at(*minutes: float, on: date = MONDAY, patient: int = 1, value: float = 100) -> list[Reading]:
    return [(patient, 10, on, timedelta(minutes=minute), value + minute % 7) for minute in minutes]


def append(lake: Lake, rows: pl.DataFrame, contract: Contract = CONTRACT, *, names_slots: bool = True) -> None:
    """A commit of a session; one of an older version names dates only."""
    slots = dict(rows.select("event_date", slot()).unique().group_by("event_date").agg("slot").iter_rows())
    silver = lake.table(contract.tables.silver).create()
    silver.append(rows, transactions={}, event_dates=slots, event_slots=slots if names_slots else None)


def add(lake: Lake, *readings: Reading, names_slots: bool = True) -> None:
    append(lake, of_readings(readings), names_slots=names_slots)


def refresh(lake: Lake, *golds: DailyGold) -> None:
    for gold in golds or (DAILY, MOVING):
        if due := list(gold.pending(lake)):
            gold.refresh(lake, due)


def stored(lake: Lake, slots: Slots = STORING) -> LakeTable:
    return lake.table(slots.table)


def files(lake: Lake) -> set[str]:
    return set(stored(lake).delta().file_uris())


def assert_exact(lake: Lake, *golds: DailyGold) -> None:
    """Every row of gold is the one that all silver rows at once come to."""
    for gold in golds or (DAILY, MOVING):
        rows = lake.table(gold.source).scan().collect()
        right = gold.compute(rows.lazy(), rows["event_date"].unique().to_list())
        found = lake.table(gold.table).scan().collect()
        assert_frame_equal(found.sort(right.columns[:2]), right, check_exact=True)


times = st.one_of(
    st.integers(0, 1439).map(lambda minute: timedelta(minutes=minute)),
    st.integers(0, 40).map(lambda number: timedelta(minutes=14, seconds=50 + number)),
    st.timedeltas(timedelta(0), timedelta(hours=23, minutes=59, seconds=59)),
)
readings_of_glucose = st.tuples(
    st.integers(1, 2),
    st.integers(1, 2),
    st.sampled_from([MONDAY, TUESDAY]),
    times,
    st.one_of(st.sampled_from([53.9, 54.0, 70.0, 180.0, 180.1, 250.1]), st.floats(0.1, 1000)),
)
reports = st.builds(
    lambda device, on, after, level, status, error: {
        "device_id": device,
        "measured_at": datetime.combine(on, time(), UTC) + after,
        "battery_level": level,
        "connectivity_status": status,
        "error_codes": error,
    },
    st.integers(1, 2),
    st.sampled_from([MONDAY, TUESDAY]),
    times,
    st.floats(0, 100),
    st.sampled_from(["Connected", "Disconnected", "Poor Connection"]),
    st.sampled_from(["", "Err1", "Err2", "Err3"]),
)


@settings(deadline=None, max_examples=15)
@given(st.lists(st.lists(readings_of_glucose, min_size=1, max_size=12), min_size=1, max_size=4), st.booleans())
def test_gold_after_each_batch_is_what_all_readings_come_to(batches: list[list[Reading]], names_slots: bool) -> None:
    with TemporaryDirectory() as folder:
        lake = Lake(folder)
        for batch in batches:
            add(lake, *batch, names_slots=names_slots)
            refresh(lake)
            assert_exact(lake)


@settings(deadline=None, max_examples=10)
@given(st.lists(st.lists(reports, min_size=1, max_size=12), min_size=1, max_size=3))
def test_health_after_each_batch_is_what_all_reports_come_to(batches: list[list[dict[str, Any]]]) -> None:
    with TemporaryDirectory() as folder:
        lake = Lake(folder)
        for batch in batches:
            append(lake, silver_rows(DEVICES, batch), DEVICES)
            refresh(lake, HEALTH)
            assert_exact(lake, HEALTH)


def test_only_the_parts_that_new_readings_touch_are_written(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    add(lake, *at(*range(0, 1440, 20)))
    refresh(lake)
    before = files(lake)
    assert len(before) == len(PARTS)
    add(lake, *at(1433))
    refresh(lake)
    assert len(before & files(lake)) == len(PARTS) - 1
    assert_exact(lake)


def test_only_the_slots_that_new_readings_touch_are_read(tmp_path: Path) -> None:
    lake, read = lake_in(tmp_path), list[list[int]]()

    def summarise(silver: pl.LazyFrame) -> pl.DataFrame:
        rows = silver.collect()
        if rows.height:
            read.append(rows.select(slot()).to_series().unique().sort().to_list())
        return SLOTS.summarise(rows.lazy())

    watched = replace(DAILY, slots=replace(STORING, summarise=summarise))
    add(lake, *at(*range(0, 1440, 5)))
    refresh(lake, watched)
    read.clear()
    add(lake, *at(31.5), *at(62, patient=2), *at(1301))
    refresh(lake, watched)
    assert read == [[86], [2], [4]]
    assert_exact(lake, watched)


def test_slots_with_many_readings_are_summed_up_in_shares_of_patients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assets.slots.MAX_ROWS", 7)
    lake = lake_in(tmp_path)
    add(lake, *(each for patient in range(-3, 9) for each in at(0, 1, 2.5, 20, 1439, patient=patient)))
    refresh(lake)
    assert_exact(lake)


def test_dates_with_few_readings_are_not_kept(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    add(lake, *at(0, 5, 10))
    few, many = replace(DAILY, slots=replace(STORING, min_stored=4)), replace(MOVING, slots=STORING)
    refresh(lake, few)
    assert not stored(lake).exists()
    refresh(lake, many)
    assert stored(lake).count() == 1
    assert_exact(lake, few, many)


class Killed(BaseException):
    """A process that ends in the middle."""


def dying(gold: DailyGold, after: int) -> DailyGold:
    """The same table, but the process dies in the sums after some calls."""
    calls = []

    def summarise(silver: pl.LazyFrame) -> pl.DataFrame:
        calls.append(silver)
        if len(calls) > after:
            raise Killed
        return gold.slots.summarise(silver)

    return replace(gold, slots=replace(gold.slots, summarise=summarise))


def test_a_killed_first_computation_keeps_the_parts_that_it_has_made_the_latest_first(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    add(lake, *at(*range(0, 1440, 20)))
    for place in range(len(PARTS) - 1):
        with pytest.raises(Killed):
            # What came in since is summed up first.
            refresh(lake, dying(DAILY, 2 if place else 1))
        assert sorted(stored(lake).scan().collect()["part"].unique()) == [*PARTS][-1 - place :]
        assert list(DAILY.pending(lake)) == [MONDAY]
        add(lake, *at(1400 + place / 2))
    refresh(lake)
    assert_exact(lake)


def test_a_refresh_that_is_stopped_leaves_what_is_not_done_and_the_next_one_goes_on(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    add(lake, *at(0, 700, 1430), *at(0, 700, on=TUESDAY))
    for made in (1, 2):
        DAILY.refresh(lake, [MONDAY, TUESDAY], should_stop=lambda: True)
        assert stored(lake).scan().collect().height == made
        assert list(DAILY.pending(lake)) == ([MONDAY, TUESDAY] if made == 1 else [MONDAY])
    while due := list(DAILY.pending(lake)):
        DAILY.refresh(lake, due, should_stop=lambda: True)
    refresh(lake)
    assert_exact(lake)


def test_gold_that_died_before_its_own_commit_is_made_from_the_kept_slots(tmp_path: Path) -> None:
    def die(slots: pl.DataFrame, dates: object) -> pl.DataFrame:
        raise Killed

    lake = lake_in(tmp_path)
    add(lake, *at(*range(0, 1440, 20)))
    with pytest.raises(Killed):
        refresh(lake, replace(DAILY, combine=die))
    refresh(lake, dying(DAILY, 0), dying(MOVING, 6))
    assert_exact(lake)


def replaced(lake: Lake, rows: pl.DataFrame) -> None:
    """What a rebuild does: it names dates, not slots."""
    silver = lake.table(CONTRACT.tables.silver)
    touched = {*silver.scan().collect()["event_date"], *rows["event_date"]}
    silver.replace([rows], f"ingest_date = '{WEDNESDAY}'", event_dates=touched)


def test_a_rebuilt_day_makes_gold_of_all_slots_that_it_may_have_touched(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    add(lake, *at(0, 100, 700, 1430), *at(5, 600, on=TUESDAY))
    refresh(lake)
    replaced(lake, of_readings([*at(0, 101), *at(700, value=300), *at(600, on=TUESDAY)]))
    refresh(lake)
    assert_exact(lake)
    replaced(lake, of_readings(at(600, on=TUESDAY)))
    refresh(lake)
    assert_exact(lake)
    assert stored(lake).scan().collect()["event_date"].unique().to_list() == [TUESDAY]


def expire(table: LakeTable, keep: int = 1) -> None:
    """Leaves only the last commits in a table's log."""
    table.delta().create_checkpoint()
    for entry in sorted((Path(table.uri) / "_delta_log").glob("*.json"))[:-keep]:
        entry.unlink()


def without_log(lake: Lake) -> None:
    add(lake, *at(33, value=200), *at(34, on=TUESDAY))
    add(lake, *at(200))
    expire(lake.table(CONTRACT.tables.silver))


def with_another_silver(lake: Lake) -> None:
    shutil.rmtree(lake.table(CONTRACT.tables.silver).uri)
    for minute in range(9):
        add(lake, *at(minute, value=90))


def without_slots(lake: Lake) -> None:
    shutil.rmtree(stored(lake).uri)
    add(lake, *at(33, value=200))


def with_settled_slots(lake: Lake) -> None:
    add(lake, *at(1433, value=200))
    STORING.settle(lake)
    add(lake, *at(34, on=TUESDAY))
    expire(lake.table(CONTRACT.tables.silver))
    STORING.settle(lake)


@pytest.mark.parametrize("trouble", [without_log, with_another_silver, without_slots, with_settled_slots])
def test_whatever_is_lost_gold_is_exact(tmp_path: Path, trouble: Callable[[Lake], None]) -> None:
    lake = lake_in(tmp_path)
    add(lake, *at(*range(0, 1440, 20)), *at(5, 600, on=TUESDAY))
    refresh(lake)
    trouble(lake)
    refresh(lake)
    assert_exact(lake)
    add(lake, *at(35, 36))
    refresh(lake)
    assert_exact(lake)


def test_another_definition_of_the_sums_makes_all_slots_anew(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    add(lake, *at(0, 5, 1430), *at(0, on=TUESDAY))
    refresh(lake)
    other = replace(DAILY, slots=replace(STORING, definition=2))
    before = files(lake)
    add(lake, *at(1431))
    refresh(lake, other)
    assert not before & files(lake)
    assert_exact(lake, other)


def test_a_backfill_does_not_trust_the_kept_slots(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    add(lake, *at(0, 5, 1430))
    refresh(lake)
    wrong = stored(lake).scan().collect().with_columns(pl.col("reading_count") + 1)
    stored(lake).replace([wrong], None)
    DAILY.refresh(lake, [MONDAY])
    assert lake.table(DAILY.table).scan().collect()["reading_count"].to_list() == [5]
    DAILY.refresh(lake, [MONDAY], is_anew=True)
    assert_exact(lake)


def test_of_two_refreshes_at_once_the_slower_one_writes_nothing(tmp_path: Path) -> None:
    lake, calls = lake_in(tmp_path), list[pl.LazyFrame]()

    def summarise(silver: pl.LazyFrame) -> pl.DataFrame:
        calls.append(silver)
        if len(calls) == 1:
            add(lake, *at(6, value=300))
            refresh(lake)
        return SLOTS.summarise(silver)

    add(lake, *at(0, 5, 1430))
    with pytest.raises(ConcurrentWriteError, match="Nothing was written"):
        refresh(lake, replace(DAILY, slots=replace(STORING, summarise=summarise)))
    assert_exact(lake)
    assert stored(lake).count() == 2


def test_the_slots_mark_moves_on_while_gold_is_refreshed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assets.slots.MARK_EVERY", 3)
    lake = lake_in(tmp_path)
    add(lake, *at(0, 5, 1430), *at(0, on=TUESDAY))
    refresh(lake)
    for minute in range(6):
        add(lake, *at(1431 + minute))
        refresh(lake)
    expire(lake.table(CONTRACT.tables.silver), keep=4)
    before = files(lake)
    add(lake, *at(6))
    refresh(lake)
    assert_exact(lake)
    assert len(before & files(lake)) == len(before) - 1


def test_slots_of_old_dates_are_forgotten_and_made_again_when_they_are_touched(tmp_path: Path) -> None:
    lake, old = lake_in(tmp_path), MONDAY - timedelta(days=40)
    add(lake, *at(0, 5, on=old), *at(0, 5))
    refresh(lake)
    DAILY.settle(lake)
    assert stored(lake).dates("event_date") == [MONDAY]
    add(lake, *at(7, on=old))
    refresh(lake)
    assert_exact(lake)


def test_gold_is_not_made_of_slots_that_are_forgotten_at_that_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, old, settle = lake_in(tmp_path), MONDAY - timedelta(days=40), _Refresh.settle
    add(lake, *at(0, 5, on=old), *at(0, 5))
    refresh(lake)
    before = lake.table(DAILY.table).version()

    def forget(self: _Refresh, kept: timedelta | None = None) -> None:
        monkeypatch.setattr(_Refresh, "settle", settle)
        STORING.settle(lake)

    monkeypatch.setattr("assets.slots.MARK_EVERY", -1)
    monkeypatch.setattr(_Refresh, "settle", forget)
    add(lake, *at(7, on=old))
    with pytest.raises(ConcurrentWriteError, match="No gold was written"):
        refresh(lake)
    assert lake.table(DAILY.table).version() == before
    refresh(lake)
    assert_exact(lake)


def test_an_error_in_the_sums_tells_no_reading(tmp_path: Path) -> None:
    def fail(silver: pl.LazyFrame) -> pl.DataFrame:
        raise ValueError("patient 1 has 123.4 mg/dL")

    lake = lake_in(tmp_path)
    add(lake, *at(0))
    with pytest.raises(GoldError, match="ValueError") as raised:
        refresh(lake, replace(DAILY, slots=replace(STORING, summarise=fail)))
    assert "123" not in str(raised.value)
    assert DAILY.pending(lake)
