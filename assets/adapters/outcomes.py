"""What an adapter makes of a foreign record, and what it knows besides the record. Pure declarations.

An adapter is a function of a document and its `Context`. It yields one outcome for each record, in the order of the
document: a `Reading`, a `Skip` for a record that is no measurement, or a `Reject` with the reason for quarantine.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple, ParamSpec, TypeVar

import msgspec

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


class Record(msgspec.Struct, frozen=True, gc=False):
    """Which record of another system a reading comes from: a later version of it would be a correction."""

    system: str
    id: str | None = None
    version: str | None = None


class Reading(msgspec.Struct, frozen=True, gc=False):
    """A measurement, in the words of the stream's payload.

    Attributes:
        stream: the stream that it belongs to.
        measured_at: the instant, UTC.
        values: fields of the stream's payload; without the ids and the timestamp.
        record: where it comes from.
        patient: whose it is; None where the assignment of the device says it.
        device: what measured it, if that is known.
        claims: ids of Pulselake that the body itself says. They must be those that were found.
        named: whom the body names beside an authenticated binding. If both are known, they must be the same.
        stamped: what the transport says that sent a body which names its own devices and patients. If it is known, it
            counts more than these, and they must be the same as far as they are known.
    """

    stream: str
    measured_at: datetime
    values: Mapping[str, Any]
    record: Record
    patient: ForeignId | None = None
    device: ForeignId | None = None
    claims: Mapping[str, int] = MappingProxyType({})
    named: ForeignId | None = None
    stamped: ForeignId | None = None


class Plain(msgspec.Struct, frozen=True, gc=False):
    """An object in the stream's own words, which was in an envelope.

    Attributes:
        body: the object.
        device: stamped by the transport.
        patient: of an authenticated binding.
        measured_at: the instant, where a device is stamped and the object has a time that can be read.
        has_any_stream: whether its transport has messages of all streams, so that it may be none of this one.
    """

    body: Mapping[str, Any]
    device: ForeignId | None = None
    patient: ForeignId | None = None
    measured_at: datetime | None = None
    has_any_stream: bool = False


class Skip(msgspec.Struct, frozen=True, gc=False):
    """A record that is no measurement."""

    kind: str


class Reject(msgspec.Struct, frozen=True, gc=False):
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


class Context(msgspec.Struct, frozen=True, gc=False):
    """What is known of a document besides its text.

    Attributes:
        binding: the connection or upload that it came by; it stands for a patient, and perhaps for a default device.
        is_authority: whether the binding was authenticated, so that it is trusted more than the body.
        zone: the IANA zone of wall-clock times.
        date_order: ``day-first`` or ``month-first``, where the upload says it.
        base: the address that relative references are relative to.
        device: stamped by the transport, which is trusted more than the body.
        sent_at, enqueued_at: texts of the transport's instants, the device's own first.
        is_retained: whether a broker kept the message, so that the time of its receipt says nothing.
        topic_kind: what the topic says that a bare number means.
        system: the system of ids where the transport decides that.
        has_any_stream: whether what brought it has messages of all streams.
    """

    binding: str | None = None
    is_authority: bool = False
    zone: str | None = None
    date_order: str | None = None
    base: str | None = None
    device: ForeignId | None = None
    sent_at: str | None = None
    enqueued_at: str | None = None
    is_retained: bool = False
    topic_kind: str | None = None
    system: str = "azure-iot"
    has_any_stream: bool = False

    def patient_of(self, system: str) -> ForeignId | None:
        """The patient that the binding stands for."""
        return ForeignId(system, PATIENT, self.binding) if self.binding else None

    def device_of(self, system: str, *ids: Any) -> ForeignId | None:
        """The first of the ids that is a text, else the device that the binding stands for, else the stamped one."""
        for each in ids:
            if isinstance(each, str) and (name := each.strip()):
                return ForeignId(system, DEVICE, name)
        return ForeignId(system, DEVICE, self.binding) if self.binding else self.device

    def changed(self, **changes: Any) -> "Context":
        """The same with other values."""
        return msgspec.structs.replace(self, **changes)


T = TypeVar("T")

Adapter = Callable[[Any, Context], Iterable[Outcome]]


P = ParamSpec("P")


def attempted(stream: str | None, make: Callable[P, Outcome], *args: P.args, **kwargs: P.kwargs) -> Outcome:
    """What is made of a record, or its reject."""
    try:
        return make(*args, **kwargs)
    except Refused as refused:
        return Reject(refused.reason, stream)


def each_record(records: Iterable[T], stream: str | None, adapt: Callable[[T], Sequence[Outcome]]) -> list[Outcome]:
    """The outcomes of records, of which one that is refused stops no other."""
    found: list[Outcome] = []
    for record in records:
        try:
            found += adapt(record)
        except Refused as refused:
            found.append(Reject(refused.reason, stream))
    return found
