"""Rules as data: which version of each rule holds for a reading, in memory.

A version has a scope and perhaps hours. Of those that hold for a reading at its time the most specific scope wins, then
one with hours, then the later one. Which count depends on `measured_at`, `pulled_at` and the subject alone, as for
enrichment. Versions are laid out once for each state of knowledge, so that a reading is a look-up and no loop:

```
 subject ──▶ epoch: between two instants from which versions of the subject hold ─┐
 local minute ──▶ part of the day: between two hours of the subject's versions ───┴─▶ cell: the version of each rule
```
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple, get_args

import numpy as np
import polars as pl
import polars_hash as plh
from numpy.typing import NDArray

from assets.bitemporal import (
    IS_DELETED,
    KNOWN_AT,
    SAFETY_DELAY,
    VALID_FROM,
    AsOf,
    ByKnowledge,
    Int64s,
    Snapshot,
    microseconds,
)
from assets.stream.contract import GROUP_SEPARATOR, Contract, Rule, RuleTable, Severity
from assets.stream.limits import LIMIT_COLUMNS, Limits, limits_of

ALL, GROUP = "all", "group"
MINUTES_OF_DAY = 24 * 60
_MINUTE = 60_000_000
_MOST_DAYS = 8
"""Of how many days the local time of each minute is kept; readings of more days are looked at one by one."""

_Int32s = NDArray[np.int32]


THING = ("rule_id", "scope", "hours_from", "hours_to")
"""What versions are versions of."""
READ_COLUMNS = (
    *THING,
    "stream",
    "cause",
    "column",
    "comparison",
    "threshold",
    "severity",
    "is_enabled",
    "version",
    *LIMIT_COLUMNS,
    VALID_FROM,
    KNOWN_AT,
    IS_DELETED,
)
"""What is read of the table."""
_DEFINITION = ("rule_id", "column", "comparison")
_HOURS = ("hours_from", "hours_to")
_TIME_OF_DAY = r"^(?:[01][0-9]|2[0-3]):[0-5][0-9]$"


class Told(NamedTuple):
    """Which version of each rule holds for some readings.

    Attributes:
        rules: the contract's, then those that only the table has.
        rows: what an alert says of a version: first of each of `rules`, then of each version of the table.
        numbers: for each reading (row) and rule (column) which row that is.
        thresholds: of each row.
        is_enabled: whether each row can be broken.
        limits: how alarms of each row behave.
        touched: which rules some reading has a version of the table of.
    """

    rules: Sequence[Rule]
    rows: pl.DataFrame
    numbers: NDArray[np.intp]
    thresholds: NDArray[np.float64]
    is_enabled: NDArray[np.bool_]
    limits: Limits
    touched: frozenset[int]


class RuleVersions:
    """The versions of one stream's rules.

    Args:
        contract: the stream, which has a rule table.
        versions: all rows of that table.
    """

    def __init__(self, contract: Contract, table: RuleTable, versions: pl.DataFrame) -> None:
        self.table = table
        of_stream = _sound(contract, table, versions)
        self.rules = [*contract.all_rules, *_only_in_table(contract, of_stream)]
        kind = pl.col("scope").str.extract("^([^:]*)")
        place = kind.replace_strict([ALL, GROUP, table.scope], [0, 1, 2], return_dtype=pl.Int64)
        has_hours = pl.col("hours_from").is_not_null()
        # The later row wins where two hold, so that which one does is the greater of two numbers.
        ordered = of_stream.sort(place, has_hours, VALID_FROM, KNOWN_AT, "version")
        self.rows = pl.concat([told_of(self.rules), _told(ordered)])
        of_table = np.zeros(len(self.rules), bool)
        of_table[: len(contract.all_rules)] = True
        self.thresholds = self.rows["threshold"].to_numpy()
        self.is_enabled = np.concatenate([of_table, ordered["is_enabled"].to_numpy()])
        self.limits = limits_of(contract, self.rules, ordered)
        number_of = {rule.id: number for number, rule in enumerate(self.rules)}
        self.touched = sorted({number_of[each] for each in ordered["rule_id"].unique()})
        column_of = {self.rules[number].id: place for place, number in enumerate(self.touched)}
        self.groups = ordered.filter(kind == GROUP).select(_named()).to_series().unique().sort().to_list()
        group_of = {name: number for number, name in enumerate(self.groups)}
        subject = (
            pl.when(place == 0)
            .then(0)
            .when(place == 1)
            .then(_named().replace_strict(group_of, default=None, return_dtype=pl.Int64))
            .otherwise(_named().cast(pl.Int64, strict=False))
        )
        self._laid_out = ordered.select(
            kind=place,
            subject=subject,
            thing=pl.struct(THING).rank("dense").cast(pl.Int64),
            rule=pl.col("rule_id").replace_strict(column_of, return_dtype=pl.Int64),
            valid_from=VALID_FROM,
            known_at=KNOWN_AT,
            begins=_minute("hours_from"),
            ends=_minute("hours_to"),
            is_deleted=IS_DELETED,
            row=pl.int_range(pl.len(), dtype=pl.Int64) + len(self.rules),
        )
        by_knowledge = self._laid_out.sort(KNOWN_AT, maintain_order=True)
        self.known = ByKnowledge(
            by_knowledge[KNOWN_AT], lambda count: _State(by_knowledge.head(count), len(self.touched))
        )

    @property
    def is_empty(self) -> bool:
        """Whether the table says nothing of the stream."""
        return self._laid_out.is_empty()


class Rulebook:
    """Finds for many readings at once which version of each rule holds.

    Args:
        versions: of the rules.
        subjects: the versions of the subjects; without them all are in UTC and in no group.
    """

    def __init__(self, versions: RuleVersions, subjects: AsOf | None) -> None:
        self._versions, self._subjects = versions, subjects
        self._people = None if subjects is None else _People(subjects.versions, versions.table, versions.groups)

    @property
    def rules(self) -> Sequence[Rule]:
        """The contract's rules, then those that only the table has."""
        return self._versions.rules

    @property
    def limits(self) -> Limits:
        """How alarms of each version behave."""
        return self._versions.limits

    def told(self, rows: pl.DataFrame) -> Told:
        """Which version of each rule holds for readings.

        Args:
            rows: with the subject's column, `measured_at` and `pulled_at`.
        """
        versions, count = self._versions, rows.height
        held: _Int32s = np.full((count, len(versions.touched)), -1, dtype=np.int32)
        known_by = rows["pulled_at"] - SAFETY_DELAY
        readings = self._readings(rows, known_by)
        for state, places in versions.known.groups(known_by):
            held[places] = state.held(readings.at(places))
        numbers = np.empty((count, len(versions.rules)), np.intp)
        numbers[:] = np.arange(len(versions.rules))
        for column, rule in enumerate(versions.touched):
            # Rows of the table come after those of rules.
            numbers[:, rule] = np.maximum(held[:, column], rule)
        return Told(
            versions.rules,
            versions.rows,
            numbers,
            versions.thresholds,
            versions.is_enabled,
            versions.limits,
            frozenset(versions.touched),
        )

    def _readings(self, rows: pl.DataFrame, known_by: pl.Series) -> "_Readings":
        keys, times = rows[self._versions.table.key], microseconds(rows["measured_at"])
        if self._subjects is None or self._people is None:
            nobody: Int64s = np.full(rows.height, -1, dtype=np.int64)
            return _Readings(_numbers(keys), keys.is_null().to_numpy(), times, nobody, None)
        who = self._subjects.rows_of(keys, rows["measured_at"], known_by).fill_null(-1).to_numpy()
        return _Readings(_numbers(keys), keys.is_null().to_numpy(), times, who, self._people)


