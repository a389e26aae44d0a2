"""What the receiver and the publisher use inside the SDK, beyond its documentation."""

import inspect
import select
import time
from collections.abc import Iterator
from typing import Any

import pytest
from azure.eventhub import EventData, EventDataBatch, EventHubConsumerClient
from azure.eventhub._consumer import EventHubConsumer
from azure.eventhub._pyamqp import _decode, _encode
from azure.eventhub._pyamqp._connection import Connection
from azure.eventhub._pyamqp._transport import _AbstractTransport
from azure.eventhub._pyamqp.constants import LinkState
from azure.eventhub._pyamqp.error import AMQPException
from azure.eventhub._pyamqp.performatives import OpenFrame
from azure.eventhub.exceptions import EventHubError

from resources.connections import Connections
from resources.deadlines import SILENT_AFTER_S
from resources.event_hubs_receiver import PREFETCH, _PartitionConsumer
from resources.sdk import is_tested
from tests.emulator.clients import consumer, producer, send
from tests.emulator.hub import RunningHub

pytestmark = [pytest.mark.contract, pytest.mark.service]


@pytest.fixture(scope="module")
def hub() -> Iterator[RunningHub]:
    with RunningHub(("hub:1", "messages:1", "other:2", "counted:1", "tags:1")) as running:
        yield running


class Probe(EventHubConsumer):
    """A consumer that keeps the messages which the SDK hands to its private hook."""

    def __init__(self, client: EventHubConsumerClient, **options) -> None:
        address = client._address
        source = f"amqps://{address.hostname}{address.path}/ConsumerGroups/$Default/Partitions/0"
        how = {"event_position": "-1", "prefetch": 50, "keep_alive": None, "on_event_received": None, **options}
        super().__init__(client, source, amqp_transport=client._amqp_transport, **how)
        self.messages: list[Any] = []

    def _message_received(self, message) -> None:
        self.messages.append(message)

    def opened(self) -> "Probe":
        while not self._open():
            pass
        return self

    def received(self, count: int) -> list[Any]:
        for _ in range(200):
            if len(self.messages) >= count:
                break
            self._handler.do_work(batch=50)  # type: ignore[union-attr]
        return self.messages


def test_a_consumer_opens_without_blocking_and_shows_its_socket_link_and_credit(hub: RunningHub) -> None:
    with consumer(hub.connection_string) as client:
        probe = Probe(client, owner_level=0).opened()
        handler: Any = probe._handler
        assert handler._connection._transport.sock.fileno() > 0
        assert handler._connection._transport._read_buffer.read() == b""
        assert handler._link.get_state() is LinkState.ATTACHED
        handler.do_work(batch=50)
        assert handler._link.current_link_credit == 50
        probe.close()


def test_each_message_comes_to_the_hook_with_annotations_and_data_as_bytes(hub: RunningHub) -> None:
    with producer(hub.connection_string, "messages") as sender:
        sender.send_batch([EventData(b"one"), EventData([b"two", b"parts"])], partition_id="0")
    with consumer(hub.connection_string, "messages") as client:
        probe = Probe(client).opened()
        first, second = probe.received(2)
        assert (first.data, second.data) == ([b"one"], [b"two", b"parts"])
        assert [each.message_annotations[b"x-opt-sequence-number"] for each in (first, second)] == [0, 1]
        assert all(isinstance(each.message_annotations[b"x-opt-enqueued-time"], int) for each in (first, second))
        probe.close()


def counters(handler: Any) -> dict[str, int]:
    session, link = handler._session, handler._link
    return {
        **{name: getattr(session, name) for name in ("next_incoming_id", "remote_outgoing_window", "incoming_window")},
        **{name: getattr(link, name) for name in ("delivery_count", "current_link_credit")},
    }


def test_transfers_that_are_not_read_by_the_sdk_are_counted_as_it_counts_them(hub: RunningHub) -> None:
    send(hub.connection_string, (str(number) for number in range(40)), hub="counted")
    with consumer(hub.connection_string, "counted") as client:
        probe = Probe(client).opened()
        probe.received(40)
        handler: Any = probe._handler
        assert handler._link._first_frame is not None
        by_sdk = counters(handler)
        probe.close()
        ours = _PartitionConsumer(client, 0, None)
        ours.open()
        try:
            link: Any = ours._link
            assert isinstance(link.remote_handle, int)
            assert bytes(link._received_payload) == b""
            for _ in range(200):
                if len(ours.pulled.bodies) == 40:
                    break
                ours.poll(is_readable=bool(select.select([ours.frames], [], [], 0.05)[0]), now=time.monotonic())
            assert len(ours.pulled.bodies) == 40
            # Prefetch differs, and all else must not.
            assert counters(ours._handler) == by_sdk | {"current_link_credit": PREFETCH - 40}
            # The SDK keeps the first frame of the delivery that it read last: it read none.
            assert link._first_frame is None
        finally:
            ours.close()


