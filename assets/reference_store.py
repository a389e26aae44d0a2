"""Reads and writes the tables of reference data. What a version is stands in `assets.bitemporal`."""

from collections.abc import Callable
from datetime import datetime, timedelta

import polars as pl

from assets.bitemporal import KNOWN_AT, holding
from assets.reference.changes import Changes, changes
from assets.reference.tables import Reference
from resources.lake import ConcurrentWriteError, Lake

CLOCK_TOLERANCE = timedelta(minutes=10)
"""How far the clock may be behind the newest version; versions get later instants all the same."""
_ATTEMPTS = 10
_MAINTAINED_EVERY = 10
"""How many loads there are between two times at which a table's files are made fewer."""


class ReferenceClockError(RuntimeError):
    """The clock is behind the newest version; nothing was written."""


def put(
    lake: Lake,
    reference: Reference,
    rows: pl.DataFrame,
    *,
    valid_from: datetime,
    clock: Callable[[], datetime],
    changed_by: str | None = None,
    replaces: bool = False,
) -> Changes:
    """Adds versions by which rows differ from what holds, in one commit; none where nothing differs.

    Several processes may do so at once: who is slower compares again.

    Args:
        lake: where the table is.
        reference: the table.
        rows: one for each thing, with the columns of a file.
        valid_from: the instant from which they hold.
        clock: the time of day, UTC.
        changed_by: who adds them.
        replaces: whether what holds at `valid_from` and is not among the rows ends then.

    Returns:
        What was added.

    Raises:
        ReferenceClockError: the clock is behind the newest version by more than `CLOCK_TOLERANCE`.
        ConcurrentWriteError: others were faster again and again; nothing was written.
        SchemaError: the table does not fit; nothing was written.
    """
    table, loads = lake.table(reference.table).ensure(), f"{reference.table.name}/loads"
    for attempt in range(1, _ATTEMPTS + 1):
        # The log comes first: if another load comes between the two, the commit is refused.
        log = table.transactions([loads])
        versions = table.scan().collect()
        known_at = _known_at(reference, versions, clock())
        found = changes(
            reference,
            versions,
            rows,
            valid_from=valid_from,
            known_at=known_at,
            changed_by=changed_by,
            replaces=replaces,
        )
        if found.rows.is_empty():
            break
        count = log.get(loads, 0) + 1
        try:
            table.append(found.rows, transactions={loads: count}, expected=log)
        except ConcurrentWriteError:
            if attempt == _ATTEMPTS:
                raise
            continue
        if count % _MAINTAINED_EVERY == 0:
            table.maintain([])
        break
    return found


def held(lake: Lake, reference: Reference, at: datetime) -> pl.DataFrame:
    """What holds at an instant by all that is known, ordered by the key."""
    return holding(lake.table(reference.table).scan().collect(), reference.key, at)


def is_empty(lake: Lake, reference: Reference) -> bool:
    """Whether nothing was ever loaded."""
    return lake.table(reference.table).count() == 0


def _known_at(reference: Reference, versions: pl.DataFrame, now: datetime) -> datetime:
    """Later than every version: knowledge only grows, whatever the clocks of those who load do."""
    newest = versions[KNOWN_AT].max()
    if not isinstance(newest, datetime):
        return now
    if newest > now + CLOCK_TOLERANCE:
        raise ReferenceClockError(
            f"{reference.table.name}: the clock of this machine says {now:%Y-%m-%d %H:%M:%S} UTC, but the newest "
            f"version was loaded at {newest:%Y-%m-%d %H:%M:%S} UTC. Nothing was written. If the clock is wrong, set "
            "it. If the other machine's was ahead, load again once that time has come."
        )
    return max(now, newest + timedelta(microseconds=1))
