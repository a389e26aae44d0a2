"""Brings `gold/patient_360` up to date, in parts, reading what changed and the dates that count for these patients.

Its log says how far each table was read: of streams' gold the Delta version, of the clinical domain the revision, under
a name with the table's id, since a table that was created again counts anew. What did not change is carried over from
the row that stands. So a patient who has been away costs nothing and stays, and an older lake makes nothing slower.
Only where a log no longer tells what changed, after hours without a refresh, the patients and dates of all rows are
read once.
"""

from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import polars as pl
from deltalake.exceptions import DeltaError

from assets.alarms.measures import ALARMS
from assets.bitemporal import VERSION_COLUMNS, holding
from assets.clinical_layers import REVISION, changed, mark_of, newest, was_emptied
from assets.patients import gold
from assets.patients.parts import PARTS, PERSON, SOURCES, Part, Source
from assets.patients.tables import PATIENT_360
from resources.changes import changed_since
from resources.lake import ConcurrentWriteError, Lake, LakeTable

PATIENTS_AT_ONCE = 500
"""How many patients' rows of a part by dates are in memory together."""
RECENT_DATES = 31
"""On how many of a table's newest dates the check looks for patients."""

_KEY = "patient_id"
_DEFINITION, _DEFINED = "definition", 2
"""The app transaction that says by which definition rows were made, and the present one: raise it with each change."""
_DAY = "day"
"""The app transaction that says for which day (UTC) rows were made: some change although no table does."""


@dataclass(frozen=True)
class Patient360Refresh:
    """`gold/patient_360` of a lake."""

    lake: Lake

    def is_pending(self, now: datetime) -> bool:
        """Whether a table that is read has moved on, or another day has begun."""
        marks = self._marks(now)
        return marks != self._table.transactions(marks) or not self._table.is_current()

    def refresh(self, now: datetime) -> int:
        """Brings all rows up to date.

        Args:
            now: which version of reference data holds, and which drugs have ended.

        Returns:
            How many patients there are.

        Raises:
            ConcurrentWriteError: another refresh was faster; nothing was written.
        """
        table = self._table.create()
        # Before any row is read: what is written meanwhile is noticed the next time.
        reached = self._reached()
        marks = _marks(reached, now)
        known = table.transactions(marks)
        is_usable = table.is_current() and known.get(_DEFINITION) == _DEFINED
        old = table.scan().collect() if is_usable else pl.DataFrame(schema=PATIENT_360.schema)
        parts = {"person": gold.person({each.name: self._read(Source(each)).collect() for each in PERSON}, now)}
        for part in PARTS:
            parts[part.name] = self._part(part, old, known if is_usable else {}, reached, now.date())
        rows = gold.together(parts)
        expected = {name: known.get(name) for name in marks}
        if is_usable and rows.equals(old.sort(_KEY)):
            if marks != known:
                before = {name: value for name, value in expected.items() if value is not None}
                table.append(pl.DataFrame(schema=PATIENT_360.schema), transactions=marks, expected=before)
        else:
            table.replace([rows], None, transactions=marks, expected=expected, renew=True)
        with suppress(ConcurrentWriteError, DeltaError, OSError):
            table.maintain()
        return rows.height

    def repeated(self) -> int:
        """How many rows have a patient that another row has."""
        ids = self._table.scan().select(_KEY).collect()
        return ids.height - ids.n_unique()

    def lost(self, now: datetime, known: pl.DataFrame) -> int:
        """How many patients have no row.

        Args:
            now: which version of reference data holds.
            known: who was known before the refresh. Whoever came meanwhile is of the next one, and whoever is known no
                more needs no row.
        """
        missing = known.join(self._table.scan().select(_KEY).collect(), on=_KEY, how="anti")
        return missing.join(self.known(now), on=_KEY, how="semi").height if missing.height else 0

    def known(self, now: datetime) -> pl.DataFrame:
        """The patients of reference data and of the first table of each part (`patient_id`).

        Of a table by date the newest dates are looked at, and of reference data what holds now.
        """
        versions, ehr = (self.lake.table(table) for table in PERSON)
        held = holding(versions.scan().select(_KEY, *VERSION_COLUMNS).collect(), _KEY, now).lazy().select(_KEY)
        firsts = [self.lake.table(part.sources[0].table) for part in PARTS if part.sources[0].table is not ALARMS]
        ids = [held, *(_recent(table).select(_KEY) for table in (ehr, *firsts))]
        open_alarms = self.lake.table(ALARMS).scan().filter(pl.col("is_open"), pl.col("entity_key") == _KEY)
        found = pl.concat([*ids, open_alarms.select(pl.col("entity").alias(_KEY))])
        return found.drop_nulls().unique().collect()

    @property
    def _table(self) -> LakeTable:
        return self.lake.table(PATIENT_360)

    def _marks(self, now: datetime) -> dict[str, int]:
        """How far the tables that are read have come."""
        return _marks(self._reached(), now)

    def _reached(self) -> dict[str, tuple[str, int]]:
        """By the name of each table that exists: its mark, and how far it has come."""
        tables = {table.name: self.lake.table(table) for table in SOURCES}
        return {name: (mark_of(table), _reached(table)) for name, table in tables.items() if table.exists()}

    def _part(
        self,
        part: Part,
        old: pl.DataFrame,
        known: Mapping[str, int],
        reached: Mapping[str, tuple[str, int]],
        today: date,
    ) -> pl.DataFrame:
        """The rows of a part: those that stand, and those that are made anew."""
        names = list(part.rows.columns())
        stands = old.select(names).filter(pl.col(part.told_by).is_not_null())
        tables = [source.table for source in part.sources if source.table.name in reached]
        since = {table.name: known.get(reached[table.name][0]) for table in tables}
        is_of_today = not part.changes_daily or known.get(_DAY) == today.toordinal()
        if is_of_today and all(since[table.name] == reached[table.name][1] for table in tables):
            return stands
        if part.days is None:
            return part.make({source.table.name: self._read(source).collect() for source in part.sources}, today)
        carried = stands.select(_KEY, last=part.told_by)
        stale = self._stale([(self.lake.table(table), since[table.name]) for table in tables])
        if stale is not None:
            # Revisions do not tell of a date that has no row left, as after the date of an entry was corrected.
            stale |= {*carried["last"]}.difference(self.lake.table(part.sources[0].table).dates("event_date"))
        if stale is not None and not stale:
            return stands
        affected, last = self._last(part, stale, carried)
        made = [part.make(frames, today) for frames in self._pieces(part, last)]
        return pl.concat([stands.filter(~pl.col(_KEY).is_in(affected.implode())), *made])

    def _stale(self, tables: Collection[tuple[LakeTable, int | None]]) -> set[date] | None:
        """The event dates with other rows than when tables were read last; None where that is not known."""
        found = set[date]()
        for table, since in tables:
            if since is None:
                return None
            days = _revised(table, since) if _has_revisions(table) else _changed(table, since)
            if days is None:
                return None
            found |= days
        return found

    def _last(self, part: Part, stale: set[date] | None, carried: pl.DataFrame) -> tuple[pl.Series, pl.DataFrame]:
        """The patients to make anew, and the last date that each of them has (`patient_id`, `last`)."""
        assert part.days
        rows = self._read(part.sources[0]).select(_KEY, "event_date").drop_nulls()
        last = pl.col("event_date").max().alias("last")
        if stale is None:
            found = rows.group_by(_KEY).agg(last).collect(engine="streaming")
            return pl.concat([carried[_KEY], found[_KEY]]).unique(), found
        touched = rows.filter(_is_in("event_date", stale)).group_by(_KEY).agg(last.alias("touched"))
        both = carried.join(touched.collect(engine="streaming"), on=_KEY, how="full", coalesce=True)
        ordered = sorted(stale)
        hit = [day for day in both["last"].drop_nulls().unique() if _reaches(ordered, day, part.days)]
        is_affected = pl.col("last").is_null() | pl.col("last").is_in(hit) | (pl.col("touched") > pl.col("last"))
        both = both.filter(is_affected)
        # The date that was the last one has no row any more: whichever is before it counts now.
        is_gone = pl.col("last").is_in(ordered) & (pl.col("touched").is_null() | (pl.col("touched") < pl.col("last")))
        gone = both.filter(is_gone)[_KEY]
        known = both.filter(~is_gone.fill_null(False)).select(_KEY, last=pl.max_horizontal("last", "touched"))
        if gone.is_empty():
            return both[_KEY], known
        found = rows.filter(pl.col(_KEY).is_in(gone.implode())).group_by(_KEY).agg(last).collect(engine="streaming")
        return both[_KEY], pl.concat([known, found])

    def _pieces(self, part: Part, last: pl.DataFrame) -> Iterator[dict[str, pl.DataFrame]]:
        """The rows that count, of some patients at a time."""
        assert part.days
        for piece in last.sort(_KEY).iter_slices(PATIENTS_AT_ONCE):
            yield {source.table.name: self._window(source, piece, part.days) for source in part.sources}

    def _window(self, source: Source, last: pl.DataFrame, days: int) -> pl.DataFrame:
        wanted = {day - timedelta(days=back) for day in last["last"].unique() for back in range(days)}
        rows = self._read(source).filter(_is_in("event_date", wanted), pl.col(_KEY).is_in(last[_KEY].implode()))
        back = pl.col("last") - pl.col("event_date")
        return (
            rows.join(last.lazy(), on=_KEY)
            .filter(back >= timedelta(0), back < timedelta(days=days))
            .drop("last")
            .collect(engine="streaming")
        )

    def _read(self, source: Source) -> pl.LazyFrame:
        rows = self.lake.table(source.table).scan()
        rows = rows if source.where is None else rows.filter(source.where)
        return rows.select(source.columns) if source.columns else rows


