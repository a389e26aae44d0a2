"""The audit of loads: a row for each piece of work that brings rows into tables, also for one that failed.

Whoever does such work does it within `audited`, which notes who, what, when and how it ended. Micro-batches of sessions
have no rows here: their offsets are their record. Rows are added and never changed, which Delta refuses too.
"""

import getpass
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import uuid4

import dataframely as dy
import polars as pl

from resources.lake import Lake
from resources.logs import tell
from resources.table import Table

_log = logging.getLogger(__name__)

SUCCEEDED, FAILED = "succeeded", "failed"
MAINTAINED_EVERY = 100
"""How many commits there are between two times at which the files of the audit are made fewer."""
Row = dict[str, object]
_OWN = ("assets.", "orchestration.", "resources.")


def _utc() -> dy.Datetime:
    return dy.Datetime(nullable=False, time_unit="us", time_zone="UTC")


class AuditedLoads(dy.Schema):
    """One piece of work that brought rows into a table, or should have. Key: load_id.

    `kind` is what was done, `done_by` a user or a run of Dagster, `source` where the rows came from. Of `rows_in`,
    `rows_out` are in the table and `rows_rejected` are not. `checksum` is over the new rows, in any order (see
    docs/operations.md). `version_before` and `version_after` are Delta's of the table. `outcome` is ``succeeded`` or
    ``failed``, the latter with its `reason`. Null is what is not known, or not asked of this kind.
    """

    load_id = dy.String(primary_key=True)
    kind = dy.String(nullable=False)
    table_name = dy.String(nullable=False)
    done_by = dy.String(nullable=False)
    source = dy.String(nullable=True)
    began_at = _utc()
    ended_at = _utc()
    rows_in = dy.Int64(nullable=True)
    rows_out = dy.Int64(nullable=True)
    rows_rejected = dy.Int64(nullable=True)
    checksum = dy.String(nullable=True)
    version_before = dy.Int64(nullable=True)
    version_after = dy.Int64(nullable=True)
    outcome = dy.String(nullable=False)
    reason = dy.String(nullable=True)


AUDIT = Table(
    "audit/loads",
    AuditedLoads,
    remedy="Set it aside as the record that it is; what comes now gets into a new one.",
    is_append_only=True,
)


@dataclass
class Entry:
    """What is to be said of a piece of work, as far as it is known; see `AuditedLoads`."""

    source: str | None = None
    rows_in: int | None = None
    rows_out: int | None = None
    rows_rejected: int | None = None
    checksum: str | None = None
    failure: str = ""
    """Why it failed, where that is no exception."""
    is_idle: bool = False
    """Whether there was nothing to do; such a row is left out."""


_gathered: ContextVar[list[Row] | None] = ContextVar("gathered", default=None)


@contextmanager
def audited(
    lake: Lake,
    kind: str,
    table_name: str,
    *,
    source: str | None = None,
    done_by: str | None = None,
    explain: Callable[[BaseException], str] | None = None,
) -> Iterator[Entry]:
    """Notes how the work of the block ends. If that cannot be written, a log says so and the work counts all the same.

    Args:
        lake: where the audit is.
        kind: what is done.
        table_name: the table that gets the rows.
        source: where they come from.
        done_by: who does it; by default the run of Dagster or the user of the process.
        explain: says why it failed, without anything that may come from a row.
    """
    entry, began, load_id = Entry(source), datetime.now(UTC), uuid4().hex
    before, who = _version(lake, table_name), done_by or author()
    reason: str | None = None
    try:
        yield entry
        reason = entry.failure or None
    except BaseException as error:
        reason = (explain or explained)(error)
        raise
    finally:
        if reason is not None or not entry.is_idle:
            row: Row = {
                "load_id": load_id,
                "kind": kind,
                "table_name": table_name,
                "done_by": who,
                "source": entry.source,
                "began_at": began,
                "ended_at": datetime.now(UTC),
                "rows_in": entry.rows_in,
                "rows_out": entry.rows_out,
                "rows_rejected": entry.rows_rejected,
                "checksum": entry.checksum,
                "version_before": before,
                "version_after": _version(lake, table_name),
                "outcome": SUCCEEDED if reason is None else FAILED,
                "reason": reason,
            }
            if (gathered := _gathered.get()) is not None:
                gathered.append(row)
            else:
                _write(lake, [row])


@contextmanager
def in_one_commit(lake: Lake) -> Iterator[None]:
    """Within the block rows of the audit are gathered; they are written at its end, however it ends."""
    rows = list[Row]()
    token = _gathered.set(rows)
    try:
        yield
    finally:
        _gathered.reset(token)
        if rows:
            _write(lake, rows)


def author() -> str:
    """Who does what is done now: a run of Dagster, or the user of the process."""
    if dagster := sys.modules.get("dagster"):
        with suppress(Exception):
            context = dagster.OpExecutionContext.get()
            return f"run {context.run_id} ({context.job_name})"
    try:
        return f"user {getpass.getuser()}"
    except (KeyError, OSError):
        return f"user {os.getuid()}"


def explained(error: BaseException) -> str:
    """Why something failed: what our own errors say, of others the type, for their texts may quote a row."""
    is_told = type(error).__module__.startswith(_OWN) or isinstance(error, OSError)
    return " ".join(str(error).split()) if is_told else type(error).__name__


def _version(lake: Lake, table_name: str) -> int | None:
    with suppress(Exception):
        return lake.table(Table(table_name, dy.Schema)).version()
    return None


def _write(lake: Lake, rows: list[Row]) -> None:
    try:
        table = lake.table(AUDIT).ensure()
        table.append(pl.DataFrame(rows, schema=AUDIT.schema), transactions={})
    except Exception as error:
        kinds = ", ".join(sorted({f"{row['kind']} of {row['table_name']}" for row in rows}))
        tell(_log, "the audit was not written", logging.ERROR, what=kinds, failure=type(error).__name__)
        return
    with suppress(Exception):
        # What is written is on record, however many files it has.
        if (table.version() or 0) % MAINTAINED_EVERY == 0:
            table.maintain([])
