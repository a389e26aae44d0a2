"""Parts of charts as SVG text: scales, ticks, axes and marks. Pure.

Colours and fonts are classes of `static/charts.css`, so that the page needs no inline style. Which chart shows what
belongs to `charts` and `profile`.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html import escape
from typing import NamedTuple
from zoneinfo import ZoneInfo

Point = tuple[float, float]


class Size(NamedTuple):
    """Width and height of a chart in units of its viewBox."""

    width: int
    height: int

    @property
    def is_narrow(self) -> bool:
        """Whether it is for a phone: fewer ticks, shorter labels."""
        return self.width < 500


WIDE, MIDDLE, NARROW = Size(900, 270), Size(680, 300), Size(360, 250)
SYMBOLS = {"urgent": "M0-6 6 5H-6Z", "warning": "M0-6 5 0 0 6-5 0Z", "info": "M-4-4H4V4H-4Z"}
"""Each severity has a shape of its own, so that nobody depends on colours."""
MARKERS = ("M-4-4H4V4H-4Z", "M0-5 5 4H-5Z", "M0-5 5 0 0 5-5 0Z", "M-5-4H5L0 5Z", "M-5 0H5M0-5V5", "M-4-4 4 4M4-4-4 4")
"""Shapes that tell lines apart."""


@dataclass(frozen=True)
class Scale:
    """A linear mapping of values to places.

    Attributes:
        low, high: values at its ends; equal ends are taken apart.
        begin, end: the places of these.
    """

    low: float
    high: float
    begin: float
    end: float

    def __call__(self, value: float) -> float:
        """The place of a value."""
        span = self.high - self.low or 1.0
        return self.begin + (value - self.low) / span * (self.end - self.begin)

    def clipped(self, value: float) -> float:
        """The place of a value, or of the nearest end."""
        return self(min(max(value, self.low), self.high))


def number(value: float, decimals: int = 0) -> str:
    """A number for people; a missing one is a dash."""
    return "–" if value is None or math.isnan(value) else f"{value:,.{decimals}f}"


def place(value: float) -> str:
    """A coordinate."""
    return f"{value:.1f}".removesuffix(".0")


def value_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers between two values, about so many."""
    span = high - low
    if span <= 0:
        return [low]
    magnitude = 10.0 ** math.floor(math.log10(span / count))
    step = next(each * magnitude for each in (1, 2, 2.5, 5, 10) if span / (each * magnitude) <= count)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(each * step, 10) for each in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Numbers between two values on a logarithmic axis."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [each * 10.0**power for power in powers for each in (1, 2, 5)]
    inside = [each for each in found if low <= each <= high]
    return inside if len(inside) <= 7 else [each for each in inside if f"{each:e}".startswith("1")]


_HOURS = (1, 2, 3, 4, 6, 12)


