"""How well the forecasts of the glucose stream tell lows ahead, beside persistence and a raised threshold.

The readings are the generator's, so this shows how the methods compare on its data, and not what they would do for
people. Its noise, 5 to 15 mg/dL, is independent from one reading to the next, and its lows follow from a wave and from
that noise. The errors of a real monitor last for minutes, and its lows follow from insulin, sport and fasting.
"""

from datetime import UTC, datetime, timedelta
from itertools import islice
from statistics import mean

import polars as pl

from assets.glucose.assets import CONTRACT
from assets.stream.decode import Decoder
from assets.stream.instants import instants
from assets.stream.kinds import evaluated
from benchmarks.report import Figures, say, show
from generator.profiles import PROFILES
from generator.streams import glucose_events

START = datetime(2026, 11, 1, tzinfo=UTC)
MINUTE, SPACING, HORIZON = timedelta(minutes=1), timedelta(minutes=5), timedelta(minutes=30)
PATIENTS, DAYS, SEEDS = 200, 7, (1, 2, 3)
LOW_MG_DL, RAISED_MG_DL = 70.0, 80.0
AHEAD, WITHIN = timedelta(minutes=15), timedelta(minutes=45)
"""A low counts as told if an alarm is raised so long before it, and at most `WITHIN` before."""
APART = timedelta(minutes=30)
"""Alerts of a patient that are closer together are one alarm."""
METHODS = {
    "persistence": "glucose_mg_dl",
    "linear": "glucose_forecast_30_min",
    "ar2": "glucose_forecast_ar2_30_min",
}


def run(*, quick: bool = False) -> Figures:
    """Each seed by itself; all patients together, and in the figures by profile too."""
    figures: Figures = {"seeds": []}
    for seed in SEEDS[:1] if quick else SEEDS:
        say(f"  seed {seed}")
        rows = _readings(seed, patients=20 if quick else PATIENTS, days=2 if quick else DAYS)
        figures["seeds"].append({"seed": seed, "readings": rows.height, "of": _by_profile(rows)})
    _show(figures)
    return figures


