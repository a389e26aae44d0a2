"""Whole tables and reports as files, CSV or Parquet, in bounded memory.

A file appears only once it is complete: rows go to a temporary file beside it, which takes its name at the end.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

import polars as pl
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from orchestration.processes import StoppedError
from resources.analytics import Analytics
from resources.results import Result, write
from resources.table import Table, View

Format = Literal["csv", "parquet"]

TIMEOUT_S = 24 * 3600.0
"""An export shows how far it is and can be stopped; the limit of a query would end that of a large table."""


class ExportError(RuntimeError):
    """Nothing was exported; the message says why and what to do."""


def find(analytics: Analytics, name: str) -> Table | View:
    """The table, view or report of a name: `<layer>.<table>`, or a report's name alone.

    Raises:
        ExportError: there is none; the message lists those there are.
    """
    found = {each.sql_name: each for each in analytics.names()}
    for candidate in (name, f"gold.report_{name}"):
        if candidate in found:
            return found[candidate]
    raise ExportError(
        f"There is no table or report '{name}', so nothing was exported. A report is there once it was built, which "
        f"`pulselake drain` does. Tables: {', '.join(found)}."
    )


def format_of(file: Path) -> Format:
    """The format that a file's ending names.

    Raises:
        ExportError: it names none.
    """
    match file.suffix.lower():
        case ".csv":
            return "csv"
        case ".parquet":
            return "parquet"
    raise ExportError(
        f"{file} ends neither in .csv nor in .parquet, so nothing was exported. Add --format csv or --format parquet."
    )


def count(analytics: Analytics, table: Table | View) -> int:
    """How many rows there are now; an export may see a newer commit."""
    if isinstance(table, Table):
        return analytics.lake.table(table).count()
    return int(analytics.query(f"SELECT count(*) FROM {table.sql_name}").item())


def export(
    analytics: Analytics,
    table: Table | View,
    file: Path,
    format: Format,
    *,
    raw: bool = False,
    force: bool = False,
    advance: Callable[[int], None] = lambda rows: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> int:
    """Writes all rows to a file and returns how many there were.

    Args:
        analytics: where the table is.
        table: what to write.
        file: where to.
        format: how to write it.
        raw: leave texts in csv that a spreadsheet would run as formulas.
        force: replace a file that is there.
        advance: told of each batch of rows how many it had, once it is written.
        should_stop: asked between two batches.

    Raises:
        ExportError: the file is there already or could not be written.
        StoppedError: `should_stop` said so.
        QueryError: the table could not be read.
    """
    written = 0

    def counted(frames: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
        nonlocal written
        for frame in frames:
            if should_stop():
                raise StoppedError(f"Stopped after {written:,} rows; {file} was not written.")
            yield frame
            written += frame.height
            advance(frame.height)

    unhurried = replace(analytics, timeout_s=TIMEOUT_S)
    with appearing(file, force=force) as unfinished, unhurried.stream(f"SELECT * FROM {table.sql_name}") as result:
        rows = Result(result.schema, counted(result.frames))
        if format == "csv":
            with unfinished.open("w", encoding="utf-8", newline="") as out:
                write(rows, "csv", out, raw=raw)
        else:
            _write_parquet(rows, unfinished)
    return written


@contextmanager
def progress_bar(console: Console, table: Table | View, total: int) -> Iterator[Callable[[int], None]]:
    """Shows on a terminal how many of all rows are written; what it yields is told of each further batch."""
    rows = TextColumn("{task.completed:,} of {task.total:,} rows")
    columns = (TextColumn("{task.description}"), BarColumn(), rows, TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(table.sql_name, total=total)
        yield lambda more: bar.advance(task, more)


def _write_parquet(result: Result, file: Path) -> None:
    schema = pl.DataFrame(schema=result.schema).to_arrow().schema
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for frame in result.frames:
            writer.write_table(frame.to_arrow())


@contextmanager
def appearing(file: Path, *, force: bool) -> Iterator[Path]:
    """A file to write to, which takes the name of `file` once the block has ended well and is removed otherwise."""
    unfinished = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        _require_free(file, force=force)
        with unfinished.open("xb"):
            pass
        try:
            yield unfinished
            _require_free(file, force=force)
            with unfinished.open("rb") as complete:
                os.fsync(complete.fileno())
            unfinished.replace(file)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise ExportError(
            f"{file} was not written: {error.strerror or error}. Look at its folder and the room on its disk, or "
            "choose another file with --output."
        ) from error


def _require_free(file: Path, *, force: bool) -> None:
    if file.is_dir():
        raise ExportError(f"{file} is a folder, so nothing was exported. Name a file with --output.")
    if file.exists() and not force:
        raise ExportError(
            f"{file} is there already and was left as it is. Replace it with --force, or choose another file with "
            "--output."
        )
