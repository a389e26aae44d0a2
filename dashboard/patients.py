"""What the page of one patient shows, put together from the lake. No HTTP."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from assets.alarms.tables import RANKS
from dashboard import history
from dashboard.access import Viewer
from dashboard.charts.bars import daily
from dashboard.charts.lines import line
from dashboard.charts.marks import TARGET, UNITS, Limit, Unit
from dashboard.charts.profile import PERIOD, Control, agp, by_time_of_day, control, time_in_range
from dashboard.charts.svg import MIDDLE, NARROW, WIDE, Size
from dashboard.charts.vitals import MINUTE_COLUMNS, SCORE_COLUMNS, vitals
from dashboard.directory import People
from dashboard.site import CONTRACTS_WITH_ALARMS
from dashboard.thresholds import InForce, Threshold
from resources.lake import Lake

SPANS: Mapping[str, timedelta] = {"24h": timedelta(hours=24), "7d": timedelta(days=7), "14d": timedelta(days=14)}
"""How far back the chart of glucose reaches, by the name in the address."""
VITALS_SPAN = timedelta(hours=24)
STALE_AFTER = timedelta(minutes=15)
GLUCOSE = "glucose_mg_dl"
_SIZES = (WIDE, NARROW)


@dataclass(frozen=True)
class Patient:
    """One patient, as the page shows them.

    Attributes:
        span: the name of `SPANS` that is shown.
        newest: the newest reading, and how old it is; None without one.
        glucose, profile, days, vitals: charts, each for wide and for narrow screens; empty where there is nothing.
        range: the bar of time in range.
        control: the measures of 14 days.
        devices: rows of devices.
        open_alarms, past_alarms: rows of `history.alarms`.
        thresholds: the rules that hold now.
    """

    patient_id: int
    span: str
    newest: dict[str, Any] | None
    glucose: Sequence[str]
    profile: Sequence[str]
    days: Sequence[str]
    vitals: Sequence[str]
    range: str
    control: Control | None
    devices: Sequence[dict[str, Any]]
    open_alarms: Sequence[dict[str, Any]]
    past_alarms: Sequence[dict[str, Any]]
    thresholds: Sequence[Threshold]


def patient(
    lake: Lake, rules: InForce, viewer: Viewer, patient_id: int, people: People, now: datetime, span: str
) -> Patient:
    """Reads and draws what the page shows.

    Args:
        lake: where history is.
        rules: which rules hold.
        viewer: whose unit and zone charts have.
        patient_id: who.
        people: what reference data say of all.
        now: the end of all charts.
        span: a name of `SPANS`.
    """
    person = people.persons.get(patient_id)
    unit, since = UNITS[viewer.unit], now - PERIOD
    readings = history.glucose(lake, [patient_id], since, now)
    thresholds = rules.of(patient_id, now)
    worn = history.worn_devices(lake, patient_id, readings, now)
    alarms = history.alarms(lake, CONTRACTS_WITH_ALARMS, people, patient_id, history.own_ids(worn), since)
    zone = person.zone if person is not None and person.zone else viewer.zone
    found = control(readings, since, now)
    is_open = pl.col("ended_at").is_null()
    return Patient(
        patient_id,
        span,
        _newest(readings, now),
        _glucose(readings, alarms, thresholds, viewer, unit, now, span),
        [] if found is None else _profile(readings, zone, unit),
        _days(lake, patient_id, unit, since),
        _vitals(lake, patient_id, viewer, now),
        "" if found is None else time_in_range(found, unit=unit),
        found,
        worn.to_dicts(),
        sorted(alarms.filter(is_open).to_dicts(), key=lambda each: -RANKS[each["severity"]]),
        alarms.filter(~is_open).to_dicts(),
        thresholds,
    )


def _drawn(draw: Callable[[Size], str]) -> list[str]:
    return [draw(size) for size in _SIZES]


def _profile(readings: pl.DataFrame, zone: str, unit: Unit) -> list[str]:
    slots = by_time_of_day(readings, zone)
    return [agp(slots, zone, unit=unit, size=size) for size in (MIDDLE, NARROW)]


def _newest(readings: pl.DataFrame, now: datetime) -> dict[str, Any] | None:
    if readings.is_empty():
        return None
    # Of several readings of one instant the lowest counts: a low must not be hidden, nor by a clock that is ahead.
    at = pl.min_horizontal("measured_at", "received_at")
    row = readings.filter(at == at.max()).sort(GLUCOSE).row(0, named=True)
    age = now - min(row["measured_at"], row["received_at"])
    return row | {"age": age, "is_stale": age > STALE_AFTER}


def _glucose(
    readings: pl.DataFrame,
    alarms: pl.DataFrame,
    thresholds: Sequence[Threshold],
    viewer: Viewer,
    unit: Unit,
    now: datetime,
    span: str,
) -> list[str]:
    points = readings.select("measured_at", value=GLUCOSE)
    shown = alarms.filter(pl.col("stream") == "glucose_readings").sort("raised_at")
    since = now - SPANS[span]
    shown = shown.filter(pl.col("ended_at").is_null() | (pl.col("ended_at") >= since))
    # Those of warnings would hide the curve; they are in the table.
    limits = [
        Limit(each.threshold, each.severity, each.cause.replace("glucose_", "").replace("_", " "))
        for each in thresholds
        if each.column == GLUCOSE and each.is_enabled and each.severity == "urgent"
    ]
    return _drawn(
        lambda size: line(
            points,
            since,
            now,
            viewer.zone,
            title="Glucose",
            unit=unit,
            size=size,
            bands=[TARGET],
            limits=limits,
            alarms=shown,
        )
    )


def _days(lake: Lake, patient_id: int, unit: Unit, since: datetime) -> list[str]:
    days = history.glucose_days(lake, [patient_id], since.date()).select(
        "event_date", mean="mean_mg_dl", two_day_mean=pl.coalesce("two_day_mean_mg_dl", "mean_mg_dl")
    )
    return [] if days.is_empty() else _drawn(lambda size: daily(days, "Daily mean", unit=unit, size=size))


def _vitals(lake: Lake, patient_id: int, viewer: Viewer, now: datetime) -> list[str]:
    since = now - VITALS_SPAN
    minutes = history.vitals(lake, patient_id, since, now, MINUTE_COLUMNS)
    if minutes.is_empty():
        return []
    scores = history.news2(lake, patient_id, since, now, SCORE_COLUMNS)
    return _drawn(lambda size: vitals(minutes, scores, since, now, viewer.zone, size=size))
