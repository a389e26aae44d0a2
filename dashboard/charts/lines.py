"""One measurement over time, with its target, its alarms and the times without readings. Pure."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl

from dashboard.charts.marks import (
    MG_DL,
    Band,
    Limit,
    Unit,
    at_local,
    bands_of,
    bound,
    counted,
    limit_of,
    places_of,
    runs_of,
)
from dashboard.charts.svg import SYMBOLS, WIDE, Plot, Scale, Size, box, drawing, polyline, symbol, text

_LANE = 14
_LANES = 3
"""How many alarms are drawn above each other."""
GLUCOSE_GAP = timedelta(minutes=30)
"""After so long without a reading a line of glucose is broken; it is when the alarm of silence is raised."""


def line(
    points: pl.DataFrame,
    since: datetime,
    until: datetime,
    zone: str,
    *,
    title: str,
    unit: Unit = MG_DL,
    size: Size = WIDE,
    bands: Sequence[Band] = (),
    limits: Sequence[Limit] = (),
    alarms: pl.DataFrame | None = None,
    gap: timedelta = GLUCOSE_GAP,
    reach: tuple[float, float] = (40.0, 300.0),
) -> str:
    """One measurement over time.

    Args:
        points: `measured_at` (UTC) and `value`; ordered by time, without nulls.
        since, until: what the x axis reaches over.
        zone: IANA name of the viewer's time zone.
        title: what is measured.
        unit: how values are shown.
        size: of the chart.
        bands, limits: what values are compared with, in the unit of `value`.
        alarms: `raised_at`, `ended_at` (null while one is open), `severity` and `cause`.
        gap: where two readings are further apart the line is broken.
        reach: what the y axis reaches over at least.
    """
    inside = points.filter(pl.col("measured_at").is_between(since, until))
    lanes = _lanes(alarms, until)
    values = inside["value"]
    low, high = (bound(values.min(), reach[0], min), bound(values.max(), reach[1], max))
    top = 26 + _LANE * (max(lanes, default=-1) + 1)
    plot = _plot(size, since, until, (low * unit.factor, high * unit.factor), top=top)
    runs = [*runs_of(inside, gap)]
    parts = [
        *bands_of(plot, bands, unit),
        *_gaps(plot, runs, since, until, gap, zone),
        *plot.value_axis(unit.decimals if high * unit.factor < 40 else 0),
        *plot.time_axis(ZoneInfo(zone)),
        *(each for limit in limits for each in limit_of(plot, limit, unit)),
        *(polyline(places_of(plot, run, since, until, unit), "line") for run in runs),
        *(_alarms(plot, alarms, lanes, until, zone) if alarms is not None else ()),
        text(plot.left, 14, f"{title}, {unit.name}", "title"),
        text(plot.right, size.height - 4, f"times in {zone}", "note", "end"),
    ]
    return drawing(
        size, "line-chart", title, _told(inside, since, until, zone, unit, max(0, len(runs) - 1), alarms), parts
    )


def _plot(size: Size, since: datetime, until: datetime, values: tuple[float, float], top: float = 26) -> Plot:
    x = Scale(since.timestamp(), until.timestamp(), 38, size.width - 10)
    return Plot(size, x, Scale(*values, size.height - 34, top))


def _gaps(
    plot: Plot, runs: Sequence[pl.DataFrame], since: datetime, until: datetime, gap: timedelta, zone: str
) -> Iterator[str]:
    begins = [since, *(run["measured_at"].to_list()[-1] for run in runs)]
    ends = [*(run["measured_at"].to_list()[0] for run in runs), until]
    for begin, end in zip(begins, ends, strict=True):
        if end - begin > gap:
            left, right = plot.x(begin.timestamp()), plot.x(end.timestamp())
            said = f"no readings from {at_local(begin, zone)} to {at_local(end, zone)}"
            yield box(left, plot.top, right - left, plot.bottom - plot.top, "gap", said)
            if right - left > 90:
                yield text((left + right) / 2, plot.top + 26, "no readings", "note", "middle")


def _lanes(alarms: pl.DataFrame | None, until: datetime) -> list[int]:
    """For each alarm in which lane it is drawn, so that those of one time stand above each other."""
    if alarms is None:
        return []
    free: list[datetime] = []
    found = []
    for raised_at, ended_at in alarms.select("raised_at", "ended_at").iter_rows():
        lane = next((number for number, end in enumerate(free) if end <= raised_at), len(free))
        lane = min(lane, _LANES - 1)
        if lane == len(free):
            free.append(raised_at)
        free[lane] = ended_at or until
        found.append(lane)
    return found


def _alarms(plot: Plot, alarms: pl.DataFrame, lanes: Sequence[int], until: datetime, zone: str) -> Iterator[str]:
    since = datetime.fromtimestamp(plot.x.low, UTC)
    columns = ["raised_at", "ended_at", "severity", "cause"]
    for lane, (raised_at, ended_at, severity, cause) in zip(lanes, alarms[columns].iter_rows(), strict=True):
        if (ended_at or until) < since or raised_at > until:
            continue
        y = 26 + _LANE * lane
        left, right = (plot.x.clipped(each.timestamp()) for each in (raised_at, ended_at or until))
        said = f"{severity} {cause}: {at_local(raised_at, zone)} to {at_local(ended_at, zone) if ended_at else 'now'}"
        yield box(left, y - 3, max(right - left, 1), 6, f"alarm {severity}", said)
        yield symbol(left, y, SYMBOLS[severity], f"alarm {severity}", said)


def _told(
    points: pl.DataFrame,
    since: datetime,
    until: datetime,
    zone: str,
    unit: Unit,
    gaps: int,
    alarms: pl.DataFrame | None,
) -> str:
    span = f"From {at_local(since, zone)} to {at_local(until, zone)}, times in {zone}."
    if points.is_empty():
        return f"{span} No readings."
    low, high = (points.row(points["value"].arg_min() or 0), points.row(points["value"].arg_max() or 0))
    names = points.columns.index("measured_at"), points.columns.index("value")
    last = points.row(-1)
    lowest, highest, newest = (
        f"{unit.of(row[names[1]])} at {at_local(row[names[0]], zone)}" for row in (low, high, last)
    )
    raised = "" if alarms is None else f" {counted(alarms.height, 'alarm')}."
    return (
        f"{span} {counted(points.height, 'reading')}, lowest {lowest}, highest {highest}, last {newest}, "
        f"in {unit.name}; {counted(gaps, 'gap')}.{raised}"
    )
