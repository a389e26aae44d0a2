"""When a glucose reading raises an alert, and what the alert says. Pure declarations and Polars."""

from datetime import timedelta

import polars as pl

from assets.stream.contract import SILENT_MINUTES, Alarms, Rule, Window
from assets.stream.spans import Forecast, Nth, Rate, Sustained

_GLUCOSE, _MINUTE = "glucose_mg_dl", timedelta(minutes=1)

SPANS = (
    Rate("glucose_rate_15_min", _GLUCOSE, 15 * _MINUTE),
    # A low or high that lasts 15 minutes is an event by the consensus on continuous monitoring: Danne et al. 2017,
    # doi:10.2337/dc17-1600.
    Sustained("glucose_sustained_low_15_min", _GLUCOSE, 15 * _MINUTE),
    Sustained("glucose_sustained_low_30_min", _GLUCOSE, 30 * _MINUTE),
    Sustained("glucose_sustained_high_30_min", _GLUCOSE, 30 * _MINUTE, beyond="above"),
    Nth("glucose_low_3_of_4", _GLUCOSE, 3, 4, 30 * _MINUTE),
    Nth("glucose_high_3_of_4", _GLUCOSE, 3, 4, 30 * _MINUTE, beyond="above"),
    Forecast("glucose_forecast_20_min", _GLUCOSE, "linear", 20 * _MINUTE, length=15 * _MINUTE),
    Forecast("glucose_forecast_30_min", _GLUCOSE, "linear", 30 * _MINUTE, length=15 * _MINUTE),
    Forecast("glucose_forecast_ar2_20_min", _GLUCOSE, "ar2", 20 * _MINUTE, length=60 * _MINUTE),
    Forecast("glucose_forecast_ar2_30_min", _GLUCOSE, "ar2", 30 * _MINUTE, length=60 * _MINUTE),
)
"""For rules as data: none of the stream's own rules compares them."""

WINDOWS = (Window("mean_10_min", column=_GLUCOSE, length=10 * _MINUTE), *SPANS)

RULES = (
    Rule("glucose_high", "glucose_mg_dl", "above", 115.0, "warning", clear_threshold=110.0),
    Rule("glucose_average_high", "mean_10_min", "above", 105.0, "warning", cause="glucose_high", clear_threshold=100.0),
    Rule(
        "glucose_urgent_high",
        "glucose_mg_dl",
        "above",
        250.0,
        "urgent",
        cause="glucose_high",
        clear_threshold=240.0,
    ),
    Rule("glucose_low", "glucose_mg_dl", "below", 70.0, "warning", clear_threshold=75.0),
    Rule("glucose_urgent_low", "glucose_mg_dl", "below", 54.0, "urgent", cause="glucose_low", clear_threshold=60.0),
)

ALARMS = Alarms(
    max_age=timedelta(minutes=15),
    clear_after=timedelta(minutes=10),
    remind_every={"urgent": timedelta(minutes=15), "warning": timedelta(minutes=60)},
    escalate_after={"urgent": timedelta(minutes=15)},
    silence=Rule("glucose_silence", SILENT_MINUTES, "at_least", 30.0, "warning", cause="silence"),
)

LOCATION_CHARACTERS = 200
"""Of a longer location an alert says the beginning: a hub refuses events over 1 MB."""


def alert_payload(alerts: pl.DataFrame) -> pl.DataFrame:
    """The JSON fields of published alerts: all that a message to a person needs. `value` is what broke the rule."""
    told = [span.name for span in SPANS if alerts[span.name].null_count() < alerts.height]
    return alerts.select(
        "alert_id",
        "rule",
        "severity",
        "patient_id",
        glucose_level="glucose_mg_dl",
        value=pl.coalesce(*told, "mean_10_min", "glucose_mg_dl"),
        mean_10_min="mean_10_min",
        threshold="threshold",
        timestamp="measured_at",
        location=pl.col("location").str.slice(0, LOCATION_CHARACTERS),
    )