class _People:
    """What rules need of each version of a subject.

    ```
    groups_of    for each version which text of groups it has; the last one is that of no group
    begins       for each text where its groups begin in `groups`; those that no rule names are left out
    ```
    """

    def __init__(self, versions: pl.DataFrame, table: RuleTable, groups: Sequence[str]) -> None:
        self.zones, self.zone_of = _coded(versions[table.time_zone])
        texts, self.groups_of = _coded(versions[table.groups])
        number_of = {name: number for number, name in enumerate(groups)}
        named = [
            [number_of[name] for each in text.split(GROUP_SEPARATOR) if (name := each.strip()) in number_of]
            for text in texts
        ]
        self.counts = np.array([*map(len, named), 0], np.int64)
        self.begins = np.append(0, np.cumsum(self.counts))[:-1]
        self.groups = np.array([number for each in named for number in each], np.int64)


class _Readings(NamedTuple):
    keys: Int64s
    has_none: NDArray[np.bool_]
    times: Int64s
    who: Int64s
    people: _People | None

    def at(self, places: NDArray[np.intp] | slice) -> "_Readings":
        return _Readings(self.keys[places], self.has_none[places], self.times[places], self.who[places], self.people)

    def minutes(self, which: NDArray[np.intp]) -> Int64s:
        """The minute of the local day of some readings."""
        times = self.times[which]
        if self.people is None:
            return _minutes_in("UTC", times)
        who = self.who[which]
        # Numbers of 16 bits are sorted by counting.
        zones = np.where(who < 0, -1, self.people.zone_of[who]).astype(np.int16)
        order = np.argsort(zones, kind="stable")
        minutes: Int64s = np.empty(len(which), dtype=np.int64)
        for places in np.split(order, np.flatnonzero(np.diff(zones[order])) + 1):
            zone = int(zones[places[0]])
            minutes[places] = _minutes_in(self.people.zones[zone] if zone >= 0 else "UTC", times[places])
        return minutes


