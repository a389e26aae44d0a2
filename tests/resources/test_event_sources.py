"""What `EventSource`, `Receiver` and `Publisher` promise, of every transport by the same tests."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from resources.event_source import HubUnavailableError, Pulled, Receiver
from tests.emulator.hub import RunningHub
from tests.resources.hub_places import (
    HUBS_OF_EMULATOR,
    LARGEST,
    PARTITIONS,
    TOO_LARGE,
    Place,
    in_memory,
    of_broker,
    of_event_hubs,
    of_mock_cluster,
)
from tests.services.kafka import Broker, MockCluster

PATIENCE_S = 30
pytestmark = [
    # The SDK of Event Hubs leaves the sockets of connections that failed to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def emulator() -> Iterator[RunningHub]:
    with RunningHub([f"hub{number}:{PARTITIONS}" for number in range(HUBS_OF_EMULATOR)]) as running:
        yield running


@pytest.fixture(scope="module")
def mock_cluster() -> MockCluster:
    return MockCluster()


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    with Broker() as running:
        yield running


TRANSPORTS: dict[str, tuple[Callable[..., Place], str]] = {
    "event hubs": (of_event_hubs, "emulator"),
    "kafka, mock cluster": (of_mock_cluster, "mock_cluster"),
    "kafka, broker": (of_broker, "broker"),
}


BY_NETWORK = [pytest.param(name, marks=pytest.mark.service) for name in TRANSPORTS]


@pytest.fixture(params=["memory", *BY_NETWORK])
def place(request: pytest.FixtureRequest) -> Place:
    """An empty hub."""
    if request.param == "memory":
        return in_memory()
    make, service = TRANSPORTS[request.param]
    return make(request.getfixturevalue(service))


def numbered(count: int, start: int = 0) -> list[bytes]:
    return [str(number).encode() for number in range(start, start + count)]


def take(receiver: Receiver, count: int) -> list[Pulled]:
    """Takes until there are that many events."""
    taken: list[Pulled] = []
    deadline = time.monotonic() + PATIENCE_S
    while sum(len(pulled.bodies) for pulled in taken) < count:
        taken += receiver.take(1.0)
        assert time.monotonic() < deadline, f"{taken} and no more"
    return taken


def by_partition(taken: Sequence[Pulled]) -> dict[int, list[bytes]]:
    found: dict[int, list[bytes]] = {}
    for pulled in taken:
        found.setdefault(pulled.partition, []).extend(body or b"" for body in pulled.bodies)
    return found


def test_tails_say_what_each_partition_holds(place: Place) -> None:
    empty = place.source.state()
    assert {number: tail[:2] for number, tail in empty.tails.items()} == dict.fromkeys(range(PARTITIONS), (0, -1))
    place.send(numbered(5), 1)
    found = place.source.state()
    assert {number: tail[:2] for number, tail in found.tails.items()} == {0: (0, -1), 1: (0, 4), 2: (0, -1), 3: (0, -1)}
    assert found.identity == empty.identity
    assert found.tails[1].end == 4


@pytest.mark.parametrize(("after", "expected"), [({}, 10), ({2: -1}, 10), ({2: 0}, 9), ({2: 6}, 3)])
def test_events_are_received_behind_a_number_or_from_the_beginning(
    place: Place, after: dict[int, int], expected: int
) -> None:
    place.send(numbered(10), 2)
    with place.source.receive(after) as receiver:
        [pulled] = take(receiver, expected)
        assert receiver.take(0.2) == []
    assert pulled.bodies == numbered(10)[-expected:]
    assert pulled.sequence_numbers == list(range(10 - expected, 10))


def test_each_partition_comes_completely_in_order_and_in_columns_of_one_length(place: Place) -> None:
    sent = {partition: numbered(300, partition * 1000) for partition in range(PARTITIONS)}
    began_ms = time.time() * 1000 - 1000
    for partition, bodies in sent.items():
        place.send(bodies[:200], partition)
    with place.source.receive({}) as receiver:
        taken = take(receiver, 800)
        for partition, bodies in sent.items():
            place.send(bodies[200:], partition)
        taken += take(receiver, 400)
    assert by_partition(taken) == sent
    for pulled in taken:
        assert {len(column) for column in pulled[1:7]} == {len(pulled.bodies)}
        assert all(began_ms < at < time.time() * 1000 + 1000 for at in pulled.enqueued_ms)
        assert pulled.enqueued_ms == sorted(pulled.enqueued_ms)
        assert pulled.expired == 0


def test_bodies_of_every_size_arrive_as_they_were_sent(place: Place) -> None:
    bodies = [b"", b"x", bytes(range(256)), b"y" * 70_000, b"z" * LARGEST, b"", b"end"]
    with place.publisher() as publisher:
        assert publisher.publish(bodies, ["key"] * len(bodies)) == []
    with place.source.receive({}) as receiver:
        [arrived] = by_partition(take(receiver, len(bodies))).values()
    assert arrived == bodies


def test_taking_waits_for_an_event_and_no_longer_than_it_is_told(place: Place) -> None:
    with place.source.receive({}) as receiver:
        assert receiver.wait_until_open(PATIENCE_S)
        began = time.monotonic()
        assert receiver.take(0.2) == []
        receiver.gather(0.2)
        assert time.monotonic() - began < 5


def test_an_event_that_comes_later_is_received(place: Place) -> None:
    with place.source.receive({}) as receiver:
        assert receiver.wait_until_open(PATIENCE_S)
        place.send([b"later"], 3)
        [pulled] = take(receiver, 1)
    assert (pulled.partition, pulled.bodies, pulled.sequence_numbers) == (3, [b"later"], [0])


def test_what_another_receiver_handed_out_is_skipped_whether_it_has_arrived_or_not(place: Place) -> None:
    place.send(numbered(10), 0)
    place.send(numbered(3), 1)
    with place.source.receive({0: 1}) as receiver:
        assert receiver.wait_until_open(PATIENCE_S)
        receiver.gather(0.3)
        receiver.skip({0: 6, 1: 4, 2: -1})
        place.send(numbered(4, start=3), 1)
        found = by_partition(take(receiver, 5))
        assert receiver.take(0.2) == []
    assert found == {0: numbered(3, start=7), 1: numbered(2, start=5)}


def test_a_hub_that_is_made_anew_has_another_identity(place: Place) -> None:
    place.send(numbered(5), 0)
    before = place.source.state().identity
    if place.recreate is None:
        # librdkafka's mock cluster knows no ids of topics.
        assert before is None
        return
    assert before is not None
    assert place.source.state().identity == before
    after = place.recreate().state()
    assert after.identity not in (None, before)
    assert after.tails[0].end == -1


@pytest.mark.parametrize("place", BY_NETWORK, indirect=True)
def test_a_hub_that_does_not_exist_is_named_with_what_to_do(place: Place) -> None:
    assert place.absent is not None
    source, publisher = place.absent
    with pytest.raises(HubUnavailableError, match=r"'absent' at .*Check that the"):
        source.state()
    with pytest.raises(HubUnavailableError, match="'absent' at"), source.receive({}) as receiver:
        take(receiver, 1)
    with publisher() as absent:
        for _ in range(2):
            with pytest.raises(HubUnavailableError, match=r"'absent' at .*Check that the"):
                absent.publish([b"lost"], ["key"])


def test_events_of_one_key_stay_in_order_and_in_one_partition(place: Place) -> None:
    keys = [f"patient {number % 9}" for number in range(3000)]
    bodies = [f"{key}: {number}".encode() for number, key in enumerate(keys)]
    with place.publisher() as publisher:
        for start in range(0, 3000, 500):
            assert publisher.publish(bodies[start : start + 500], keys[start : start + 500]) == []
    with place.source.receive({}) as receiver:
        found = by_partition(take(receiver, 3000))
    for key in set(keys):
        own = [[body for body in each if body.startswith(f"{key}:".encode())] for each in found.values()]
        [arrived] = filter(None, own)
        assert arrived == [body for body in bodies if body.startswith(f"{key}:".encode())]


def test_events_without_a_key_are_published(place: Place) -> None:
    with place.publisher() as publisher:
        assert publisher.publish([], []) == []
        assert publisher.publish(numbered(50), [""] * 50) == []
    with place.source.receive({}) as receiver:
        arrived = by_partition(take(receiver, 50))
    assert sorted(int(body) for bodies in arrived.values() for body in bodies) == list(range(50))


def test_events_that_are_too_large_are_told_and_all_others_are_sent(place: Place) -> None:
    bodies = [b"1", b"x" * TOO_LARGE, b"2", b"3", b"y" * TOO_LARGE]
    with place.publisher() as publisher:
        assert publisher.publish(bodies, ["a", "a", "b", "", ""]) == [1, 4]
    with place.source.receive({}) as receiver:
        arrived = by_partition(take(receiver, 3))
    assert sorted(body for bodies in arrived.values() for body in bodies) == [b"1", b"2", b"3"]


def test_several_threads_publish_at_once(place: Place) -> None:
    def send(thread: int) -> None:
        for number in range(20):
            assert publisher.publish([f"{thread}.{number}".encode()] * 2, [str(thread)] * 2) == []

    with place.publisher() as publisher:
        threads = [threading.Thread(target=send, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    with place.source.receive({}) as receiver:
        arrived = by_partition(take(receiver, 160))
    for number in range(4):
        own = [body for bodies in arrived.values() for body in bodies if body.startswith(f"{number}.".encode())]
        assert own == [f"{number}.{each // 2}".encode() for each in range(40)]
