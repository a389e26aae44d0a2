"""The commands `pulselake oltp …`."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from orchestration.terminal import err, fail, out, progress

if TYPE_CHECKING:
    from orchestration.oltp import Table, TableStatus
    from resources.settings import Settings


def oltp_commands(
    settings: Callable[[], "Settings"], explained: Callable[[], AbstractContextManager[None]]
) -> typer.Typer:
    """The commands.

    Args:
        settings: reads the settings.
        explained: turns errors that name their remedy into a message.
    """
    commands = typer.Typer(help="The transactional store: SQLite, MySQL, MariaDB or Azure SQL.", no_args_is_help=True)

    @commands.command()
    def migrate() -> None:
        """Create the store's tables, or bring them up to date."""
        from resources.store import Store

        found = settings()
        with explained():
            store = Store(found.oltp_url)
            if found.uses_own_store:
                found.root.mkdir(parents=True, exist_ok=True)
            store.migrate()
        out.print(f"The tables of {store.name} are up to date.", highlight=False)

    @commands.command()
    def sync(
        once: Annotated[bool, typer.Option("--once", help="End when the store has what the lake has now.")] = False,
    ) -> None:
        """Keep the store as the lake is, until Ctrl-C; what is edited in the store gets into reference data."""
        from orchestration.oltp import TABLES, stand, sync_once
        from orchestration.processes import stop_on_signals

        found = settings()
        if not once:
            stop = stop_on_signals()
            stand(found, stop, lambda text: err.print(escape(text), highlight=False))
            return
        with explained():
            written = sync_once(found, TABLES, progress)
        progress("")
        out.print(f"{written:,} rows were written; the store has what the lake has.")

    @commands.command()
    def status() -> None:
        """Show how far each table has come; exits with 1 if one cannot follow."""
        from orchestration.oltp import LEASE, open_store, tables_status
        from orchestration.system import open_lake

        found = settings()
        with explained():
            store = open_store(found)
            tables = tables_status(open_lake(found), store)
        who = found.holders(LEASE).get("active")
        at_work = f"{who.name} since {who.since:%m-%d %H:%M:%S} UTC" if who else "nobody: run `pulselake oltp sync`"
        out.print(f"{store.name}; at work: {at_work}", highlight=False)
        _show(tables)
        problems = [each for each in tables if each.state and each.state.problem]
        for each in problems:
            assert each.state is not None
            out.print(f"[red]{each.table}: {escape(each.state.problem)}[/]", highlight=False)
        raise typer.Exit(1 if problems else 0)

    @commands.command()
    def resync(
        table: Annotated[str, typer.Argument(help="Such as GlucoseReadings; names are in `pulselake oltp status`.")],
    ) -> None:
        """Fill a table anew from the lake: after rows or the table were deleted, or came from another backup."""
        from orchestration.oltp import filled_by
        from orchestration.oltp import resync as fill_anew

        chosen, found = _tables(table), settings()
        with explained():
            written = fill_anew(found, chosen, progress)
        progress("")
        names = filled_by(chosen[0])
        by = f"{written:,} rows were written" if written else "the sync at work has filled it"
        out.print(f"{' and '.join(names)}: {by}; it has what the lake has.")

    return commands


def _tables(name: str) -> "Sequence[Table]":
    from orchestration.oltp import UnknownTableError, tables_named

    try:
        return tables_named(name)
    except UnknownTableError as error:
        fail(str(error))


def _show(tables: "list[TableStatus]") -> None:
    from rich.table import Column
    from rich.table import Table as Grid

    grid = Grid(Column("table", no_wrap=True), "version", "rows behind", "oldest of them", "written", "last (UTC)")
    for each in tables:
        state, lag = each.state, each.lag
        behind = "" if lag is None else f"{lag.rows:,}" + (" filling" if lag.is_filling else "")
        oldest = f"{lag.oldest:%m-%d %H:%M:%S}" if lag and lag.oldest else ""
        told = ("", "", "never")
        if state:
            version = str(state.version) if state.version >= 0 else ""
            told = (version, f"{state.rows_written:,}", f"{state.synced_at:%m-%d %H:%M:%S}" if state.synced_at else "")
        grid.add_row(each.table, told[0], behind, oldest, told[1], told[2])
    out.print(grid)
