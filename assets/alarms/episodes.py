"""Alarms as a fold: readings, deadlines and actions in, transitions out. Pure; docs/adr/0039 defines each transition.

Alarms are records of an array, and readings are arrays too. What happens at readings is decided for all alarms of a
cause at once, in `assets.alarms.decisions`. This keeps who has an alarm, who is watched, and passes deadlines.

All instants are in microseconds since 1970, UTC.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from datetime import UTC, datetime, timedelta
from itertools import repeat
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from assets.alarms.course import Course, course_of
from assets.alarms.decisions import ESCALATED, TRANSITIONS, decided, due_after, escalates, stances_of
from assets.alarms.decisions import NOTHING as NO_TRANSITION
from assets.alarms.given import (
    FOREVER,
    NEVER,
    NOT_SILENT,
    Action,
    Bools,
    Int64s,
    Judged,
    Place,
    Readings,
    Refusal,
    Seen,
    microseconds,
)
from assets.alarms.records import (
    KINDS,
    NO_ALARM,
    NOTHING,
    NUMBERS,
    Array,
    Names,
    Rows,
    Told,
    alarm_id_of,
    alarms_of,
    frame,
    no_alarm,
    no_alarms,
    of_unknown,
    put,
)
from assets.alarms.said import Said, is_first, places_of
from assets.alarms.tables import (
    ACKNOWLEDGED,
    ACTION_KINDS,
    CLEARED,
    RANKS,
    REFUSED,
    REFUSED_COUNT,
    REFUSED_WITHIN,
    SILENCE,
    SNOOZED,
    UNACKNOWLEDGED,
    UPDATED,
    WATCHED_FOR,
)
from assets.alarms.watched import Entities

FORGOTTEN = "not heard of for 7 days, watched no more"
SNAPSHOT_EVERY = timedelta(minutes=5)
"""How often all open alarms are written, so that a start need not read further back."""
_ENDED_FOR = timedelta(hours=1)
"""For how long it is known which alarms ended: another reading of the same instant may raise one again."""
_SECOND = 1_000_000
_TRANSITIONS = np.array([KINDS.index(name) if name else -1 for name in TRANSITIONS], np.int8)
"""The kind of row of each decision."""


class Step(NamedTuple):
    """What a step of the fold decided.

    Attributes:
        rows: of the table of alarms.
        updates: open alarms of which something changed that no row says; `updated` makes rows of them.
        fold: the step's number.
        is_snapshot: whether all open alarms are among the updates.
        silent: for each hub epoch and partition the last deadline of a silence that passed; all earlier ones of the
            partition have passed too.
    """

    rows: pl.DataFrame
    updates: Sequence["Update"]
    fold: int
    is_snapshot: bool
    silent: Mapping[tuple[int, int], int]


class Update(NamedTuple):
    """What open alarms had come to in a step. A commit writes the last one of each alarm."""

    alarms: Rows
    names: Names

    @property
    def fold(self) -> int:
        """The number of the step."""
        return self.alarms.fold


def updated(updates: Sequence[Update], stream: str) -> pl.DataFrame:
    """The rows of what open alarms have come to, one for each alarm: the last one."""
    if len(updates) < 2:
        return frame([update.alarms for update in updates], stream, updates[0].names if updates else Names())
    ids = [update.alarms.alarms["alarm_id"] for update in updates]
    _, from_the_end = np.unique(np.concatenate(ids)[::-1], return_index=True)
    is_last = np.zeros(sum(map(len, ids)), bool)
    is_last[-1 - from_the_end] = True
    parts = np.split(is_last, np.cumsum([len(each) for each in ids[:-1]]))
    rows = [update.alarms.filter(part) for update, part in zip(updates, parts, strict=True)]
    return frame(rows, stream, updates[0].names)


class _Contacts:
    """The readings that show that entities are there, by entity and receipt."""

    def __init__(self, readings: Readings) -> None:
        which = np.flatnonzero(readings.is_accepted & readings.is_fresh)
        self.order = which[_by(readings.code[which], readings.received_at[which])]
        self.codes = readings.code[self.order]
        self.is_first = is_first(self.codes)
        self.is_last = np.append(self.is_first[1:], True)[: len(self.order)]


class _Gaps(NamedTuple):
    """Times in which entities were not heard of, by entity and time.

    Attributes:
        code: which entity.
        nth: which of its gaps, from 1 on.
        before, received_at: when the gap began, and when a reading ended it.
        which: that reading.
        silence: what holds, by its number.
        is_told: whether the silence was raised before.
    """

    code: NDArray[np.intp]
    nth: Int64s
    before: Int64s
    received_at: Int64s
    which: Int64s
    silence: Int64s
    is_told: Bools

    def in_turns(self) -> "list[_Gaps]":
        """The first ones of each entity, then the second ones, and so on."""
        turns = _in_turns(self.nth - 1, int(self.nth.max(initial=0)))
        return [self._replace(**{name: getattr(self, name)[turn] for name in self._fields}) for turn in turns]

    def passed(self, readings: Readings) -> Int64s:
        """For each reading how many gaps of its entity it comes after."""
        ends = np.unique(self.received_at)
        size = len(ends) + 1

        def numbers(code: NDArray[np.intp], received_at: Int64s) -> Int64s:
            """Grow by entity, then by how many ends there were."""
            found: Int64s = code * size + np.searchsorted(ends, received_at, side="right")
            return found

        own = numbers(self.code, self.received_at)
        before = np.searchsorted(own, np.arange(len(readings.entities)) * size)
        count: Int64s = np.searchsorted(own, numbers(readings.code, readings.received_at), side="right")
        return count - before[readings.code]


class Episodes:
    """The open alarms of a stream, and who is watched for silence.

    Args:
        stream: its name, part of each alarm's id.
        fold: the number of the last step.
    """

    def __init__(self, stream: str, fold: int = 0) -> None:
        self._stream, self._fold = stream, fold
        self._names = Names()
        self._alarms = no_alarms()
        self._open: dict[str, dict[int, int]] = {}
        self._entities = Entities()
        self._refusals: dict[int, list[int]] = {}
        self._rows: list[Rows] = []
        self._of_unknown: list[pl.DataFrame] = []
        self._decided_at = 0
        self._snapshot_at = NEVER
        self._applied: set[str] = set()
        self._ended: dict[tuple[int, str], tuple[int, int, int]] = {}
        self._has_news = False
        self._silent: dict[tuple[int, int], int] = {}
        self.next_deadline: int | None = None
        """No deadline is passed before this instant. Another thread may read it."""

    def __len__(self) -> int:
        """How many alarms are open."""
        return sum(map(len, self._open.values()))

    @property
    def open(self) -> Array:
        """The open alarms."""
        found: Array = self._alarms.all[self._alarms.all["is_open"]]
        return found

    def is_open(self, cause: str, entities: Int64s) -> Bools:
        """Whether entities have an open alarm of a cause."""
        is_open = np.zeros(len(entities), bool)
        if alarms := self._open.get(cause):
            is_open = _slots(alarms, entities.tolist()) != NO_ALARM
        return is_open

    @property
    def fold(self) -> int:
        """The number of the last step."""
        return self._fold

    # ------------------------------------------------------------------ what is known at a start

    def restore(self, rows: pl.DataFrame) -> None:
        """Takes up the alarms that are open by rows of the table, since a snapshot at least."""
        kept = rows.filter(pl.col("kind") != REFUSED).sort("fold", "index", "is_update")
        last = kept.unique("alarm_id", keep="last", maintain_order=True)
        is_over, is_alarm = pl.col("state") == CLEARED, pl.col("index") >= 0
        times = [pl.col(name).to_physical() for name in ("at", "raised_at", "measured_at")]
        # The last one of an entity, of several that ended in one step, and perhaps at one instant.
        over = last.filter(is_over).sort("fold", "at", "raised_at")
        ended = over.select("entity", "cause", "alarm_id", "index", times[0])
        for entity_id, cause, alarm_id, index, at in ended.iter_rows():
            self._ended[entity_id, cause] = int(alarm_id, 16), index, at
        refused = last.filter(~is_over, ~is_alarm).select("entity", "reading_count", *times[1:])
        for entity_id, count, *received_at in refused.filter(pl.col("reading_count") > 0).iter_rows():
            self._refusals[entity_id] = received_at[-count:]
        is_open = last.filter(~is_over, is_alarm)
        slots = self._alarms.add(is_open.height)
        self._alarms.all[slots] = alarms_of(is_open, self._names)
        for entity_id, cause, slot in zip(is_open["entity"], is_open["cause"], slots.tolist(), strict=True):
            self._open.setdefault(cause, {})[entity_id] = slot

    @property
    def oldest(self) -> datetime | None:
        """When the oldest open alarm was raised."""
        raised_at = self.open["raised_at"]
        return datetime.fromtimestamp(int(raised_at.min()) / _SECOND, UTC) if len(raised_at) else None

    def know(self, action_ids: Iterable[str]) -> None:
        """Takes up which actions are folded already; a repeat of one changes nothing."""
        self._applied.update(action_ids)

    def watch(self, seen: Iterable[Seen]) -> None:
        """Takes up who was seen lately."""
        silent, alarms = self._open.get(SILENCE, {}), self._alarms.all
        known = {
            each.entity: each._replace(is_told=each.is_told or each.entity in silent)
            for each in seen
            if each.newest or each.entity not in silent
        }
        # Who has been silent for longer is known by the alarm alone.
        for entity_id, slot in silent.items():
            if entity_id not in known:
                received_at, *place = (int(alarms[name][slot]) for name in ("measured_at", *Place._fields))
                known[entity_id] = Seen(entity_id, {}, received_at, Place(*place), None, is_told=True)
        self._entities.take_up([*known.values()])
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
        if readings is not None and len(readings.code):
            self._read(readings)
        self._refuse(readings, refusals)
        self._pass_deadlines(lambda partition: received.get(partition, NEVER), max(received.values(), default=NEVER))
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
        self._pass_deadlines(lambda partition: NEVER if partition in busy else now, now)
        return self._done(now)

    def _done(self, now: int) -> Step:
        alarms = self._alarms.all
        self._has_news |= bool(self._rows or self._of_unknown or alarms["is_changed"].any())
        is_snapshot = now - self._snapshot_at >= microseconds(SNAPSHOT_EVERY) and (self._has_news or len(self) > 0)
        if is_snapshot:
            self._snapshot_at, self._has_news = now, False
            self._clear_up(now)
        self._pack()
        alarms = self._alarms.all
        changed = np.flatnonzero(alarms["is_open" if is_snapshot else "is_changed"])
        alarms["is_changed"][changed] = False
        self._look_ahead()
        fold = self._fold + 1
        rows = [each._replace(fold=fold, now=now) for each in self._rows]
        at = np.full(len(changed), now)
        rows_of = Rows.of(UPDATED, alarms.take(changed), at, at)._replace(fold=fold, now=now)
        updates = [Update(rows_of, self._names)]
        table = frame(rows, self._stream, self._names)
        if of_unknown := [each.with_columns(fold=pl.lit(fold, pl.Int64)) for each in self._of_unknown]:
            table = pl.concat([table, *of_unknown])
        if rows or of_unknown or len(changed) or is_snapshot:
            self._fold = fold
        step = Step(table, updates if len(changed) else [], self._fold, is_snapshot, self._silent)
        self._rows, self._of_unknown, self._silent = [], [], {}
        return step

    def _clear_up(self, now: int) -> None:
        """Ends what nobody can end any more, and forgets what needs no memory."""
        alarms = self._alarms.all
        forgotten = alarms["measured_at"] + microseconds(WATCHED_FOR)
        slots = np.flatnonzero(alarms["is_open"] & (forgotten <= now))
        is_watched = [self._is_watched(entity) for entity in alarms["entity"][slots].tolist()]
        slots = slots[~np.array(is_watched, bool)]
        self._end(slots, CLEARED, forgotten[slots], decided_at=forgotten[slots], told=Told(note=FORGOTTEN))
        for entity_id, times in [*self._refusals.items()]:
            if times[-1] + microseconds(REFUSED_WITHIN) < now:
                del self._refusals[entity_id]
            else:
                at = self._entities.place(entity_id)
                place = (0, 0, -1, -1) if at is None else (self._entities.all[name][at] for name in Place._fields)
                self._note_refusals(entity_id, times[-1], Place(*place))
        self._entities.forget_unheard()
        kept = now - microseconds(_ENDED_FOR)
        self._ended = {key: ended for key, ended in self._ended.items() if ended[2] >= kept}

    def _pack(self) -> None:
        """Gives back the memory of entities and alarms that are gone."""
        self._entities.pack()
        if not self._alarms.is_sparse(len(self) + 1):
            return
        places = iter(range(1, 1 + len(self)))
        slots = [slot for alarms in self._open.values() for slot in alarms.values()]
        self._alarms.pack(np.array([NO_ALARM, *slots], np.int64))
        self._open = {cause: dict(zip(alarms, places, strict=False)) for cause, alarms in self._open.items()}

    def _is_watched(self, entity_id: int) -> bool:
        at = self._entities.place(entity_id)
        return at is not None and bool(self._entities.all["deadline"][at] < FOREVER)

    # ------------------------------------------------------------------ readings

    def _read(self, readings: Readings) -> None:
        entities, codes = self._entities, readings.code
        places = entities.places(readings.entities.tolist())
        self._meet(readings, places)
        contacts = _Contacts(readings)
        gaps = self._gaps(readings, contacts, places)
        turns, passed = gaps.in_turns(), gaps.passed(readings)
        order, of_entity = _by(codes, readings.measured_at), places[codes]
        folded = []
        for judged in readings.causes:
            known = np.maximum.reduce([entities.newest(name)[places] for name in judged.looked_at])
            is_folded = (
                readings.is_fresh & readings.is_new & judged.is_evaluated & (readings.measured_at >= known[codes])
            )
            which = order[is_folded[order]]
            folded.append((judged, _in_turns(passed[which], len(turns) + 1, which)))
        for nth in range(len(turns) + 1):
            if nth:
                self._end_gaps(readings, turns[nth - 1], places)
            for judged, parts in folded:
                self._read_cause(readings, judged, parts[nth])
        # A clock that is ahead must not make the readings of other devices be passed over.
        time = np.minimum(readings.measured_at, readings.received_at)
        for name, has_value in readings.has_value.items():
            np.maximum.at(entities.newest(name), of_entity[has_value], time[has_value])
        lasts = contacts.order[contacts.is_last]
        lasts = lasts[readings.received_at[lasts] >= entities.all["received_at"][of_entity[lasts]]]
        entities.hear(of_entity[lasts], readings, lasts)
        # The silence that follows a reading which was folded before a crash may be on record.
        before = lasts[~readings.is_new[lasts]]
        entities.all["is_told"][of_entity[before]] = self.is_open(SILENCE, readings.entities[codes[before]])
        entities.watch(places)

    def _meet(self, readings: Readings, places: Int64s) -> None:
        """Who sends nothing but late readings from the first one on must be watched for silence too."""
        codes = readings.code
        is_unknown = self._entities.all["received_at"][places] == NEVER
        if is_unknown.any():
            which = np.flatnonzero(is_unknown[codes] & readings.is_accepted)
            order = which[_by(codes[which], readings.received_at[which])]
            firsts = order[is_first(codes[order])]
            late = firsts[~readings.is_fresh[firsts]]
            self._entities.hear(places[codes[late]], readings, late)

    def _read_cause(self, readings: Readings, judged: Judged, which: Int64s) -> None:
        """Takes the alarms of a cause through readings, which are given by entity and time."""
        if not len(which):
            return
        said, alarms = Said(readings, judged, which), self._alarms.all
        slots = _slots(self._open.get(judged.cause, {}), said.entities.tolist())
        before = alarms.take(slots)
        said.go_on(np.where(before["is_stale"], FOREVER, before["clear_since"]))
        course = course_of(said, before, decided(said, stances_of(before)), self._names)
        if len(course.owner):
            self._follow(judged.cause, said, slots, course)

    def _follow(self, cause: str, said: Said, slots: Int64s, course: Course) -> None:
        """Takes up what the alarms of entities came through, of which each had one of the slots or `NO_ALARM`."""
        owners = course.owner[course.first]
        self._identify(cause, said.entities[owners], course)
        self._rows.append(self._rows_of(course))
        of_cause, entity_ids = self._open.setdefault(cause, {}), said.entities[owners].tolist()
        old, is_over = slots[owners], course.is_over
        gone = np.flatnonzero(~course.is_new & is_over)
        for number in gone.tolist():
            del of_cause[entity_ids[number]]
        self._alarms.free(old[gone])
        new = np.flatnonzero(course.is_new & ~is_over)
        old[new] = self._alarms.add(len(new))
        for number, slot in zip(new.tolist(), old[new].tolist(), strict=True):
            of_cause[entity_ids[number]] = slot
        goes_on = ~is_over
        put(self._alarms.all, old[goes_on], course.records.take(course.last[goes_on]))

    def _identify(self, cause: str, entities: Int64s, course: Course) -> None:
        """Says who the alarms of a course are, one item for each, and numbers what happened to them."""
        records, first, last = course.records, course.first, course.last
        before, is_over, alarm_ids = records["index"][first], course.is_over, records["alarm_id"][first]
        raised_at = np.where(course.is_new, course.when[first], records["raised_at"][first])
        which = np.flatnonzero(course.is_new | is_over)
        items = (entities, raised_at, course.is_new, is_over, last - first + 1, course.when[last], alarm_ids)
        columns = (each[which].tolist() for each in items)
        for number, entity_id, at, is_new, ends, count, end, known_id in zip(which.tolist(), *columns, strict=True):
            alarm_id = int(alarm_id_of(self._stream, entity_id, cause, at), 16) if is_new else known_id
            if is_new:
                alarm_ids[number], before[number] = alarm_id, self._index_before(entity_id, cause, alarm_id)
            if ends:
                self._ended[entity_id, cause] = alarm_id, int(before[number]) + count, end
        course.number(before)
        of_new = np.flatnonzero(course.is_new[course.episode])
        episode = course.episode[of_new]
        records["alarm_id"][of_new], records["raised_at"][of_new] = alarm_ids[episode], raised_at[episode]
        records["entity"][of_new], records["cause"][of_new] = entities[episode], self._names.number(cause)
        records["is_open"][of_new] = True

    def _rows_of(self, course: Course) -> Rows:
        """The rows of what happened."""
        which = np.flatnonzero(course.kind != NO_TRANSITION)
        kinds, at = course.kind[which], course.when[which]
        decided_at = np.where(kinds == ESCALATED, at, self._decided_at)
        return Rows(_TRANSITIONS[kinds], course.records.take(which), at, decided_at)

    # ------------------------------------------------------------------ deadlines

    def _fall_due(self, slots: Int64s, since: Int64s) -> None:
        alarms = self._alarms.all
        alarms["due_at"][slots] = due_after(alarms.take(slots), since)
        self._await(slots)

    def _await(self, slots: Int64s) -> None:
        """Deadlines of alarms pass with the events of the partition where their last readings were."""
        alarms = self._alarms.all
        alarms["due_epoch"][slots] = alarms["hub_epoch"][slots]
        alarms["due_partition"][slots] = alarms["partition"][slots]

    def _escalate(self, slots: Int64s, until: Int64s) -> None:
        """Passes the deadlines of alarms, up to an instant for each."""
        while len(slots):
            alarms = self._alarms.all
            due_at = alarms["due_at"][slots]
            is_due = escalates(alarms.take(slots)) & (due_at <= until)
            slots, until, due_at = slots[is_due], until[is_due], due_at[is_due]
            alarms["tier"][slots] += 1
            self._fall_due(slots, due_at)
            self._transit(slots, "escalated", due_at, decided_at=due_at)

    def _pass_own_deadlines(self, slots: Int64s, until: Int64s) -> None:
        """Passes what is due of alarms before they end, up to an instant for each."""
        self._escalate(slots, until)
        self._end_snooze(slots[self._deadlines()[slots] <= until])

    def _deadlines(self) -> Int64s:
        """When each alarm has its next deadline."""
        alarms = self._alarms.all
        # No reading that breaks a rule will come and end the snooze of these.
        silence, refused = self._names.numbers([SILENCE, REFUSED])
        is_of_clock = (alarms["cause"] == silence) | (alarms["cause"] == refused)
        due_at = np.where(escalates(alarms), alarms["due_at"], FOREVER)
        deadlines: Int64s = np.where(is_of_clock, alarms["until"], due_at)
        return deadlines

    def _look_ahead(self) -> None:
        first = min(int(self._entities.all["deadline"].min()), int(self._deadlines().min()))
        self.next_deadline = None if first == FOREVER else first

    def _pass_deadlines(self, limit: Callable[[tuple[int, int]], int], latest: int) -> None:
        """Passes deadlines up to an instant of each partition, of which none is later than the latest one."""
        self._look_ahead()
        if self.next_deadline is None or self.next_deadline > latest:
            return
        entities = self._entities.all
        while len(places := _due(entities["deadline"], entities["hub_epoch"], entities["partition"], limit, latest)):
            self._lose(places)
            entities = self._entities.all
        alarms, deadlines = self._alarms.all, self._deadlines()
        slots = _due(deadlines, alarms["due_epoch"], alarms["due_partition"], limit, latest)
        is_snoozed = alarms["state"][slots] == NUMBERS[SNOOZED]
        self._end_snooze(slots[is_snoozed])
        due = slots[~is_snoozed]
        places_of = zip(alarms["due_epoch"][due].tolist(), alarms["due_partition"][due].tolist(), strict=True)
        self._escalate(due, np.array([limit(each) for each in places_of], np.int64))

    def _lose(self, places: Int64s) -> None:
        """Entities fall silent, or were silent for so long that they are watched no more."""
        entities = self._entities.all
        deadline, received_at = entities["deadline"][places], entities["received_at"][places]
        # Of what a reading ended nobody asks, and in the partition of an earlier one others may not be told of yet.
        silent = places[~entities["is_told"][places] & (entities["silent_after"][places] != NOT_SILENT)]
        columns = (entities[name][silent].tolist() for name in ("hub_epoch", "partition", "deadline"))
        for *partition, at in zip(*columns, strict=True):
            key = partition[0], partition[1]
            self._silent[key] = max(at, self._silent.get(key, at))
        self._fall_silent(places, entities["silence"][places], received_at, deadline, entities["is_told"][places])
        is_over = received_at + microseconds(WATCHED_FOR) <= deadline
        for entity_id in entities["entity"][places[is_over]].tolist():
            self._refusals.pop(entity_id, None)
        self._entities.forget(places[is_over])
        self._entities.watch(places[~is_over])

    def _end_snooze(self, slots: Int64s) -> None:
        alarms = self._alarms.all
        until = alarms["until"][slots]
        alarms["state"][slots], alarms["until"][slots] = NUMBERS[UNACKNOWLEDGED], FOREVER
        alarms["told_at"][slots] = until
        self._transit(slots, "reminded", until, decided_at=until)

    # ------------------------------------------------------------------ silence

    def _gaps(self, readings: Readings, contacts: _Contacts, places: Int64s) -> _Gaps:
        """When each silence began that readings end, and what ended it."""
        entities, order, begins = self._entities.all, contacts.order, contacts.is_first
        versions, received_at = readings.silence[order], readings.received_at[order]
        before, after = np.empty_like(received_at), np.empty_like(received_at)
        before[1:], after[1:] = received_at[:-1], readings.silent_after[versions[:-1]]
        known = places[contacts.codes[begins]]
        before[begins], after[begins] = entities["received_at"][known], entities["silent_after"][known]
        is_gap = (before != NEVER) & (received_at - before >= after)
        if silent := self._open.get(SILENCE):
            is_gap[begins] |= np.isin(entities["entity"][known], [*silent])
        # What was folded before a crash is on record.
        is_gap &= readings.is_new[order]
        at = np.flatnonzero(is_gap)
        code, was_known = contacts.codes[at], begins[at]
        numbers = np.arange(len(at))
        nth = 1 + numbers - np.maximum.accumulate(np.where(is_first(code), numbers, 0))
        silence, is_told = entities["silence"][places[code]], entities["is_told"][places[code]] & was_known
        for number in np.flatnonzero(~was_known).tolist():
            silence[number] = self._entities.number(readings.silences[int(versions[at[number] - 1])])
        return _Gaps(code, nth, before[at], received_at[at], order[at], silence, is_told)

    def _end_gaps(self, readings: Readings, gaps: _Gaps, places: Int64s) -> None:
        """Entities were silent, and are heard of again."""
        where = places[gaps.code]
        self._fall_silent(where, gaps.silence, gaps.before, gaps.received_at, gaps.is_told)
        silent = self._open.get(SILENCE, {})
        entity_ids = self._entities.all["entity"][where].tolist()
        slots = _slots(silent, entity_ids)
        is_silent = slots != NO_ALARM
        slots, which, received_at = slots[is_silent], gaps.which[is_silent], gaps.received_at[is_silent]
        alarms = self._alarms.all
        self._pass_own_deadlines(slots, received_at)
        for name, numbers in places_of(readings, which).items():
            alarms[name][slots] = numbers
        alarms["measured_at"][slots] = readings.measured_at[which]
        self._end(slots, CLEARED, received_at)
        self._entities.all["is_told"][where] = False

    def _fall_silent(self, places: Int64s, silence: Int64s, since: Int64s, until: Int64s, is_told: Bools) -> None:
        """Entities were not heard of from one instant to another, which may be longer than they are watched."""
        rules = [self._entities.silences[number] for number in silence.tolist()]
        after = np.array([NOT_SILENT if each is None else each.after for each in rules], np.int64)
        # Whoever closed it is not told of the same silence again.
        falls = ~is_told & (after != NOT_SILENT) & (since + after <= until)
        self._tell_silence(places[falls], silence[falls], since[falls], (since + after)[falls])
        forgotten = since + microseconds(WATCHED_FOR)
        is_over = forgotten <= until
        slots, owners = self._alarms_of(places[is_over])
        at = forgotten[is_over][owners]
        self._pass_own_deadlines(slots, at)
        self._end(slots, CLEARED, at, decided_at=at, told=Told(note=FORGOTTEN))

    def _tell_silence(self, places: Int64s, silence: Int64s, since: Int64s, deadline: Int64s) -> None:
        if not len(places):
            return
        entities = self._entities.all
        entities["is_told"][places] = True
        where = {name: entities[name][places] for name in Place._fields}
        slots, owners = self._alarms_of(places)
        alarms = self._alarms.all
        is_of = (alarms["cause"][slots] != self._names.number(REFUSED)) & ~alarms["is_stale"][slots]
        slots, at_each = slots[is_of], deadline[owners[is_of]]
        self._escalate(slots, at_each)
        alarms["is_stale"][slots], alarms["clear_since"][slots] = True, FOREVER
        self._transit(slots, "stale", at_each, decided_at=at_each)
        rules = [self._entities.silences[number] for number in silence.tolist()]
        new = self._new(SILENCE, entities["entity"][places], deadline)
        alarms = self._alarms.all
        alarms["severity"][new] = [each.severity for each in rules if each]
        alarms["rule"][new] = self._names.numbers([each.rule_id for each in rules if each])
        alarms["rule_version"][new] = [each.rule_version for each in rules if each]
        alarms["threshold"][new] = [each.minutes for each in rules if each]
        alarms["measured_at"][new] = since
        for name, numbers in where.items():
            alarms[name][new] = numbers
        self._transit(new, "raised", deadline, decided_at=deadline)

    # ------------------------------------------------------------------ refused readings

    def _refuse(self, readings: Readings | None, refusals: Sequence[Refusal]) -> None:
        """Readings that went to quarantine, and accepted ones in between."""
        concerned = {each.entity for each in refusals} | self._open.get(REFUSED, {}).keys() | self._refusals.keys()
        if not concerned:
            return
        steps: list[tuple[int, Refusal | int]] = [(each.order, each) for each in refusals]
        if readings is not None:
            is_of = readings.is_accepted & readings.is_new
            is_of &= np.isin(readings.entities, [*concerned])[readings.code]
            steps += [(int(readings.order[at]), at) for at in np.flatnonzero(is_of).tolist()]
        before = {entity_id: self._refusals.get(entity_id) for entity_id in concerned}
        last = dict[int, tuple[int, Place]]()
        for _, what in sorted(steps, key=lambda each: each[0]):
            if isinstance(what, Refusal):
                self._count_refusal(what)
                last[what.entity] = what.received_at, what.place
            elif readings is not None:
                self._accept(readings, what)
                place = Place(*(int(numbers[0]) for numbers in places_of(readings, np.array([what])).values()))
                last[int(readings.entities[readings.code[what]])] = int(readings.received_at[what]), place
        for entity_id, (received_at, place) in last.items():
            if self._refusals.get(entity_id) != before[entity_id]:
                self._note_refusals(entity_id, received_at, place)

    def _accept(self, readings: Readings, at: int) -> None:
        """An accepted reading ends the row of refused ones."""
        entity_id = int(readings.entities[readings.code[at]])
        self._refusals.pop(entity_id, None)
        if slot := self._open.get(REFUSED, {}).get(entity_id):
            which, slots, alarms = np.array([at]), np.array([slot]), self._alarms.all
            self._pass_own_deadlines(slots, readings.received_at[which])
            for name, numbers in places_of(readings, which).items():
                alarms[name][slots] = numbers
            alarms["measured_at"][slots] = readings.measured_at[which]
            self._end(slots, CLEARED, readings.received_at[which])

    def _count_refusal(self, refusal: Refusal) -> None:
        entity_id, received_at = refusal.entity, refusal.received_at
        if slot := self._open.get(REFUSED, {}).get(entity_id):
            self._alarms.all["reading_count"][slot] += 1
            self._alarms.all["is_changed"][slot] = True
            self._say_refusal(slot, refusal)
            return
        times = [*self._refusals.get(entity_id, ()), received_at][-REFUSED_COUNT:]
        if len(times) == REFUSED_COUNT and times[-1] - times[0] <= microseconds(REFUSED_WITHIN):
            self._refusals.pop(entity_id, None)
            slots = self._new(REFUSED, np.array([entity_id]), np.array([received_at]))
            alarms = self._alarms.all
            alarms["severity"][slots], alarms["reading_count"][slots] = RANKS["warning"], REFUSED_COUNT
            self._say_refusal(int(slots[0]), refusal)
            self._transit(slots, "raised", np.array([received_at]))
            return
        self._refusals[entity_id] = times[1 - REFUSED_COUNT :]

    def _say_refusal(self, slot: int, refusal: Refusal) -> None:
        alarms = self._alarms.all
        alarms["measured_at"][slot] = refusal.received_at
        for name, number in refusal.place._asdict().items():
            alarms[name][slot] = number

    def _note_refusals(self, entity_id: int, received_at: int, place: Place) -> None:
        """The row of how many readings of an entity were refused, not yet enough for an alarm; its index is -1.

        Args:
            entity_id: the entity.
            received_at, place: of its last reading.
        """
        times, alarm = self._refusals.get(entity_id, []), no_alarm()
        alarm["alarm_id"] = int(alarm_id_of(self._stream, entity_id, REFUSED, NEVER), 16)
        alarm["entity"], alarm["cause"] = entity_id, self._names.number(REFUSED)
        alarm["severity"], alarm["reading_count"] = RANKS["warning"], len(times)
        alarm["raised_at"] = times[0] if times else received_at
        alarm["told_at"] = alarm["measured_at"] = received_at
        for name, number in place._asdict().items():
            alarm[name] = number
        self._rows.append(Rows.of(UPDATED, alarm, np.array([received_at]), np.array([self._decided_at])))

    # ------------------------------------------------------------------ actions

    def _act(self, action: Action) -> None:
        if action.action_id in self._applied:
            return
        self._applied.add(action.action_id)
        slots, kind = self._named(action.alarm_id), ACTION_KINDS.get(action.action)
        told = Told(action.action_id, action.by, action.note)
        if not len(slots) or kind is None:
            why = f"nobody knows the action {action.action}" if len(slots) else "no alarm with this id is open"
            times = np.array([action.at]), np.array([self._decided_at])
            rows = Rows.of(REFUSED, no_alarm(), *times, told._replace(note=why))._replace(now=self._decided_at)
            self._of_unknown.append(of_unknown(action.alarm_id, rows, self._stream, self._names))
            return
        alarms = self._alarms.all
        is_outdated = action.seen_index is not None and action.seen_index < alarms["worsened_index"][slots[0]]
        if is_outdated and kind in ("acknowledged", "snoozed"):
            # Whoever it was has not seen how severe it is.
            said = f"{action.note}; " if action.note else ""
            told = told._replace(note=f"{said}{kind} before it became worse, so it counts as a comment")
            kind = "commented"
        if kind == "closed":
            self._end(slots, kind, np.array([action.at]), told=told)
            return
        if kind == "acknowledged":
            alarms["state"][slots], alarms["until"][slots] = NUMBERS[ACKNOWLEDGED], FOREVER
        elif kind == "snoozed":
            until = FOREVER if action.until is None else action.until
            alarms["state"][slots], alarms["until"][slots] = NUMBERS[SNOOZED], until
            self._await(slots)
        self._transit(slots, kind, np.array([action.at]), told=told)

    def _named(self, alarm_id: str) -> Int64s:
        """The open alarm with an id, or none."""
        alarms = self._alarms.all
        is_id = len(alarm_id) == 16 and all(each in "0123456789abcdef" for each in alarm_id)
        found: Int64s = np.flatnonzero(
            alarms["is_open"] & (alarms["alarm_id"] == int(alarm_id, 16) if is_id else False)
        )
        return found

    # ------------------------------------------------------------------ bookkeeping

    def _alarms_of(self, places: Int64s) -> tuple[Int64s, Int64s]:
        """The open alarms of entities, and for each the number of its entity among these."""
        entity_ids = self._entities.all["entity"][places].tolist()
        found = [
            (owner, alarms[entity_id])
            for alarms in self._open.values()
            for owner, entity_id in enumerate(entity_ids)
            if entity_id in alarms
        ]
        owners, slots = np.array(sorted(found), np.int64).reshape(-1, 2).T
        return slots, owners

    def _new(self, cause: str, entities: Int64s, raised_at: Int64s) -> Int64s:
        """The places of new alarms."""
        slots = self._alarms.add(len(entities))
        of_cause, ids, indexes = self._open.setdefault(cause, {}), [], []
        for entity_id, at, slot in zip(entities.tolist(), raised_at.tolist(), slots.tolist(), strict=True):
            alarm_id = int(alarm_id_of(self._stream, entity_id, cause, at), 16)
            ids.append(alarm_id)
            indexes.append(self._index_before(entity_id, cause, alarm_id))
            of_cause[entity_id] = slot
        alarms = self._alarms.all
        alarms["alarm_id"][slots], alarms["index"][slots] = np.array(ids, np.uint64), indexes
        alarms["entity"][slots], alarms["cause"][slots] = entities, self._names.number(cause)
        alarms["raised_at"][slots], alarms["told_at"][slots] = raised_at, raised_at
        alarms["is_open"][slots] = True
        return slots

    def _index_before(self, entity_id: int, cause: str, alarm_id: int) -> int:
        """The last index of an alarm that ended; it may be raised again by another reading of the same instant."""
        ended = self._ended.get((entity_id, cause))
        return ended[1] if ended and ended[0] == alarm_id else -1

    def _end(
        self,
        slots: Int64s,
        kind: str,
        at: Int64s,
        decided_at: Int64s | None = None,
        told: Told = NOTHING,
    ) -> None:
        alarms = self._alarms.all
        alarms["state"][slots], alarms["until"][slots], alarms["due_at"][slots] = NUMBERS[CLEARED], FOREVER, FOREVER
        self._transit(slots, kind, at, decided_at, told)
        ended = alarms.take(slots)
        columns = (ended[name].tolist() for name in ("entity", "cause", "alarm_id", "index"))
        for entity_id, cause_number, alarm_id, index, one in zip(*columns, at.tolist(), strict=True):
            cause = self._names.texts[cause_number]
            self._ended[entity_id, cause] = alarm_id, index, one
            del self._open[cause][entity_id]
        self._alarms.free(slots)

    def _transit(
        self,
        slots: Int64s,
        kind: str,
        at: Int64s,
        decided_at: Int64s | None = None,
        told: Told = NOTHING,
    ) -> None:
        """Something happened to alarms."""
        if not len(slots):
            return
        alarms = self._alarms.all
        alarms["index"][slots] += 1
        if kind in ("raised", "worsened"):
            alarms["worsened_index"][slots] = alarms["index"][slots]
        alarms["is_changed"][slots] = False
        decided = np.full(len(slots), self._decided_at) if decided_at is None else decided_at
        self._rows.append(Rows.of(kind, alarms.take(slots), at, decided, told))


def _due(
    deadlines: Int64s, epochs: Int64s, partitions: Int64s, limit: Callable[[tuple[int, int]], int], latest: int
) -> Int64s:
    """Which deadlines pass, in their order."""
    places = np.flatnonzero(deadlines <= latest)
    limits = [limit(each) for each in zip(epochs[places].tolist(), partitions[places].tolist(), strict=True)]
    places = places[deadlines[places] <= np.array(limits, np.int64)]
    return places[np.argsort(deadlines[places], kind="stable")]


def _slots(alarms: Mapping[int, int], entity_ids: Sequence[int]) -> Int64s:
    """The places of the alarms of entities; `NO_ALARM` where there is none."""
    return np.fromiter(map(alarms.get, entity_ids, repeat(NO_ALARM)), np.int64, len(entity_ids))


def _in_turns(turn: Int64s, count: int, items: Int64s | None = None) -> list[Int64s]:
    """The items of each turn, in their order; without items their places."""
    if count <= 1:
        return [np.arange(len(turn)) if items is None else items][:count]
    order = np.argsort(turn, kind="stable")
    ends = np.cumsum(np.bincount(turn, minlength=count))[:-1]
    return np.split(order if items is None else items[order], ends)


def _by(codes: NDArray[np.intp], times: Int64s) -> NDArray[np.intp]:
    """The order by entity, then by time; where both are equal it stays."""
    order = np.argsort(times, kind="stable")
    # Numbers of 16 bits are sorted by counting.
    small = codes[order].astype(np.min_scalar_type(int(codes.max(initial=0))))
    ordered: NDArray[np.intp] = order[np.argsort(small, kind="stable")]
    return ordered
