"""Tables that `gold/patient_360` is made of, written as their own domains write them, from the columns that matter."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import polars as pl

from resources.lake import Lake
from resources.table import Table

DAY = date(2026, 11, 20)
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
DEFAULTS: dict[Any, Any] = {pl.Int64: 0, pl.Float64: 0.0, pl.String: "x", pl.Boolean: False, pl.Date: DAY}


def at(days: int = 0, hour: int = 12) -> datetime:
    """An instant so many days after noon of `DAY`."""
    return datetime.combine(DAY + timedelta(days=days), time(hour), UTC)


def frame(table: Table, rows: Iterable[dict[str, Any]]) -> pl.DataFrame:
    """Rows of a table; columns that are not given are null, or a value of their type where one is needed."""
    required = {name: DEFAULTS.get(table.schema[name].base_type(), NOON) for name in table.required}
    given = [required | row for row in rows]
    columns = {name: pl.Series(name, [row.get(name) for row in given], type_) for name, type_ in table.schema.items()}
    return pl.DataFrame(columns)


def put(lake: Lake, table: Table, rows: Iterable[dict[str, Any]], *dates: date) -> None:
    """Replaces the rows of some event dates, or all."""
    target, found = lake.table(table).create(), frame(table, rows)
    if not dates:
        target.replace([found], None)
        return
    listed = ", ".join(f"'{day}'" for day in dates)
    target.replace([found], f"event_date IN ({listed})", event_dates=dates)


def glucose_day(patient: int, day: date, mean: float = 120.0, **more: Any) -> dict[str, Any]:
    """A row of `gold/glucose_daily`: a day with 288 readings."""
    return {
        "patient_id": patient,
        "event_date": day,
        "reading_count": 288,
        "mean_mg_dl": mean,
        "sd_mg_dl": 20.0,
        "gmi_percent": 6.0,
        "tir_percent": 100.0,
        "tir_time_percent": 75.0,
        "tbr_below_70_time_percent": 5.0,
        "tbr_below_54_time_percent": 1.0,
        "tar_above_180_time_percent": 20.0,
        "tar_above_250_time_percent": 2.0,
        "mean_time_mg_dl": mean,
        "active_percent": 100.0,
        "near_duplicate_count": 0,
        "last_at": datetime.combine(day, time(23, 55), UTC),
        "last_mg_dl": mean + 1,
    } | more
