"""The tables of reference data: their rows, and what a file that is loaded into one must look like. Pure declarations.

All of them are append-only and keep versions in two times; see `assets.bitemporal`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import dataframely as dy

from assets.bitemporal import VERSION_COLUMNS
from assets.reference import cells
from assets.reference.cells import Cell, CellError
from assets.stream.contract import utc
from resources.table import Table, View

GROUP = "reference"
GENDERS = ("female", "male", "other", "unknown")
SUBSCRIBER_TYPES = ("patient", "doctor", "caregiver", "app")
SEVERITIES = ("info", "warning", "urgent")
TRANSITIONS = (
    "raised",
    "worsened",
    "eased",
    "cleared",
    "acknowledged",
    "snoozed",
    "reminded",
    "escalated",
    "stale",
    "retracted",
)
FIRST_BIRTH = date(1900, 1, 1)

Row = Mapping[str, Any]
Wrong = tuple[str, CellError]
"""A column of a row, and what is wrong with its value beside those of other columns."""


class Patients(dy.Schema):
    """One version of what is known of a patient. Key: patient_id, valid_from, known_at.

    `valid_from` says from when the version holds, `known_at` when it was loaded. `time_zone` is the IANA name. `groups`
    are texts with semicolons between them. Where `is_deleted` is true, nothing holds from then on.
    """

    patient_id = dy.Int64(nullable=False)
    full_name = dy.String(nullable=True)
    date_of_birth = dy.Date(nullable=True)
    gender = dy.String(nullable=True)
    address = dy.String(nullable=True)
    contact_number = dy.String(nullable=True)
    time_zone = dy.String(nullable=True)
    groups = dy.String(nullable=True)
    care_team = dy.String(nullable=True)
    valid_from = utc()
    known_at = utc()
    is_deleted = dy.Bool(nullable=False)
    changed_by = dy.String(nullable=True)


class Devices(dy.Schema):
    """One version of what is known of a device. Key: device_id, valid_from, known_at.

    `patient_id` is who wears it, null while nobody does. `uploader` is what sends its readings. The last four columns
    are as in `reference.patients`.
    """

    device_id = dy.Int64(nullable=False)
    manufacturer = dy.String(nullable=True)
    model = dy.String(nullable=True)
    purchase_date = dy.Date(nullable=True)
    warranty_expiry = dy.Date(nullable=True)
    patient_id = dy.Int64(nullable=True)
    uploader = dy.String(nullable=True)
    valid_from = utc()
    known_at = utc()
    is_deleted = dy.Bool(nullable=False)
    changed_by = dy.String(nullable=True)


class Manufacturers(dy.Schema):
    """One version of what is known of a manufacturer of devices. Key: manufacturer_id, valid_from, known_at.

    `manufacturer_name` is what `reference.devices` calls it. The last four columns are as in `reference.patients`.
    """

    manufacturer_id = dy.Int64(nullable=False)
    manufacturer_name = dy.String(nullable=True)
    manufacturer_address = dy.String(nullable=True)
    manufacturer_contact = dy.String(nullable=True)
    valid_from = utc()
    known_at = utc()
    is_deleted = dy.Bool(nullable=False)
    changed_by = dy.String(nullable=True)


class Subscribers(dy.Schema):
    """One version of who can be told of alarms, and how. Key: subscriber_id, valid_from, known_at.

    `channels` are names of secrets with semicolons between them; the addresses themselves are kept elsewhere.
    `quiet_from` and `quiet_to` are times of day in `time_zone`, such as 22:00. The last four columns are as in
    `reference.patients`.
    """

    subscriber_id = dy.Int64(nullable=False)
    name = dy.String(nullable=True)
    type = dy.String(nullable=True)
    channels = dy.String(nullable=True)
    language = dy.String(nullable=True)
    time_zone = dy.String(nullable=True)
    quiet_from = dy.String(nullable=True)
    quiet_to = dy.String(nullable=True)
    valid_from = utc()
    known_at = utc()
    is_deleted = dy.Bool(nullable=False)
    changed_by = dy.String(nullable=True)


class Identity(dy.Schema):
    """One version of whom or what an id of another system stands for.

    Key: system, kind, foreign_id, valid_from, known_at.
    `kind` is patient or device. `patient_of_device` is who wears a device, for senders that name the device only.
    `zone` is the IANA zone of the wall-clock times that a connection or upload sends, which is a patient here. The last
    four columns are as in `reference.patients`.
    """

    system = dy.String(nullable=False)
    kind = dy.String(nullable=False)
    foreign_id = dy.String(nullable=False)
    pulselake_id = dy.Int64(nullable=True)
    patient_of_device = dy.Int64(nullable=True)
    zone = dy.String(nullable=True)
    valid_from = utc()
    known_at = utc()
    is_deleted = dy.Bool(nullable=False)
    changed_by = dy.String(nullable=True)


class Subscriptions(dy.Schema):
    """One version of what a subscriber is told of. Key: subscription_id, valid_from, known_at.

    `scope` is `patient:<id>` or `group:<name>`. Tier 0 is told first, 1 where nobody reacted, and so on. `transitions`
    are those that are told, with semicolons between them; null means raised, worsened, reminded, escalated and cleared.
    The last four columns are as in `reference.patients`.
    """

    subscription_id = dy.Int64(nullable=False)
    subscriber_id = dy.Int64(nullable=True)
    scope = dy.String(nullable=True)
    tier = dy.Int64(nullable=True)
    minimum_severity = dy.String(nullable=True)
    transitions = dy.String(nullable=True)
    valid_from = utc()
    known_at = utc()
    is_deleted = dy.Bool(nullable=False)
    changed_by = dy.String(nullable=True)


def _nothing_wrong(_: Row, __: date) -> Iterator[Wrong]:
    return iter(())


@dataclass(frozen=True, eq=False)
class Reference:
    """A table of reference data.

    Attributes:
        table: the table.
        keys: the columns that tell its things apart.
        cells: for each column of a file, how the text of a cell becomes a value; the keys are among them.
        required: columns that may not be empty in a file.
        wrong: finds what is wrong with a row as a whole, given today's date.
        phi: whether it holds data of patients.
    """

    table: Table
    keys: tuple[str, ...]
    cells: Mapping[str, Cell]
    required: frozenset[str]
    wrong: Callable[[Row, date], Iterator[Wrong]] = _nothing_wrong
    phi: bool = True

    @property
    def short(self) -> str:
        """The name on the command line: ``patients``."""
        return self.table.name.partition("/")[2]

    @property
    def key(self) -> str:
        """The column that tells its things apart, or the first of them."""
        return self.keys[0]

    @property
    def attributes(self) -> list[str]:
        """The columns of a file without the keys: what may change."""
        return [name for name in self.cells if name not in self.keys]

    @property
    def current(self) -> View:
        """What holds now, as a view."""
        order, keys = "valid_from DESC, known_at DESC", ", ".join(self.keys)
        shown = ", ".join(f'"{name}"' for name in self.table.schema if name != "is_deleted")
        return View(
            f"{GROUP}/current_{self.short}",
            f"{self.table.description.split('. ')[0]}. The version that holds now.",
            [self.table],
            f"SELECT {shown} FROM (SELECT *, row_number() OVER (PARTITION BY {keys} ORDER BY {order}) AS version "
            f"FROM {self.table.sql_name} WHERE valid_from <= now()) WHERE version = 1 AND NOT is_deleted",
        )


def _wrong_patient(row: Row, today: date) -> Iterator[Wrong]:
    born = row["date_of_birth"]
    if born is not None and not FIRST_BIRTH <= born <= today:
        yield "date_of_birth", CellError("a date that nobody alive is born on", "write a date from 1900 to today")


def _wrong_device(row: Row, _: date) -> Iterator[Wrong]:
    bought, expires = row["purchase_date"], row["warranty_expiry"]
    if bought is not None and expires is not None and expires < bought:
        yield "warranty_expiry", CellError("a date before purchase_date", "write a later date")


def _wrong_subscriber(row: Row, _: date) -> Iterator[Wrong]:
    begins, ends = row["quiet_from"], row["quiet_to"]
    if (begins is None) != (ends is None):
        lacking = "quiet_from" if begins is None else "quiet_to"
        yield lacking, CellError("an empty cell", "write both quiet_from and quiet_to, or neither")


def _wrong_identity(row: Row, _: date) -> Iterator[Wrong]:
    if row["kind"] != "device" and row["patient_of_device"] is not None:
        yield "patient_of_device", CellError("a patient beside one", "leave it empty, since only devices have it")


def _reference(
    name: str,
    rows: type[dy.Schema],
    columns: Mapping[str, Cell],
    required: tuple[str, ...],
    wrong: Callable[[Row, date], Iterator[Wrong]] = _nothing_wrong,
    *,
    phi: bool = True,
    key_columns: int = 1,
) -> Reference:
    table, keys = Table(f"{GROUP}/{name}", rows), tuple(columns)[:key_columns]
    if list(table.schema) != [*columns, *VERSION_COLUMNS]:
        raise ValueError(f"{table.name}: declare a cell for each column, in order, and then {VERSION_COLUMNS}.")
    return Reference(table, keys, columns, frozenset({*keys, *required}), wrong, phi)


PATIENTS = _reference(
    "patients",
    Patients,
    {
        "patient_id": cells.whole_number,
        "full_name": cells.words,
        "date_of_birth": cells.day,
        "gender": cells.one_of(GENDERS),
        "address": cells.words,
        "contact_number": cells.words,
        "time_zone": cells.time_zone,
        "groups": cells.list_of(cells.words),
        "care_team": cells.words,
    },
    ("full_name",),
    _wrong_patient,
)
DEVICES = _reference(
    "devices",
    Devices,
    {
        "device_id": cells.whole_number,
        "manufacturer": cells.words,
        "model": cells.words,
        "purchase_date": cells.day,
        "warranty_expiry": cells.day,
        "patient_id": cells.whole_number,
        "uploader": cells.words,
    },
    (),
    _wrong_device,
)
MANUFACTURERS = _reference(
    "manufacturers",
    Manufacturers,
    {
        "manufacturer_id": cells.whole_number,
        "manufacturer_name": cells.words,
        "manufacturer_address": cells.words,
        "manufacturer_contact": cells.words,
    },
    ("manufacturer_name",),
    phi=False,
)
SUBSCRIBERS = _reference(
    "subscribers",
    Subscribers,
    {
        "subscriber_id": cells.whole_number,
        "name": cells.words,
        "type": cells.one_of(SUBSCRIBER_TYPES),
        "channels": cells.list_of(cells.secret_name),
        "language": cells.language,
        "time_zone": cells.time_zone,
        "quiet_from": cells.time_of_day,
        "quiet_to": cells.time_of_day,
    },
    ("name", "type"),
    _wrong_subscriber,
)
SUBSCRIPTIONS = _reference(
    "subscriptions",
    Subscriptions,
    {
        "subscription_id": cells.whole_number,
        "subscriber_id": cells.whole_number,
        "scope": cells.scope,
        "tier": cells.not_negative,
        "minimum_severity": cells.one_of(SEVERITIES),
        "transitions": cells.list_of(cells.one_of(TRANSITIONS)),
    },
    ("subscriber_id", "scope", "tier", "minimum_severity"),
)
IDENTITY = _reference(
    "identity",
    Identity,
    {
        "system": cells.words,
        "kind": cells.one_of(("patient", "device")),
        "foreign_id": cells.words,
        "pulselake_id": cells.whole_number,
        "patient_of_device": cells.whole_number,
        "zone": cells.time_zone,
    },
    ("pulselake_id",),
    _wrong_identity,
    key_columns=3,
)
REFERENCES = (PATIENTS, DEVICES, MANUFACTURERS, SUBSCRIBERS, SUBSCRIPTIONS, IDENTITY)