def _readings(seed: int, *, patients: int, days: int) -> pl.DataFrame:
    """Readings with their forecasts, and the value that came a horizon later, sorted by patient and time."""
    count = patients * days * (timedelta(days=1) // SPACING)
    endless = glucose_events(
        start=START, spacing=SPACING, patients=patients, seed=seed, repeats=0.0, late=0.0, variations=0.0
    )
    events = islice(endless, count)
    decoded = Decoder(CONTRACT.payload).decode([event.body for event in events]).readings
    rows = decoded.select("patient_id", glucose_mg_dl="glucose_level").hstack(
        [instants(decoded, "timestamp").alias("measured_at")]
    )
    rows = rows.sort("patient_id", "measured_at").with_columns(pulled_at=pl.lit(START))
    spans = [CONTRACT.spans[name] for name in METHODS.values() if name in CONTRACT.spans]
    everyone = pl.Series([True]).new_from_index(0, rows.height)
    forecasts = evaluated(rows.clear(), rows, everyone, spans, CONTRACT.entity, CONTRACT.plausible)
    later = rows.select("patient_id", pl.col("measured_at") - HORIZON, later_mg_dl="glucose_mg_dl")
    return rows.hstack(forecasts).join(later, on=["patient_id", "measured_at"], how="left", maintain_order="left")


def _by_profile(rows: pl.DataFrame) -> Figures:
    names = [profile.name for profile in PROFILES]
    number = (pl.col("patient_id") - 1) % len(PROFILES)
    return {"all": _measured(rows)} | {
        name: _measured(rows.filter(number == place)) for place, name in enumerate(names)
    }


def _measured(rows: pl.DataFrame) -> Figures:
    forecasts = [*METHODS.values(), "later_mg_dl"]
    common = rows.drop_nulls(forecasts)
    patient_days = rows.select("patient_id", pl.col("measured_at").dt.date()).n_unique()
    lows = _lows(rows)
    alarms = {name: pl.col(column) < LOW_MG_DL for name, column in METHODS.items()}
    alarms["below_80"] = pl.col("glucose_mg_dl") < RAISED_MG_DL
    figures: Figures = {
        "lows": lows.height,
        "lows_per_patient_day": round(lows.height / patient_days, 2),
        "forecast_share_percent": round(100 * common.height / rows.height, 1),
    }
    for name, is_foretold in alarms.items():
        told, false = _told(_alarms(rows, is_foretold), lows)
        figures[name] = {
            "rmse_mg_dl": round(_rmse(common, METHODS[name]), 1) if name in METHODS else None,
            "told_percent": round(100 * told / lows.height, 1) if lows.height else None,
            "false_per_patient_day": round(false / patient_days, 2),
        }
    return figures


def _rmse(rows: pl.DataFrame, column: str) -> float:
    return float(rows.select(((pl.col(column) - pl.col("later_mg_dl")) ** 2).mean().sqrt()).item())


def _lows(rows: pl.DataFrame) -> pl.DataFrame:
    """The first reading of each low: three readings in a row below 70 mg/dL, after three that are not.

    At least 15 minutes of each, as in the consensus on continuous monitoring, Danne et al. 2017, doi:10.2337/dc17-1600.
    """
    is_low = pl.col("glucose_mg_dl") < LOW_MG_DL
    begins = is_low
    for step in (1, 2, 3):
        begins &= ~is_low.shift(step).over("patient_id").fill_null(True)
    for step in (1, 2):
        begins &= is_low.shift(-step).over("patient_id").fill_null(False)
    return rows.filter(begins).select("patient_id", "measured_at")


def _alarms(rows: pl.DataFrame, is_foretold: pl.Expr) -> pl.DataFrame:
    """The first of the alerts that are close together; an alert needs a present value that is no low."""
    alerts = rows.filter(is_foretold, pl.col("glucose_mg_dl") >= LOW_MG_DL).select("patient_id", "measured_at")
    since = pl.col("measured_at") - pl.col("measured_at").shift().over("patient_id")
    return alerts.filter((since > APART).fill_null(True))


def _told(alarms: pl.DataFrame, lows: pl.DataFrame) -> tuple[int, int]:
    """How many lows are told at least 15 minutes ahead, and how many alarms no low follows."""
    raised = alarms.sort("measured_at").with_columns(raised_at="measured_at")
    due = lows.with_columns(pl.col("measured_at") - AHEAD).sort("measured_at")
    told = due.join_asof(raised, on="measured_at", by="patient_id", tolerance=WITHIN - AHEAD, check_sortedness=False)
    begun = lows.sort("measured_at").with_columns(begun_at="measured_at")
    followed = raised.join_asof(
        begun, on="measured_at", by="patient_id", strategy="forward", tolerance=WITHIN, check_sortedness=False
    )
    return int(told["raised_at"].count()), int(followed["begun_at"].null_count())


def _show(figures: Figures) -> None:
    of = [seed["of"]["all"] for seed in figures["seeds"]]
    readings, lows = (
        sum(seed["readings"] for seed in figures["seeds"]),
        mean(each["lows_per_patient_day"] for each in of),
    )
    show(
        f"Forecasts of {readings:,} readings, {lows:.2f} lows per patient and day (least to most of the seeds)",
        ("", "RMSE at 30 min, mg/dL", "lows told 15 min ahead, %", "false alarms per patient and day"),
        [[name, *(_range([each[name][what] for each in of]) for what in _SHOWN)] for name in (*METHODS, "below_80")],
    )


_SHOWN = ("rmse_mg_dl", "told_percent", "false_per_patient_day")


def _range(values: list[float | None]) -> str:
    known = [each for each in values if each is not None]
    if not known or min(known) == max(known):
        return f"{known[0]:g}" if known else "–"
    return f"{min(known):g} to {max(known):g}"


if __name__ == "__main__":
    run()