class _State:
    """The versions that were known at one moment."""

    def __init__(self, known: pl.DataFrame, rule_count: int) -> None:
        by_kind = {int(key[0]): rows for key, rows in known.partition_by("kind", as_dict=True).items()}
        self._layouts: Mapping[int, _Layout] = {kind: _Layout(rows, rule_count) for kind, rows in by_kind.items()}
        self._rule_count = rule_count

    def held(self, readings: _Readings) -> _Int32s:
        """The row that holds for each reading and rule; -1 where none does."""
        count = len(readings.times)
        held: _Int32s = np.full((count, self._rule_count), -1, dtype=np.int32)
        everyone = np.arange(count)
        if (of_all := self._layouts.get(0)) is not None:
            np.maximum(held, of_all.held(np.zeros(count, np.int64), everyone, readings), out=held)
        if (of_groups := self._layouts.get(1)) is not None and readings.people is not None:
            people = readings.people
            texts = np.where(readings.who < 0, len(people.counts) - 1, people.groups_of[readings.who])
            counts = people.counts[texts]
            members = np.flatnonzero(counts)
            if len(members):
                owners = np.repeat(members, counts[members])
                ends = np.cumsum(counts[members])
                begins = ends - counts[members]
                nth = np.arange(len(owners)) - np.repeat(begins, counts[members])
                groups = people.groups[people.begins[texts[owners]] + nth]
                of_each = np.maximum.reduceat(of_groups.held(groups, owners, readings), begins, axis=0)
                held[members] = np.maximum(held[members], of_each)
        if (of_one := self._layouts.get(2)) is not None:
            if not readings.has_none.any():
                return np.maximum(held, of_one.held(readings.keys, everyone, readings))
            named = np.flatnonzero(~readings.has_none)
            held[named] = np.maximum(held[named], of_one.held(readings.keys[named], named, readings))
        return held


