"""The gold tables of the glucose domain, and what they are added up from. Pure declarations; see `slots` and `gold`."""

import dataframely as dy

from assets.stream.contract import utc
from resources.table import Table

SHARES = ("tir", "tbr_below_70", "tbr_below_54", "tar_above_180", "tar_above_250")
"""Time in range, and below and above it."""


def _percent(*, nullable: bool = False) -> dy.Float64:
    return dy.Float64(nullable=nullable, min=0, max=100)


def _sum() -> dy.Int64:
    return dy.Int64(nullable=False)


def _of_the_patient() -> dy.Int64:
    return dy.Int64(nullable=True)


class GlucoseSlots(dy.Schema):
    """What the readings of one patient and device in a quarter of an hour of one event date come to.

    Key: patient_id, event_date, slot, device_id. Sums of values are in millionths of a mg/dL; the sum of their squares
    is `square_sum_high` x 2^32 + `square_sum_low`. What begins with `standing_` is the patient's, of all devices, and
    in the row of the least device_id only; it leaves out how long the last reading of the slot stands, which is for a
    later slot to say. `standing_sum` is of values times microseconds.
    """

    patient_id = dy.Int64(primary_key=True)
    event_date = dy.Date(primary_key=True)
    slot = dy.Int64(primary_key=True)
    device_id = dy.Int64(primary_key=True)
    reading_count = _sum()
    sum_millionths = _sum()
    square_sum_high = _sum()
    square_sum_low = _sum()
    min_mg_dl = dy.Float64(nullable=False)
    max_mg_dl = dy.Float64(nullable=False)
    tir_count = _sum()
    tbr_below_70_count = _sum()
    tbr_below_54_count = _sum()
    tar_above_180_count = _sum()
    tar_above_250_count = _sum()
    near_duplicate_count = _sum()
    first_at = utc()
    first_mg_dl = dy.Float64(nullable=False)
    last_at = utc()
    last_mg_dl = dy.Float64(nullable=False)
    standing_first_at = utc(nullable=True)
    standing_last_at = utc(nullable=True)
    standing_last_mg_dl = dy.Float64(nullable=True)
    standing_last_gap_us = _of_the_patient()
    standing_us = _of_the_patient()
    standing_sum = _of_the_patient()
    standing_tir_us = _of_the_patient()
    standing_tbr_below_70_us = _of_the_patient()
    standing_tbr_below_54_us = _of_the_patient()
    standing_tar_above_180_us = _of_the_patient()
    standing_tar_above_250_us = _of_the_patient()


class GlucoseDaily(dy.Schema):
    """One patient's glucose control on one day, after the consensus on CGM metrics. Key: patient_id, event_date.

    Shares are of readings; those with `_time_` are of time, and `active_percent` is the share of the day that readings
    cover. `last_mg_dl` is the day's last reading; of several at that instant the lowest.
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
    last_at = utc(nullable=True)
    last_mg_dl = dy.Float64(nullable=True)


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
