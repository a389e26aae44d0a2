"""How the text of one cell of a file becomes a value. Pure.

A function takes the text of a cell that is not empty and raises `CellError` where it is not what it should be. The
message says which kind of value was found and what to write instead. It never repeats the text: it may be a patient's.
"""

import re
from collections.abc import Callable, Collection
from datetime import date
from functools import cache
from typing import Any
from zoneinfo import available_timezones

Cell = Callable[[str], Any]

SEPARATOR = ";"
"""What stands between the entries of a list. Lists are texts, which CSV, SQL and Power BI all can take apart."""
MAX_DURATION_S = 366 * 86_400
MAX_CHARACTERS = 1_000
_INT64 = range(-(2**63), 2**63)


class CellError(ValueError):
    """A cell is not what it should be.

    Attributes:
        found: which kind of value it is.
        remedy: what to write instead.
    """

    def __init__(self, found: str, remedy: str) -> None:
        super().__init__(f"{found}; {remedy}")
        self.found, self.remedy = found, remedy


def kind_of(text: str) -> str:
    """What a text looks like, without what it says."""
    if not text:
        return "an empty cell"
    if re.fullmatch(r"[+-]?\d+", text, re.ASCII):
        return "a whole number"
    if re.fullmatch(r"[+-]?\d*[.,]\d+", text, re.ASCII):
        return "a number with a fraction"
    if re.fullmatch(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}", text, re.ASCII):
        return "a date in another form, or one that does not exist"
    return f"a text of {len(text)} characters"


def whole_number(text: str) -> int:
    """A number without a fraction that a table can hold."""
    if re.fullmatch(r"[+-]?\d{1,19}", text, re.ASCII) and int(text) in _INT64:
        return int(text)
    raise CellError(kind_of(text), "write a whole number of at most 64 bits")


def not_negative(text: str) -> int:
    """A whole number from 0."""
    number = whole_number(text)
    if number < 0:
        raise CellError("a number below 0", "write a whole number from 0")
    return number


def duration_s(text: str) -> int:
    """A time in seconds, up to a year."""
    number = not_negative(text)
    if number > MAX_DURATION_S:
        raise CellError("a time of more than a year", f"write seconds, at most {MAX_DURATION_S:,}")
    return number


def words(text: str) -> str:
    """Any text of reasonable length in one line."""
    if len(text) > MAX_CHARACTERS:
        raise CellError(kind_of(text), f"write at most {MAX_CHARACTERS:,} characters")
    if not text.isprintable():
        raise CellError("a text with line breaks or other control characters", "leave these characters out")
    return text


def day(text: str) -> date:
    """A date as ISO 8601 writes it."""
    if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text, re.ASCII):
        try:
            return date.fromisoformat(text)
        except ValueError:
            pass
    raise CellError(kind_of(text), "write a date that exists as year-month-day, such as 1980-12-31")


def time_of_day(text: str) -> str:
    """Hours and minutes."""
    if re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", text, re.ASCII):
        return text
    raise CellError(kind_of(text), "write a time between 00:00 and 23:59, such as 22:30")


def time_zone(text: str) -> str:
    """The IANA name of a time zone."""
    if text in _time_zones():
        return text
    raise CellError("no known time zone", "write the IANA name of one, such as Europe/Lisbon")


def language(text: str) -> str:
    """A language tag, perhaps with a region."""
    if re.fullmatch(r"[a-z]{2,3}(-[A-Z]{2})?", text, re.ASCII):
        return text
    raise CellError(kind_of(text), "write a language such as en or pt-BR")


def one_of(allowed: Collection[str]) -> Cell:
    """One of a few words."""

    def cell(text: str) -> str:
        if text in allowed:
            return text
        raise CellError("none of the words that may stand here", f"write one of {', '.join(allowed)}")

    return cell


def list_of(entry: Cell) -> Cell:
    """Entries with semicolons between them; they are stored in order, each once."""

    def cell(text: str) -> str:
        entries = {part.strip() for part in text.split(SEPARATOR)} - {""}
        return SEPARATOR.join(sorted(str(entry(words(each))) for each in entries))

    return cell


def secret_name(text: str) -> str:
    """The name under which a secret is kept elsewhere; an address with a secret in it is refused."""
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,126}", text, re.ASCII):
        return text
    raise CellError(
        "no name of a secret",
        "write the name of an environment variable or of a secret in a key vault, never an address itself: letters, "
        "digits, _ and -",
    )


def scope(text: str) -> str:
    """Whom a subscription is about."""
    if re.fullmatch(r"patient:-?\d{1,19}|group:[^;:]+", text, re.ASCII | re.IGNORECASE) and text.isprintable():
        kind, _, who = text.partition(":")
        if kind.lower() == "patient":
            return f"patient:{whole_number(who)}"
        if who.strip():
            return f"group:{who.strip()}"
    raise CellError("no scope", "write patient:<id> or group:<name>")


@cache
def _time_zones() -> frozenset[str]:
    return frozenset(available_timezones())
