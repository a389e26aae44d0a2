"""The log on disk: what survives, what is cut off, what is dropped, and where positions lead."""

import resource

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.log import Cursor, LogSettings, PartitionLog, StorageError
from emulator.message import WireBatch
from emulator.record import Damage

HOUR_MS = 3_600_000


class Clock:
    def __init__(self) -> None:
        self.now_ms = 1_000

    def __call__(self) -> int:
        return self.now_ms


def open_log(folder, clock=None, **how) -> PartitionLog:
    return PartitionLog(folder, LogSettings(**how), clock or Clock())


def append(log: PartitionLog, *events: bytes) -> None:
    def build(sequence: int, offset: int, enqueued_ms: int) -> WireBatch:
        pieces = [piece for event in events for piece in (len(event).to_bytes(4, "big"), event)]
        return WireBatch(pieces, len(events), offset + sum(4 + len(event) for event in events[:-1]))

    log.append(build)


def read_all(log: PartitionLog, cursor: Cursor | None = None) -> list[bytes]:
    cursor = cursor or log.begin()
    events = []
    while more := log.read(cursor):
        events += more
    return events


def test_what_was_appended_is_read_after_reopening(tmp_path):
    log = open_log(tmp_path)
    append(log, b"a", b"bb")
    append(log, b"ccc")
    log.close()
    again = open_log(tmp_path)
    assert read_all(again) == [b"a", b"bb", b"ccc"]
    assert again.tail == log.tail


@pytest.mark.parametrize("segment_bytes", [1, 200, 1 << 20])
def test_every_position_leads_to_its_event(tmp_path, segment_bytes):
    clock = Clock()
    log = open_log(tmp_path, clock, segment_bytes=segment_bytes)
    expected: list[tuple[int, int, int, bytes]] = []
    for number in range(20):
        clock.now_ms = 1_000 + number // 2
        batch = [b"%d-%d" % (number, item) * (item + 1) for item in range(3)]
        offset = log.tail.next_offset
        for event in batch:
            expected.append((len(expected), offset, clock.now_ms, event))
            offset += 4 + len(event)
        append(log, *batch)
    log.close()
    for reopened in (log, open_log(tmp_path, clock, segment_bytes=segment_bytes)):
        for sequence, offset, enqueued_ms, _ in expected:
            assert read_all(reopened, reopened.from_sequence(sequence)) == [e[3] for e in expected[sequence:]]
            assert read_all(reopened, reopened.from_offset(offset)) == [e[3] for e in expected if e[1] >= offset]
            assert read_all(reopened, reopened.from_offset(offset + 1)) == [e[3] for e in expected if e[1] > offset]
            assert read_all(reopened, reopened.from_time(enqueued_ms)) == [
                e[3] for e in expected if e[2] >= enqueued_ms
            ]
        assert read_all(reopened, reopened.from_sequence(60)) == read_all(reopened, reopened.end()) == []
        assert read_all(reopened, reopened.from_time(9_999)) == []


@settings(deadline=None, max_examples=30)
@given(
    batches=st.lists(st.lists(st.binary(max_size=40), min_size=1, max_size=5), max_size=12),
    segment_bytes=st.integers(1, 400),
    start=st.integers(0, 60),
)
def test_reading_gives_what_was_appended_in_order(tmp_path_factory, batches, segment_bytes, start):
    log = open_log(tmp_path_factory.mktemp("log"), segment_bytes=segment_bytes)
    for batch in batches:
        append(log, *batch)
    assert read_all(log, log.from_sequence(start)) == [event for batch in batches for event in batch][start:]
    log.close()


def test_a_tail_torn_anywhere_in_the_last_record_is_cut_off(tmp_path):
    log = open_log(tmp_path / "whole")
    append(log, b"first", b"second")
    before, kept = log.segments[-1].size, log.tail
    append(log, b"third", b"fourth")
    log.close()
    content = log.segments[-1].path.read_bytes()
    for cut in range(before, len(content)):
        folder = tmp_path / str(cut)
        folder.mkdir()
        (folder / log.segments[-1].path.name).write_bytes(content[:cut])
        torn = open_log(folder)
        assert torn.tail == kept
        append(torn, b"after")
        assert read_all(torn) == [b"first", b"second", b"after"]
        torn.close()
        assert read_all(open_log(folder)) == [b"first", b"second", b"after"]


