"""The tables of the transactional store, with the names that the original platform gave them. Pure declarations.

Instants are in UTC and have no zone. Columns that the original did not have stand behind its own. Tables that are
filled from the lake refer to each other by ids, but no constraint refuses a reading whose patient or device is not
known: readings and reference data come by different ways, and neither waits for the other.
"""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

import polars as pl
from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Date,
    DateTime,
    Double,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    Unicode,
    UniqueConstraint,
)
from sqlalchemy.dialects import mssql, mysql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeEngine

_MYSQL = ("mysql", "mariadb")
# SQLAlchemy declares no types of its arguments.
_datetime2: Any = mssql.DATETIME2
INSTANT = DateTime().with_variant(mysql.DATETIME(fsp=6), *_MYSQL).with_variant(_datetime2(precision=6), "mssql")
"""An instant in UTC, to the microsecond."""
EDIT_INSTANT = DateTime().with_variant(mysql.TIMESTAMP(fsp=6), *_MYSQL).with_variant(_datetime2(precision=6), "mssql")
"""The same where the database sets it. MySQL does so by the session's zone, which a TIMESTAMP takes into account."""
WORDS = Text().with_variant(mysql.LONGTEXT(charset="utf8mb4"), *_MYSQL).with_variant(mssql.NVARCHAR(), "mssql")
"""A text of any length: one that is too long for its column would stop the sync."""
NUMBER = BigInteger().with_variant(Integer(), "sqlite")
"""A number that the database gives; SQLite gives them to this type alone."""
KEY_CHARACTERS = 191
"""The length of texts that are part of an index."""
KEY = Unicode(KEY_CHARACTERS).with_variant(mysql.VARCHAR(KEY_CHARACTERS, collation="utf8mb4_bin"), *_MYSQL)
"""A text that is compared letter by letter."""
CODE = Unicode(64).with_variant(mysql.VARCHAR(64, charset="utf8mb4"), *_MYSQL)
"""A short text of the system's own words."""

NO_DEVICE = -1
"""What stands for a device that is not known where a key needs a value."""
INGEST_DATE, GENERATION, EDITED_AT = "ingest_date", "sync_generation", "edited_at"


class edit_instant(ColumnElement[datetime]):
    """The default of `edited_at`: the time of day in UTC; MySQL also sets it when a row changes."""

    inherit_cache = True


@compiles(edit_instant)
@compiles(edit_instant, "sqlite")
def _of_sqlite(*_: Any, **__: Any) -> str:
    return "(strftime('%Y-%m-%d %H:%M:%f', 'now') || '000')"


@compiles(edit_instant, "mysql")
@compiles(edit_instant, "mariadb")
def _of_mysql(*_: Any, **__: Any) -> str:
    return "CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6)"


@compiles(edit_instant, "mssql")
def _of_sql_server(*_: Any, **__: Any) -> str:
    return "SYSUTCDATETIME()"


class Base(DeclarativeBase):
    """The tables of the store."""


def _numbered() -> Mapped[int]:
    return mapped_column(NUMBER, primary_key=True, autoincrement=True)


def _given() -> Mapped[int]:
    """A key that is not made here."""
    return mapped_column(BigInteger, primary_key=True, autoincrement=False)


def _ingest_date() -> Mapped[date]:
    """The ingest date of the lake's row, by which rows are replaced and compared."""
    return mapped_column(Date, index=True)


def _generation() -> Mapped[int]:
    """Which filling of the table wrote the row last, so that what a new one does not have can be removed."""
    return mapped_column(BigInteger)


def _edited_at() -> Mapped[datetime]:
    return mapped_column(EDIT_INSTANT, server_default=edit_instant())


class Patient(Base):
    """One patient, as reference data say it now. Rows may be edited."""

    __tablename__ = "Patient"

    patient_id: Mapped[int] = _given()
    full_name: Mapped[str | None] = mapped_column(WORDS)
    date_of_birth: Mapped[date | None]
    address: Mapped[str | None] = mapped_column(WORDS)
    gender: Mapped[str | None] = mapped_column(CODE)
    contact_number: Mapped[str | None] = mapped_column(WORDS)
    time_zone: Mapped[str | None] = mapped_column(CODE)
    patient_groups: Mapped[str | None] = mapped_column(WORDS)
    care_team: Mapped[str | None] = mapped_column(WORDS)
    edited_at: Mapped[datetime] = _edited_at()


