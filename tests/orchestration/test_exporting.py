"""Exports: what a file holds, when it appears, and what is refused."""

import csv
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from rich.console import Console

from assets.glucose.assets import CONTRACT
from orchestration import exporting
from orchestration.exporting import ExportError, export, find, format_of, progress_bar
from orchestration.processes import StoppedError
from orchestration.system import tables, views
from resources.analytics import Analytics, QueryError, UnreadableTableError
from resources.lake import Lake
from resources.reports import Report, report_analytics, stored_reports, write_report
from tests.orchestration.commands import command_line
from tests.resources.lakes import NOON, SILVER, fill, row

FORMULA = Report(
    "formulas", "Texts.", "-- Texts.\nFROM (VALUES ('=1+1', 1.5::DOUBLE), ('plain', 2)) AS _(text, number)"
)


def lake_with(folder: Path, readings: int = 5) -> Analytics:
    """The system's lake with readings of glucose, a report and nothing else."""
    lake = Lake(str(folder / "home" / "lake"))
    analytics = Analytics(lake, tables(), views())
    fill(analytics, SILVER.name, *(row(NOON + timedelta(minutes=each), glucose_mg_dl=each) for each in range(readings)))
    write_report(report_analytics(lake, tables(), views()), FORMULA)
    return Analytics(lake, [*tables(), *stored_reports(lake, [FORMULA])], views())


