"""The gold tables of the glucose domain. Pure declarations; how they are derived is in `gold`."""

import dataframely as dy

from resources.table import Table


def _percent(*, nullable: bool = False) -> dy.Float64:
    return dy.Float64(nullable=nullable, min=0, max=100)


class GlucoseDaily(dy.Schema):
    """One patient's glucose control on one day, after the consensus on CGM metrics. Key: patient_id, event_date.

    Shares are of readings; those with `_time_` are of time, and `active_percent` is the share of the day that readings
    cover.
    """

    patient_id = dy.Int64(primary_key=True)
    event_date = dy.Date(primary_key=True)
    reading_count = dy.Int64(nullable=False, min=1)
    mean_mg_dl = dy.Float64(nullable=False)
    sd_mg_dl = dy.Float64(nullable=True, min=0)
    min_mg_dl = dy.Float64(nullable=False)
    max_mg_dl = dy.Float64(nullable=False)
    cv_percent = dy.Float64(nullable=True, min=0)
    gmi_percent = dy.Float64(nullable=False)
    tir_percent = _percent()
    tbr_below_70_percent = _percent()
    tbr_below_54_percent = _percent()
    tar_above_180_percent = _percent()
    tar_above_250_percent = _percent()
    tir_time_percent = _percent(nullable=True)
    tbr_below_70_time_percent = _percent(nullable=True)
    tbr_below_54_time_percent = _percent(nullable=True)
    tar_above_180_time_percent = _percent(nullable=True)
    tar_above_250_time_percent = _percent(nullable=True)
    mean_time_mg_dl = dy.Float64(nullable=True)
    active_percent = _percent(nullable=True)
    near_duplicate_count = dy.Int64(nullable=True, min=0)


class GlucoseMovingAverage(dy.Schema):
    """The mean of one patient's day, and of that day with the day before. Key: patient_id, event_date."""

    patient_id = dy.Int64(primary_key=True)
    event_date = dy.Date(primary_key=True)
    reading_count = dy.Int64(nullable=False, min=1)
    mean_mg_dl = dy.Float64(nullable=False)
    two_day_reading_count = dy.Int64(nullable=False, min=1)
    two_day_mean_mg_dl = dy.Float64(nullable=False)


class PatientComparison(dy.Schema):
    """One patient among all, over all days with readings, ranked by the share of time in range. Key: patient_id."""

    patient_id = dy.Int64(primary_key=True)
    reading_count = dy.Int64(nullable=False, min=1)
    mean_mg_dl = dy.Float64(nullable=False)
    tir_percent = _percent()
    rank = dy.Int64(nullable=False, min=1)
    tir_time_percent = _percent(nullable=True)
    tbr_below_70_time_percent = _percent(nullable=True)
    tbr_below_54_time_percent = _percent(nullable=True)
    tar_above_180_time_percent = _percent(nullable=True)
    tar_above_250_time_percent = _percent(nullable=True)
    mean_time_mg_dl = dy.Float64(nullable=True)
    active_percent = _percent(nullable=True)
    near_duplicate_count = dy.Int64(nullable=True, min=0)


GLUCOSE_DAILY = Table("gold/glucose_daily", GlucoseDaily, ("event_date",))
GLUCOSE_MOVING_AVERAGE = Table("gold/glucose_moving_average", GlucoseMovingAverage, ("event_date",))
PATIENT_COMPARISON = Table("gold/patient_comparison", PatientComparison)
GOLD = (GLUCOSE_DAILY, GLUCOSE_MOVING_AVERAGE, PATIENT_COMPARISON)