class Manufacturer(Base):
    """One manufacturer of devices, as reference data say it now. Rows may be edited."""

    __tablename__ = "Manufacturer"

    manufacturer_id: Mapped[int] = _given()
    manufacturer_name: Mapped[str | None] = mapped_column(WORDS)
    manufacturer_address: Mapped[str | None] = mapped_column(WORDS)
    manufacturer_contact: Mapped[str | None] = mapped_column(WORDS)
    edited_at: Mapped[datetime] = _edited_at()


class DeviceStaticInfo(Base):
    """One device, as reference data say it now. Rows may be edited.

    `manufacturer_id` is null where no row of `Manufacturer` has the name that reference data give. `patient_id` is who
    wears it, `uploader` what sends its readings.
    """

    __tablename__ = "DeviceStaticInfo"

    device_id: Mapped[int] = _given()
    manufacturer_id: Mapped[int | None] = mapped_column(BigInteger, index=True)
    model: Mapped[str | None] = mapped_column(WORDS)
    purchase_date: Mapped[date | None]
    warranty_expiry: Mapped[date | None]
    patient_id: Mapped[int | None] = mapped_column(BigInteger)
    uploader: Mapped[str | None] = mapped_column(WORDS)
    edited_at: Mapped[datetime] = _edited_at()


class Subscriber(Base):
    """One who can be told of alarms, as reference data say it now. Rows may be edited.

    `contact_details` are names of secrets with semicolons between them, never an address itself.
    """

    __tablename__ = "Subscriber"

    subscriber_id: Mapped[int] = _given()
    name: Mapped[str | None] = mapped_column(WORDS)
    type: Mapped[str | None] = mapped_column(CODE)
    contact_details: Mapped[str | None] = mapped_column(WORDS)
    language: Mapped[str | None] = mapped_column(CODE)
    time_zone: Mapped[str | None] = mapped_column(CODE)
    quiet_from: Mapped[str | None] = mapped_column(CODE)
    quiet_to: Mapped[str | None] = mapped_column(CODE)
    edited_at: Mapped[datetime] = _edited_at()


class SubscribedPatients(Base):
    """Of whom a subscriber is told, as reference data say it now: of a patient, or of a group. Rows may be edited."""

    __tablename__ = "SubscribedPatients"

    subscription_id: Mapped[int] = _numbered()
    subscriber_id: Mapped[int] = mapped_column(BigInteger, index=True)
    patient_id: Mapped[int | None] = mapped_column(BigInteger, index=True)
    group_name: Mapped[str | None] = mapped_column(WORDS)
    tier: Mapped[int] = mapped_column(BigInteger, server_default="0")
    minimum_severity: Mapped[str] = mapped_column(CODE, server_default="warning")
    transitions: Mapped[str | None] = mapped_column(WORDS)
    edited_at: Mapped[datetime] = _edited_at()


class GlucoseReadings(Base):
    """One glucose measurement of one patient in mg/dL, at `timestamp` in UTC."""

    __tablename__ = "GlucoseReadings"
    __table_args__ = (
        UniqueConstraint("patient_id", "device_id", "timestamp", name="uq_GlucoseReadings"),
        Index("ix_GlucoseReadings_timestamp", "timestamp"),
    )

    reading_id: Mapped[int] = _numbered()
    patient_id: Mapped[int] = mapped_column(BigInteger)
    device_id: Mapped[int] = mapped_column(BigInteger)
    glucose_level: Mapped[float] = mapped_column(Double)
    timestamp: Mapped[datetime] = mapped_column(INSTANT)
    location: Mapped[str | None] = mapped_column(WORDS)
    range_flag: Mapped[str | None] = mapped_column(CODE)
    ingest_date: Mapped[date] = _ingest_date()
    sync_generation: Mapped[int] = _generation()


class DeviceOperationalData(Base):
    """One self-report of one device, at `timestamp` in UTC."""

    __tablename__ = "DeviceOperationalData"
    __table_args__ = (
        UniqueConstraint("device_id", "timestamp", name="uq_DeviceOperationalData"),
        Index("ix_DeviceOperationalData_timestamp", "timestamp"),
    )

    data_id: Mapped[int] = _numbered()
    device_id: Mapped[int] = mapped_column(BigInteger)
    timestamp: Mapped[datetime] = mapped_column(INSTANT)
    battery_level: Mapped[float] = mapped_column(Double)
    firmware_version: Mapped[str] = mapped_column(WORDS)
    connectivity_status: Mapped[str] = mapped_column(WORDS)
    error_codes: Mapped[str] = mapped_column(WORDS)
    ingest_date: Mapped[date] = _ingest_date()
    sync_generation: Mapped[int] = _generation()


