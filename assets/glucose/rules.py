"""When a glucose reading raises an alert, and what the alert says. Pure declarations and Polars."""

from datetime import timedelta

import polars as pl

from assets.stream.contract import Alarms, Rule, Window

WINDOWS = (Window("mean_10_min", column="glucose_mg_dl", length=timedelta(minutes=10)),)

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
    silent_after=timedelta(minutes=30),
)

LOCATION_CHARACTERS = 200
"""Of a longer location an alert says the beginning: a hub refuses events over 1 MB."""


def alert_payload(alerts: pl.DataFrame) -> pl.DataFrame:
    """The JSON fields of published alerts: all that a message to a person needs."""
    return alerts.select(
        "alert_id",
        "rule",
        "severity",
        "patient_id",
        glucose_level="glucose_mg_dl",
        mean_10_min="mean_10_min",
        threshold="threshold",
        timestamp="measured_at",
        location=pl.col("location").str.slice(0, LOCATION_CHARACTERS),
    )
