"""What charts have in common: units, ranges and thresholds, stretches of readings and how they are thinned. Pure.

Lines break where there are no readings, and thinning keeps the first, last, lowest and highest reading of each column
of pixels, so that no low is hidden.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import polars as pl

from assets.glucose.silver import MG_DL_PER_MMOL_L
from dashboard.charts.svg import Plot, Point, box, number, rule, text


class Unit(NamedTuple):
    """How values are shown: what they are multiplied by, and with how many decimals."""

    name: str
    factor: float = 1.0
    decimals: int = 0

    def of(self, value: float | None) -> str:
        """A value for people, without its unit; a missing one is a dash."""
        return "–" if value is None else number(value * self.factor, self.decimals)


CAPITAL = 1.35
"""How many small letters a capital is wide."""
MG_DL, MMOL_L = Unit("mg/dL"), Unit("mmol/L", 1 / MG_DL_PER_MMOL_L, 1)
UNITS: Mapping[str, Unit] = {each.name: each for each in (MG_DL, MMOL_L)}


class Band(NamedTuple):
    """A range that is drawn behind a line."""

    low: float
    high: float
    label: str


class Limit(NamedTuple):
    """A threshold that is drawn across a line; `severity` is info, warning or urgent."""

    value: float
    severity: str
    label: str


A_DAY = timedelta(days=1)
"""Means of days further apart are not joined by a line."""
TARGET = Band(70.0, 180.0, "target")
"""Time in range: Battelino et al. 2019, doi:10.2337/dci19-0028."""


def bound(value: Any, least: float, of: Any) -> float:
    """An end of an axis: `of` (min or max) what was measured, if anything was, and what it reaches to at least."""
    return float(least if value is None else of(value, least))


def runs_of(points: pl.DataFrame, gap: timedelta) -> Iterator[pl.DataFrame]:
    """The stretches of readings between gaps."""
    is_new = points["measured_at"].diff() > gap
    starts = [0, *is_new.fill_null(False).arg_true().to_list()]
    for begin, end in zip(starts, [*starts[1:], points.height], strict=True):
        if end > begin:
            yield points.slice(begin, end - begin)


def thinned(points: pl.DataFrame, since: datetime, until: datetime, columns: int) -> pl.DataFrame:
    """The first, lowest, highest and last point of each column of pixels, in order.

    Args:
        points: `measured_at` and `value`, ordered by time.
        since, until: what the columns reach over.
        columns: how many there are.
    """
    if points.height <= 2 * columns:
        return points
    width = (until - since) / columns
    place_of = ((pl.col("measured_at") - since).dt.total_microseconds() // (width // timedelta(microseconds=1))).alias(
        "column"
    )
    at, value = pl.col("at"), pl.col("value")
    numbered = points.with_row_index("at").with_columns(place_of)
    kept = numbered.group_by("column").agg(
        pl.concat_list(at.first(), at.get(value.arg_min()), at.get(value.arg_max()), at.last()).alias("kept")
    )
    return points[kept["kept"].explode().explode().unique().sort()]


def places_of(plot: Plot, run: pl.DataFrame, since: datetime, until: datetime, unit: Unit) -> list[Point]:
    """Where the readings of a stretch are drawn, thinned to the columns of pixels between two instants."""
    shown = thinned(run, since, until, int(plot.right - plot.left))
    seconds = shown["measured_at"].dt.epoch("us") / 1e6
    return [(plot.x(x), plot.y(y * unit.factor)) for x, y in zip(seconds, shown["value"], strict=True)]


def bands_of(plot: Plot, bands: Sequence[Band], unit: Unit) -> Iterator[str]:
    """Ranges with their labels."""
    for band in bands:
        top, bottom = (plot.y.clipped(each * unit.factor) for each in (band.high, band.low))
        yield box(plot.left, top, plot.right - plot.left, bottom - top, "band")
        said = f"{band.label} {unit.of(band.low)}–{unit.of(band.high)}"
        yield text(plot.right - 4, top + 12, said, "note", "end")


def limit_of(plot: Plot, limit: Limit, unit: Unit) -> Iterator[str]:
    """A threshold with its label, if the axis reaches it."""
    value = limit.value * unit.factor
    if plot.y.low <= value <= plot.y.high:
        at = plot.y(value)
        yield rule(plot.left, at, plot.right, at, f"limit {limit.severity}")
        yield text(plot.left + 4, at - 3, f"{limit.label} {unit.of(limit.value)}", "note")


def at_local(instant: datetime, zone: str) -> str:
    """An instant in a zone, for people: ``28 Nov 22:05``."""
    return f"{instant.astimezone(ZoneInfo(zone)):%-d %b %H:%M}"


def counted(number_of: int, what: str) -> str:
    """A number with its noun: ``1 gap``, ``2 gaps``."""
    return f"{number_of:,} {what}{'' if number_of == 1 else 's'}"


def cut(label: str, characters: float) -> str:
    """A label with the room of so many characters at most. Capitals take more, and names of drugs have no others."""
    left = characters
    for place, letter in enumerate(label):
        left -= CAPITAL if letter.isupper() else 1
        if left < 0:
            return f"{label[: max(1, place - 1)]}…"
    return label
