"""`gold/alarms`: brought up to date by the transitions that are new, and for the event dates that have other alerts.

```
 alarms/<stream>: steps behind the mark ──▶ rows of alarms that are open, or were until now ─┐
                                                      │ whose span moved                       ├─▶ gold/alarms
 alerts/<stream>: event dates that commits name ──▶ stale dates: missed, retracted ──────────┘
```

Neither of the two other kinds of gold fits. `DailyGold` makes a date of one table by pure sums, and an alarm reaches
over days. `VersionedGold` asks for all rows of what changed, and those of an alarm that stands for weeks are on many
dates. So an alarm's row is carried on: it says how many transitions it contains. What a row of an open alarm costs does
not grow with its age, and no row of an alarm that is over is read unless its date is stale. All alerts of a stale date
are read again, in bounded memory; nothing else of the lake is.

The table's app transactions, each named after the stream, are those of `resources.stale_dates` with the alerts as their
source, and:

- ``<stream>/folds/<id>``: up to which step the table of alarms with this id is contained.
- ``<stream>/ingest/<id>``: the ingest date, as a number, in which later steps are looked for.
- ``<stream>/begins/<id>``: the ingest date, as a number, from which on the stream has had this table of alarms. Of
  alerts of before nobody could be told, so nothing of them was missed.
- ``<stream>/refreshed_at``: when the part was last refreshed, in seconds since 1970.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from typing import NamedTuple, TypeVar

import polars as pl

from assets.alarms.measures import ALARMS, COUNTED, MISSED, Measure, nothing
from assets.archived import archived, closed_event_dates
from assets.discretion import without_text
from assets.slots import GoldError
from assets.stream.contract import Contract, Rule
from assets.stream.log import FOLDS, Offsets, is_beyond
from assets.stream.rulebook import RuleVersions
from assets.stream.slices import slices
from assets.stream.store import StreamStore
from resources.lake import Lake, LakeTable
from resources.stale_dates import BUILDS, StaleDates, look
from resources.table import Table

DEFINITION = "1"
"""Another one where the same columns come to mean something else: all dates are stale then."""
MAX_DATES = 31
"""How many dates are made in one commit."""
SLICE_ROWS = 1_000_000
"""How many alerts are compared at once, and those of a minute more."""

REST = timedelta(minutes=1)
"""How long a stream with a million alerts on its newest ingest date is left alone between two refreshes; others in
proportion. Today's alerts are read again each time, which takes half a CPU second for a million."""

_REFRESHED_AT = "refreshed_at"
_T = TypeVar("_T")


class _Steps(NamedTuple):
    """What is new in a table of alarms: rows, the marks to set once gold contains them, and what they were."""

    transitions: pl.DataFrame
    updates: pl.DataFrame
    marks: Mapping[str, int]
    known: Mapping[str, int]
    is_last: bool


class _Begins(NamedTuple):
    """The ingest date from which on there have been alarms, as a number, and the mark to set if it is new."""

    day: int
    marks: Mapping[str, int]


@dataclass(frozen=True)
class _Part:
    """The part of `gold/alarms` that is of one stream, with a log of its own."""

    gold: LakeTable
    stream: str

    def transactions(self, app_ids: Iterable[str]) -> dict[str, int]:
        """The newest version of each app transaction that is known."""
        found = self.gold.transactions([self.id(each) for each in app_ids])
        return {app_id.removeprefix(self.id("")): version for app_id, version in found.items()}

    def dates(self, column: str) -> list[date]:
        """The dates that there are rows of, of any stream."""
        return self.gold.dates(column)

    def id(self, name: str) -> str:
        """A transaction's name in the table's log."""
        return f"{self.stream}/{name}"