def time_ticks(since: datetime, until: datetime, zone: ZoneInfo, count: int) -> list[tuple[datetime, str]]:
    """Round local times between two instants, at most about so many, with their labels; midnight is a date."""
    hours = (until - since) / timedelta(hours=1)
    step = next((each for each in _HOURS if hours / each <= count), 24)
    days = max(1, math.ceil(hours / 24 / count)) if step == 24 else 1
    first, found = since.astimezone(zone).date(), []
    for day in range(0, int(hours // 24) + 3):
        local = first + timedelta(days=day)
        if local.toordinal() % days:
            continue
        for hour in range(0, 24, step):
            instant = datetime(local.year, local.month, local.day, hour, tzinfo=zone).astimezone(UTC)
            if since <= instant <= until:
                shown = instant.astimezone(zone)
                # An hour that the clock leaves out has no label of its own.
                found.append((instant, f"{shown:%-d %b}" if shown.hour == 0 else f"{shown:%H:%M}"))
    return found


def text(x: float, y: float, said: str, style: str = "", anchor: str = "start") -> str:
    """A text at a place."""
    of = f' class="{style}"' if style else ""
    where = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text x="{place(x)}" y="{place(y)}"{of}{where}>{escape(said)}</text>'


def rule(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    """A straight line."""
    return f'<line class="{style}" x1="{place(x1)}" y1="{place(y1)}" x2="{place(x2)}" y2="{place(y2)}"/>'


def box(x: float, y: float, width: float, height: float, style: str, said: str = "") -> str:
    """A rectangle, with a text that pointing at it shows."""
    where = f'x="{place(x)}" y="{place(y)}" width="{place(max(width, 0))}" height="{place(max(height, 0))}"'
    if not said:
        return f'<rect class="{style}" {where}/>'
    return f'<rect class="{style}" {where}><title>{escape(said)}</title></rect>'


def polyline(points: Iterable[Point], style: str) -> str:
    """A line through points; a single one is a dot."""
    found = list(points)
    if len(found) == 1:
        [(x, y)] = found
        return f'<circle class="{style} dot" cx="{place(x)}" cy="{place(y)}" r="2"/>'
    return f'<path class="{style}" d="M{" ".join(f"{place(x)} {place(y)}" for x, y in found)}"/>'


def area(upper: Sequence[Point], lower: Sequence[Point], style: str) -> str:
    """What lies between two lines."""
    outline = [*upper, *reversed(lower)]
    return f'<path class="{style}" d="M{" ".join(f"{place(x)} {place(y)}" for x, y in outline)}Z"/>'


def symbol(x: float, y: float, shape: str, style: str, said: str = "") -> str:
    """A shape around a place, with a text that pointing at it shows."""
    told = f"<title>{escape(said)}</title>" if said else ""
    return f'<path class="{style}" transform="translate({place(x)} {place(y)})" d="{shape}">{told}</path>'


def drawing(size: Size, kind: str, title: str, summary: str, parts: Iterable[str]) -> str:
    """A whole chart.

    Args:
        size: of its viewBox.
        kind: a class of its own.
        title: what it is.
        summary: what it shows, for those who do not see it.
        parts: what it is made of.
    """
    width = "for-phones" if size.is_narrow else "for-desks"
    return (
        f'<svg class="chart {kind} {width}" viewBox="0 0 {size.width} {size.height}" role="img" '
        f'aria-label="{escape(f"{title}. {summary}")}"><title>{escape(title)}</title>{"".join(parts)}</svg>'
    )


class Plot(NamedTuple):
    """Where a chart with two axes is drawn."""

    size: Size
    x: Scale
    y: Scale

    @property
    def left(self) -> float:
        """The left end of the x axis."""
        return self.x.begin

    @property
    def right(self) -> float:
        """The right end of the x axis."""
        return self.x.end

    @property
    def bottom(self) -> float:
        """Where the x axis is."""
        return self.y.begin

    @property
    def top(self) -> float:
        """The upper end of the y axis."""
        return self.y.end

    def value_axis(self, decimals: int = 0, count: int = 5) -> list[str]:
        """The y axis: lines across, and numbers."""
        parts = []
        for tick in value_ticks(self.y.low, self.y.high, count):
            at = self.y(tick)
            parts.append(rule(self.left, at, self.right, at, "grid"))
            parts.append(text(self.left - 6, at + 4, number(tick, decimals), "tick", "end"))
        return parts

    def time_axis(self, zone: ZoneInfo, count: int | None = None) -> list[str]:
        """The x axis of instants, which are seconds since 1970."""
        since, until = (datetime.fromtimestamp(each, UTC) for each in (self.x.low, self.x.high))
        parts = [rule(self.left, self.bottom, self.right, self.bottom, "axis")]
        for instant, label in time_ticks(since, until, zone, count or (5 if self.size.is_narrow else 9)):
            at = self.x(instant.timestamp())
            parts.append(rule(at, self.bottom, at, self.bottom + 4, "axis"))
            # The label of a tick at an end must not be cut.
            anchor = "end" if at > self.size.width - 20 else "start" if at < 20 else "middle"
            parts.append(text(at, self.bottom + 17, label, "tick", anchor))
        return parts
