"""What the readings of a micro-batch say of one cause, by entity and time, and how it adds up over parts of them.

All instants are in microseconds since 1970, UTC.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from assets.alarms.given import FOREVER, NEVER, Bools, Int64s, Judged, Place, Readings


class Reading(NamedTuple):
    """What decides at a reading.

    Attributes:
        true, held: the rank of the greatest severity of rules that are true, and of those that are true or held.
        clear_for: for how long all rules were clear; `NEVER` where one is true or held.
        measured_at, received_at: instants.
        version: of the leading rule.
    """

    true: int
    held: int
    clear_for: int
    measured_at: int
    received_at: int
    version: int


class At:
    """The same as of a reading, of many: arrays, made where they are asked for."""

    def __init__(self, said: "Said", which: Int64s) -> None:
        self._said, self._which = said, which

    def __getattr__(self, name: str) -> Any:
        return getattr(self._said, name)[self._which]


class Said:
    """What readings say of one cause.

    Args:
        readings: of a micro-batch.
        judged: what they say of the cause.
        which: those that count, by entity and time.

    Attributes:
        entities: those that have some.
        begins, ends: of the readings of each of these, the first one and the one after the last.
        clear_for: for how long all rules were clear at each reading; `NEVER` where one is true or held. It is less than
            nothing at a reading behind one of a clock that was ahead.
    """

    def __init__(self, readings: Readings, judged: Judged, which: Int64s) -> None:
        self.readings, self._which = readings, which
        self.measured_at, self.received_at = readings.measured_at[which], readings.received_at[which]
        self.true, self.held = judged.true[which], judged.held[which]
        self.value, self.version = judged.value[which], judged.version[which]
        first = is_first(readings.code[which])
        self.begins = np.flatnonzero(first)
        self.ends = np.append(self.begins[1:], len(which))
        self.entities = readings.entities[readings.code[which[self.begins]]]
        self._is_clear = self.held == 0
        begins = self._is_clear.copy()
        begins[1:] &= first[1:] | ~self._is_clear[:-1]
        self._clear_from = np.maximum.accumulate(np.where(begins, np.arange(len(which)), 0))
        self.clear_for = np.where(self._is_clear, self.measured_at - self.measured_at[self._clear_from], NEVER)
        is_broken = self.true > 0
        self._counted = np.append(0, np.cumsum(is_broken))
        self._worse: np.ufunc = np.fmin if judged.is_downward else np.fmax
        self._none = np.inf if judged.is_downward else -np.inf
        self._broken = np.append(np.where(is_broken, self.value, self._none), self._none)

    def go_on(self, clear_since: Int64s) -> None:
        """Says of each entity since when its rules were clear before the first reading; `FOREVER` if they were not."""
        which = np.flatnonzero((clear_since != FOREVER) & self._is_clear[self.begins])
        if not len(which):
            return
        since = np.full(len(self._is_clear), FOREVER)
        since[self.begins[which]] = clear_since[which]
        begun = since[self._clear_from]
        goes_on = self._is_clear & (begun != FOREVER)
        self.clear_for[goes_on] = (self.measured_at - begun)[goes_on]

    def at(self, which: Int64s) -> "At":
        """What decides at some readings."""
        return At(self, which)

    def each(self, begin: int, end: int) -> Iterator[Reading]:
        """What decides at each reading of a part."""
        columns = (getattr(self, name)[begin:end].tolist() for name in Reading._fields)
        return map(Reading._make, zip(*columns, strict=True))

    def count(self, begins: Int64s, ends: Int64s) -> Int64s:
        """How many readings of some parts break a rule."""
        found: Int64s = self._counted[ends] - self._counted[begins]
        return found

    def worst(self, begins: Int64s, ends: Int64s, group: Int64s, before: NDArray[np.float64]) -> NDArray[np.float64]:
        """The worst value that broke a rule so far, behind each of some parts.

        Args:
            begins, ends: of the parts, which follow each other and do not overlap; some have no readings.
            group: whose parts they are, those of one side by side.
            before: for each part the worst value before the first part of its group; NaN if there was none.
        """
        bounds = np.column_stack([begins, ends]).reshape(-1)
        found: NDArray[np.float64] = np.where(
            begins < ends, self._worse.reduceat(self._broken, bounds)[::2], self._none
        )
        found = self._worse(found, before)
        step = 1
        # After each turn a part knows the parts of its group up to so far before it.
        while (is_same := group[step:] == group[:-step]).any():
            found[step:] = np.where(is_same, self._worse(found[step:], found[:-step]), found[step:])
            step *= 2
        found[np.isinf(found)] = np.nan
        return found

    def places(self, at: Int64s) -> dict[str, Int64s]:
        """Where some of the readings are in bronze."""
        return places_of(self.readings, self._which[at])


def places_of(readings: Readings, which: Int64s) -> dict[str, Int64s]:
    """Where some readings are in bronze."""
    return {name: getattr(readings, name)[which] for name in Place._fields}


def is_first(groups: NDArray[np.intp]) -> Bools:
    """Whether each item is the first one of its group, where groups are in order."""
    first = np.ones(len(groups), bool)
    np.not_equal(groups[1:], groups[:-1], out=first[1:])
    return first
