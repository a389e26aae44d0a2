"""Alarms as a fold: readings, deadlines and actions in, transitions out. Pure; docs/adr/0039 defines each transition.

Most of a micro-batch changes no alarm. So readings become *runs* first: consecutive readings of an entity that say the
same of a cause. Only runs that may matter are looked at one by one:

```
 measured_at   10:00  10:05  10:10  10:15  10:20        T: severity of the rules that are true
 glucose          90     68     66     72     90        H: severity of those that are true or held
 T, H            0,0    1,1    1,1    0,1    0,0
 runs            ---    ----------     ---    ---       raised at 10:05, cleared 10 minutes after 10:20
```

All instants are in microseconds since 1970, UTC.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from heapq import heappop, heappush
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from assets.alarms.tables import (
    ACKNOWLEDGED,
    ACTION_KINDS,
    CLEARED,
    MAX_TIER,
    RANKS,
    REFUSED,
    REFUSED_COUNT,
    REFUSED_WITHIN,
    SEVERITIES,
    SILENCE,
    SNOOZED,
    UNACKNOWLEDGED,
    UPDATED,
    WATCHED_FOR,
    AlarmRows,
)

Int64s = NDArray[np.int64]
Bools = NDArray[np.bool_]

NEVER = -(2**62)
"""An instant before all others."""
LATE_AFTER = timedelta(hours=2)
"""How long after it happened a transition is decided to be called late, as alerts are."""
_ENDED_FOR = timedelta(hours=1)
"""For how long it is known which alarms ended: another reading of the same instant may raise one again."""
FORGOTTEN = "not heard of for 7 days, watched no more"
SNAPSHOT_EVERY = timedelta(minutes=5)
"""How often all open alarms are written, so that a start need not read further back."""
_SECOND = 1_000_000
_WARNING = RANKS["warning"]
_ID_BYTES = 8
_SNOOZE = "end of a snooze: "
_INSTANTS = ("at", "decided_at", "raised_at", "measured_at", "until", "clear_since", "told_at", "due_at")
ANY = ""
"""Stands for all measurements."""
NOT_SILENT = 2**62
"""A time after which nobody is silent."""
NO_LIMIT = -1
"""In arrays of durations: there is none."""

_SCHEMA = pl.Schema({name: column.dtype for name, column in AlarmRows.columns().items()})


class Place(NamedTuple):
    """Where a reading is in bronze."""

    hub_epoch: int
    partition: int
    sequence_number: int
    event_index: int


class Versions(NamedTuple):
    """The versions of rules that readings are judged by; durations in microseconds, `NO_LIMIT` for none."""

    rule_ids: Sequence[str]
    numbers: Sequence[int]
    thresholds: Sequence[float]
    clear_after: Int64s
    remind_every: Int64s
    escalate_after: Int64s


class Judged(NamedTuple):
    """What readings say of one cause, an item for each reading.

    Attributes:
        cause: its name.
        is_downward: whether lower values are worse.
        true: the rank of the greatest severity of rules that are true, 0 if none is.
        held: the same of rules that are true or held.
        is_evaluated: whether any rule is evaluated.
        value: of the leading rule's column.
        version: which of the versions the leading rule has.
        looked_at: the measurements that its rules look at.
    """

    cause: str
    is_downward: bool
    true: NDArray[np.int8]
    held: NDArray[np.int8]
    is_evaluated: Bools
    value: NDArray[np.float64]
    version: Int64s
    looked_at: tuple[str, ...]


class Silence(NamedTuple):
    """After which time without a reading an entity is silent, and by which version of a rule.

    Attributes:
        after: microseconds.
        severity: the rank of the alarm's severity.
        rule_id, rule_version, minutes: of the rule.
    """

    after: int
    severity: int
    rule_id: str
    rule_version: int
    minutes: float


class Readings(NamedTuple):
    """The readings of one micro-batch, an item for each, in the order of processing.

    Attributes:
        entity, measured_at, received_at: of each.
        order: of processing.
        hub_epoch, partition, sequence_number, event_index: its place in bronze.
        is_fresh: whether it is fresh for any rule.
        is_accepted: whether it stands; revisions do not.
        is_new: False for what was folded before a crash.
        has_value: for each measurement which readings are fresh and have one; `ANY` is of all fresh ones.
        causes: what they say of each cause.
        versions: that `causes` refers to.
        silences: the versions of the rule about silence; None for one that says that nobody is told of it.
        silence: which of them holds for each reading.
    """

    entity: Int64s
    measured_at: Int64s
    received_at: Int64s
    order: Int64s
    hub_epoch: Int64s
    partition: Int64s
    sequence_number: Int64s
    event_index: Int64s
    is_fresh: Bools
    is_accepted: Bools
    is_new: Bools
    has_value: Mapping[str, Bools]
    causes: Sequence[Judged]
    versions: Versions
    silences: Sequence[Silence | None]
    silence: Int64s

    def place(self, at: int) -> Place:
        """Where one of them is in bronze."""
        [place] = self.places(np.array([at]))
        return place

    def places(self, which: Int64s) -> Iterator[Place]:
        """Where some of them are in bronze."""
        numbers = (self.hub_epoch, self.partition, self.sequence_number, self.event_index)
        return map(Place._make, zip(*(each[which].tolist() for each in numbers), strict=True))


class Refusal(NamedTuple):
    """A reading that went to quarantine, of an entity that is known."""

    entity: int
    received_at: int
    order: int
    place: Place


class Seen(NamedTuple):
    """An entity that was heard of lately.

    Attributes:
        entity: its id.
        newest: for each measurement the newest time of a fresh reading with one; nothing where there was none.
        received_at: the newest receipt of a fresh reading; of any, the first one, where none is fresh.
        place: of that reading.
        silence: what holds for it.
        is_told: whether its silence since then was raised, by the marks of the table's log.
    """

    entity: int
    newest: Mapping[str, int]
    received_at: int
    place: Place
    silence: Silence | None
    is_told: bool


class Action(NamedTuple):
    """What a person did to an alarm."""

    action_id: str
    alarm_id: str
    action: str
    by: str
    note: str | None
    until: int | None
    at: int
    seen_index: int | None = None


class Step(NamedTuple):
    """What a step of the fold decided.

    Attributes:
        rows: of the table of alarms.
        fold: the step's number.
        is_snapshot: whether all open alarms are among the rows.
        silent: for each hub epoch and partition the last deadline of a silence that passed.
    """

    rows: pl.DataFrame
    fold: int
    is_snapshot: bool
    silent: Mapping[tuple[int, int], int]


class Timing(NamedTuple):
    """How an alarm behaves, in microseconds."""

    clear_after: int
    remind_every: int | None
    escalate_after: int | None


UNTIMED = Timing(0, None, None)
NOWHERE = Place(0, -1, -1, -1)


@dataclass(slots=True)
class Alarm:
    """One open alarm; the names are those of its table. `last` is the reading that counted last, until `settle`."""

    alarm_id: str
    entity: int
    cause: str
    severity: int
    raised_at: int
    told_at: int
    place: Place = NOWHERE
    measured_at: int = NEVER
    rule_id: str | None = None
    rule_version: int | None = None
    value: float | None = None
    threshold: float | None = None
    worst_value: float | None = None
    timing: Timing = UNTIMED
    state: str = UNACKNOWLEDGED
    index: int = -1
    worsened_index: int = -1
    reading_count: int = 0
    tier: int = 0
    until: int | None = None
    is_stale: bool = False
    clear_since: int | None = None
    due_at: int | None = None
    is_changed: bool = False
    last: "tuple[_Runs, int] | None" = None

    @property
    def escalates(self) -> bool:
        """Whether its deadlines count."""
        return self.state == UNACKNOWLEDGED and self.timing.escalate_after is not None

    def settle(self) -> None:
        """Says what the last reading that counted said."""
        if self.last is None:
            return
        runs, at = self.last
        versions, version = runs.readings.versions, runs.version[at]
        self.place, self.measured_at, self.value = runs.place(at), runs.measured_at[at], runs.value[at]
        self.rule_id, self.rule_version = versions.rule_ids[version], versions.numbers[version]
        self.threshold = versions.thresholds[version]
        self.last = None


@dataclass(slots=True)
class _Entity:
    newest: dict[str, int] = field(default_factory=dict)
    received_at: int = NEVER
    place: Place = field(default_factory=lambda: Place(0, 0, -1, -1))
    refusals: list[int] = field(default_factory=list)
    deadline: int | None = None
    silence: Silence | None = None
    is_told: bool = False


class _Runs:
    """The readings that say something of a cause, by entity and time; lists, since they are looked at one by one."""

    def __init__(self, readings: Readings, judged: Judged, which: Int64s) -> None:
        self.readings, self.cause, self.is_downward = readings, judged.cause, judged.is_downward
        self._judged, self._which = judged, which
        self.measured_at: list[int] = readings.measured_at[which].tolist()
        self.received_at: list[int] = readings.received_at[which].tolist()
        self.value: list[float] = judged.value[which].tolist()
        self.version: list[int] = judged.version[which].tolist()

    @cached_property
    def _places(self) -> Int64s:
        readings = self.readings
        numbers = (readings.hub_epoch, readings.partition, readings.sequence_number, readings.event_index)
        return np.column_stack(numbers)[self._which]

    def place(self, at: int) -> Place:
        """Where one of the readings is in bronze."""
        return Place(*self._places[at].tolist())

    def runs(self, groups: Int64s) -> Iterator[tuple[int, int, int, int, int]]:
        """Runs of readings of one group: the group, the first item, the one after the last, and what they say."""
        true, held = self._judged.true[self._which], self._judged.held[self._which]
        is_new = (np.diff(groups) != 0) | (np.diff(true) != 0) | (np.diff(held) != 0)
        begins = np.append(0, np.flatnonzero(is_new) + 1)
        ends = np.append(begins[1:], len(self._which))
        columns = (groups[begins], begins, ends, true[begins], held[begins])
        yield from zip(*(column.tolist() for column in columns), strict=True)

    def first(self, times: list[int], at: int, end: int, since: int) -> int:
        """The first of some readings with a time from an instant on; `end` if there is none."""
        # Usually there is none.
        return next((each for each in range(at, end) if times[each] >= since), end)


class _Gap(NamedTuple):
    """A time in which an entity was not heard of: its beginning, and the receipt and number of what ended it."""

    before: int
    received_at: int
    which: int
    silence: Silence | None
    is_told: bool


class _Contacts:
    """The readings that show that entities are there, by entity and receipt.

    Args:
        readings: all of them.
        codes: the entity of each, by its place among all entities.
        entities: when each was heard of before, and after which time it is silent.
    """

    def __init__(self, readings: Readings, codes: NDArray[np.intp], entities: Sequence[_Entity]) -> None:
        self.known = np.array([each.received_at for each in entities], np.int64)
        after = [NOT_SILENT if each.silence is None else each.silence.after for each in entities]
        self.silent_after = np.array(after, np.int64)
        of_contact = np.flatnonzero(readings.is_accepted & readings.is_fresh)
        self.order = of_contact[np.lexsort((readings.received_at[of_contact], codes[of_contact]))]
        self.codes, self.received_at = codes[self.order], readings.received_at[self.order]
        is_new = self.codes[1:] != self.codes[:-1]
        self.is_first = np.append(True, is_new)[: len(self.order)]
        self.is_last = np.append(is_new, True)[: len(self.order)]


class _Parted(NamedTuple):
    """A run of an entity that was silent: in which part of its readings it is."""

    segment: int
    runs: _Runs
    run: Sequence[int]


class Episodes:
    """The open alarms of a stream, and who is watched for silence.

    Args:
        stream: its name, part of each alarm's id.
        fold: the number of the last step.
    """

    def __init__(self, stream: str, fold: int = 0) -> None:
        self._stream, self._fold = stream, fold
        self._open: dict[tuple[int, str], Alarm] = {}
        self._by_id: dict[str, Alarm] = {}
        self._entities_of: dict[str, set[int]] = {}
        self._entities: dict[int, _Entity] = {}
        self._deadlines: dict[tuple[int, int], list[tuple[int, int, int, str]]] = {}
        self._pushed = 0
        self._rows: list[tuple[Any, ...]] = []
        self._changed: list[Alarm] = []
        self._decided_at = 0
        self._snapshot_at = NEVER
        self._applied: set[str] = set()
        self._refusing: set[int] = set()
        self._ended: dict[tuple[int, str], tuple[str, int, int]] = {}
        self._has_news = False
        self._silent: dict[tuple[int, int], int] = {}
        self.next_deadline: int | None = None
        """No deadline is passed before this instant. Another thread may read it."""

    def __len__(self) -> int:
        """How many alarms are open."""
        return len(self._open)

    @property
    def causes(self) -> set[str]:
        """The causes of open alarms."""
        return {cause for cause, entities in self._entities_of.items() if entities}

    @property
    def fold(self) -> int:
        """The number of the last step."""
        return self._fold

    # ------------------------------------------------------------------ what is known at a start

    def restore(self, rows: pl.DataFrame) -> None:
        """Takes up the alarms that are open by rows of the table, since a snapshot at least."""
        kept = rows.filter(pl.col("kind") != REFUSED).sort("fold", "index", "is_update")
        last = kept.unique("alarm_id", keep="last", maintain_order=True)
        instants = last.with_columns(pl.col(name).dt.epoch("us") for name in _INSTANTS)
        for row in instants.filter(pl.col("state") == CLEARED).iter_rows(named=True):
            self._ended[row["entity"], row["cause"]] = row["alarm_id"], row["index"], row["at"]
        for row in instants.filter(pl.col("state") != CLEARED).iter_rows(named=True):
            if row["index"] < 0:
                entity = self._entities.setdefault(row["entity"], _Entity())
                entity.refusals = [row["raised_at"], row["measured_at"]][-row["reading_count"] :]
                self._refusing.add(row["entity"])
                continue
            clear_after, remind, escalate = (row[name] for name in _TIMING)
            alarm = Alarm(
                place=Place(*(row[name] for name in Place._fields)),
                severity=RANKS[row["severity"]],
                timing=Timing((clear_after or 0) * _SECOND, _microseconds(remind), _microseconds(escalate)),
                **{name: row[name] for name in _SAME},
            )
            self._opened(alarm)
            self._await(alarm)

    @property
    def oldest(self) -> datetime | None:
        """When the oldest open alarm was raised."""
        raised_at = min((alarm.raised_at for alarm in self._open.values()), default=None)
        return None if raised_at is None else datetime.fromtimestamp(raised_at / _SECOND, UTC)

    def know(self, action_ids: Iterable[str]) -> None:
        """Takes up which actions are folded already; a repeat of one changes nothing."""
        self._applied.update(action_ids)

    def watch(self, seen: Iterable[Seen]) -> None:
        """Takes up who was seen lately."""
        for entity_id, newest, received_at, place, silence, is_told in seen:
            if not newest and (entity_id, SILENCE) in self._open:
                continue
            entity = self._entities.setdefault(entity_id, _Entity())
            entity.newest, entity.received_at, entity.place = {**newest}, received_at, place
            entity.silence, entity.is_told = silence, is_told or (entity_id, SILENCE) in self._open
            if entity.refusals and entity.refusals[-1] <= received_at:
                self._forget_refusals(entity_id, entity)
            self._watch(entity_id, entity)
        # Who has been silent for longer is known by the alarm alone.
        for entity_id, cause in [*self._open]:
            entity = self._entities.setdefault(entity_id, _Entity())
            if cause == SILENCE and entity.received_at == NEVER:
                alarm = self._open[entity_id, cause]
                entity.received_at, entity.place, entity.is_told = alarm.measured_at, alarm.place, True
                self._watch(entity_id, entity)
        self._look_ahead()

    # ------------------------------------------------------------------ steps

    def step(
        self,
        readings: Readings | None,
        refusals: Sequence[Refusal],
        received: Mapping[tuple[int, int], int],
        now: int,
    ) -> Step:
        """Folds a micro-batch.

        Args:
            readings: that stand, and urgent revisions; None if there are none.
            refusals: readings that went to quarantine, in the order of processing.
            received: for each hub epoch and partition when the hub got the newest event of the micro-batch.
            now: when they were pulled.
        """
        self._decided_at = now
        if readings is not None and len(readings.entity):
            self._read(readings)
        self._refuse(readings, refusals)
        for partition, until in received.items():
            self._pass_deadlines(partition, until)
        return self._done(now)

    def act(self, actions: Sequence[Action], now: int) -> Step:
        """Folds what people did, in the order in which it was learned of."""
        self._decided_at = now
        for action in actions:
            self._act(action)
        return self._done(now)

    def tick(self, now: int, busy: Set[tuple[int, int]] = frozenset()) -> Step:
        """Passes deadlines up to an instant, but for partitions that may hold what was received before it."""
        self._decided_at = now
        for partition in self._deadlines.keys() - busy:
            self._pass_deadlines(partition, now)
        return self._done(now)

    def _done(self, now: int) -> Step:
        self._has_news |= bool(self._rows or self._changed)
        is_snapshot = now - self._snapshot_at >= microseconds(SNAPSHOT_EVERY) and (self._has_news or bool(self._open))
        if is_snapshot:
            self._snapshot_at, self._has_news = now, False
            self._clear_up(now)
            self._changed = [*self._open.values()]
        for alarm in self._changed:
            if is_snapshot or alarm.is_changed:
                self._note(alarm, UPDATED, now, now)
        self._changed = []
        self._look_ahead()
        rows, self._rows = self._rows, []
        silent, self._silent = self._silent, {}
        if rows or is_snapshot:
            self._fold += 1
        return Step(_frame(rows, self._stream, self._fold, now), self._fold, is_snapshot, silent)

    def _clear_up(self, now: int) -> None:
        """Ends what nobody can end any more, and forgets what needs no memory."""
        for alarm in [*self._open.values()]:
            alarm.settle()
            last = alarm.measured_at
            is_watched = alarm.entity in self._entities and self._entities[alarm.entity].deadline is not None
            if last + microseconds(WATCHED_FOR) <= now and not is_watched:
                forgotten = last + microseconds(WATCHED_FOR)
                self._end(alarm, CLEARED, forgotten, decided_at=forgotten, note=FORGOTTEN)
        for entity_id in [*self._refusing]:
            entity = self._entities[entity_id]
            if entity.refusals[-1] + microseconds(REFUSED_WITHIN) < now:
                self._forget_refusals(entity_id, entity)
                if entity.received_at == NEVER:
                    del self._entities[entity_id]
            else:
                self._note_refusals(entity_id, entity.refusals, entity.place)
        kept = now - microseconds(_ENDED_FOR)
        self._ended = {key: ended for key, ended in self._ended.items() if ended[2] >= kept}

    # ------------------------------------------------------------------ readings

    def _read(self, readings: Readings) -> None:
        ids, codes = np.unique(readings.entity, return_inverse=True)
        entities = [self._entity(each) for each in ids.tolist()]
        entity_ids = ids.tolist()
        self._meet(readings, codes, entity_ids, entities)
        contacts = _Contacts(readings, codes, entities)
        gaps = self._gaps(readings, contacts)
        segments = np.zeros(len(codes), np.int64)
        if gaps:
            by_code = np.argsort(codes, kind="stable")
            bounds = np.searchsorted(codes[by_code], np.arange(len(ids) + 1))
            for code, found in gaps.items():
                of_entity = by_code[bounds[code] : bounds[code + 1]]
                begins = np.array([gap.received_at for gap in found])
                segments[of_entity] = np.searchsorted(begins, readings.received_at[of_entity], side="right")
        # They are in the order of processing, which stays where times are equal.
        order = np.lexsort((readings.measured_at, segments, codes) if gaps else (readings.measured_at, codes))
        newest = {
            name: np.array([each.newest.get(name, NEVER) for each in entities], np.int64) for name in readings.has_value
        }
        slow: dict[int, list[_Parted]] = {code: [] for code in gaps}
        for judged in readings.causes:
            known = np.maximum.reduce([newest[name] for name in judged.looked_at])[codes]
            is_folded = readings.is_fresh & readings.is_new & (readings.measured_at >= known)
            self._read_cause(readings, judged, order[is_folded[order]], codes, segments, ids, slow)
        for code, runs in slow.items():
            self._read_parted(readings, int(ids[code]), gaps[code], runs)
        # A clock that is ahead must not make the readings of other devices be passed over.
        time = np.minimum(readings.measured_at, readings.received_at)
        for name, has_value in readings.has_value.items():
            np.maximum.at(newest[name], codes[has_value], time[has_value])
            for entity, value in zip(entities, newest[name].tolist(), strict=True):
                if value > NEVER:
                    entity.newest[name] = value
        self._see(readings, contacts, entity_ids, entities)

    def _meet(
        self, readings: Readings, codes: NDArray[np.intp], ids: Sequence[int], entities: Sequence[_Entity]
    ) -> None:
        """Who sends nothing but late readings from the first one on must be watched for silence too."""
        is_unknown = np.array([each.received_at == NEVER for each in entities])[codes] & readings.is_accepted
        which = np.flatnonzero(is_unknown)
        order = which[np.lexsort((readings.received_at[which], codes[which]))]
        for at in order[np.append(True, np.diff(codes[order]) != 0)[: len(order)]].tolist():
            if not readings.is_fresh[at]:
                entity = entities[int(codes[at])]
                entity.received_at, entity.place = int(readings.received_at[at]), readings.place(at)
                entity.silence = readings.silences[int(readings.silence[at])]
                self._watch(ids[int(codes[at])], entity)

    def _entity(self, entity_id: int) -> _Entity:
        if (found := self._entities.get(entity_id)) is None:
            found = self._entities[entity_id] = _Entity()
        return found

    def _read_cause(
        self,
        readings: Readings,
        judged: Judged,
        order: Int64s,
        codes: NDArray[np.intp],
        segments: Int64s,
        ids: Int64s,
        slow: Mapping[int, list["_Parted"]],
    ) -> None:
        cause = judged.cause
        is_concerned = np.zeros(len(ids), bool)
        is_concerned[codes[judged.true > 0]] = True
        if of_cause := self._entities_of.get(cause):
            is_concerned |= np.isin(ids, np.fromiter(of_cause, np.int64, len(of_cause)))
        if not is_concerned.any():
            return
        which = order[judged.is_evaluated[order] & is_concerned[codes[order]]]
        if not len(which):
            return
        runs = _Runs(readings, judged, which)
        # Readings of an entity on two sides of a silence are in different groups.
        span = int(segments.max()) + 1
        entity_ids = ids.tolist()
        for group, *run in runs.runs(codes[which] * span + segments[which]):
            code, segment = divmod(group, span)
            if code in slow:
                slow[code].append(_Parted(segment, runs, run))
            else:
                self._run(entity_ids[code], runs, *run)

    def _read_parted(
        self,
        readings: Readings,
        entity_id: int,
        gaps: Sequence[_Gap],
        runs: Sequence["_Parted"],
    ) -> None:
        """The readings of an entity that was silent before or between them."""
        for segment in range(len(gaps) + 1):
            if segment:
                before, received_at, at, silence, is_told = gaps[segment - 1]
                self._fall_silent(entity_id, silence, before, received_at, is_told=is_told)
                if alarm := self._open.get((entity_id, SILENCE)):
                    if alarm.until is not None and alarm.until <= received_at:
                        self._end_snooze(alarm, alarm.until)
                    alarm.place, alarm.measured_at = readings.place(at), int(readings.measured_at[at])
                    self._end(alarm, CLEARED, received_at)
                # The deadline that is kept is that of being watched no more.
                self._entities[entity_id].deadline, self._entities[entity_id].is_told = None, False
            for each in runs:
                if each.segment == segment:
                    self._run(entity_id, each.runs, *each.run)

    def _run(self, entity_id: int, runs: _Runs, at: int, end: int, true: int, held: int) -> None:
        """Takes an alarm, or none, through readings that say the same of its cause."""
        key = entity_id, runs.cause
        while at < end:
            alarm = self._open.get(key)
            if alarm is None:
                if not true:
                    return
                self._raise(entity_id, runs, at, true)
                at += 1
                continue
            if alarm.due_at is not None:
                self._escalate(alarm, runs.received_at[at])
            if alarm.is_stale:
                alarm.is_stale, alarm.clear_since = False, None
            if true > alarm.severity or 0 < held < alarm.severity:
                self._grade(alarm, runs, at, true, held)
                at += 1
                continue
            if held:
                alarm.clear_since = None
                last = self._reminder(alarm, runs, at, end) if true else end
            else:
                if alarm.clear_since is None:
                    alarm.clear_since = runs.measured_at[at]
                last = runs.first(runs.measured_at, at, end, alarm.clear_since + alarm.timing.clear_after)
            stop = min(last + 1, end)
            if alarm.due_at is not None and alarm.due_at <= max(runs.received_at[at:stop]):
                due = runs.first(runs.received_at, at, stop, alarm.due_at)
                if at < due < stop and alarm.escalates:
                    # It is escalated before that reading.
                    self._absorb(alarm, runs, at, due, true)
                    at = due
                    continue
            self._absorb(alarm, runs, at, stop, true)
            if last >= end:
                return
            if held:
                self._remind(alarm, runs, last)
            else:
                self._end(alarm, CLEARED, runs.measured_at[last])
            at = last + 1

    def _raise(self, entity_id: int, runs: _Runs, at: int, severity: int) -> None:
        measured_at = runs.measured_at[at]
        alarm = Alarm(
            alarm_id=alarm_id_of(self._stream, entity_id, runs.cause, measured_at),
            entity=entity_id,
            cause=runs.cause,
            severity=severity,
            raised_at=measured_at,
            told_at=measured_at,
        )
        self._opened(alarm)
        self._absorb(alarm, runs, at, at + 1, severity)
        self._lead(alarm, runs.readings.versions, runs.version[at])
        self._falls_due(alarm, runs.received_at[at])
        self._transit(alarm, "raised", measured_at)

    def _grade(self, alarm: Alarm, runs: _Runs, at: int, true: int, held: int) -> None:
        """A reading by which the alarm becomes more severe, or less."""
        self._absorb(alarm, runs, at, at + 1, true)
        is_worse = true > alarm.severity
        alarm.severity, alarm.clear_since = true if is_worse else held, None
        self._lead(alarm, runs.readings.versions, runs.version[at])
        measured_at = runs.measured_at[at]
        if is_worse:
            alarm.state, alarm.until, alarm.told_at = UNACKNOWLEDGED, None, measured_at
            self._falls_due(alarm, runs.received_at[at])
        self._transit(alarm, "worsened" if is_worse else "eased", measured_at)

    def _reminder(self, alarm: Alarm, runs: _Runs, at: int, end: int) -> int:
        """The first of some readings that break a rule at which the alarm is told of again; `end` if at none."""
        if alarm.state == SNOOZED and alarm.until is not None:
            return runs.first(runs.received_at, at, end, alarm.until)
        if alarm.state == UNACKNOWLEDGED and alarm.timing.remind_every is not None:
            due = alarm.told_at + alarm.timing.remind_every
            return end if runs.measured_at[end - 1] < due else runs.first(runs.measured_at, at, end, due)
        return end

    def _remind(self, alarm: Alarm, runs: _Runs, at: int) -> None:
        alarm.told_at = runs.measured_at[at]
        if alarm.state == SNOOZED:
            alarm.state, alarm.until = UNACKNOWLEDGED, None
            self._falls_due(alarm, runs.received_at[at])
        self._transit(alarm, "reminded", alarm.told_at)

    def _absorb(self, alarm: Alarm, runs: _Runs, begin: int, end: int, true: int) -> None:
        """Counts readings; what the last of them said is taken from it when it is written."""
        alarm.last = runs, end - 1
        if not alarm.is_changed:
            alarm.is_changed = True
            self._changed.append(alarm)
        if not true:
            return
        alarm.reading_count += end - begin
        values = runs.value[begin:end]
        if alarm.worst_value is not None:
            values.append(alarm.worst_value)
        alarm.worst_value = min(values) if runs.is_downward else max(values)

    def _lead(self, alarm: Alarm, versions: Versions, version: int) -> None:
        """The alarm behaves as a version of a rule wants."""
        alarm.timing = Timing(
            int(versions.clear_after[version]),
            _or_none(int(versions.remind_every[version])),
            _or_none(int(versions.escalate_after[version])),
        )

    # ------------------------------------------------------------------ deadlines

    def _falls_due(self, alarm: Alarm, since: int) -> None:
        after = alarm.timing.escalate_after
        alarm.due_at = None if after is None or alarm.tier >= MAX_TIER else since + after
        self._await(alarm)

    def _await(self, alarm: Alarm) -> None:
        if alarm.state == SNOOZED and alarm.until is not None and alarm.cause in (SILENCE, REFUSED):
            # No reading that breaks a rule will come and end the snooze.
            self._push(alarm.place, alarm.until, alarm.entity, _SNOOZE + alarm.cause)
        if alarm.due_at is not None:
            alarm.settle()
            self._push(alarm.place, alarm.due_at, alarm.entity, alarm.cause)

    def _escalate(self, alarm: Alarm, until: int) -> None:
        """Passes the alarm's deadlines up to an instant."""
        while alarm.due_at is not None and alarm.due_at <= until and alarm.escalates:
            due = alarm.due_at
            alarm.tier += 1
            self._falls_due(alarm, due)
            self._transit(alarm, "escalated", due, decided_at=due)

    def _look_ahead(self) -> None:
        self.next_deadline = min((heap[0][0] for heap in self._deadlines.values() if heap), default=None)

    def _push(self, place: Place, deadline: int, entity_id: int, cause: str) -> None:
        self._pushed += 1
        heap = self._deadlines.setdefault((place.hub_epoch, place.partition), [])
        heappush(heap, (deadline, self._pushed, entity_id, cause))

    def _pass_deadlines(self, partition: tuple[int, int], until: int) -> None:
        heap = self._deadlines.get(partition, [])
        while heap and heap[0][0] <= until:
            deadline, _, entity_id, cause = heappop(heap)
            if cause == SILENCE:
                self._look_for_silence(entity_id, deadline)
            elif cause.startswith(_SNOOZE):
                self._end_snooze(self._open.get((entity_id, cause.removeprefix(_SNOOZE))), deadline)
            elif (alarm := self._open.get((entity_id, cause))) and alarm.due_at == deadline:
                self._escalate(alarm, deadline)

    def _end_snooze(self, alarm: Alarm | None, deadline: int) -> None:
        if alarm is not None and alarm.state == SNOOZED and alarm.until == deadline:
            alarm.state, alarm.until, alarm.told_at = UNACKNOWLEDGED, None, deadline
            self._transit(alarm, "reminded", deadline, decided_at=deadline)

    def _watch(self, entity_id: int, entity: _Entity) -> None:
        """Keeps one deadline for each entity, which is moved on when it is looked at."""
        if entity.deadline is not None or entity.received_at == NEVER:
            return
        is_over = entity.silence is None or entity.is_told
        after = microseconds(WATCHED_FOR) if is_over or entity.silence is None else entity.silence.after
        entity.deadline = entity.received_at + after
        self._push(entity.place, entity.deadline, entity_id, SILENCE)

    def _look_for_silence(self, entity_id: int, deadline: int) -> None:
        entity = self._entities.get(entity_id)
        if entity is None or entity.deadline != deadline:
            return
        entity.deadline = None
        is_over = entity.received_at + microseconds(WATCHED_FOR) <= deadline
        self._fall_silent(entity_id, entity.silence, entity.received_at, deadline, is_told=entity.is_told)
        if is_over:
            self._forget_refusals(entity_id, entity)
            del self._entities[entity_id]
        else:
            self._watch(entity_id, entity)

    def _fall_silent(
        self, entity_id: int, silence: Silence | None, since: int, until: int, *, is_told: bool = False
    ) -> None:
        """An entity was not heard of from one instant to another, which may be longer than it is watched."""
        forgotten = since + microseconds(WATCHED_FOR)
        # Whoever closed it is not told of the same silence again.
        if silence is not None and not is_told and since + silence.after <= until:
            deadline = since + silence.after
            place = self._entities[entity_id].place
            self._entities[entity_id].is_told = True
            self._silent[place.hub_epoch, place.partition] = deadline
            for each in self._of_entity(entity_id):
                if each.cause != REFUSED and not each.is_stale:
                    self._escalate(each, deadline)
                    each.is_stale, each.clear_since = True, None
                    self._transit(each, "stale", deadline, decided_at=deadline)
            self._raise_about(entity_id, SILENCE, deadline, place, measured_at=since, silence=silence)
        if forgotten <= until:
            for alarm in self._of_entity(entity_id):
                self._end(alarm, CLEARED, forgotten, decided_at=forgotten, note=FORGOTTEN)

    def _gaps(self, readings: Readings, contacts: "_Contacts") -> dict[int, list[_Gap]]:
        """For entities that were silent: when each silence began, and what ended it."""
        of_each = [NOT_SILENT if each is None else each.after for each in readings.silences]
        versions = readings.silence[contacts.order]
        after = np.array(of_each, np.int64)[versions]
        before, silent_after = np.empty_like(contacts.received_at), np.empty_like(after)
        before[1:], silent_after[1:] = contacts.received_at[:-1], after[:-1]
        codes = contacts.codes[contacts.is_first]
        before[contacts.is_first], silent_after[contacts.is_first] = contacts.known[codes], contacts.silent_after[codes]
        is_gap = (before != NEVER) & (contacts.received_at - before >= silent_after)
        if silent := self._entities_of.get(SILENCE):
            is_silent = np.isin(readings.entity[contacts.order], np.fromiter(silent, np.int64, len(silent)))
            is_gap |= contacts.is_first & is_silent
        # What was folded before a crash is on record.
        is_gap &= readings.is_new[contacts.order]
        found: dict[int, list[_Gap]] = {}
        for at in np.flatnonzero(is_gap).tolist():
            which = int(contacts.order[at])
            is_known = bool(contacts.is_first[at])
            entity = self._entities[int(readings.entity[which])]
            silence = entity.silence if is_known else readings.silences[int(versions[at - 1])]
            is_told = is_known and entity.is_told
            gap = _Gap(int(before[at]), int(contacts.received_at[at]), which, silence, is_told)
            found.setdefault(int(contacts.codes[at]), []).append(gap)
        return found

    def _see(self, readings: Readings, contacts: "_Contacts", ids: Sequence[int], entities: Sequence[_Entity]) -> None:
        """Notes when each entity was heard of last."""
        lasts = contacts.order[contacts.is_last]
        received_at = readings.received_at[lasts].tolist()
        codes = contacts.codes[contacts.is_last].tolist()
        places, versions = readings.places(lasts), readings.silence[lasts].tolist()
        for code, when, place, version in zip(codes, received_at, places, versions, strict=True):
            entity = entities[code]
            if when >= entity.received_at:
                entity.received_at, entity.place = when, place
                if entity.is_told:
                    entity.is_told, entity.deadline = False, None
                if (silence := readings.silences[version]) != entity.silence:
                    entity.silence, entity.deadline = silence, None
            if entity.deadline is None:
                self._watch(ids[code], entity)

    # ------------------------------------------------------------------ refused readings

    def _refuse(self, readings: Readings | None, refusals: Sequence[Refusal]) -> None:
        """Readings that went to quarantine, and accepted ones in between."""
        concerned = {each.entity for each in refusals}
        concerned |= self._entities_of.get(REFUSED, set())
        concerned |= self._refusing
        if not concerned:
            return
        steps: list[tuple[int, int, Refusal | int]] = [(each.order, each.entity, each) for each in refusals]
        if readings is not None:
            is_of = readings.is_accepted & readings.is_new
            is_of &= np.isin(readings.entity, np.fromiter(concerned, np.int64, len(concerned)))
            steps += [(int(readings.order[at]), int(readings.entity[at]), at) for at in np.flatnonzero(is_of).tolist()]
        for _, entity_id, what in sorted(steps, key=lambda each: each[0]):
            entity = self._entities.setdefault(entity_id, _Entity())
            if isinstance(what, Refusal):
                self._count_refusal(entity_id, entity, what)
            elif readings is not None:
                self._forget_refusals(entity_id, entity)
                if alarm := self._open.get((entity_id, REFUSED)):
                    alarm.place, alarm.measured_at = readings.place(what), int(readings.measured_at[what])
                    self._end(alarm, CLEARED, int(readings.received_at[what]))

    def _forget_refusals(self, entity_id: int, entity: _Entity) -> None:
        entity.refusals = []
        self._refusing.discard(entity_id)

    def _count_refusal(self, entity_id: int, entity: _Entity, refusal: Refusal) -> None:
        if alarm := self._open.get((entity_id, REFUSED)):
            alarm.reading_count += 1
            alarm.place, alarm.measured_at = refusal.place, refusal.received_at
            self._change(alarm)
            return
        times = [*entity.refusals, refusal.received_at][-REFUSED_COUNT:]
        if len(times) == REFUSED_COUNT and times[-1] - times[0] <= microseconds(REFUSED_WITHIN):
            self._forget_refusals(entity_id, entity)
            self._raise_about(entity_id, REFUSED, refusal.received_at, refusal.place, count=REFUSED_COUNT)
            return
        entity.refusals = times[1 - REFUSED_COUNT :]
        self._refusing.add(entity_id)
        self._note_refusals(entity_id, entity.refusals, refusal.place)

    def _note_refusals(self, entity_id: int, times: Sequence[int], place: Place) -> None:
        counted = _counted(self._stream, entity_id, times, place)
        self._rows.append(_row(counted, UPDATED, times[-1], self._decided_at))

    def _raise_about(
        self,
        entity_id: int,
        cause: str,
        at: int,
        place: Place,
        measured_at: int | None = None,
        count: int = 0,
        silence: Silence | None = None,
    ) -> None:
        """An alarm that is about readings that do not come, or are refused."""
        alarm = Alarm(
            alarm_id=alarm_id_of(self._stream, entity_id, cause, at),
            entity=entity_id,
            cause=cause,
            severity=_WARNING if silence is None else silence.severity,
            rule_id=None if silence is None else silence.rule_id,
            rule_version=None if silence is None else silence.rule_version,
            threshold=None if silence is None else silence.minutes,
            raised_at=at,
            measured_at=at if measured_at is None else measured_at,
            told_at=at,
            place=place,
            reading_count=count,
        )
        self._opened(alarm)
        self._transit(alarm, "raised", at, decided_at=at if cause == SILENCE else None)

    # ------------------------------------------------------------------ actions

    def _act(self, action: Action) -> None:
        if action.action_id in self._applied:
            return
        self._applied.add(action.action_id)
        alarm = self._by_id.get(action.alarm_id)
        told: dict[str, Any] = {"action_id": action.action_id, "actor": action.by, "note": action.note}
        if alarm is None:
            told["note"] = "no alarm with this id is open"
            self._rows.append(_row(_unknown(action.alarm_id), REFUSED, action.at, self._decided_at, **told))
            return
        kind = ACTION_KINDS.get(action.action)
        if kind is None:
            told["note"] = f"nobody knows the action {action.action}"
            self._rows.append(_row(_unknown(action.alarm_id), REFUSED, action.at, self._decided_at, **told))
            return
        is_outdated = action.seen_index is not None and action.seen_index < alarm.worsened_index
        if is_outdated and kind in ("acknowledged", "snoozed"):
            # Whoever it was has not seen how severe it is.
            said = f"{action.note}; " if action.note else ""
            told["note"] = f"{said}{kind} before it became worse, so it counts as a comment"
            kind = "commented"
        if kind == "closed":
            self._end(alarm, kind, action.at, **told)
            return
        if kind == "acknowledged":
            alarm.state, alarm.until = ACKNOWLEDGED, None
        elif kind == "snoozed":
            alarm.state, alarm.until = SNOOZED, action.until
            self._await(alarm)
        self._transit(alarm, kind, action.at, **told)

    # ------------------------------------------------------------------ bookkeeping

    def _of_entity(self, entity_id: int) -> list[Alarm]:
        keys = ((entity_id, cause) for cause in self._entities_of)
        return [self._open[key] for key in keys if key in self._open]

    def _opened(self, alarm: Alarm) -> None:
        key = alarm.entity, alarm.cause
        if (ended := self._ended.get(key)) and ended[0] == alarm.alarm_id:
            # Raised again by another reading of the same instant.
            alarm.index = ended[1]
        self._open[key] = self._by_id[alarm.alarm_id] = alarm
        self._entities_of.setdefault(alarm.cause, set()).add(alarm.entity)

    def _end(self, alarm: Alarm, kind: str, at: int, **told: Any) -> None:
        alarm.state, alarm.until, alarm.due_at = CLEARED, None, None
        self._transit(alarm, kind, at, **told)
        self._ended[alarm.entity, alarm.cause] = alarm.alarm_id, alarm.index, at
        del self._open[alarm.entity, alarm.cause], self._by_id[alarm.alarm_id]
        self._entities_of[alarm.cause].discard(alarm.entity)

    def _transit(self, alarm: Alarm, kind: str, at: int, decided_at: int | None = None, **told: Any) -> None:
        alarm.index += 1
        if kind in ("raised", "worsened"):
            alarm.worsened_index = alarm.index
        self._note(alarm, kind, at, self._decided_at if decided_at is None else decided_at, **told)

    def _note(self, alarm: Alarm, kind: str, at: int, decided_at: int, **told: Any) -> None:
        alarm.settle()
        alarm.is_changed = False
        self._rows.append(_row(alarm, kind, at, decided_at, **told))

    def _change(self, alarm: Alarm) -> None:
        if not alarm.is_changed:
            alarm.is_changed = True
            self._changed.append(alarm)


