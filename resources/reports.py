"""The reports: one SQL statement per file, each of which can become a gold table.

A file starts with a comment: the first line says what the report answers, the following ones its grain and what it
reads. Results hold only types that Delta and Power BI know, whatever DuckDB would make of a sum. A report's table has
the columns that its statement had when it was built last. A report that cannot be built keeps no other from it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import dataframely as dy
import duckdb
import polars as pl
import pyarrow as pa
from deltalake.exceptions import DeltaError

from resources.analytics import Analytics, QueryError, UnreadableTableError
from resources.lake import ConcurrentWriteError, Lake, SchemaError
from resources.table import Table

_COLUMNS: Mapping[pl.DataType, dy.Column] = {
    pl.String(): dy.String(nullable=True),
    pl.Int64(): dy.Int64(nullable=True),
    pl.Float64(): dy.Float64(nullable=True, allow_nan=True, allow_inf=True),
    pl.Boolean(): dy.Bool(nullable=True),
    pl.Date(): dy.Date(nullable=True),
    pl.Datetime("us", "UTC"): dy.Datetime(nullable=True, time_unit="us", time_zone="UTC"),
}
_STATEMENT_ERRORS = (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException)
"""What DuckDB finds wrong before it reads a row; other messages may quote what stands in one."""


class ReportsError(RuntimeError):
    """Some reports could not be built; all others were."""

    def __init__(self, failures: Mapping[str, str]) -> None:
        reasons = " ".join(f"{name}: {reason.rstrip('. ')}." for name, reason in failures.items())
        super().__init__(
            f"{len(failures)} of the reports could not be built and keep the rows they had; the others are built. "
            f"{reasons} Correct sql/reports/NAME.sql; `pulselake sql` tries a statement out."
        )


@dataclass(frozen=True)
class Report:
    """One report.

    Attributes:
        name: the file's name without `.sql`.
        description: the comment at the file's beginning.
        sql: the whole file.
        defect: why it cannot be built, where the file itself is wrong.
    """

    name: str
    description: str
    sql: str
    defect: str = ""

    @property
    def table_name(self) -> str:
        """The table in the lake: ``gold/report_<name>``."""
        return f"gold/report_{self.name}"


def reports(folder: Path) -> list[Report]:
    """The reports of a folder, by name; those of wrong files have a `defect`."""
    return [_read(file) for file in sorted(folder.glob("*.sql"))]


def build_report(analytics: Analytics, report: Report) -> pl.DataFrame:
    """Runs a report.

    Raises:
        QueryError: the file is wrong, the statement failed, or a column has a type that the lake does not hold.
    """
    if report.defect:
        raise QueryError(report.defect)
    frame = analytics.query(report.sql)
    wrong = {name: str(type_) for name, type_ in frame.schema.items() if type_ not in _COLUMNS}
    if wrong:
        raise QueryError(
            f"{wrong} cannot be written to the lake; CAST them to VARCHAR, BIGINT, DOUBLE, BOOLEAN, DATE or "
            "TIMESTAMPTZ."
        )
    return frame


def report_table(report: Report, schema: pl.Schema) -> Table:
    """The table that holds a report with these columns."""
    return _table(report.table_name, report.description, schema)


def write_report(lake: Lake, tables: Sequence[Table], report: Report) -> int:
    """Runs a report and replaces its table, columns and rows, which it keeps small: nothing else knows of it.

    Returns:
        The number of rows written.

    Raises:
        QueryError: see `build_report`.
        ConcurrentWriteError: another build of the report was faster.
    """
    rows = build_report(Analytics(lake, tables), report)
    target = lake.table(report_table(report, rows.schema)).create()
    target.replace([rows], None, renew=True)
    target.maintain()
    return rows.height


def stored_reports(lake: Lake, reports: Iterable[Report]) -> list[Table]:
    """The tables of the reports that were built, with the columns that they have in the lake; no statement is run.

    One that cannot be opened is left out, as one that was never built is.
    """
    found = []
    for report in reports:
        try:
            delta = lake.table(_table(report.table_name, "", pl.Schema())).delta()
        except (DeltaError, OSError):
            continue
        schema = pl.DataFrame(pa.schema(delta.schema().to_arrow()).empty_table()).schema
        known = pl.Schema({name: type_ for name, type_ in schema.items() if type_ in _COLUMNS})
        found.append(_table(report.table_name, report.description, known))
    return found


def reason(error: Exception) -> str:
    """Why a report could not be built, without anything that may come from a row: logs and run records keep it."""
    cause = error.__cause__
    if isinstance(error, QueryError) and isinstance(cause, duckdb.Error):
        if isinstance(error, UnreadableTableError):
            return str(error)
        if not isinstance(cause, (*_STATEMENT_ERRORS, duckdb.OutOfMemoryException)):
            return f"the statement failed while it ran ({type(cause).__name__}); `pulselake sql` shows the message"
        return " ".join(str(error).split("\n\n")[0].split())
    if isinstance(error, (QueryError, ConcurrentWriteError, SchemaError, DeltaError, OSError)):
        return " ".join(str(error).split())
    return type(error).__name__


def _table(name: str, description: str, schema: pl.Schema) -> Table:
    members: dict[str, object] = {"__doc__": description, "__module__": __name__}
    columns = {column: _COLUMNS[type_] for column, type_ in schema.items()}
    return Table(name, type(name.replace("/", "_"), (dy.Schema,), members | columns))


def _read(file: Path) -> Report:
    name = re.sub(r"[^A-Za-z0-9_]", "_", file.stem)
    try:
        sql = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        return Report(name, "", "", f"{file.name} cannot be read as UTF-8 text ({type(error).__name__}).")
    comment: list[str] = []
    for line in sql.splitlines():
        if not line.startswith("--"):
            break
        comment.append(line.removeprefix("--").strip())
    defect = "" if comment else f"{file.name}: begin with a comment that says what the report answers."
    return Report(name, " ".join(comment), sql, defect)
