"""The device stream's payload and tables. Pure declarations."""

import dataframely as dy
import msgspec

from assets.stream.contract import Int64, utc

STREAM = "device_readings"


class DevicePayload(msgspec.Struct, gc=False):
    """What a device sends about itself; `battery_level` in percent."""

    device_id: Int64
    timestamp: float | str
    battery_level: float
    firmware_version: str
    connectivity_status: str
    error_codes: str


class ForeignDevice(msgspec.Struct, gc=False):
    """What another system says about a device: its battery, and seldom more."""

    device_id: Int64
    timestamp: float | str
    battery_level: float
    firmware_version: str | None = None
    connectivity_status: str | None = None
    error_codes: str | None = None
    record_system: str | None = None
    record_id: str | None = None
    record_version: str | None = None


class DeviceReadings(dy.Schema):
    """One self-report of one device; `battery_level` in percent. Key: device_id, measured_at.

    `device_model` is of the reference data that held at that instant; null where nothing is known. Firmware,
    connectivity and error codes are null where another system told of the battery only.
    `record_system`, `record_id` and `record_version` name the record of another system that it was made of, as far as
    that has an id; null for what a device sent itself.
    """

    device_id = dy.Int64(nullable=False)
    measured_at = utc()
    battery_level = dy.Float64(nullable=False)
    firmware_version = dy.String(nullable=True)
    connectivity_status = dy.String(nullable=True)
    error_codes = dy.String(nullable=True)
    received_at = utc()
    partition = dy.Int64(nullable=False)
    sequence_number = dy.Int64(nullable=False)
    event_index = dy.Int64(nullable=False)
    event_date = dy.Date(nullable=False)
    ingest_date = dy.Date(nullable=False)
    hub_epoch = dy.Int64(nullable=True)
    device_model = dy.String(nullable=True)
    record_system = dy.String(nullable=True)
    record_id = dy.String(nullable=True)
    record_version = dy.String(nullable=True)


class DeviceAlerts(dy.Schema):
    """One rule broken by one self-report of a device. Key: alert_id."""

    alert_id = dy.String(nullable=False)
    rule = dy.String(nullable=False)
    rule_version = dy.Int64(nullable=False)
    severity = dy.String(nullable=False)
    device_id = dy.Int64(nullable=False)
    measured_at = utc()
    threshold = dy.Float64(nullable=False)
    received_at = utc()
    partition = dy.Int64(nullable=False)
    sequence_number = dy.Int64(nullable=False)
    event_index = dy.Int64(nullable=False)
    event_date = dy.Date(nullable=False)
    ingest_date = dy.Date(nullable=False)
    hub_epoch = dy.Int64(nullable=True)
    is_revision = dy.Bool(nullable=True)
    device_model = dy.String(nullable=True)