@dataclass(frozen=True)
class AlarmGold:
    """The part of `gold/alarms` that is of one stream.

    Attributes:
        contract: the stream, which has alarms.
    """

    contract: Contract

    @property
    def table(self) -> Table:
        """`gold/alarms`."""
        return ALARMS

    @property
    def sources(self) -> list[Table]:
        """The tables that it is made of."""
        return [self.contract.tables["alarms"], self.contract.tables.alerts]

    def is_pending(self, lake: Lake) -> bool:
        """Whether something happened to alarms, or to alerts of a date that can be made anew."""
        alarms, part = lake.table(self.sources[0]), self._part(lake)
        if (alarms_id := alarms.id()) is None:
            return False
        folded = _folds(alarms_id)
        if part.transactions([folded]).get(folded, 0) != self._stored(alarms):
            return True
        return bool(self._stale(lake).days - self._closed(lake))

    def is_due(self, lake: Lake, now: datetime) -> bool:
        """Whether something is pending, and the last refresh is long enough ago for the alerts of a day."""
        alerts = lake.table(self.sources[1])
        days = alerts.dates("ingest_date")
        count = alerts.part("ingest_date", days[-1]).rows if days else 0
        refreshed_at = self._part(lake).transactions([_REFRESHED_AT]).get(_REFRESHED_AT, 0)
        is_rested = now >= datetime.fromtimestamp(refreshed_at, UTC) + REST * count / 1_000_000
        return is_rested and self.is_pending(lake)

    def refresh(self, lake: Lake, should_stop: Callable[[], bool] = lambda: False) -> int:
        """Brings the rows up to date, in bounded memory, some dates in each commit.

        Args:
            lake: the lake.
            should_stop: asked between commits; True leaves the rest to the next refresh.

        Returns:
            The number of rows written.

        Raises:
            ConcurrentWriteError: another refresh came first. Refresh again.
            GoldError: a date could not be computed; what was done before is kept.
        """
        if lake.table(self.sources[0]).id() is None:
            return 0
        lake.table(ALARMS).ensure()
        written, is_left = 0, True
        while is_left:
            rows, is_left = self._advance(lake)
            written += rows
            if should_stop():
                break
        return written

    def settle(self, lake: Lake) -> None:
        """Notes which dates are stale: the log of alerts is kept for hours only.

        Raises:
            ConcurrentWriteError: a refresh came first, and did the same.
        """
        part = self._part(lake)
        if part.gold.exists() and part.gold.is_current() and not (stale := self._stale(lake)).is_noted:
            _commit(part, nothing(), None, stale.after(()), stale.known, ())

    def _advance(self, lake: Lake) -> tuple[int, bool]:
        """One commit. Tells the rows written, and whether another commit has something to do."""
        part, store = self._part(lake), StreamStore(self.contract, lake)
        # Before any row is read: whoever commits meanwhile raises this number.
        fence = part.transactions([BUILDS, _REFRESHED_AT])
        store.look()
        # Alerts behind these offsets may be stored before their alarms are.
        reached = store.offsets("alarms")
        steps, begins = self._steps(lake, part), self._begins(lake, part)
        work = _Work(part, Measure(self.contract, self._rules(lake)))
        _told(lambda: work.take(steps))
        table = lake.table(self.sources[1])
        newest = table.newest("event_date")
        stale = self._stale(lake, work.moved(newest) if newest else ())
        # Alerts that retention removes now are there in this version, and no date of it is closed for them.
        version = table.version()
        closed = self._closed(lake, version)
        days = stale.days - closed
        # Until all alarms are known, all breaches would be missed ones.
        due = sorted(days)[-MAX_DATES:] if steps.is_last else []
        alerts = table.scan(version).filter(pl.col("ingest_date") >= date.fromordinal(begins.day))
        of_day = {day: alerts.filter(pl.col("event_date") == day) for day in due}
        whole = [day for day in due if _told(partial(work.judge, day, of_day[day], reached))]
        now = int(datetime.now(UTC).timestamp())
        marks = {**stale.after([*whole, *closed]), **steps.marks, **begins.marks, _REFRESHED_AT: now}
        known = {**stale.known, **steps.known, BUILDS: fence.get(BUILDS), _REFRESHED_AT: fence.get(_REFRESHED_AT)}
        return work.write(marks, known), not steps.is_last or bool(days.difference(due))

    def _part(self, lake: Lake) -> _Part:
        return _Part(lake.table(ALARMS), self.contract.stream)

    def _stale(self, lake: Lake, more: Iterable[date] = ()) -> StaleDates:
        return look(self._part(lake), [lake.table(self.sources[1])], "event_date", DEFINITION, {*more})

    def _closed(self, lake: Lake, version: int | None = None) -> set[date]:
        """The dates of which alerts were archived: what was missed on them, or never was, stays as it is."""
        return closed_event_dates(lake, self.sources[1], 0, version)

    def _stored(self, alarms: LakeTable) -> int:
        """The last step that the table of alarms has."""
        folds = f"{self.contract.stream}/{FOLDS}"
        return alarms.transactions([folds]).get(folds, 0)

    def _steps(self, lake: Lake, part: _Part) -> _Steps:
        """The next rows of the table of alarms; of one ingest date, since there may be years of them."""
        alarms = lake.table(self.sources[0])
        alarms_id = str(alarms.id())
        folds, ingest = _folds(alarms_id), f"ingest/{alarms_id}"
        known = part.transactions([folds, ingest])
        after, stored = known.get(folds, 0), self._stored(alarms)
        since = known.get(ingest, 0)
        days = [day for day in alarms.dates("ingest_date") if day.toordinal() >= since]
        if not days or after >= stored:
            return _Steps(_none(alarms), _none(alarms), {}, known, is_last=True)
        is_last, fold = len(days) == 1, pl.col("fold")
        new = alarms.scan().filter(pl.col("ingest_date") == days[0], fold > after, fold <= stored, pl.col("index") >= 0)
        transitions = new.filter(~pl.col("is_update")).collect()
        updates = (
            new.filter(pl.col("is_update"))
            .group_by("alarm_id")
            .agg(*(pl.col(name).sort_by("fold").last() for name in COUNTED[1:]))
            .collect(engine="streaming")
        )
        seen = max([after, *transitions["fold"], *updates["fold"]])
        marks = {folds: stored if is_last else seen, ingest: (days[0] if is_last else days[1]).toordinal()}
        return _Steps(transitions, updates, marks, known, is_last)

    def _begins(self, lake: Lake, part: _Part) -> "_Begins":
        """From which ingest date on the stream has had alarms."""
        alarms = lake.table(self.sources[0])
        name = f"begins/{alarms.id()}"
        if (known := part.transactions([name]).get(name)) is not None:
            return _Begins(known, {})
        days = [*alarms.dates("ingest_date"), *archived(lake, alarms)]
        days = days or lake.table(self.sources[1]).dates("ingest_date")[-1:]
        first = min(days, default=date.min).toordinal()
        return _Begins(first, {name: first} if days else {})

    def _rules(self, lake: Lake) -> list[Rule]:
        """The contract's rules, and those that only the table of rules has."""
        of = self.contract.rule_table
        if of is None:
            return [*self.contract.rules]
        versions = lake.table(of.table).scan().filter(pl.col("stream") == self.contract.stream).collect()
        return RuleVersions(self.contract, of, versions).rules if versions.height else [*self.contract.rules]


