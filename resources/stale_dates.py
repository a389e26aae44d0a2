"""Which dates of a report must be built again, kept in the log of the report's own table.

The same goes for any table that is made date by date of others.

Its app transactions are:

- ``source/<table>/version``: the version of a source up to which changes are noted.
- ``source/<table>/id``: a hash of Delta's id of the source. One that was created again counts its versions anew.
- ``statement``: a hash of the statement; another one makes all dates stale.
- ``stale/2026-11``: the days of a month that must be built again, as bits: day 3 is the bit 3. ``stale/first`` and
  ``stale/last`` say which months there are, counted from the year 0.
- ``builds``: how many commits there were; two builds at once cannot both commit.

What a commit builds is no longer stale by the same commit, so a build that is killed goes on where it was.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from hashlib import sha256
from typing import Protocol

from resources.changes import changed_since, dates_of
from resources.lake import LakeTable

BUILDS = "builds"
_STATEMENT, _FIRST, _LAST = "statement", "stale/first", "stale/last"


@dataclass(frozen=True)
class StaleDates:
    """The state of a report's table, and what it becomes.

    Attributes:
        days: the dates that must be built again.
        marks: the app transactions to set besides those of the dates.
        known: what the log holds.
    """

    days: frozenset[date]
    marks: Mapping[str, int]
    known: Mapping[str, int]

    def after(self, built: Collection[date]) -> dict[str, int]:
        """The app transactions to set in the commit that builds some dates."""
        left = self.days.difference(built)
        months = _as_months(left)
        gone = {app_id: 0 for app_id in _months_of(self.known) if app_id not in months}
        bounds = {_FIRST: min(map(_month, left), default=1), _LAST: max(map(_month, left), default=0)}
        wanted = {**self.marks, **gone, **months, **bounds}
        new = {app_id: value for app_id, value in wanted.items() if self.known.get(app_id) != value}
        return new | {BUILDS: self.known.get(BUILDS, 0) + 1}

    def expected(self, transactions: Mapping[str, int]) -> dict[str, int | None]:
        """What the log must still hold for those app ids."""
        return {app_id: self.known.get(app_id) for app_id in transactions}

    def committed(self, transactions: Mapping[str, int], built: Collection[date] = ()) -> "StaleDates":
        """The state after a commit."""
        return StaleDates(self.days.difference(built), self.marks, {**self.known, **transactions})

    @property
    def is_noted(self) -> bool:
        """Whether the log holds all that is known here."""
        return not set(self.after(())) - {BUILDS}


class Target(Protocol):
    """The table that is built, or a part of it whose log is its own."""

    def transactions(self, app_ids: Iterable[str]) -> dict[str, int]:
        """The newest version of each app transaction that its log knows."""

    def dates(self, column: str) -> list[date]:
        """The dates that it has rows of."""


def look(
    target: Target, sources: Sequence[LakeTable], column: str, statement: str, more: Collection[date] = ()
) -> StaleDates:
    """What is stale in a report's table: what its log says, and what its sources say that it does not know yet.

    Args:
        target: the report's table, which need not exist.
        sources: what the statement reads.
        column: the date column by which it is built.
        statement: its text.
        more: dates that are stale for another reason.
    """
    sources = [source for source in sources if source.exists()]
    ids = [app_id for source in sources for app_id in (_id(source), _version(source))]
    known = target.transactions([_STATEMENT, BUILDS, _FIRST, _LAST, *ids])
    known |= target.transactions(_months_of(known))
    marks, days = {_STATEMENT: _hash(statement)}, _days(known)
    is_same = known.get(_STATEMENT) == marks[_STATEMENT]
    for source in sources:
        marks |= {_id(source): _hash(str(source.id())), _version(source): source.delta().version()}
        if is_same and _id(source) not in known:
            # A new source: no row of the report is made of it.
            days |= dates_of(source, column)
            continue
        is_same_table = is_same and known.get(_id(source)) == marks[_id(source)]
        changed = changed_since(source, known.get(_version(source)), column) if is_same_table else None
        days |= dates_of(source, column) | set(target.dates(column)) if changed is None else changed
    days |= {*more}
    known |= target.transactions(_as_months(days))
    return StaleDates(frozenset(days), marks, known)


def _id(source: LakeTable) -> str:
    return f"source/{source.name}/id"


def _version(source: LakeTable) -> str:
    return f"source/{source.name}/version"


def _hash(text: str) -> int:
    return int.from_bytes(sha256(text.encode()).digest()[:8]) >> 1


def _month(day: date) -> int:
    return day.year * 12 + day.month - 1


def _name(month: int) -> str:
    return f"stale/{month // 12:04}-{month % 12 + 1:02}"


def _months_of(known: Mapping[str, int]) -> list[str]:
    return [_name(month) for month in range(known.get(_FIRST, 1), known.get(_LAST, 0) + 1)]


def _as_months(days: Collection[date]) -> dict[str, int]:
    months: dict[str, int] = {}
    for day in days:
        name = _name(_month(day))
        months[name] = months.get(name, 0) | 1 << day.day
    return months


def _days(known: Mapping[str, int]) -> set[date]:
    return {
        date(month // 12, month % 12 + 1, day)
        for month in range(known.get(_FIRST, 1), known.get(_LAST, 0) + 1)
        for day in range(1, 32)
        if known.get(_name(month), 0) >> day & 1
    }
