"""The unit of the log: one accepted delivery, its events contiguous, under one CRC.

Encoding and walking records in an open file; which file that is, and what lies before it, is not known here.
"""

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

RECORD_MAGIC = b"EHR1"
_RECORD = struct.Struct(">4sIIIqqq")
_LENGTH = struct.Struct(">I")
_CRC_FROM = 8
_BLOCK_BYTES = 256 * 1024
NEVER_MS = -62135596800000


class Damage(Exception):
    """Bytes in the log that are not what was written."""

    def __init__(self, path: Path, at: int, what: str) -> None:
        super().__init__(f"{path} is damaged at byte {at}: {what}")
        self.at = at


class Tail(NamedTuple):
    """Where a log stands after its last event."""

    next_sequence: int = 0
    next_offset: int = 0
    last_offset: int = -1
    last_ms: int = NEVER_MS


class Record(NamedTuple):
    position: int
    end: int
    event_count: int
    sequence: int
    offset: int
    enqueued_ms: int
    body: bytes

    def events(self) -> list[bytes]:
        read_length, body = _LENGTH.unpack_from, self.body
        events, at = [], 0
        for _ in range(self.event_count):
            start = at + 4
            at = start + read_length(body, at)[0]
            events.append(body[start:at])
        return events

    def tail(self) -> Tail:
        next_offset = self.offset + len(self.body)
        last_size = 4 + len(self.events()[-1])
        return Tail(self.sequence + self.event_count, next_offset, next_offset - last_size, self.enqueued_ms)


def encode(body: bytes, count: int, tail: Tail, enqueued_ms: int) -> bytes:
    head = _RECORD.pack(RECORD_MAGIC, 0, len(body), count, tail.next_sequence, enqueued_ms, tail.next_offset)
    crc = zlib.crc32(body, zlib.crc32(head[_CRC_FROM:]))
    return b"".join((RECORD_MAGIC, _LENGTH.pack(crc), head[_CRC_FROM:], body))


def walk(fd: int, path: Path, position: int, size: int) -> Iterator[Record]:
    """The records from `position` up to `size`, each checked; raises Damage at one that is not whole."""
    block, block_at = b"", position
    while position < size:
        at = position - block_at
        if at + _RECORD.size > len(block):
            block, block_at, at = _read(fd, position, _BLOCK_BYTES, size), position, 0
        if len(block) - at < _RECORD.size:
            raise Damage(path, position, "a record is incomplete")
        magic, crc, body_size, count, sequence, enqueued_ms, offset = _RECORD.unpack_from(block, at)
        end = position + _RECORD.size + body_size
        if magic != RECORD_MAGIC or end > size:
            raise Damage(path, position, "no complete record starts here")
        if end - block_at > len(block):
            block, block_at, at = _read(fd, position, max(end - position, _BLOCK_BYTES), size), position, 0
        body_at = at + _RECORD.size
        body = block[body_at : body_at + body_size]
        if zlib.crc32(body, zlib.crc32(block[at + _CRC_FROM : body_at])) != crc:
            raise Damage(path, position, "a record fails its check")
        yield Record(position, end, count, sequence, offset, enqueued_ms, body)
        position = end


def _read(fd: int, position: int, wanted: int, size: int) -> bytes:
    return os.pread(fd, min(wanted, size - position), position)
