"""One file of a partition's log: a header that says where the log stood, then records.

A segment appends, walks its records and finds positions in itself; which segments there are, and when they
go, is the log's business.
"""

import os
import struct
import zlib
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from emulator.record import RECORD_MAGIC, Damage, Record, Tail, walk

_HEADER = struct.Struct(">4sIqqqq")
_MAGIC = b"EHS1"
_CRC_FROM = 8
_INDEX_EVERY_BYTES = 64 * 1024


class Segment:
    """A file of records; the index has one row per 64 KiB, so its size does not depend on how events came."""

    def __init__(self, path: Path, start: Tail, size: int) -> None:
        self.path = path
        self.start = start
        self.size = size
        self.is_dropped = False
        self._write_fd: int | None = None
        self._indexed_to = _HEADER.size
        self._sequences, self._offsets = array("q"), array("q")
        self._times, self._positions = array("q"), array("q")

    @classmethod
    def create(cls, folder: Path, start: Tail) -> "Segment":
        path = folder / f"{start.next_sequence:020d}.log"
        partial = path.with_suffix(".new")
        fields = _HEADER.pack(_MAGIC, 0, *start)[_CRC_FROM:]
        try:
            partial.write_bytes(_MAGIC + zlib.crc32(fields).to_bytes(4, "big") + fields)
            partial.replace(path)
        except OSError:
            partial.unlink(missing_ok=True)
            raise
        return cls(path, start, _HEADER.size)

    @classmethod
    def open(cls, path: Path) -> "Segment":
        """The segment of an existing file; its records are not looked at yet."""
        with path.open("rb") as file:
            header = file.read(_HEADER.size)
        if len(header) < _HEADER.size:
            raise Damage(path, 0, "the segment header is incomplete")
        magic, crc, *start = _HEADER.unpack(header)
        if magic != _MAGIC or zlib.crc32(header[_CRC_FROM:]) != crc:
            raise Damage(path, 0, "the segment header fails its check")
        return cls(path, Tail(*start), path.stat().st_size)

    @property
    def first_position(self) -> int:
        return _HEADER.size

    @property
    def is_empty(self) -> bool:
        return self.size == _HEADER.size

    def append(self, record: bytes, tail: Tail, enqueued_ms: int, flush: bool) -> None:
        """Write the whole record or nothing of it."""
        if self._write_fd is None:
            self._write_fd = os.open(self.path, os.O_RDWR)
        fd, position = self._write_fd, self.size
        try:
            written = os.pwrite(fd, record, position)
            while written < len(record):
                written += os.pwrite(fd, record[written:], position + written)
            if flush:
                os.fdatasync(fd)
        except OSError:
            os.ftruncate(fd, position)
            raise
        self.size = position + len(record)
        self._note(position, self.size, tail.next_sequence, tail.next_offset, enqueued_ms)

    def recover(self) -> tuple[Tail, Damage | None]:
        """Walk and index every record up to the first one that is not whole."""
        expected, last, damage = self.start.next_sequence, None, None
        try:
            for record in self.records(self.first_position):
                if record.sequence != expected:
                    raise Damage(self.path, record.position, f"sequence number {expected} is missing")
                expected += record.event_count
                self._note(record.position, record.end, record.sequence, record.offset, record.enqueued_ms)
                last = record
        except Damage as found:
            damage = found
        return (last.tail() if last else self.start), damage

    def has_whole_record_after(self, position: int) -> bool:
        data = self.path.read_bytes()
        with self._readable() as fd:
            at = data.find(RECORD_MAGIC, position + 1)
            while at >= 0:
                try:
                    next(walk(fd, self.path, at, self.size))
                    return True
                except Damage:
                    at = data.find(RECORD_MAGIC, at + 1)
        return False

    def cut(self, size: int) -> None:
        os.truncate(self.path, size)
        self.size = size

    def flush(self) -> None:
        with self._readable() as fd:
            os.fsync(fd)

    def close(self) -> None:
        if self._write_fd is not None:
            os.close(self._write_fd)
            self._write_fd = None

    def drop(self) -> None:
        self.close()
        self.is_dropped = True
        self.path.unlink(missing_ok=True)

    def records(self, position: int) -> Iterator[Record]:
        with self._readable() as fd:
            yield from walk(fd, self.path, position, self.size)

    def first_ms(self) -> int | None:
        self._complete_index()
        return self._times[0] if self._times else None

    def seek_sequence(self, sequence: int) -> tuple[int, int]:
        """(record's position, events to skip in it) of the first event with that or a higher sequence number."""
        self._complete_index()
        for record in self._records_from_row(bisect_right(self._sequences, sequence) - 1):
            if record.sequence + record.event_count > sequence:
                return record.position, max(sequence - record.sequence, 0)
        return self.size, 0

    def seek_offset(self, offset: int) -> tuple[int, int]:
        """The same for the first event with that or a higher offset."""
        self._complete_index()
        for record in self._records_from_row(bisect_right(self._offsets, offset) - 1):
            event_offset = record.offset
            for skipped, event in enumerate(record.events()):
                if event_offset >= offset:
                    return record.position, skipped
                event_offset += 4 + len(event)
        return self.size, 0

    def seek_time(self, enqueued_ms: int) -> tuple[int, int]:
        """The same for the first event enqueued then or later."""
        self._complete_index()
        for record in self._records_from_row(bisect_left(self._times, enqueued_ms) - 1):
            if record.enqueued_ms >= enqueued_ms:
                return record.position, 0
        return self.size, 0

    def _records_from_row(self, row: int) -> Iterator[Record]:
        return self.records(self._positions[max(row, 0)] if self._positions else self.first_position)

    def _complete_index(self) -> None:
        if self._indexed_to == self.size:
            return
        for record in self.records(self._indexed_to):
            self._note(record.position, record.end, record.sequence, record.offset, record.enqueued_ms)

    def _note(self, position: int, end: int, sequence: int, offset: int, enqueued_ms: int) -> None:
        if not self._positions or position - self._positions[-1] >= _INDEX_EVERY_BYTES:
            self._sequences.append(sequence)
            self._offsets.append(offset)
            self._times.append(enqueued_ms)
            self._positions.append(position)
        self._indexed_to = end

    @contextmanager
    def _readable(self) -> Iterator[int]:
        """The file, opened only while it is used unless it is being written: a long log has many segments."""
        if self._write_fd is not None:
            yield self._write_fd
            return
        fd = os.open(self.path, os.O_RDONLY)
        try:
            yield fd
        finally:
            os.close(fd)
