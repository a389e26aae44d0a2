"""Evaluates the columns of `assets.stream.spans`, the same in every order of arrival. Pure Polars and NumPy.

The readings that have a value are put in the order of entity, time and value. The span of a reading is a stretch of
them, found by binary search. Stretches are laid one after the other, so that each column is made by a few operations on
long arrays, whose sums begin anew with each stretch:

```
 readings    a1 a2 a3 a4 a5 │ b1 b2            in order
 spans             └─ a3 ─┘                    begin and end of each reading that is evaluated
 pairs       a1 a2 a3 │ a2 a3 a4 │ a3 a4 a5    which reading, and of whose span
```

Readings that were not known yet when a span was evaluated are left out of it. Sums are of floating numbers; since the
order is that of the readings, and never that of their arrival, the same readings give the same bits.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from assets.stream.contract import MICROSECOND
from assets.stream.spans import FEWEST, MINUTE, STEP, Bounds, Forecast, Nth, Rate, Span, Sustained

PAIRS = 2_000_000
"""How many pairs are laid out at once, which bounds memory where readings come each second."""
DECIMALS = 6
"""A perfect line of decimal values has the slope that a person would write, not the next binary fraction."""
FURTHEST_APART = 3 * STEP
"""Between readings further apart an autoregression takes no value."""
FEWEST_PAIRS = 5
"""Of how many pairs of changes an autoregression is made at least."""
FORGETTING = 0.9
"""How much less a pair of changes weighs than the one a step later."""

_Floats = NDArray[np.float64]
_Integers = NDArray[np.int64]
_TIME = "measured_at"
_MINUTE_US = MINUTE // MICROSECOND


def evaluated(
    known: pl.DataFrame,
    new: pl.DataFrame,
    is_wanted: pl.Series,
    spans: Sequence[Span],
    entity: str,
    plausible: Mapping[str, Bounds],
) -> list[pl.Series]:
    """The columns at each wanted reading over all readings known when it was evaluated.

    Args:
        known: earlier readings of the same entities: entity, ``measured_at``, the spans' columns.
        new: the same columns and ``pulled_at``, the instant of the micro-batch that evaluated the reading.
        is_wanted: for each of `new` whether it is evaluated.
        spans: the columns.
        entity: the column that readings are grouped by.
        plausible: by column the values between which forecasts stay.

    Returns:
        One Float64 column for each span, in the order of `new`; null where a reading is not wanted.
    """
    by_column = {column: _Readings(known, new, is_wanted, column, entity) for column in {each.column for each in spans}}
    return [_column(by_column[span.column], span, plausible.get(span.column), new.height) for span in spans]


class _Stretch(NamedTuple):
    """The spans of some readings, one after the other.

    Attributes:
        at: the readings that are evaluated.
        of: for each pair the number of the reading in `at` whose span it is in.
        row: for each pair the reading in the span; within a span in the order of time.
        begins: where the pairs of each span begin. No span is empty, since a reading is in its own.
        counts: how many pairs each span has.
    """

    at: _Integers
    of: _Integers
    row: _Integers
    begins: _Integers
    counts: _Integers

    @classmethod
    def laid(cls, at: _Integers, of: _Integers, row: _Integers) -> "_Stretch":
        counts = np.bincount(of, minlength=len(at))
        return cls(at, of, row, np.cumsum(counts) - counts, counts)


class _Readings:
    """Known and new readings that have a value of a column, sorted by entity, then time, then value."""

    def __init__(self, known: pl.DataFrame, new: pl.DataFrame, is_wanted: pl.Series, column: str, entity: str) -> None:
        names = [entity, _TIME, column]
        wanted = new[[*names, "pulled_at"]].with_columns(is_wanted.alias("is_wanted"))
        wanted = wanted.with_columns(place=pl.int_range(pl.len(), dtype=pl.Int64))
        rows = pl.concat([known[names], wanted], how="diagonal")
        if rows[column].has_nulls():
            rows = rows.filter(pl.col(column).is_not_null())
        rows = rows.sort(names)
        self.times: _Integers = rows[_TIME].to_physical().to_numpy()
        self.values: _Floats = rows[column].cast(pl.Float64).to_numpy()
        self._entities = rows[entity].rle_id().to_numpy().astype(np.int64)
        pulled = rows["pulled_at"].to_physical()
        self._has_several_micro_batches = pulled.min() != pulled.max()
        self._pulled: _Integers = pulled.fill_null(np.iinfo(np.int64).min).to_numpy()
        self._at = np.flatnonzero(rows["is_wanted"].fill_null(False).to_numpy())
        self._places: _Integers = rows["place"].fill_null(-1).to_numpy()

    def place_of(self, at: _Integers) -> _Integers:
        """Which of the new readings these are."""
        return self._places[at]

    def stretches(self, reach: timedelta) -> Iterator[_Stretch]:
        """The spans (t - reach, t] of all readings that are evaluated, some at a time."""
        back = reach // MICROSECOND
        # One axis for all entities: where the next one begins it goes on by the reach, so that no span reaches over.
        # Nor is any other gap longer than that, so that the axis cannot overflow.
        steps = np.minimum(np.diff(self.times, prepend=self.times[:1]), back)
        steps[1:][self._entities[1:] != self._entities[:-1]] = back
        axis = np.cumsum(steps)
        ends, begins = (np.searchsorted(axis, axis[self._at] - each, side="right") for each in (0, back))
        counts = ends - begins
        parts = np.flatnonzero(np.diff(np.cumsum(counts) // PAIRS)) + 1
        for first, last in pairwise([0, *parts, len(counts)]):
            if first < last:
                yield self._laid(self._at[first:last], begins[first:last], counts[first:last])

    def _laid(self, at: _Integers, begins: _Integers, counts: _Integers) -> _Stretch:
        of = np.repeat(np.arange(len(at)), counts)
        before = np.cumsum(counts) - counts
        row = np.arange(len(of)) + (begins - before)[of]
        if self._has_several_micro_batches:
            is_known = self._pulled[row] <= self._pulled[at][of]
            return _Stretch.laid(at, of[is_known], row[is_known])
        return _Stretch(at, of, row, before, counts)


def _column(readings: _Readings, span: Span, bounds: Bounds | None, height: int) -> pl.Series:
    found = np.full(height, np.nan)
    for stretch in readings.stretches(span.reach):
        values = _values(readings, stretch, span)
        if isinstance(span, Forecast) and bounds is not None:
            values = values.clip(*bounds)
        found[readings.place_of(stretch.at)] = values.round(DECIMALS)
    return pl.Series(span.name, found).fill_nan(None)


def _values(readings: _Readings, stretch: _Stretch, span: Span) -> _Floats:
    match span:
        case Rate():
            return _line(readings, stretch, span.length, span.at_least).slope
        case Sustained():
            return _sustained(readings, stretch, span)
        case Nth():
            return _nth(readings, stretch, span)
        case Forecast(method="linear"):
            return _line(readings, stretch, span.length, FEWEST).at(span.horizon / MINUTE)
        case Forecast():
            return _autoregression(readings, stretch, span)


class _Line(NamedTuple):
    """The least-squares line of each span: time in minutes after the reading that is evaluated; nan where unknown."""

    mean_minute: _Floats
    mean_value: _Floats
    slope: _Floats

    def at(self, minute: float) -> _Floats:
        """The lines' values."""
        return self.mean_value + self.slope * (minute - self.mean_minute)


