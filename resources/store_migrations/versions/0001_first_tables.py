"""The first tables, their views, and the triggers that note edits."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from resources.store_migrations.steps import create_table
from resources.store_tables import (
    CODE,
    EDIT_INSTANT,
    EDITABLE,
    INSTANT,
    KEY,
    NUMBER,
    VIEWS,
    WORDS,
    edit_instant,
    edit_trigger,
    view_statements,
)

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_KEYS = {
    "Patient": "patient_id",
    "Manufacturer": "manufacturer_id",
    "DeviceStaticInfo": "device_id",
    "Subscriber": "subscriber_id",
    "SubscribedPatients": "subscription_id",
}


def upgrade() -> None:
    """Creates what is not there: MySQL commits each statement, and this may have been interrupted."""
    create_table(
        "Alerts",
        sa.Column("alert_id", CODE, nullable=False),
        sa.Column("patient_id", sa.BigInteger(), nullable=True),
        sa.Column("reading_id", sa.BigInteger(), nullable=True),
        sa.Column("alert_type", WORDS, nullable=False),
        sa.Column("message", WORDS, nullable=False),
        sa.Column("timestamp", INSTANT, nullable=False),
        sa.Column("severity", CODE, nullable=False),
        sa.Column("state", CODE, nullable=False),
        sa.Column("device_id", sa.BigInteger(), nullable=True),
        sa.Column("stream", CODE, nullable=False),
        sa.Column("is_late", sa.Boolean(), nullable=False),
        sa.Column("transition_index", sa.BigInteger(), nullable=False),
        sa.Column("ingest_date", sa.Date(), nullable=False),
        sa.Column("sync_generation", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("alert_id"),
    )
    _index("ix_Alerts_ingest_date", "Alerts", ["ingest_date"])
    _index("ix_Alerts_patient", "Alerts", ["patient_id", "timestamp"])
    create_table(
        "DeviceOperationalData",
        sa.Column("data_id", NUMBER, autoincrement=True, nullable=False),
        sa.Column("device_id", sa.BigInteger(), nullable=False),
        sa.Column("timestamp", INSTANT, nullable=False),
        sa.Column("battery_level", sa.Double(), nullable=False),
        sa.Column("firmware_version", WORDS, nullable=False),
        sa.Column("connectivity_status", WORDS, nullable=False),
        sa.Column("error_codes", WORDS, nullable=False),
        sa.Column("ingest_date", sa.Date(), nullable=False),
        sa.Column("sync_generation", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("data_id"),
        sa.UniqueConstraint("device_id", "timestamp", name="uq_DeviceOperationalData"),
    )
    _index("ix_DeviceOperationalData_ingest_date", "DeviceOperationalData", ["ingest_date"])
    _index("ix_DeviceOperationalData_timestamp", "DeviceOperationalData", ["timestamp"])
    create_table(
        "DeviceStaticInfo",
        sa.Column("device_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("manufacturer_id", sa.BigInteger(), nullable=True),
        sa.Column("model", WORDS, nullable=True),
        sa.Column("purchase_date", sa.Date(), nullable=True),
        sa.Column("warranty_expiry", sa.Date(), nullable=True),
        sa.Column("patient_id", sa.BigInteger(), nullable=True),
        sa.Column("uploader", WORDS, nullable=True),
        sa.Column("edited_at", EDIT_INSTANT, server_default=edit_instant(), nullable=False),
        sa.PrimaryKeyConstraint("device_id"),
    )
    _index("ix_DeviceStaticInfo_manufacturer_id", "DeviceStaticInfo", ["manufacturer_id"])
    create_table(
        "GlucoseReadings",
        sa.Column("reading_id", NUMBER, autoincrement=True, nullable=False),
        sa.Column("patient_id", sa.BigInteger(), nullable=False),
        sa.Column("device_id", sa.BigInteger(), nullable=False),
        sa.Column("glucose_level", sa.Double(), nullable=False),
        sa.Column("timestamp", INSTANT, nullable=False),
        sa.Column("location", WORDS, nullable=True),
        sa.Column("range_flag", CODE, nullable=True),
        sa.Column("ingest_date", sa.Date(), nullable=False),
        sa.Column("sync_generation", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("reading_id"),
        sa.UniqueConstraint("patient_id", "device_id", "timestamp", name="uq_GlucoseReadings"),
    )
    _index("ix_GlucoseReadings_ingest_date", "GlucoseReadings", ["ingest_date"])
    _index("ix_GlucoseReadings_timestamp", "GlucoseReadings", ["timestamp"])
    create_table(
        "Manufacturer",
        sa.Column("manufacturer_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("manufacturer_name", WORDS, nullable=True),
        sa.Column("manufacturer_address", WORDS, nullable=True),
        sa.Column("manufacturer_contact", WORDS, nullable=True),
        sa.Column("edited_at", EDIT_INSTANT, server_default=edit_instant(), nullable=False),
        sa.PrimaryKeyConstraint("manufacturer_id"),
    )
    create_table(
        "Patient",
        sa.Column("patient_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("full_name", WORDS, nullable=True),
        sa.Column("date_of_birth", sa.Date(), nullable=True),
        sa.Column("address", WORDS, nullable=True),
        sa.Column("gender", CODE, nullable=True),
        sa.Column("contact_number", WORDS, nullable=True),
        sa.Column("time_zone", CODE, nullable=True),
        sa.Column("patient_groups", WORDS, nullable=True),
        sa.Column("care_team", WORDS, nullable=True),
        sa.Column("edited_at", EDIT_INSTANT, server_default=edit_instant(), nullable=False),
        sa.PrimaryKeyConstraint("patient_id"),
    )
    create_table(
        "PatientAdverseEventReport",
        sa.Column("safetyreportid", KEY, nullable=False),
        sa.Column("transmissiondate_converted", sa.Date(), nullable=True),
        sa.Column("patientonsetage", sa.BigInteger(), nullable=True),
        sa.Column("patientsex", sa.BigInteger(), nullable=True),
        sa.Column("reactionmeddrapt", WORDS, nullable=True),
        sa.Column("drug_name", WORDS, nullable=True),
        sa.Column("drug_characterization", sa.BigInteger(), nullable=True),
        sa.Column("drug_indication", WORDS, nullable=True),
        sa.Column("is_overdose", sa.Boolean(), nullable=False),
        sa.Column("patientonsetageunit", sa.BigInteger(), nullable=True),
        sa.Column("age_years", sa.Double(), nullable=True),
        sa.Column("serious", sa.Boolean(), nullable=True),
        sa.Column("safetyreportversion", sa.BigInteger(), nullable=True),
        sa.Column("row_id", NUMBER, autoincrement=True, nullable=False),
        sa.Column("report_key", CODE, nullable=False),
        sa.Column("ingest_date", sa.Date(), nullable=False),
        sa.Column("sync_generation", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("row_id"),
        sa.UniqueConstraint("report_key", name="uq_PatientAdverseEventReport"),
    )
    _index("ix_PatientAdverseEventReport_ingest_date", "PatientAdverseEventReport", ["ingest_date"])
    _index("ix_PatientAdverseEventReport_safetyreportid", "PatientAdverseEventReport", ["safetyreportid"])
    create_table(
        "SubscribedPatients",
        sa.Column("subscription_id", NUMBER, autoincrement=True, nullable=False),
        sa.Column("subscriber_id", sa.BigInteger(), nullable=False),
        sa.Column("patient_id", sa.BigInteger(), nullable=True),
        sa.Column("group_name", WORDS, nullable=True),
        sa.Column("tier", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("minimum_severity", CODE, server_default="warning", nullable=False),
        sa.Column("transitions", WORDS, nullable=True),
        sa.Column("edited_at", EDIT_INSTANT, server_default=edit_instant(), nullable=False),
        sa.PrimaryKeyConstraint("subscription_id"),
    )
    _index("ix_SubscribedPatients_patient_id", "SubscribedPatients", ["patient_id"])
    _index("ix_SubscribedPatients_subscriber_id", "SubscribedPatients", ["subscriber_id"])
    create_table(
        "Subscriber",
        sa.Column("subscriber_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("name", WORDS, nullable=True),
        sa.Column("type", CODE, nullable=True),
        sa.Column("contact_details", WORDS, nullable=True),
        sa.Column("language", CODE, nullable=True),
        sa.Column("time_zone", CODE, nullable=True),
        sa.Column("quiet_from", CODE, nullable=True),
        sa.Column("quiet_to", CODE, nullable=True),
        sa.Column("edited_at", EDIT_INSTANT, server_default=edit_instant(), nullable=False),
        sa.PrimaryKeyConstraint("subscriber_id"),
    )
    create_table(
        "patient_status",
        sa.Column("id", NUMBER, autoincrement=True, nullable=False),
        sa.Column("patient_id", sa.BigInteger(), nullable=False),
        sa.Column("timestamp", INSTANT, nullable=False),
        sa.Column("heart_rate", sa.Double(), nullable=True),
        sa.Column("systolic_bp", sa.Double(), nullable=True),
        sa.Column("diastolic_bp", sa.Double(), nullable=True),
        sa.Column("glucose_level", sa.Double(), nullable=True),
        sa.Column("spo2", sa.Double(), nullable=True),
        sa.Column("temperature", sa.Double(), nullable=True),
        sa.Column("respiratory_rate", sa.Double(), nullable=True),
        sa.Column("high_heart_rate", sa.Boolean(), nullable=False),
        sa.Column("high_bp", sa.Boolean(), nullable=False),
        sa.Column("high_glucose", sa.Boolean(), nullable=False),
        sa.Column("alert", sa.Boolean(), nullable=False),
        sa.Column("alert_occurrence", sa.BigInteger(), nullable=False),
        sa.Column("sport_mode", sa.Boolean(), nullable=True),
        sa.Column("device_id", sa.BigInteger(), nullable=False),
        sa.Column("ingest_date", sa.Date(), nullable=False),
        sa.Column("sync_generation", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("patient_id", "timestamp", "device_id", name="uq_patient_status"),
    )
    _index("ix_patient_status_ingest_date", "patient_status", ["ingest_date"])
    _index("ix_patient_status_timestamp", "patient_status", ["timestamp"])
    create_table(
        "sync_reference",
        sa.Column("table_name", KEY, nullable=False),
        sa.Column("row_key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("edited_at", INSTANT, nullable=False),
        sa.Column("known_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("table_name", "row_key"),
    )
    create_table(
        "sync_state",
        sa.Column("table_name", KEY, nullable=False),
        sa.Column("delta_id", CODE, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("offsets", WORDS, nullable=False),
        sa.Column("replaced", WORDS, nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("is_filling", sa.Boolean(), nullable=False),
        sa.Column("kept_from", sa.Date(), nullable=True),
        sa.Column("newest_ingest_date", sa.Date(), nullable=True),
        sa.Column("rows_written", sa.BigInteger(), nullable=False),
        sa.Column("serial", sa.BigInteger(), nullable=False),
        sa.Column("synced_at", INSTANT, nullable=False),
        sa.Column("problem", WORDS, nullable=True),
        sa.PrimaryKeyConstraint("table_name"),
    )
    create_table(
        "sync_version",
        sa.Column("table_name", KEY, nullable=False),
        sa.Column("entity", KEY, nullable=False),
        sa.Column("version_key", KEY, nullable=False),
        sa.Column("ingest_date", sa.Date(), nullable=False),
        sa.Column("sync_generation", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("table_name", "entity"),
    )
    create_table(
        "AlertLifecycle",
        sa.Column("lifecycle_id", NUMBER, autoincrement=True, nullable=False),
        sa.Column("alert_id", CODE, nullable=False),
        sa.Column("action_by_user_id", sa.BigInteger(), nullable=True),
        sa.Column("action_type", CODE, nullable=False),
        sa.Column("action_note", WORDS, nullable=True),
        sa.Column("action_timestamp", INSTANT, nullable=False),
        sa.Column("transition_index", sa.BigInteger(), nullable=False),
        sa.Column("actor", WORDS, nullable=True),
        sa.Column("ingest_date", sa.Date(), nullable=False),
        sa.Column("sync_generation", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["alert_id"], ["Alerts.alert_id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("lifecycle_id"),
        sa.UniqueConstraint("alert_id", "transition_index", name="uq_AlertLifecycle"),
    )
    _index("ix_AlertLifecycle_ingest_date", "AlertLifecycle", ["ingest_date"])
    dialect, quote = op.get_bind().dialect.name, op.get_bind().dialect.identifier_preparer.quote
    for table in EDITABLE:
        if trigger := edit_trigger(dialect, table, _KEYS[table]):
            op.execute(f"DROP TRIGGER IF EXISTS {quote(table + '_edited')}")
            op.execute(trigger)
    for name, statement in zip(VIEWS, view_statements(dialect), strict=True):
        op.execute(f"DROP VIEW IF EXISTS {quote(name)}")
        op.execute(statement)


def _index(name: str, table: str, columns: Sequence[str]) -> None:
    if name not in {each["name"] for each in sa.inspect(op.get_bind()).get_indexes(table)}:
        op.create_index(name, table, list(columns))
