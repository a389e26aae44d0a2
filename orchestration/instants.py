"""What commands read alike: instants and the text of files."""

from datetime import UTC, datetime
from pathlib import Path

import typer

from orchestration.terminal import fail

INSTANT = "An instant such as 2026-11-23T08:00:00Z, or a date; in UTC unless it says otherwise."


def now() -> datetime:
    """The time of day, UTC."""
    return datetime.now(UTC)


def instant(text: str, option: str) -> datetime:
    """The instant that an option names."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter("it is no instant. " + INSTANT, param_hint=option) from error
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def text_of(file: Path) -> str:
    """The text of a file, which must be UTF-8."""
    content = file.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        fail(f"{file.name}, line {line}: it is not UTF-8; nothing was written. Save the file as CSV in UTF-8.")
