"""The commands `pulselake reference …`."""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestration.instants import INSTANT, instant, now, text_of
from orchestration.terminal import err, fail, out

if TYPE_CHECKING:
    import polars as pl

    from assets.reference.changes import Changes
    from assets.reference.tables import Reference
    from resources.lake import Lake
    from resources.settings import Settings

TABLES = "patients, devices, manufacturers, subscribers, subscriptions or identity."


def reference_commands(
    settings: Callable[[], "Settings"], explained: Callable[[], AbstractContextManager[None]]
) -> typer.Typer:
    """The commands.

    Args:
        settings: reads the settings.
        explained: turns errors that name their remedy into a message.
    """
    commands = typer.Typer(help="Patients, devices, and who is told of alarms.", no_args_is_help=True)

    @commands.command()
    def load(
        table: Annotated[str, typer.Argument(help=TABLES)],
        file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="CSV with a header, in UTF-8.")],
        valid_from: Annotated[
            str | None, typer.Option(metavar="INSTANT", help=f"From when the rows hold; default: now. {INSTANT}")
        ] = None,
        by: Annotated[str | None, typer.Option(metavar="NAME", help="Who changes it.")] = None,
        replace: Annotated[bool, typer.Option("--replace", help="End what the file does not have.")] = False,
    ) -> None:
        """Check a file as a whole, and then add what differs from what holds, in one commit."""
        from assets.reference.files import rows_of
        from assets.reference_store import put
        from orchestration.system import open_lake

        chosen, began = _reference(table), now()
        since = instant(valid_from, "--valid-from") if valid_from else began
        with _told(), explained():
            rows = rows_of(chosen, text_of(file), began.date(), file.name)
            if replace and rows.is_empty():
                fail(f"{file.name} has no rows, so --replace would end everything; nothing was written.")
            lake = open_lake(settings())
            changes = put(lake, chosen, rows, valid_from=since, clock=now, changed_by=by, replaces=replace)
        _show(chosen, changes)
        if changes.rows.height:
            _show_since(since)
        if chosen.short == "subscriptions":
            _warn(lake, rows, now())

    @commands.command()
    def show(
        table: Annotated[str, typer.Argument(help=TABLES)],
        key: Annotated[int | None, typer.Argument(help="The id of one of them; default: all.")] = None,
        at: Annotated[str | None, typer.Option(metavar="INSTANT", help=f"Default: now. {INSTANT}")] = None,
    ) -> None:
        """Show what holds at an instant, by all that is known now."""
        import polars as pl

        from assets.reference_store import held
        from orchestration.system import open_lake
        from resources.results import Result, write

        chosen, asked = _reference(table), instant(at, "--at") if at else now()
        if key is not None and len(chosen.keys) > 1:
            fail(
                f"{chosen.table.name} has texts as keys, and no number; ask for one of them in SQL: "
                f'pulselake sql "FROM {chosen.current.sql_name}".'
            )
        with explained():
            rows = held(open_lake(settings()), chosen, asked)
        if key is not None:
            rows = rows.filter(pl.col(chosen.key) == key)
        if key is not None and rows.is_empty():
            fail(
                f"{chosen.table.name}: no {chosen.key} {key} holds at {asked:%Y-%m-%d %H:%M:%S} UTC. Choose another "
                f'instant with --at, or ask for all versions: pulselake sql "FROM {chosen.table.sql_name}".'
            )
        write(Result.of(rows.drop("is_deleted")), "table", sys.stdout)

    @commands.command()
    def generate(
        patients: Annotated[int, typer.Option(min=1, help="How many synthetic patients.")] = 200,
        seed: Annotated[int, typer.Option(help="The same seed gives the same people and devices.")] = 0,
    ) -> None:
        """Make up reference data of the patients and devices that `pulselake generate` sends readings of."""
        from orchestration.reference import SINCE
        from orchestration.reference import generate as make
        from orchestration.system import open_lake

        with _told(), explained():
            made = make(open_lake(settings()), patients, seed)
        for reference, changes in made:
            _show(reference, changes)
        _show_since(SINCE)

    return commands


def _show(reference: "Reference", changes: "Changes") -> None:
    out.print(
        f"{reference.table.name}: {changes.added:,} added, {changes.changed:,} changed, {changes.ended:,} ended, "
        f"{changes.unchanged:,} unchanged.",
        highlight=False,
    )


def _show_since(valid_from: datetime) -> None:
    from assets.bitemporal import SAFETY_DELAY

    out.print(
        f"What is new holds for readings that were measured from {valid_from:%Y-%m-%d %H:%M:%S} UTC on and are pulled "
        f"later than in {SAFETY_DELAY.total_seconds():.0f} s.",
        highlight=False,
    )


def _warn(lake: "Lake", subscriptions: "pl.DataFrame", at: datetime) -> None:
    """Says by which subscriptions nobody is told: of groups without a patient, or to subscribers that are not known."""
    from assets.reference.tables import PATIENTS, SUBSCRIBERS
    from assets.reference_store import groups_of, held

    subscribers = {*map(str, held(lake, SUBSCRIBERS, at)["subscriber_id"])}
    known = {f"group:{name}" for name in groups_of(held(lake, PATIENTS, at))}
    of_groups = {scope for scope in subscriptions["scope"] if scope.startswith("group:")}
    unknown = [
        *((scope, "patients") for scope in sorted(of_groups - known)),
        *((number, "subscribers") for number in sorted({*map(str, subscriptions["subscriber_id"])} - subscribers)),
    ]
    for name, table in unknown[:10]:
        err.print(f"Unknown in reference/{table}: {name}. Until it is loaded, nobody is told by this.", highlight=False)
    if len(unknown) > 10:
        err.print(f"… and {len(unknown) - 10:,} more.", highlight=False)


def _reference(name: str) -> "Reference":
    from assets.reference.tables import REFERENCES

    for each in REFERENCES:
        if name in (each.short, each.table.name, each.table.sql_name):
            return each
    fail(f"There is no reference table '{name}'. Tables: {', '.join(each.short for each in REFERENCES)}.")


@contextmanager
def _told() -> Iterator[None]:
    from assets.reference.files import ReferenceFileError
    from assets.reference_store import ReferenceClockError

    try:
        yield
    except (ReferenceFileError, ReferenceClockError) as error:
        fail(str(error))
