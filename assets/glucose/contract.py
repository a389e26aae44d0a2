"""The glucose stream's payload and tables. Pure declarations."""

import dataframely as dy
import msgspec

from assets.stream.contract import Int64, utc

STREAM = "glucose_readings"


class GlucosePayload(msgspec.Struct, gc=False):
    """One reading as a device sends it; `glucose_level` in mg/dL unless `unit` says mmol/L, in any usual spelling."""

    patient_id: Int64
    device_id: Int64
    glucose_level: float | str
    timestamp: float | str
    location: str | None = None
    unit: str | None = None


class ForeignGlucose(GlucosePayload, gc=False):
    """A reading of another system. `out_of_range` is below or above where the number stands for one outside of the
    sensor's range."""

    out_of_range: str | None = None
    record_system: str | None = None
    record_id: str | None = None
    record_version: str | None = None


class GlucoseReadings(dy.Schema):
    """One glucose measurement of one patient. Key: patient_id, device_id, measured_at.

    What was reported in mmol/L is converted and rounded to whole mg/dL. `reported_value` and `reported_unit` say what
    the device sent: the number, null for a word; `mg/dL` or `mmol/L`, null where no unit was given. `device_model`,
    `age_years` and `care_team` are of the reference data that held at `measured_at`; null where nothing is known.
    `record_system`, `record_id` and `record_version` name the record of another system that it was made of, as far as
    that has an id; null for what a device sent itself.
    """

    patient_id = dy.Int64(nullable=False)
    device_id = dy.Int64(nullable=False)
    measured_at = utc()
    glucose_mg_dl = dy.Float64(nullable=False)
    range_flag = dy.String(nullable=True)
    location = dy.String(nullable=True)
    received_at = utc()
    partition = dy.Int64(nullable=False)
    sequence_number = dy.Int64(nullable=False)
    event_index = dy.Int64(nullable=False)
    event_date = dy.Date(nullable=False)
    ingest_date = dy.Date(nullable=False)
    hub_epoch = dy.Int64(nullable=True)
    reported_value = dy.Float64(nullable=True)
    reported_unit = dy.String(nullable=True)
    device_model = dy.String(nullable=True)
    age_years = dy.Int64(nullable=True)
    care_team = dy.String(nullable=True)
    record_system = dy.String(nullable=True)
    record_id = dy.String(nullable=True)
    record_version = dy.String(nullable=True)


class GlucoseAlerts(dy.Schema):
    """One rule broken by one reading or by the window that ends at it. Key: alert_id.

    `mean_10_min` and what follows `care_team` are there where the rule compares them: the slope in mg/dL per minute,
    and in mg/dL the highest or lowest value for at least so long, the third lowest or highest of the last four
    values, and the value expected in so many minutes.
    """

    alert_id = dy.String(nullable=False)
    rule = dy.String(nullable=False)
    rule_version = dy.Int64(nullable=False)
    severity = dy.String(nullable=False)
    patient_id = dy.Int64(nullable=False)
    device_id = dy.Int64(nullable=False)
    measured_at = utc()
    glucose_mg_dl = dy.Float64(nullable=False)
    mean_10_min = dy.Float64(nullable=True)
    threshold = dy.Float64(nullable=False)
    location = dy.String(nullable=True)
    received_at = utc()
    partition = dy.Int64(nullable=False)
    sequence_number = dy.Int64(nullable=False)
    event_index = dy.Int64(nullable=False)
    event_date = dy.Date(nullable=False)
    ingest_date = dy.Date(nullable=False)
    hub_epoch = dy.Int64(nullable=True)
    is_revision = dy.Bool(nullable=True)
    device_model = dy.String(nullable=True)
    age_years = dy.Int64(nullable=True)
    care_team = dy.String(nullable=True)
    glucose_rate_15_min = dy.Float64(nullable=True)
    glucose_sustained_low_15_min = dy.Float64(nullable=True)
    glucose_sustained_low_30_min = dy.Float64(nullable=True)
    glucose_sustained_high_30_min = dy.Float64(nullable=True)
    glucose_low_3_of_4 = dy.Float64(nullable=True)
    glucose_high_3_of_4 = dy.Float64(nullable=True)
    glucose_forecast_20_min = dy.Float64(nullable=True)
    glucose_forecast_30_min = dy.Float64(nullable=True)
    glucose_forecast_ar2_20_min = dy.Float64(nullable=True)
    glucose_forecast_ar2_30_min = dy.Float64(nullable=True)
