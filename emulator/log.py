"""The durable log of one partition: append, read from any position, forget what is too old.

Sequence numbers and offsets are given here and survive everything: restarts, torn tails, retention.
Events are bytes to the log; what they mean is decided elsewhere.
"""

import errno
import logging
import os
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from emulator.message import WireBatch
from emulator.record import Damage, Tail, encode
from emulator.segment import Segment

_LOG = logging.getLogger(__name__)
_READ_BYTES = 256 * 1024
_SEGMENTS_PER_RETENTION = 8
_SMALLEST_ROLL_BYTES = 4096

BuildBatch = Callable[[int, int, int], WireBatch]


class StorageError(Exception):
    """What is on disk cannot be used, or cannot be written; the message says what to do."""


@dataclass(frozen=True)
class LogSettings:
    segment_bytes: int = 64 << 20
    flush_each_append: bool = False
    retention_ms: int | None = None
    retention_bytes: int | None = None

    @property
    def roll_at_bytes(self) -> int:
        """Small enough for retention by size to drop the log in slices."""
        if self.retention_bytes is None:
            return self.segment_bytes
        return min(self.segment_bytes, max(self.retention_bytes // _SEGMENTS_PER_RETENTION, _SMALLEST_ROLL_BYTES))


class Cursor:
    """Where a reader stands: a record, and how many of its events to skip."""

    __slots__ = ("position", "segment", "skip")

    def __init__(self, segment: Segment, position: int, skip: int = 0) -> None:
        self.segment, self.position, self.skip = segment, position, skip


class PartitionLog:
    def __init__(self, folder: Path, settings: LogSettings, now_ms: Callable[[], int]) -> None:
        self.folder, self.settings, self.now_ms = folder, settings, now_ms
        self._is_broken = False
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob("*.new"):
            leftover.unlink()
        self.segments = self._open_segments()
        self.tail = self._recover()
        self._unflushed: list[Segment] = [self.segments[-1]]
        self.expire()

    @property
    def begin_sequence(self) -> int:
        return self.segments[0].start.next_sequence

    @property
    def last_sequence(self) -> int:
        return self.tail.next_sequence - 1

    @property
    def is_empty(self) -> bool:
        return self.begin_sequence == self.tail.next_sequence

    @property
    def reserved_bytes(self) -> int:
        """Bytes on disk, the active segment counted as full: it will be before the next look."""
        active = self.segments[-1]
        return sum(s.size for s in self.segments[:-1]) + max(active.size, self.settings.roll_at_bytes)

    def append(self, build: BuildBatch) -> None:
        """Write a batch; when this returns it is written in full, when it raises nothing of it is."""
        if self._is_broken:
            raise StorageError(f"the log {self.folder} could not be written before; restart the emulator")
        enqueued_ms = max(self.now_ms(), self.tail.last_ms)
        batch = build(self.tail.next_sequence, self.tail.next_offset, enqueued_ms)
        body = b"".join(batch.pieces)
        record = encode(body, batch.event_count, self.tail, enqueued_ms)
        try:
            if self._should_roll(len(record), enqueued_ms):
                self._roll()
            self.segments[-1].append(record, self.tail, enqueued_ms, self.settings.flush_each_append)
        except OSError as error:
            raise self._write_failed(error) from error
        self.tail = Tail(
            self.tail.next_sequence + batch.event_count,
            self.tail.next_offset + len(body),
            batch.last_offset,
            enqueued_ms,
        )

    def read(self, cursor: Cursor) -> list[bytes]:
        """The next events, about 256 KiB of them, moving the cursor; none at the end of the log."""
        if cursor.segment.is_dropped:
            self._move(cursor, self.begin())
        while cursor.position >= cursor.segment.size:
            if cursor.segment is self.segments[-1]:
                return []
            following = self.segments[self.segments.index(cursor.segment) + 1]
            self._move(cursor, Cursor(following, following.first_position))
        events: list[bytes] = []
        begin, end = cursor.position, cursor.position
        for record in cursor.segment.records(begin):
            events += record.events()
            end = record.end
            if end - begin >= _READ_BYTES:
                break
        skip, cursor.position, cursor.skip = cursor.skip, end, 0
        return events[skip:] if skip else events

    def begin(self) -> Cursor:
        return Cursor(self.segments[0], self.segments[0].first_position)

    def end(self) -> Cursor:
        return Cursor(self.segments[-1], self.segments[-1].size)

    def from_sequence(self, sequence: int) -> Cursor:
        segment = self._last_segment(bisect_right([s.start.next_sequence for s in self.segments], sequence))
        return Cursor(segment, *segment.seek_sequence(sequence))

    def from_offset(self, offset: int) -> Cursor:
        segment = self._last_segment(bisect_right([s.start.next_offset for s in self.segments], offset))
        return Cursor(segment, *segment.seek_offset(offset))

    def from_time(self, enqueued_ms: int) -> Cursor:
        segment = self._last_segment(bisect_left([s.start.last_ms for s in self.segments], enqueued_ms))
        return Cursor(segment, *segment.seek_time(enqueued_ms))

    def expire(self) -> None:
        """Drop whole old segments, as retention by age and by size demands."""
        age, most = self.settings.retention_ms, self.settings.retention_bytes
        if age is not None:
            oldest_ms = self.now_ms() - age
            if not self.segments[-1].is_empty and self.tail.last_ms < oldest_ms:
                self._roll()
            while len(self.segments) > 1 and self.segments[1].start.last_ms < oldest_ms:
                self._drop_oldest()
        if most is not None:
            while len(self.segments) > 1 and self.reserved_bytes > most:
                self._drop_oldest()

    def close(self) -> None:
        for segment in self._unflushed:
            segment.flush()
        flush_folder(self.folder)
        for segment in self.segments:
            segment.close()

    def _open_segments(self) -> list[Segment]:
        paths = sorted(self.folder.glob("*.log"))
        segments = []
        for path in paths:
            try:
                segments.append(Segment.open(path))
            except Damage as damage:
                if path != paths[-1] or (not segments and path.stem.strip("0")):
                    raise StorageError(f"{damage}; restore the file or remove the folder {self.folder}") from damage
                _LOG.warning("%s; the empty segment is removed", damage)
                path.unlink()
        return segments or [self._create(Tail())]

    def _recover(self) -> Tail:
        """Check the last segment and cut off a torn tail; the earlier ones are checked when they are read."""
        last = self.segments[-1]
        tail, damage = last.recover()
        if damage is None:
            return tail
        if last.has_whole_record_after(damage.at):
            raise StorageError(
                f"{damage}, and whole records follow it; restore the file, or cut it to {damage.at} bytes "
                "to give those records up"
            )
        _LOG.warning("%s; the torn tail of %d bytes is cut off", damage, last.size - damage.at)
        last.cut(damage.at)
        return tail

    def _should_roll(self, record_bytes: int, enqueued_ms: int) -> bool:
        active = self.segments[-1]
        if active.is_empty:
            return False
        if active.size + record_bytes > self.settings.roll_at_bytes:
            return True
        first_ms, age = active.first_ms(), self.settings.retention_ms
        return age is not None and first_ms is not None and enqueued_ms - first_ms > age // _SEGMENTS_PER_RETENTION

    def _roll(self) -> None:
        fresh = self._create(self.tail)
        self.segments[-1].close()
        self.segments.append(fresh)
        self._unflushed.append(fresh)
        self.expire()

    def _create(self, start: Tail) -> Segment:
        segment = Segment.create(self.folder, start)
        if self.settings.flush_each_append:
            segment.flush()
            flush_folder(self.folder)
        return segment

    def _drop_oldest(self) -> None:
        segment = self.segments.pop(0)
        segment.drop()
        if segment in self._unflushed:
            self._unflushed.remove(segment)
        _LOG.info("%s is dropped, the log begins at sequence number %d", segment.path, self.begin_sequence)

    def _write_failed(self, error: OSError) -> StorageError:
        active = self.segments[-1]
        self._is_broken = error.errno == errno.EIO or active.path.stat().st_size != active.size
        return StorageError(f"the log {self.folder} cannot be written: {error.strerror}")

    def _last_segment(self, count: int) -> Segment:
        return self.segments[max(count - 1, 0)]

    @staticmethod
    def _move(cursor: Cursor, to: Cursor) -> None:
        cursor.segment, cursor.position, cursor.skip = to.segment, to.position, to.skip


def flush_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