_TIMING = ("clear_after_s", "remind_every_s", "escalate_after_s")
_SAME = (
    *("alarm_id", "entity", "cause", "rule_id", "rule_version", "value", "threshold", "worst_value", "raised_at"),
    *(
        "measured_at",
        "told_at",
        "state",
        "index",
        "reading_count",
        "tier",
        "until",
        "is_stale",
        "clear_since",
        "due_at",
    ),
    "worsened_index",
)
_ROW = (
    *("alarm_id", "index", "kind", "at", "decided_at", "entity", "cause", "severity", "state", "rule_id"),
    *("rule_version", "value", "threshold", "worst_value", "reading_count", "tier", "raised_at", "measured_at"),
    *("until", "action_id", "actor", "note", "is_stale", "clear_since", "told_at", "due_at"),
    *("clear_after_s", "remind_every_s", "escalate_after_s", *Place._fields, "worsened_index"),
)
"""What `_row` gives, in its order."""


def _row(
    alarm: Alarm,
    kind: str,
    at: int,
    decided_at: int,
    action_id: str | None = None,
    actor: str | None = None,
    note: str | None = None,
) -> tuple[Any, ...]:
    is_alarm = kind != REFUSED
    clear_after, remind_every, escalate_after = alarm.timing
    epoch, partition, sequence_number, event_index = alarm.place
    return (
        alarm.alarm_id,
        alarm.index,
        kind,
        at,
        decided_at,
        alarm.entity if is_alarm else None,
        alarm.cause if is_alarm else None,
        SEVERITIES[alarm.severity] if is_alarm else None,
        alarm.state if is_alarm else None,
        alarm.rule_id,
        alarm.rule_version,
        alarm.value,
        alarm.threshold,
        alarm.worst_value,
        alarm.reading_count,
        alarm.tier,
        alarm.raised_at if is_alarm else None,
        alarm.measured_at if is_alarm else None,
        alarm.until,
        action_id,
        actor,
        note,
        alarm.is_stale,
        alarm.clear_since,
        alarm.told_at if is_alarm else None,
        alarm.due_at,
        clear_after // _SECOND,
        None if remind_every is None else remind_every // _SECOND,
        None if escalate_after is None else escalate_after // _SECOND,
        epoch,
        partition,
        sequence_number,
        event_index,
        alarm.worsened_index,
    )


