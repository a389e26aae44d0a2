"""The rows of the clinical domain's silver and gold tables. Pure declarations; see `silver` and `gold`."""

import dataframely as dy

from assets.stream.contract import utc
from resources.table import Table


def _count() -> dy.Int64:
    return dy.Int64(nullable=False, min=0)


class SilverRows(dy.Schema):
    """What every row of silver says of the load that it came with.

    `revision` is the number of the run that wrote the row last. Gold is made anew for dates with newer rows.
    """

    load_number = dy.Int64(nullable=False)
    row_number = dy.Int64(nullable=False)
    revision = dy.Int64(nullable=False)


class Ehr(SilverRows):
    """A reading of a patient's record, as its latest load has it. Key: patient_id, measured_at.

    Glucose that came in mmol/L is in mg/dL, and a temperature that came in °F in °C; bronze has what came.
    `telemetry_at` and what follows is the last that the device had said of itself when the reading was taken, within 24
    hours. `robust_z` is 0.6745 (x - median) / MAD over the patient's readings of the kind on this date and the 29 dates
    before it; null for fewer than 5 of them. An outlier is one beyond 3.5, on either side.
    """

    patient_id = dy.Int64(primary_key=True)
    measured_at = utc()
    event_date = dy.Date(nullable=False)
    kind = dy.String(nullable=False)
    reading = dy.Float64(nullable=False)
    unit = dy.String(nullable=True)
    device_id = dy.Int64(nullable=True)
    note = dy.String(nullable=True)
    updated_at = utc(nullable=True)
    telemetry_at = utc(nullable=True)
    telemetry_age_s = dy.Float64(nullable=True)
    device_status = dy.String(nullable=True)
    battery_percent = dy.Float64(nullable=True)
    signal_dbm = dy.Float64(nullable=True)
    firmware_version = dy.String(nullable=True)
    robust_z = dy.Float64(nullable=True)
    is_outlier = dy.Bool(nullable=False)


class EhrPatients(SilverRows):
    """A patient as the hospital's latest load has them. Key: patient_id."""

    patient_id = dy.Int64(primary_key=True)
    full_name = dy.String(nullable=True)
    date_of_birth = dy.Date(nullable=True)
    gender = dy.String(nullable=True)
    updated_at = utc(nullable=True)


class EhrEncounters(SilverRows):
    """A stay or a visit as the latest load has it. Key: encounter_id. `discharged_at` is null while it goes on."""

    encounter_id = dy.Int64(primary_key=True)
    patient_id = dy.Int64(nullable=False)
    kind = dy.String(nullable=True)
    department = dy.String(nullable=True)
    admitted_at = utc()
    discharged_at = utc(nullable=True)


class EhrMedications(SilverRows):
    """A drug that a patient takes or took, as the latest load has it. Key: medication_id.

    `substance` is `drug_name` in upper case, as safety reports name substances. `ended_on` is null while it is taken.
    """

    medication_id = dy.Int64(primary_key=True)
    patient_id = dy.Int64(nullable=False)
    drug_name = dy.String(nullable=False)
    substance = dy.String(nullable=False)
    dose = dy.String(nullable=True)
    started_on = dy.Date(nullable=True)
    ended_on = dy.Date(nullable=True)


class Telemetry(SilverRows):
    """What a device said of itself. Key: device_id, measured_at."""

    device_id = dy.Int64(primary_key=True)
    measured_at = utc()
    event_date = dy.Date(nullable=False)
    device_status = dy.String(nullable=True)
    battery_percent = dy.Float64(nullable=True)
    signal_dbm = dy.Float64(nullable=True)
    firmware_version = dy.String(nullable=True)


class Trials(SilverRows):
    """A clinical trial as the latest load has it. Key: trial_id."""

    trial_id = dy.String(primary_key=True)
    title = dy.String(nullable=True)
    condition = dy.String(nullable=True)
    phase = dy.String(nullable=True)
    status = dy.String(nullable=True)
    enrolled = dy.Int64(nullable=True)
    target_enrolment = dy.Int64(nullable=True)
    started_on = dy.Date(nullable=True)
    updated_at = utc(nullable=True)


class TrialLogs(SilverRows):
    """An entry of a trial's research log. Key: log_id. `patient_id` is null where it is about no participant."""

    log_id = dy.Int64(primary_key=True)
    trial_id = dy.String(nullable=False)
    patient_id = dy.Int64(nullable=True)
    logged_at = utc()
    event_date = dy.Date(nullable=False)
    site = dy.String(nullable=True)
    kind = dy.String(nullable=True)
    message = dy.String(nullable=True)


