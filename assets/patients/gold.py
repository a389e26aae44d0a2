"""What tables of other domains say of patients, each part to at most one row a patient. Pure Polars.

Every function is given rows by table name: of a part by dates only those that count for each patient, see `parts`.
"""

from collections.abc import Mapping
from datetime import date, datetime

import polars as pl

from assets.alarms.tables import RANKS
from assets.bitemporal import holding
from assets.clinical.gold import ADVERSE
from assets.glucose.gold import GMI_INTERCEPT, GMI_PER_MG_DL, patient_comparison
from assets.patients.tables import (
    VITALS,
    OfAlarms,
    OfDocuments,
    OfDrugs,
    OfEncounters,
    OfGlucose,
    OfPerson,
    OfRecord,
    OfTrials,
    OfVitals,
    Patient360,
)

Frames = Mapping[str, pl.DataFrame]
"""Rows by table name."""

CONTROL_DAYS, ENOUGH_PERCENT = 14, 70.0
"""Over how many dates control is judged, and which share of them readings must cover: Battelino et al. 2019."""
VITALS_DAYS, RECORD_DAYS, TRIAL_DAYS = 2, 30, 365

_KEY = "patient_id"
_count, _mean = pl.col("reading_count"), pl.col("mean_mg_dl")


def person(frames: Frames, at: datetime) -> pl.DataFrame:
    """Rows of `OfPerson` from versions of reference data and from the hospital's patients.

    Args:
        frames: ``reference/patients`` and ``silver/ehr_patients``.
        at: which version holds.
    """
    columns = ("full_name", "date_of_birth", "gender")
    reference = holding(frames["reference/patients"], _KEY, at).select(
        _KEY, *columns, "time_zone", "groups", "care_team", is_in_reference=True
    )
    ehr = frames["silver/ehr_patients"].select(_KEY, *columns, is_in_ehr=True)
    both = reference.join(ehr, on=_KEY, how="full", coalesce=True, suffix="_ehr")
    return both.with_columns(
        *(pl.coalesce(name, f"{name}_ehr") for name in columns), pl.col("is_in_reference", "is_in_ehr").fill_null(False)
    ).select(OfPerson.column_names())


def glucose(frames: Frames) -> pl.DataFrame:
    """Rows of `OfGlucose` from ``gold/glucose_daily``.

    The coefficient of variation is of all readings, from counts, means and standard deviations of the days. Means
    weigh days by their readings, shares by the time that readings cover.
    """
    daily = frames["gold/glucose_daily"].sort(_KEY, "event_date")
    squares = (_count - 1) * pl.col("sd_mg_dl").fill_null(0) ** 2
    between = _count * (_mean - (_mean * _count).sum() / _count.sum()) ** 2
    own = daily.group_by(_KEY, maintain_order=True).agg(
        glucose_date=pl.col("event_date").last(),
        glucose_at=pl.col("last_at").last(),
        glucose_mg_dl=pl.col("last_mg_dl").last(),
        control_day_count=pl.len().cast(pl.Int64),
        # The sum of 14 shares of 100 may be a little more than 1,400.
        control_active_percent=pl.min_horizontal(pl.col("active_percent").sum() / CONTROL_DAYS, 100.0),
        sd=pl.when(_count.sum() > 1).then(((squares + between).sum() / (_count.sum() - 1)).sqrt()),
    )
    control = patient_comparison(daily).rename({"reading_count": "control_reading_count"})
    return (
        own.join(control.drop("active_percent"), on=_KEY)
        .with_columns(
            gmi_percent=GMI_INTERCEPT + GMI_PER_MG_DL * _mean,
            cv_percent=100 * pl.col("sd") / _mean,
            has_enough_readings=pl.col("control_active_percent") >= ENOUGH_PERCENT,
        )
        .select(OfGlucose.column_names())
    )


def vitals(frames: Frames) -> pl.DataFrame:
    """Rows of `OfVitals` from ``gold/vitals_daily``, ``gold/vitals_minute`` and ``gold/news2``."""
    minutes = frames["gold/vitals_minute"].sort(_KEY, "minute_at")
    last = minutes.group_by(_KEY, maintain_order=True).agg(
        *(pl.col(f"{name}_mean").drop_nulls().last().alias(name) for name in VITALS),
        *(
            pl.col("minute_at").filter(pl.col(f"{name}_mean").is_not_null()).last().alias(f"{name}_at")
            for name in VITALS
        ),
    )
    scores = (
        frames["gold/news2"].sort(_KEY, "evaluated_at").unique(_KEY, keep="last").rename({"evaluated_at": "news2_at"})
    )
    dates = frames["gold/vitals_daily"].group_by(_KEY).agg(vitals_date=pl.col("event_date").max())
    return (
        dates.join(last, on=_KEY, how="left")
        .join(scores.drop("event_date"), on=_KEY, how="left")
        .select(OfVitals.column_names())
    )


