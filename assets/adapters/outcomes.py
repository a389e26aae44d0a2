"""What an adapter makes of a foreign record, and what it knows besides the record. Pure declarations.

An adapter is a function of a document and its `Context`. It yields one outcome for each record, in the order of the
document: a `Reading`, a `Skip` for a record that is no measurement, or a `Reject` with the reason for quarantine.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

GLUCOSE, VITALS, DEVICES = "glucose_readings", "vitals", "device_readings"
"""The streams that foreign records can belong to."""

PATIENT, DEVICE = "patient", "device"
"""The kinds of foreign ids."""

BAD_TIMESTAMP = "bad_timestamp"
NO_TIME_ZONE = "no_time_zone"
AMBIGUOUS_DATE = "ambiguous_date"
IDENTITY_MISMATCH = "identity_mismatch"
UNKNOWN_FORMAT = "unknown_format"
RETAINED_WITHOUT_TIME = "retained_without_time"
BAD_BASE64 = "bad_base64"
NOT_XML = "not_xml"
"""Reasons for quarantine; those of values are in `assets.stream.decode`."""

NO_VALUE = "no_value"
CALIBRATION = "calibration"
"""Kinds of skipped records that several formats have."""


def unknown(kind: str) -> str:
    """The quarantine reason for a patient or a device that `reference/identity` does not know."""
    return f"unknown_{kind}"


class ForeignId(NamedTuple):
    """What another system calls a patient or a device."""

    system: str
    kind: str
    value: str


class Record(NamedTuple):
    """Which record of another system a reading comes from: a later version of it would be a correction."""

    system: str
    id: str | None = None
    version: str | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """A measurement, in the words of the stream's payload.

    Attributes:
        stream: the stream that it belongs to.
        measured_at: the instant, UTC.
        values: fields of the stream's payload; without the ids and the timestamp.
        record: where it comes from.
        patient: whose it is; None where the assignment of the device says it.
        device: what measured it, if that is known.
        claims: ids of Pulselake that the body itself says. They must be those that were found.
    """

    stream: str
    measured_at: datetime
    values: Mapping[str, Any]
    record: Record
    patient: ForeignId | None = None
    device: ForeignId | None = None
    claims: Mapping[str, int] = field(default_factory=dict)


class Plain(NamedTuple):
    """An object in the stream's own words, which was in an envelope."""

    body: Mapping[str, Any]
    device: ForeignId | None = None


class Skip(NamedTuple):
    """A record that is no measurement."""

    kind: str


class Reject(NamedTuple):
    """A record that cannot enter silver; `stream` is None where nobody can tell which stream it belongs to."""

    reason: str
    stream: str | None = None


Outcome = Reading | Plain | Skip | Reject


class Refused(Exception):
    """A record cannot enter silver. Its text is a reason for quarantine, and never a value of the record."""

    @property
    def reason(self) -> str:
        """The reason."""
        return str(self)


@dataclass(frozen=True)
class Context:
    """What is known of a document besides its text.

    Attributes:
        binding: the connection or upload that it came by; it stands for a patient, and perhaps for a default device.
        zone: the IANA zone of wall-clock times.
        date_order: ``day-first`` or ``month-first``, where the upload says it.
        base: the address that relative references are relative to.
        device: stamped by the transport, which is trusted more than the body.
        sent_at, enqueued_at: texts of the transport's instants, the device's own first.
        is_retained: whether a broker kept the message, so that the time of its receipt says nothing.
        topic_kind: what the topic says that a bare number means.
        system: the system of ids where the transport decides that.
    """

    binding: str | None = None
    zone: str | None = None
    date_order: str | None = None
    base: str | None = None
    device: ForeignId | None = None
    sent_at: str | None = None
    enqueued_at: str | None = None
    is_retained: bool = False
    topic_kind: str | None = None
    system: str = "azure-iot"

    def patient_of(self, system: str) -> ForeignId | None:
        """The patient that the binding stands for."""
        return ForeignId(system, PATIENT, self.binding) if self.binding else None

    def device_of(self, system: str, *ids: Any) -> ForeignId | None:
        """The first of the ids that is a text, else the device that the binding stands for."""
        for each in ids:
            if isinstance(each, str) and (name := each.strip()):
                return ForeignId(system, DEVICE, name)
        return ForeignId(system, DEVICE, self.binding) if self.binding else None

    def changed(self, **changes: Any) -> "Context":
        """The same with other values."""
        return replace(self, **changes)


T = TypeVar("T")

Adapter = Callable[[Any, Context], Iterable[Outcome]]


def each_record(records: Iterable[T], stream: str | None, adapt: Callable[[T], Sequence[Outcome]]) -> Iterator[Outcome]:
    """The outcomes of records, of which one that is refused stops no other."""
    for record in records:
        try:
            yield from adapt(record)
        except Refused as refused:
            yield Reject(refused.reason, stream)
