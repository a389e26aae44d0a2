"""The command `pulselake copy`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from orchestration.explained import command_settings, explained
from orchestration.terminal import err, fail, out

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from assets.copied import Copied


def copy(
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="URL",
            help="The database, or the environment variable that holds its URL; default: PULSELAKE_COPY_FROM.",
        ),
    ] = None,
    tables: Annotated[str | None, typer.Option(help="Names with commas between them: person,dbo.EHR.")] = None,
    all_tables: Annotated[bool, typer.Option("--all", help="All tables of the database; no views.")] = False,
    parallel: Annotated[int, typer.Option(min=1, max=16, help="How many tables at the same time.")] = 2,
    prefix: Annotated[str, typer.Option(help="What the names of the copies begin with: hospital_.")] = "",
    again: Annotated[bool, typer.Option("--again", help="Copy what is complete anew.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read the database a second time, by another driver, and compare.")
    ] = False,
) -> None:
    """Copy tables of a database into bronze: SQLite, MySQL or MariaDB, SQL Server.

    Each row comes once; what was stopped goes on where it was. Exits with 1 if a table was not copied.
    """
    from orchestration.copying import Wanted, copy_tables, opened_source
    from resources.copy_source import CopyError
    from resources.settings import hide_argument
    from resources.signals import DeferredSignals

    if source and "://" in source and "@" in source:
        hide_argument(source)
    names = [each.strip() for each in (tables or "").split(",") if each.strip()]
    if all_tables == bool(names):
        fail("Nothing was copied. Say what: --tables person,measurement, or --all.")
    settings, done = command_settings(are_hubs_checked=False), list["Copied"]()
    try:
        opened = opened_source(settings, source)
        with explained(), DeferredSignals() as signals, _bars() as bars:
            wanted = Wanted(None if all_tables else names, parallel, prefix, again, verify)
            for each in copy_tables(
                settings,
                opened,
                wanted,
                on_begin=bars.begin,
                on_rows=bars.advance,
                should_stop=lambda: signals.is_noted,
            ):
                done.append(each)
                bars.end(each)
    except CopyError as error:
        fail(str(error))
    _show(done)
    outcomes = {each.outcome for each in done}
    raise typer.Exit(130 if "stopped" in outcomes else 1 if "failed" in outcomes else 0)


class _Bars:
    """A bar for each table that is copied, on a terminal; elsewhere a line for each that has ended."""

    def __init__(self, progress: "Progress") -> None:
        self._progress, self._tasks = progress, dict[str, "TaskID"]()

    def begin(self, table: str, rows: int) -> None:
        self._tasks[table] = self._progress.add_task(table, total=rows)

    def advance(self, table: str, rows: int) -> None:
        self._progress.advance(self._tasks[table], rows)

    def end(self, done: "Copied") -> None:
        if (task := self._tasks.pop(done.table, None)) is not None:
            self._progress.remove_task(task)
        if not err.is_terminal:
            err.print(escape(f"{done.table}: {done.outcome}, {done.rows:,} rows"), highlight=False)


@contextmanager
def _bars() -> Iterator[_Bars]:
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    rows = TextColumn("{task.completed:,} of about {task.total:,} rows")
    columns = (TextColumn("{task.description}"), BarColumn(), rows, TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        yield _Bars(progress)


def _show(done: "list[Copied]") -> None:
    from rich.table import Column, Table

    grid = Table(Column("table", no_wrap=True), "", Column("rows", justify="right"), "checksum", "")
    for each in sorted(done, key=lambda each: each.table):
        colour = {"failed": "red", "stopped": "yellow"}.get(each.outcome, "green")
        name = each.table.replace("/", ".")
        grid.add_row(name, f"[{colour}]{each.outcome}[/]", f"{each.rows:,}", each.checksum[:8], escape(each.reason))
    out.print(grid)
    counts = {
        outcome: sum(each.outcome == outcome for each in done) for outcome in ("copied", "empty", "kept", "failed")
    }
    out.print(
        f"{counts['copied']:,} copied, {counts['empty']:,} skipped as empty, {counts['kept']:,} complete before, "
        f"{counts['failed']:,} failed.",
        highlight=False,
    )
