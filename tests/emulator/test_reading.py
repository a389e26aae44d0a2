"""Where readers start, what they are told, and who may read."""

import time
from datetime import UTC, datetime

import pytest
from azure.eventhub import EventData

from emulator import codec, frames
from tests.emulator.clients import Reading, bodies, producer, receive, send
from tests.emulator.raw import RawClient

pytestmark = pytest.mark.service

READER_ADDRESS = "hub/ConsumerGroups/$Default/Partitions/1"


# As long as the emulator: a worker may come back to this module, and must not send the events again.
@pytest.fixture(scope="session")
def positioned(emulator):
    """Three batches of ten at three different times."""
    with producer(emulator.connection_string, "positions") as client:
        for batch in range(3):
            client.send_batch([EventData(f"{batch}-{n}") for n in range(10)], partition_id="0")
            time.sleep(0.002)
    return receive(emulator.connection_string, 30, hub="positions")


def test_sequence_numbers_are_contiguous_and_offsets_grow(positioned):
    assert [event.sequence_number for event in positioned] == list(range(30))
    offsets = [int(event.offset) for event in positioned]
    assert offsets == sorted(set(offsets))


@pytest.mark.parametrize(
    ("position", "is_inclusive", "first"),
    [
        (lambda events: 12, False, 13),
        (lambda events: 12, True, 12),
        (lambda events: events[17].offset, False, 18),
        (lambda events: events[17].offset, True, 17),
        (lambda events: events[10].enqueued_time, True, 10),
        (lambda events: events[10].enqueued_time, False, 20),
        (lambda events: datetime(2020, 1, 1, tzinfo=UTC), False, 0),
    ],
)
def test_a_reader_starts_where_it_asks(emulator, positioned, position, is_inclusive, first):
    how = {"starting_position": position(positioned), "starting_position_inclusive": is_inclusive}
    events = receive(emulator.connection_string, 30 - first, hub="positions", **how)
    assert [event.sequence_number for event in events] == list(range(first, 30))


@pytest.mark.parametrize("position", [29, "@latest"])
def test_a_reader_at_the_end_gets_only_what_comes(emulator, position):
    if position == 29:
        send(emulator.connection_string, [str(n) for n in range(30)], hub="latest")
    with Reading(emulator.connection_string, hub="latest", starting_position=position) as reading:
        with producer(emulator.connection_string, "latest") as client:
            while not reading.events:
                client.send_event(EventData("new"), partition_id="0")
        assert set(bodies(reading.wait_for_events(1))) == {"new"}


@pytest.mark.parametrize("position", [10_000, "99999999"])
def test_a_position_that_was_never_written_is_an_error(emulator, positioned, position):
    with Reading(emulator.connection_string, hub="positions", starting_position=position) as reading:
        assert f"'{position}' is invalid" in str(reading.wait_for_error())


def test_a_reader_learns_how_far_the_partition_is(emulator, positioned):
    with Reading(emulator.connection_string, hub="positions", track_last_enqueued_event_properties=True) as reading:
        reading.wait_for_events(30)
        assert reading.metrics["sequence_number"] == 29
        assert reading.metrics["offset"] == positioned[-1].offset


def test_a_higher_epoch_takes_the_partition_and_a_lower_one_is_refused(emulator):
    send(emulator.connection_string, ["a"], hub="epochs")

    def reading(level: int) -> Reading:
        return Reading(emulator.connection_string, hub="epochs", owner_level=level)

    with reading(1) as lower:
        lower.wait_for_events(1)
        with reading(2) as higher:
            higher.wait_for_events(1)
            assert "New receiver with higher or equal epoch '2'" in str(lower.wait_for_error())
            with reading(1) as refused:
                assert "epoch '2' is present" in str(refused.wait_for_error())


def test_an_equal_epoch_replaces_and_none_at_all_gives_way(emulator):
    address = "raw/ConsumerGroups/$Default/Partitions/0"
    with RawClient(emulator.port) as client:
        client.put_token("sb://localhost/raw")

        def attach(handle: int, epoch: int | None) -> bool:
            return client.attach(f"reader-{handle}", handle, address, True, epoch).encoded(5) != codec.NULL

        def stolen() -> int:
            detach = client.expect(frames.DETACH)
            assert b"amqp:link:stolen" in detach.encoded(2)
            return detach.integer(0)

        assert attach(2, None)
        assert attach(3, None)
        client.send_attach("reader-4", 4, address, True, 5)
        assert [stolen(), stolen()] == [2, 3]
        client.expect(frames.ATTACH)
        client.send_attach("reader-5", 5, address, True, 5)
        assert stolen() == 4
        client.expect(frames.ATTACH)
        assert not attach(6, None)
        assert stolen() == 6
        assert not attach(7, 4)
        assert stolen() == 7


def test_no_more_than_five_readers_of_a_group_at_a_partition(emulator):
    with RawClient(emulator.port) as client:
        client.put_token()
        for handle in range(2, 7):
            answer = client.attach(f"reader-{handle}", handle, READER_ADDRESS, receives=True)
            assert answer.encoded(5) != codec.NULL
        assert client.attach("sixth", 7, READER_ADDRESS, receives=True).encoded(5) == codec.NULL
        assert b"maximum number of 5 receivers" in client.expect(frames.DETACH).encoded(2)
