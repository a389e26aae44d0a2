"""When vital signs raise an alert, and what the alert says. Pure declarations and Polars."""

from datetime import timedelta

import polars as pl

from assets.stream.contract import SILENT_MINUTES, Alarms, Last, Rule, Score
from assets.stream.spans import Nth, Rate, Span, Sustained
from assets.vitals import news2

KNOWN_FOR = timedelta(minutes=5)
"""For how long a measurement counts in the early warning score."""
HIGHER_IS_WORSE = ("is_on_oxygen", "heart_rate_bpm", "consciousness", "temperature_c", "respiratory_rate_per_min")
"""Of two measurements of one instant the worse one counts; of the letters of consciousness A is the first."""


def _known(column: str) -> str:
    return f"known_{column}"


_LAST = tuple(
    Last(_known(column), column, KNOWN_FOR, "highest" if column in HIGHER_IS_WORSE else "lowest")
    for column in news2.PARAMETERS
)
SPANS: tuple[Span, ...] = (
    # Most low saturations of a monitor are over within seconds: Görges et al. 2009, doi:10.1213/ane.0b013e31819bdfbb.
    Sustained("spo2_sustained_low_1_min", "spo2_percent", timedelta(minutes=1), timedelta(minutes=2)),
    Sustained("heart_rate_sustained_high_3_min", "heart_rate_bpm", timedelta(minutes=3), timedelta(minutes=2), "above"),
    Rate("heart_rate_rate_5_min", "heart_rate_bpm", timedelta(minutes=5)),
    Nth("systolic_low_2_of_3", "systolic_mmhg", 2, 3, timedelta(minutes=30)),
)
"""For rules as data: none of the stream's own rules compares them."""
WINDOWS = (*_LAST, *SPANS)


def _news2(rows: pl.DataFrame) -> pl.DataFrame:
    return news2.scored(
        rows.select(
            news2.SCALE_2,
            *(
                pl.col(name).alias(known)
                for window in _LAST
                for name, known in ((window.name, window.column), (window.age_name, f"{window.column}_age_s"))
            ),
        )
    )


HIGHEST_NEWS2 = 20
NEWS2 = Score(news2.COLUMNS, _news2)

RULES = (
    Rule("heart_rate_high", "heart_rate_bpm", "above", 100.0, "warning", unless="is_sport_mode", clear_threshold=95.0),
    Rule("systolic_high", "systolic_mmhg", "above", 130.0, "warning", clear_threshold=127.0),
    # Not `glucose_high`, which is a rule of the glucose stream: two alerts would have one id.
    Rule("vitals_glucose_high", "glucose_mg_dl", "above", 120.0, "warning", clear_threshold=115.0),
    Rule("spo2_low", "spo2_percent", "below", 92.0, "warning", clear_threshold=93.0),
    Rule("spo2_urgent_low", "spo2_percent", "below", 88.0, "urgent", cause="spo2_low", clear_threshold=90.0),
    Rule("temperature_high", "temperature_c", "above", 38.0, "warning", clear_threshold=37.8),
    Rule(
        "temperature_urgent_high",
        "temperature_c",
        "at_least",
        39.1,
        "urgent",
        cause="temperature_high",
        clear_threshold=38.8,
    ),
    Rule(
        "temperature_urgent_low",
        "temperature_c",
        "at_most",
        35.0,
        "urgent",
        cause="temperature_low",
        clear_threshold=35.3,
    ),
    Rule(
        "respiratory_rate_urgent_high",
        "respiratory_rate_per_min",
        "at_least",
        25.0,
        "urgent",
        cause="respiratory_rate_high",
        clear_threshold=24.0,
    ),
    Rule(
        "respiratory_rate_urgent_low",
        "respiratory_rate_per_min",
        "at_most",
        8.0,
        "urgent",
        cause="respiratory_rate_low",
        clear_threshold=9.0,
    ),
    Rule("news2_medium", "news2_score", "at_least", 5.0, "warning", cause="news2"),
    Rule("news2_high", "news2_score", "at_least", 7.0, "urgent", cause="news2"),
)

ALARMS = Alarms(
    max_age=timedelta(minutes=5),
    clear_after=timedelta(minutes=2),
    remind_every={"urgent": timedelta(minutes=5), "warning": timedelta(minutes=30)},
    escalate_after={"urgent": timedelta(minutes=5)},
    silence=Rule("vitals_silence", SILENT_MINUTES, "at_least", 5.0, "warning", cause="silence"),
)

_BY_COLUMN = {column: [rule.id for rule in RULES if rule.column == column] for column in (r.column for r in RULES)}


def alert_payload(alerts: pl.DataFrame) -> pl.DataFrame:
    """The JSON fields of published alerts: all that a message to a person needs.

    `value` is what broke the rule. `news2` is there in alerts about the score: its risk, and by parameter the value,
    its points and its age.
    """
    value = pl.coalesce(
        pl.when(pl.col("rule").is_in(rules)).then(pl.col(column).cast(pl.Float64))
        for column, rules in _BY_COLUMN.items()
    )
    value = pl.coalesce(*(span.name for span in SPANS), value)
    parameters = (
        pl.struct(value=f"news2_{name}", points=f"news2_{name}_points", age_s=f"news2_{name}_age_s").alias(name)
        for name in news2.PARAMETERS
    )
    score = pl.struct(pl.col("news2_score").alias("score"), pl.col("news2_risk").alias("risk"), *parameters)
    return alerts.select(
        "alert_id",
        "rule",
        "severity",
        "patient_id",
        "device_id",
        "threshold",
        value=value,
        timestamp="measured_at",
        is_sport_mode="is_sport_mode",
        news2=pl.when(pl.col("news2_score").is_not_null()).then(score),
    )
