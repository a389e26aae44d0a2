"""The command `pulselake poll`."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from orchestration.explained import command_settings, explained
from orchestration.terminal import err, out, progress

if TYPE_CHECKING:
    from orchestration.polling import Polled

poll = typer.Typer(help="Sources that are asked for what is new.", no_args_is_help=True)


@poll.callback()
def _group() -> None:
    """Keeps the source a word of the command while there is only one."""


@poll.command()
def openfda(
    since: Annotated[
        datetime | None,
        typer.Option(help="The first date; default: where the last poll ended, or 30 days.", formats=["%Y-%m-%d"]),
    ] = None,
    until: Annotated[datetime | None, typer.Option(help="The last date; default: today.", formats=["%Y-%m-%d"])] = None,
) -> None:
    """Send adverse-event reports that openFDA has new, or in a new version, to the hub adverse_events."""
    from orchestration.polling import poll as ask

    first, last = (since.date() if since else None), (until.date() if until else None)
    if first and first > (last or datetime.now(UTC).date()):
        raise typer.BadParameter(f"--since {first} is later than the last date, so there is nothing to poll.")
    settings = command_settings()
    with explained():
        try:
            polled = ask(settings, since=first, until=last, progress=progress)
        except KeyboardInterrupt:
            progress("")
            err.print("Stopped: what was sent is recorded; `pulselake poll openfda` sends the others.")
            raise typer.Exit(130) from None
        finally:
            progress("")
    _show(polled, is_first_date_chosen=first is not None)


def _show(polled: "Polled", *, is_first_date_chosen: bool) -> None:
    if polled.is_unchanged:
        out.print("openFDA has loaded nothing since the last poll, so nothing was read. --since reads anyway.")
        return
    out.print(
        f"openFDA, {polled.first} to {polled.last}: {polled.pages:,} pages, {polled.reports:,} reports, "
        f"{polled.sent:,} sent, {polled.known:,} already known, {polled.too_large:,} too large",
        highlight=False,
    )
    if polled.too_large:
        err.print(f"[red]{polled.too_large:,} reports are larger than the hub accepts and were not sent.[/]")
    if polled.ended_early:
        err.print(f"[yellow]{escape(polled.ended_early)}[/]", highlight=False)
    elif not polled.reports and not is_first_date_chosen:
        err.print("openFDA loads reports months after FDA received them: name an earlier date with --since.")
