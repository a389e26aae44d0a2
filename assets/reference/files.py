"""From the text of a CSV file to rows, once all of it is right. Pure: the file is read elsewhere."""

import csv
from collections.abc import Iterator
from datetime import date
from io import StringIO
from typing import Any

import polars as pl

from assets.bitemporal import VERSION_COLUMNS
from assets.reference.cells import CellError
from assets.reference.tables import Reference

MAX_ERRORS = 20
"""How many errors are told at once."""


class ReferenceFileError(ValueError):
    """A file cannot be loaded; the message has a line for each error. Nothing was written."""


def rows_of(reference: Reference, text: str, today: date, file: str = "the file") -> pl.DataFrame:
    """The rows of a file, with the columns of the table but those of versions.

    Args:
        reference: the table that they are for.
        text: CSV with a header that names all columns, in any order; commas between cells, an empty cell for unknown.
        today: in UTC; nobody is born later.
        file: what errors call the file.

    Raises:
        ReferenceFileError: some of it is wrong.
    """
    checking = _Checking(reference, today)
    errors, rows = [], []
    for found in checking.lines(text):
        if isinstance(found, str):
            errors.append(found)
        else:
            rows.append(found)
    if errors:
        more = len(errors) - MAX_ERRORS
        shown = [*errors[:MAX_ERRORS], *([f"… and {more:,} more errors"] if more > 0 else [])]
        told = "\n".join(f"  {each}" for each in shown)
        raise ReferenceFileError(f"{file} is no file of {reference.table.name}; nothing was written.\n{told}")
    schema = {name: reference.table.schema[name] for name in reference.cells}
    return pl.DataFrame(rows, schema=schema, orient="row")


class _Checking:
    """Reads the lines of one file."""

    def __init__(self, reference: Reference, today: date) -> None:
        self._reference, self._today = reference, today
        self._lines_of_keys: dict[Any, int] = {}

    def lines(self, text: str) -> Iterator[tuple[Any, ...] | str]:
        """The values of each line in the order of the table's columns, or errors."""
        reader = csv.reader(StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
        line = 1
        try:
            header = [name.strip() for name in next(reader, [])]
            if errors := [*self._wrong_header(header)]:
                yield from errors
                return
            line = reader.line_num + 1
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    yield from self._line(line, header, cells)
                line = reader.line_num + 1
        except csv.Error as error:
            yield f"line {line}: it cannot be read as CSV ({error}); put cells with commas or quotes into double quotes"

    def _wrong_header(self, header: list[str]) -> Iterator[str]:
        wanted = ",".join(self._reference.cells)
        if len(header) == 1 and header[0].count(";") >= 1:
            yield f"line 1: the header has semicolons between the columns; put commas there, as in {wanted}"
            return
        for name in sorted({name for name in header if header.count(name) > 1}):
            yield f"line 1, column {_shown(name)}: the header names it more than once; name each column once"
        for name in header:
            if name in VERSION_COLUMNS:
                yield f"line 1, column {name}: the load sets it; leave it out, and give --valid-from or --by instead"
            elif name not in self._reference.cells:
                yield f"line 1, column {_shown(name)}: the table has no such column; leave it out, wanted are {wanted}"
        for name in self._reference.cells:
            if name not in header:
                yield f"line 1, column {name}: the header lacks it; add it, with empty cells where it is not known"

    def _line(self, line: int, header: list[str], cells: list[str]) -> Iterator[tuple[Any, ...] | str]:
        if len(cells) != len(header):
            yield (
                f"line {line}: it has {len(cells)} cells and the header {len(header)}; "
                "put cells with commas into double quotes, and leave empty ones empty"
            )
            return
        row: dict[str, Any] = {}
        errors = []
        for name, cell in zip(header, cells, strict=True):
            try:
                row[name] = self._value(name, cell.strip())
            except CellError as error:
                errors.append(_told(line, name, error))
        if not errors:
            errors = [_told(line, name, error) for name, error in self._reference.wrong(row, self._today)]
        keys = self._reference.keys
        if row.keys() >= {*keys}:
            first = self._lines_of_keys.setdefault(tuple(row[key] for key in keys), line)
            if first != line:
                same = ", ".join(keys)
                errors.append(f"line {line}, column {keys[-1]}: line {first} has the same {same}; keep one of the two")
        if errors:
            yield from errors
        else:
            yield tuple(row[name] for name in self._reference.cells)

    def _value(self, name: str, text: str) -> Any:
        if text:
            return self._reference.cells[name](text)
        if name in self._reference.required:
            raise CellError("an empty cell", "write a value, since every row needs one here")
        return None


def _told(line: int, column: str, error: CellError) -> str:
    return f"line {line}, column {column}: {error.found}; {error.remedy}"


def _shown(name: str) -> str:
    """A name of a column as far as it looks like one: a file without a header has data there."""
    return name if name.isidentifier() and name.islower() and len(name) <= 40 else "without a name"
