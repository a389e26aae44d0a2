"""The commands `pulselake notify …`."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from orchestration.terminal import err, fail, out

if TYPE_CHECKING:
    import polars as pl

    from resources.settings import Settings


def notify_commands(
    settings: Callable[[], "Settings"], explained: Callable[[], AbstractContextManager[None]]
) -> typer.Typer:
    """The commands.

    Args:
        settings: reads the settings.
        explained: turns errors that name their remedy into a message.
    """
    commands = typer.Typer(
        help="Notifications of alarms: Telegram, e-mail, Teams, Slack, webhooks.", no_args_is_help=True
    )

    @commands.command()
    def run(once: Annotated[bool, typer.Option("--once", help="End when what waits now is sent.")] = False) -> None:
        """Tell subscribers of alarms, until Ctrl-C; `pulselake dev` does so by itself."""
        from orchestration.notifying import send_once, stand
        from orchestration.oltp import open_store
        from orchestration.processes import stop_on_signals
        from orchestration.system import open_lake

        found = settings()
        if not once:
            stand(found, stop_on_signals(), lambda text: err.print(escape(text), highlight=False))
            return
        with explained():
            if not send_once(found, open_lake(found), open_store(found)):
                fail("Another process sends notifications already; nothing was done here.")

    @commands.command()
    def test(
        subscriber: Annotated[int, typer.Argument(metavar="SUBSCRIBER", help="An id in reference.subscribers.")],
    ) -> None:
        """Send a test to each channel of a subscriber; exits with 1 if one does not take it."""
        from orchestration.notifying import send_test
        from orchestration.system import open_lake

        found = settings()
        with explained():
            outcomes = send_test(found, open_lake(found), subscriber)
        for channel, problem in outcomes.items():
            told = f"[red]not sent: {escape(problem)}[/]" if problem else "sent"
            out.print(f"{escape(channel)}: {told}", highlight=False)
        raise typer.Exit(1 if any(outcomes.values()) else 0)

    @commands.command()
    def log(
        failed: Annotated[bool, typer.Option("--failed", help="Only those that failed or were given up.")] = False,
        limit: Annotated[int, typer.Option(min=1, help="How many, the newest last.")] = 30,
    ) -> None:
        """Show notifications and what became of them, and how many wait."""
        from datetime import UTC, datetime

        from orchestration.oltp import open_store
        from resources.outbox import Outbox

        found = settings()
        with explained():
            outbox = Outbox(open_store(found))
            rows, summary = outbox.log(limit, failed=failed), outbox.summary(datetime.now(UTC))
        _show(rows)
        counts = ", ".join(f"{count:,} {state}" for state, count in sorted(summary.counts.items())) or "none"
        oldest = summary.oldest_urgent_s
        urgent = "" if oldest is None else f"; the oldest urgent one has waited for {oldest:,.0f} s"
        out.print(f"Of the last 24 hours: {counts}. {summary.waiting:,} wait{urgent}.", highlight=False)

    @commands.command()
    def retry(
        ids: Annotated[
            list[int] | None,
            typer.Argument(
                help="Ids from `notify log --failed`; default: those that failed, or were given up since yesterday."
            ),
        ] = None,
    ) -> None:
        """Try again at once what failed or was given up, for another 24 hours."""
        from datetime import UTC, datetime

        from orchestration.oltp import open_store
        from resources.outbox import Outbox

        found = settings()
        with explained():
            count = Outbox(open_store(found)).retry(ids or [], datetime.now(UTC))
        out.print(
            f"{count:,} notifications are tried again by whoever sends: `pulselake notify run`, or `pulselake dev`."
        )

    return commands


def _show(rows: "pl.DataFrame") -> None:
    from assets.notifications.transitions import RANKS

    severities = {rank: name for name, rank in RANKS.items()}
    for row in rows.iter_rows(named=True):
        what = f"{row['kind']} {severities.get(row['severity_rank'], '')}".strip()
        why = f" ({row['reason'] or row['problem']})" if row["reason"] or row["problem"] else ""
        tries = f", {row['attempts']} attempts" if row["attempts"] > 1 else ""
        line = (
            f"{row['notification_id']:>6}  {row['created_at']:%m-%d %H:%M:%S}  {row['alarm_id'][:8]:8}  {what:17}  "
            f"{row['channel']}: {row['state'].replace('_', ' ')}{why}{tries}"
        )
        out.print(escape(line), highlight=False)