def _frame(rows: Sequence[tuple[Any, ...]], stream: str, fold: int, now: int) -> pl.DataFrame:
    if not rows:
        return pl.DataFrame(schema=_SCHEMA)
    types = {name: pl.Int64() if name in _INSTANTS else _SCHEMA[name] for name in _ROW}
    columns = dict(zip(_ROW, zip(*rows, strict=True), strict=True))
    frame = pl.DataFrame({name: pl.Series(name, values, types[name]) for name, values in columns.items()})
    instants = [pl.col(name).cast(_SCHEMA[name]) for name in _INSTANTS]
    return frame.with_columns(
        *instants,
        stream=pl.lit(stream),
        is_late=(pl.col("decided_at") - pl.col("at")) > microseconds(LATE_AFTER),
        fold=pl.lit(fold, pl.Int64),
        event_date=pl.col("at").cast(_SCHEMA["at"]).dt.date(),
        ingest_date=pl.lit(now, pl.Int64).cast(_SCHEMA["at"]).dt.date(),
        is_update=pl.col("kind") == UPDATED,
    ).select(_SCHEMA.names())


def _unknown(alarm_id: str) -> Alarm:
    return Alarm(alarm_id, 0, "", 0, NEVER, NEVER)


def _counted(stream: str, entity_id: int, refusals: Sequence[int], place: Place) -> Alarm:
    """The row of an entity of which some readings were refused, and not yet enough for an alarm; its index is -1."""
    alarm_id = alarm_id_of(stream, entity_id, REFUSED, NEVER)
    return Alarm(
        alarm_id,
        entity_id,
        REFUSED,
        _WARNING,
        raised_at=refusals[0],
        told_at=refusals[-1],
        measured_at=refusals[-1],
        place=place,
        reading_count=len(refusals),
    )


def alarm_id_of(stream: str, entity: int, cause: str, raised_at: int) -> str:
    """The same wherever and whenever an alarm is raised: 16 hexadecimal digits of BLAKE2b.

    Args:
        stream, entity, cause: what it is about.
        raised_at: microseconds since 1970, UTC.
    """
    text = f"{stream}|{entity}|{cause}|{raised_at}"
    return hashlib.blake2b(text.encode(), digest_size=_ID_BYTES).hexdigest()


def microseconds(span: timedelta) -> int:
    """A span as a whole number of microseconds."""
    return span // timedelta(microseconds=1)


def _microseconds(seconds: int | None) -> int | None:
    return None if seconds is None else seconds * _SECOND


def _or_none(limit: int) -> int | None:
    return None if limit == NO_LIMIT else limit
