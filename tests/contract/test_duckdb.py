"""What `resources.scans` relies upon in DuckDB, beyond what DuckDB documents."""

from collections.abc import Iterator, Sequence

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from duckdb._sources.nodes import Node
from duckdb._sources.polars import LazyFrameSource

pytestmark = pytest.mark.contract


class Source(LazyFrameSource):
    def __init__(self) -> None:
        super().__init__(None)
        self.asked: list[tuple[list[int] | None, list[str]]] = []
        self.given = 0

    def _empty_frame(self) -> pl.DataFrame:
        return pl.DataFrame(schema={"a": pl.Int64, "b": pl.String})

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self.stream(None, ())[0]

    def stream(self, columns: Sequence[int] | None, filters: Sequence[Node]) -> tuple[object, bool]:
        self.asked.append((None if columns is None else [*columns], [each.fragment() for each in filters]))
        frame = pl.DataFrame({"a": [1] * 10_000}, schema={"a": pl.Int64})

        def batches() -> Iterator[pa.RecordBatch]:
            for _ in range(1_000):
                self.given += 1
                yield from pa.RecordBatchReader.from_stream(frame)

        return pa.RecordBatchReader.from_batches(pa.schema({"a": pa.int64()}), batches()).__arrow_c_stream__(), True


@pytest.fixture
def source():
    return Source()


@pytest.fixture
def connection(source):
    with duckdb.connect(config={"threads": 2}) as connection:
        connection.from_arrow(source).create_view("t")
        yield connection


def test_a_source_is_taken_as_it_is_and_told_columns_and_filters(source, connection):
    connection.execute("SELECT max(a) FROM t WHERE a = 1").fetchall()
    assert source.asked == [([0], ['("a" = 1)'])]


def test_batches_are_pulled_as_they_are_needed(source, connection):
    connection.execute("SELECT a FROM t LIMIT 1").fetchall()
    assert source.given < 1_000


def test_a_source_is_read_anew_by_each_scan(source, connection):
    connection.execute("SELECT (SELECT count(a) FROM t), (SELECT max(a) FROM t)").fetchall()
    assert len(source.asked) == 2
