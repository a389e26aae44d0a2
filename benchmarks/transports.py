"""How a benchmark reaches hubs, by the name of a transport, so that another one is measured by the same benchmark."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import MappingProxyType
from typing import NamedTuple, Protocol

from resources.event_hubs import EventHubsNamespace
from resources.event_source import EventSource, Publisher
from resources.kafka import KafkaSource
from resources.kafka import publisher as kafka_publisher
from resources.kafka_cluster import KafkaCluster
from tests.emulator.hub import RunningHub
from tests.services.kafka import Broker


class Hubs(Protocol):
    """What has hubs to read and to write."""

    def source(self, name: str, /) -> EventSource:
        """A hub to read from."""

    def publisher(self, name: str, /) -> AbstractContextManager[Publisher]:
        """A hub to write to."""


class Transport(NamedTuple):
    """A kind of hubs: `start` starts local ones, each as ``name:partitions``, and yields their address."""

    start: Callable[[Sequence[str]], AbstractContextManager[str]]
    connect: Callable[[str], Hubs]


@contextmanager
def _local_event_hubs(hubs: Sequence[str]) -> Iterator[str]:
    with RunningHub(hubs) as hub:
        yield hub.connection_string


class _Topics:
    """The topics of a cluster."""

    def __init__(self, bootstrap: str) -> None:
        self._cluster = KafkaCluster(bootstrap)

    def source(self, name: str, /) -> EventSource:
        return KafkaSource(self._cluster, name)

    def publisher(self, name: str, /) -> AbstractContextManager[Publisher]:
        return kafka_publisher(self._cluster, name)


@contextmanager
def _local_kafka(hubs: Sequence[str]) -> Iterator[str]:
    with Broker() as broker:
        for hub in hubs:
            name, partitions = hub.split(":")
            broker.create(name, int(partitions))
        yield broker.cluster.bootstrap


TRANSPORTS: Mapping[str, Transport] = MappingProxyType(
    {"event-hubs": Transport(_local_event_hubs, EventHubsNamespace), "kafka": Transport(_local_kafka, _Topics)}
)
