"""The result of a query, and how it is written: as a table for eyes, as CSV, as JSON.

A result is consumed frame by frame, so the text of CSV and JSON is never held as a whole.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import StringIO
from typing import Any, Literal, TextIO

import polars as pl
from polars import selectors as cs
from rich.cells import cell_len, set_cell_size

Format = Literal["table", "csv", "json"]

TABLE_ROWS = 1_000
CELL_WIDTH = 60
PLAN = ["explain_key", "explain_value"]
"""The columns of EXPLAIN, whose value is a drawing."""

FORMULA = r"^[=+\-@\t\r]"
"""How a cell begins that spreadsheets take for a formula."""
NUMBER = r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?$"

YEARS_1_TO_9999 = {
    "ms": (-62_135_596_800_000, 253_402_300_799_999),
    "us": (-62_135_596_800_000_000, 253_402_300_799_999_999),
}
DAYS_OF_THEM = (-719_162, 2_932_896)


@dataclass(frozen=True)
class Result:
    """Rows that come in frames and can be consumed once.

    Attributes:
        schema: column names and types, also where there are no rows.
        frames: the rows.
    """

    schema: pl.Schema
    frames: Iterator[pl.DataFrame]

    @classmethod
    def of(cls, frame: pl.DataFrame) -> "Result":
        """A frame as a result."""
        return cls(frame.schema, iter([frame]))

    def collect(self) -> pl.DataFrame:
        """All rows that are left."""
        return pl.concat([pl.DataFrame(schema=self.schema), *self.frames])


def render(result: Result | pl.DataFrame, format: Format, *, raw: bool = False) -> str:
    """The text that `write` writes."""
    out = StringIO()
    write(result, format, out, raw=raw)
    return out.getvalue()


def write(result: Result | pl.DataFrame, format: Format, out: TextIO, *, raw: bool = False) -> None:
    """Writes a result.

    Instants are ISO 8601 with `Z`, dates ISO 8601, binary values base64; NaN and infinity are null in csv and json.

    Args:
        result: is consumed; by `table` only as far as it is shown.
        format: `table`, aligned text of the first 1,000 rows with control characters escaped; `csv` quoted as in RFC
            4180, with lines that end in LF (a null is empty, an empty text is ``""``); `json`, an array of objects,
            one a line.
        out: where to; a file should be opened with ``newline=""``.
        raw: leave texts in csv as they are. Otherwise a text that a spreadsheet would run as a formula, and that is no
            number, gets an apostrophe in front; so does such a column name.
    """
    rows = Result.of(result) if isinstance(result, pl.DataFrame) else result
    writers: dict[Format, Callable[[], None]] = {
        "table": lambda: _table(rows, out),
        "csv": lambda: _csv(rows, out, raw=raw),
        "json": lambda: _json(rows, out),
    }
    writers[format]()


def _csv(result: Result, out: TextIO, *, raw: bool) -> None:
    # The names are a row of texts: as a header they would have to differ from each other.
    names = pl.DataFrame([[name] for name in result.schema], schema=[str(place) for place in range(len(result.schema))])
    _write_csv(names, out, raw=raw)
    for frame in result.frames:
        _write_csv(_readable(frame, cs.float() | cs.temporal() | cs.binary()), out, raw=raw)


def _write_csv(texts: pl.DataFrame, out: TextIO, *, raw: bool) -> None:
    shown = texts if raw else texts.with_columns(_without_formula(cs.string()))
    out.write(shown.write_csv(include_header=False))


def _without_formula(text: pl.Expr) -> pl.Expr:
    is_formula = text.str.contains(FORMULA) & ~text.str.contains(NUMBER)
    return pl.when(is_formula).then("'" + text).otherwise(text).name.keep()


def _json(result: Result, out: TextIO) -> None:
    separator = "[\n"
    for frame in result.frames:
        if frame.height:
            numbers = frame.with_columns(cs.decimal().cast(pl.Float64))
            lines = _readable(numbers, cs.temporal() | cs.binary() | cs.float()).write_ndjson()
            out.write(separator + lines.removesuffix("\n").replace("\n", ",\n"))
            separator = ",\n"
    out.write("[]\n" if separator == "[\n" else "\n]\n")


def _table(result: Result, out: TextIO) -> None:
    first, more = _first(result, TABLE_ROWS)
    if first.columns == PLAN:
        out.writelines(f"{plan.rstrip()}\n" for plan in first[PLAN[1]])
        return
    columns = [
        [name, *map(_cell, _readable(first.select(name), cs.temporal() | cs.binary())[name])] for name in first.columns
    ]
    columns = [[_clean(cell) for cell in column] for column in columns]
    widths = [max(map(cell_len, column)) for column in columns]
    rights = [type_.is_numeric() for type_ in first.schema.values()]
    lines = ["  ".join(map(_aligned, cells, widths, rights)).rstrip() for cells in zip(*columns, strict=True)]
    rule = "  ".join("-" * width for width in widths)
    rows = f"{first.height:,} row{'' if first.height == 1 else 's'}"
    note = f"(the first {rows}; there are more: csv and json hold all)" if more else f"({rows})"
    out.write("\n".join([*lines[:1], rule, *lines[1:], note, ""]))


def _first(result: Result, rows: int) -> tuple[pl.DataFrame, bool]:
    shown = pl.DataFrame(schema=result.schema)
    for frame in result.frames:
        shown = pl.concat([shown, frame.head(rows + 1 - shown.height)])
        if shown.height > rows:
            return shown.head(rows), True
    return shown, False


def _cell(value: Any) -> str:
    if value is None:
        return "NULL"
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _clean(text: str) -> str:
    # What a device sent must not drive the terminal of whoever looks at it.
    printable = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[: CELL_WIDTH * 2])
    return printable if cell_len(printable) <= CELL_WIDTH else set_cell_size(printable, CELL_WIDTH - 1) + "…"


def _aligned(cell: str, width: int, right: bool) -> str:
    gap = " " * (width - cell_len(cell))
    return gap + cell if right else cell + gap


def _readable(frame: pl.DataFrame, columns: cs.Selector) -> pl.DataFrame:
    schema = frame.select(columns).schema
    return frame.with_columns(_as_text(name, type_) for name, type_ in schema.items())


def _as_text(name: str, type_: pl.DataType) -> pl.Expr:
    column = pl.col(name)
    match type_:
        case pl.Datetime():
            zone = "Z" if type_.time_zone else ""
            instant = column.dt.convert_time_zone("UTC") if type_.time_zone else column
            return _within(instant, YEARS_1_TO_9999.get(type_.time_unit)).dt.strftime(f"%Y-%m-%dT%H:%M:%S%.f{zone}")
        case pl.Date():
            return _within(column, DAYS_OF_THEM).dt.strftime("%Y-%m-%d")
        case pl.Time():
            return column.dt.strftime("%H:%M:%S%.f")
        case pl.Binary():
            return column.bin.encode("base64")
        case pl.Float32() | pl.Float64():
            return pl.when(column.is_finite()).then(column)
    return column


def _within(column: pl.Expr, bounds: tuple[int, int] | None) -> pl.Expr:
    # DuckDB's infinite dates are beyond any calendar: formatting one panics.
    return column if bounds is None else pl.when(column.to_physical().is_between(*bounds)).then(column)
