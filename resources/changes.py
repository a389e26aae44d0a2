"""What changed in a Delta table since a version of it, by date. Only logs and file statistics are read, no rows."""

from datetime import date, timedelta

import polars as pl
from deltalake.exceptions import DeltaError, TableNotFoundError

from resources.lake import LakeTable
from resources.maintenance import data_files


def changed_since(table: LakeTable, version: int | None, column: str) -> set[date] | None:
    """The dates whose rows may be other ones than at a version.

    Args:
        table: exists; if `column` is no partition column of it, its commits name the event dates that they touch.
        version: None for a version that is not known.
        column: a date column.

    Returns:
        None where the log does not reach back that far.
    """
    newest = table.version()
    if version is None or newest is None or version > newest:
        return None
    if column not in table.table.partition_by:
        touched = table.touched_since(version)
        return None if touched is None else set(touched)
    try:
        before, now = (_files(table, each, column) for each in (version, newest))
    except (DeltaError, OSError):
        return None
    return {day for _, day in before ^ now}


def dates_of(table: LakeTable, column: str) -> set[date]:
    """The dates of which a table may hold rows; of a column that is no partition some may have none."""
    if column in table.table.partition_by:
        return set(table.dates(column))
    try:
        files = data_files(table.delta())
    except TableNotFoundError:
        return set()
    least, most = f"min.{column}", f"max.{column}"
    if files.is_empty():
        return set()
    if not {least, most} <= {*files.columns} or files[least].null_count() or files[most].null_count():
        return set(table.distinct(column))
    spans = files.select(least, most).unique().iter_rows()
    return {first + timedelta(days=after) for first, last in spans for after in range((last - first).days + 1)}


def _files(table: LakeTable, version: int, column: str) -> set[tuple[str, date]]:
    files = data_files(table.delta(version))
    if files.is_empty():
        return set()
    return set(files.select("path", pl.col(f"partition.{column}")).iter_rows())
