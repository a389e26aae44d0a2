"""Brings silver and gold of the clinical sources up to date, for just the dates that changed.

```
 bronze (by load date) ─▶ silver (by event date) ─▶ gold (by event date, or as a whole)
```

Every row of bronze and silver has the number of the run that wrote it last, its `revision`. A table's log holds how far
it has read the ones that it is made of; files whose rows have a greater revision are new, which their statistics tell.
Doing it twice changes nothing, so a run that is killed is done again from its beginning.

A load date that was rebuilt may have rows no more that silver took from it, or has them in quarantine now. They leave
silver, and an earlier load's row with the same key takes its place. A date that loses all its rows has no file that
could tell of it: the log then has the revision of that commit as `emptied`.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, timedelta

import msgspec
import polars as pl
from deltalake.exceptions import DeltaError, TableNotFoundError

from assets.clinical.contract import DEFECTS, LOAD_COLUMNS, Batch
from assets.clinical.silver import latest
from assets.clinical.sources import Derived, source
from resources.audit import audited
from resources.lake import ConcurrentWriteError, Lake, LakeTable

REVISION = "revision"
EMPTIED = "emptied"
MAX_ROWS = 500_000
"""How many rows of bronze are read together."""
MAX_DATES = 31
"""How many days the dates that are made in one commit span."""
_ONE_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Refreshed:
    """What a refresh of silver did.

    Attributes:
        read: how many rows of bronze were looked at.
        quarantined: how many of them are in quarantine now.
        good: how many of them are good.
        dates: how many event dates were written.
        rows: how many rows silver has now.
    """

    read: int = 0
    quarantined: int = 0
    good: int = 0
    dates: int = 0
    rows: int = 0


@dataclass
class Silver:
    """Silver and quarantine of one source.

    Attributes:
        lake: where the tables are.
        batch: the declaration.
        on_step: called before each commit with what comes next; for tests that stop there.
    """

    lake: Lake
    batch: Batch
    on_step: Callable[[str], None] = lambda _: None
    _silver: LakeTable = field(init=False)
    _bronze: LakeTable = field(init=False)
    _other: Batch | None = field(init=False)
    _revision: int = field(init=False, default=0)
    _known: dict[str, int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        # The source whose rows silver is enriched with, if there is one.
        self._other = source(self.batch.enrich.beside) if self.batch.enrich else None
        self._silver, self._bronze = self.lake.table(self.batch.silver), self.lake.table(self.batch.bronze)

    def is_due(self) -> bool:
        """Whether bronze, or the table beside it, has rows that silver does not know."""
        known = self._marks()
        return any(newest(table) > known.get(mark, 0) for mark, table in self._sources())

    def refresh(self) -> Refreshed:
        """Brings silver and quarantine up to date.

        Raises:
            ConcurrentWriteError: another process does so at this moment.
        """
        with audited(self.lake, "clinical silver", self.batch.silver.name, source=self.batch.bronze.name) as entry:
            done = self._refreshed()
            entry.rows_in, entry.rows_out, entry.rows_rejected = done.read, done.good, done.quarantined
            entry.is_idle = not done.read and not done.dates
            return done

    def _refreshed(self) -> Refreshed:
        self._silver.ensure()
        self.lake.table(self.batch.quarantine).ensure()
        known, reached = self._marks(), {mark: newest(table) for mark, table in self._sources()}
        since = known.get(mark_of(self._bronze), 0)
        self._revision, self._known = newest(self._silver), dict(known)
        touched, done = set[date](), Refreshed()
        for day in sorted(changed(self._bronze, "load_date", since)):
            done = self._load_date(day, since, touched, done)
        if self.batch.enrich:
            # Each date once more: by now all rows are there from which its columns follow.
            touched |= self._write_dates(self._dependent(touched, known), None)
        self.on_step("marks")
        marks = {**reached, REVISION: self._revision}
        if {name: value for name, value in marks.items() if name != REVISION} != {
            name: value for name, value in known.items() if name != REVISION
        }:
            empty = pl.DataFrame(schema=self.batch.silver.schema)
            self._silver.append(empty, transactions=marks, expected=self._known)
        with suppress(ConcurrentWriteError, DeltaError, OSError):
            self._silver.maintain(None)
        return Refreshed(done.read, done.quarantined, done.good, len(touched), self._silver.count())

    def _load_date(self, day: date, since: int, touched: set[date], done: Refreshed) -> Refreshed:
        """Reads what is new of a load date: bad rows go to its quarantine, good ones into silver."""
        bad, loads, kept = list[pl.DataFrame](), set[int](), list[pl.DataFrame]()
        read = good_rows = 0
        for rows in self._pieces((pl.col("load_date") == day) & (pl.col(REVISION) > since)):
            loads |= set(rows["load_number"])
            parsed = self.batch.read(rows)
            is_bad = parsed["reason"].is_not_null()
            bad.append(self._quarantine(rows.filter(is_bad), parsed["reason"].filter(is_bad)))
            good = self._columns(parsed.filter(~is_bad))
            read, good_rows = read + rows.height, good_rows + good.height
            if good.height:
                touched.update(self._merge(good))
            if (rows[REVISION] != rows["load_number"]).any():
                kept.append(good.select("load_number", "row_number", *self.batch.key))
        if kept:
            of_day = self._loads_of(day)
            loads |= of_day
            touched.update(self._withdraw(of_day, pl.concat(kept)))
        found = pl.concat(bad) if bad else pl.DataFrame(schema=self.batch.quarantine.schema)
        quarantine = self.lake.table(self.batch.quarantine)
        stored = quarantine.scan().filter(pl.col("load_date") == day).collect()
        others = stored.filter(~pl.col("load_number").is_in(sorted(loads)))
        if found.height or others.height != stored.height:
            self.on_step("quarantine")
            quarantine.replace([others, found], f"load_date = '{day}'")
        return Refreshed(done.read + read, done.quarantined + found.height, done.good + good_rows)

    def _pieces(self, where: pl.Expr) -> Iterator[pl.DataFrame]:
        """Rows of bronze, some loads at a time."""
        rows = self._bronze.scan().filter(where)
        counts = rows.group_by("load_number").len().sort("load_number").collect(engine="streaming")
        group = (pl.col("len").cum_sum() - pl.col("len")) // MAX_ROWS
        bounds = counts.group_by(group.alias("group"), maintain_order=True).agg(
            first=pl.col("load_number").min(), last=pl.col("load_number").max()
        )
        for first, last in bounds.select("first", "last").iter_rows():
            yield rows.filter(pl.col("load_number").is_between(first, last)).collect(engine="streaming")

    def _quarantine(self, rows: pl.DataFrame, reasons: pl.Series) -> pl.DataFrame:
        source = [name for name in rows.columns if name not in LOAD_COLUMNS]
        bodies = [
            msgspec.json.encode(_body(row), enc_hook=str).decode()
            for row in rows.select(*source, DEFECTS).iter_rows(named=True)
        ]
        return rows.with_columns(reason=reasons, body=pl.Series(bodies, dtype=pl.String)).select(
            self.batch.quarantine.schema.names()
        )

    def _columns(self, parsed: pl.DataFrame) -> pl.DataFrame:
        """The columns of silver that follow from the row alone; those that are added are null for now."""
        schema = self.batch.silver.schema
        added = self.batch.enrich.columns if self.batch.enrich else ()
        return parsed.with_columns(
            pl.lit(0, pl.Int64).alias(REVISION), *(pl.lit(None, schema[name]).alias(name) for name in added)
        ).select(pl.col(name).cast(type_) for name, type_ in schema.items())

    def _loads_of(self, day: date) -> set[int]:
        """The numbers of the loads of a load date."""
        rows = self.lake.table(self.batch.state).scan().filter(pl.col("load_date") == day)
        return set(rows.select("run_number").collect().to_series())

    def _withdraw(self, loads: set[int], kept: pl.DataFrame) -> set[date]:
        """Takes rows of rebuilt loads out of silver that these loads do not give any more.

        Args:
            loads: all loads of the load date.
            kept: the good rows that they give: `load_number`, `row_number` and the key.

        Returns:
            The event dates that changed.
        """
        key = list(self.batch.key)
        stored = self._silver.scan().filter(pl.col("load_number").is_in(sorted(loads)))
        stored = stored.select({*kept.columns, *self.batch.silver.partition_by})
        gone = stored.join(kept.lazy(), on=kept.columns, how="anti").collect(engine="streaming")
        if gone.is_empty():
            return set()
        earlier = [pl.DataFrame(schema=self.batch.silver.schema)]
        for rows in self._pieces(pl.col("load_number") <= gone["load_number"].max()):
            parsed = self.batch.read(rows)
            good = self._columns(parsed.filter(parsed["reason"].is_null()))
            earlier.append(good.join(gone, on=key, how="semi"))
        return self._merge(latest(pl.concat(earlier), key), gone)

    def _merge(self, good: pl.DataFrame, gone: pl.DataFrame | None = None) -> set[date]:
        """Puts good rows into silver; of rows with one key the latest stands.

        Args:
            good: these rows.
            gone: rows of silver that leave it.

        Returns:
            The event dates that changed.
        """
        if not self.batch.silver.partition_by:
            old = self._without(self._silver.scan().collect(), gone)
            self._replace(None, latest(pl.concat([old, good]), self.batch.key))
            return set()
        days = set(good["event_date"]) | (set() if gone is None else set(gone["event_date"]))
        if self.batch.date_is_of_key:
            return self._write_dates(days, good, gone)
        # A row may have had another date before, where it must not stay.
        keys = good.select(self.batch.key).unique()
        stored = self._silver.scan().select(*self.batch.key, "event_date")
        before = stored.join(keys.lazy(), on=self.batch.key, how="semi").collect(engine="streaming")
        days |= set(before["event_date"])
        self._replace(days, latest(pl.concat([self._without(self._of(days), gone), good]), self.batch.key))
        return days

    def _without(self, rows: pl.DataFrame, gone: pl.DataFrame | None) -> pl.DataFrame:
        on = ["load_number", "row_number", *self.batch.key]
        return rows if gone is None else rows.join(gone, on=on, how="anti", maintain_order="left")

    def _write_dates(
        self, days: Collection[date], good: pl.DataFrame | None, gone: pl.DataFrame | None = None
    ) -> set[date]:
        """Writes dates again, with rows that are new, and with what follows from rows around them.

        Returns:
            The dates that have other rows now. The others were not written.
        """
        enrich, written = self.batch.enrich, set[date]()
        for span in spans(days):
            first = span[0] - (enrich.days - 1) * _ONE_DAY if enrich else span[0]
            stored = self._between(first, span[-1])
            rows = self._without(stored, gone)
            if good is not None:
                rows = pl.concat([rows, good.filter(pl.col("event_date").is_in(span))])
            rows = latest(rows, self.batch.key)
            if enrich:
                beside = self._beside(span[0] - (enrich.beside_days - 1) * _ONE_DAY, span[-1])
                before = rows.height
                rows = enrich.add(rows.drop(enrich.columns), beside).select(self.batch.silver.schema.names())
                if rows.height != before:
                    raise AssertionError(f"{self.batch.name}: enrichment made {rows.height} rows of {before}")
            old, new = _by_date(stored), _by_date(rows)
            differing = [day for day in span if not _same(old.get(day), new.get(day))]
            if differing:
                self._replace(differing, rows.filter(pl.col("event_date").is_in(differing)))
            written |= {*differing}
        return written

    def _replace(self, days: Collection[date] | None, rows: pl.DataFrame) -> None:
        """Replaces rows, of some dates or all, in one commit with a revision of its own.

        Whoever read the table before must find that these rows are newer than what was read.
        """
        self._revision += 1
        rows = rows.with_columns(pl.lit(self._revision, pl.Int64).alias(REVISION))
        marks = {REVISION: self._revision}
        if days is not None and set(days).difference(rows["event_date"]):
            marks[EMPTIED] = self._revision
        self.on_step("silver")
        self._silver.replace(
            [rows],
            None if days is None else _of_dates(days),
            transactions=marks,
            expected={REVISION: self._known.get(REVISION)},
            event_dates=days or (),
        )
        self._known[REVISION] = self._revision

    def _dependent(self, touched: set[date], known: Mapping[str, int]) -> set[date]:
        """The dates of silver of which rows follow from rows of other dates that changed."""
        enrich = self.batch.enrich
        if not enrich or not self._other:
            return set()
        dates = set(self._silver.dates("event_date"))
        beside = self.lake.table(self._other.silver)
        if was_emptied(beside, known.get(mark_of(beside), 0)):
            return dates
        told = changed(beside, "event_date", known.get(mark_of(beside), 0))
        wanted = {day + after * _ONE_DAY for day in told for after in range(enrich.beside_days)}
        wanted |= {day + after * _ONE_DAY for day in touched for after in range(enrich.days)}
        return (wanted | touched) & dates

    def _beside(self, first: date, last: date) -> pl.DataFrame:
        assert self._other
        rows = self.lake.table(self._other.silver).scan()
        return rows.filter(pl.col("event_date").is_between(first, last)).collect(engine="streaming")

    def _between(self, first: date, last: date) -> pl.DataFrame:
        rows = self._silver.scan().filter(pl.col("event_date").is_between(first, last))
        return rows.collect(engine="streaming")

    def _of(self, days: Collection[date]) -> pl.DataFrame:
        return self._silver.scan().filter(pl.col("event_date").is_in(sorted(days))).collect(engine="streaming")

    def _sources(self) -> list[tuple[str, LakeTable]]:
        tables = [self._bronze, *([self.lake.table(self._other.silver)] if self._other else [])]
        return [(mark_of(table), table) for table in tables if table.exists()]

    def _marks(self) -> dict[str, int]:
        return self._silver.transactions([REVISION, *(mark for mark, _ in self._sources())])


@dataclass(frozen=True)
class Gold:
    """One gold table.

    Attributes:
        lake: where the tables are.
        derived: the declaration.
    """

    lake: Lake
    derived: Derived

    def pending(self) -> set[date]:
        """The event dates that silver has changed since they were made; of a table by event date only."""
        gold, known = self._table, self._marks()
        dates = {day for source in self._sources for day in source.dates("event_date")}
        made = set(gold.dates("event_date"))
        if not gold.is_current():
            return dates | made
        stale = {
            day for source in self._sources for day in changed(source, "event_date", known.get(mark_of(source), 0))
        }
        for table in self._sources:
            if was_emptied(table, known.get(mark_of(table), 0)):
                stale |= made.difference(table.dates("event_date"))
        return stale | (made - dates)

    def is_due(self) -> bool:
        """Whether silver has rows that the table does not know."""
        if self.derived.is_by_date and self._table.exists():
            return bool(self.pending())
        known = self._marks()
        return not self._table.is_current() or any(
            newest(source) > known.get(mark_of(source), 0) for source in self._sources
        )

    def refresh(self, dates: Collection[date] | None = None) -> int:
        """Makes dates anew; by default those that are pending. A table that is no table by date is made as a whole.

        Returns:
            How many rows were written.

        Raises:
            ConcurrentWriteError: another process makes the table at this moment.
        """
        table = self._table
        known = self._marks()
        reached = {mark_of(source): newest(source) for source in self._sources}
        if not self.derived.is_by_date:
            rows = self.derived.make({each.name: self._rows(each, None) for each in self.derived.sources})
            table.create().replace([rows], None, transactions=reached, expected=_expected(reached, known), renew=True)
            self._maintain()
            return rows.height
        pending = self.pending()
        wanted = pending if dates is None else set(dates)
        if not table.is_current():
            table.renew(transactions={}, expected={})
        table.create()
        written = 0
        for span in spans(wanted):
            rows = self.derived.make({each.name: self._rows(each, span) for each in self.derived.sources})
            written += table.replace([rows], _of_dates(span), event_dates=span)
        if pending <= wanted and reached != {name: known.get(name) for name in reached}:
            empty = pl.DataFrame(schema=self.derived.table.schema)
            table.append(empty, transactions=reached, expected={name: known[name] for name in reached if name in known})
        self._maintain()
        return written

    @property
    def _table(self) -> LakeTable:
        return self.lake.table(self.derived.table)

    @property
    def _sources(self) -> list[LakeTable]:
        tables = [self.lake.table(each.silver) for each in self.derived.sources]
        return [table for table in tables if table.exists()]

    def _rows(self, batch: Batch, days: Sequence[date] | None) -> pl.DataFrame:
        rows = self.lake.table(batch.silver).scan()
        if days is not None:
            rows = rows.filter(pl.col("event_date").is_between(days[0], days[-1]), pl.col("event_date").is_in(days))
        return rows.collect(engine="streaming")

    def _marks(self) -> dict[str, int]:
        return self._table.transactions([mark_of(source) for source in self._sources])

    def _maintain(self) -> None:
        with suppress(ConcurrentWriteError, DeltaError, OSError):
            self._table.maintain(None)


def mark_of(source: LakeTable) -> str:
    """The app transaction that says how far a table was read; one that was created again counts anew."""
    return f"{source.name}/{source.id()}"


def newest(table: LakeTable) -> int:
    """The greatest revision of a table's rows, also of those that it has no more; 0 where it never had any."""
    return max(table.transactions([REVISION]).get(REVISION, 0), int(table.newest(REVISION) or 0))


