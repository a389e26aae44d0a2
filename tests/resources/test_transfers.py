"""What is read out of buffered frames is what the SDK reads out of them, and the rest is left to it."""

import select
import socket
import ssl
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from azure.eventhub._pyamqp._decode import decode_frame, decode_payload
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from emulator import codec, frames, message
from resources.message_details import annotations_of, key_of, properties_of
from resources.transfers import FrameBuffer, TransferReader, has_pending

CHANNEL = 1
SEQUENCE, OFFSET, TIME, EPOCH, KEY = (
    codec.symbol(f"x-opt-{name}")
    for name in ("sequence-number", "offset", "enqueued-time", "sequence-number-epoch", "partition-key")
)


def event(body: bytes, key: str | None = None, number: int = 0) -> bytes:
    """A message as the local hub stores it for its readers."""
    delivery = message.split(0, message_of(body))
    wire = message.wire_batch(
        delivery._replace(key=None if key is None else codec.string(key)), number, 1000 + number, 1_700_000_000_000
    )
    return b"".join(wire.pieces[1:])


def message_of(body: bytes) -> bytes:
    return b"\x00\x53\x75" + codec.binary(body)


def transfer(payload: bytes, handle: int = 0, delivery: int = 7, tag: bytes = b"\x01", **changed: bytes) -> bytes:
    fields = {
        "handle": codec.uint(handle),
        "id": codec.uint(delivery),
        "tag": codec.binary(tag),
        "format": codec.uint(0),
        "settled": codec.TRUE,
        "more": codec.FALSE,
        "mode": codec.NULL,
        "state": codec.NULL,
        "resume": codec.FALSE,
        "aborted": codec.FALSE,
        "batchable": codec.FALSE,
    }
    return frames.frame(CHANNEL, frames.described(frames.TRANSFER, *(fields | changed).values()) + payload)


Read = tuple[int, int, bytes, str | None, str | None, str | None]


def by_sdk(frame: bytes) -> Read:
    """Number, time, body, key, properties and annotations."""
    _, fields = decode_frame(memoryview(frame)[8:])
    read: Any = decode_payload(fields[11])
    annotations = read.message_annotations
    [body] = read.data
    return (
        annotations[b"x-opt-sequence-number"],
        annotations[b"x-opt-enqueued-time"],
        body,
        key_of(read),
        properties_of(read),
        annotations_of(read),
    )


def read(data: bytes, handle: int = 0, most: int = 1000) -> tuple[list[Read], int]:
    events, size = TransferReader(0, CHANNEL, handle).read(memoryview(data), most)
    return list(zip(*events[1:7], strict=True)), size


longs = st.one_of(
    st.integers(-(2**63), 2**63 - 1).map(lambda n: b"\x81" + n.to_bytes(8, signed=True)),
    st.integers(-128, 127).map(lambda n: b"\x55" + n.to_bytes(1, signed=True)),
)
annotations = st.permutations(
    [
        (SEQUENCE, longs),
        (OFFSET, st.text(st.characters(max_codepoint=127), max_size=20).map(codec.string)),
        (TIME, st.integers(0, 2**62).map(codec.timestamp)),
    ]
).flatmap(lambda pairs: st.tuples(*(st.tuples(st.just(name), value) for name, value in pairs)))
keys = st.one_of(st.text(max_size=60).map(codec.string), st.just(codec.NULL))
# A binary's size is written in one byte or in four.
bodies = st.builds(bytes.__mul__, st.binary(max_size=9), st.sampled_from([1, 100]))


header_values = st.sampled_from([codec.TRUE, codec.NULL, b"\x56\x01", b"\x50\x04", codec.uint(70_000)])


texts = st.text(max_size=60).map(codec.string) | st.binary(max_size=300).map(
    lambda text: b"\xb1" + len(text).to_bytes(4) + text
)
properties = st.builds(
    lambda said, is_large: b"\x00\x53\x74" + properties_map(said, is_large=is_large),
    st.lists(st.tuples(texts, texts), max_size=4),
    st.booleans(),
)


def properties_map(said: Iterable[tuple[bytes, bytes]], *, is_large: bool = True) -> bytes:
    """A map with its size and the number of its members in four bytes, or in one where they fit."""
    members = [each for pair in said for each in pair]
    content = b"".join(members)
    if is_large or len(content) > 254:
        return b"\xd1" + (len(content) + 4).to_bytes(4) + len(members).to_bytes(4) + content
    return b"\xc1" + bytes((len(content) + 1, len(members))) + content


