"""The gold tables of the vitals domain, and what they are added up from. Pure declarations; see `slots` and `gold`."""

import dataframely as dy

from assets.stream.contract import utc
from resources.table import Table


def _sum() -> dy.Int64:
    return dy.Int64(nullable=False)


def _count() -> dy.Int64:
    return dy.Int64(nullable=False, min=0)


class VitalsSlots(dy.Schema):
    """What the readings of one patient in one minute of one event date come to.

    Key: patient_id, event_date, minute. `minute` is counted from midnight UTC, `slot` is the quarter of an hour that it
    is in. Sums are in millionths of the unit. What ends in `_last` is the last value of the minute, with its time.
    """

    patient_id = dy.Int64(primary_key=True)
    event_date = dy.Date(primary_key=True)
    slot = dy.Int64(nullable=False)
    minute = dy.Int64(primary_key=True)
    reading_count = _sum()
    sport_count = _sum()
    last_at = utc()
    is_spo2_scale_2 = dy.Bool(nullable=True)
    heart_rate_bpm_count = _sum()
    heart_rate_bpm_sum = _sum()
    heart_rate_bpm_min = dy.Float64(nullable=True)
    heart_rate_bpm_max = dy.Float64(nullable=True)
    systolic_mmhg_count = _sum()
    systolic_mmhg_sum = _sum()
    systolic_mmhg_min = dy.Float64(nullable=True)
    systolic_mmhg_max = dy.Float64(nullable=True)
    diastolic_mmhg_count = _sum()
    diastolic_mmhg_sum = _sum()
    diastolic_mmhg_min = dy.Float64(nullable=True)
    diastolic_mmhg_max = dy.Float64(nullable=True)
    spo2_percent_count = _sum()
    spo2_percent_sum = _sum()
    spo2_percent_min = dy.Float64(nullable=True)
    spo2_percent_max = dy.Float64(nullable=True)
    temperature_c_count = _sum()
    temperature_c_sum = _sum()
    temperature_c_min = dy.Float64(nullable=True)
    temperature_c_max = dy.Float64(nullable=True)
    respiratory_rate_per_min_count = _sum()
    respiratory_rate_per_min_sum = _sum()
    respiratory_rate_per_min_min = dy.Float64(nullable=True)
    respiratory_rate_per_min_max = dy.Float64(nullable=True)
    glucose_mg_dl_count = _sum()
    glucose_mg_dl_sum = _sum()
    glucose_mg_dl_min = dy.Float64(nullable=True)
    glucose_mg_dl_max = dy.Float64(nullable=True)
    respiratory_rate_per_min_last = dy.Float64(nullable=True)
    respiratory_rate_per_min_last_at = utc(nullable=True)
    spo2_percent_last = dy.Float64(nullable=True)
    spo2_percent_last_at = utc(nullable=True)
    is_on_oxygen_last = dy.Bool(nullable=True)
    is_on_oxygen_last_at = utc(nullable=True)
    systolic_mmhg_last = dy.Float64(nullable=True)
    systolic_mmhg_last_at = utc(nullable=True)
    heart_rate_bpm_last = dy.Float64(nullable=True)
    heart_rate_bpm_last_at = utc(nullable=True)
    consciousness_last = dy.String(nullable=True)
    consciousness_last_at = utc(nullable=True)
    temperature_c_last = dy.Float64(nullable=True)
    temperature_c_last_at = utc(nullable=True)


class VitalsMinute(dy.Schema):
    """The vital signs of one patient in one minute. Key: patient_id, minute_at.

    The minute begins at `minute_at`. A vital that was not measured has the count 0 and null elsewhere. What begins with
    `avg_` is the running mean over the patient's readings of the day, from midnight UTC to the end of the minute.
    """

    patient_id = dy.Int64(primary_key=True)
    event_date = dy.Date(nullable=False)
    minute_at = dy.Datetime(primary_key=True, time_zone="UTC", time_unit="us")
    reading_count = dy.Int64(nullable=False, min=1)
    sport_count = _count()
    heart_rate_bpm_count = _count()
    heart_rate_bpm_mean = dy.Float64(nullable=True)
    heart_rate_bpm_min = dy.Float64(nullable=True)
    heart_rate_bpm_max = dy.Float64(nullable=True)
    systolic_mmhg_count = _count()
    systolic_mmhg_mean = dy.Float64(nullable=True)
    systolic_mmhg_min = dy.Float64(nullable=True)
    systolic_mmhg_max = dy.Float64(nullable=True)
    diastolic_mmhg_count = _count()
    diastolic_mmhg_mean = dy.Float64(nullable=True)
    diastolic_mmhg_min = dy.Float64(nullable=True)
    diastolic_mmhg_max = dy.Float64(nullable=True)
    spo2_percent_count = _count()
    spo2_percent_mean = dy.Float64(nullable=True)
    spo2_percent_min = dy.Float64(nullable=True)
    spo2_percent_max = dy.Float64(nullable=True)
    temperature_c_count = _count()
    temperature_c_mean = dy.Float64(nullable=True)
    temperature_c_min = dy.Float64(nullable=True)
    temperature_c_max = dy.Float64(nullable=True)
    respiratory_rate_per_min_count = _count()
    respiratory_rate_per_min_mean = dy.Float64(nullable=True)
    respiratory_rate_per_min_min = dy.Float64(nullable=True)
    respiratory_rate_per_min_max = dy.Float64(nullable=True)
    glucose_mg_dl_count = _count()
    glucose_mg_dl_mean = dy.Float64(nullable=True)
    glucose_mg_dl_min = dy.Float64(nullable=True)
    glucose_mg_dl_max = dy.Float64(nullable=True)
    avg_heart_rate = dy.Float64(nullable=True)
    avg_systolic_bp = dy.Float64(nullable=True)
    avg_diastolic_bp = dy.Float64(nullable=True)
    avg_glucose_level = dy.Float64(nullable=True)