def _marks(reached: Mapping[str, tuple[str, int]], now: datetime) -> dict[str, int]:
    """The app transactions of a refresh."""
    return dict(reached.values()) | {_DEFINITION: _DEFINED, _DAY: now.date().toordinal()}


def _recent(table: LakeTable) -> pl.LazyFrame:
    """The rows of a table; of one by date those of its newest dates."""
    if "event_date" not in table.table.partition_by:
        return table.scan()
    return table.scan().filter(pl.col("event_date").is_in(table.dates("event_date")[-RECENT_DATES:]))


def _has_revisions(table: LakeTable) -> bool:
    return REVISION in table.table.schema


def _reached(table: LakeTable) -> int:
    """How far a table has come: by its revision, which outlives its log, or else by its version."""
    return newest(table) if _has_revisions(table) else table.delta().version()


def _revised(table: LakeTable, since: int) -> set[date] | None:
    return None if was_emptied(table, since) else changed(table, "event_date", since)


def _changed(table: LakeTable, since: int) -> set[date] | None:
    return set() if table.version() == since else changed_since(table, since, "event_date")


def _is_in(column: str, days: Collection[date]) -> pl.Expr:
    if not days:
        return pl.lit(False)
    return pl.col(column).is_between(min(days), max(days)) & pl.col(column).is_in(sorted(days))


def _reaches(stale: list[date], last: date, days: int) -> bool:
    """Whether one of some dates, which are in order, is among the dates that end with the last one."""
    place = bisect_right(stale, last)
    return place > 0 and (last - stale[place - 1]).days < days
