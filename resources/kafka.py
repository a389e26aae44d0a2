"""Kafka by librdkafka's client: who to connect to, and the state of a topic.

Receiving is in `kafka_receiver`, sending in `kafka_publisher`, looking at a topic in `kafka_look`.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from resources.deadlines import OPEN_TIMEOUT_S, STATE_TIMEOUT_S
from resources.event_source import HubState
from resources.kafka_cluster import KafkaCluster
from resources.kafka_look import TopicLook
from resources.kafka_publisher import KafkaPublisher
from resources.kafka_receiver import KafkaReceiver
from resources.topic_address import TopicAddress


@dataclass(frozen=True)
class KafkaSource:
    """One topic to read from; implements `EventSource`."""

    cluster: KafkaCluster
    name: str

    @property
    def address(self) -> TopicAddress:
        """The topic's name and brokers, for messages."""
        return TopicAddress(self.name, self.cluster.bootstrap)

    def state(self) -> HubState:
        """The topic's identity and tails.

        Raises:
            HubUnavailableError: the brokers did not tell them within `STATE_TIMEOUT_S`.
        """
        with self._looking("asking for its state", STATE_TIMEOUT_S) as look:
            partitions, identity = look.partitions(), look.identity()
            return HubState(identity, look.tails(partitions, identity), is_gapless=False)

    @contextmanager
    def receive(self, after: Mapping[int, int]) -> Iterator[KafkaReceiver]:
        """Receives from all partitions, in each behind the given offset.

        Raises:
            HubUnavailableError: the brokers did not name the partitions within `OPEN_TIMEOUT_S`.
        """
        with self._looking("asking for its partitions", OPEN_TIMEOUT_S) as look:
            positions = {number: after.get(number) for number in look.partitions()}
            identity = look.identity()
        with self.address.explained("receiving"):
            receiver = KafkaReceiver(self.cluster, self.address, positions, identity)
        with receiver:
            yield receiver

    @contextmanager
    def _looking(self, what: str, seconds: float) -> Iterator[TopicLook]:
        with self.address.explained(what):
            look = TopicLook(self.cluster, self.name, seconds)
        with look, self.address.explained(what, look.heard):
            yield look


def publisher(cluster: KafkaCluster, topic: str) -> KafkaPublisher:
    """The topic to write to, for use in a `with`."""
    return KafkaPublisher(cluster, TopicAddress(topic, cluster.bootstrap))
