"""Archived rows and their checksum: whatever the order, whatever the type, in bounded memory."""

import struct
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import xxhash
from deltalake import Field
from deltalake.schema import PrimitiveType

from resources.archive import Archive, ArchiveError
from resources.checksum import Tally
from resources.lake import Lake
from tests.resources.numbers import MONDAY, NUMBERS, TUESDAY, frame

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 11, 24, tzinfo=UTC)
ROWS = pl.DataFrame(
    {
        "text": ["a", None, ""],
        "bytes": [b"a", b"", None],
        "number": [1, None, -3],
        "share": [0.5, float("nan"), None],
        "at": [NOW, None, NOW.replace(microsecond=7)],
        "day": [MONDAY, TUESDAY, None],
        "is": [True, False, None],
    },
    schema_overrides={"at": pl.Datetime("us", "UTC")},
)


def checksum(*frames: pl.DataFrame) -> str:
    tally = Tally()
    for rows in frames:
        tally.add(rows)
    return tally.checksum


def test_the_checksum_of_rows_is_always_the_same() -> None:
    # A lake keeps checksums for years: the code may change, and this number may not.
    assert checksum() == checksum(ROWS.clear()) == "0" * 32
    assert checksum(ROWS) == "64fd2609bd657341fabe14bd1c991236"
    assert checksum(ROWS.reverse().select(reversed(ROWS.columns))) == checksum(ROWS)
    assert checksum(ROWS[2:], ROWS[:2]) == checksum(ROWS)


@pytest.mark.parametrize("column", ROWS.columns)
def test_any_other_value_gives_another_checksum(column: str) -> None:
    other = ROWS.with_columns(pl.col(column).reverse())
    assert checksum(other) != checksum(ROWS)
    nothing = ROWS.with_columns(pl.lit(None, ROWS.schema[column]).alias(column))
    assert checksum(nothing) != checksum(ROWS)
    assert checksum(ROWS, ROWS[:1]) != checksum(ROWS)


def test_a_type_without_a_rule_is_refused() -> None:
    with pytest.raises(TypeError, match="No checksum of column 'list'"):
        checksum(pl.DataFrame({"list": [[1]]}))


def test_what_is_archived_is_all_of_a_date_with_the_columns_of_the_table(lake: Lake) -> None:
    table = lake.table(NUMBERS).ensure()
    table.append(frame(1, 2), transactions={})
    table.append(frame(9, day=TUESDAY), transactions={})
    table.delta().alter.add_columns([Field("more", PrimitiveType("long"))])
    table.maintain([("ingest_date", "=", MONDAY.isoformat())], small_files=0)
    archive, part = Archive(lake.below("archive")), table.part("ingest_date", MONDAY)
    written = archive.write(NUMBERS.name, part, NOW, part.frames())
    archive.verify(written)
    assert archive.manifests(NUMBERS.name, MONDAY) == [written]
    assert archive.manifests(NUMBERS.name, TUESDAY) == []
    found = pl.concat(archive.frames(written)).sort("number")
    assert found.drop("more").equals(frame(1, 2))
    assert found["more"].to_list() == [None, None]
    assert written.manifest.columns["more"] == "Int64"
    archive.discard(written)
    with pytest.raises(ArchiveError, match="is not there"):
        archive.load(written.path)


ARCHIVING = """
import sys
from datetime import UTC, date, datetime, timedelta
import polars as pl
import psutil
from resources.archive import Archive
from resources.lake import Lake
from tests.resources.numbers import MONDAY, NUMBERS
root, piece = Lake(sys.argv[1]), 100_000
table, archive = root.below("lake").table(NUMBERS).ensure(), Archive(root.below("archive"))
process, most = psutil.Process(), 0

def pieces():
    for first in range(0, 40 * piece, piece):
        numbers = pl.int_range(first, first + piece, eager=True)
        text = pl.Series(["x" * 100]).new_from_index(0, piece)
        yield pl.DataFrame({"number": numbers, "text": text, "ingest_date": MONDAY}, schema=NUMBERS.schema)

def watched(frames):
    global most
    for rows in frames:
        yield rows
        most = max(most, process.memory_info().rss)

table.replace(pieces(), None)
part, before = table.part("ingest_date", MONDAY), process.memory_info().rss
written = archive.write(NUMBERS.name, part, datetime.now(UTC), watched(part.frames()))
archive.verify(written)
print(written.manifest.rows, max(most, process.memory_info().rss) - before)
"""


@pytest.mark.service
def test_a_date_is_never_in_memory_as_a_whole(tmp_path: Path) -> None:
    # In a process of its own: memory that others took or gave back would be counted too.
    command = [sys.executable, "-c", ARCHIVING, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=300)
    rows, grown = map(int, done.stdout.split())
    assert rows == 40 * 100_000
    assert grown < 300 << 20, "the rows together are 500 MB"


def test_the_checksum_is_what_its_description_says() -> None:
    total = 0
    for row in ROWS.iter_rows(named=True):
        values = [row[name] for name in sorted(row)]
        nulls = sum(1 << place for place, value in enumerate(values) if value is None)
        total += xxhash.xxh3_128_intdigest(b"".join([struct.pack("<q", nulls), *map(packed, values)]))
    assert checksum(ROWS) == f"{total % 2**128:032x}"


def packed(value: object) -> bytes:
    match value:
        case str():
            return struct.pack("<Q", xxhash.xxh3_64_intdigest(value.encode()))
        case bytes():
            return struct.pack("<Q", xxhash.xxh3_64_intdigest(value))
        case float():
            return struct.pack("<d", value)
        case datetime():
            return struct.pack("<q", (value - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1))
        case date():
            return struct.pack("<q", (value - date(1970, 1, 1)).days)
        case int():
            return struct.pack("<q", value)
    return bytes(8)
