"""What happens to the alarms of a cause at readings: docs/adr/0039 has the table of it. Pure.

All alarms go on together, in rounds: each up to the first of its next readings at which something happens. Where few
alarms are left, a round costs more than it decides, so those go on by themselves, one reading after another.

```
 measured_at   10:00  10:05  10:10  10:15  10:20  10:30   T: severity of the rules that are true
 glucose          90     68     66     72     90     95   H: severity of those that are true or held
 T, H            0,0    1,1    1,1    0,1    0,0    0,0
 1st round     -----raised
 2nd round                   --------------------cleared, since H is 0 for 10 minutes
```

What happens, and what it changes, is said once: of numbers, or of arrays of them. All instants are in microseconds
since 1970, UTC.
"""

from collections.abc import Callable, Iterator
from operator import getitem
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from assets.alarms.given import FOREVER, NO_LIMIT, Int64s, Versions
from assets.alarms.records import ALARM, BLANK, NUMBERS, Array, joined, put
from assets.alarms.said import At, Reading, Said, is_first
from assets.alarms.tables import CLEARED as OVER
from assets.alarms.tables import MAX_TIER, UNACKNOWLEDGED

NOTHING, REMINDED, WOKEN, CLEARED, EASED, WORSENED, RAISED, ESCALATED = range(8)
"""What may happen to an alarm at a reading; `WOKEN` is to be reminded of what was snoozed."""
TRANSITIONS = ("", "reminded", "reminded", "cleared", "eased", "worsened", "raised", "escalated")
"""The transition of each of these."""

_STANCE = ("severity", "state", "tier", "told_at", "until", "due_at", "clear_after", "remind_every", "escalate_after")
STANCE = np.dtype([(name, ALARM[name]) for name in _STANCE])
"""What of an alarm decides what happens to it."""
NO_STANCE = np.zeros(1, STANCE)
"""Of no alarm: any severity is above its own, and nothing else happens to it."""
for _name in _STANCE:
    NO_STANCE[_name] = BLANK[_name]
NO_STANCE["clear_after"] = FOREVER

_AHEAD, _AT_ONCE = 8, 1000
"""How many readings of an entity a round looks at, and of all together where that is more: what comes after something
happened is looked at again."""
FEW = 12
"""So many alarms go on by themselves: to each more of them happens about as much in the time of a round."""

Where = Callable[[Any, Any, Any], Any]


class Decisions(NamedTuple):
    """What happened to alarms, by alarm and time.

    Attributes:
        owner: to the alarm of which entity, by its number among those that have readings.
        at: at which reading. A deadline passes before it.
        kind: what happened.
        when: the instant of it: of the reading, or of the deadline.
        stance: how the alarm stood afterwards.
        stances: how the alarm of each entity stands in the end; `NO_STANCE` where it has none.
    """

    owner: Int64s
    at: Int64s
    kind: NDArray[np.int8]
    when: Int64s
    stance: Array
    stances: Array


class _Of(NamedTuple):
    """How to choose between two, and from an array, for one alarm or for many."""

    where: Where
    pick: Callable[[Array, Any], Any]


def _either(is_so: bool, one: int, other: int) -> int:
    return one if is_so else other


_ONE, _MANY = _Of(_either, np.ndarray.item), _Of(np.where, getitem)


class _Limits(NamedTuple):
    """What readings must reach so that something happens."""

    severity: Any
    clear_after: Any
    remind_at: Any
    until: Any
    due_at: Any


def stances_of(alarms: Array) -> Array:
    """The part of alarms that decides."""
    stances = np.empty(len(alarms), STANCE)
    for name in _STANCE:
        stances[name] = alarms[name]
    return stances


def escalates(alarm: Any) -> Any:
    """Whether the deadline of an alarm counts."""
    return (alarm["state"] == NUMBERS[UNACKNOWLEDGED]) & (alarm["escalate_after"] != NO_LIMIT)


def due_after(alarm: Any, since: Any, where: Where = np.where) -> Any:
    """When an alarm is escalated next, if nobody sees to it; `FOREVER` where it was escalated as far as it is."""
    is_last = (alarm["escalate_after"] == NO_LIMIT) | (alarm["tier"] >= MAX_TIER)
    return where(is_last, FOREVER, since + alarm["escalate_after"])


def decided(said: Said, stances: Array) -> Decisions:
    """What happens to the alarms of entities.

    Args:
        said: what the readings say.
        stances: how the alarm of each of its entities stands, `NO_STANCE` where there is none; they are changed.
    """
    parts = [*_rounds(said, stances)]
    if len(parts) == 1:
        owner, at, kind, when, stood = parts[0]
        return Decisions(owner, at, kind, when, stood, stances)
    *columns, stance = zip(_part([], [], [], [], np.empty(0, STANCE)), *parts, strict=True)
    owner, at, kind, when = (np.concatenate(each) for each in columns)
    order = np.argsort(owner, kind="stable")
    return Decisions(owner[order], at[order], kind[order], when[order], joined(stance).take(order), stances)


def _part(owner: Any, at: Any, kind: Any, when: Any, stance: Array) -> tuple[Array, ...]:
    return (
        np.asarray(owner, np.int64),
        np.asarray(at, np.int64),
        np.asarray(kind, np.int8),
        np.asarray(when, np.int64),
        stance,
    )


def _limits(alarm: Any, of: _Of) -> _Limits:
    is_told_of = (alarm["state"] == NUMBERS[UNACKNOWLEDGED]) & (alarm["remind_every"] != NO_LIMIT)
    remind_at = of.where(is_told_of, alarm["told_at"] + alarm["remind_every"], FOREVER)
    due_at = of.where(escalates(alarm), alarm["due_at"], FOREVER)
    return _Limits(alarm["severity"], alarm["clear_after"], remind_at, alarm["until"], due_at)


