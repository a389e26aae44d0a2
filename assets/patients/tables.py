"""`gold/patient_360`: what is known of a patient, in one row. Pure declarations; see `gold`.

Each class holds the columns that follow from the same tables. Nothing in a row depends on the clock: instants are
stored, and not how long ago they were.
"""

import dataframely as dy

from assets.stream.contract import utc
from resources.table import Table

VITALS = (
    "heart_rate_bpm",
    "systolic_mmhg",
    "diastolic_mmhg",
    "spo2_percent",
    "temperature_c",
    "respiratory_rate_per_min",
)


def _count() -> dy.Int64:
    return dy.Int64(nullable=False, min=0)


def _percent() -> dy.Float64:
    return dy.Float64(nullable=True, min=0, max=100)


def _text() -> dy.String:
    return dy.String(nullable=True)


class PatientRows(dy.Schema):
    """One row of a patient."""

    patient_id = dy.Int64(primary_key=True)


class OfPerson(PatientRows):
    """Who the patient is: as reference data say now, else as the hospital does."""

    full_name = _text()
    date_of_birth = dy.Date(nullable=True)
    gender = _text()
    time_zone = _text()
    groups = _text()
    care_team = _text()
    is_in_reference = dy.Bool(nullable=False)
    is_in_ehr = dy.Bool(nullable=False)


class OfGlucose(PatientRows):
    """The last reading, and the control of the 14 dates that end with it."""

    glucose_date = dy.Date(nullable=True)
    glucose_at = utc(nullable=True)
    glucose_mg_dl = dy.Float64(nullable=True)
    control_day_count = _count()
    control_reading_count = _count()
    control_active_percent = _percent()
    has_enough_readings = dy.Bool(nullable=False)
    mean_mg_dl = dy.Float64(nullable=True)
    gmi_percent = dy.Float64(nullable=True)
    cv_percent = dy.Float64(nullable=True, min=0)
    tir_time_percent = _percent()
    tbr_below_70_time_percent = _percent()
    tbr_below_54_time_percent = _percent()
    tar_above_180_time_percent = _percent()
    tar_above_250_time_percent = _percent()


class OfVitals(PatientRows):
    """The last known of each vital sign on the last date with any and the date before it, and the last score."""

    vitals_date = dy.Date(nullable=True)
    heart_rate_bpm = dy.Float64(nullable=True)
    heart_rate_bpm_at = utc(nullable=True)
    systolic_mmhg = dy.Float64(nullable=True)
    systolic_mmhg_at = utc(nullable=True)
    diastolic_mmhg = dy.Float64(nullable=True)
    diastolic_mmhg_at = utc(nullable=True)
    spo2_percent = dy.Float64(nullable=True)
    spo2_percent_at = utc(nullable=True)
    temperature_c = dy.Float64(nullable=True)
    temperature_c_at = utc(nullable=True)
    respiratory_rate_per_min = dy.Float64(nullable=True)
    respiratory_rate_per_min_at = utc(nullable=True)
    news2_score = dy.Int64(nullable=True)
    news2_risk = _text()
    news2_at = utc(nullable=True)


class OfAlarms(PatientRows):
    """The patient's alarms that are open."""

    open_alarm_count = _count()
    unacknowledged_alarm_count = _count()
    worst_alarm_severity = _text()
    open_alarm_since = utc(nullable=True)


class OfRecord(PatientRows):
    """The last reading of the hospital's record, and how many there are on the 30 dates that end with it."""

    ehr_date = dy.Date(nullable=True)
    ehr_at = utc(nullable=True)
    ehr_kind = _text()
    ehr_reading = dy.Float64(nullable=True)
    ehr_unit = _text()
    ehr_is_outlier = dy.Bool(nullable=True)
    ehr_reading_count = _count()
    ehr_outlier_count = _count()


class OfEncounters(PatientRows):
    """The last stay or visit. `discharged_at` is null while it goes on."""

    encounter_count = _count()
    encounter_kind = _text()
    encounter_department = _text()
    admitted_at = utc(nullable=True)
    discharged_at = utc(nullable=True)


class OfTrials(PatientRows):
    """The trials in whose logs the patient is, within a year before the last entry."""

    trial_date = dy.Date(nullable=True)
    trial_count = _count()
    trials = _text()
    trial_entry_count = _count()
    trial_adverse_count = _count()
    trial_entry_at = utc(nullable=True)


class OfDocuments(PatientRows):
    """The documents and images of the patient."""

    document_count = _count()
    latest_document = _text()
    latest_document_at = utc(nullable=True)


class OfDrugs(PatientRows):
    """What the patient takes by the hospital's record, and what safety reports say of these substances.

    `drugs` is empty where all have ended, and null where none is on record.
    The counts are sums over the substances: a report that names two of them counts twice.
    """

    drug_count = _count()
    drugs = _text()
    reported_drug_count = _count()
    drug_report_count = _count()
    drug_serious_count = _count()


class Patient360(OfPerson, OfGlucose, OfVitals, OfAlarms, OfRecord, OfEncounters, OfTrials, OfDocuments, OfDrugs):
    """What is known of a patient, whether by a device, by the hospital or by reference data. Key: patient_id.

    A patient who sends nothing any more stays as they were last. `glucose_mg_dl` is the last reading of the glucose
    stream; of vital signs the mean of the last minute that has one, on the last date with any (`vitals_date`) or the
    date before. Control is of the 14 dates that end with `glucose_date`, by the consensus on CGM metrics (Battelino et
    al. 2019): `control_active_percent` is the share of the 14 days that readings cover, and `has_enough_readings` says
    whether it is 70 or more; shares are of time. `ehr_…_count` are of the 30 dates that end with `ehr_date`. Sums over
    drugs count a safety report once for each drug of the patient that it names.
    """


PATIENT_360 = Table("gold/patient_360", Patient360)
