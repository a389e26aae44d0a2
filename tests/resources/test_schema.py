"""A table whose contract changed goes on, or stops before a row is written and says what to do."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import dataframely as dy
import polars as pl
import pytest

from resources.lake import Lake, LakeTable, SchemaError
from resources.table import Table
from tests.resources.numbers import APP, MONDAY, NUMBERS, TUESDAY, Rows, frame, numbers

ROOT = Path(__file__).parents[2]


def changed(name: str = NUMBERS.name, /, **columns: dy.Column | None) -> Table:
    """The table of numbers after a change: other columns, None for one that is gone."""
    members: dict[str, Any] = {name: getattr(Rows, name) for name in ("number", "text", "ingest_date")} | columns
    kept = {name: column for name, column in members.items() if column is not None}
    rows = type("Changed", (dy.Schema,), {"__doc__": "One number of one day.", "__module__": __name__} | kept)
    return Table(name, rows, ("ingest_date",))


WIDER = changed(level=dy.Float64(nullable=True))
LOOSER = changed(text=dy.String(nullable=True))


def rows_of(table: Table, *rows: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame([{name: row.get(name) for name in table.schema} for row in rows], schema=table.schema)


def number(value: int, **values: Any) -> dict[str, Any]:
    return {"number": value, "text": str(value), "ingest_date": MONDAY} | values


def one_row(table: Table) -> pl.DataFrame:
    text = "2" if table.schema.get("text") == pl.String else 2
    return rows_of(table, number(2, text=text, level=0.5))


def test_a_nullable_column_that_the_contract_gained_is_added_and_old_rows_have_null(lake: Lake) -> None:
    lake.table(NUMBERS).ensure().append(frame(1), transactions={APP: 1})
    table = lake.table(WIDER).ensure()
    table.append(rows_of(WIDER, number(2, level=0.5)), transactions={APP: 2}, expected={APP: 1})
    assert table.version() == 3
    assert table.scan().sort("number").collect()["level"].to_list() == [None, 0.5]
    assert table.scan(1).collect().rows() == [(1, "1", MONDAY, None)]
    assert table.scan(1).collect().schema == WIDER.schema
    assert table.scan().filter(pl.col("level").is_null()).collect()["number"].to_list() == [1]
    table.ensure()
    assert table.version() == 3


def test_a_table_that_was_not_opened_for_writing_is_read_with_nulls_and_stays_as_it_is(lake: Lake) -> None:
    lake.table(NUMBERS).ensure().append(frame(1), transactions={})
    assert lake.table(WIDER).scan().collect().rows() == [(1, "1", MONDAY, None)]
    assert lake.table(WIDER).newest("level") is None
    with pytest.raises(SchemaError, match=r"column 'level' \(double\) is not in the table; nothing was written"):
        lake.table(WIDER).append(rows_of(WIDER, number(2)), transactions={})
    assert lake.table(NUMBERS).version() == 1


CHANGES = {
    "widened": (changed(number=dy.Float64(nullable=False)), "column 'number' is long in the table and double"),
    "narrowed": (changed(text=dy.Int64(nullable=True)), "column 'text' is string in the table and long"),
    "removed": (changed(text=None), r"column 'text' \(string\) is not in the contract"),
    "a required one more": (changed(level=dy.Float64(nullable=False)), r"column 'level' \(double\) is not in the"),
    "partitioned otherwise": (Table(NUMBERS.name, Rows), "partitioned by ingest_date, the contract by nothing"),
}


@pytest.mark.parametrize(("contract", "said"), CHANGES.values(), ids=CHANGES)
def test_any_other_change_stops_the_table_before_a_row_is_written(tmp_path: Path, contract: Table, said: str) -> None:
    lake = Lake(str(tmp_path))
    lake.table(NUMBERS).ensure().append(frame(1), transactions={APP: 1})
    new = one_row(contract)
    for write in (
        lambda: lake.table(contract).ensure(),
        lambda: lake.table(contract).append(new, transactions={APP: 2}),
        lambda: lake.table(contract).replace([new], None, transactions={APP: 2}),
    ):
        with pytest.raises(SchemaError, match=rf"^silver/numbers: .*{said}.*nothing was written.*rederive numbers`"):
            write()
    assert (numbers(lake.table(NUMBERS)), lake.table(NUMBERS).transactions([APP])) == ([1], {APP: 1})


def test_decimals_are_never_cut(tmp_path: Path) -> None:
    lake, exact = Lake(str(tmp_path)), CHANGES["widened"][0]
    lake.table(NUMBERS).ensure()
    with pytest.raises(SchemaError):
        lake.table(exact).append(rows_of(exact, number(0) | {"number": 7.9}), transactions={})


def test_what_each_layer_can_do_is_said(tmp_path: Path) -> None:
    for name, remedy in (
        ("bronze/numbers", "Bring the contract back to these columns: nothing else holds what bronze holds"),
        ("gold/numbers", "made anew from what it is derived from"),
    ):
        lake = Lake(str(tmp_path))
        lake.table(Table(name, Rows, ("ingest_date",))).ensure()
        with pytest.raises(SchemaError, match=remedy):
            lake.table(changed(name, text=dy.Int64())).ensure()


def test_a_column_that_becomes_required_stops_the_table_only_where_a_row_lacks_it(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    lake.table(LOOSER).ensure().append(rows_of(LOOSER, number(1)), transactions={})
    lake.table(NUMBERS).ensure()
    lake.table(LOOSER).append(rows_of(LOOSER, number(2, text=None)), transactions={})
    with pytest.raises(SchemaError, match=r"column 'text' has 1 rows without one in the table; nothing was written"):
        lake.table(NUMBERS).ensure()


def test_a_column_that_was_added_and_becomes_required_stops_the_table(tmp_path: Path) -> None:
    lake, strict = Lake(str(tmp_path)), changed(level=dy.Float64(nullable=False))
    lake.table(NUMBERS).ensure().append(frame(1, 2), transactions={})
    lake.table(WIDER).ensure().append(rows_of(WIDER, number(3, level=1.0)), transactions={})
    with pytest.raises(SchemaError, match="column 'level' has 2 rows without one"):
        lake.table(strict).ensure()


def test_the_order_of_columns_says_nothing(lake: Lake) -> None:
    members = {name: getattr(Rows, name) for name in ("ingest_date", "text", "number")}
    turned = Table(NUMBERS.name, type("Turned", (dy.Schema,), members), ("ingest_date",))
    lake.table(NUMBERS).ensure().append(frame(1), transactions={})
    table = lake.table(turned).ensure()
    table.append(rows_of(turned, number(2)), transactions={})
    table.append(rows_of(turned, number(3, ingest_date=TUESDAY)), transactions={})
    table.replace([rows_of(turned, number(4, ingest_date=TUESDAY))], f"ingest_date = '{TUESDAY}'")
    assert table.scan().sort("number").collect().rows() == [
        (MONDAY, "1", 1),
        (MONDAY, "2", 2),
        (TUESDAY, "4", 4),
    ]
    assert numbers(lake.table(NUMBERS)) == [1, 2, 4]


def test_reading_a_column_of_another_type_is_refused_and_surplus_columns_are_left_out(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    lake.table(WIDER).ensure().append(rows_of(WIDER, number(1, level=2.0)), transactions={})
    assert lake.table(NUMBERS).scan().collect().rows() == [(1, "1", MONDAY)]
    with pytest.raises(SchemaError, match=r"'number' is long in the table and double.*the table was not read"):
        lake.table(CHANGES["widened"][0]).scan()


ADDER = """
import sys
from resources.lake import Lake
from tests.resources.test_schema import WIDER
for number in range(int(sys.argv[2])):
    Lake(f"{sys.argv[1]}/{number}").table(WIDER).ensure()