@st.composite
def regular_frames(draw: st.DrawFn) -> bytes:
    # Azure's events say the epoch first.
    epoch = draw(st.dictionaries(st.just(EPOCH), st.one_of(st.just(codec.NULL), longs), max_size=1))
    key = draw(st.dictionaries(st.just(KEY), keys, max_size=1))
    stamped = epoch | dict(draw(st.permutations([*draw(annotations), *key.items()])))
    head = b"\x00\x53\x72" + codec.map_of(stamped)
    header = draw(
        st.lists(st.sampled_from([codec.TRUE, codec.NULL, b"\x56\x01", b"\x50\x04", codec.uint(70_000)]), max_size=5)
    )
    head = b"\x00\x53\x70" + codec.list_of(*header) + head if draw(st.booleans()) else head
    payload = head + draw(st.just(b"") | properties) + message_of(draw(bodies))
    return transfer(
        payload,
        delivery=draw(st.integers(0, 2**32 - 1)),
        tag=draw(st.binary(max_size=32)),
        settled=draw(st.sampled_from([codec.TRUE, codec.FALSE, codec.NULL])),
        format=draw(st.sampled_from([codec.NULL, codec.uint(0), codec.uint(7), codec.uint(999)])),
    )


@pytest.mark.slow
@given(st.lists(regular_frames(), max_size=3), st.data())
def test_regular_frames_are_read_as_the_sdk_reads_them(several: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(several)
    cut = data.draw(st.integers(0, len(stream)))
    complete = [frame for number, frame in enumerate(several) if len(b"".join(several[: number + 1])) <= cut]
    assert read(stream[:cut]) == ([by_sdk(frame) for frame in complete], sum(map(len, complete)))
    assert read(stream, most=1) == ([by_sdk(frame) for frame in several[:1]], sum(map(len, several[:1])))


@pytest.mark.parametrize("handle", [0, 1, 255, 256, 70_000])
@pytest.mark.parametrize("key", [None, "patient 7", "k" * 100])
@pytest.mark.parametrize("size", [0, 1, 255, 256, 70_000])
def test_what_the_local_hub_sends_is_regular(handle: int, key: str | None, size: int) -> None:
    template = frames.TransferTemplate(handle)
    sent = [event(bytes([number]) * size, key, number) for number in range(3)]
    stream = b"".join(b"".join(template.frames(CHANNEL, n, each, 1 << 20)) for n, each in enumerate(sent))
    assert read(stream, handle) == (
        [(number, 1_700_000_000_000, bytes([number]) * size, key, None, None) for number in range(3)],
        len(stream),
    )
    assert read(stream, handle + 1) == ([], 0)


GOOD = event(b"body")


def between(section: bytes) -> bytes:
    """An event with a section between annotations and body."""
    return GOOD[: -len(message_of(b"body"))] + section + message_of(b"body")


def annotated(entry: bytes) -> bytes:
    """An event with one more annotation."""
    entries = SEQUENCE + b"\x55\x00" + OFFSET + codec.string("1") + TIME + codec.timestamp(1) + entry
    return b"\x00\x53\x72" + codec.compound(1, entries, 8) + message_of(b"body")


TEXTS = codec.string("k") + codec.string("v")


def said(members: bytes, *, size: int | None = None, count: int = 2) -> bytes:
    """A section of application properties."""
    return b"\x00\x53\x74\xd1" + (len(members) + 4 if size is None else size).to_bytes(4) + count.to_bytes(4) + members


def test_properties_that_are_texts_are_read() -> None:
    frame = transfer(between(said(TEXTS)))
    assert read(frame) == ([by_sdk(frame)], len(frame))
    assert by_sdk(frame)[4] == '{"k":"v"}'


@pytest.mark.parametrize(
    "members", [TEXTS + codec.string("k") + codec.string("w"), b"\xa1\x01\xff\xa1\x02\xed\xa0" + TEXTS]
)
def test_properties_that_are_there_twice_or_no_unicode_are_what_the_sdk_says(members: bytes) -> None:
    frame = transfer(between(said(members, count=4)))
    assert read(frame) == ([by_sdk(frame)], len(frame))


UNUSUAL = {
    "another channel": frames.frame(CHANNEL + 1, transfer(GOOD)[8:]),
    "a part of a message": transfer(GOOD, more=codec.TRUE),
    "an aborted delivery": transfer(GOOD, aborted=codec.TRUE),
    "a long tag": transfer(GOOD, tag=b"x" * 33),
    "a state": transfer(GOOD, state=frames.ACCEPTED),
    "two data sections": transfer(GOOD + message_of(b"more")),
    "a footer": transfer(GOOD + b"\x00\x53\x78" + codec.map_of({})),
    "a value": transfer(event(b"")[:-5] + b"\x00\x53\x77" + codec.string("text")),
    "a header that is a map": transfer(b"\x00\x53\x70" + codec.map_of({}) + GOOD),
    "a header with a text": transfer(b"\x00\x53\x70" + codec.list_of(codec.string("text")) + GOOD),
    "standard properties": transfer(between(b"\x00\x53\x73" + codec.list_of(codec.string("message 1")))),
    "application properties": transfer(between(b"\x00\x53\x74" + codec.map_of({codec.string("k"): codec.NULL}))),
    "a property that is a symbol": transfer(between(said(codec.string("k") + codec.symbol("v")))),
    "a property that ends behind the others": transfer(between(said(codec.string("k") + b"\xa1\x09v"))),
    "properties that end behind the frame": transfer(between(said(TEXTS, size=1000))),
    "properties of another size": transfer(between(said(TEXTS, size=1))),
    "properties that end before their number": transfer(between(b"\x00\x53\x74\xd1\x00\x00\x00\x03\x00\x00\x00")),
    "properties of no size": transfer(between(b"\x00\x53\x74\xc1\x00")),
    "another number of properties": transfer(between(said(TEXTS, count=4))),
    "a property without a value": transfer(between(said(codec.string("k"), count=1))),
    "another annotation": transfer(annotated(codec.symbol("iothub-connection-device-id") + codec.string("d"))),
    "a key that is no text": transfer(annotated(KEY + b"\xa1\x01\xff")),
    "a key that is a symbol": transfer(annotated(KEY + codec.symbol("k"))),
    "no annotations": transfer(message_of(b"body")),
    "the same annotation three times": transfer(
        b"\x00\x53\x72" + codec.compound(1, 3 * (OFFSET + codec.string("1")), 6) + message_of(b"body")
    ),
    "a flow": frames.frame(CHANNEL, frames.flow(1, 1)),
    "a heartbeat": frames.frame(0, b""),
    "a section that is larger than the frame": transfer(GOOD[:-6] + b"\xa0\x09body"),
    "a body that ends before the frame": transfer(GOOD + b"\x00"),
}


@pytest.mark.parametrize("frame", UNUSUAL.values(), ids=UNUSUAL)
def test_what_is_not_regular_is_left_with_all_that_follows(frame: bytes) -> None:
    first = transfer(GOOD)
    events, size = read(first + frame + first)
    assert (len(events), size) == (1, len(first))


@given(st.binary(max_size=400), st.integers(0, 200), st.integers(1, 4))
def test_whatever_bytes_come_nothing_is_raised(noise: bytes, at: int, count: int) -> None:
    damaged = transfer(GOOD)[:at] + noise + transfer(GOOD)[at + count :]
    for data in (noise, damaged):
        events, size = read(data)
        assert size <= len(data)
        assert bool(events) == bool(size)


@pytest.fixture
def wire() -> Iterator[tuple[socket.socket, FrameBuffer]]:
    far, near = socket.socketpair()
    near.settimeout(0.001)
    with far, near:
        yield far, FrameBuffer(near)


def test_frames_come_whole_in_whatever_pieces_they_arrive(wire: tuple[socket.socket, FrameBuffer]) -> None:
    far, buffer = wire
    sizes = [8, 9, 1000, 100_000, 4, 200_000, 700_000]
    sent = [(4 + size).to_bytes(4) + bytes([number]) * size for number, size in enumerate(sizes)]
    stream, taken = b"".join(sent), []
    for at in range(0, len(stream), 50_001):
        far.sendall(stream[at : at + 50_001])
        held = -1
        while held != (held := len(buffer.held)):
            buffer.fill()
        while size := buffer.frame_bytes:
            taken.append(bytes(buffer.held[:size]))
            buffer.skip(size)
    assert taken == sent
    assert not buffer.held


def test_the_room_for_a_large_frame_is_given_back(wire: tuple[socket.socket, FrameBuffer]) -> None:
    far, buffer = wire
    room = len(buffer._buffer)
    large, small = (4 + 300_000).to_bytes(4) + b"x" * 300_000, (4 + 90_000).to_bytes(4) + b"y" * 90_000
    rooms = []
    for sent in (large, small, small, small, small, small, small):
        far.setblocking(False)
        left = memoryview(sent)
        while left or not buffer.frame_bytes:
            with suppress(BlockingIOError):
                left = left[far.send(left) :]
            buffer.fill()
        rooms.append(len(buffer._buffer))
        assert bytes(buffer.held[: buffer.frame_bytes]) == sent
        buffer.skip(len(sent))
    assert rooms[0] > 2 * room
    assert rooms[-1] <= 2 * room


def test_the_sdk_gets_what_is_offered_and_no_more(wire: tuple[socket.socket, FrameBuffer]) -> None:
    far, buffer = wire
    far.sendall(b"\x00\x00\x00\x0aabcdef\x00\x00\x00\x09")
    buffer.fill()
    target = memoryview(bytearray(8))
    with pytest.raises(TimeoutError):
        buffer.recv_into(target)
    buffer.offer(buffer.frame_bytes)
    assert (buffer.recv_into(target), bytes(target)) == (8, b"\x00\x00\x00\x0aabcd")
    assert (buffer.recv_into(target), bytes(target[:2])) == (2, b"ef")
    with pytest.raises(TimeoutError):
        buffer.recv_into(target)
    assert (bytes(buffer.held), buffer.frame_bytes) == (b"\x00\x00\x00\x09", 0)


@pytest.fixture
def encrypted(tmp_path: Path) -> Iterator[tuple[ssl.SSLSocket, ssl.SSLSocket]]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    begin = datetime(2020, 1, 1, tzinfo=UTC)
    certificate = x509.CertificateBuilder(name, name, key.public_key(), 1, begin, begin + timedelta(days=36500))
    pem = certificate.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    (tmp_path / "pem").write_bytes(pem + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(tmp_path / "pem")
    client = ssl.create_default_context(cafile=tmp_path / "pem")
    far, near = socket.socketpair()
    with ThreadPoolExecutor(1) as pool:
        server = pool.submit(served.wrap_socket, far, server_side=True)
        with client.wrap_socket(near, server_hostname="localhost") as ours, server.result() as theirs:
            yield theirs, ours


def test_what_tls_has_read_already_counts_as_readable(encrypted: tuple[ssl.SSLSocket, ssl.SSLSocket]) -> None:
    far, near = encrypted
    near.settimeout(1)
    buffer = FrameBuffer(near)
    states = [has_pending(buffer)]
    # Of a record of 16 kB the socket hands out what is asked for, and keeps the rest where `select` does not look.
    far.sendall(b"\x00\x00\x20\x00" + b"x" * 8188)
    assert near.recv(10) == b"\x00\x00\x20\x00xxxxxx"
    assert select.select([near], [], [], 0) == ([], [], [])
    states.append(has_pending(buffer))
    buffer.fill()
    states.append(has_pending(buffer))
    assert (len(buffer.held), states) == (8182, [False, True, False])


def test_what_was_read_before_comes_first() -> None:
    far, near = socket.socketpair()
    with far, near:
        buffer = FrameBuffer(near, b"\x00\x00")
        far.sendall(b"\x00\x08abcd")
        buffer.fill()
        assert (bytes(buffer.held), buffer.frame_bytes) == (b"\x00\x00\x00\x08abcd", 8)


def test_a_closed_connection_is_an_error(wire: tuple[socket.socket, FrameBuffer]) -> None:
    far, buffer = wire
    far.close()
    with pytest.raises(ConnectionError, match="closed the connection"):
        buffer.fill()


@pytest.mark.parametrize("start", [b"AMQP\x00\x01\x00\x00", b"\x00\x00\x00\x07abc"])
def test_what_is_no_frame_is_an_error(wire: tuple[socket.socket, FrameBuffer], start: bytes) -> None:
    far, buffer = wire
    far.sendall(start)
    buffer.fill()
    with pytest.raises(ConnectionError, match="no AMQP frame"):
        _ = buffer.frame_bytes
