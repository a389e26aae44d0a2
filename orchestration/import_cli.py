"""The command `pulselake import`."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from orchestration.terminal import err, fail, out, progress

if TYPE_CHECKING:
    from orchestration.importing import Found
    from resources.event_source import Publisher
    from resources.settings import Settings


def import_command(
    app: typer.Typer, settings: Callable[[], "Settings"], explained: Callable[[], AbstractContextManager[None]]
) -> None:
    """Adds the command.

    Args:
        app: the commands.
        settings: reads the settings.
        explained: turns errors that name their remedy into a message.
    """

    @app.command("import")
    def import_files(
        path: Annotated[Path, typer.Argument(exists=True, help="An export, a zip of it, or a folder of exports.")],
        source: Annotated[str | None, typer.Option(help="The format or system; default: the file tells.")] = None,
        patient: Annotated[
            str | None, typer.Option(metavar="ID", help="Whose: a foreign_id of a patient in reference/identity.")
        ] = None,
        zone: Annotated[str | None, typer.Option(help="IANA zone of wall-clock times; default: the patient's.")] = None,
        date_order: Annotated[
            str | None, typer.Option(help="day-first or month-first, if the file is unclear.")
        ] = None,
        base: Annotated[str | None, typer.Option(help="FHIR: the address that references are relative to.")] = None,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would do, and publish nothing.")] = False,
    ) -> None:
        """Publish the records of exports of other systems to the streams' hubs; a repeated import adds nothing."""
        from orchestration.importing import ImportRefusedError, Said, files_of, look, send, unknown_patient
        from orchestration.system import LakeUnavailableError, open_lake
        from resources.sources import publisher

        if date_order not in (None, "day-first", "month-first"):
            fail(f"--date-order {date_order}: there is no such order; write day-first or month-first.")
        said, configured = Said(source, patient, zone, date_order, base), settings()
        files = files_of(path)
        if not files:
            fail(f"{path} has no file of a known kind (csv, xml, json, ndjson, avro, zip); nothing was published.")
        is_complete = True
        with explained(), ExitStack() as stack:
            lake, hubs = open_lake(configured) if dry_run else None, dict[str, "Publisher"]()

            def hub(stream: str) -> "Publisher":
                if stream not in hubs:
                    hubs[stream] = stack.enter_context(publisher(configured, stream))
                return hubs[stream]

            for file in files:

                def show(found: "Found", name: str = file.name) -> None:
                    progress(f"{name}: {found.readings.total():,} readings …")

                try:
                    found = look(file, said, lake, show) if lake is not None else send(file, said, hub, show)
                except ImportRefusedError as refused:
                    progress("")
                    err.print(f"[red]{refused}[/]", highlight=False)
                    is_complete = False
                    continue
                progress("")
                _show(file.name, found, is_dry=dry_run)
                is_complete &= not found.too_large
                with suppress(LakeUnavailableError):
                    # Who publishes needs no lake; only the hint does.
                    if hint := unknown_patient(found, said, lake or open_lake(configured)):
                        err.print(f"[yellow]{file.name}: {escape(hint)}[/]", highlight=False)
        raise typer.Exit(0 if is_complete else 1)


def _show(name: str, found: "Found", *, is_dry: bool) -> None:
    counted = (f"{count:,} event{'s' * (count != 1)} to {stream}" for stream, count in sorted(found.events.items()))
    events = ", ".join(counted) or "nothing"
    out.print(f"{name} ({found.format}): {'would publish' if is_dry else 'published'} {events}", highlight=False)
    for title, counts in (
        ("readings", found.readings),
        ("skipped, since they are no readings of a stream", found.skipped_kinds),
        ("for quarantine", found.rejected),
    ):
        if counts:
            ordered = sorted(counts.items(), key=lambda each: (-each[1], each[0]))
            told = ", ".join(f"{kind} {count:,}" for kind, count in ordered)
            out.print(f"  {title}: {told}", highlight=False)
    if found.repeated:
        out.print(f"  repeats of readings of the file: {found.repeated:,}", highlight=False)
    if found.too_large:
        err.print(f"[red]{name}: {found.too_large:,} parts are larger than an event of the hub; they are not sent.[/]")