class PatientStatus(Base):
    """Vital signs of one patient at `timestamp` in UTC, with what the rules say of them.

    `high_…` and `alert` say which rules the reading broke, `alert_occurrence` is 1 where an alert begins. `device_id`
    is -1 where no device is known.
    """

    __tablename__ = "patient_status"
    __table_args__ = (
        # Two devices of a patient may measure at one instant.
        UniqueConstraint("patient_id", "timestamp", "device_id", name="uq_patient_status"),
        Index("ix_patient_status_timestamp", "timestamp"),
    )

    id: Mapped[int] = _numbered()
    patient_id: Mapped[int] = mapped_column(BigInteger)
    timestamp: Mapped[datetime] = mapped_column(INSTANT)
    heart_rate: Mapped[float | None] = mapped_column(Double)
    systolic_bp: Mapped[float | None] = mapped_column(Double)
    diastolic_bp: Mapped[float | None] = mapped_column(Double)
    glucose_level: Mapped[float | None] = mapped_column(Double)
    spo2: Mapped[float | None] = mapped_column(Double)
    temperature: Mapped[float | None] = mapped_column(Double)
    respiratory_rate: Mapped[float | None] = mapped_column(Double)
    high_heart_rate: Mapped[bool]
    high_bp: Mapped[bool]
    high_glucose: Mapped[bool]
    alert: Mapped[bool]
    alert_occurrence: Mapped[int] = mapped_column(BigInteger)
    sport_mode: Mapped[bool | None]
    device_id: Mapped[int] = mapped_column(BigInteger)
    ingest_date: Mapped[date] = _ingest_date()
    sync_generation: Mapped[int] = _generation()


class PatientAdverseEventReport(Base):
    """One distinct combination of a reaction and a drug of a safety report in its current version.

    The first nine columns are the original's. `report_key` is a digest of the five that tell rows apart: they may be
    null, and longer than an index takes.
    """

    __tablename__ = "PatientAdverseEventReport"
    __table_args__ = (UniqueConstraint("report_key", name="uq_PatientAdverseEventReport"),)

    safetyreportid: Mapped[str] = mapped_column(KEY, index=True)
    transmissiondate_converted: Mapped[date | None]
    patientonsetage: Mapped[int | None] = mapped_column(BigInteger)
    patientsex: Mapped[int | None] = mapped_column(BigInteger)
    reactionmeddrapt: Mapped[str | None] = mapped_column(WORDS)
    drug_name: Mapped[str | None] = mapped_column(WORDS)
    drug_characterization: Mapped[int | None] = mapped_column(BigInteger)
    drug_indication: Mapped[str | None] = mapped_column(WORDS)
    is_overdose: Mapped[bool]
    patientonsetageunit: Mapped[int | None] = mapped_column(BigInteger)
    age_years: Mapped[float | None] = mapped_column(Double)
    serious: Mapped[bool | None]
    safetyreportversion: Mapped[int | None] = mapped_column(BigInteger)
    row_id: Mapped[int] = _numbered()
    report_key: Mapped[str] = mapped_column(CODE)
    ingest_date: Mapped[date] = _ingest_date()
    sync_generation: Mapped[int] = _generation()


class Alerts(Base):
    """One alarm of one patient or device, as it stands after its last transition.

    `timestamp` is the instant at which it was raised, `reading_id` the row of `GlucoseReadings` that raised it, where
    there is one. `state` is open, acknowledged, snoozed, cleared or closed; `severity` and the values in `message` are
    those of the last transition, `transition_index` is its number.
    """

    __tablename__ = "Alerts"
    __table_args__ = (
        Index("ix_Alerts_patient", "patient_id", "timestamp"),
        Index("ix_Alerts_state", "state"),
    )

    alert_id: Mapped[str] = mapped_column(CODE, primary_key=True)
    patient_id: Mapped[int | None] = mapped_column(BigInteger)
    reading_id: Mapped[int | None] = mapped_column(BigInteger)
    alert_type: Mapped[str] = mapped_column(WORDS)
    message: Mapped[str] = mapped_column(WORDS)
    timestamp: Mapped[datetime] = mapped_column(INSTANT)
    severity: Mapped[str] = mapped_column(CODE)
    state: Mapped[str] = mapped_column(CODE)
    device_id: Mapped[int | None] = mapped_column(BigInteger)
    stream: Mapped[str] = mapped_column(CODE)
    is_late: Mapped[bool]
    transition_index: Mapped[int] = mapped_column(BigInteger)
    ingest_date: Mapped[date] = _ingest_date()
    sync_generation: Mapped[int] = _generation()