class Documents(SilverRows):
    """A document or an image as it stands in its folder. Key: path.

    `patient_id` is the DICOM header's or, without one, the number of a folder ``patient-…`` in the path.
    """

    path = dy.String(primary_key=True)
    kind = dy.String(nullable=False)
    patient_id = dy.Int64(nullable=True)
    size_bytes = dy.Int64(nullable=False)
    modified_at = utc()
    sha256 = dy.String(nullable=False)
    content_copy = dy.String(nullable=True)
    is_dicom = dy.Bool(nullable=False)
    modality = dy.String(nullable=True)
    body_part = dy.String(nullable=True)
    studied_on = dy.Date(nullable=True)
    study_uid = dy.String(nullable=True)
    instance_uid = dy.String(nullable=True)
    pixel_rows = dy.Int64(nullable=True)
    pixel_columns = dy.Int64(nullable=True)


class DeviceEvents(SilverRows):
    """An event that a device reported, or an alert that it raised. Key: event_id, device_id."""

    event_id = dy.String(primary_key=True)
    device_id = dy.Int64(primary_key=True)
    occurred_at = utc()
    event_date = dy.Date(nullable=False)
    kind = dy.String(nullable=False)
    severity = dy.String(nullable=True)
    patient_id = dy.Int64(nullable=True)
    value = dy.Float64(nullable=True)
    message = dy.String(nullable=True)


class PatientMonitoring(dy.Schema):
    """A patient's readings of a day. Key: patient_id, event_date.

    The figures are over all kinds of reading of the day; where `kind_count` is more than 1, look at
    `gold.patient_monitoring_by_kind`.
    """

    patient_id = dy.Int64(primary_key=True)
    event_date = dy.Date(primary_key=True)
    avg_reading = dy.Float64(nullable=False)
    min_reading = dy.Float64(nullable=False)
    max_reading = dy.Float64(nullable=False)
    event_count = _count()
    outlier_count = _count()
    kind_count = _count()


class PatientMonitoringByKind(dy.Schema):
    """A patient's readings of one kind of a day. Key: patient_id, event_date, kind."""

    patient_id = dy.Int64(primary_key=True)
    event_date = dy.Date(primary_key=True)
    kind = dy.String(primary_key=True)
    avg_reading = dy.Float64(nullable=False)
    min_reading = dy.Float64(nullable=False)
    max_reading = dy.Float64(nullable=False)
    event_count = _count()
    outlier_count = _count()


class TrialSummary(dy.Schema):
    """A trial, how far its enrolment is, and what its log holds. Key: trial_id."""

    trial_id = dy.String(primary_key=True)
    title = dy.String(nullable=True)
    condition = dy.String(nullable=True)
    phase = dy.String(nullable=True)
    status = dy.String(nullable=True)
    enrolled = dy.Int64(nullable=True)
    target_enrolment = dy.Int64(nullable=True)
    enrolled_share = dy.Float64(nullable=True)
    site_count = _count()
    log_count = _count()
    adverse_log_count = _count()
    last_logged_at = utc(nullable=True)


class DocumentIndex(dy.Schema):
    """A document, and how many others have the same content. Key: path."""

    path = dy.String(primary_key=True)
    kind = dy.String(nullable=False)
    patient_id = dy.Int64(nullable=True)
    size_bytes = dy.Int64(nullable=False)
    modified_at = utc()
    sha256 = dy.String(nullable=False)
    is_dicom = dy.Bool(nullable=False)
    modality = dy.String(nullable=True)
    studied_on = dy.Date(nullable=True)
    study_uid = dy.String(nullable=True)
    same_content_count = _count()


class DevicePerformance(dy.Schema):
    """What a device reported on a day. Key: device_id, event_date. Null where it said nothing of the kind."""

    device_id = dy.Int64(primary_key=True)
    event_date = dy.Date(primary_key=True)
    event_count = _count()
    alert_count = _count()
    error_count = _count()
    telemetry_count = _count()
    offline_count = _count()
    battery_min_percent = dy.Float64(nullable=True)
    battery_last_percent = dy.Float64(nullable=True)
    signal_mean_dbm = dy.Float64(nullable=True)
    last_seen_at = utc()


PATIENT_MONITORING = Table("gold/patient_monitoring", PatientMonitoring, ("event_date",))
PATIENT_MONITORING_BY_KIND = Table("gold/patient_monitoring_by_kind", PatientMonitoringByKind, ("event_date",))
TRIAL_SUMMARY = Table("gold/trial_summary", TrialSummary)
DOCUMENT_INDEX = Table("gold/document_index", DocumentIndex)
DEVICE_PERFORMANCE = Table("gold/device_performance", DevicePerformance, ("event_date",))
