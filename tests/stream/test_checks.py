"""What the checks of a stream find, however a day is cut into slices."""

from collections import Counter
from collections.abc import Iterable
from datetime import date, timedelta
from pathlib import Path
from random import Random

import polars as pl
import pytest

from assets.glucose.assets import CONTRACT
from assets.stream import checks
from assets.stream.checks import evaluate
from assets.stream.slices import slices
from assets.stream.store import StreamStore
from resources.lake import LakeTable
from tests.stream.hubs import MemoryHub
from tests.stream.scenarios import NOON, body, lake_in, reading, run_session

DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
TODAY = NOON.date()

Event = tuple[int, int, int]
"""Partition, sequence number, and the minutes after noon at which it was pulled."""


def store_in(folder: Path) -> StreamStore:
    store = StreamStore(CONTRACT, lake_in(folder))
    store.open([])
    return store


def append(table: LakeTable, rows: pl.DataFrame) -> None:
    """Adds rows; what is not said is one, or one character."""
    missing = {name: type_ for name, type_ in table.table.schema.items() if name not in rows.columns}
    plain = [
        pl.lit(NOON if isinstance(type_, pl.Datetime) else TODAY if type_ == pl.Date else 1).cast(type_).alias(name)
        for name, type_ in missing.items()
        if type_ != pl.Binary
    ]
    empty = [pl.lit(None, type_).alias(name) for name, type_ in missing.items() if type_ == pl.Binary]
    table.append(rows.with_columns(*plain, *empty).select(table.table.schema.names()), transactions={})


def pull(store: StreamStore, events: Iterable[Event], day: date = TODAY) -> None:
    """Bronze rows of events."""
    rows = [(partition, number, NOON + (day - TODAY) + minutes * MINUTE, day) for partition, number, minutes in events]
    schema = {
        name: store.bronze.table.schema[name] for name in ("partition", "sequence_number", "pulled_at", "ingest_date")
    }
    append(store.bronze, pl.DataFrame(rows, schema=schema, orient="row"))


def continuity(store: StreamStore, now_minutes: float | None = None) -> tuple[float, float]:
    """Missing and doubled numbers; of the last half hour only, if minutes after noon are given."""
    now, is_recent = NOON + (now_minutes or 0) * MINUTE, now_minutes is not None
    found = {each.name: each for each in evaluate(store, TODAY, now, recent=is_recent)}["sequence_continuity"]
    counts = found.counts["missing"], found.counts["doubled"]
    assert found.passed == (counts == (0, 0))
    return counts


@pytest.fixture(params=[1, 3, 1_000_000])
def rows_at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(checks, "SLICE_ROWS", request.param)
    return int(request.param)


@pytest.mark.parametrize(
    ("events", "missing", "doubled"),
    [
        ([(0, 5, 0), (0, 6, 0), (0, 7, 1), (1, 0, 1)], 0, 0),
        ([(0, 5, 0), (0, 7, 0), (0, 8, 0)], 1, 0),
        ([(0, 5, 0), (0, 6, 0), (0, 9, 3)], 2, 0),
        ([(0, 5, 0), (0, 5, 0), (0, 6, 0)], 0, 1),
        ([(0, 5, 0), (0, 6, 0), (0, 7, 1), (0, 6, 2)], 0, 1),
        ([(0, 5, 0), (0, 6, 0), (0, 6, 1), (0, 8, 1)], 1, 1),
        ([(0, 5, 0), (1, 6, 0), (0, 6, 1), (1, 8, 1)], 1, 0),
    ],
    ids=["whole", "gap", "gap later", "twice", "twice, later", "gap and twice", "two partitions"],
)
def test_numbers_that_are_missing_or_doubled_are_counted(
    tmp_path: Path, rows_at_once: int, events: list[Event], missing: int, doubled: int
) -> None:
    store = store_in(tmp_path)
    pull(store, events)
    assert continuity(store) == (missing, doubled)


@pytest.mark.parametrize(("first", "missing", "doubled"), [(8, 0, 0), (10, 2, 0), (6, 0, 2)])
def test_a_day_goes_on_where_the_one_before_it_ended(
    tmp_path: Path, rows_at_once: int, first: int, missing: int, doubled: int
) -> None:
    store = store_in(tmp_path)
    pull(store, [(0, number, 0) for number in range(3)], TODAY - 9 * DAY)
    pull(store, [(0, number, 0) for number in range(3, 8)], TODAY - 2 * DAY)
    pull(store, [(0, number, number) for number in range(first, 20)])
    pull(store, [(0, 1, 0)], TODAY + DAY)
    assert continuity(store) == (missing, doubled)
    assert continuity(store, now_minutes=45) == (missing, doubled)


