"""Vital signs as small charts above each other, with the early warning score. Pure."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

import polars as pl

from dashboard.charts.marks import Unit, at_local, bound, places_of, runs_of
from dashboard.charts.svg import WIDE, Plot, Scale, Size, box, drawing, number, polyline, rule, text


class Vital(NamedTuple):
    """One panel of vitals: the columns that it draws, and within which values nobody is alarmed."""

    label: str
    columns: tuple[str, ...]
    unit: str
    low: float
    high: float
    reach: tuple[float, float]
    decimals: int = 0


VITALS = (
    Vital("heart rate", ("heart_rate_bpm",), "/min", 51, 90, (40, 140)),
    Vital("blood pressure", ("systolic_mmhg", "diastolic_mmhg"), "mmHg", 111, 219, (50, 180)),
    Vital("SpO2", ("spo2_percent",), "%", 96, 100, (85, 100)),
    Vital("respiration", ("respiratory_rate_per_min",), "/min", 12, 20, (6, 30)),
    Vital("temperature", ("temperature_c",), "°C", 36.1, 38.0, (35, 40), 1),
)
"""The shaded ranges are those of no points in NEWS2 (Royal College of Physicians, 2017)."""
MINUTE_COLUMNS = ("minute_at", *(f"{name}_mean" for vital in VITALS for name in vital.columns))
SCORE_COLUMNS = ("evaluated_at", "news2_score", "news2_risk")
"""What is drawn of minutes and of scores."""
NEWS2_MEDIUM, NEWS2_HIGH = 5, 7
_TOP = 12


def vitals(
    minutes: pl.DataFrame, scores: pl.DataFrame, since: datetime, until: datetime, zone: str, *, size: Size = WIDE
) -> str:
    """Small charts of all vitals above each other, with NEWS2 as the last one; all have one axis of time.

    Args:
        minutes: with `MINUTE_COLUMNS`; ordered by time.
        scores: with `SCORE_COLUMNS`; ordered by time.
        since, until: what the x axis reaches over.
        zone: of the viewer.
        size: its width counts.
    """
    high, gap = 78, timedelta(minutes=10)
    tall = Size(size.width, _TOP + 30 + high * (len(VITALS) + 1))
    x = Scale(since.timestamp(), until.timestamp(), 38, size.width - 10)
    parts: list[str] = []
    told: list[str] = []
    for at, vital in enumerate(VITALS):
        panel = [
            minutes.select(pl.col("minute_at").alias("measured_at"), value=f"{name}_mean").drop_nulls()
            for name in vital.columns
        ]
        values = pl.concat([each["value"] for each in panel])
        low, top = bound(values.min(), vital.reach[0], min), bound(values.max(), vital.reach[1], max)
        plot = Plot(tall, x, Scale(low, top, _TOP + high * (at + 1) - 8, _TOP + high * at + 22))
        unit = Unit(vital.unit, 1.0, vital.decimals)
        shown = "/".join(unit.of(each["value"].to_list()[-1]) if each.height else "–" for each in panel)
        times = [each["measured_at"].to_list()[-1] for each in panel if each.height]
        told.append(f"{vital.label} {shown} {vital.unit}{_since(times, until - gap, zone)}")
        parts += _panel(plot, told[-1])
        upper, lower = plot.y.clipped(vital.high), plot.y.clipped(vital.low)
        parts.append(box(plot.left, upper, plot.right - plot.left, lower - upper, "band"))
        for number_of, each in enumerate(panel):
            style = "line" if number_of == 0 else "line second"
            parts += [polyline(places_of(plot, run, since, until, unit), style) for run in runs_of(each, gap)]
    plot = Plot(tall, x, Scale(0, 20, _TOP + high * (len(VITALS) + 1) - 8, _TOP + high * len(VITALS) + 22))
    last = scores.row(-1, named=True) if scores.height else None
    if last is None:
        told.append("NEWS2 –")
    else:
        since_when = _since([last["evaluated_at"]], until - gap, zone)
        told.append(f"NEWS2 {last['news2_score']} ({last['news2_risk']}){since_when}")
    parts += _panel(plot, told[-1])
    for value, severity in ((NEWS2_MEDIUM, "warning"), (NEWS2_HIGH, "urgent")):
        parts.append(rule(plot.left, plot.y(value), plot.right, plot.y(value), f"limit {severity}"))
    steps = scores.select(pl.col("evaluated_at").alias("measured_at"), value=pl.col("news2_score").cast(pl.Float64))
    parts += [polyline(places_of(plot, run, since, until, Unit("")), "line") for run in runs_of(steps, gap)]
    parts += plot.time_axis(ZoneInfo(zone))
    said = f"times in {zone}; shaded: no points in NEWS2; its lines: medium from 5, high from 7"
    parts.append(text(plot.right, tall.height - 3, f"times in {zone}" if size.is_narrow else said, "note", "end"))
    summary = f"From {at_local(since, zone)} to {at_local(until, zone)}, times in {zone}. Last: {', '.join(told)}."
    return drawing(tall, "vitals", "Vital signs", summary, parts)


def _since(times: Sequence[datetime], fresh: datetime, zone: str) -> str:
    """Says when last values were measured, where that was before an instant: old ones must not look like new ones."""
    return f" at {at_local(min(times), zone)}" if times and min(times) < fresh else ""


def _panel(plot: Plot, label: str) -> Iterator[str]:
    yield rule(plot.left, plot.bottom, plot.right, plot.bottom, "grid")
    for value in (plot.y.low, plot.y.high):
        yield text(plot.left - 6, plot.y(value) + 4, number(value), "tick", "end")
    yield text(plot.left + 4, plot.top - 8, label, "label")
