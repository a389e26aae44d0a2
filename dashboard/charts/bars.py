"""Bars and columns: how much of what. Pure."""

import math

import polars as pl

from dashboard.charts.marks import A_DAY, MG_DL, TARGET, Unit, bands_of, counted, cut, runs_of
from dashboard.charts.svg import WIDE, Plot, Scale, Size, box, drawing, number, polyline, rule, text


def daily(days: pl.DataFrame, title: str, *, unit: Unit = MG_DL, size: Size = WIDE) -> str:
    """Daily means as bars, and the mean of two days as a line; days without readings are left empty.

    Args:
        days: `event_date`, `mean` and `two_day_mean`, ordered by date.
        title: what it shows.
        unit: how values are shown.
        size: of the chart.
    """
    top, dates = max([200.0, *days["mean"], *days["two_day_mean"]]), days["event_date"].to_list()
    span = (dates[-1] - dates[0]).days + 1 if dates else 1
    plot = Plot(size, Scale(0, span, 38, size.width - 10), Scale(0, top * unit.factor, size.height - 34, 26))
    width = plot.x(1) - plot.x(0)
    parts = [*bands_of(plot, [TARGET], unit), *plot.value_axis()]
    every = max(1, math.ceil(46 / width))
    averages = []
    for day, mean, both in days.select("event_date", "mean", "two_day_mean").iter_rows():
        at = (day - dates[0]).days
        left, height = plot.x(at), plot.y(mean * unit.factor)
        said = f"{day:%-d %b}: mean {unit.of(mean)}, of two days {unit.of(both)} {unit.name}"
        parts.append(box(left + width * 0.15, height, width * 0.7, plot.bottom - height, "bar", said))
        averages.append((left + width / 2, plot.y(both * unit.factor)))
        if at % every == 0:
            parts.append(text(left + width / 2, plot.bottom + 17, f"{day:%-d %b}", "tick", "middle"))
    dated = days.select(measured_at="event_date", at=pl.int_range(pl.len()))
    parts += [polyline([averages[place] for place in run["at"]], "line second") for run in runs_of(dated, A_DAY)]
    parts.append(rule(plot.left, plot.bottom, plot.right, plot.bottom, "axis"))
    parts.append(text(plot.left, 14, f"{title}, {unit.name}", "title"))
    parts.append(text(plot.right, size.height - 4, "bars: day (UTC); line: mean of two days", "note", "end"))
    means: list[float] = days["mean"].to_list()
    summary = f"{counted(days.height, 'day')}, means from {unit.of(min(means))} to {unit.of(max(means))} {unit.name}."
    return drawing(size, "daily", title, summary, parts)


def bars(rows: pl.DataFrame, title: str, *, said: str, size: Size = WIDE, style: str = "bar") -> str:
    """A bar for each row, with its label before it and its number behind it.

    Args:
        rows: `label` and `value`; `part`, if it is there, is drawn darker within the bar.
        title: what it shows.
        said: what the numbers are.
        size: its width counts; the height follows from the rows.
        style: the class of the bars.
    """
    height = 22
    tall = Size(size.width, 30 + height * max(rows.height, 1))
    left = min(size.width * 0.42, 12 + 6.4 * max((len(each) for each in rows["label"]), default=0))
    scale = Scale(0, max([1e-9, *rows["value"]]), left, size.width - 60)
    parts = [text(4, 14, title, "title")]
    for at, row in enumerate(rows.iter_rows(named=True)):
        y = 26 + height * at
        end = scale(row["value"])
        parts.append(text(left - 6, y + 13, cut(row["label"], (left - 8) / 6.2), "tick", "end"))
        parts.append(box(left, y, end - left, height - 6, style, f"{row['label']}: {number(row['value'])} {said}"))
        if "part" in row:
            parts.append(box(left, y + 4, scale(row["part"]) - left, height - 14, f"{style} part"))
        parts.append(text(end + 5, y + 13, number(row["value"]), "value"))
    return drawing(tall, "bars", title, f"{counted(rows.height, 'bar')}, {said}.", parts)


def columns(rows: pl.DataFrame, title: str, *, said: str, size: Size = WIDE) -> str:
    """A column for each row.

    Args:
        rows: `label` and `value`.
        title: what it shows.
        said: what the numbers are.
        size: of the chart.
    """
    plot = Plot(
        size,
        Scale(0, max(rows.height, 1), 38, size.width - 10),
        Scale(0, max([1.0, *rows["value"]]), size.height - 28, 26),
    )
    width = plot.x(1) - plot.x(0)
    every = max(1, math.ceil(56 / width))
    parts = [*plot.value_axis(), rule(plot.left, plot.bottom, plot.right, plot.bottom, "axis")]
    for at, (label, value) in enumerate(rows.select("label", "value").iter_rows()):
        left, top = plot.x(at), plot.y(value)
        parts.append(
            box(left + width * 0.15, top, width * 0.7, plot.bottom - top, "bar", f"{label}: {number(value)} {said}")
        )
        if at % every == 0:
            parts.append(text(left + width / 2, plot.bottom + 17, label, "tick", "middle"))
    parts.append(text(plot.left, 14, title, "title"))
    return drawing(size, "columns", title, f"{counted(rows.height, 'column')}, {said}.", parts)
