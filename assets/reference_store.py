"""Reads and writes the tables of reference data. What a version is stands in `assets.bitemporal`."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import polars as pl

from assets.bitemporal import CHANGED_BY, KNOWN_AT, holding, standing
from assets.reference.cells import SEPARATOR
from assets.reference.changes import Changes, changes
from assets.reference.rules import RULES, RuleChanges, RuleSet, Wanted
from assets.reference.tables import Reference
from assets.stream.contract import Contract
from assets.stream.rulebook import THING
from resources.audit import audited
from resources.lake import ConcurrentWriteError, Lake
from resources.table import Table

C = TypeVar("C", Changes, RuleChanges)

CLOCK_TOLERANCE = timedelta(minutes=10)
"""How far the clock may be behind the newest version; versions get later instants all the same."""
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)
_ATTEMPTS = 10
_MAINTAINED_EVERY = 10
"""How many loads there are between two times at which a table's files are made fewer."""


class ReferenceClockError(RuntimeError):
    """The clock is behind the newest version; nothing was written."""


class ChangedMeanwhileError(RuntimeError):
    """Somebody else has changed the same thing since it was looked at; nothing was written."""


def put(
    lake: Lake,
    reference: Reference,
    rows: pl.DataFrame,
    *,
    valid_from: datetime,
    clock: Callable[[], datetime],
    changed_by: str | None = None,
    replaces: bool = False,
    ending: Collection[int] = (),
    seen: Mapping[int, datetime | None] | None = None,
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
        ending: keys of things that end then.
        seen: by key the `known_at` of the version that an editor looked at; None for a thing that is to be new. It is
            for tables of one key, and what has no entry is changed whatever it is.

    Returns:
        What was added.

    Raises:
        ChangedMeanwhileError: another version than the one in `seen` holds, or what is to be new is there.
        ReferenceClockError: the clock is behind the newest version by more than `CLOCK_TOLERANCE`.
        ConcurrentWriteError: others were faster again and again; nothing was written.
        SchemaError: the table does not fit; nothing was written.
    """

    def made(versions: pl.DataFrame, known_at: datetime) -> Changes:
        # Within each attempt to commit: others may be faster between the look and the commit.
        _not_overtaken(reference, versions, valid_from, seen or {})
        return changes(
            reference,
            versions,
            rows,
            valid_from=valid_from,
            known_at=known_at,
            changed_by=changed_by,
            replaces=replaces,
            ending=ending,
        )

    return _committed(lake, reference.table, clock, made)


def put_rules(
    lake: Lake,
    contracts: Iterable[Contract],
    wanted: Sequence[Wanted],
    *,
    valid_from: datetime,
    clock: Callable[[], datetime],
    changed_by: str | None = None,
    seen: datetime | None = None,
) -> RuleChanges:
    """Changes rules in one commit, if all changes are right; none where nothing differs.

    Args:
        lake: where the table is.
        contracts: the streams.
        wanted: the changes.
        valid_from: the instant from which they hold.
        clock: the time of day, UTC.
        changed_by: who makes them.
        seen: up to when an editor knows the rules; None changes them whatever they are.

    Returns:
        What was added.

    Raises:
        ChangedMeanwhileError: a rule was changed later than `seen`, for the same scope and hours.
        RuleChangeError: some are wrong; nothing was written.
        ReferenceClockError, ConcurrentWriteError, SchemaError: as for `put`.
    """
    streams = list(contracts)

    def made(versions: pl.DataFrame, known_at: datetime) -> RuleChanges:
        if seen is not None:
            _rules_not_overtaken(versions, wanted, seen)
        known = RuleSet(streams, versions)
        return known.changes(wanted, valid_from=valid_from, known_at=known_at, changed_by=changed_by)

    # Before anything is created.
    made(rule_versions(lake), clock())
    return _committed(lake, RULES, clock, made)


def rule_versions(lake: Lake) -> pl.DataFrame:
    """All versions of rules."""
    return lake.table(RULES).scan().collect()


def _committed(
    lake: Lake, declared: Table, clock: Callable[[], datetime], made: Callable[[pl.DataFrame, datetime], C]
) -> C:
    """Adds what is made of all versions and of the instant at which the new ones are known."""
    with audited(lake, "reference load", declared.name) as entry:
        found = _added(lake, declared, clock, made)
        entry.rows_out = found.rows.height
        return found


def _added(
    lake: Lake, declared: Table, clock: Callable[[], datetime], made: Callable[[pl.DataFrame, datetime], C]
) -> C:
    table, loads = lake.table(declared).ensure(), f"{declared.name}/loads"
    for attempt in range(1, _ATTEMPTS + 1):
        # The log comes first: if another load comes between the two, the commit is refused.
        log = table.transactions([loads])
        versions = table.scan().collect()
        found = made(versions, _known_at(declared, versions, clock()))
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
            # What is stored is loaded, however many files it has.
            with suppress(Exception):
                table.maintain([])
        break
    return found


def rules_known_at(lake: Lake) -> datetime:
    """Up to when rules are known: what `put_rules` takes as `seen`."""
    newest = lake.table(RULES).scan().select(pl.col(KNOWN_AT).max()).collect().item()
    return newest if isinstance(newest, datetime) else _NEVER


def _not_overtaken(
    reference: Reference, versions: pl.DataFrame, at: datetime, seen: Mapping[int, datetime | None]
) -> None:
    if not seen:
        return
    key = reference.key
    known = versions.filter(pl.col(key).is_in([*seen]))
    holds = {row[key]: row for row in standing(known, key, at).iter_rows(named=True)}
    there = {*known[key]}
    for each, known_at in seen.items():
        row = holds.get(each)
        what = f"{reference.short}: {key} {each}"
        if known_at is None and each in there:
            raise ChangedMeanwhileError(
                f"{what} was added{_by(row)} meanwhile. Nothing was written. Save again; it gets another number then."
            )
        if known_at is not None and (row is None or row[KNOWN_AT] != known_at):
            raise ChangedMeanwhileError(_overtaken(what, row))


def _rules_not_overtaken(versions: pl.DataFrame, wanted: Sequence[Wanted], seen: datetime) -> None:
    later = versions.filter(pl.col(KNOWN_AT) > seen).sort(KNOWN_AT)
    newest = {tuple(row[name] for name in THING): row for row in later.iter_rows(named=True)}
    for each in wanted:
        if (row := newest.get(each.thing)) is not None:
            raise ChangedMeanwhileError(_overtaken(each.where, row))


def _overtaken(what: str, row: Mapping[str, Any] | None) -> str:
    return (
        f"{what} was changed{_by(row)} since it was looked at. Nothing was written. Look at what holds now, and change "
        "it again if need be."
    )


def _by(row: Mapping[str, Any] | None) -> str:
    return f" by {row[CHANGED_BY]}" if row and row[CHANGED_BY] else ""


def held(lake: Lake, reference: Reference, at: datetime) -> pl.DataFrame:
    """What holds at an instant by all that is known, ordered by the key."""
    return holding(lake.table(reference.table).scan().collect(), reference.keys, at)


def groups_of(patients: pl.DataFrame) -> list[str]:
    """The groups in which some patients are, in order."""
    return patients["groups"].drop_nulls().str.split(SEPARATOR).explode().unique().sort().to_list()


def is_empty(lake: Lake, reference: Reference) -> bool:
    """Whether nothing was ever loaded."""
    return lake.table(reference.table).count() == 0


def _known_at(table: Table, versions: pl.DataFrame, now: datetime) -> datetime:
    """Later than every version: knowledge only grows, whatever the clocks of those who load do."""
    newest = versions[KNOWN_AT].max()
    if not isinstance(newest, datetime):
        return now
    if newest > now + CLOCK_TOLERANCE:
        raise ReferenceClockError(
            f"{table.name}: the clock of this machine says {now:%Y-%m-%d %H:%M:%S} UTC, but the newest "
            f"version was loaded at {newest:%Y-%m-%d %H:%M:%S} UTC. Nothing was written. If the clock is wrong, set "
            "it. If the other machine's was ahead, load again once that time has come."
        )
    return max(now, newest + timedelta(microseconds=1))