class AlertLifecycle(Base):
    """One transition of an alarm: what happened to it, when, and who did it if somebody did.

    `actor` is who did it, and `action_by_user_id` the same where it is the id of a subscriber.
    """

    __tablename__ = "AlertLifecycle"
    __table_args__ = (UniqueConstraint("alert_id", "transition_index", name="uq_AlertLifecycle"),)

    lifecycle_id: Mapped[int] = _numbered()
    alert_id: Mapped[str] = mapped_column(CODE, ForeignKey("Alerts.alert_id", ondelete="CASCADE"))
    action_by_user_id: Mapped[int | None] = mapped_column(BigInteger)
    action_type: Mapped[str] = mapped_column(CODE)
    action_note: Mapped[str | None] = mapped_column(WORDS)
    action_timestamp: Mapped[datetime] = mapped_column(INSTANT)
    transition_index: Mapped[int] = mapped_column(BigInteger)
    actor: Mapped[str | None] = mapped_column(WORDS)
    ingest_date: Mapped[date] = _ingest_date()
    sync_generation: Mapped[int] = _generation()


class SyncState(Base):
    """How far one table of the store has come. It is written in one transaction with the table's rows."""

    __tablename__ = "sync_state"

    table_name: Mapped[str] = mapped_column(KEY, primary_key=True)
    delta_id: Mapped[str] = mapped_column(CODE)
    version: Mapped[int] = mapped_column(BigInteger)
    offsets: Mapped[str] = mapped_column(WORDS)
    replaced: Mapped[str] = mapped_column(WORDS)
    generation: Mapped[int] = mapped_column(BigInteger)
    is_filling: Mapped[bool]
    kept_from: Mapped[date | None]
    newest_ingest_date: Mapped[date | None]
    rows_written: Mapped[int] = mapped_column(BigInteger)
    serial: Mapped[int] = mapped_column(BigInteger)
    synced_at: Mapped[datetime] = mapped_column(INSTANT)
    problem: Mapped[str | None] = mapped_column(WORDS)


class SyncReference(Base):
    """What the sync wrote last into a table that may be edited: a row that says another `edited_at` was edited."""

    __tablename__ = "sync_reference"

    table_name: Mapped[str] = mapped_column(KEY, primary_key=True)
    row_key: Mapped[int] = _given()
    edited_at: Mapped[datetime] = mapped_column(INSTANT)
    known_at: Mapped[datetime] = mapped_column(INSTANT)


class SyncVersion(Base):
    """Which version of a thing with versions a table of the store has, as a text that orders them."""

    __tablename__ = "sync_version"

    table_name: Mapped[str] = mapped_column(KEY, primary_key=True)
    entity: Mapped[str] = mapped_column(KEY, primary_key=True)
    version_key: Mapped[str] = mapped_column(KEY)
    ingest_date: Mapped[date]
    sync_generation: Mapped[int] = _generation()