def test_the_sdk_keeps_the_tag_of_each_delivery_that_it_reads(hub: RunningHub) -> None:
    send(hub.connection_string, ["one", "two"], hub="tags")
    with consumer(hub.connection_string, "tags") as client:
        probe = Probe(client).opened()
        probe.received(2)
        handler: Any = probe._handler
        assert handler._link._received_delivery_tags == {b"\x01"}
        probe.close()


def test_an_integer_position_is_exclusive(hub: RunningHub) -> None:
    with producer(hub.connection_string, "other") as sender:
        sender.send_batch([EventData(str(number)) for number in range(5)], partition_id="0")
    with consumer(hub.connection_string, "other") as client:
        probe = Probe(client, event_position=2).opened()
        assert [message.data for message in probe.received(2)] == [[b"3"], [b"4"]]
        probe.close()


def test_the_transport_reads_by_recv_into_alone() -> None:
    source = inspect.getsource(inspect.getmodule(_AbstractTransport))  # type: ignore[arg-type]
    assert "recv_into" in source
    assert ".recv(" not in source.split("class WebSocketTransport")[0].replace("self.ws.recv(", "")


def test_a_batch_is_a_list_of_encoded_sections_with_a_size_and_a_count() -> None:
    by_sdk = EventDataBatch(max_size_in_bytes=10_000, partition_id="0")
    by_sdk.add(EventData(b"body"))
    empty = EventDataBatch(max_size_in_bytes=10_000, partition_id="0")
    assert (empty._size, empty._count, list(empty._message[5])) == (empty.size_in_bytes, 0, [])
    assert [bytes(section) for section in by_sdk._message[5]] == [b"\x00\x53\x75\xa0\x04body"]
    assert by_sdk._count == len(by_sdk) == 1


def test_a_binary_is_encoded_by_its_own_length_and_content() -> None:
    output = bytearray()
    _encode.encode_binary(output, b"x" * 300)
    assert bytes(output) == b"\xb0" + (300).to_bytes(4, "big") + b"x" * 300


def test_a_producer_of_one_partition_can_be_opened_before_the_first_event(hub: RunningHub) -> None:
    with producer(hub.connection_string, "other") as client:
        client.create_batch()
        client._start_producer("1", None)
        opened = client._producers["1"]
        assert opened is not None
        opened._open_with_retry()
        assert opened.running


def test_these_tests_run_with_the_release_that_may_be_bypassed() -> None:
    assert is_tested()


def test_a_client_opens_its_connections_by_the_transport_that_it_is_given(hub: RunningHub) -> None:
    connections = Connections()
    with producer(hub.connection_string, "other", amqp_transport=connections) as client:
        client.get_partition_ids()
        [asked] = connections._clients
        assert (asked._shutdown, asked._connection) == (True, None)
        client.send_batch([EventData("x")], partition_id="0")
        *_, sending = connections._clients
        assert sending._connection._transport.sock.fileno() > 0
        assert not sending._shutdown
    with consumer(hub.connection_string, "other", amqp_transport=connections) as reader:
        ours = _PartitionConsumer(reader, 0, None)
        ours.open()
        assert connections._clients[-1] is ours._handler
        ours.close()
        assert ours._handler is not None
        assert ours._handler._connection is None


def test_a_socket_that_is_shut_ends_what_waits_for_it(hub: RunningHub) -> None:
    connections = Connections()
    with consumer(hub.connection_string, "other", amqp_transport=connections) as client:
        ours = _PartitionConsumer(client, 0, None)
        ours.open()
        connections.cut()
        with pytest.raises((AMQPException, ConnectionError)):
            ours.poll(is_readable=True, now=time.monotonic())
        with pytest.raises(ConnectionError, match="given up"):
            client.get_partition_ids()
        ours.close()


def test_the_hub_is_asked_for_signs_of_life(hub: RunningHub, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    send = Connection._send_frame

    def sent(self: Connection, channel: int, frame: Any, **options: Any) -> None:
        opened.append(frame)
        send(self, channel, frame, **options)

    monkeypatch.setattr(Connection, "_send_frame", sent)
    with consumer(hub.connection_string, "other") as client:
        ours = _PartitionConsumer(client, 0, None)
        ours.open()
        assert [frame.idle_timeout for frame in opened if isinstance(frame, OpenFrame)] == [SILENT_AFTER_S / 2 * 1000]
        ours.close()


def test_the_sdk_leaves_out_three_types() -> None:
    """Should it learn them, `read_all_types` has nothing to do any more."""
    source = inspect.getsource(_decode)
    assert not any(f"_DECODE_BY_CONSTRUCTOR[{constructor}] =" in source for constructor in (0x73, 0x74, 0x84))


def test_an_unknown_hub_is_an_event_hub_error_with_a_condition(hub: RunningHub) -> None:
    with consumer(hub.connection_string, "nowhere", retry_total=0) as client:
        with pytest.raises(EventHubError, match="nowhere"):
            client.get_eventhub_properties()
