"""What a producer can send, and that a reader gets exactly that."""

import os

import pytest
from azure.eventhub import EventData
from azure.eventhub.amqp import AmqpAnnotatedMessage, AmqpMessageHeader, AmqpMessageProperties

from emulator.keyhash import partition_of
from tests.emulator.clients import bodies, partition_properties, producer, receive
from tests.emulator.hub import RunningHub

pytestmark = pytest.mark.service


def test_every_kind_of_message_arrives_as_it_was_sent(emulator):
    rich = AmqpAnnotatedMessage(
        value_body={"k": [1, 2.5, "x", None, True]},
        header=AmqpMessageHeader(priority=5, durable=True),  # type: ignore[no-untyped-call]
        properties=AmqpMessageProperties(  # type: ignore[no-untyped-call]
            message_id="id", subject="s", creation_time=1_700_000_000_000
        ),
        application_properties={"i": 1, "f": 1.5, "s": "é", "b": b"\0\1", "n": None},
        annotations={"x-my": "v"},
        delivery_annotations={"x-da": 1},
        footer={"foot": 1},
    )
    others = [AmqpAnnotatedMessage(sequence_body=[[1, 2], ["a"]]), AmqpAnnotatedMessage(data_body=[b"a", b"b"])]
    with producer(emulator.connection_string, "kinds") as client:
        batch = client.create_batch(partition_id="0")
        for message in [rich, *others]:
            batch.add(message)
        client.send_batch(batch)
        client.send_event(EventData(b""), partition_id="0")

    first, sequence, data, empty = (
        event.raw_amqp_message for event in receive(emulator.connection_string, 4, hub="kinds")
    )

    assert first.body == {b"k": [1, 2.5, b"x", None, True]}
    assert first.header.priority == 5
    assert first.header.durable
    assert first.properties.message_id == b"id"
    assert first.properties.creation_time == 1_700_000_000_000
    assert first.application_properties == {b"i": 1, b"f": 1.5, b"s": "é".encode(), b"b": b"\0\1", b"n": None}
    assert first.annotations[b"x-my"] == b"v"
    assert first.footer == {b"foot": 1}
    assert list(sequence.body) == [[1, 2], [b"a"]]
    assert list(data.body) == [b"a", b"b"]
    assert list(empty.body) == [b""]


def test_events_with_the_same_key_go_to_the_partition_of_its_hash(emulator):
    keys = ["alpha", "beta", "gamma", "delta"]
    with producer(emulator.connection_string, "keys") as client:
        for key in keys:
            client.send_batch([EventData(key)], partition_key=key)
            client.send_event(EventData(key), partition_key=key)
            batch = client.create_batch(partition_key=key)
            batch.add(EventData(key))
            client.send_batch(batch)

    events = receive(emulator.connection_string, 12, hub="keys", partition=None, group="cg1")
    for partition in range(4):
        mine = [key for key in keys for _ in range(3) if partition_of(key.encode(), 4) == partition]
        stored = [event for event in events if event.body_as_str() in mine]
        assert bodies(stored) == mine
        assert [event.partition_key.decode() for event in stored] == mine
        assert [event.sequence_number for event in stored] == list(range(len(mine)))


def test_events_without_key_and_partition_go_round():
    with RunningHub(hubs=("hub:3",)) as running, producer(running.connection_string) as client:
        for number in range(7):
            client.send_event(EventData(str(number)))
        tails = [client.get_partition_properties(name)["last_enqueued_sequence_number"] for name in "012"]
    assert tails == [2, 1, 1]


@pytest.mark.parametrize("max_frame", [512, 65536])
def test_messages_larger_than_a_frame_arrive_whole(max_frame):
    large, small = os.urandom(900_000), [os.urandom(150).hex() for _ in range(500)]
    with RunningHub(options=("--max-frame", str(max_frame))) as running:
        with producer(running.connection_string) as client:
            client.send_batch([EventData(body) for body in small], partition_id="0")
            client.send_event(EventData(large), partition_id="0")
        events = receive(running.connection_string, 501)
    assert bodies(events[:500]) == small
    assert b"".join(events[500].body) == large


def test_a_batch_may_fill_the_whole_limit(emulator):
    with producer(emulator.connection_string, "large") as client:
        batch = client.create_batch(partition_id="0")
        count = 0
        try:
            while True:
                batch.add(EventData("x" * 1000))
                count += 1
        except ValueError:
            client.send_batch(batch)
    assert batch.max_size_in_bytes == 1024 * 1024
    assert partition_properties(emulator.connection_string, hub="large")["last_enqueued_sequence_number"] == count - 1


def test_properties_of_an_empty_hub():
    with RunningHub(hubs=("Eh.One:2",)) as running, producer(running.connection_string, "eh.one") as client:
        assert client.get_eventhub_properties()["eventhub_name"] == "Eh.One"
        assert client.get_partition_ids() == ["0", "1"]
        properties = client.get_partition_properties("1")
    assert properties["is_empty"] is True
    assert properties["beginning_sequence_number"] == 0
    assert properties["last_enqueued_sequence_number"] == -1
    assert properties["last_enqueued_offset"] == "-1"
