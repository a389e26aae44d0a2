"""The lake writes exactly once and refuses what does not fit, in a folder and on Azure's storage."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Barrier

import polars as pl
import pytest
from deltalake.exceptions import TableNotFoundError

from assets.glucose.assets import GOLD
from assets.gold import DailyGold
from resources.lake import ConcurrentWriteError, Lake, LakeTable, SchemaError
from tests.resources.numbers import APP, MONDAY, NUMBERS, TUESDAY, frame, numbers
from tests.stream.scenarios import EAGER, NOON, body, hub_with, reading, run_session, ticking, troubled_bodies
from tests.stream.tables import assert_exact

ROOT = Path(__file__).parents[2]


def test_a_table_that_was_not_created_is_empty_and_has_no_version(lake: Lake) -> None:
    table = lake.table(NUMBERS)
    assert (table.exists(), table.version(), table.transactions([APP])) == (False, None, {})
    assert table.scan().collect().schema == NUMBERS.schema
    with pytest.raises(TableNotFoundError):
        table.append(frame(1), transactions={})


def test_a_created_table_is_empty_described_and_stays_when_it_is_ensured_again(lake: Lake) -> None:
    table = lake.table(NUMBERS).ensure()
    table.append(frame(1), transactions={})
    assert numbers(table.ensure()) == [1]
    assert table.delta().metadata().description == "One number of one day. Key: number."
    assert table.delta().metadata().partition_columns == ["ingest_date"]


def test_tables_that_many_create_at_once_are_created_once_and_nobody_fails(lake: Lake) -> None:
    writers, rounds = 6, 10
    together = Barrier(writers)

    def write(number: int) -> None:
        for each in range(rounds):
            together.wait(300)
            lake.below(str(each)).table(NUMBERS).ensure().append(frame(number), transactions={})

    with ThreadPoolExecutor(writers) as pool:
        for done in [pool.submit(write, number) for number in range(writers)]:
            done.result()
    for each in range(rounds):
        assert sorted(numbers(lake.below(str(each)).table(NUMBERS))) == [*range(writers)]


def test_rows_and_transactions_are_one_commit(lake: Lake) -> None:
    table = lake.table(NUMBERS).ensure()
    assert table.append(frame(1, 2), transactions={APP: 7, "stream/1": 0}) == 2
    assert table.version() == 1
    assert table.transactions([APP, "stream/1", "stream/2"]) == {APP: 7, "stream/1": 0}


def test_no_rows_still_commit_their_transactions(lake: Lake) -> None:
    table = lake.table(NUMBERS).ensure()
    assert table.append(frame(), transactions={APP: 3}) == 0
    assert table.transactions([APP]) == {APP: 3}


@pytest.mark.parametrize(("expected", "is_refused"), [({APP: 7}, False), ({APP: 6}, True), ({}, True)])
def test_an_append_is_refused_unless_the_log_stands_where_it_is_expected(
    lake: Lake, expected: dict[str, int], is_refused: bool
) -> None:
    table = lake.table(NUMBERS).ensure()
    table.append(frame(1), transactions={APP: 7})
    if is_refused:
        with pytest.raises(ConcurrentWriteError, match=r"silver/numbers.*'stream/0' stands at 7"):
            table.append(frame(2), transactions={APP: 8}, expected=expected)
        assert numbers(table) == [1]
    else:
        table.append(frame(2), transactions={APP: 8}, expected=expected)
        assert numbers(table) == [1, 2]


def test_an_offset_that_must_be_unknown_is_refused_where_it_is_zero(lake: Lake) -> None:
    table = lake.table(NUMBERS).ensure()
    table.append(frame(1), transactions={APP: 0})
    with pytest.raises(ConcurrentWriteError):
        table.append(frame(2), transactions={APP: 0}, expected={})


class Raced(LakeTable):
    """A table to which another writer appends between the comparison and the commit."""

    def _compare(self, delta, expected) -> None:
        super()._compare(delta, expected)
        if not getattr(self, "is_done", False):
            self.is_done = True
            LakeTable(self.table, self.uri, self.lake).append(frame(99), transactions={APP: 8})


@pytest.mark.parametrize("write", ["append", "replace"])
def test_a_writer_that_was_faster_makes_the_other_one_fail(lake: Lake, write: str) -> None:
    table = lake.table(NUMBERS).ensure()
    table.append(frame(1), transactions={APP: 7})
    raced = Raced(table.table, table.uri, table.lake)
    writes: dict[str, Callable[[], int]] = {
        "append": lambda: raced.append(frame(2), transactions={APP: 8}, expected={APP: 7}),
        "replace": lambda: raced.replace(
            [frame(2)], f"ingest_date = '{MONDAY}'", transactions={APP: 7}, expected={APP: 7}
        ),
    }
    with pytest.raises(ConcurrentWriteError, match=r"another (writer was faster|session writes)"):
        writes[write]()
    assert numbers(table) == [1, 99]
    assert table.transactions([APP]) == {APP: 8}


@pytest.mark.parametrize(
    "wrong",
    [
        frame(1).drop("text"),
        frame(1).with_columns(more=1),
        frame(1).select("text", "number", "ingest_date"),
        frame(1).with_columns(number=pl.lit(2.9)),
        frame(1).with_columns(pl.col("number").cast(pl.Int32)),
        frame(1).with_columns(text=pl.lit("a", pl.Categorical)),
    ],
    ids=["a column less", "a column more", "another order", "a fraction", "a smaller type", "categories"],
)
def test_a_frame_of_another_shape_is_refused_and_nothing_is_written(tmp_path: Path, wrong: pl.DataFrame) -> None:
    table = Lake(str(tmp_path)).table(NUMBERS).ensure()
    table.append(frame(5), transactions={APP: 5})
    with pytest.raises(SchemaError, match="nothing was written"):
        table.append(wrong, transactions={APP: 6})
    with pytest.raises(SchemaError, match="nothing was written"):
        table.replace([frame(6), wrong], None, transactions={APP: 6})
    assert (numbers(table), table.transactions([APP])) == ([5], {APP: 5})


def test_a_replaced_day_leaves_other_days_and_transactions_as_they_are(lake: Lake) -> None:
    table = lake.table(NUMBERS).ensure()
    table.append(frame(1, 2), transactions={APP: 5})
    table.append(frame(3, day=TUESDAY), transactions={"stream/1": 6})
    assert table.replace([frame(10), frame(11, 12)], f"ingest_date = '{MONDAY}'", transactions={"count": 3}) == 3
    assert numbers(table) == [3, 10, 11, 12]
    assert table.transactions([APP, "stream/1", "count"]) == {APP: 5, "stream/1": 6, "count": 3}


def test_a_day_can_be_replaced_by_nothing_and_a_table_as_a_whole(lake: Lake) -> None:
    table = lake.table(NUMBERS).ensure()
    table.append(frame(1), transactions={APP: 5})
    table.append(frame(2, day=TUESDAY), transactions={})
    assert table.replace([], f"ingest_date = '{MONDAY}'") == 0
    assert numbers(table) == [2]
    assert table.replace([frame(7), frame(8, day=TUESDAY)], None) == 2
    assert numbers(table) == [7, 8]
    assert table.transactions([APP]) == {APP: 5}


REPLACING = """
import sys
import polars as pl
import psutil
from resources.lake import Lake
from tests.resources.numbers import MONDAY, NUMBERS
table, process, piece = Lake(sys.argv[1]).table(NUMBERS).ensure(), psutil.Process(), 100_000
most = 0

