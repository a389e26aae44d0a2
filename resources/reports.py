"""The reports: one SQL statement per file, each of which can become a gold table.

A file starts with a comment: the first line says what the report answers, the following ones its grain and what it
reads. Results hold only types that Delta and Power BI know, whatever DuckDB would make of a sum.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import dataframely as dy
import polars as pl

from resources.analytics import Analytics, QueryError
from resources.lake import Lake
from resources.table import Table

_COLUMNS = {
    pl.String(): dy.String(nullable=True),
    pl.Int64(): dy.Int64(nullable=True),
    pl.Float64(): dy.Float64(nullable=True, allow_nan=True, allow_inf=True),
    pl.Boolean(): dy.Bool(nullable=True),
    pl.Date(): dy.Date(nullable=True),
    pl.Datetime("us", "UTC"): dy.Datetime(nullable=True, time_unit="us", time_zone="UTC"),
}


@dataclass(frozen=True)
class Report:
    """One report.

    Attributes:
        name: the file's name without `.sql`.
        description: the comment at the file's beginning.
        sql: the whole file.
    """

    name: str
    description: str
    sql: str


def reports(folder: Path) -> list[Report]:
    """The reports of a folder, by name.

    Raises:
        ValueError: a file does not begin with a comment.
    """
    return [_read(file) for file in sorted(folder.glob("*.sql"))]


def build_report(analytics: Analytics, report: Report) -> pl.DataFrame:
    """Runs a report; the columns are those of `report_table`.

    Raises:
        QueryError: the statement failed, or a column has a type that the lake does not hold.
    """
    frame = analytics.query(report.sql)
    _check(report, frame.schema)
    return frame


def report_table(analytics: Analytics, report: Report) -> Table:
    """The table `gold/report_<name>` that can hold a report; no row is read to find its columns.

    Raises:
        QueryError: the statement is wrong, or a column has a type that the lake does not hold.
    """
    with analytics.stream(f"FROM (\n{report.sql.rstrip().rstrip(';')}\n) LIMIT 0") as result:
        schema = result.schema
    _check(report, schema)
    members: dict[str, object] = {"__doc__": report.description, "__module__": __name__}
    columns = {name: _COLUMNS[type_] for name, type_ in schema.items()}
    rows = type(f"Report_{report.name}", (dy.Schema,), members | columns)
    return Table(f"gold/report_{report.name}", rows)


def write_report(lake: Lake, tables: Sequence[Table], report: Report) -> int:
    """Runs a report and replaces the rows of its table, which it keeps small: nothing else knows of it.

    Returns:
        The number of rows written.
    """
    analytics = Analytics(lake, tables)
    target = lake.table(report_table(analytics, report)).ensure()
    rows = target.replace([build_report(analytics, report)], None)
    target.maintain()
    return rows


def _read(file: Path) -> Report:
    sql = file.read_text(encoding="utf-8")
    comment: list[str] = []
    for line in sql.splitlines():
        if not line.startswith("--"):
            break
        comment.append(line.removeprefix("--").strip())
    if not comment:
        raise ValueError(f"{file}: begin with a comment that says what the report answers.")
    return Report(file.stem, " ".join(comment), sql)


def _check(report: Report, schema: pl.Schema) -> None:
    wrong = {name: str(type_) for name, type_ in schema.items() if type_ not in _COLUMNS}
    if wrong:
        raise QueryError(
            f"Report {report.name}: {wrong} cannot be written to the lake; CAST them to VARCHAR, BIGINT, DOUBLE, "
            "BOOLEAN, DATE or TIMESTAMPTZ."
        )
