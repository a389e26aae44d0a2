"""A second opinion on alarms: what ADR 0039 says, worked out one entity after another in plain Python.

It shares no code with the engine and looks at one reading at a time. Where the engine and this disagree, one of them is
wrong. How events become the readings that are evaluated here is in `tests.alarms.inputs`.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

Row = dict[str, Any]
Position = tuple[int, int, int]
"""Partition, sequence number and index in the event."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
SEVERITIES = ("none", "info", "warning", "urgent")
REFUSED_IN_A_ROW, REFUSED_WITHIN = 3, timedelta(minutes=30)
WATCHED_FOR = timedelta(days=7)
LAST_TIER = 2


class Level(NamedTuple):
    """One rule as it holds for a reading: what it compares, and how alarms that it leads behave."""

    rule_id: str
    column: str
    comparison: str
    threshold: float
    severity: str
    cause: str
    clear: float | None
    max_age: timedelta
    clear_after: timedelta
    remind_every: timedelta | None
    escalate_after: timedelta | None
    unless: str | None = None
    is_enabled: bool = True
    looks_at: str | None = None
    """The measurement that the column follows from; None: any may change it."""


class Reading(NamedTuple):
    """An accepted reading, or a revision that breaks an urgent rule; `values` has its windows and scores too."""

    entity: int
    measured_at: datetime
    received_at: datetime
    position: Position
    pulled_at: datetime
    values: Mapping[str, Any]
    is_revision: bool = False


class Refusal(NamedTuple):
    """A reading that could be decoded and went to quarantine by itself, not because it contradicts another one."""

    entity: int
    received_at: datetime
    position: Position
    pulled_at: datetime


class Action(NamedTuple):
    """What a person did."""

    action_id: str
    alarm_id: str
    action: str
    at: datetime
    until: datetime | None = None
    seen: int | None = None
    """The last transition that its author saw."""


@dataclass(frozen=True)
class Batch:
    """One micro-batch.

    Attributes:
        read: accepted readings and refused ones, in the order of processing.
        reached: by partition, the greatest received_at of its events.
        actions: what the session learns of before it, in order.
        idle_at: the instant up to which the clock passes deadlines behind it, since the hub had nothing more.
    """

    read: Sequence[Reading | Refusal] = ()
    reached: Mapping[int, datetime] = field(default_factory=dict)
    actions: Sequence[Action] = ()
    idle_at: datetime | None = None


@dataclass(frozen=True)
class Evaluated:
    """The transitions, those of an alarm in their order; and the actions that changed nothing, with the reason."""

    transitions: list[Row]
    refused: list[tuple[str, str]]


Levels = Callable[[Reading], Sequence[Level]]
SilenceRule = Callable[[Reading], Level]


def evaluate(
    stream: str, batches: Sequence[Batch], levels: Levels, silence: SilenceRule, max_age: timedelta
) -> Evaluated:
    """All transitions of a stream.

    Args:
        stream: its name.
        batches: everything that was folded, in order.
        levels: the rules that hold for a reading, in the contract's order.
        silence: the rule that says after how many minutes behind a reading contact is lost.
        max_age: up to which age a reading is fresh where there are no rules.
    """
    read: dict[int, dict[int, list[Reading | Refusal]]] = defaultdict(lambda: defaultdict(list))
    for number, batch in enumerate(batches):
        for each in batch.read:
            read[each.entity][number].append(each)
    actions, reached, idle_at = _first_ones(batches), _reached(batches), [batch.idle_at for batch in batches]
    found: list[Row] = []
    answers: dict[str, str] = {}
    for entity in sorted(read):
        watch = _Entity(stream, entity, levels, silence, max_age, found, answers)
        for number in range(len(batches)):
            for action in actions[number]:
                watch.act(action)
            watch.read(read[entity].get(number, []))
            watch.pass_partitions(reached[number])
            watch.pass_until(idle_at[number])
    named = [action for some in actions for action in some]
    refused = [(each.action_id, answers.get(each.action_id, "unknown alarm")) for each in named]
    return Evaluated(found, [each for each in refused if each[1]])


