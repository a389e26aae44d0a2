"""What the SDK never does: garbage, small windows, aborted and oversized deliveries, idle clients."""

import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator import codec, frames
from emulator.codec import NULL
from tests.emulator.hub import RunningHub
from tests.emulator.raw import RawClient

pytestmark = pytest.mark.service

READER = "raw/ConsumerGroups/$Default/Partitions/0"
GARBAGE = st.one_of(
    st.binary(min_size=1, max_size=200),
    st.binary(max_size=60).map(lambda tail: frames.AMQP_HEADER + tail),
    st.binary(max_size=60).map(lambda body: frames.frame(0, body)),
    st.tuples(st.sampled_from(range(0x10, 0x19)), st.binary(max_size=60)).map(
        lambda pair: frames.frame(0, bytes((0, 0x53, pair[0], 0xC0)) + pair[1])
    ),
    st.tuples(st.sampled_from(range(0x10, 0x19)), st.lists(st.sampled_from([NULL, codec.uint(1), codec.TRUE]))).map(
        lambda pair: frames.frame(0, frames.described(pair[0], *pair[1]))
    ),
)


@pytest.fixture(scope="module")
def running():
    """Not shared with others, who would not like the garbage."""
    with RunningHub(hubs=("raw:1", "window:1")) as hub:
        yield hub
        assert "Traceback" not in hub.stderr()


def sink(client: RawClient, hub: str = "raw") -> None:
    client.put_token(f"sb://localhost/{hub}")
    client.attach("sink", 2, hub, receives=False)
    client.expect(frames.FLOW)


def data(body: bytes) -> bytes:
    return frames.section(0x75, codec.binary(body))


@settings(deadline=None, max_examples=60)
@given(garbage=st.lists(GARBAGE, min_size=1, max_size=3))
def test_garbage_never_harms_others(running, garbage):
    with RawClient(running.port) as neighbour:
        with socket.create_connection(("127.0.0.1", running.port), timeout=20) as plain:
            plain.sendall(b"".join(garbage))
        with RawClient(running.port) as opened:
            opened.write(b"".join(garbage))
        assert neighbour.attach("cbs", 0, "$cbs", receives=False).text(0) == "cbs"


@settings(deadline=None, max_examples=40)
@given(message=st.binary(max_size=80), message_format=st.sampled_from([0, 0x80013700]))
def test_a_garbled_delivery_is_rejected_and_the_link_goes_on(running, message, message_format):
    with RawClient(running.port) as client:
        sink(client)
        client.transfer(2, b"\x00\x53\x72\xc1" + message, 1, message_format)
        client.transfer(2, data(b"whole"), 2)
        rejected, accepted = client.expect(frames.DISPOSITION), client.expect(frames.DISPOSITION)
    assert rejected.integer(1) == 1
    assert b"amqp:decode-error" in rejected.encoded(4)
    assert accepted.integer(1) == 2
    assert accepted.encoded(4) == frames.ACCEPTED


def test_a_connection_is_told_why_it_is_closed(running):
    for body, reason in [
        (frames.described(0x99), b"amqp:not-allowed"),
        (b"\x00\x53\x10\xc0\xff", b"amqp:decode-error"),
        (frames.described(frames.ATTACH, codec.uint(1), codec.string("x")), b"amqp:decode-error"),
    ]:
        with RawClient(running.port) as client:
            client.send(body)
            assert reason in client.expect(frames.CLOSE).encoded(0)
            assert client.is_closed_by_server()
    with RawClient(running.port) as client:
        client.write(b"\x7f\xff\xff\xff\x02\x00\x00\x00")
        assert b"amqp:connection:framing-error" in client.expect(frames.CLOSE).encoded(0)


def test_another_protocol_is_answered_with_the_one_spoken(running):
    with socket.create_connection(("127.0.0.1", running.port), timeout=20) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert plain.recv(100) == frames.AMQP_HEADER


def test_a_delivery_beyond_the_limit_ends_its_link_only(running):
    with RawClient(running.port) as client:
        sink(client)
        for _ in range(9):
            client.transfer(2, b"x" * 120_000, more=True)
        detach = client.expect(frames.DETACH)
        assert b"amqp:link:message-size-exceeded" in detach.encoded(2)
        client.attach("again", 2, "raw", receives=False)
        client.expect(frames.FLOW)


def test_a_reader_gets_no_more_frames_than_its_window(running):
    large = bytes(range(256)) * 12
    with RawClient(running.port) as writer:
        sink(writer, "window")
        for number in range(2):
            writer.transfer(2, data(large), number)
            writer.expect(frames.DISPOSITION)
    with RawClient(running.port, max_frame=1024, window=3) as reader:
        reader.put_token("sb://localhost/window")
        reader.attach("reader", 2, READER.replace("raw", "window"), receives=True)
        received = 1
        payloads: list[tuple[int, bool, bytes]] = []
        reader.flow(2, received, 3, credit=2)
        while len(payloads) < 8:
            for _ in range(min(3, 8 - len(payloads))):
                transfer = reader.expect(frames.TRANSFER)
                payloads.append((transfer.integer(1), transfer.flag(5), transfer.payload))
                received += 1
            reader.flow(
                2,
                received,
                3,
                credit=2 - sum(not more for _, more, _ in payloads),
                delivered=sum(not more for _, more, _ in payloads),
            )
    assert [(delivery, more) for delivery, more, _ in payloads] == [(1, True)] * 3 + [(1, False)] + [(2, True)] * 3 + [
        (2, False)
    ]
    assert b"".join(payload for _, _, payload in payloads).count(large) == 2


def test_a_client_with_an_idle_timeout_hears_heartbeats(running):
    with socket.create_connection(("127.0.0.1", running.port), timeout=20) as client:
        opening = frames.described(
            frames.OPEN, codec.string("idle"), NULL, codec.uint(65536), codec.ushort(1), codec.uint(200), *[NULL] * 5
        )
        client.sendall(frames.AMQP_HEADER + frames.frame(0, opening))
        heartbeat = frames.frame(0, b"")
        received = b""
        while not received.endswith(heartbeat * 2):
            received += client.recv(1000)


def test_a_drained_link_is_told_that_nothing_is_left(running):
    with RawClient(running.port) as client:
        client.put_token("sb://localhost/raw")
        client.attach("reader", 2, READER, receives=True)
        numbers = [codec.uint(n) for n in (1, 100000, 0, 1000, 2, 0, 100000)]
        client.send(frames.described(frames.FLOW, *numbers, NULL, codec.TRUE, codec.FALSE, NULL))
        flow = client.next_frame()
        while flow.code == frames.TRANSFER:
            flow = client.next_frame()
    assert (flow.code, flow.integer(5), flow.integer(6)) == (frames.FLOW, 100_000, 0)
