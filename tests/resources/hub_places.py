"""The same hub by every transport: what the tests of `EventSource` and `Publisher` need of it."""

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count

from azure.eventhub import EventData

from resources.event_hubs import EventHubsNamespace
from resources.event_source import EventSource, Publisher
from resources.kafka import KafkaSource, publisher
from resources.kafka_cluster import KafkaCluster
from tests.emulator.clients import producer
from tests.emulator.hub import RunningHub
from tests.services.kafka import MOCK_PARTITIONS, Broker, MockCluster, send
from tests.stream.hubs import MemoryHub

PARTITIONS = MOCK_PARTITIONS
NUMBERS = count()
LARGEST = 1_000_000
TOO_LARGE = 1_500_000
HUBS_OF_EMULATOR = 40


@dataclass(frozen=True)
class Place:
    """An empty hub of four partitions.

    Attributes:
        source: to read from it.
        publisher: to write to it.
        send: bodies to one partition, past the code under test.
        absent: a hub of the same place that does not exist, and its publisher; None where there cannot be one.
        recreate: makes it anew and empty; None where that cannot be.
    """

    source: EventSource
    publisher: Callable[[], AbstractContextManager[Publisher]]
    send: Callable[[Sequence[bytes], int], None]
    absent: tuple[EventSource, Callable[[], AbstractContextManager[Publisher]]] | None
    recreate: Callable[[], EventSource] | None


def in_memory() -> Place:
    hub = MemoryHub(partitions=PARTITIONS)

    def recreate() -> EventSource:
        other = MemoryHub(partitions=PARTITIONS)
        other.identity = 2
        return other

    def to_partition(bodies: Sequence[bytes], partition: int) -> None:
        hub.send(bodies, datetime.now(UTC), partition)

    return Place(hub, lambda: _in_memory(hub), to_partition, None, recreate)


def of_event_hubs(hub: RunningHub) -> Place:
    name = f"hub{next(NUMBERS) % HUBS_OF_EMULATOR}"
    namespace = EventHubsNamespace(hub.connection_string)

    def to_partition(bodies: Sequence[bytes], partition: int) -> None:
        with producer(hub.connection_string, name) as sender:
            sender.send_batch([EventData(body) for body in bodies], partition_id=str(partition))

    def recreate() -> EventSource:
        other = RunningHub([f"{name}:{PARTITIONS}"]).start()
        try:
            source = EventHubsNamespace(other.connection_string).source(name)
            state = source.state()
        finally:
            other.stop()
        return _Frozen(source, state)

    absent = namespace.source("absent"), lambda: namespace.publisher("absent")
    return Place(namespace.source(name), lambda: namespace.publisher(name), to_partition, absent, recreate)


def of_mock_cluster(mock: MockCluster) -> Place:
    name = f"topic{next(NUMBERS)}"
    mock.create(name)
    return _of_kafka(mock.cluster, name, None)


def of_broker(broker: Broker) -> Place:
    name = f"topic{next(NUMBERS)}"
    broker.create(name, PARTITIONS)

    def recreate() -> EventSource:
        broker.delete(name)
        broker.create(name, PARTITIONS)
        return KafkaSource(broker.cluster, name)

    return _of_kafka(broker.cluster, name, recreate)


def _of_kafka(cluster: KafkaCluster, name: str, recreate: Callable[[], EventSource] | None) -> Place:
    absent = KafkaSource(cluster, "absent"), lambda: publisher(cluster, "absent")

    def to_partition(bodies: Sequence[bytes], partition: int) -> None:
        send(cluster, name, list(bodies), partition)

    return Place(KafkaSource(cluster, name), lambda: publisher(cluster, name), to_partition, absent, recreate)


class _Frozen:
    """A hub that is gone again, with the state that it had."""

    def __init__(self, source: EventSource, state) -> None:
        self.name, self._source, self._state = source.name, source, state

    def state(self):
        return self._state

    def receive(self, after: Mapping[int, int]):
        return self._source.receive(after)


class _MemoryPublisher:
    def __init__(self, hub: MemoryHub) -> None:
        self._hub = hub

    def publish(self, bodies: Sequence[bytes], keys: Sequence[str]) -> list[int]:
        too_large = []
        for index, (body, key) in enumerate(zip(bodies, keys, strict=True)):
            if len(body) > LARGEST:
                too_large.append(index)
            else:
                self._hub.send([body], datetime.now(UTC), zlib.crc32(key.encode()) % PARTITIONS)
        return too_large


@contextmanager
def _in_memory(hub: MemoryHub) -> Iterator[Publisher]:
    yield _MemoryPublisher(hub)