"""


@pytest.mark.service
def test_processes_that_add_the_same_column_at_once_both_end_well(tmp_path: Path) -> None:
    lakes = [Lake(str(tmp_path / str(number))) for number in range(30)]
    for lake in lakes:
        lake.table(NUMBERS).ensure().append(frame(1), transactions={APP: 1})
    command = [sys.executable, "-c", ADDER, str(tmp_path), str(len(lakes))]
    processes = [subprocess.Popen(command, cwd=ROOT) for _ in range(2)]
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
    for lake in lakes:
        assert lake.table(WIDER).scan().collect().rows() == [(1, "1", MONDAY, None)]


class Raced(LakeTable):
    """A table whose contract gains a column between the comparison and the commit."""

    def _compare(self, delta, expected) -> None:
        super()._compare(delta, expected)
        self.lake.table(WIDER).ensure()


def test_a_writer_of_the_old_columns_is_refused_when_a_column_is_added_under_it(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    raced = Raced(NUMBERS, lake.table(NUMBERS).ensure().uri, lake)
    # Delta refuses the commit; the second attempt finds the column.
    with pytest.raises(SchemaError, match=r"'level' \(double\) is not in the contract"):
        raced.append(frame(1), transactions={APP: 1}, expected={})
    assert lake.table(NUMBERS).count() == 0


@pytest.mark.parametrize("contract", [WIDER, *(contract for contract, _ in CHANGES.values())])
def test_a_table_that_is_replaced_as_a_whole_takes_the_contracts_columns_with_the_rows(
    tmp_path: Path, contract: Table
) -> None:
    lake = Lake(str(tmp_path))
    lake.table(NUMBERS).ensure().append(frame(1), transactions={APP: 1})
    table = lake.table(contract)
    new = one_row(contract)
    assert not table.is_current()
    table.replace([new], None, transactions={APP: 2}, renew=True)
    assert table.is_current()
    assert table.scan().collect().equals(new)
    assert (table.version(), table.transactions([APP])) == (2, {APP: 2})
    assert table.delta().metadata().description == NUMBERS.description
    table.maintain()
    table.ensure().append(new, transactions={})


def test_a_table_with_other_columns_is_maintained_all_the_same(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    lake.table(NUMBERS).ensure().append(frame(1), transactions={})
    lake.table(CHANGES["widened"][0]).maintain()
    lake.table(CHANGES["removed"][0]).maintain(today=TUESDAY)
    assert numbers(lake.table(NUMBERS)) == [1]