@pytest.fixture
def lake(tmp_path: Path) -> Analytics:
    return lake_with(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where files go, and nothing else."""
    made = tmp_path / "files"
    made.mkdir()
    return made


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resources.analytics.BATCH_ROWS", 2)


def data_files(lake: Analytics) -> list[Path]:
    return [*(Path(lake.lake.root) / "silver" / "glucose_readings").rglob("*.parquet")]


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def test_a_table_is_found_by_its_name_and_a_report_also_by_its_own(lake):
    assert find(lake, "silver.glucose_readings").sql_name == "silver.glucose_readings"
    assert find(lake, "silver.all_streams").sql_name == "silver.all_streams"
    assert {find(lake, name).sql_name for name in ("formulas", "gold.report_formulas")} == {"gold.report_formulas"}


def test_an_unknown_name_is_answered_with_those_there_are(lake):
    with pytest.raises(ExportError, match=r"'nonsense'.*silver\.glucose_readings"):
        find(lake, "nonsense")


@pytest.mark.parametrize(("name", "format"), [("a.csv", "csv"), ("A.PARQUET", "parquet")])
def test_the_ending_of_a_file_says_the_format(name, format):
    assert format_of(Path(name)) == format


def test_an_ending_that_says_nothing_is_refused():
    with pytest.raises(ExportError, match="--format"):
        format_of(Path("readings.txt"))


@pytest.mark.usefixtures("small_batches")
def test_a_parquet_file_holds_all_rows_with_their_types(lake, folder):
    file = folder / "readings.parquet"
    assert export(lake, find(lake, "silver.glucose_readings"), file, "parquet") == 5
    assert pl.read_parquet(file).equals(lake.query("FROM silver.glucose_readings"))
    assert names(folder) == ["readings.parquet"]


@pytest.mark.usefixtures("small_batches")
def test_a_csv_file_holds_all_rows(lake, folder):
    file = folder / "readings.csv"
    assert export(lake, find(lake, "silver.glucose_readings"), file, "csv") == 5
    with file.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    assert sorted(each["glucose_mg_dl"] for each in rows) == ["0.0", "1.0", "2.0", "3.0", "4.0"]
    assert rows[0].keys() == SILVER.schema.keys()


def test_a_view_over_all_streams_is_exported_like_a_table(lake, folder):
    assert export(lake, find(lake, "silver.all_streams"), folder / "all.parquet", "parquet") == 5
    assert pl.read_parquet(folder / "all.parquet")["stream"].unique().to_list() == [CONTRACT.stream]


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_a_table_without_rows_gives_a_file_with_its_columns(lake, folder, format):
    file = folder / f"vitals.{format}"
    assert export(lake, find(lake, "silver.vitals"), file, format) == 0
    read = pl.read_csv(file) if format == "csv" else pl.read_parquet(file)
    assert read.is_empty()
    assert "heart_rate_bpm" in read.columns


def test_formulas_are_made_harmless_in_csv_unless_they_are_asked_for(lake, folder):
    report = find(lake, "formulas")
    for name, raw in (("safe", False), ("raw", True)):
        export(lake, report, folder / f"{name}.csv", "csv", raw=raw)
    assert "\n'=1+1,1.5\n" in (folder / "safe.csv").read_text()
    assert "\n=1+1,1.5\n" in (folder / "raw.csv").read_text()
    export(lake, report, folder / "typed.parquet", "parquet")
    assert "=1+1" in pl.read_parquet(folder / "typed.parquet")["text"].to_list()


@pytest.mark.usefixtures("small_batches")
def test_progress_counts_up_to_the_number_that_was_foretold(lake, folder):
    table, seen = find(lake, "silver.glucose_readings"), list[int]()
    export(lake, table, folder / "readings.csv", "csv", advance=seen.append)
    assert sum(seen) == exporting.count(lake, table) == 5
    assert len(seen) > 1
    assert exporting.count(lake, find(lake, "silver.all_streams")) == 5
    assert exporting.count(lake, find(lake, "silver.vitals")) == 0


def test_a_terminal_shows_how_many_rows_of_how_many_are_written(lake):
    console = Console(force_terminal=True, record=True, width=120, file=StringIO())
    with progress_bar(console, find(lake, "silver.glucose_readings"), 4321) as advance:
        advance(1234)
    assert "1,234 of 4,321 rows" in console.export_text()


def test_a_file_that_is_there_is_replaced_only_by_force(lake, folder):
    file = folder / "readings.csv"
    file.write_text("mine")
    table = find(lake, "silver.glucose_readings")
    with pytest.raises(ExportError, match="--force"):
        export(lake, table, file, "csv")
    assert file.read_text() == "mine"
    export(lake, table, file, "csv", force=True)
    assert file.read_text().startswith("patient_id")
    assert names(folder) == ["readings.csv"]


@pytest.mark.usefixtures("small_batches")
def test_a_file_that_came_meanwhile_is_left_as_it_is(lake, folder):
    file = folder / "readings.csv"
    with pytest.raises(ExportError, match="--force"):
        export(lake, find(lake, "silver.glucose_readings"), file, "csv", advance=lambda _: file.write_text("mine"))
    assert file.read_text() == "mine"
    assert names(folder) == ["readings.csv"]


@pytest.mark.parametrize("format", ["csv", "parquet"])
@pytest.mark.usefixtures("small_batches")
def test_a_stop_leaves_nothing_behind(lake, folder, format):
    written: list[int] = []
    with pytest.raises(StoppedError, match="after 2 rows"):
        export(
            lake,
            find(lake, "silver.glucose_readings"),
            folder / "readings",
            format,
            advance=written.append,
            should_stop=lambda: bool(written),
        )
    assert names(folder) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
@pytest.mark.usefixtures("small_batches")
def test_an_interruption_leaves_the_file_that_was_there(lake, folder, error):
    def interrupt(rows: int) -> None:
        raise error

    (folder / "readings.csv").write_text("before")
    with pytest.raises(error):
        export(
            lake, find(lake, "silver.glucose_readings"), folder / "readings.csv", "csv", force=True, advance=interrupt
        )
    assert names(folder) == ["readings.csv"]
    assert (folder / "readings.csv").read_text() == "before"


def test_a_table_that_cannot_be_read_leaves_nothing_behind(lake, folder):
    (data,) = data_files(lake)
    data.unlink()
    with pytest.raises(QueryError):
        export(lake, find(lake, "silver.glucose_readings"), folder / "readings.csv", "csv")
    assert names(folder) == []


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_a_table_of_which_rows_are_missing_is_not_taken_for_a_whole_one(lake, folder, format):
    (data,) = data_files(lake)
    data.write_bytes(data.read_bytes()[:100])
    with pytest.raises(UnreadableTableError, match="damaged"):
        export(lake, find(lake, "silver.glucose_readings"), folder / "readings", format)
    assert names(folder) == []


def test_a_place_that_cannot_be_written_to_is_named(lake, folder):
    table = find(lake, "silver.glucose_readings")
    with pytest.raises(ExportError, match=r"nowhere.*No such file"):
        export(lake, table, folder / "nowhere" / "readings.csv", "csv")
    with pytest.raises(ExportError, match="is a folder"):
        export(lake, table, folder, "csv", force=True)
    assert names(folder) == []


def test_the_command_writes_a_file_of_the_tables_name(lake, tmp_path, monkeypatch):
    command = command_line(tmp_path)
    monkeypatch.chdir(tmp_path)
    done = command.invoke("export", "silver.glucose_readings")
    assert done.out == "silver.glucose_readings: 5 rows are in silver.glucose_readings.csv.\n"
    assert (tmp_path / "silver.glucose_readings.csv").exists()
    refused = command.invoke("export", "silver.glucose_readings", code=1)
    assert "--force" in refused.err
    command.invoke("export", "silver.glucose_readings", "--output", "readings.parquet")
    assert pl.read_parquet(tmp_path / "readings.parquet").height == 5
    command.invoke("export", "silver.glucose_readings", "--output", "readings.dat", "--format", "parquet")
    assert pl.read_parquet(tmp_path / "readings.dat").height == 5
    assert "--format" in command.invoke("export", "silver.glucose_readings", "--output", "r.dat", code=1).err
    assert "'nonsense'" in command.invoke("export", "nonsense", code=1).err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.usefixtures("lake", "small_batches")
def test_a_command_that_is_asked_to_end_leaves_nothing_behind(tmp_path, folder, monkeypatch, number):
    @contextmanager
    def interrupted(*_: Any) -> Iterator[Callable[[int], None]]:
        yield lambda rows: signal.raise_signal(number)

    monkeypatch.setattr(exporting, "progress_bar", interrupted)
    file = folder / "readings.csv"
    done = command_line(tmp_path).invoke("export", "silver.glucose_readings", "--output", file, code=130)
    assert "Stopped after 2 rows" in done.err
    assert names(folder) == []
