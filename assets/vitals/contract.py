"""The vitals stream's payload and tables. Pure declarations."""

import dataframely as dy
import msgspec

from assets.stream.contract import Int64, utc

STREAM = "vitals"


class VitalsPayload(msgspec.Struct, gc=False):
    """Vital signs of one patient at one instant, as a monitor or a wearable sends them: all, or some of them.

    Units are bpm, mmHg, % (SpO2 also as a fraction), °C unless `unit` says F, breaths a minute and mg/dL. `pulse`
    counts where there is no `heart_rate`. What a sender thinks of its own values, such as `alert` or `high_bp`, is not
    declared: it stays in bronze.
    """

    patient_id: Int64
    timestamp: float | str
    device_id: Int64 | None = None
    heart_rate: float | None = None
    pulse: float | None = None
    systolic_bp: float | None = None
    diastolic_bp: float | None = None
    spo2: float | None = None
    temperature: float | None = None
    respiratory_rate: float | None = None
    glucose_level: float | None = None
    unit: str | None = None
    sport_mode: bool | None = None
    on_oxygen: bool | None = None
    consciousness: str | None = None


class ForeignVitals(VitalsPayload, gc=False):
    """Vital signs of another system."""

    record_system: str | None = None
    record_id: str | None = None
    record_version: str | None = None


class Vitals(dy.Schema):
    """Vital signs of one patient at one instant, as far as one device measured them.

    Key: patient_id, device_id, measured_at; a reading without a device repeats another one without a device.
    `consciousness` is A (alert), C (new confusion), V (voice), P (pain) or U (unresponsive). `device_model`,
    `age_years`, `care_team` and `is_spo2_scale_2` are of the reference data that held at `measured_at`; null where
    nothing is known.
    `record_system`, `record_id` and `record_version` name the record of another system that it was made of, as far as
    that has an id; null for what a device sent itself.
    """

    patient_id = dy.Int64(nullable=False)
    device_id = dy.Int64(nullable=True)
    measured_at = utc()
    heart_rate_bpm = dy.Float64(nullable=True)
    systolic_mmhg = dy.Float64(nullable=True)
    diastolic_mmhg = dy.Float64(nullable=True)
    spo2_percent = dy.Float64(nullable=True)
    temperature_c = dy.Float64(nullable=True)
    respiratory_rate_per_min = dy.Float64(nullable=True)
    glucose_mg_dl = dy.Float64(nullable=True)
    is_sport_mode = dy.Bool(nullable=True)
    is_on_oxygen = dy.Bool(nullable=True)
    consciousness = dy.String(nullable=True)
    received_at = utc()
    partition = dy.Int64(nullable=False)
    sequence_number = dy.Int64(nullable=False)
    event_index = dy.Int64(nullable=False)
    event_date = dy.Date(nullable=False)
    ingest_date = dy.Date(nullable=False)
    hub_epoch = dy.Int64(nullable=True)
    device_model = dy.String(nullable=True)
    age_years = dy.Int64(nullable=True)
    care_team = dy.String(nullable=True)
    is_spo2_scale_2 = dy.Bool(nullable=True)
    record_system = dy.String(nullable=True)
    record_id = dy.String(nullable=True)
    record_version = dy.String(nullable=True)


class VitalsAlerts(dy.Schema):
    """One rule broken by one reading, or by the score of what was known when it was evaluated. Key: alert_id.

    The measurements are the reading's own. What begins with `news2_` is in alerts about the score only: its risk, and
    for each parameter the value that counted, its points and its age in seconds when the reading was taken. The age is
    null where air, or an alert patient, was assumed. What follows `care_team` is there where the rule compares it.
    """

    alert_id = dy.String(nullable=False)
    rule = dy.String(nullable=False)
    rule_version = dy.Int64(nullable=False)
    severity = dy.String(nullable=False)
    patient_id = dy.Int64(nullable=False)
    device_id = dy.Int64(nullable=True)
    measured_at = utc()
    threshold = dy.Float64(nullable=False)
    heart_rate_bpm = dy.Float64(nullable=True)
    systolic_mmhg = dy.Float64(nullable=True)
    diastolic_mmhg = dy.Float64(nullable=True)
    spo2_percent = dy.Float64(nullable=True)
    temperature_c = dy.Float64(nullable=True)
    respiratory_rate_per_min = dy.Float64(nullable=True)
    glucose_mg_dl = dy.Float64(nullable=True)
    is_sport_mode = dy.Bool(nullable=True)
    is_on_oxygen = dy.Bool(nullable=True)
    consciousness = dy.String(nullable=True)
    received_at = utc()
    partition = dy.Int64(nullable=False)
    sequence_number = dy.Int64(nullable=False)
    event_index = dy.Int64(nullable=False)
    event_date = dy.Date(nullable=False)
    ingest_date = dy.Date(nullable=False)
    hub_epoch = dy.Int64(nullable=True)
    is_revision = dy.Bool(nullable=True)
    news2_score = dy.Int64(nullable=True)
    news2_risk = dy.String(nullable=True)
    news2_respiratory_rate_per_min = dy.Float64(nullable=True)
    news2_respiratory_rate_per_min_points = dy.Int64(nullable=True)
    news2_respiratory_rate_per_min_age_s = dy.Float64(nullable=True)
    news2_spo2_percent = dy.Float64(nullable=True)
    news2_spo2_percent_points = dy.Int64(nullable=True)
    news2_spo2_percent_age_s = dy.Float64(nullable=True)
    news2_is_on_oxygen = dy.Bool(nullable=True)
    news2_is_on_oxygen_points = dy.Int64(nullable=True)
    news2_is_on_oxygen_age_s = dy.Float64(nullable=True)
    news2_systolic_mmhg = dy.Float64(nullable=True)
    news2_systolic_mmhg_points = dy.Int64(nullable=True)
    news2_systolic_mmhg_age_s = dy.Float64(nullable=True)
    news2_heart_rate_bpm = dy.Float64(nullable=True)
    news2_heart_rate_bpm_points = dy.Int64(nullable=True)
    news2_heart_rate_bpm_age_s = dy.Float64(nullable=True)
    news2_consciousness = dy.String(nullable=True)
    news2_consciousness_points = dy.Int64(nullable=True)
    news2_consciousness_age_s = dy.Float64(nullable=True)
    news2_temperature_c = dy.Float64(nullable=True)
    news2_temperature_c_points = dy.Int64(nullable=True)
    news2_temperature_c_age_s = dy.Float64(nullable=True)
    device_model = dy.String(nullable=True)
    age_years = dy.Int64(nullable=True)
    care_team = dy.String(nullable=True)
    spo2_sustained_low_1_min = dy.Float64(nullable=True)
    heart_rate_sustained_high_3_min = dy.Float64(nullable=True)
    heart_rate_rate_5_min = dy.Float64(nullable=True)
    systolic_low_2_of_3 = dy.Float64(nullable=True)