class _Layout:
    """The versions of scopes of one kind, by subject.

    ```
    snapshot     for a subject and an instant the epoch
    place_of     for each epoch which subject it is of
    cells_from   for each epoch where its cells begin, one for each part of the subject's day
    parts        for each part of a subject's day 1,440 times the subject's place, plus the minute when it begins
    begins       for each part the minute when it begins
    parts_from   for each subject where its parts begin
    cells        for each cell and rule the row that holds, -1 if none
    ```
    """

    def __init__(self, rows: pl.DataFrame, rule_count: int) -> None:
        versions = rows.sort("thing", VALID_FROM, KNOWN_AT, maintain_order=True).unique(
            ["thing", VALID_FROM], keep="last", maintain_order=True
        )
        subjects, place = np.unique(versions["subject"].to_numpy(), return_inverse=True)
        valid_from = microseconds(versions[VALID_FROM])
        order = np.lexsort((valid_from, place))
        is_new = np.append(True, (np.diff(place[order]) != 0) | (np.diff(valid_from[order]) != 0))
        epoch = np.empty(len(order), np.int64)
        epoch[order] = np.cumsum(is_new) - 1
        first = order[is_new]
        self._place_of = place[first]
        epochs_to = np.searchsorted(self._place_of, np.arange(len(subjects)), side="right")
        thing = versions["thing"].to_numpy()
        # A version holds until the next one of its thing.
        until = np.where(np.append(np.diff(thing) == 0, False), np.append(epoch[1:], 0), epochs_to[place])
        self._lay_parts(versions, place, len(subjects))
        counts = self._part_counts[self._place_of]
        self._cells_from = np.append(0, np.cumsum(counts))[:-1]
        self._cells: _Int32s = np.full((int(counts.sum()), rule_count), -1, dtype=np.int32)
        self._fill(versions, place, epoch, until)
        self._snapshot = Snapshot(
            pl.DataFrame(
                {"subject": subjects[self._place_of], VALID_FROM: versions[VALID_FROM][pl.Series(first)]}
            ).with_columns(pl.lit(versions[KNOWN_AT][0]).alias(KNOWN_AT), pl.lit(False).alias(IS_DELETED)),
            "subject",
        )

    def held(self, subjects: Int64s, owners: NDArray[np.intp], readings: _Readings) -> _Int32s:
        """The row that holds for each subject and rule at the time of a reading; -1 where none does.

        Args:
            subjects: keys.
            owners: for each of them the place of its reading.
            readings: the readings.
        """
        epochs = self._snapshot.rows_of(subjects, readings.times[owners])
        found = np.flatnonzero(epochs >= 0)
        held: _Int32s = np.full((len(subjects), self._cells.shape[1]), -1, dtype=np.int32)
        if not len(found):
            return held
        epochs = epochs[found]
        places = self._place_of[epochs]
        cells = self._cells_from[epochs]
        # Most subjects have no hours.
        divided = np.flatnonzero(self._part_counts[places] > 1)
        if len(divided):
            cells[divided] += self._nth_part(places[divided], readings.minutes(owners[found[divided]]))
        if len(found) == len(subjects):
            held = self._cells[cells]
        else:
            held[found] = self._cells[cells]
        return held

    def _nth_part(self, places: NDArray[np.intp], minutes: Int64s) -> Int64s:
        """Which part of each subject's day a minute lies in."""
        first = low = self._parts_from[places]
        high = low + self._part_counts[places] - 1
        # Each step halves what is left; a search in the parts of all subjects takes three times as long.
        for _ in range(int(self._part_counts.max() - 1).bit_length()):
            middle = (low + high + 1) >> 1
            has_begun = self._begins[middle] <= minutes
            low, high = np.where(has_begun, middle, low), np.where(has_begun, high, middle - 1)
        nth: Int64s = low - first
        return nth

    def _lay_parts(self, versions: pl.DataFrame, place: NDArray[np.intp], subject_count: int) -> None:
        day = MINUTES_OF_DAY * np.arange(subject_count, dtype=np.int64)
        hours = [MINUTES_OF_DAY * place + versions[name].fill_null(0).to_numpy() for name in ("begins", "ends")]
        self._parts: Int64s = np.unique(np.concatenate([day, *hours]))
        self._begins = self._parts % MINUTES_OF_DAY
        self._parts_from = np.searchsorted(self._parts, day)
        self._part_counts = np.diff(np.append(self._parts_from, len(self._parts)))

    def _fill(self, versions: pl.DataFrame, place: NDArray[np.intp], epoch: Int64s, until: Int64s) -> None:
        begins, ends = (versions[name].fill_null(0).to_numpy() for name in ("begins", "ends"))
        first, count = self._parts_from[place], self._part_counts[place]
        low, high = (np.searchsorted(self._parts, MINUTES_OF_DAY * place + each) - first for each in (begins, ends))
        # Hours that pass midnight are what lies before their end and what lies after their begin.
        is_split, holds = begins > ends, ~versions[IS_DELETED].to_numpy()
        is_always = begins == ends
        spans = (
            (holds, np.where(is_always, 0, low), np.where(is_always | is_split, count, high)),
            (holds & is_split, np.zeros_like(low), high),
        )
        rules, rows = versions["rule"].to_numpy(), versions["row"].to_numpy().astype(np.int32)
        for is_of, span_from, span_to in spans:
            which = np.flatnonzero(is_of)
            width = (span_to - span_from)[which]
            size = (until - epoch)[which] * width
            owner = np.repeat(np.arange(len(which)), size)
            nth = np.arange(len(owner)) - np.repeat(np.cumsum(size) - size, size)
            epochs = epoch[which][owner] + nth // width[owner]
            cells = self._cells_from[epochs] + span_from[which][owner] + nth % width[owner]
            np.maximum.at(self._cells, (cells, rules[which][owner]), rows[which][owner])


def told_of(rules: Sequence[Rule]) -> pl.DataFrame:
    """One row a rule: what each of its alerts says of it."""
    types = {"rule_id": pl.String, "version": pl.Int64, "severity": pl.String, "threshold": pl.Float64}
    given = [(rule.id, rule.version, rule.severity, rule.threshold, rule.column) for rule in rules]
    return _told(pl.DataFrame(given, schema=types | {"column": pl.String}, orient="row"))


def digest(text: plh.HExpr) -> pl.Expr:
    """XXH3 of a text as an integer of 64 bits."""
    number: pl.Expr = text.nchash.xxh3_64()
    return number.reinterpret(signed=True)


def _told(rows: pl.DataFrame) -> pl.DataFrame:
    told = rows.select("severity", "threshold", "column", rule="rule_id", rule_version="version")
    return told.with_columns(identity=digest(plh.concat_str("rule", "rule_version", separator="|")))


