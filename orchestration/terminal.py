"""Where commands print: results to `out`, progress and failures to `err`."""

from typing import TYPE_CHECKING, NoReturn

import typer
from rich.console import Console
from rich.control import Control
from rich.markup import escape
from rich.segment import ControlType

if TYPE_CHECKING:
    from generator.publisher import Progress, Published

out, err = Console(soft_wrap=True), Console(stderr=True, soft_wrap=True)


def fail(message: str) -> NoReturn:
    """Ends the command with a message."""
    err.print(f"[red]{escape(message)}[/]", highlight=False)
    raise typer.Exit(1)


def progress(text: str) -> None:
    """Shows what goes on, on a terminal in one line that the next replaces; an empty text clears it."""
    if err.is_terminal:
        err.control(Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 0)))
        err.print(text, end="", highlight=False, markup=False)
    elif text:
        err.print(text, highlight=False, markup=False)


def counted(count: int, name: str) -> str:
    """A number of things of a name, such as ``1 event`` and ``1,200 events``."""
    return f"{count:,} {name}" if count == 1 else f"{count:,} {name}s"


def sent(done: "Progress") -> None:
    """Shows how far a generator has come."""
    progress(f"{done.events:,} events, {done.readings:,} readings sent, {done.events / done.seconds:,.0f}/s")


def report(published: "Published") -> None:
    """Says what a generator has sent."""
    progress("")
    labels = ", ".join(f"{label} {count:,}" for label, count in sorted(published.by_label.items()))
    out.print(
        f"Sent {counted(published.events, 'event')} with {counted(published.readings, 'reading')} in "
        f"{published.seconds:.1f} s: {labels}",
        highlight=False,
    )
