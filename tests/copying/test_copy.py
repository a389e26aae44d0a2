"""Copies of whole databases: rows, types, resuming, and what one bad table does to the others."""

import sqlite3
from contextlib import closing
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable

from assets.copied import COPIED_TABLES, Copied, Copier, copied_tables
from resources.copy_source import CopySource
from resources.lake import Lake
from tests.copying import omop
from tests.copying.conftest import SIZE
from tests.copying.sources import opened
from tests.stream.scenarios import NOON

LARGEST = "concept_ancestor"
SMALL_PIECES = 30_000
"""Bytes: of a size at which the larger tables have several pieces."""


class KilledError(BaseException):
    """The process ends here."""


def source(url: str, piece_bytes: int = SMALL_PIECES) -> CopySource:
    found = opened(url)
    found._piece_bytes = piece_bytes
    return found


def copied(lake: Lake, source: CopySource, *names: str, **options: Any) -> dict[str, Copied]:
    copier = Copier(lake, source, **options)
    found = copier.copy(source.named(names) if names else source.tables())
    return {each.source_table: each for each in found}


def rows_in_lake(lake: Lake, table: str) -> list[omop.Row]:
    """By another reader than the one that copies."""
    found = DeltaTable(f"{lake.root}/bronze/{table}").to_pyarrow_table()
    return omop.plain(tuple(row.values()) for row in found.to_pylist())


@pytest.fixture(params=["sqlite", pytest.param("mariadb", marks=pytest.mark.service)])
def url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(f"omop_{request.param}")
    return found


def expected(url: str, table: str) -> list[omop.Row]:
    if not url.startswith("sqlite"):
        return omop.plain(omop.rows_of(table, SIZE))
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        return omop.plain(omop.held_by_sqlite(table, connection.execute(f"SELECT * FROM {table}")))


def test_all_tables_arrive_equal_and_empty_ones_with_their_columns(lake, url):
    done = copied(lake, source(url), verify=True)
    assert len(done) == 39
    assert {each.reason for each in done.values()} == {""}
    assert sorted(name for name, each in done.items() if each.outcome == "empty") == sorted(omop.EMPTY)
    assert all(done[name].outcome == "copied" for name in omop.COLUMNS)
    for table in omop.COLUMNS:
        wanted = expected(url, table)
        assert rows_in_lake(lake, table) == wanted, table
        assert done[table].rows == len(wanted)
    empty = pl.read_delta(f"{lake.root}/bronze/drug_exposure").schema
    types = (pl.Int64(), pl.Date(), pl.Datetime("us", "UTC"), pl.Decimal(20, 6), pl.String(), pl.Binary())
    assert tuple(empty.dtypes()) == types
    # The larger ones came in several commits.
    assert (lake.table(next(each for each in copied_tables(lake) if each.name.endswith(LARGEST))).version() or 0) > 3
    assert len(lake.table(COPIED_TABLES).scan().collect()) == 39


def test_the_list_of_copies_keeps_few_files_however_often_tables_are_copied(lake, omop_sqlite):
    registry = lake.table(COPIED_TABLES).ensure()
    for number in range(25):
        row = {
            "table_name": f"bronze/t{number}",
            "begun_at": NOON,
            "source": "x",
            "source_table": "t",
            "schema_json": "{}",
        }
        registry.append(pl.DataFrame([row], schema=COPIED_TABLES.schema), transactions={})
    assert copied(lake, source(omop_sqlite), "person")["person"].outcome == "copied"
    # The rows of before are one file, and the new copy has its own.
    assert registry.files().height == 2
    assert registry.count() == 26
