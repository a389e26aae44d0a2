"""The reports: one SQL statement per file, each of which can become a gold table.

A file starts with a comment: the first line says what the report answers, the following ones its grain and what it
reads. Two sentences in it say what is read when the report is built, so that its cost does not grow with the lake:

- ``Built by event_date.`` (or ``ingest_date``): each date is built from the rows of that date alone, and again only
  when they changed. The statement sees nothing but some dates at a time.
- ``Reads the newest 30 dates.``: by `event_date`.

``Published daily.`` has the newest rows written as a page too (`assets.page_assets`).

Results hold only types that Delta and Power BI know, whatever DuckDB would make of a sum. A report's table has the
columns that its statement had when it was built last. A report that cannot be built keeps no other from it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from time import monotonic

import dataframely as dy
import duckdb
import polars as pl
import pyarrow as pa
from deltalake.exceptions import DeltaError

from resources.analytics import Analytics, QueryError, TooSlowError, UnreadableTableError
from resources.audit import audited
from resources.changes import dates_of
from resources.lake import ConcurrentWriteError, Lake, LakeTable, SchemaError
from resources.scans import Dates
from resources.stale_dates import StaleDates, look
from resources.table import Table, View

MEMORY_LIMIT, TIMEOUT_S = "512MB", 300.0
"""Of one statement of a report."""
BUDGET_S = 120.0
"""How long dates of one report are built one after the other; those that are left are built the next time."""
MAX_DATES = 31
"""How many dates one statement builds at most."""

_QUICK_S = 2.0
_MAX_FAILURES = 3
_BUILT_BY = re.compile(r"\bBuilt by (event_date|ingest_date)\b")
_PUBLISHED = "Published daily."
_NEWEST = re.compile(r"\bReads the newest (\d+) dates\b")
_COMMENTS = re.compile(r"--[^\n]*")

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

    @property
    def built_by(self) -> str | None:
        """The date column by which it is built, if it is built by date."""
        found = _BUILT_BY.search(self.description)
        return found[1] if found else None

    @property
    def newest_dates(self) -> int | None:
        """How many event dates it reads, if not all."""
        found = _NEWEST.search(self.description)
        return int(found[1]) if found else None

    @property
    def is_published(self) -> bool:
        """Whether its newest rows are also written as a page, once a day."""
        return _PUBLISHED in self.description

    @property
    def question(self) -> str:
        """What it answers: the first line of the comment."""
        return self.description.split("?")[0] + "?"

    def sources(self, tables: Iterable[Table], views: Iterable[View]) -> list[Table]:
        """The tables that it names, and those of the views that it names."""
        of_views = (table for view in views if self._names(view.sql_name) for table in view.tables)
        found = [*(table for table in tables if self._names(table.sql_name)), *of_views]
        return sorted({table.name: table for table in found}.values(), key=lambda table: table.name)

    def _names(self, sql_name: str) -> bool:
        return re.search(rf"\b{sql_name}\b", self.sql) is not None


@dataclass(frozen=True)
class Written:
    """What a build did.

    Attributes:
        rows: of the report's table now.
        dates: how many dates were built, where it is built by date.
        dates_left: how many are left for the next build.
    """

    rows: int
    dates: int = 0
    dates_left: int = 0


def reports(folder: Path) -> list[Report]:
    """The reports of a folder, by name; those of wrong files have a `defect`."""
    return [_read(file) for file in sorted(folder.glob("*.sql"))]


def report_analytics(lake: Lake, tables: Sequence[Table], views: Sequence[View] = ()) -> Analytics:
    """What reports are built with: each of their statements has an end."""
    return Analytics(lake, tables, views, memory_limit=MEMORY_LIMIT, timeout_s=TIMEOUT_S)


def build_report(analytics: Analytics, report: Report) -> pl.DataFrame:
    """Runs a report.

    Raises:
        QueryError: the file is wrong, the statement failed, or a column has a type that the lake does not hold.
    """
    if report.defect:
        raise QueryError(report.defect)
    if report.newest_dates and analytics.dates is None:
        analytics = replace(analytics, dates=_newest(analytics, report, report.newest_dates))
    frame = analytics.query(report.sql)
    wrong = {name: str(type_) for name, type_ in frame.schema.items() if type_ not in _COLUMNS}
    if wrong:
        raise QueryError(
            f"{wrong} cannot be written to the lake; CAST them to VARCHAR, BIGINT, DOUBLE, BOOLEAN, DATE or "
            "TIMESTAMPTZ."
        )
    return frame


def _newest(analytics: Analytics, report: Report, count: int) -> Dates:
    tables = [
        analytics.lake.table(table)
        for table in report.sources(analytics.tables, analytics.views)
        if "event_date" in table.schema
    ]
    newest = max((max(dates_of(table, "event_date"), default=date.min) for table in tables), default=date.min)
    days = range(count if newest > date.min else 0)
    return Dates("event_date", frozenset(newest - timedelta(days=back) for back in days))


def report_table(report: Report, schema: pl.Schema) -> Table:
    """The table that holds a report with these columns."""
    return _table(report.table_name, report.description, schema, (report.built_by,) if report.built_by else ())


def write_report(analytics: Analytics, report: Report, budget_s: float = BUDGET_S) -> Written:
    """Builds a report's table, which it keeps small: nothing else knows of it.

    A report that is built by date replaces the dates that changed, from the newest back. Any other replaces all rows.

    Raises:
        QueryError: see `build_report`. Dates that were built before stay built.
        ConcurrentWriteError: another build of the report was faster.
    """
    with audited(analytics.lake, "report", report.table_name, source="the lake", explain=_explained) as entry:
        written = _write(analytics, report, budget_s)
        entry.rows_out = written.rows
        # Of one that is built by date often nothing is due.
        entry.is_idle = bool(report.built_by) and not written.dates
        return written


def _explained(error: BaseException) -> str:
    return reason(error) if isinstance(error, Exception) else type(error).__name__


def _write(analytics: Analytics, report: Report, budget_s: float) -> Written:
    if report.built_by and not report.defect:
        return _Dated(analytics, report, report.built_by).write(budget_s)
    rows = build_report(analytics, report)
    target = analytics.lake.table(report_table(report, rows.schema)).create()
    target.replace([rows], None, renew=True)
    target.maintain()
    return Written(rows.height)


class _Dated:
    """The build of a report by date."""

    def __init__(self, analytics: Analytics, report: Report, column: str) -> None:
        self._analytics, self._report, self._column = analytics, report, column
        self._target = analytics.lake.table(_stored(analytics.lake, report) or report_table(report, pl.Schema()))

    def write(self, budget_s: float) -> Written:
        statement = " ".join([self._column, *_COMMENTS.sub(" ", self._report.sql).split()])
        state = look(self._target, self._sources(), self._column, statement)
        due = len(state.days)
        if not self._target.exists():
            state = self._build(state, sorted(state.days)[-1:])
        elif not state.is_noted:
            state = self._note(state)
        state = self._build_all(state, monotonic() + budget_s)
        self._target.maintain()
        return Written(self._target.count(), due - len(state.days), len(state.days))

    def _sources(self) -> list[LakeTable]:
        tables = self._report.sources(self._analytics.tables, self._analytics.views)
        if lacking := [table.sql_name for table in tables if self._column not in table.schema]:
            raise QueryError(
                f"It is built by {self._column}, but {', '.join(lacking)} has no such column. Read other tables, or "
                f"take 'Built by {self._column}' out of the comment."
            )
        return [self._analytics.lake.table(table) for table in tables]

    def _build_all(self, state: StaleDates, until: float) -> StaleDates:
        size, failures, waiting = 1, list[QueryError](), sorted(state.days)
        while waiting:
            piece, began = waiting[-size:], monotonic()
            try:
                state = self._build(state, piece)
            except QueryError as error:
                if isinstance(error.__cause__, _STATEMENT_ERRORS) or len(failures) + 1 == _MAX_FAILURES:
                    raise
                if len(piece) > 1:
                    size = 1
                    continue
                # Older dates must not wait for one that fails again and again.
                failures.append(error)
            waiting = waiting[: -len(piece)]
            size = min(MAX_DATES, 2 * size) if monotonic() - began < _QUICK_S else max(1, size // 2)
            if monotonic() > until:
                break
        if failures:
            raise failures[0]
        return state

    def _build(self, state: StaleDates, days: Sequence[date]) -> StaleDates:
        rows = build_report(replace(self._analytics, dates=Dates(self._column, frozenset(days))), self._report)
        if self._column not in rows.columns or not set(rows[self._column]) <= {*days}:
            raise QueryError(
                f"It is built by {self._column}, so each row must have the {self._column} of the rows that it is made "
                f"of. Select and group by it, or take 'Built by {self._column}' out of the comment."
            )
        self._target = self._analytics.lake.table(report_table(self._report, rows.schema)).create()
        if not self._target.is_current():
            noted = state.after(())
            self._target.renew(transactions=noted, expected=state.expected(noted))
            state = state.committed(noted)
        done = state.after(days)
        listed = ", ".join(f"'{day.isoformat()}'" for day in days)
        predicate = f"{self._column} IN ({listed})" if days else None
        self._target.replace([rows], predicate, transactions=done, expected=state.expected(done))
        return state.committed(done, days)

    def _note(self, state: StaleDates) -> StaleDates:
        # First of all: the logs of the sources are kept for hours only, and a statement may fail for longer.
        noted = state.after(())
        empty = pl.DataFrame(schema=self._target.table.schema)
        self._target.append(empty, transactions=noted, expected=state.known)
        return state.committed(noted)


def stored_reports(lake: Lake, reports: Iterable[Report]) -> list[Table]:
    """The tables of the reports that were built, with the columns that they have in the lake; no statement is run.

    One that cannot be opened is left out, as one that was never built is.
    """
    return [table for report in reports if (table := _stored(lake, report))]


def _stored(lake: Lake, report: Report) -> Table | None:
    try:
        delta = lake.table(_table(report.table_name, "", pl.Schema())).delta()
    except (DeltaError, OSError):
        return None
    schema = pl.DataFrame(pa.schema(delta.schema().to_arrow()).empty_table()).schema
    known = pl.Schema({name: type_ for name, type_ in schema.items() if type_ in _COLUMNS})
    partitions = tuple(delta.metadata().partition_columns)
    return _table(report.table_name, report.description, known, partitions)


def reason(error: Exception) -> str:
    """Why a report could not be built, without anything that may come from a row: logs and run records keep it."""
    cause = error.__cause__
    if isinstance(error, QueryError) and isinstance(cause, duckdb.Error):
        if isinstance(error, UnreadableTableError | TooSlowError):
            return str(error)
        if not isinstance(cause, (*_STATEMENT_ERRORS, duckdb.OutOfMemoryException)):
            return f"the statement failed while it ran ({type(cause).__name__}); `pulselake sql` shows the message"
        return " ".join(str(error).split("\n\n")[0].split())
    if isinstance(error, (QueryError, ConcurrentWriteError, SchemaError, DeltaError, OSError)):
        return " ".join(str(error).split())
    return type(error).__name__


def _table(name: str, description: str, schema: pl.Schema, partition_by: tuple[str, ...] = ()) -> Table:
    members: dict[str, object] = {"__doc__": description, "__module__": __name__}
    columns = {column: _COLUMNS[type_] for column, type_ in schema.items()}
    return Table(name, type(name.replace("/", "_"), (dy.Schema,), members | columns), partition_by)


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