def alarms(frames: Frames) -> pl.DataFrame:
    """Rows of `OfAlarms` from open rows of ``gold/alarms``."""
    rank = pl.col("worst_severity").replace_strict(RANKS, default=0, return_dtype=pl.Int64)
    return (
        frames["gold/alarms"]
        .filter("is_open", pl.col("entity_key") == _KEY)
        .sort("entity", rank, "raised_at", "alarm_id")
        .group_by(pl.col("entity").alias(_KEY), maintain_order=True)
        .agg(
            open_alarm_count=_whole(pl.len()),
            unacknowledged_alarm_count=_whole(pl.col("acknowledged_at").is_null().sum()),
            worst_alarm_severity=pl.col("worst_severity").last(),
            open_alarm_since=pl.col("raised_at").min(),
        )
        .select(OfAlarms.column_names())
    )


def record(frames: Frames) -> pl.DataFrame:
    """Rows of `OfRecord` from ``silver/ehr``."""
    return (
        frames["silver/ehr"]
        .sort(_KEY, "measured_at")
        .group_by(_KEY, maintain_order=True)
        .agg(
            ehr_date=pl.col("event_date").last(),
            ehr_at=pl.col("measured_at").last(),
            ehr_kind=pl.col("kind").last(),
            ehr_reading=pl.col("reading").last(),
            ehr_unit=pl.col("unit").last(),
            ehr_is_outlier=pl.col("is_outlier").last(),
            ehr_reading_count=_whole(pl.len()),
            ehr_outlier_count=_whole(pl.col("is_outlier").sum()),
        )
        .select(OfRecord.column_names())
    )


def encounters(frames: Frames) -> pl.DataFrame:
    """Rows of `OfEncounters` from ``silver/ehr_encounters``."""
    return (
        frames["silver/ehr_encounters"]
        .sort(_KEY, "admitted_at", "encounter_id")
        .group_by(_KEY, maintain_order=True)
        .agg(
            encounter_count=_whole(pl.len()),
            encounter_kind=pl.col("kind").last(),
            encounter_department=pl.col("department").last(),
            admitted_at=pl.col("admitted_at").last(),
            discharged_at=pl.col("discharged_at").last(),
        )
        .select(OfEncounters.column_names())
    )


def trials(frames: Frames) -> pl.DataFrame:
    """Rows of `OfTrials` from ``silver/trial_logs``; entries about no participant are left out."""
    return (
        frames["silver/trial_logs"]
        .drop_nulls(_KEY)
        .sort(_KEY, "logged_at", "log_id")
        .group_by(_KEY, maintain_order=True)
        .agg(
            trial_date=pl.col("event_date").last(),
            trial_count=_whole(pl.col("trial_id").n_unique()),
            trials=pl.col("trial_id").unique().sort().str.join("; "),
            trial_entry_count=_whole(pl.len()),
            trial_adverse_count=_whole((pl.col("kind").str.to_lowercase() == ADVERSE).sum()),
            trial_entry_at=pl.col("logged_at").last(),
        )
        .select(OfTrials.column_names())
    )


def documents(frames: Frames) -> pl.DataFrame:
    """Rows of `OfDocuments` from ``gold/document_index``; what is of no patient is left out."""
    return (
        frames["gold/document_index"]
        .drop_nulls(_KEY)
        .sort(_KEY, "modified_at", "path")
        .group_by(_KEY, maintain_order=True)
        .agg(
            document_count=_whole(pl.len()),
            latest_document=pl.col("path").last(),
            latest_document_at=pl.col("modified_at").last(),
        )
        .select(OfDocuments.column_names())
    )


def drugs(frames: Frames, today: date) -> pl.DataFrame:
    """Rows of `OfDrugs` from ``silver/ehr_medications`` and, by substance, ``gold/reports_by_substance``.

    Args:
        frames: all rows of both.
        today: a drug whose end is planned for a later date is still taken.
    """
    is_taken = pl.col("ended_on").is_null() | (pl.col("ended_on") > today)
    reports = frames["gold/reports_by_substance"].select("substance", "report_count", "serious_count")
    return (
        # Of a substance that a patient takes again, what has not ended counts.
        frames["silver/ehr_medications"]
        .sort(_KEY, "substance", ~is_taken, "medication_id")
        .unique([_KEY, "substance"], keep="first", maintain_order=True)
        .join(reports, on="substance", how="left", maintain_order="left")
        .group_by(_KEY, maintain_order=True)
        .agg(
            drug_count=_whole(is_taken.sum()),
            drugs=pl.col("drug_name").filter(is_taken).str.join("; "),
            reported_drug_count=_whole((pl.col("report_count").filter(is_taken) > 0).sum()),
            drug_report_count=_whole(pl.col("report_count").filter(is_taken).sum()),
            drug_serious_count=_whole(pl.col("serious_count").filter(is_taken).sum()),
        )
        .select(OfDrugs.column_names())
    )


def together(parts: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Rows of `Patient360`: one for each patient of any part, sorted.

    Args:
        parts: rows by the part's name, each with the columns of its schema.
    """
    ids = pl.concat([part.select(_KEY) for part in parts.values()]).unique().sort(_KEY)
    for part in parts.values():
        ids = ids.join(part, on=_KEY, how="left", maintain_order="left")
    filled = [
        pl.col(name).fill_null(False if column.dtype == pl.Boolean else 0)
        for name, column in Patient360.columns().items()
        if not column.nullable and name != _KEY
    ]
    return Patient360.validate(ids.with_columns(filled).select(Patient360.column_names()))


def _whole(count: pl.Expr) -> pl.Expr:
    return count.cast(pl.Int64)