def alarm_id(stream: str, entity: int, cause: str, at: datetime) -> str:
    """The name of an alarm."""
    name = f"{stream}|{entity}|{cause}|{(at - EPOCH) // MICROSECOND}"
    return hashlib.blake2b(name.encode(), digest_size=8).hexdigest()


def _first_ones(batches: Sequence[Batch]) -> list[list[Action]]:
    """Actions without those that were learned of before."""
    seen: set[str] = set()
    found: list[list[Action]] = []
    for batch in batches:
        found.append([])
        for action in batch.actions:
            if action.action_id not in seen:
                seen.add(action.action_id)
                found[-1].append(action)
    return found


def _reached(batches: Sequence[Batch]) -> list[dict[int, datetime]]:
    """How far each partition has come after each micro-batch."""
    found: list[dict[int, datetime]] = []
    now: dict[int, datetime] = {}
    for batch in batches:
        for partition, at in batch.reached.items():
            now[partition] = max(at, now.get(partition, at))
        found.append(dict(now))
    return found


@dataclass
class _Alarm:
    alarm_id: str
    cause: str
    severity: str
    state: str = "unacknowledged"
    tier: int = 0
    worst: float | None = None
    count: int = 0
    lead: Level | None = None
    told: tuple[str | None, float | None, float | None] = (None, None, None)
    """Rule, threshold and value of the last folded reading."""
    reminded_at: datetime | None = None
    """`measured_at` of the last reading that raised it, made it worse or reminded of it."""
    due_at: datetime | None = None
    """When it is told to the next tier."""
    partition: int = 0
    until: datetime | None = None
    clear_since: datetime | None = None
    changed_index: int = 0
    """The transition that raised it or made it worse last."""
    is_stale: bool = False


class _Deadline(NamedTuple):
    at: datetime
    rank: int
    partition: int
    alarm: _Alarm | None


WAKE, ESCALATE, SILENCE, FORGET = range(4)
"""What comes first of deadlines of one instant."""


