"""What the fold of alarms is given: judged readings, refusals, actions, and who was seen lately. Pure values.

All instants are in microseconds since 1970, UTC.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Int64s = NDArray[np.int64]
Bools = NDArray[np.bool_]

NEVER = -(2**62)
"""An instant before all others."""
FOREVER = 2**62
"""An instant after all others: what has it does not happen."""
ANY = ""
"""Stands for all measurements."""
NOT_SILENT = FOREVER
"""A time after which nobody is silent."""
NO_LIMIT = -1
"""In arrays of durations: there is none."""


class Place(NamedTuple):
    """Where a reading is in bronze."""

    hub_epoch: int
    partition: int
    sequence_number: int
    event_index: int


class Versions(NamedTuple):
    """The versions of rules that readings are judged by, an item for each; durations in microseconds, or `NO_LIMIT`.

    Attributes:
        rule_ids: the rules.
        rule: which of them each version is of.
        number, threshold, clear_after, remind_every, escalate_after: of each version.
    """

    rule_ids: Sequence[str]
    rule: Int64s
    number: Int64s
    threshold: NDArray[np.float64]
    clear_after: Int64s
    remind_every: Int64s
    escalate_after: Int64s


class Judged(NamedTuple):
    """What readings say of one cause, an item for each; they say nothing where they cannot change an alarm.

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
        entities: those that have some, in order.
        code: which of these each reading is of.
        measured_at, received_at: of each.
        order: of processing.
        hub_epoch, partition, sequence_number, event_index: its place in bronze.
        is_fresh: whether it is fresh for any rule.
        is_accepted: whether it stands; revisions do not.
        is_new: False for what was folded before a crash.
        has_value: for each measurement which readings are fresh and have one; `ANY` is of all fresh ones.
        causes: what they say of each cause.
        versions: that `causes` refers to.
        silences: the versions of the rule about silence; None for one that says that nobody is told of it.
        silent_after: the time of each of these, in microseconds; `NOT_SILENT` for None.
        silence: which of them holds for each reading.
    """

    entities: Int64s
    code: NDArray[np.intp]
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
    silent_after: Int64s
    silence: Int64s


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


def coded(entity: Int64s) -> tuple[Int64s, NDArray[np.intp]]:
    """The different entities, in order, and which of them each one is."""
    least, span = (int(entity.min()), int(entity.max()) - int(entity.min()) + 1) if len(entity) else (0, 0)
    if span > 8 * len(entity):
        return np.unique(entity, return_inverse=True)
    # Numbers that are close together need no sorting.
    is_there = np.zeros(span, bool)
    is_there[entity - least] = True
    return np.flatnonzero(is_there) + least, (np.cumsum(is_there) - 1)[entity - least]


def microseconds(span: timedelta) -> int:
    """A span as a whole number of microseconds."""
    return span // timedelta(microseconds=1)