def _cases(limits: _Limits, reading: Reading | At) -> tuple[tuple[int, Any], ...]:
    """What may happen, and whether it does; of several the first one does. `RAISED` is `WORSENED` of no alarm."""
    is_true = reading.true > 0
    return (
        (ESCALATED, reading.received_at >= limits.due_at),
        (WORSENED, reading.true > limits.severity),
        (EASED, (reading.held > 0) & (reading.held < limits.severity)),
        (CLEARED, reading.clear_for >= limits.clear_after),
        (WOKEN, is_true & (reading.received_at >= limits.until)),
        (REMINDED, is_true & (reading.measured_at >= limits.remind_at)),
    )


def _change(kind: int, alarm: Any, reading: Reading | At, versions: Versions, of: _Of) -> None:
    """How an alarm stands after something happened."""
    if kind == ESCALATED:
        alarm["tier"] = alarm["tier"] + 1
        alarm["due_at"] = due_after(alarm, alarm["due_at"], of.where)
        return
    if kind == CLEARED:
        alarm["state"], alarm["until"], alarm["due_at"] = NUMBERS[OVER], FOREVER, FOREVER
        return
    if kind in (RAISED, WORSENED, EASED):
        alarm["severity"] = reading.held if kind == EASED else reading.true
        alarm["clear_after"] = of.pick(versions.clear_after, reading.version)
        alarm["remind_every"] = of.pick(versions.remind_every, reading.version)
        alarm["escalate_after"] = of.pick(versions.escalate_after, reading.version)
    if kind != EASED:
        alarm["told_at"] = reading.measured_at
    if kind in (RAISED, WORSENED, WOKEN):
        alarm["state"], alarm["until"] = NUMBERS[UNACKNOWLEDGED], FOREVER
        alarm["due_at"] = due_after(alarm, reading.received_at, of.where)


# ---------------------------------------------------------------------- many alarms at once


def _rounds(said: Said, stances: Array) -> Iterator[tuple[Array, ...]]:
    owners, begins, ends = np.arange(len(stances)), said.begins, said.ends
    while len(owners) > FEW:
        stops = np.minimum(ends, begins + max(_AHEAD, _AT_ONCE // len(owners)))
        which, at, kind = _first_ones(said, stances.take(owners), begins, stops)
        concerned = owners[which]
        kind[(kind == WORSENED) & (stances["severity"][concerned] == 0)] = RAISED
        # Deadlines pass before the reading, which comes next.
        stops[which] = at + (kind != ESCALATED)
        for each in np.unique(kind).tolist():
            is_of = kind == each
            some, reached = concerned[is_of], at[is_of]
            alarms, reading = stances.take(some), said.at(reached)
            when = alarms["due_at"].copy() if each == ESCALATED else reading.measured_at
            _change(each, alarms, reading, said.readings.versions, _MANY)
            yield _part(some, reached, kind[is_of], when, alarms)
            put(stances, some, NO_STANCE if each == CLEARED else alarms)
        left = stops < ends
        owners, begins, ends = owners[left], stops[left], ends[left]
    if len(owners):
        yield _one_by_one(said, stances, owners, begins, ends)


def _first_ones(
    said: Said, alarms: Array, begins: Int64s, ends: Int64s
) -> tuple[NDArray[np.intp], Int64s, NDArray[np.int8]]:
    """The first reading at which something happens to each alarm: whose, which reading, and what happens."""
    counts = ends - begins
    owners = np.repeat(np.arange(len(alarms)), counts)
    at = np.arange(len(owners)) + np.repeat(begins + counts - np.cumsum(counts), counts)
    limits = _Limits(*(each[owners] for each in _limits(alarms, _MANY)))
    kind = np.zeros(len(at), np.int8)
    for each, happens in reversed(_cases(limits, said.at(at))):
        kind[happens] = each
    happened = np.flatnonzero(kind)
    first = happened[is_first(owners[happened])]
    return owners[first], at[first], kind[first]


# ---------------------------------------------------------------------- few alarms, one after another


def _one_by_one(said: Said, stances: Array, owners: Int64s, begins: Int64s, ends: Int64s) -> tuple[Array, ...]:
    found: list[tuple[int, int, int, int]] = []
    stood: list[tuple[Any, ...]] = []
    for owner, begin, end in zip(owners.tolist(), begins.tolist(), ends.tolist(), strict=True):
        alarm = dict(zip(_STANCE, stances[owner].item(), strict=True))
        limits, at = _limits(alarm, _ONE), begin
        for reading in said.each(begin, end):
            while kind := _first_of(limits, reading):
                if kind == WORSENED and not alarm["severity"]:
                    kind = RAISED
                when = alarm["due_at"] if kind == ESCALATED else reading.measured_at
                _change(kind, alarm, reading, said.readings.versions, _ONE)
                found.append((owner, at, kind, when))
                stood.append(tuple(alarm.values()))
                if kind == CLEARED:
                    alarm = dict(_NOBODY)
                limits = _limits(alarm, _ONE)
                if kind != ESCALATED:
                    break
            at += 1
        stances[owner] = tuple(alarm.values())
    owner, whose, kinds, when = np.array(found, np.int64).reshape(-1, 4).T
    return _part(owner, whose, kinds, when, np.array(stood, STANCE))


_NOBODY = dict(zip(_STANCE, NO_STANCE[0].item(), strict=True))


def _first_of(limits: _Limits, reading: Reading | At) -> int:
    for kind, happens in _cases(limits, reading):
        if happens:
            return kind
    return NOTHING