def _sound(contract: Contract, table: RuleTable, versions: pl.DataFrame) -> pl.DataFrame:
    """The rows of the stream that can be evaluated. What a rule compares, and how, never changes.

    A row that no command wrote may hold anything; it must not stop the stream.
    """
    columns = contract.comparable | {rule.column for rule in contract.all_rules}
    compared = pl.DataFrame(
        [(column, each) for column in sorted(columns) for each in contract.comparisons_of(column)],
        schema=dict.fromkeys(("column", "comparison"), pl.String()),
        orient="row",
    )
    of_stream = versions.filter(
        pl.col("stream") == contract.stream,
        pl.col("scope").str.contains(rf"^(?:{ALL}|{GROUP}:.+|{table.scope}:-?[0-9]+)$"),
        ~pl.col("scope").str.starts_with(f"{table.scope}:") | _named().cast(pl.Int64, strict=False).is_not_null(),
        pl.col("severity").is_in(get_args(Severity)),
        pl.col("threshold").is_finite(),
        *(pl.col(name).str.contains(_TIME_OF_DAY).fill_null(True) for name in _HOURS),
        pl.col(_HOURS[0]).is_null() == pl.col(_HOURS[1]).is_null(),
    ).join(compared, on=["column", "comparison"], how="semi", maintain_order="left")
    own = pl.DataFrame(
        [(rule.id, rule.column, rule.comparison) for rule in contract.all_rules],
        schema=dict.fromkeys(_DEFINITION, pl.String()),
        orient="row",
    )
    added = of_stream.sort(KNOWN_AT, "version").select(_DEFINITION)
    defined = pl.concat([own, added]).unique("rule_id", keep="first", maintain_order=True)
    return of_stream.join(defined, on=_DEFINITION, how="semi", maintain_order="left")


def _only_in_table(contract: Contract, of_stream: pl.DataFrame) -> list[Rule]:
    own = [rule.id for rule in contract.all_rules]
    added = of_stream.filter(~pl.col("rule_id").is_in(own)).sort(KNOWN_AT, "version")
    first = added.unique("rule_id", keep="first", maintain_order=True)
    return [
        Rule(row["rule_id"], row["column"], row["comparison"], row["threshold"], row["severity"], cause=row["cause"])
        for row in first.iter_rows(named=True)
    ]


def _named() -> pl.Expr:
    return pl.col("scope").str.extract("^[^:]*:(.*)$")


def _minute(name: str) -> pl.Expr:
    return pl.col(name).str.slice(0, 2).cast(pl.Int64) * 60 + pl.col(name).str.slice(3, 2).cast(pl.Int64)


def _numbers(keys: pl.Series) -> Int64s:
    numbers: Int64s = (keys.fill_null(0) if keys.has_nulls() else keys).to_numpy()
    return numbers


def _coded(texts: pl.Series) -> tuple[list[str], Int64s]:
    """The distinct texts, and for each row which one it has; -1 where it has none."""
    distinct = texts.drop_nulls().unique().sort()
    codes: Int64s = (texts.rank("dense").cast(pl.Int64) - 1).fill_null(-1).to_numpy()
    return distinct.to_list(), codes


def _minutes_in(zone: str, times: Int64s) -> Int64s:
    """The minute of the local day at each instant."""
    minutes = times // _MINUTE
    if not len(minutes):
        return minutes
    first, last = (int(each) // MINUTES_OF_DAY for each in (minutes.min(), minutes.max()))
    if last - first >= _MOST_DAYS:
        return _local(zone, minutes)
    days = np.concatenate([_local_day(zone, day) for day in range(first, last + 1)])
    return days[minutes - first * MINUTES_OF_DAY].astype(np.int64)


@lru_cache(maxsize=_MOST_DAYS * 64)
def _local_day(zone: str, day: int) -> NDArray[np.int16]:
    """The minute of the local day at each minute of a day, UTC. Most readings are of the same few days."""
    return _local(zone, day * MINUTES_OF_DAY + np.arange(MINUTES_OF_DAY)).astype(np.int16)


def _local(zone: str, minutes: Int64s) -> Int64s:
    instants = pl.Series(minutes * _MINUTE).cast(pl.Datetime("us", "UTC"))
    try:
        local = instants.dt.convert_time_zone(zone)
    except pl.exceptions.ComputeError:
        # Python knows some names that Polars does not.
        local = instants
    numbers: Int64s = microseconds(local.dt.replace_time_zone(None)) // _MINUTE % MINUTES_OF_DAY
    return numbers
