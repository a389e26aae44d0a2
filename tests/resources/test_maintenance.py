"""Maintenance keeps a table's files and its log few, and takes nothing from readers and writers."""

import random
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path

import polars as pl
import pytest
from pyarrow.parquet import ParquetFile

from resources.lake import ConcurrentWriteError, Lake, LakeTable
from resources.maintenance import REMOVALS_HOURS, RETENTION_HOURS, sweep
from tests.resources.numbers import APP, MONDAY, NUMBERS, TUESDAY, age, frame, numbers

pytestmark = pytest.mark.slow

SUNDAY = MONDAY - timedelta(days=1)


def of(day: date) -> list[tuple[str, str, str]]:
    return [("ingest_date", "=", day.isoformat())]


def filled(table: LakeTable, first: int, count: int, day: date = MONDAY) -> LakeTable:
    """So many more commits of one number each."""
    for number in range(first, first + count):
        table.append(frame(number, day=day), transactions={APP: number})
    return table


def files(table: LakeTable, day: date) -> int:
    return sum(f"ingest_date={day}" in file for file in table.delta().file_uris())


def test_maintenance_keeps_rows_and_transactions_and_leaves_few_files(lake: Lake) -> None:
    table = filled(lake.table(NUMBERS).ensure(), 0, 25)
    assert files(table, MONDAY) == 25
    table.maintain(of(MONDAY))
    assert files(table, MONDAY) == 1
    assert numbers(table) == list(range(25))
    assert table.transactions([APP]) == {APP: 24}
    table.append(frame(99), transactions={APP: 25}, expected={APP: 24})
    assert numbers(table)[-1] == 99


def test_maintenance_compacts_only_what_has_many_files(tmp_path: Path) -> None:
    table = filled(Lake(str(tmp_path)).table(NUMBERS).ensure(), 0, 6)
    table.maintain(of(MONDAY), small_files=6)
    assert files(table, MONDAY) == 6
    table.maintain(of(MONDAY), small_files=5)
    assert files(table, MONDAY) == 1


def test_compacted_files_can_be_read_in_part(tmp_path: Path) -> None:
    table = Lake(str(tmp_path)).table(NUMBERS).ensure()
    for _ in range(2):
        table.append(frame(*range(150_000)), transactions={})
    table.maintain(of(MONDAY), small_files=1)
    [file] = table.delta().file_uris()
    groups = [ParquetFile(file).metadata.row_group(number) for number in range(3)]
    assert sum(group.num_rows for group in groups) == 300_000
    assert {group.column(0).compression for group in groups} == {"ZSTD"}
    assert all(group.column(0).statistics.has_min_max for group in groups)
    assert table.newest("number") == 149_999


def test_maintenance_compacts_the_day_before_too_and_no_other(tmp_path: Path) -> None:
    table = Lake(str(tmp_path)).table(NUMBERS).ensure()
    for day in (SUNDAY, MONDAY, TUESDAY, TUESDAY + timedelta(days=1)):
        filled(table, 0, 3, day)
    table.maintain(of(TUESDAY), small_files=2)
    assert [files(table, SUNDAY + timedelta(days=ahead)) for ahead in range(4)] == [3, 1, 1, 3]


def test_a_day_without_rows_leaves_the_one_before_it_to_compact(tmp_path: Path) -> None:
    table = filled(Lake(str(tmp_path)).table(NUMBERS).ensure(), 0, 3)
    table.maintain(of(TUESDAY), small_files=2)
    assert files(table, MONDAY) == 1


@dataclass
class Overtaken(LakeTable):
    """A table in which something happens just after it was opened for the first time."""

    event: Callable[[], object] | None = None

    def delta(self, version=None):
        opened = super().delta(version)
        event, self.event = self.event, None
        if event:
            event()
        return opened


def test_a_rebuild_that_replaces_a_day_while_it_is_compacted_wins(tmp_path: Path) -> None:
    table = filled(Lake(str(tmp_path)).table(NUMBERS).ensure(), 0, 3)
    event = partial(table.replace, [frame(7)], f"ingest_date = '{MONDAY}'")
    Overtaken(table.table, table.uri, table.lake, event).maintain(of(MONDAY), small_files=2)
    assert numbers(table) == [7]


def test_replaced_files_and_log_entries_go_hour_by_hour(tmp_path: Path) -> None:
    table, folder = Lake(str(tmp_path)).table(NUMBERS).ensure(), tmp_path / NUMBERS.name
    table.delta().alter.set_table_properties({"delta.checkpointInterval": "10"})
    found = []
    for hour in range(RETENTION_HOURS + 6):
        filled(table, hour * 15, 15).maintain(of(MONDAY), small_files=0)
        found.append((len(list(folder.glob("ingest_date=*/*"))), len(list(folder.glob("_delta_log/*")))))
        age(table, hours=1)
    assert max(data for data, _ in found) <= 16 * (RETENTION_HOURS + 1)
    assert max(log for _, log in found[-3:]) <= max(log for _, log in found[:4]) + 5
    assert numbers(table) == list(range(15 * (RETENTION_HOURS + 6)))


def test_files_that_no_commit_names_go_once_they_are_old(tmp_path: Path) -> None:
    table = filled(Lake(str(tmp_path / "a lake, 50 % ü")).table(NUMBERS).ensure(), 0, 3)
    age(table, hours=30)
    written = next(Path(table.uri).glob("ingest_date=*/*.parquet"))
    uncommitted = written.with_name("part-of-a-running-writer.parquet")
    left = written.with_name("part-of-a-killed-writer.parquet")
    shutil.copyfile(written, uncommitted)
    shutil.copy2(written, left)
    table.maintain()
    assert (uncommitted.exists(), left.exists()) == (True, False)
    assert numbers(table) == [0, 1, 2]