class _Entity:
    """One patient or device."""

    def __init__(
        self,
        stream: str,
        entity: int,
        levels: Levels,
        silence: SilenceRule,
        max_age: timedelta,
        found: list[Row],
        answers: dict[str, str],
    ) -> None:
        self._stream, self._entity = stream, entity
        self._levels, self._silence, self._max_age = levels, silence, max_age
        self._found, self._answers = found, answers
        self._open: dict[str, _Alarm] = {}
        self._indexes: dict[str, int] = {}
        self._newest: dict[str, datetime] = {}
        self._newest_before: dict[str, datetime] = {}
        self._last: Reading | None = None
        """The reading since which contact counts; None: it is not watched."""
        self._is_silent = False
        self._refused: list[Refusal] = []
        self._refused_at: datetime | None = None

    def read(self, read: Sequence[Reading | Refusal]) -> None:
        """What a micro-batch holds of this entity."""
        self._newest_before = dict(self._newest)
        rest = [each for each in read if isinstance(each, Reading)]
        accepted = [each for each in rest if not each.is_revision]
        for each in sorted(accepted, key=lambda each: each.received_at):
            if self._fresh(each) is None and self._last is not None:
                continue
            if self._last is not None and self._is_parting(self._last, each):
                self._fold_all([other for other in rest if other.received_at < each.received_at])
                rest = [other for other in rest if other.received_at >= each.received_at]
                self.pass_until(each.received_at)
            self._contact(each)
        self._fold_all(rest)
        for one in read:
            if isinstance(one, Refusal):
                self._refuse(one)
            elif not one.is_revision:
                self._end_row(one)

    def act(self, action: Action) -> None:
        """What a person does to one of this entity's alarms."""
        if action.alarm_id not in self._indexes:
            return
        alarm = next((each for each in self._open.values() if each.alarm_id == action.alarm_id), None)
        self._answers[action.action_id] = self._act(alarm, action)

    def _act(self, alarm: _Alarm | None, action: Action) -> str:
        if alarm is None:
            return "closed alarm"
        kind = action.action
        if kind in ("acknowledge", "snooze") and action.seen is not None and action.seen < alarm.changed_index:
            # Whoever sent it had not seen that it is worse.
            kind = "comment"
        if kind == "snooze":
            alarm.state, alarm.until = "snoozed", action.until
        elif kind == "acknowledge":
            alarm.state, alarm.until = "acknowledged", None
        elif kind == "close":
            del self._open[alarm.cause]
            alarm.state, alarm.until = "cleared", None
        kinds = {"acknowledge": "acknowledged", "snooze": "snoozed", "comment": "commented", "close": "closed"}
        self._tell(alarm, kinds[kind], action.at)
        return ""

    # Deadlines

    def pass_until(self, at: datetime | None) -> None:
        """Passes the deadlines of all partitions up to an instant."""
        if at is not None:
            self._pass(lambda deadline: deadline.at <= at)

    def _pass_alarms(self, at: datetime, alarms: Collection[_Alarm]) -> None:
        """Passes the deadlines of alarms themselves, of whatever partition."""
        self._pass(lambda deadline: deadline.alarm in alarms and deadline.at <= at)

    def pass_partitions(self, reached: Mapping[int, datetime]) -> None:
        """Passes the deadlines up to where each partition has come."""
        self._pass(
            lambda deadline: deadline.partition in reached and deadline.at <= reached[deadline.partition],
        )

    def _pass(self, is_over: Callable[[_Deadline], bool]) -> None:
        while over := [deadline for deadline in self._deadlines() if is_over(deadline)]:
            first = min(over, key=lambda deadline: (deadline.at, deadline.rank))
            if first.alarm is not None and first.rank == WAKE:
                first.alarm.state, first.alarm.until = "unacknowledged", None
                self._tell(first.alarm, "reminded", first.at)
            elif first.alarm is not None:
                self._escalate(first.alarm, first.at)
            elif first.rank == SILENCE:
                self._fall_silent(first.at)
            else:
                self._forget(first.at)

    def _deadlines(self) -> Iterator[_Deadline]:
        for alarm in self._open.values():
            escalates = alarm.lead is not None and alarm.lead.escalate_after is not None
            if escalates and alarm.due_at is not None and alarm.state == "unacknowledged":
                yield _Deadline(alarm.due_at, ESCALATE, alarm.partition, alarm)
            if alarm.lead is None and alarm.state == "snoozed" and alarm.until is not None:
                yield _Deadline(alarm.until, WAKE, alarm.partition, alarm)
        if self._last is None and "refused" in self._open and self._refused_at is not None:
            yield _Deadline(self._refused_at + WATCHED_FOR, FORGET, self._open["refused"].partition, None)
        if self._last is not None:
            partition = self._last.position[0]
            yield _Deadline(self._last.received_at + WATCHED_FOR, FORGET, partition, None)
            after = self._silent_after(self._last)
            if after is not None and not self._is_silent:
                yield _Deadline(self._last.received_at + after, SILENCE, partition, None)

    def _escalate(self, alarm: _Alarm, at: datetime) -> None:
        assert alarm.lead is not None
        assert alarm.lead.escalate_after is not None
        alarm.tier += 1
        alarm.due_at = at + alarm.lead.escalate_after if alarm.tier < LAST_TIER else None
        self._tell(alarm, "escalated", at)

    def _fall_silent(self, at: datetime) -> None:
        self._pass_alarms(at, [*self._open.values()])
        self._is_silent = True
        for alarm in self._open.values():
            if not alarm.is_stale and alarm.cause != "refused":
                alarm.is_stale, alarm.clear_since = True, None
                self._tell(alarm, "stale", at)
        assert self._last is not None
        rule = self._silence(self._last)
        silence = self._opened("silence", rule.severity, at)
        silence.told, silence.partition = (rule.rule_id, rule.threshold, None), self._last.position[0]
        self._tell(silence, "raised", at)

    def _forget(self, at: datetime) -> None:
        self._last = None
        for alarm in [*self._open.values()]:
            self._clear(alarm, at)

    # Contact

    def _fresh(self, reading: Reading) -> list[Level] | None:
        """The rules that a reading is young enough for; None: it is not fresh."""
        levels, age = self._levels(reading), reading.received_at - reading.measured_at
        fresh = [level for level in levels if age <= level.max_age]
        return fresh if fresh or (not levels and age <= self._max_age) else None

    def _contact(self, reading: Reading) -> None:
        if silence := self._open.get("silence"):
            self._clear(silence, reading.received_at, reading)
        self._is_silent = False
        if self._last is None or reading.received_at >= self._last.received_at:
            self._last = reading

    def _silent_after(self, reading: Reading) -> timedelta | None:
        rule = self._silence(reading)
        return timedelta(minutes=rule.threshold) if rule.is_enabled else None

    def _is_parting(self, last: Reading, reading: Reading) -> bool:
        """Whether contact was lost between two readings."""
        after = self._silent_after(last)
        return min(after or WATCHED_FOR, WATCHED_FOR) <= reading.received_at - last.received_at

    def _refuse(self, refusal: Refusal) -> None:
        self._refused_at = refusal.received_at
        if alarm := self._open.get("refused"):
            alarm.count += 1
            return
        self._refused = [*self._refused, refusal][-REFUSED_IN_A_ROW:]
        within = refusal.received_at - self._refused[0].received_at
        if len(self._refused) == REFUSED_IN_A_ROW and within <= REFUSED_WITHIN:
            self._refused = []
            alarm = self._opened("refused", "warning", refusal.received_at)
            alarm.count, alarm.partition = REFUSED_IN_A_ROW, refusal.position[0]
            self._tell(alarm, "raised", refusal.received_at, refusal)

    def _end_row(self, reading: Reading) -> None:
        self._refused = []
        if alarm := self._open.get("refused"):
            self._pass_alarms(reading.received_at, [alarm])
            self._clear(alarm, reading.received_at, reading)

    # Readings

    def _fold_all(self, readings: Sequence[Reading]) -> None:
        for reading in sorted(readings, key=lambda each: each.measured_at):
            fresh = self._fresh(reading)
            if fresh is None:
                continue
            self._fold(reading, fresh)
            if not reading.is_revision:
                self._remember(reading)

    def _fold(self, reading: Reading, fresh: Sequence[Level]) -> None:
        evaluated = [level for level in fresh if reading.values.get(level.column) is not None]
        causes = dict.fromkeys(level.cause for level in evaluated)
        if reading.is_revision:
            # It contradicts another reading: it may raise an alarm, and clears none.
            urgent = [level for level in evaluated if level.severity == "urgent"]
            causes = dict.fromkeys(level.cause for level in urgent if judged(level, reading.values) == "true")
        for cause in causes:
            if cause in self._newest_before and reading.measured_at < self._newest_before[cause]:
                continue
            self._pass_alarms(reading.received_at, [alarm for alarm in self._open.values() if alarm.cause == cause])
            self._fold_cause(reading, cause, [level for level in evaluated if level.cause == cause])

    def _remember(self, reading: Reading) -> None:
        """How far a cause has come, by readings that say something of it; a clock that is ahead counts as on time."""
        at = min(reading.measured_at, reading.received_at)
        for level in self._levels(reading):
            if level.looks_at is None or reading.values.get(level.looks_at) is not None:
                self._newest[level.cause] = max(at, self._newest.get(level.cause, at))

    def _fold_cause(self, reading: Reading, cause: str, levels: Sequence[Level]) -> None:
        answers = {level: judged(level, reading.values) for level in levels}
        true = [level for level in levels if answers[level] == "true"]
        kept = [level for level in levels if answers[level] != "clear"]
        highest_true, highest_kept = _highest(true), _highest(kept)
        candidates = true or kept
        lead = next((each for each in candidates if _rank(each.severity) == _highest(candidates)), levels[0])
        value = float(reading.values[lead.column])
        alarm = self._open.get(cause)
        if alarm is None:
            if not highest_true:
                return
            alarm = self._opened(cause, lead.severity, reading.measured_at)
        alarm.is_stale, alarm.told = False, (lead.rule_id, lead.threshold, value)
        if highest_kept:
            alarm.clear_since = None
        elif alarm.clear_since is None:
            alarm.clear_since = reading.measured_at
        if highest_true:
            alarm.count += 1
            is_least = lead.comparison in ("below", "at_most")
            alarm.worst = value if alarm.worst is None else (min if is_least else max)(alarm.worst, value)
        kind = self._kind(alarm, reading, highest_true, highest_kept)
        if kind is None:
            return
        if kind in ("raised", "worsened", "eased"):
            alarm.lead, alarm.severity = lead, SEVERITIES[highest_kept if kind == "eased" else highest_true]
        if kind in ("raised", "worsened", "reminded"):
            if kind != "reminded" or alarm.state == "snoozed":
                self._attend(alarm, reading)
            alarm.reminded_at = reading.measured_at
        if kind == "cleared":
            self._clear(alarm, reading.measured_at, reading)
        else:
            self._tell(alarm, kind, reading.measured_at, reading)

    def _attend(self, alarm: _Alarm, reading: Reading) -> None:
        """Somebody must see to it, again or for the first time."""
        alarm.state, alarm.until = "unacknowledged", None
        every = alarm.lead.escalate_after if alarm.lead else None
        alarm.due_at = None if every is None or alarm.tier == LAST_TIER else reading.received_at + every
        alarm.partition = reading.position[0]

    def _kind(self, alarm: _Alarm, reading: Reading, highest_true: int, highest_kept: int) -> str | None:
        """The first line of the ADR's table that fits."""
        at, lead, severity = reading.measured_at, alarm.lead, _rank(alarm.severity)
        if lead is None:
            return "raised"
        if highest_true > severity:
            return "worsened"
        if 0 < highest_kept < severity:
            return "eased"
        if highest_kept == 0:
            assert alarm.clear_since is not None
            return "cleared" if at >= alarm.clear_since + lead.clear_after else None
        if not highest_true:
            return None
        if alarm.state == "snoozed":
            assert alarm.until is not None
            return "reminded" if reading.received_at >= alarm.until else None
        if alarm.state == "unacknowledged" and lead.remind_every is not None:
            assert alarm.reminded_at is not None
            return "reminded" if at >= alarm.reminded_at + lead.remind_every else None
        return None

    # Rows

    def _opened(self, cause: str, severity: str, at: datetime) -> _Alarm:
        alarm = _Alarm(alarm_id(self._stream, self._entity, cause, at), cause, severity)
        self._indexes.setdefault(alarm.alarm_id, 0)
        self._open[cause] = alarm
        return alarm

    def _clear(self, alarm: _Alarm, at: datetime, by: Reading | None = None) -> None:
        del self._open[alarm.cause]
        alarm.state, alarm.until = "cleared", None
        self._tell(alarm, "cleared", at, by)

    def _tell(self, alarm: _Alarm, kind: str, at: datetime, by: Reading | Refusal | None = None) -> None:
        rule_id, threshold, value = alarm.told
        index = self._indexes[alarm.alarm_id]
        self._indexes[alarm.alarm_id] += 1
        if kind in ("raised", "worsened"):
            alarm.changed_index = index
        self._found.append(
            {
                "alarm_id": alarm.alarm_id,
                "index": index,
                "kind": kind,
                "at": at,
                "decided_at": at if by is None else by.pulled_at,
                "entity": self._entity,
                "cause": alarm.cause,
                "severity": alarm.severity,
                "state": alarm.state,
                "rule_id": rule_id,
                "threshold": threshold,
                "value": value,
                "worst_value": alarm.worst,
                "reading_count": alarm.count,
                "tier": alarm.tier,
                "until": alarm.until,
                "position": None if by is None else by.position,
            }
        )


def judged(level: Level, values: Mapping[str, Any]) -> str:
    """Whether an evaluated rule is `true`, `held` or `clear`."""
    if not level.is_enabled:
        return "clear"
    value = values[level.column]
    is_broken = {
        "above": value > level.threshold,
        "below": value < level.threshold,
        "at_least": value >= level.threshold,
        "at_most": value <= level.threshold,
    }[level.comparison]
    if is_broken:
        is_excepted = level.unless is not None and values.get(level.unless) is True
        return "held" if is_excepted else "true"
    if level.clear is None:
        return "clear"
    is_clear = value <= level.clear if level.comparison in ("above", "at_least") else value >= level.clear
    return "clear" if is_clear else "held"


def _rank(severity: str) -> int:
    return SEVERITIES.index(severity)


def _highest(levels: Collection[Level]) -> int:
    return max((_rank(level.severity) for level in levels), default=0)