def test_any_changed_byte_of_the_last_record_is_noticed(tmp_path):
    log = open_log(tmp_path)
    append(log, b"first")
    before = log.segments[-1].size
    append(log, b"second")
    log.close()
    path = log.segments[-1].path
    content = path.read_bytes()
    for at in range(before, len(content)):
        path.write_bytes(content[:at] + bytes((content[at] ^ 0x55,)) + content[at + 1 :])
        assert read_all(open_log(tmp_path)) == [b"first"]


def test_damage_before_whole_records_is_not_cut_off_silently(tmp_path):
    log = open_log(tmp_path)
    append(log, b"first")
    append(log, b"second")
    log.close()
    path = log.segments[-1].path
    path.write_bytes(path.read_bytes().replace(b"first", b"FIRST"))
    with pytest.raises(StorageError, match=f"damaged at byte {log.segments[-1].first_position}.*whole records follow"):
        open_log(tmp_path)


def test_a_new_segment_whose_header_was_not_written_is_no_loss(tmp_path):
    log = open_log(tmp_path, segment_bytes=1)
    append(log, b"first")
    append(log, b"second")
    log.close()
    (tmp_path / f"{log.tail.next_sequence:020d}.log").write_bytes(b"EH")
    (tmp_path / f"{log.tail.next_sequence:020d}.new").write_bytes(b"")
    again = open_log(tmp_path)
    append(again, b"third")
    assert read_all(again) == [b"first", b"second", b"third"]


def test_a_damaged_earlier_segment_is_refused(tmp_path):
    log = open_log(tmp_path, segment_bytes=1)
    append(log, b"first")
    append(log, b"second")
    log.close()
    log.segments[0].path.write_bytes(b"")
    with pytest.raises(StorageError, match=r"00000\.log is damaged.*restore the file"):
        open_log(tmp_path)


def test_damage_in_an_earlier_segment_is_noticed_when_it_is_read(tmp_path):
    log = open_log(tmp_path, segment_bytes=1)
    for event in (b"first", b"second", b"third"):
        append(log, event)
    log.close()
    path = log.segments[1].path
    path.write_bytes(path.read_bytes().replace(b"second", b"SECOND"))
    again = open_log(tmp_path, segment_bytes=1)
    cursor = again.begin()
    assert again.read(cursor) == [b"first"]
    with pytest.raises(Damage, match="fails its check"):
        again.read(cursor)


def test_retention_by_size_keeps_the_newest(tmp_path):
    log = open_log(tmp_path, segment_bytes=300, retention_bytes=1_000)
    ahead = log.begin()
    for number in range(100):
        append(log, b"%04d" % number)
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 1_000
    begin = log.begin_sequence
    assert begin > 0
    kept = [b"%04d" % number for number in range(begin, 100)]
    assert read_all(log) == read_all(log, log.from_sequence(0)) == read_all(log, log.from_offset(0)) == kept
    assert read_all(log, ahead) == kept
    log.close()
    assert open_log(tmp_path).begin_sequence == begin


def test_retention_by_age_drops_whole_segments_and_keeps_the_numbering(tmp_path):
    clock = Clock()
    log = open_log(tmp_path, clock, retention_ms=8 * HOUR_MS)
    for number in range(6):
        append(log, b"%d" % number)
        clock.now_ms += 2 * HOUR_MS
    log.expire()
    assert read_all(log) == [b"2", b"3", b"4", b"5"]
    clock.now_ms += 100 * HOUR_MS
    log.expire()
    assert log.is_empty
    assert log.begin_sequence == 6
    assert log.last_sequence == 5
    tail = log.tail
    log.close()

    again = open_log(tmp_path, clock, retention_ms=8 * HOUR_MS)
    assert again.tail == tail
    assert again.begin_sequence == 6
    append(again, b"new")
    assert read_all(again, again.from_sequence(0)) == [b"new"]


def test_retention_is_applied_when_the_log_is_opened(tmp_path):
    log = open_log(tmp_path, segment_bytes=1)
    for number in range(10):
        append(log, b"%d" % number)
    log.close()
    assert open_log(tmp_path, segment_bytes=1, retention_bytes=150).begin_sequence == 9


def test_a_record_that_cannot_be_written_in_full_leaves_nothing(tmp_path):
    log = open_log(tmp_path)
    append(log, b"first")
    kept = log.tail
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (log.segments[-1].size + 50, limits[1]))
    try:
        with pytest.raises(StorageError, match="cannot be written: File too large"):
            append(log, b"x" * 1_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert log.tail == kept
    assert log.segments[-1].path.stat().st_size == log.segments[-1].size
    append(log, b"second")
    assert read_all(log) == [b"first", b"second"]
    log.close()
    assert read_all(open_log(tmp_path)) == [b"first", b"second"]