def test_files_that_no_one_removed_while_nothing_happened_go_at_last(tmp_path: Path) -> None:
    table, folder = filled(Lake(str(tmp_path)).table(NUMBERS).ensure(), 0, 15), tmp_path / NUMBERS.name
    table.delta().alter.set_table_properties({"delta.checkpointInterval": "10"})
    table.maintain(of(MONDAY), small_files=0)
    age(table, hours=REMOVALS_HOURS + 1)
    filled(table, 15, 15).maintain()
    assert len(list(folder.glob("ingest_date=*/*"))) == 31
    table.maintain(today=datetime.now(UTC).date() + timedelta(days=1))
    assert len(list(folder.glob("ingest_date=*/*"))) == 16
    assert numbers(table) == list(range(30))


def test_a_table_is_swept_once_a_day(tmp_path: Path) -> None:
    table = filled(Lake(str(tmp_path)).table(NUMBERS).ensure(), 0, 3)
    versions = []
    for day in (MONDAY, MONDAY, TUESDAY):
        table.maintain(today=day)
        versions.append(table.version())
    assert versions == [4, 4, 5]


def test_a_running_reader_is_not_disturbed_by_maintenance(tmp_path: Path) -> None:
    table = filled(Lake(str(tmp_path)).table(NUMBERS).ensure(), 0, 25)
    age(table, hours=30)
    reader = table.scan()
    table.maintain(of(MONDAY))
    assert files(table, MONDAY) == 1
    assert reader.collect().height == 25


def elsewhere(action: Callable[[], object]) -> None:
    """Does something as another process would: while Delta waits for rows, its thread can open no other table."""
    with ThreadPoolExecutor(1) as other:
        other.submit(action).result()


def data_files_of(table: LakeTable) -> set[Path]:
    return set(Path(table.uri).glob("ingest_date=*/*.parquet"))


def pieces_of_a_writer_that_sleeps(asleep: Callable[[], object]) -> Iterator[pl.DataFrame]:
    """Rows that fill a file of the largest size, so that it is written before the commit; then the writer sleeps."""
    generator = random.Random(1)
    for first in range(0, 1_200_000, 100_000):
        numbers = pl.int_range(first, first + 100_000, eager=True)
        text = pl.Series([generator.randbytes(150).hex() for _ in range(100_000)])
        yield pl.DataFrame({"number": numbers, "text": text, "ingest_date": MONDAY}, schema=NUMBERS.schema)
    elsewhere(asleep)


def test_a_writer_that_slept_through_a_sweep_is_refused_and_no_entry_names_a_file_that_is_gone(tmp_path: Path) -> None:
    table = filled(Lake(str(tmp_path)).table(NUMBERS).ensure(), 0, 3)
    committed = data_files_of(table)
    written = []

    def sleep_through_a_sweep() -> None:
        deadline = time.monotonic() + 60
        while not (new := data_files_of(table) - committed) and time.monotonic() < deadline:
            time.sleep(0.05)
        age(table, hours=RETENTION_HOURS + 1)
        table.maintain()
        written.extend([len(new), len(new & data_files_of(table))])

    with pytest.raises(ConcurrentWriteError, match=r"another writer was faster.*try again"):
        table.replace(pieces_of_a_writer_that_sleeps(sleep_through_a_sweep), None)
    assert written == [1, 0], "a file was written, and swept"
    assert numbers(table) == [0, 1, 2]
    assert table.replace([frame(7)], None) == 1
    assert numbers(table) == [7]


def test_a_writer_that_slept_until_the_log_was_expired_is_refused(tmp_path: Path) -> None:
    table = filled(Lake(str(tmp_path)).table(NUMBERS).ensure(), 0, 3)

    def sleep() -> None:
        filled(table, 3, 12)
        age(table, hours=RETENTION_HOURS + 1)
        table.maintain()

    def pieces() -> Iterator[pl.DataFrame]:
        yield frame(99, day=TUESDAY)
        elsewhere(sleep)

    with pytest.raises(ConcurrentWriteError, match=r"took longer than the log is kept.*Nothing was written; try again"):
        table.replace(pieces(), f"ingest_date = '{TUESDAY}'")
    assert numbers(table) == list(range(15))


def test_a_sweep_that_finds_nothing_stops_no_running_writer(tmp_path: Path) -> None:
    table = filled(Lake(str(tmp_path)).table(NUMBERS).ensure(), 0, 3)

    def pieces() -> Iterator[pl.DataFrame]:
        yield frame(99, day=TUESDAY)
        elsewhere(table.maintain)

    table.replace(pieces(), f"ingest_date = '{TUESDAY}'")
    assert numbers(table) == [0, 1, 2, 99]


def test_files_without_an_entry_are_swept_wherever_the_lake_is(lake: Lake) -> None:
    table = filled(lake.table(NUMBERS).ensure(), 0, 3)
    orphan = f"{table.uri}/ingest_date=2026-11-23/part-of-a-killed-writer.parquet"
    options = lake.polars_options() or None
    frame(8).write_parquet(orphan, storage_options=options)
    sweep(table.delta(), lake.options(), older_than_hours=0)
    with pytest.raises(FileNotFoundError):
        pl.scan_parquet(orphan, storage_options=options).collect()
    assert numbers(table) == [0, 1, 2]
