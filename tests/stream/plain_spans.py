"""A second opinion on rates, sustained values, counts and forecasts: one reading after another, in exact fractions.

It shares no code with `assets.stream.kinds` but the declarations.
"""

import itertools
from collections.abc import Sequence
from datetime import datetime, timedelta
from fractions import Fraction
from typing import NamedTuple

from assets.stream.spans import Forecast, Nth, Rate, Span, Sustained

MINUTE, FIVE_MINUTES = timedelta(minutes=1), timedelta(minutes=5)


class Reading(NamedTuple):
    """One reading of the entity that was known when the one in question was evaluated."""

    at: datetime
    value: float | None


def plain(
    span: Span, own: Reading, known: Sequence[Reading], bounds: tuple[float, float] | None = None
) -> float | None:
    """The column at a reading; `known` are all readings of its entity that were known then, itself among them."""
    if own.value is None:
        return None
    earlier = sorted((each.at, Fraction(each.value)) for each in known if each.at <= own.at and each.value is not None)
    found = _of(span, own.at, earlier)
    if found is None:
        return None
    if isinstance(span, Forecast) and bounds is not None:
        found = min(max(found, Fraction(bounds[0])), Fraction(bounds[1]))
    return round(float(found), 6)


Known = list[tuple[datetime, Fraction]]


def _of(span: Span, now: datetime, known: Known) -> Fraction | None:
    match span:
        case Rate():
            line = _line(now, _within(known, now, span.length), span.length, span.at_least)
            return None if line is None else line[1]
        case Sustained():
            return _sustained(span, now, known)
        case Nth():
            return _nth(span, _within(known, now, span.length))
        case Forecast(method="linear"):
            line = _line(now, _within(known, now, span.length), span.length, 3)
            return None if line is None else line[0] + line[1] * _minutes(span.horizon)
        case Forecast():
            return _autoregression(span, now, _within(known, now, span.length))


def _within(known: Known, now: datetime, length: timedelta) -> Known:
    return [(at, value) for at, value in known if at > now - length]


def _minutes(length: timedelta) -> Fraction:
    return Fraction(length // timedelta(microseconds=1), 60_000_000)


def _line(now: datetime, known: Known, length: timedelta, at_least: int) -> tuple[Fraction, Fraction] | None:
    """The line's value now, and its slope."""
    if len(known) < at_least or 2 * (now - known[0][0]) < length:
        return None
    count = len(known)
    points = [(_minutes(at - now), value) for at, value in known]
    mean_x, mean_y = (sum((each[axis] for each in points), Fraction(0)) / count for axis in (0, 1))
    product = sum(((x - mean_x) * (y - mean_y) for x, y in points), Fraction(0))
    slope = product / sum(((x - mean_x) ** 2 for x, _ in points), Fraction(0))
    return mean_y - slope * mean_x, slope


def _sustained(span: Sustained, now: datetime, known: Known) -> Fraction | None:
    before = [at for at, _ in known if at <= now - span.length]
    if not before:
        return None
    since = max(before)
    values, last = [], since
    for at, value in known:
        if at >= since:
            if at - last > span.gap:
                return None
            values.append(value)
            last = at
    return max(values) if span.beyond == "below" else min(values)


def _nth(span: Nth, known: Known) -> Fraction | None:
    is_below = span.beyond == "below"
    by_instant: dict[datetime, Fraction] = {}
    for at, value in known:
        by_instant[at] = min(by_instant.get(at, value), value) if is_below else max(by_instant.get(at, value), value)
    last = sorted((value for _, value in sorted(by_instant.items())[-span.m :]), reverse=not is_below)
    return last[span.n - 1] if len(last) >= span.n else None


def _autoregression(span: Forecast, now: datetime, known: Known) -> Fraction | None:
    lowest: dict[datetime, Fraction] = {}
    for at, value in known:
        lowest[at] = min(lowest.get(at, value), value)
    times = sorted(lowest)
    grid: list[Fraction | None] = []
    for number in range(span.length // FIVE_MINUTES):
        wanted = now - number * FIVE_MINUTES
        before = max((at for at in times if at <= wanted), default=None)
        after = min(at for at in times if at >= wanted)
        if before is None or after - before > 3 * FIVE_MINUTES:
            grid.append(None)
        elif after == before:
            grid.append(lowest[before])
        else:
            share = Fraction(
                (wanted - before) // timedelta(microseconds=1), (after - before) // timedelta(microseconds=1)
            )
            grid.append(lowest[before] + (lowest[after] - lowest[before]) * share)
    changes = [
        None if later is None or earlier is None else later - earlier for later, earlier in itertools.pairwise(grid)
    ]
    # Of each pair: its age in steps, the later change and the earlier one.
    pairs = [
        (age, later, earlier)
        for age, (later, earlier) in enumerate(itertools.pairwise(changes))
        if later is not None and earlier is not None
    ]
    if len(pairs) < 5 or grid[0] is None or changes[0] is None:
        return None
    weight = Fraction(9, 10)
    squares = sum((weight**age * (later**2 + earlier**2) for age, later, earlier in pairs), Fraction(0))
    products = sum((weight**age * later * earlier for age, later, earlier in pairs), Fraction(0))
    persists = 2 * products / squares if squares else Fraction(0)
    steps = range(1, span.horizon // FIVE_MINUTES + 1)
    return grid[0] + changes[0] * sum((persists**step for step in steps), Fraction(0))