class _Work:
    """What one commit changes: rows of open alarms, and all rows of some event dates.

    Args:
        part: of `gold/alarms`.
        measure: of the stream.
    """

    def __init__(self, part: _Part, measure: Measure) -> None:
        self._part, self._measure = part, measure
        self._stored = part.gold.scan().filter(pl.col("stream") == part.stream)
        self._before = self._after = self._stored.filter(pl.col("is_open")).collect()
        self._touched = nothing()
        self._whole: set[date] = set()

    def take(self, steps: _Steps) -> None:
        """Carries alarms on by what happened to them."""
        if steps.transitions.is_empty() and steps.updates.is_empty():
            return
        is_open = pl.col("alarm_id").is_in(self._before["alarm_id"].implode())
        self._load(steps.transitions.filter(~is_open)["raised_at"].dt.date())
        ids = pl.concat([steps.transitions["alarm_id"], steps.updates["alarm_id"]]).unique()
        is_touched = pl.col("alarm_id").is_in(ids.implode())
        self._touched = self._measure.recorded(self._after.filter(is_touched), steps.transitions, steps.updates)
        self._load(self._touched.filter(~pl.col("is_open"))["event_date"])
        self._put(is_touched, self._touched)

    def moved(self, newest: date) -> set[date]:
        """The dates that are stale since alarms cover another time."""
        before = self._before.join(self._touched, on="alarm_id", how="semi")
        return self._measure.dates(before, self._touched, newest)

    def judge(self, day: date, alerts: pl.LazyFrame, reached: Offsets) -> bool:
        """Finds the missed episodes and the retracted alarms of a date anew.

        Args:
            day: the date.
            alerts: of the date.
            reached: up to where the alarms are stored that follow from alerts.

        Returns:
            Whether all alerts count; otherwise the date must be looked at again.
        """
        self._load([day])
        measure = self._measure
        is_of_day, is_alarm = pl.col("event_date") == day, pl.col("state") != MISSED
        alarms, reaching = self._after.filter(is_of_day, is_alarm), self._reaching(day)
        raised = alarms.select("entity", "cause", measured_at="raised_at").unique()
        is_whole, confirmed, parts = True, [raised.clear()], []
        for some in slices(alerts, "measured_at", SLICE_ROWS):
            breaches = measure.breaches(some).collect(engine="streaming")
            confirmed.append(raised.join(breaches, on=raised.columns, how="semi"))
            told = breaches.filter(~is_beyond(reached))
            is_whole &= told.height == breaches.height
            parts.append(measure.joined(measure.parts(measure.outside(told, reaching))))
        self._put(is_of_day & is_alarm, measure.judged(alarms, pl.concat(confirmed)))
        missed = measure.missed(measure.joined(pl.concat(parts))) if parts else nothing()
        self._put(is_of_day & ~is_alarm, missed)
        return is_whole

    def write(self, marks: Mapping[str, int], known: Mapping[str, int | None]) -> int:
        """Commits what is another than before, with marks; `known` is what the log must still hold of them."""
        days = {*self._before["event_date"], *self._after["event_date"]}
        before, after = _by_date(self._before), _by_date(self._after)
        changed = {day for day in days if not _same(before.get((day,)), after.get((day,)))}
        rows = self._after.filter(pl.col("event_date").is_in([*changed])).sort("event_date", "alarm_id")
        is_any = [f"event_date IN ({_listed(changed & self._whole)})"] if changed & self._whole else []
        if rest := changed - self._whole:
            is_any.append(f"(is_open = true AND event_date IN ({_listed(rest)}))")
        predicate = f"stream = '{self._part.stream}' AND ({' OR '.join(is_any)})" if is_any else None
        return _commit(self._part, rows, predicate, marks, known, changed)

    def _load(self, days: Iterable[date]) -> None:
        """Reads what is stored of dates besides open alarms."""
        if new := {*days} - self._whole:
            rows = self._stored.filter(pl.col("event_date").is_in([*new]), ~pl.col("is_open")).collect()
            self._before, self._after = (pl.concat([each, rows]) for each in (self._before, self._after))
            self._whole |= new

    def _put(self, which: pl.Expr, rows: pl.DataFrame) -> None:
        self._after = pl.concat([self._after.filter(~which), rows])

    def _reaching(self, day: date) -> pl.DataFrame:
        """The alarms that cover a time of the date."""
        gap = self._measure.gap
        begin = datetime.combine(day, time(), UTC) - gap
        end = begin + timedelta(days=1) + 2 * gap
        is_reaching = (pl.col("raised_at") <= end) & (pl.col("cleared_at").is_null() | (pl.col("cleared_at") >= begin))
        files = self._part.gold.files().filter(
            pl.col("stream") == self._part.stream,
            ~pl.col("is_open"),
            pl.col("event_date") <= end.date(),
            # Statistics cut instants to milliseconds.
            pl.col("max.cleared_at") >= begin - timedelta(milliseconds=1),
        )
        days = {*files["event_date"]} - self._whole
        stored = self._stored.filter(~pl.col("is_open"), pl.col("event_date").is_in([*days]))
        rows = [self._after, stored.filter(is_reaching).collect()] if days else [self._after]
        return pl.concat(rows).filter(is_reaching, pl.col("state") != MISSED)