@pytest.mark.parametrize("seed", range(5))
def test_numbers_are_counted_as_one_by_one(tmp_path: Path, rows_at_once: int, seed: int) -> None:
    random = Random(seed)
    lost = {(partition, random.randrange(1, 99)) for partition in range(3) for _ in range(3)}
    events = [(partition, number, number // 7) for partition in range(3) for number in range(100)]
    kept = [event for event in events if event[:2] not in lost]
    again = [
        (partition, number, random.randrange(minutes, 15)) for partition, number, minutes in random.sample(kept, 4)
    ]
    store = store_in(tmp_path)
    pull(store, random.sample(kept + again, len(kept) + len(again)))
    assert continuity(store) == (len(lost), 4)


def test_a_session_counts_what_was_pulled_earlier_and_looks_at_the_last_half_hour_in_full(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    pull(store, [(0, 0, 0), (0, 1, 0), (0, 3, 0), (0, 4, 50), (0, 4, 51), (0, 6, 52)])
    assert continuity(store) == (2, 1)
    assert continuity(store, now_minutes=55) == (2, 1)
    pull(store, [(0, 1, 0)])
    assert continuity(store) == (2, 2)
    assert continuity(store, now_minutes=55) == (1, 1)
    pull(store, [(0, 1, 0)] * 3)
    assert continuity(store, now_minutes=55) == (1, 4)


def measure(store: StreamStore, readings: Iterable[tuple[int, int, int]], day: date = TODAY) -> None:
    """Silver rows: patient, the minutes after noon at which it was measured, and the event's number."""
    schema = {
        name: store.silver.table.schema[name]
        for name in ("patient_id", "measured_at", "sequence_number", "ingest_date")
    }
    rows = [(patient, NOON + minutes * MINUTE, number, day) for patient, minutes, number in readings]
    append(store.silver, pl.DataFrame(rows, schema=schema, orient="row"))


def repeated(store: StreamStore, *, recent: bool = False) -> float:
    found = {each.name: each for each in evaluate(store, TODAY, NOON + 45 * MINUTE, recent=recent)}["keys_unique"]
    assert found.passed == (found.counts["repeated_keys"] == 0)
    return found.counts["repeated_keys"]


def test_keys_are_counted_that_repeat_within_a_day_or_one_of_another_day(tmp_path: Path, rows_at_once: int) -> None:
    store = store_in(tmp_path)
    measure(store, [(1, -2880, 0), (2, -2880, 1), (2, -2880, 2)], TODAY - DAY)
    measure(store, [(1, minutes, minutes) for minutes in range(20)])
    assert repeated(store) == 0
    measure(store, [(1, 3, 30), (1, 3, 31), (1, 7, 32), (1, -2880, 33), (3, 7, 34)])
    assert repeated(store) == 3
    measure(store, [(1, 3, 40)], TODAY + DAY)
    assert repeated(store) == 3
    measure(store, [(1, 5, 41)], TODAY + DAY)
    assert repeated(store) == 4


@pytest.mark.parametrize("seed", range(5))
def test_keys_are_counted_as_one_by_one(tmp_path: Path, rows_at_once: int, seed: int) -> None:
    random, store = Random(seed), store_in(tmp_path)
    keys = [(random.randrange(4), random.randrange(40)) for _ in range(60)]
    measure(store, [(*key, 0) for key in keys[:20]], TODAY - DAY)
    measure(store, [(*key, 0) for key in keys[20:]])
    counts = Counter(keys)
    assert repeated(store) == sum(counts[key] > 1 for key in set(keys[20:]))


@pytest.mark.slow
def test_a_session_looks_for_repeats_of_what_was_pulled_in_the_last_half_hour(
    tmp_path: Path, rows_at_once: int
) -> None:
    store = store_in(tmp_path)
    pull(store, [(1, number, number) for number in range(40)])
    measure(store, [(1, number, number) for number in range(40)])
    assert repeated(store, recent=True) == 0
    measure(store, [(1, 2, 3)])
    assert (repeated(store, recent=True), repeated(store)) == (0, 1)
    measure(store, [(1, 5, 15), (1, 20, 39)])
    measure(store, [(1, 30, 38)], TODAY - DAY)
    assert (repeated(store, recent=True), repeated(store)) == (3, 4)


def test_while_a_session_commits_readings_count_as_far_as_silver_has_come(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), MemoryHub(partitions=1)
    hub.send([body(reading(0)), body(reading(0)), body(reading(1, "a word")), body(reading(2))], NOON)
    run_session(lake, hub)
    store = StreamStore(CONTRACT, lake)
    store.open([0])
    rows = lake.table(CONTRACT.tables.bronze).scan().collect().tail(1)
    store.commit_bronze(rows.with_columns(pl.col("sequence_number") + 1), None)
    found = {
        at_work: {each.name: each for each in evaluate(store, TODAY, NOON, at_work=at_work)}["counts_reconcile"]
        for at_work in (True, False)
    }
    assert (found[True].passed, found[True].counts["bronze"]) == (True, 4)
    assert (found[False].passed, found[False].counts["difference"]) == (False, 1)


def test_slices_are_rows_by_time_and_none_is_lost() -> None:
    times = [NOON + minutes * MINUTE + timedelta(seconds=minutes) for minutes in (5, 0, 0, 1, 1, 1, 9)]
    rows = pl.LazyFrame({"at": times, "size": [1, 1, 9, 1, 1, 1, 1]})
    cut = [each.collect()["at"].dt.minute().sort().to_list() for each in slices(rows, "at", 2)]
    assert cut == [[0, 0], [1, 1, 1], [5], [9]]
    heavy = [each.collect()["size"].sum() for each in slices(rows, "at", 5, pl.col("size").sum())]
    assert heavy == [10, 5]
    assert list(slices(rows.clear(), "at", 2)) == []
