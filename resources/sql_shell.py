"""The prompt of `pulselake sql`: statements until `;`, and a few dot commands.

Each statement sees the newest version of every table. Nothing of what is typed is kept: a query may name a patient.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import TextIO

from resources.analytics import Analytics, QueryError
from resources.results import write

PROMPT, CONTINUED = "pulselake> ", "      ...> "
HELP = """\
A statement ends with ; and may take several lines. Tables are named <layer>.<table>.
.tables         what can be queried
.schema NAME    what one row of a table is, and its columns
.help           this text
.quit           leave (so does the end of the input)
"""
_LINE_COMMENT = re.compile(r"--[^\n]*")


def shell(analytics: Analytics, source: TextIO, out: TextIO) -> None:
    """Reads statements and dot commands and writes results and errors, until `.quit` or the end of the input.

    Args:
        analytics: what to query.
        source: a terminal, which gets prompts and line editing, or any text, which does not.
        out: where results and errors go.
    """
    statement = ""
    lines = _Lines(source)
    while (line := lines.next(CONTINUED if statement else PROMPT)) is not None:
        if line is _INTERRUPTED:
            statement = ""
        elif not statement and line.strip().startswith("."):
            if line.split()[0] in (".quit", ".exit"):
                return
            _command(analytics, line.split(), out)
        else:
            statement = f"{statement}\n{line}" if statement else line.strip()
            if _is_complete(statement):
                _run(analytics, statement, out)
                statement = ""
    if statement.strip():
        _run(analytics, statement, out)


_INTERRUPTED = "\0"


class _Lines:
    """Lines of a terminal, with history where readline exists, or of any text."""

    def __init__(self, source: TextIO) -> None:
        self._lines: Iterator[str] = iter(source)
        self._prompts = source is sys.stdin and source.isatty()
        if self._prompts:
            with suppress(ImportError):
                __import__("readline")

    def next(self, prompt: str) -> str | None:
        """The next line without its end; None at the end of the input."""
        try:
            return input(prompt) if self._prompts else next(self._lines).rstrip("\n")
        except (EOFError, StopIteration):
            return None
        except KeyboardInterrupt:
            return _INTERRUPTED


def _is_complete(statement: str) -> bool:
    code = _LINE_COMMENT.sub("", statement).rstrip()
    return code.endswith(";") and code.count("'") % 2 == 0


def _run(analytics: Analytics, statement: str, out: TextIO) -> None:
    try:
        with analytics.stream(statement) as result:
            write(result, "table", out)
    except QueryError as error:
        out.write(f"{error}\n")
    except KeyboardInterrupt:
        out.write("interrupted\n")
    out.flush()


def _command(analytics: Analytics, words: list[str], out: TextIO) -> None:
    match words:
        case [".tables"]:
            width = max((len(table.sql_name) for table in analytics.names()), default=0)
            for table in analytics.names():
                out.write(f"{table.sql_name:{width}}  {table.description}\n")
        case [".schema", name]:
            _describe(analytics, name.rstrip(";"), out)
        case [".help"]:
            out.write(HELP)
        case _:
            out.write(f"{' '.join(words)} is not known here; .help lists the commands.\n")
    out.flush()


def _describe(analytics: Analytics, name: str, out: TextIO) -> None:
    table = next((table for table in analytics.names() if table.sql_name == name), None)
    if table is None:
        out.write(f"There is no table {name}; .tables lists them.\n")
        return
    out.write(f"{table.description}\n")
    _run(analytics, f"SELECT column_name, column_type FROM (DESCRIBE {table.sql_name})", out)
