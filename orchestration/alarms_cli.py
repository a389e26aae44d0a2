"""The commands about alarms: `pulselake alarms`, `explain`, `ack`, `snooze`, `comment` and `close`."""

import getpass
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestration.instants import INSTANT, instant, now
from orchestration.terminal import fail, out

if TYPE_CHECKING:
    from resources.settings import Settings

_SPAN = re.compile(r"([0-9]{1,4})(m|min|h)")
AlarmId = Annotated[str, typer.Argument(metavar="ALARM_ID", help="The id, or the beginning of it.")]
By = Annotated[str | None, typer.Option(metavar="NAME", help="Who does it; default: the user of this machine.")]
Note = Annotated[str | None, typer.Option(metavar="TEXT", help="What is said of it.")]


def add_alarm_commands(
    app: typer.Typer, settings: Callable[[], "Settings"], explained: Callable[[], AbstractContextManager[None]]
) -> None:
    """Adds the commands.

    Args:
        app: the command line.
        settings: reads the settings.
        explained: turns errors that name their remedy into a message.
    """

    @app.command()
    def alarms(
        is_open: Annotated[
            bool, typer.Option("--open", help="Only alarms that are open; the default without --since.")
        ] = False,
        patient: Annotated[int | None, typer.Option(help="Of one patient, or device, only.")] = None,
        since: Annotated[
            str | None, typer.Option(metavar="INSTANT", help=f"Also those of since then. {INSTANT}")
        ] = None,
    ) -> None:
        """List alarms as they stand: those that are open, or all since an instant."""
        from orchestration.alarm_screens import show_alarms
        from orchestration.alarms import alarms as listed
        from orchestration.system import open_lake

        begin = None if is_open or since is None else instant(since, "--since")
        with explained():
            rows = listed(open_lake(settings()), begin, patient)
        show_alarms(out, rows, now())

    @app.command()
    def explain(alarm_id: AlarmId) -> None:
        """Show what decided an alarm, with raw bodies, and whether the same is decided again."""
        from assets.stream.alarm_history import explained as told
        from assets.stream.alarm_history import found
        from orchestration.alarm_screens import show_explained
        from orchestration.alarms import contracts_with_alarms
        from orchestration.system import open_lake

        with explained():
            lake = open_lake(settings())
            contract, transitions = found(contracts_with_alarms(), lake, alarm_id)
            show_explained(out, contract, lake, told(contract, lake, transitions))

    @app.command()
    def ack(alarm_id: AlarmId, note: Note = None, by: By = None) -> None:
        """Acknowledge an alarm: somebody looks after it, so it is told of no more unless it becomes worse."""
        _act(alarm_id, "acknowledge", by, note=note)

    @app.command()
    def snooze(
        alarm_id: AlarmId,
        span: Annotated[str, typer.Argument(metavar="FOR", help="For how long, at most 8 h: 30m or 2h.")] = "1h",
        note: Note = None,
        by: By = None,
    ) -> None:
        """Be told of an alarm again later, unless it becomes worse."""
        match = _SPAN.fullmatch(span)
        if match is None:
            fail(f"'{span}' is no time; write minutes or hours, such as 30m or 2h.")
        unit = "hours" if match[2] == "h" else "minutes"
        _act(alarm_id, "snooze", by, note=note, span=timedelta(**{unit: int(match[1])}))

    @app.command()
    def comment(
        alarm_id: AlarmId, text: Annotated[str, typer.Argument(help="What is said of it.")], by: By = None
    ) -> None:
        """Say something about an alarm, which stays as it is."""
        _act(alarm_id, "comment", by, note=text)

    @app.command()
    def close(alarm_id: AlarmId, note: Note = None, by: By = None) -> None:
        """End an alarm; the next reading that breaks a rule raises another one."""
        _act(alarm_id, "close", by, note=note)

    def _act(alarm_id: str, action: str, by: str | None, *, span: timedelta | None = None, **said: Any) -> None:
        from assets.alarms.tables import MAX_SNOOZE
        from orchestration.alarms import act, what_happened

        if span is not None and not timedelta(0) < span <= MAX_SNOOZE:
            fail("An alarm can be snoozed for a minute to 8 hours; choose such a time.")
        began = now()
        until = None if span is None else began + span
        with explained():
            answer = act(settings(), alarm_id, action, by or getpass.getuser(), began, until=until, **said)
        out.print(what_happened(action, answer), highlight=False)
        raise typer.Exit(1 if answer.transition is None or answer.is_refused else 0)
