"""The rows of a CSV export, whatever separates its cells. Pure."""

import csv
from collections.abc import Iterator, Sequence
from io import StringIO

SEPARATORS = ",;\t"
MAX_CELL_CHARACTERS = 131_072

Row = Sequence[str]


def rows_of(text: str, separator: str) -> list[list[str]]:
    """All rows, also empty ones; a row that stands in quotes as a whole is taken apart.

    A quote that is not closed, or what else the reader refuses, ends the rows: what follows is one row of one cell.
    """
    return list(_rows(text.removeprefix("\ufeff").replace("\0", ""), separator))


def _rows(text: str, separator: str) -> Iterator[list[str]]:
    reader = csv.reader(StringIO(text, newline=""), delimiter=separator)
    try:
        for cells in reader:
            if len(cells) == 1 and cells[0].count(separator) >= 3:
                yield from csv.reader([cells[0]], delimiter=separator)
            else:
                yield cells
    except csv.Error:
        yield ["unreadable"]


def separator_of(line: str) -> str:
    """The separator that a line has most of."""
    return max(SEPARATORS, key=line.count)


def cell(row: Row, place: int | None) -> str:
    """A cell without white space around it; empty where the row ends before."""
    return row[place].strip() if place is not None and 0 <= place < len(row) else ""


def is_empty(row: Row) -> bool:
    """Whether a row has no text."""
    return not any(map(str.strip, row))