class Notification(Base):
    """One transition of an alarm that one subscriber is told by one channel. It is sent once.

    `kind` is what happened. It is part of the key, as the severity is: after a crash the transition of a number may be
    decided otherwise, and then it is told too. `decision` is 0, or how often the same was decided before, with another
    one told in between. `channel` is the name of a secret, never an address. `details` is the transition as JSON.
    `state` is waiting, failed (tried, and tried again), sent, given_up or suppressed, with the `reason`. Rows with one
    `message_id` were one message. `problem` is what the channel said last, without any secret.
    """

    __tablename__ = "notification"
    __table_args__ = (
        UniqueConstraint(
            "alarm_id",
            "transition_index",
            "kind",
            "severity_rank",
            "subscriber_id",
            "channel",
            "decision",
            name="uq_notification_decision",
        ),
        Index("ix_notification_channel", "channel", "state"),
        Index("ix_notification_state", "state", "created_at"),
    )

    notification_id: Mapped[int] = _numbered()
    alarm_id: Mapped[str] = mapped_column(CODE)
    transition_index: Mapped[int] = mapped_column(BigInteger)
    kind: Mapped[str] = mapped_column(CODE)
    subscriber_id: Mapped[int] = mapped_column(BigInteger)
    channel: Mapped[str] = mapped_column(KEY)
    decision: Mapped[int] = mapped_column(BigInteger, server_default="0")
    details: Mapped[str] = mapped_column(WORDS)
    severity_rank: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(CODE)
    reason: Mapped[str | None] = mapped_column(CODE)
    attempts: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(INSTANT)
    next_attempt_at: Mapped[datetime | None] = mapped_column(INSTANT)
    give_up_at: Mapped[datetime] = mapped_column(INSTANT)
    ended_at: Mapped[datetime | None] = mapped_column(INSTANT)
    message_id: Mapped[str | None] = mapped_column(CODE)
    problem: Mapped[str | None] = mapped_column(WORDS)


EDITABLE: Sequence[str] = ("Patient", "Manufacturer", "DeviceStaticInfo", "Subscriber", "SubscribedPatients")
"""Tables whose rows people may edit; the sync takes what they wrote to reference data."""

VIEWS = {
    "patient_status_latest": (
        "SELECT s.* FROM patient_status s JOIN (SELECT patient_id, MAX({timestamp}) AS newest FROM patient_status "
        "GROUP BY patient_id) n ON s.patient_id = n.patient_id AND s.{timestamp} = n.newest WHERE NOT EXISTS (SELECT 1 "
        "FROM patient_status o WHERE o.patient_id = s.patient_id AND o.{timestamp} = s.{timestamp} AND o.device_id > "
        "s.device_id)"
    ),
    "SeriousPatientAdverseEventReport": "SELECT * FROM {report} WHERE serious = {true}",
}
"""The newest row of each patient, and what the original platform kept of safety reports."""


def view_statements(dialect: str) -> list[str]:
    """The statements that make the views."""
    names = {"timestamp": "timestamp", "report": "PatientAdverseEventReport", "true": "1"}
    if dialect == "mssql":
        names["timestamp"] = "[timestamp]"
    quote = "[{}]" if dialect == "mssql" else "`{}`" if dialect in _MYSQL else '"{}"'
    return [f"CREATE VIEW {quote.format(name)} AS {select.format(**names)}" for name, select in VIEWS.items()]


def edit_trigger(dialect: str, table: str, key: str) -> str | None:
    """The statement that makes a trigger which sets `edited_at`; None where the column does so by itself."""
    if dialect == "sqlite":
        return (
            f'CREATE TRIGGER "{table}_edited" AFTER UPDATE ON "{table}" FOR EACH ROW WHEN NEW.{EDITED_AT} IS '
            f'OLD.{EDITED_AT} BEGIN UPDATE "{table}" SET {EDITED_AT} = {_of_sqlite()} WHERE {key} = NEW.{key}; END'
        )
    if dialect == "mssql":
        return (
            f"CREATE TRIGGER [{table}_edited] ON [{table}] AFTER UPDATE AS IF NOT UPDATE({EDITED_AT}) UPDATE t SET "
            f"{EDITED_AT} = SYSUTCDATETIME() FROM [{table}] t JOIN inserted i ON t.{key} = i.{key}"
        )
    return None


def key_of(table: Table) -> str:
    """The one column of the primary key."""
    [column] = table.primary_key.columns
    return str(column.name)


def polars_schema(table: Table) -> pl.Schema:
    """The types of a table's columns in frames."""
    return pl.Schema({column.name: _polars_type(column.type) for column in table.columns})


def _polars_type(found: TypeEngine[Any]) -> pl.DataType:
    kinds: list[tuple[type[TypeEngine[Any]], pl.DataType]] = [
        (Boolean, pl.Boolean()),
        (Integer, pl.Int64()),
        (Double, pl.Float64()),
        (DateTime, pl.Datetime("us")),
        (Date, pl.Date()),
        (String, pl.String()),
    ]
    return next(type_ for kind, type_ in kinds if isinstance(found, kind))