def pieces():
    global most
    for first in range(0, 80 * piece, piece):
        numbers = pl.int_range(first, first + piece, eager=True)
        text = pl.Series(["x" * 100]).new_from_index(0, piece)
        yield pl.DataFrame({"number": numbers, "text": text, "ingest_date": MONDAY}, schema=NUMBERS.schema)
        most = max(most, process.memory_info().rss)

before = process.memory_info().rss
print(table.replace(pieces(), None), most - before)
"""


@pytest.mark.service
def test_a_replacement_is_never_in_memory_as_a_whole(tmp_path: Path) -> None:
    # In a process of its own: memory that others took or gave back would be counted too.
    command = [sys.executable, "-c", REPLACING, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=300)
    rows, grown = map(int, done.stdout.split())
    assert rows == 80 * 100_000
    assert grown < 700 << 20, "the pieces together are 1 GB"


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_an_error_between_two_pieces_leaves_the_old_rows_and_stays_what_it_is(
    lake: Lake, error: type[BaseException]
) -> None:
    def pieces() -> Iterator[pl.DataFrame]:
        yield frame(8)
        raise error("the transformation failed")

    table = lake.table(NUMBERS).ensure()
    table.append(frame(1), transactions={APP: 5})
    with pytest.raises(error, match="the transformation failed"):
        table.replace(pieces(), None)
    assert numbers(table) == [1]


def test_dates_and_the_newest_value_are_known_without_reading_rows(tmp_path: Path) -> None:
    table = Lake(str(tmp_path)).table(NUMBERS)
    assert (table.dates("ingest_date"), table.newest("number")) == ([], None)
    table.ensure()
    assert (table.dates("ingest_date"), table.newest("number")) == ([], None)
    table.append(frame(9, 7), transactions={})
    table.append(frame(3, day=TUESDAY), transactions={})
    for file in Path(table.uri).glob("ingest_date=*/*"):
        file.unlink()
    assert table.dates("ingest_date") == [MONDAY, TUESDAY]
    assert table.newest("number") == 9
    assert table.newest("number", pl.col("ingest_date") > MONDAY) == 3
    assert table.newest("number", pl.col("ingest_date") > TUESDAY) is None


def test_rows_tell_the_newest_value_where_statistics_do_not(lake: Lake) -> None:
    table = lake.table(NUMBERS).ensure()
    table.append(frame(3, day=TUESDAY), transactions={})
    table.delta().alter.set_table_properties({"delta.dataSkippingNumIndexedCols": "0"})
    table.append(frame(9, 7), transactions={})
    assert table.newest("number") == 9
    assert table.newest("number", pl.col("ingest_date") > MONDAY) == 3


def test_touched_dates_are_those_of_later_commits_each_with_its_last_one(lake: Lake) -> None:
    table = lake.table(NUMBERS).ensure()
    table.append(frame(1), transactions={}, event_dates=[MONDAY])
    table.append(frame(2), transactions={}, event_dates=[MONDAY, TUESDAY])
    table.append(frame(3), transactions={})
    table.replace([frame(4)], None, event_dates=[TUESDAY])
    assert table.touched_since(0) == {MONDAY: 2, TUESDAY: 4}
    assert table.touched_since(1) == {MONDAY: 2, TUESDAY: 4}
    assert table.touched_since(2) == {TUESDAY: 4}
    assert table.touched_since(4) == {}


def test_touched_dates_are_unknown_before_the_first_look_and_where_the_log_has_gone(tmp_path: Path) -> None:
    table = Lake(str(tmp_path)).table(NUMBERS).ensure()
    for number in range(4):
        table.append(frame(number), transactions={}, event_dates=[MONDAY])
    assert table.touched_since(None) is None
    assert table.touched_since(9) is None
    table.delta().create_checkpoint()
    for version in range(3):
        (Path(table.uri) / "_delta_log" / f"{version:020}.json").unlink()
    assert table.touched_since(0) is None
    assert table.touched_since(3) == {MONDAY: 4}


def test_sessions_are_exact_wherever_the_lake_is(lake: Lake) -> None:
    hub = hub_with(troubled_bodies(80), take=30)
    run_session(lake, hub, limits=EAGER)
    hub.send(troubled_bodies(40, seed=2), NOON)
    totals = run_session(lake, hub, clock=ticking(NOON + timedelta(minutes=1)))
    assert totals.events == 44
    assert_exact(lake, hub)


def test_gold_is_refreshed_wherever_the_lake_is(lake: Lake) -> None:
    bodies = [body(reading(minutes + 1440 * day, 100 + minutes)) for day in (-2, -1, 0) for minutes in range(5)]
    run_session(lake, hub_with(bodies))
    for gold in (gold for gold in GOLD if isinstance(gold, DailyGold)):
        assert gold.refresh(lake, list(gold.pending(lake))) == 3
        assert gold.pending(lake) == {}
