"""Events inside deliveries: splitting what arrives and splicing in the broker's annotations.

Bodies are never decoded, only walked over, so that a delivery which is not well-formed is refused on
arrival and can never reach a reader.
"""

import struct
from typing import NamedTuple

from emulator import codec
from emulator.codec import DecodeError

BATCH_FORMAT = 0x80013700
HEADER, DELIVERY_ANNOTATIONS, ANNOTATIONS, PROPERTIES, APPLICATION_PROPERTIES = range(0x70, 0x75)
DATA, VALUE = 0x75, 0x77

_SEQUENCE = codec.symbol("x-opt-sequence-number") + b"\x81"
_OFFSET = codec.symbol("x-opt-offset")
_ENQUEUED = codec.symbol("x-opt-enqueued-time") + b"\x83"
_KEY = codec.symbol("x-opt-partition-key")
_SET_BY_BROKER = {"x-opt-sequence-number", "x-opt-offset", "x-opt-enqueued-time"}
_SECTION_START = b"\x00\x53"
_MALFORMED = (IndexError, struct.error, RecursionError)


class Annotations(NamedTuple):
    """The client's own annotations of an event, encoded, and its partition key as an encoded value."""

    entries: bytes
    entry_count: int
    key: bytes | None


class Event(NamedTuple):
    header: bytes
    annotations: Annotations
    body: bytes


class Delivery(NamedTuple):
    events: list[Event]
    key: bytes | None


class WireBatch(NamedTuple):
    """Events as they go to readers, each preceded by its length, ready for the log."""

    pieces: list[bytes]
    event_count: int
    last_offset: int


NO_ANNOTATIONS = Annotations(b"", 0, None)


def sections(message: bytes) -> list[tuple[int, int, int]]:
    """(code, start of the value, end) of each section of a well-formed message."""
    found = []
    at, size = 0, len(message)
    try:
        while at < size:
            if message[at : at + 2] != _SECTION_START:
                raise DecodeError("a message section was expected")
            constructor = message[at + 3]
            kind = constructor & 0xF0
            if kind in (0xA0, 0xC0, 0xE0):
                after = at + 5 + message[at + 4]
            elif kind in (0xB0, 0xD0, 0xF0):
                after = at + 8 + codec.read_uint(message, at + 4)[0]
            else:
                after = codec.skip(message, at + 3)
            found.append((message[at + 2], at + 3, after))
            at = after
    except _MALFORMED as error:
        raise DecodeError(f"malformed message: {error}") from error
    if at != size:
        raise DecodeError("truncated message")
    return found


def split(message_format: int, payload: bytes) -> Delivery:
    """The events of a delivery and the partition key they share, if any."""
    if message_format != BATCH_FORMAT:
        event = _event(payload)
        return Delivery([event], event.annotations.key)
    key = None
    events = []
    for code, start, end in sections(payload):
        if code == ANNOTATIONS:
            key = _annotations(payload, start, end).key
        elif code == DATA:
            events.append(_event(payload[start + (2 if payload[start] == 0xA0 else 5) : end]))
    if key is None and events:
        key = events[0].annotations.key
    return Delivery(events, key)


def wire_batch(delivery: Delivery, sequence: int, offset: int, enqueued_ms: int) -> WireBatch:
    """Number and stamp the events; one without a partition key takes the delivery's."""
    pieces: list[bytes] = []
    enqueued = _ENQUEUED + codec.pack_long(enqueued_ms)
    key_entry = b"" if delivery.key is None else _KEY + delivery.key
    last_offset = offset
    for header, own, body in delivery.events:
        entries, count = own.entries, own.entry_count
        if own.key is None and key_entry:
            entries, count = entries + key_entry, count + 1
        digits = b"%d" % offset
        stamped = b"".join(
            (_SEQUENCE, codec.pack_long(sequence), _OFFSET, bytes((0xA1, len(digits))), digits, enqueued, entries)
        )
        annotations = b"\x00\x53\x72" + codec.compound(1, stamped, 6 + 2 * count)
        size = len(header) + len(annotations) + len(body)
        pieces += (codec.pack_uint(size), header, annotations, body)
        last_offset = offset
        offset += 4 + size
        sequence += 1
    return WireBatch(pieces, len(delivery.events), last_offset)


def with_delivery_annotations(message: bytes, annotations: bytes) -> bytes:
    """The message with one more section, which belongs between the header and everything else."""
    after_header = codec.skip(message, 3) if message[2] == HEADER else 0
    return message[:after_header] + annotations + message[after_header:]


def _event(message: bytes) -> Event:
    header, annotations, body_at = b"", NO_ANNOTATIONS, None
    for code, start, end in sections(message):
        if code == HEADER:
            header = message[start - 3 : end]
        elif code == ANNOTATIONS:
            annotations = _annotations(message, start, end)
        elif code > ANNOTATIONS and body_at is None:
            body_at = start - 3
    if body_at is None:
        return Event(header, annotations, b"")
    return Event(header, annotations, message[body_at:] if body_at else message)


def _annotations(data: bytes, at: int, end: int) -> Annotations:
    try:
        count, at = codec.map_entries(data, at)
        entries, kept, key = [], 0, None
        for _ in range(count // 2):
            name, value_at = codec.decode(data, at)
            after = codec.skip(data, value_at)
            if name == "x-opt-partition-key":
                key = data[value_at:after]
            if name not in _SET_BY_BROKER:
                entries.append(data[at:after])
                kept += 1
            at = after
    except (*_MALFORMED, TypeError) as error:
        raise DecodeError(f"malformed annotations: {error}") from error
    if at != end:
        raise DecodeError("the size of the annotations does not match their entries")
    return Annotations(b"".join(entries), kept, key)