def was_emptied(table: LakeTable, since: int) -> bool:
    """Whether an event date lost all its rows after a revision."""
    return table.transactions([EMPTIED]).get(EMPTIED, 0) > since


def changed(table: LakeTable, column: str, since: int) -> set[date]:
    """The dates of a partition column with rows of a greater revision."""
    try:
        files = table.files()
    except TableNotFoundError:
        return set()
    if files.is_empty():
        return set()
    least = files.get_column(f"max.{REVISION}", default=None)
    if least is None or least.null_count():
        return set(files[column])
    return set(files.filter(least > since)[column])


def spans(days: Collection[date]) -> Iterator[list[date]]:
    """Dates in order, in groups that span no more than a month."""
    group = list[date]()
    for day in sorted(days):
        if group and (day - group[0]).days >= MAX_DATES:
            yield group
            group = []
        group.append(day)
    if group:
        yield group


def _by_date(rows: pl.DataFrame) -> dict[date, pl.DataFrame]:
    found = rows.drop(REVISION).partition_by("event_date", as_dict=True, include_key=True)
    return {day: of_day for (day,), of_day in found.items() if isinstance(day, date)}


def _same(stored: pl.DataFrame | None, made: pl.DataFrame | None) -> bool:
    """Whether the rows of a date are those that are stored, in whatever order."""
    if stored is None or made is None:
        return stored is made
    return stored.height == made.height and stored.sort(pl.all()).equals(made.sort(pl.all()))


def _of_dates(days: Collection[date]) -> str:
    listed = ", ".join(f"'{day.isoformat()}'" for day in sorted(days))
    return f"event_date IN ({listed})"


def _expected(reached: Mapping[str, int], known: Mapping[str, int]) -> dict[str, int | None]:
    return {name: known.get(name) for name in reached}


def _body(row: Mapping[str, object]) -> dict[str, object]:
    """A row as it came: values that did not fit their columns are put back."""
    defects = row[DEFECTS]
    spoiled = msgspec.json.decode(defects) if isinstance(defects, str) else {}
    return {name: value for name, value in row.items() if name != DEFECTS and value is not None} | spoiled