def _told(work: Callable[[], _T]) -> _T:
    """The result of the work; an error in it tells nothing of a reading."""
    return without_text(partial(GoldError.of, ALARMS.name), work)


def _by_date(rows: pl.DataFrame) -> dict[tuple[object, ...], pl.DataFrame]:
    return rows.sort("alarm_id").partition_by("event_date", as_dict=True)


def _same(before: pl.DataFrame | None, after: pl.DataFrame | None) -> bool:
    return before is not None and after is not None and before.equals(after)


def _listed(days: Iterable[date]) -> str:
    return ", ".join(f"'{day.isoformat()}'" for day in sorted(days))


def _commit(
    part: _Part,
    rows: pl.DataFrame,
    predicate: str | None,
    marks: Mapping[str, int],
    known: Mapping[str, int | None],
    days: Iterable[date],
) -> int:
    """Replaces the rows of a predicate; none without one."""
    transactions = {part.id(name): value for name, value in marks.items()}
    expected = {part.id(name): known.get(name) for name in marks}
    if predicate is None:
        before = {app_id: value for app_id, value in expected.items() if value is not None}
        part.gold.append(rows, transactions=transactions, expected=before)
        return 0
    return part.gold.replace([rows], predicate, transactions=transactions, expected=expected, event_dates=days)


def _folds(alarms_id: str) -> str:
    return f"folds/{alarms_id}"


def _none(alarms: LakeTable) -> pl.DataFrame:
    return pl.DataFrame(schema=alarms.table.schema)
