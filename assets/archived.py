"""What retention did with the lake's rows, in a table of the lake, and what follows for those who derive rows.

An ingest date is *archived* for a table when retention removed its rows and nothing has put rows there since. An event
date is *closed* when silver lacks rows of it for that reason: gold keeps what it has of it, since it could only be made
anew in part. How rows are archived and removed is in `assets.retention`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import dataframely as dy
import polars as pl

from assets.stream.contract import utc
from resources.lake import Lake, LakeTable
from resources.schema import difference
from resources.table import Table

PREPARED, DELETED, RESTORED = "prepared", "deleted", "restored"
_RECORDS = "records"


class RetentionRows(dy.Schema):
    """One step of what retention did with one ingest date of one table. Key: number.

    `number` is their order. `step` is ``prepared`` (the rows are counted and, unless `archive` is null, archived and
    read back), ``deleted`` or ``restored``. `readings` counts those in the events of bronze. `checksum` is over all
    columns of all rows, in any order. `manifest` is a path below `archive`. `event_dates` of silver and alerts, as
    ``2026-11-22,2026-11-23``, are those of the rows.
    """

    number = dy.Int64(nullable=False)
    table_name = dy.String(nullable=False)
    ingest_date = dy.Date(nullable=False)
    step = dy.String(nullable=False)
    at = utc()
    delta_id = dy.String(nullable=False)
    delta_version = dy.Int64(nullable=False)
    rows = dy.Int64(nullable=False)
    readings = dy.Int64(nullable=True)
    checksum = dy.String(nullable=False)
    archive = dy.String(nullable=True)
    manifest = dy.String(nullable=True)
    manifest_sha256 = dy.String(nullable=True)
    event_dates = dy.String(nullable=True)


RETENTION = Table("audit/retention", RetentionRows)


class ArchivedError(RuntimeError):
    """Rows that are needed were archived; nothing was written."""


@dataclass(frozen=True)
class Record:
    """One row of `RetentionRows`; it gets its number when it is added."""

    table_name: str
    ingest_date: date
    step: str
    at: datetime
    delta_id: str
    delta_version: int
    rows: int
    checksum: str
    readings: int | None = None
    archive: str | None = None
    manifest: str | None = None
    manifest_sha256: str | None = None
    event_dates: tuple[date, ...] | None = None
    number: int = 0

    @property
    def what(self) -> tuple[str, date, str, int]:
        """The rows that the step is about."""
        return self.table_name, self.ingest_date, self.delta_id, self.delta_version


def records(lake: Lake, table_name: str | None = None) -> list[Record]:
    """All records of a table, or of all tables, in their order."""
    rows = lake.table(RETENTION).scan()
    if table_name is not None:
        rows = rows.filter(pl.col("table_name") == table_name)
    found = rows.sort("number").collect().iter_rows(named=True)
    return [Record(**row | {"event_dates": _dates(row["event_dates"])}) for row in found]


def add_record(lake: Lake, record: Record) -> None:
    """Appends a record.

    Raises:
        ConcurrentWriteError: another run added one at this moment; nothing was written.
    """
    table = lake.table(RETENTION).ensure()
    known = table.transactions([_RECORDS])
    number = known.get(_RECORDS, 0) + 1
    dates = None if record.event_dates is None else ",".join(day.isoformat() for day in record.event_dates)
    frame = pl.DataFrame([vars(record) | {"number": number, "event_dates": dates}], schema=RETENTION.schema)
    table.append(frame, transactions={_RECORDS: number}, expected=known)


def archived(lake: Lake, table: LakeTable, version: int | None = None) -> dict[date, Record]:
    """The archived ingest dates of a table at its newest or the given version, each with what is known of its rows."""
    present = {*table.dates("ingest_date", version)}
    # Rows are removed after their record was written, so the records are read after the table.
    found = (each for each in records(lake, table.name) if each.ingest_date not in present)
    return {each.ingest_date: each for each in found if each.step != RESTORED}


def closed_event_dates(lake: Lake, source: Table, days_back: int, version: int | None = None) -> set[date]:
    """The event dates that cannot be made anew from silver or alerts as they stand at the newest or the given version.

    Args:
        lake: the lake.
        source: silver or alerts of a stream.
        days_back: how many earlier days of it a date needs; the same number of days after a date is closed too.
        version: of the source.
    """
    dates = {day for each in archived(lake, lake.table(source), version).values() for day in each.event_dates or ()}
    return {day + timedelta(days=ahead) for day in dates for ahead in range(days_back + 1)}


def refuse_closed(table: str, closed: Iterable[date], dates: Iterable[date]) -> None:
    """Refuses to make closed event dates anew.

    Raises:
        ArchivedError: some of the dates are closed; the message names them and the remedy.
    """
    if refused := sorted({*closed} & {*dates}):
        raise ArchivedError(
            f"{table}: {_span('event date', refused)} cannot be made anew, because silver rows of them were archived. "
            "The rows of gold stay as they are; nothing was written. Choose other dates, or put silver back with "
            "`pulselake archive restore`."
        )


def refuse_renewal(gold: LakeTable, closed: set[date]) -> None:
    """Refuses new columns of a gold table that its rows of closed dates cannot have: they would go and never come back.

    Raises:
        ArchivedError: there are such rows.
    """
    found = difference(gold.delta(), gold.table)
    if not found.only_adds and (kept := sorted(closed & {*gold.dates("event_date")})):
        raise ArchivedError(
            f"{gold.name}: {found}; the rows of {_span('event date', kept)} cannot be made anew, because silver rows "
            "of them were archived. Nothing was written. Only add nullable columns, give the new columns a table of "
            "their own, or put silver back with `pulselake archive restore`."
        )


def refuse_archived(lake: Lake, table: LakeTable, needed: Mapping[date, str]) -> None:
    """Refuses what needs rows of archived dates.

    Args:
        table: whose rows are needed.
        needed: ingest dates, each with what it is needed for.

    Raises:
        ArchivedError: some of them are archived; the message names them and the remedy.
    """
    if missing := sorted(needed.keys() & (gone := archived(lake, table)).keys()):
        first = gone[missing[0]]
        where = f"in {first.archive}/{first.manifest}" if first.manifest else "nowhere: they were not archived"
        raise ArchivedError(
            f"{table.name}: the rows of {_span('ingest date', missing)} were removed by retention, and "
            f"{needed[missing[0]]}. Nothing was written. Those of {missing[0]} are {where}. Put each date back with "
            f"`pulselake archive restore {table.name} {missing[0]}`, then try again."
        )


def _span(what: str, days: list[date]) -> str:
    if len(days) == 1:
        return f"{what} {days[0]}"
    return f"{len(days)} {what}s from {days[0]} to {days[-1]}"


def _dates(text: str | None) -> tuple[date, ...] | None:
    return None if text is None else tuple(date.fromisoformat(day) for day in text.split(",") if day)