def _line(readings: _Readings, stretch: _Stretch, length: timedelta, at_least: int) -> _Line:
    at, of, row, begins, counts = stretch
    minutes = (readings.times[row] - readings.times[at][of]) / _MINUTE_US
    # Small differences lose fewer digits than values do.
    last = readings.values[row[begins + counts - 1]]
    values = readings.values[row] - last[of]
    mean_minute, mean_value = (np.add.reduceat(each, begins) / counts for each in (minutes, values))
    apart = minutes - mean_minute[of]
    is_enough = (counts >= at_least) & (-minutes[begins] >= length / MINUTE / 2)
    slope = np.divide(
        np.add.reduceat(apart * values, begins),
        np.add.reduceat(apart * apart, begins),
        out=np.full(len(at), np.nan),
        where=is_enough,
    )
    return _Line(mean_minute, last + mean_value, slope)


def _sustained(readings: _Readings, stretch: _Stretch, span: Sustained) -> _Floats:
    at, of, row, begins, _ = stretch
    times, values = readings.times[row], readings.values[row]
    is_before = times <= (readings.times[at] - span.length // MICROSECOND)[of]
    before = np.add.reduceat(is_before.astype(np.int64), begins)
    # The instant from which on all readings are beyond.
    since = times[begins + np.maximum(before, 1) - 1][of]
    steps = np.diff(times, prepend=times[:1])
    longest = np.maximum.reduceat(np.where(times > since, steps, 0), begins)
    if span.beyond == "below":
        worst = np.maximum.reduceat(np.where(times >= since, values, -np.inf), begins)
    else:
        worst = np.minimum.reduceat(np.where(times >= since, values, np.inf), begins)
    return np.where((before > 0) & (longest <= span.gap // MICROSECOND), worst, np.nan)


class _Instants(NamedTuple):
    """One pair for each instant of a span.

    Attributes:
        of: for each instant the number of the reading in whose span it is.
        times: the instants.
        values: the value that counts.
        begins, counts: where the instants of each span begin, and how many it has.
    """

    of: _Integers
    times: _Integers
    values: _Floats
    begins: _Integers
    counts: _Integers


def _instants(readings: _Readings, stretch: _Stretch, which: np.ufunc) -> _Instants:
    times = readings.times[stretch.row]
    is_new = np.append(True, (np.diff(times) != 0) | (np.diff(stretch.of) != 0))
    first = np.flatnonzero(is_new)
    of = stretch.of[first]
    counts = np.bincount(of, minlength=len(stretch.at))
    values = which.reduceat(readings.values[stretch.row], first)
    return _Instants(of, times[first], values, np.cumsum(counts) - counts, counts)


def _nth(readings: _Readings, stretch: _Stretch, span: Nth) -> _Floats:
    is_below = span.beyond == "below"
    instants = _instants(readings, stretch, np.minimum if is_below else np.maximum)
    from_last = (instants.begins + instants.counts)[instants.of] - 1 - np.arange(len(instants.of))
    is_last = from_last < span.m
    values = instants.values if is_below else -instants.values
    last = np.full((len(stretch.at), span.m), np.nan)
    last[instants.of[is_last], from_last[is_last]] = values[is_last]
    # What is missing comes last.
    nth: _Floats = np.sort(last, axis=1)[:, span.n - 1]
    return nth if is_below else -nth


def _autoregression(readings: _Readings, stretch: _Stretch, span: Forecast) -> _Floats:
    """Fits y(t) = (1 + r) y(t - 5 min) - r y(t - 10 min) to each span, and carries it on to the horizon.

    The two coefficients add up to 1, so that a level that does not change stays: the changes d are a first-order
    autoregression, d(t) = r d(t - 5 min). r is Burg's estimate, the sum of 2 d(t) d(t - 5 min) over that of
    d(t)^2 + d(t - 5 min)^2, which is never beyond 1 of either sign, so that a change does not grow (J. P. Burg, Maximum
    entropy spectral analysis, Stanford 1975). Later pairs weigh more, by a forgetting factor, as in Sparacino et al.
    2007 (doi:10.1109/TBME.2006.889774).
    """
    grid = _on_grid(readings, stretch, span.length)
    changes = grid[:-1] - grid[1:]
    products, squares, pairs = (np.zeros(len(stretch.at)) for _ in range(3))
    # One after the other, so that the number of spans does not decide in which order NumPy adds.
    for number, (later, earlier) in enumerate(pairwise(changes)):
        is_pair, weight = np.isfinite(later + earlier), FORGETTING**number
        products += np.where(is_pair, 2 * weight * later * earlier, 0)
        squares += np.where(is_pair, weight * (later * later + earlier * earlier), 0)
        pairs += is_pair
    share = np.divide(products, squares, out=np.zeros(len(products)), where=squares > 0)
    value, change = grid[0], changes[0]
    for _ in range(span.horizon // STEP):
        change = share * change
        value = value + change
    return np.where(pairs >= FEWEST_PAIRS, value, np.nan)


def _on_grid(readings: _Readings, stretch: _Stretch, length: timedelta) -> _Floats:
    """The values at t, t - 5 min and so on, one row for each; between two readings those of the line between them.

    Of several readings of an instant the lowest counts. nan where there is no reading before, or where the next ones
    before and after are further apart than `FURTHEST_APART`.
    """
    instants = _instants(readings, stretch, np.minimum)
    back, step = length // MICROSECOND, STEP // MICROSECOND
    now = readings.times[stretch.at]
    # One axis again: the places of a span lie above those of the span before.
    own = np.arange(len(stretch.at), dtype=np.int64) * (back + 1)
    axis = instants.times - now[instants.of] + own[instants.of]
    grid = np.empty((back // step, len(now)))
    for number, row in enumerate(grid):
        wanted = own - number * step
        after = np.searchsorted(axis, wanted, side="left")
        before = np.searchsorted(axis, wanted, side="right") - 1
        is_between = before >= instants.begins
        before = np.where(is_between, before, after)
        apart = axis[after] - axis[before]
        is_between &= apart <= FURTHEST_APART // MICROSECOND
        share = np.divide(wanted - axis[before], apart, out=np.zeros(len(now)), where=apart > 0)
        low, high = instants.values[before], instants.values[after]
        row[:] = np.where(is_between, low + (high - low) * share, np.nan)
    return grid
