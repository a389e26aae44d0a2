"""The records of alarms behind each thing that happened to them at readings, made for all at once. Pure.

An alarm counts the readings that break a rule from where it was raised on, and says what the last reading said. So a
record follows from the one before the micro-batch, or from nothing, and from the readings up to what happened.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from assets.alarms.decisions import CLEARED, ESCALATED, NOTHING, RAISED, STANCE, WOKEN, WORSENED, Decisions
from assets.alarms.given import FOREVER, NEVER, Bools, Int64s
from assets.alarms.records import BLANK, Array, Names, joined, put
from assets.alarms.said import Said, is_first

_AWAITS = np.isin(np.arange(ESCALATED + 1), [RAISED, WORSENED, WOKEN, ESCALATED])
"""What sets a deadline: it passes with events of the partition where the last reading was."""


class Course(NamedTuple):
    """What alarms came through, by entity and time: what happened to each, and how those that go on stand.

    Attributes:
        owner: of which entity the alarm is, by its number among those that have readings.
        kind: what happened; `NOTHING` is how an alarm stands in the end.
        when: the instant of what happened.
        records: the alarm then.
        episode: which alarm it is, numbered in this order.
        first, last: the first and the last item of each alarm.
        is_new: whether it was raised at one of the readings.
    """

    owner: Int64s
    kind: NDArray[np.int8]
    when: Int64s
    records: Array
    episode: Int64s
    first: Int64s
    last: Int64s
    is_new: Bools

    @property
    def is_over(self) -> Bools:
        """Whether each alarm was cleared."""
        over: Bools = self.kind[self.last] == CLEARED
        return over

    def number(self, before: Int64s) -> None:
        """Numbers what happened to each alarm, from the index of the last thing that happened before."""
        happened, records = np.cumsum(self.kind != NOTHING), self.records
        start = happened[self.first] - (self.kind[self.first] != NOTHING)
        records["index"] = (before - start)[self.episode] + happened
        worse, is_any = self._latest((self.kind == RAISED) | (self.kind == WORSENED))
        records["worsened_index"][is_any] = records["index"][worse]

    def await_deadlines(self) -> None:
        """Says with which partition the deadlines of alarms pass."""
        latest, is_any = self._latest(_AWAITS[self.kind])
        for name, place in (("due_epoch", "hub_epoch"), ("due_partition", "partition")):
            self.records[name][is_any] = self.records[place][latest]

    def _latest(self, which: Bools) -> tuple[Int64s, Bools]:
        """The latest of some items of each alarm up to each item, and which items have one."""
        latest = np.maximum.accumulate(np.where(which, np.arange(len(which)), -1))
        is_any = latest >= self.first[self.episode]
        return latest[is_any], is_any


def course_of(said: Said, alarms: Array, decisions: Decisions, names: Names) -> Course:
    """What alarms of a cause came through; who they are is not in it yet.

    Args:
        said: what readings say.
        alarms: the open alarm of each entity that has some, or `NO_ALARM`.
        decisions: what happened.
        names: of rules.
    """
    latest = np.zeros(len(alarms), np.int8)
    latest[decisions.owner] = decisions.kind
    rest = np.flatnonzero(np.where(latest == NOTHING, alarms["severity"] > 0, latest != CLEARED))
    owner = np.concatenate([decisions.owner, rest])
    order = np.argsort(owner, kind="stable")
    owner = owner[order]
    kind = np.concatenate([decisions.kind, np.zeros(len(rest), np.int8)])[order]
    stop = np.concatenate([decisions.at + (decisions.kind != ESCALATED), said.ends[rest]])[order]
    stance = joined([decisions.stance, decisions.stances.take(rest)]).take(order)
    when = np.concatenate([decisions.when, np.full(len(rest), NEVER)])[order]
    begins = is_first(owner) | (kind == RAISED)
    first = np.flatnonzero(begins)
    last = np.append(first[1:], len(owner)) - 1
    episode = np.cumsum(begins) - 1
    is_new = kind[first] == RAISED
    records = alarms.take(owner)
    put(records, is_new[episode], BLANK)
    course = Course(owner, kind, when, records, episode, first, last, is_new)
    for name in STANCE.names or ():
        records[name] = stance[name]
    start = np.where(is_new, stop[first] - 1, said.begins[owner[first]])
    since = np.zeros_like(stop)
    since[1:] = stop[:-1]
    since[first] = start
    start = start[episode]
    records["reading_count"] += said.count(start, stop)
    records["worst_value"] = said.worst(since, stop, episode, records["worst_value"])
    records["is_changed"] = (kind == NOTHING) & ((stop > since) | (begins & records["is_changed"]))
    _say(said, records, stop - 1, np.flatnonzero(stop > start), names)
    course.await_deadlines()
    return course


def _say(said: Said, records: Array, last: Int64s, which: Int64s, names: Names) -> None:
    """Some of the alarms say what their last readings said; the others had none."""
    some: Int64s | slice = slice(None) if len(which) == len(last) else which
    last = last[some]
    for name, numbers in said.places(last).items():
        records[name][some] = numbers
    measured_at, clear_for = said.measured_at[last], said.clear_for[last]
    records["measured_at"][some], records["value"][some] = measured_at, said.value[last]
    versions, version = said.readings.versions, said.version[last]
    records["rule"][some] = names.numbers(versions.rule_ids)[versions.rule[version]]
    records["rule_version"][some], records["threshold"][some] = versions.number[version], versions.threshold[version]
    records["clear_since"][some] = np.where(clear_for == NEVER, FOREVER, measured_at - clear_for)
    records["is_stale"][some] = False
