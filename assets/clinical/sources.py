"""The clinical sources, a few lines each, and the gold tables that are made of them. Pure declarations."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import polars as pl

from assets.clinical import gold, silver, tables
from assets.clinical.contract import QUARANTINED_LOADS, Batch, Enrichment
from resources.batch_source import UNREADABLE, Documents, Items, RestPath, SqlTable
from resources.table import Table, View

TEXT, WHOLE, NUMBER, FLAG = pl.String(), pl.Int64(), pl.Float64(), pl.Boolean()


def _columns(type_: pl.DataType, names: str) -> dict[str, pl.DataType]:
    return dict.fromkeys(names.split(), type_)


EHR = Batch(
    "ehr",
    "A reading in a patient's record.",
    "ehr_url",
    SqlTable("EHR", "updated_at", "dbo"),
    _columns(WHOLE, "id patient_id device_id")
    | _columns(TEXT, "timestamp kind unit note updated_at")
    | _columns(NUMBER, "reading"),
    ("patient_id", "timestamp", "reading"),
    tables.Ehr,
    ("patient_id", "measured_at"),
    silver.read_ehr,
    enrich=Enrichment(
        "telemetry",
        silver.OUTLIER_DAYS,
        2,
        (
            "telemetry_at",
            "telemetry_age_s",
            "device_status",
            "battery_percent",
            "signal_dbm",
            "firmware_version",
            "robust_z",
            "is_outlier",
        ),
        silver.enrich_ehr,
    ),
)
EHR_PATIENTS = Batch(
    "ehr_patients",
    "A patient of the hospital.",
    "ehr_url",
    SqlTable("patients", "updated_at", "dbo"),
    _columns(WHOLE, "patient_id") | _columns(TEXT, "full_name date_of_birth gender updated_at"),
    ("patient_id",),
    tables.EhrPatients,
    ("patient_id",),
    silver.read_patients,
)
EHR_ENCOUNTERS = Batch(
    "ehr_encounters",
    "A stay or a visit of a patient.",
    "ehr_url",
    SqlTable("encounters", "updated_at", "dbo"),
    _columns(WHOLE, "encounter_id patient_id") | _columns(TEXT, "kind department admitted_at discharged_at updated_at"),
    ("encounter_id", "patient_id", "admitted_at"),
    tables.EhrEncounters,
    ("encounter_id",),
    silver.read_encounters,
)
EHR_MEDICATIONS = Batch(
    "ehr_medications",
    "A drug that a patient takes or took.",
    "ehr_url",
    SqlTable("medications", "updated_at", "dbo"),
    _columns(WHOLE, "medication_id patient_id") | _columns(TEXT, "drug_name dose started_on ended_on updated_at"),
    ("medication_id", "patient_id", "drug_name"),
    tables.EhrMedications,
    ("medication_id",),
    silver.read_medications,
)
TELEMETRY = Batch(
    "telemetry",
    "What a device said of itself.",
    "telemetry_url",
    RestPath("/telemetry", "received_at"),
    _columns(WHOLE, "id device_id")
    | _columns(TEXT, f"recorded_at received_at device_status firmware_version {UNREADABLE}")
    | _columns(NUMBER, "battery_percent signal_dbm"),
    ("device_id", "recorded_at"),
    tables.Telemetry,
    ("device_id", "measured_at"),
    silver.read_telemetry,
    phi=False,
)
TRIALS = Batch(
    "trials",
    "A clinical trial.",
    "trials_url",
    SqlTable("ClinicalTrials", "updated_at", "dbo"),
    _columns(TEXT, "trial_id title condition phase status started_on updated_at")
    | _columns(WHOLE, "enrolled target_enrolment"),
    ("trial_id",),
    tables.Trials,
    ("trial_id",),
    silver.read_trials,
    phi=False,
)
TRIAL_LOGS = Batch(
    "trial_logs",
    "An entry of a trial's research log.",
    "trials_url",
    SqlTable("ResearchLogs", "logged_at", "dbo"),
    _columns(WHOLE, "log_id patient_id") | _columns(TEXT, "trial_id logged_at site kind message"),
    ("log_id", "trial_id", "logged_at"),
    tables.TrialLogs,
    ("log_id",),
    silver.read_trial_logs,
)
DOCUMENTS = Batch(
    "documents",
    "A document or a medical image in its folder.",
    "documents_url",
    Documents(),
    _columns(
        TEXT,
        "path modified_at sha256 content_copy dicom_patient_id dicom_study_date dicom_modality dicom_body_part "
        "dicom_study_uid dicom_instance_uid dicom_manufacturer problem",
    )
    | _columns(WHOLE, "size_bytes dicom_rows dicom_columns")
    | _columns(FLAG, "is_dicom"),
    ("path",),
    tables.Documents,
    ("path",),
    silver.read_documents,
)
DEVICE_EVENTS = Batch(
    "device_events",
    "An event or an alert that a device reported.",
    "device_events_url",
    Items(),
    _columns(TEXT, f"id occurred_at kind severity message {UNREADABLE}")
    | _columns(WHOLE, "device_id patient_id")
    | _columns(NUMBER, "value"),
    ("id", "device_id", "occurred_at", "kind"),
    tables.DeviceEvents,
    ("event_id", "device_id"),
    silver.read_device_events,
)

SOURCES = (
    TELEMETRY,
    EHR,
    EHR_PATIENTS,
    EHR_ENCOUNTERS,
    EHR_MEDICATIONS,
    TRIALS,
    TRIAL_LOGS,
    DOCUMENTS,
    DEVICE_EVENTS,
)


def source(name: str) -> Batch:
    """The source of a name."""
    return next(each for each in SOURCES if each.name == name)


@dataclass(frozen=True)
class Derived:
    """A gold table.

    Attributes:
        table: partitioned by event date, or made as a whole.
        sources: what it is made of.
        make: makes its rows from silver rows by the source's name; of a table by event date, all of some dates.
        phi: whether it is data of patients.
    """

    table: Table
    sources: tuple[Batch, ...]
    make: Callable[[Mapping[str, pl.DataFrame]], pl.DataFrame]
    phi: bool = True

    @property
    def is_by_date(self) -> bool:
        """Whether each event date is made of the rows of that date alone."""
        return bool(self.table.partition_by)


GOLD = (
    Derived(tables.PATIENT_MONITORING, (EHR,), gold.patient_monitoring),
    Derived(tables.PATIENT_MONITORING_BY_KIND, (EHR,), gold.patient_monitoring_by_kind),
    Derived(tables.TRIAL_SUMMARY, (TRIALS, TRIAL_LOGS), gold.trial_summary, phi=False),
    Derived(tables.DOCUMENT_INDEX, (DOCUMENTS,), gold.document_index),
    Derived(tables.DEVICE_PERFORMANCE, (DEVICE_EVENTS, TELEMETRY), gold.device_performance, phi=False),
)


def clinical_tables() -> list[Table]:
    """All tables of the clinical sources."""
    of_sources = [table for each in SOURCES for table in (each.bronze, each.silver, each.quarantine, each.state)]
    return [*of_sources, QUARANTINED_LOADS, *(each.table for each in GOLD)]


def _loads_of(batch: Batch) -> str:
    """The loads of a source that bronze has. One that was killed is followed by none."""
    state, quarantine = batch.state.sql_name, batch.quarantine.sql_name
    return f"""
        SELECT
            '{batch.name}' AS source, load_id, load_date, loaded_at, landed_as, "rows" AS row_count,
            coalesce(quarantined, 0) AS quarantined_count, reasons, false AS is_rejected
        FROM {state} AS loads
        LEFT JOIN (
            SELECT load_number, count(*) AS quarantined, string_agg(DISTINCT reason, '; ' ORDER BY reason) AS reasons
            FROM {quarantine} GROUP BY load_number
        ) AS bad ON bad.load_number = loads.run_number
        WHERE load_id IS NOT NULL AND (
            run_number IN (SELECT follows FROM {state}) OR run_number = (SELECT max(run_number) FROM {state})
        )
    """


LOADS = View(
    "audit/clinical_loads",
    "A load of a clinical source: what was landed, how many of its rows are quarantined and why, and whether it was "
    "rejected as a whole. The newest load of a source may still be on its way into bronze.",
    [*(table for each in SOURCES for table in (each.state, each.quarantine)), QUARANTINED_LOADS],
    " UNION ALL ".join(map(_loads_of, SOURCES))
    + f"""
        UNION ALL
        SELECT source, load_id, load_date, loaded_at, landed_as, "rows", "rows", reason, true
        FROM {QUARANTINED_LOADS.sql_name}
    """,
)
