"""The ambulatory glucose profile and time in range, as the consensus report lays them out. Pure.

Battelino et al. 2019, doi:10.2337/dci19-0028: 14 days by the time of day, the median, and how much of the readings lie
within which range; the glucose management indicator, the coefficient of variation (at most 36 %), and for how much of
the time there are readings (at least 70 %).
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

import polars as pl

from assets.glucose.gold import GMI_INTERCEPT, GMI_PER_MG_DL, glucose_daily, patient_comparison
from dashboard.charts.marks import MG_DL, TARGET, Unit, counted
from dashboard.charts.svg import WIDE, Plot, Point, Scale, Size, area, box, drawing, polyline, rule, text

PERIOD = timedelta(days=14)
SLOTS, SLOT = 96, timedelta(minutes=15)
LEAST_DAYS = 3
"""Of how many days a time of day must have readings to be drawn."""
LEAST_ACTIVE_PERCENT, MOST_CV_PERCENT = 70.0, 36.0
PERCENTILES = {"p5": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95}


class Control(NamedTuple):
    """How a patient's glucose was controlled in a period.

    Attributes:
        since, until: the period.
        reading_count, day_count: readings, and UTC dates that have some.
        mean_mg_dl, gmi_percent, cv_percent: of the readings; the last is None for a single one.
        active_percent: for how much of the period there are readings.
        very_high, high, in_range, low, very_low: shares of the time that readings cover, in percent; 100 together.
    """

    since: datetime
    until: datetime
    reading_count: int
    day_count: int
    mean_mg_dl: float
    gmi_percent: float
    cv_percent: float | None
    active_percent: float
    very_high: float
    high: float
    in_range: float
    low: float
    very_low: float

    @property
    def is_sufficient(self) -> bool:
        """Whether there are enough readings for a report, by the consensus."""
        return self.active_percent >= LEAST_ACTIVE_PERCENT


def control(readings: pl.DataFrame, since: datetime, until: datetime) -> Control | None:
    """The measures of one patient's readings in a period; None where there are none.

    Args:
        readings: rows of `silver/glucose_readings` of one patient.
        since, until: the period.
    """
    inside = readings.filter(pl.col("measured_at").is_between(since, until, closed="right"))
    if inside.is_empty():
        return None
    days = glucose_daily(inside)
    shares = patient_comparison(days).row(0, named=True)
    values = inside["glucose_mg_dl"]
    mean, deviation = float(inside["glucose_mg_dl"].to_numpy().mean()), values.std()
    high, low = shares["tar_above_180_time_percent"], shares["tbr_below_70_time_percent"]
    very_high, very_low = shares["tar_above_250_time_percent"], shares["tbr_below_54_time_percent"]
    return Control(
        since,
        until,
        inside.height,
        days.height,
        mean,
        GMI_INTERCEPT + GMI_PER_MG_DL * mean,
        100 * deviation / mean if isinstance(deviation, float) else None,
        min(100.0, float(days["active_percent"].sum()) * timedelta(days=1) / (until - since)),
        very_high,
        high - very_high,
        shares["tir_time_percent"],
        low - very_low,
        very_low,
    )


def by_time_of_day(readings: pl.DataFrame, zone: str) -> pl.DataFrame:
    """Percentiles of glucose at each quarter of an hour of the local day.

    Each takes the readings of the quarters before and after it too, so that the lines are smooth. One with readings of
    fewer than `LEAST_DAYS` days has nulls.

    Args:
        readings: `measured_at` (UTC) and `glucose_mg_dl`.
        zone: IANA name of the time zone.

    Returns:
        `slot` from 0, and `p5` to `p95`; a row for each slot, in order.
    """
    local = pl.col("measured_at").dt.convert_time_zone(zone)
    slot = (local.dt.hour().cast(pl.Int64) * 60 + local.dt.minute()) // (SLOT // timedelta(minutes=1))
    of_slots = (
        readings.lazy()
        .select("glucose_mg_dl", day=local.dt.date(), slot=pl.concat_list((slot + by) % SLOTS for by in (-1, 0, 1)))
        .explode("slot")
        .group_by("slot")
        .agg(
            *(pl.col("glucose_mg_dl").quantile(each, "linear").alias(name) for name, each in PERCENTILES.items()),
            days=pl.col("day").n_unique(),
        )
        .with_columns(pl.when(pl.col("days") >= LEAST_DAYS).then(pl.col(name)).alias(name) for name in PERCENTILES)
    )
    every = pl.LazyFrame({"slot": range(SLOTS)}, schema={"slot": pl.Int64()})
    return every.join(of_slots, on="slot", how="left", maintain_order="left").select("slot", *PERCENTILES).collect()


def agp(slots: pl.DataFrame, zone: str, *, days: int = 14, unit: Unit = MG_DL, size: Size = WIDE) -> str:
    """The ambulatory glucose profile.

    Args:
        slots: as `by_time_of_day` gives them.
        zone: the time zone of that day.
        days: how many there were.
        unit: how values are shown.
        size: of the chart.
    """
    low_end = min(40.0, *(each for each in (slots["p5"].min(),) if isinstance(each, float)), 40.0)
    top = max(300.0, *(each for each in (slots["p95"].max(),) if isinstance(each, float)), 0.0)
    plot = Plot(
        size,
        Scale(0, SLOTS, 38, size.width - 34),
        Scale(low_end * unit.factor, top * unit.factor, size.height - 34, 26),
    )
    low, high = plot.y(TARGET.low * unit.factor), plot.y(TARGET.high * unit.factor)
    parts = [box(plot.left, high, plot.right - plot.left, low - high, "band")]
    for value in (54.0, 70.0, 180.0, 250.0, 350.0):
        if value <= top:
            at = plot.y(value * unit.factor)
            parts.append(rule(plot.left, at, plot.right, at, "goal" if value in TARGET[:2] else "grid"))
            parts.append(text(plot.left - 6, at + 4, unit.of(value), "tick", "end"))
    for stretch in _stretches(slots):
        lines = {name: _points(plot, stretch, name, unit) for name in PERCENTILES}
        parts.append(area(lines["p95"], lines["p5"], "outer"))
        parts.append(area(lines["p75"], lines["p25"], "inner"))
        parts.append(polyline(lines["p50"], "line median"))
    parts += _labels(plot, slots, unit)
    parts.append(rule(plot.left, plot.bottom, plot.right, plot.bottom, "axis"))
    for hour in range(0, 25, 6 if size.is_narrow else 3):
        at = plot.x(hour * SLOTS / 24)
        parts.append(rule(at, plot.bottom, at, plot.bottom + 4, "axis"))
        parts.append(text(at, plot.bottom + 17, f"{hour:02}:00", "tick", "middle"))
    said = f"times in {zone}" if size.is_narrow else f"line: median; bands: 25–75 % and 5–95 %; times in {zone}"
    parts.append(text(plot.left, 14, f"Glucose by time of day, {days} days, {unit.name}", "title"))
    parts.append(text(plot.right, size.height - 4, said, "note", "end"))
    return drawing(size, "agp", "Ambulatory glucose profile", _told(slots, zone, days, unit), parts)


def _stretches(slots: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """The parts of the day that have percentiles."""
    numbered = slots.with_columns(stretch=pl.col("p50").is_null().cum_sum()).drop_nulls("p50")
    yield from numbered.partition_by("stretch", maintain_order=True)


def _points(plot: Plot, stretch: pl.DataFrame, name: str, unit: Unit) -> list[Point]:
    found = [
        (plot.x(slot + 0.5), plot.y.clipped(value * unit.factor))
        for slot, value in stretch.select("slot", name).iter_rows()
    ]
    # The day is a circle: it reaches from midnight to midnight.
    first, last = found[0], found[-1]
    if stretch["slot"][0] == 0:
        found.insert(0, (plot.x(0), first[1]))
    if stretch["slot"][-1] == SLOTS - 1:
        found.append((plot.x(SLOTS), last[1]))
    return found


def _labels(plot: Plot, slots: pl.DataFrame, unit: Unit) -> Iterator[str]:
    last = slots.row(-1, named=True)
    if last["p50"] is None:
        return
    places = [plot.y.clipped(last[name] * unit.factor) + 4 for name in PERCENTILES]
    # From below: each above the one before it, and none below the axis.
    above = plot.bottom + 11
    for name, at in zip(PERCENTILES, places, strict=True):
        above = min(above - 11, at)
        yield text(plot.right + 4, above, f"{name[1:]} %", "note")


def _told(slots: pl.DataFrame, zone: str, days: int, unit: Unit) -> str:
    known = slots.drop_nulls("p50")
    if known.is_empty():
        return f"Too few readings: a time of day needs those of {LEAST_DAYS} days."
    low, high = (known.row(each or 0, named=True) for each in (known["p50"].arg_min(), known["p50"].arg_max()))
    lowest, highest = (f"{unit.of(row['p50'])} about {_clock(row['slot'])}" for row in (low, high))
    span = f"{counted(days, 'day')}, times in {zone}."
    return f"{span} The median is lowest with {lowest}, highest with {highest} {unit.name}."


def _clock(slot: int) -> str:
    return f"{slot // 4:02}:{slot % 4 * 15:02}"


class _Share(NamedTuple):
    name: str
    style: str
    range: str
    percent: float
    goal: str


def _shares(of: Control, unit: Unit) -> list[_Share]:
    """From the highest to the lowest; the goals are those for most adults, and include what is worse."""
    at = {value: unit.of(value) for value in (54.0, 70.0, 180.0, 250.0)}
    return [
        _Share("very high", "very-high", f"> {at[250.0]}", of.very_high, "< 5 %"),
        _Share("high", "high", f"> {at[180.0]}–{at[250.0]}", of.high, "< 25 % with very high"),
        _Share("in range", "in-range", f"{at[70.0]}–{at[180.0]}", of.in_range, "> 70 %"),
        _Share("low", "low", f"{at[54.0]}–< {at[70.0]}", of.low, "< 4 % with very low"),
        _Share("very low", "very-low", f"< {at[54.0]}", of.very_low, "< 1 %"),
    ]


def time_in_range(of: Control, *, unit: Unit = MG_DL) -> str:
    """The bar of time in range, with its goals.

    Args:
        of: the measures.
        unit: how values are shown.
    """
    size = Size(360, 236)
    scale = Scale(0, 100, size.height - 14, 28)
    parts = [text(8, 14, f"Time in range, {unit.name}", "title")]
    above = 100.0
    for at, share in enumerate(_shares(of, unit)):
        top, bottom = scale(above), scale(above - share.percent)
        above -= share.percent
        said = f"{share.name} ({share.range} {unit.name}): {share.percent:.1f} % of the time"
        if share.percent > 0:
            parts.append(box(8, top, 56, max(bottom - top, 1.5), f"share {share.style}", said))
        row = 44 + at * 38
        parts.append(polyline([(66, (top + bottom) / 2), (84, row - 4), (92, row - 4)], "connector"))
        parts.append(text(96, row, f"{share.name} {share.range}", "tick"))
        parts.append(text(size.width - 8, row, f"{share.percent:.0f} % ({_per_day(share.percent)})", "value", "end"))
        parts.append(text(96, row + 14, f"goal {share.goal}", "note"))
    told = ", ".join(f"{share.name} {share.percent:.0f} %" for share in _shares(of, unit))
    return drawing(size, "tir", "Time in range", f"{told} of the time with readings.", parts)


def _per_day(percent: float) -> str:
    minutes = round(percent * 14.4)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
