"""Patients beside each other: their days, and how their values spread. Pure."""

import math
from datetime import date, timedelta

import polars as pl

from dashboard.charts.marks import A_DAY, MG_DL, TARGET, Unit, bands_of, counted, cut, runs_of
from dashboard.charts.svg import MARKERS, WIDE, Plot, Scale, Size, box, drawing, polyline, rule, symbol, text

LIMITS = (54.0, 70.0, 120.0, 180.0, 250.0, 350.0)
"""Values of glucose in mg/dL that have a line where values are compared."""
APART = 24
"""How far apart their numbers stand at least."""


def comparison(days: pl.DataFrame, title: str, *, unit: Unit = MG_DL, size: Size = WIDE) -> str:
    """Daily means of some patients in one chart; each has a marker of its own and its name at the end of its line.

    Args:
        days: `name`, `event_date` and `value`.
        title: what it shows.
        unit: how values are shown.
        size: of the chart.
    """
    names = days["name"].unique(maintain_order=True).to_list()
    dates = days["event_date"].unique().sort()
    first: date = dates[0] if dates.len() else date.min
    span = max((dates[-1] - first).days, 1) if dates.len() else 0
    low, high = min([60.0, *days["value"]]), max([200.0, *days["value"]])
    plot = Plot(
        size,
        Scale(0, span, 38, size.width - (84 if size.is_narrow else 130)),
        Scale(low * unit.factor, high * unit.factor, size.height - 34, 26),
    )
    parts = [
        *bands_of(plot, [TARGET], unit),
        *plot.value_axis(),
        rule(plot.left, plot.bottom, plot.right, plot.bottom, "axis"),
    ]
    every = max(1, math.ceil(span / (4 if size.is_narrow else 9)))
    for day in range(0, span + 1, every) if span else ():
        parts.append(text(plot.x(day), plot.bottom + 17, f"{first + timedelta(days=day):%-d %b}", "tick", "middle"))
    ends = []
    for at, name in enumerate(names):
        of_name = days.filter(pl.col("name") == name).sort("event_date")
        points = [
            (plot.x((day - first).days), plot.y(value * unit.factor))
            for day, value in of_name.select("event_date", "value").iter_rows()
        ]
        style = f"line series-{at % len(MARKERS)}"
        # A line breaks where there are no readings, so that nothing is made up.
        dated = of_name.select(measured_at="event_date", at=pl.int_range(pl.len()))
        parts += [polyline([points[place] for place in run["at"]], style) for run in runs_of(dated, A_DAY)]
        parts += [symbol(x, y, MARKERS[at % len(MARKERS)], f"marker series-{at % len(MARKERS)}") for x, y in points]
        ends.append((points[-1][1], at, name))
    below = -math.inf
    for y, at, name in sorted(ends):
        # Names that would lie on each other are moved down.
        below = max(y + 4, below + 13)
        parts.append(
            symbol(plot.right + 12, below - 4, MARKERS[at % len(MARKERS)], f"marker series-{at % len(MARKERS)}")
        )
        parts.append(text(plot.right + 20, below, cut(name, 9 if size.is_narrow else 17), "tick"))
    parts.append(text(plot.left, 14, f"{title}, {unit.name}", "title"))
    parts.append(text(plot.right, size.height - 4, "days in UTC", "note", "end"))
    means = days.group_by("name", maintain_order=True).agg(pl.col("value").mean())
    told = ", ".join(f"{name} {unit.of(value)}" for name, value in means.iter_rows())
    return drawing(size, "comparison", title, f"Mean of days: {told or 'nobody'} {unit.name}.", parts)


def distribution(rows: pl.DataFrame, title: str, *, unit: Unit = MG_DL, size: Size = WIDE) -> str:
    """How values spread: from the 5th to the 95th percentile, the middle half, and the median, for each row.

    Args:
        rows: `name`, `p5`, `p25`, `p50`, `p75` and `p95`.
        title: what it shows.
        unit: how values are shown.
        size: its width counts; the height follows from the rows.
    """
    height = 26
    tall = Size(size.width, 62 + height * max(rows.height, 1))
    left = 84 if size.is_narrow else 140
    top = max([300.0, *rows["p95"]])
    plot = Plot(
        tall, Scale(40 * unit.factor, top * unit.factor, left, size.width - 12), Scale(0, 1, tall.height - 34, 24)
    )
    low, high = (plot.x(each * unit.factor) for each in (TARGET.low, TARGET.high))
    parts = [
        box(low, plot.top, high - low, plot.bottom - plot.top, "band"),
        text(4, 14, f"{title}, {unit.name}", "title"),
    ]
    limits = [plot.x(value * unit.factor) for value in LIMITS if value <= top]
    for value, at, following in zip(LIMITS, limits, [*limits[1:], math.inf], strict=False):
        parts.append(rule(at, plot.top, at, plot.bottom, "grid"))
        # On a phone two limits may stand too close for both numbers; that of the target is the greater one.
        if following - at >= APART:
            parts.append(text(at, plot.bottom + 15, unit.of(value), "tick", "middle"))
    for at, row in enumerate(rows.iter_rows(named=True)):
        y = plot.top + height * (at + 0.5)
        spots = {name: plot.x.clipped(row[name] * unit.factor) for name in ("p5", "p25", "p50", "p75", "p95")}
        said = f"{row['name']}: " + ", ".join(f"{name[1:]} % {unit.of(row[name])}" for name in spots)
        parts.append(text(left - 8, y + 4, cut(row["name"], (left - 12) / 6.2), "tick", "end"))
        parts.append(rule(spots["p5"], y, spots["p95"], y, "whisker"))
        parts.append(box(spots["p25"], y - 7, spots["p75"] - spots["p25"], 14, "bar", said))
        parts.append(rule(spots["p50"], y - 9, spots["p50"], y + 9, "median"))
    parts.append(text(size.width - 12, tall.height - 4, "line: 5–95 %, box: 25–75 %, mark: median", "note", "end"))
    return drawing(tall, "distribution", title, f"{counted(rows.height, 'patient')}, {unit.name}.", parts)
