"""Columns for rules of the kinds rate, sustained, count and forecast: what an entity's last readings say together.

Only declarations; `assets.stream.kinds` evaluates them. What holds for all of them:

- A column is evaluated at the time t of a reading, over the entity's readings up to t, those of t included, that were
  known when the reading's micro-batch was evaluated. It depends on these readings alone, in whatever order they came.
- A reading without a value is passed over. At such a reading the column itself is null.
- It is Float64, rounded to millionths, and is computed only where a rule that holds compares it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar, Literal

Beyond = Literal["below", "above"]
Bounds = tuple[float, float]
"""The lowest and the highest value that a column can have."""

MINUTE = timedelta(minutes=1)
STEP = timedelta(minutes=5)
"""The spacing of an autoregression: that of most continuous glucose monitors."""
LONGEST = timedelta(hours=6)
"""How far back a span may look: all readings of it are held in memory, and each reading looks at all of them."""
FEWEST = 3
"""Of how many readings a forecast by a line is made at least."""


@dataclass(frozen=True)
class Rate:
    """The least-squares slope per minute over (t - length, t].

    All readings of an instant count, as in a mean. It is null where there are fewer than `at_least` readings, or where
    they cover less than half of the length: the slope of readings seconds apart says more of noise than of change.

    Attributes:
        name: the column that holds it, in the unit of `column` per minute.
        column: a column of silver, Int64 or Float64.
        length: how far the span reaches back.
        at_least: how many readings it needs.
    """

    name: str
    column: str
    length: timedelta = 15 * MINUTE
    at_least: int = 3

    kind: ClassVar[str] = "rate"
    beyond: ClassVar[Beyond | None] = None

    @property
    def reach(self) -> timedelta:
        """How far back from a reading it looks."""
        return self.length

    @property
    def said(self) -> str:
        """What the column holds, in words."""
        return f"the change of {self.column} per minute, by least squares over {_said(self.length)}"

    def bounds(self, bounds: Bounds) -> Bounds:
        """Between which values a threshold makes sense, given those of the column."""
        most = (bounds[1] - bounds[0]) / (self.length / MINUTE)
        return -most, most

    def mistakes(self) -> Iterator[str]:
        """What contradicts itself, and the remedy."""
        yield from _mistakes(self.reach)
        if self.at_least < 2:
            yield f"at_least is {self.at_least}, but a slope needs two readings; write at least 2"


@dataclass(frozen=True)
class Sustained:
    """How far readings stay beyond any threshold for at least a time.

    The readings are those from the last one at or before t - length up to t. With `below` the column holds the greatest
    of them, so that it is below a threshold if all of them are; with `above` the smallest. All readings of an instant
    count. It is null where the readings do not reach back so far, or where two that follow each other are more than
    `gap` apart.

    Attributes:
        name: the column that holds it, in the unit of `column`.
        column: a column of silver, Int64 or Float64.
        length: for how long at least.
        gap: how far apart two readings may be.
        beyond: on which side of a threshold the readings are.
    """

    name: str
    column: str
    length: timedelta
    gap: timedelta = 15 * MINUTE
    beyond: Beyond = "below"

    kind: ClassVar[str] = "sustained"

    @property
    def reach(self) -> timedelta:
        """How far back from a reading it looks."""
        return self.length + self.gap

    @property
    def said(self) -> str:
        """What the column holds, in words."""
        which = "highest" if self.beyond == "below" else "lowest"
        return (
            f"the {which} {self.column} of the last {_said(self.length)} or a little more, so that all are "
            f"{self.beyond} a threshold where it is; unknown where readings are over {_said(self.gap)} apart"
        )

    def bounds(self, bounds: Bounds) -> Bounds:
        """Between which values a threshold makes sense, given those of the column."""
        return bounds

    def mistakes(self) -> Iterator[str]:
        """What contradicts itself, and the remedy."""
        yield from _mistakes(self.reach)
        if not timedelta(0) < self.gap < self.reach:
            yield "length or gap is not positive; write how long readings are beyond, and how far apart two may be"


@dataclass(frozen=True)
class Nth:
    """Whether n of the entity's last m readings are beyond any threshold.

    With `below` the column holds the n-th smallest value of the last m readings in (t - length, t]: it is below a
    threshold if n of them are. With `above` it is the n-th greatest. Readings of one instant count as one reading, with
    the value that is further beyond. It is null where there are fewer than n readings.

    Attributes:
        name: the column that holds it, in the unit of `column`.
        column: a column of silver, Int64 or Float64.
        n: how many readings are beyond.
        m: of how many.
        length: how old the readings may be.
        beyond: on which side of a threshold they are.
    """

    name: str
    column: str
    n: int
    m: int
    length: timedelta
    beyond: Beyond = "below"

    kind: ClassVar[str] = "count"

    @property
    def reach(self) -> timedelta:
        """How far back from a reading it looks."""
        return self.length

    @property
    def said(self) -> str:
        """What the column holds, in words."""
        which = f"{self.n} of the last {self.m} readings of {self.column} within {_said(self.length)}"
        so = f"so that {self.n} are {self.beyond} a threshold where it is"
        return f"the value that {which} are at or {self.beyond}, {so}"

    def bounds(self, bounds: Bounds) -> Bounds:
        """Between which values a threshold makes sense, given those of the column."""
        return bounds

    def mistakes(self) -> Iterator[str]:
        """What contradicts itself, and the remedy."""
        yield from _mistakes(self.reach)
        if not 1 <= self.n <= self.m:
            yield f"it asks for {self.n} of {self.m} readings; write an n from 1 to m"


@dataclass(frozen=True)
class Forecast:
    """The value expected at t + horizon. A rule on it is not broken where the present value is beyond already.

    `linear`: the least-squares line over (t - length, t], as for `Rate`. `ar2`: a second-order autoregression on values
    5 minutes apart, fitted to the span and carried on step by step; see `assets.stream.kinds`. A forecast stays within
    the plausible values of the column. It is null where readings are too few or too uneven.

    Attributes:
        name: the column that holds it, in the unit of `column`.
        column: a column of silver, Int64 or Float64.
        method: how it is made.
        horizon: how far ahead; with `ar2` some times 5 minutes.
        length: how far the span reaches back.
    """

    name: str
    column: str
    method: Literal["linear", "ar2"]
    horizon: timedelta
    length: timedelta

    kind: ClassVar[str] = "forecast"
    beyond: ClassVar[Beyond | None] = None

    @property
    def reach(self) -> timedelta:
        """How far back from a reading it looks."""
        return self.length

    @property
    def said(self) -> str:
        """What the column holds, in words."""
        how = "by a line" if self.method == "linear" else "by a second-order autoregression"
        return (
            f"{self.column} as expected in {_said(self.horizon)} {how} over {_said(self.length)}; the rule is broken "
            "only while the present value is not beyond the threshold"
        )

    def bounds(self, bounds: Bounds) -> Bounds:
        """Between which values a threshold makes sense, given those of the column."""
        return bounds

    def mistakes(self) -> Iterator[str]:
        """What contradicts itself, and the remedy."""
        yield from _mistakes(self.reach)
        if self.horizon <= timedelta(0):
            yield "its horizon is not positive; write how far ahead it looks"
        if self.method == "ar2" and (self.horizon % STEP or self.length % STEP):
            yield "an autoregression goes in steps of 5 minutes; write a horizon and a length of whole steps"


Span = Rate | Sustained | Nth | Forecast


def _mistakes(reach: timedelta) -> Iterator[str]:
    if not timedelta(0) < reach <= LONGEST:
        yield f"it looks back {_said(reach)}; write lengths above zero, of at most {_said(LONGEST)} together"


def _said(length: timedelta) -> str:
    minutes = length / MINUTE
    return f"{minutes:g} min"