class VitalsDaily(dy.Schema):
    """The vital signs of one patient on one day. Key: patient_id, event_date.

    Means are over readings, so a device that measures more often weighs more. `minute_count` is the number of minutes
    with a reading. A vital that was not measured has the count 0 and null elsewhere.
    """

    patient_id = dy.Int64(primary_key=True)
    event_date = dy.Date(primary_key=True)
    reading_count = dy.Int64(nullable=False, min=1)
    minute_count = dy.Int64(nullable=False, min=1)
    sport_count = _count()
    heart_rate_bpm_count = _count()
    heart_rate_bpm_mean = dy.Float64(nullable=True)
    heart_rate_bpm_min = dy.Float64(nullable=True)
    heart_rate_bpm_max = dy.Float64(nullable=True)
    systolic_mmhg_count = _count()
    systolic_mmhg_mean = dy.Float64(nullable=True)
    systolic_mmhg_min = dy.Float64(nullable=True)
    systolic_mmhg_max = dy.Float64(nullable=True)
    diastolic_mmhg_count = _count()
    diastolic_mmhg_mean = dy.Float64(nullable=True)
    diastolic_mmhg_min = dy.Float64(nullable=True)
    diastolic_mmhg_max = dy.Float64(nullable=True)
    spo2_percent_count = _count()
    spo2_percent_mean = dy.Float64(nullable=True)
    spo2_percent_min = dy.Float64(nullable=True)
    spo2_percent_max = dy.Float64(nullable=True)
    temperature_c_count = _count()
    temperature_c_mean = dy.Float64(nullable=True)
    temperature_c_min = dy.Float64(nullable=True)
    temperature_c_max = dy.Float64(nullable=True)
    respiratory_rate_per_min_count = _count()
    respiratory_rate_per_min_mean = dy.Float64(nullable=True)
    respiratory_rate_per_min_min = dy.Float64(nullable=True)
    respiratory_rate_per_min_max = dy.Float64(nullable=True)
    glucose_mg_dl_count = _count()
    glucose_mg_dl_mean = dy.Float64(nullable=True)
    glucose_mg_dl_min = dy.Float64(nullable=True)
    glucose_mg_dl_max = dy.Float64(nullable=True)


class News2(dy.Schema):
    """One evaluation of the National Early Warning Score 2 of one patient. Key: patient_id, evaluated_at.

    A patient is evaluated at the last reading of each minute, over all readings that silver has up to it: what arrived
    late counts here, and did not count for alerts that were raised before. Minutes in which a needed vital was not
    known within the last 5 minutes have no row. For each parameter: the value that counted, its points, and its age
    when it was evaluated. The age is null where air, or an alert patient, was assumed.
    """

    patient_id = dy.Int64(primary_key=True)
    event_date = dy.Date(nullable=False)
    evaluated_at = dy.Datetime(primary_key=True, time_zone="UTC", time_unit="us")
    news2_score = dy.Int64(nullable=False)
    news2_risk = dy.String(nullable=False)
    news2_respiratory_rate_per_min = dy.Float64(nullable=False)
    news2_respiratory_rate_per_min_points = dy.Int64(nullable=False)
    news2_respiratory_rate_per_min_age_s = dy.Float64(nullable=False)
    news2_spo2_percent = dy.Float64(nullable=False)
    news2_spo2_percent_points = dy.Int64(nullable=False)
    news2_spo2_percent_age_s = dy.Float64(nullable=False)
    news2_is_on_oxygen = dy.Bool(nullable=False)
    news2_is_on_oxygen_points = dy.Int64(nullable=False)
    news2_is_on_oxygen_age_s = dy.Float64(nullable=True)
    news2_systolic_mmhg = dy.Float64(nullable=False)
    news2_systolic_mmhg_points = dy.Int64(nullable=False)
    news2_systolic_mmhg_age_s = dy.Float64(nullable=False)
    news2_heart_rate_bpm = dy.Float64(nullable=False)
    news2_heart_rate_bpm_points = dy.Int64(nullable=False)
    news2_heart_rate_bpm_age_s = dy.Float64(nullable=False)
    news2_consciousness = dy.String(nullable=False)
    news2_consciousness_points = dy.Int64(nullable=False)
    news2_consciousness_age_s = dy.Float64(nullable=True)
    news2_temperature_c = dy.Float64(nullable=False)
    news2_temperature_c_points = dy.Int64(nullable=False)
    news2_temperature_c_age_s = dy.Float64(nullable=False)


VITALS_MINUTE = Table("gold/vitals_minute", VitalsMinute, ("event_date",))
VITALS_DAILY = Table("gold/vitals_daily", VitalsDaily, ("event_date",))
NEWS2 = Table("gold/news2", News2, ("event_date",))
GOLD = (VITALS_MINUTE, VITALS_DAILY, NEWS2)
