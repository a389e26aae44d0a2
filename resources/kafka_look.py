"""Looks at a Kafka topic: its partitions, its identity, and which offsets each partition holds.

The offset behind the newest message is not one below the end of the log where markers of transactions, or messages of
aborted ones, lie between. So the newest message of each partition is read.
"""

import hashlib
import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import NamedTuple, Self

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient

from resources.background import Background
from resources.deadlines import CLOSE_TIMEOUT_S
from resources.event_source import Tail
from resources.kafka_cluster import KafkaCluster
from resources.topic_address import Heard

_FETCH_WAIT_MS, _BACKOFF_MS = 50, 10
_WAIT_BEHIND_S = 0.1
_FIRST_STEP_BACK, _STEP_GROWS_BY = 1, 16
OF_GROUPS = {
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError._WAIT_COORD,
}
"""Errors about the group that is named and never joined."""
_NO_IDS = (KafkaError._UNSUPPORTED_FEATURE, KafkaError.UNSUPPORTED_VERSION)


class _Ends(NamedTuple):
    low: int
    high: int


_newest_known: dict[tuple[int, int], tuple[_Ends, int]] = {}
"""By topic and partition: the newest message, while the ends of the log are these."""


class TopicLook:
    """A client that asks about one topic; used in a `with`.

    Args:
        cluster: where the topic is.
        topic: its name.
        seconds: how long all questions together may take; `restart` gives as much again.
    """

    def __init__(self, cluster: KafkaCluster, topic: str, seconds: float) -> None:
        self._cluster, self._topic, self._seconds = cluster, topic, seconds
        self.heard = Heard()
        self.restart()
        self._consumer = Consumer(
            cluster.consumer(
                **{"fetch.wait.max.ms": _FETCH_WAIT_MS, "fetch.queue.backoff.ms": _BACKOFF_MS}, error_cb=self.heard
            )
        )
        self._admin: AdminClient | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # It takes no longer where the client waits for a broker that does not answer; then the thread remains.
        Background(lambda consumer: consumer.close(), [self._consumer], "close").join(CLOSE_TIMEOUT_S)

    def restart(self) -> None:
        """Questions may take the whole time again."""
        self._deadline = time.monotonic() + self._seconds

    @property
    def _left(self) -> float:
        return max(0.01, self._deadline - time.monotonic())

    def partitions(self) -> list[int]:
        """The numbers of the topic's partitions.

        Raises:
            KafkaException: the brokers do not answer, or know no such topic.
        """
        return self._metadata()[0]

    def identity(self) -> int | None:
        """A number made of the topic's id; None where the brokers know no ids."""
        _, has_controller = self._metadata()
        if not has_controller:
            # Such a cluster answers no question of this kind.
            return None
        if self._admin is None:
            self._admin = AdminClient(self._cluster.client(error_cb=self.heard))
        asked = self._admin.describe_topics(TopicCollection([self._topic]), request_timeout=self._left)
        try:
            found = asked[self._topic].result(self._left + 1.0)
        except KafkaException as error:
            if error.args[0].code() in _NO_IDS:
                return None
            raise
        return identity_of(str(found.topic_id)) if found.topic_id is not None else None

    def tails(self, partitions: Iterable[int], identity: int | None) -> dict[int, Tail]:
        """What each partition holds, of committed transactions only."""
        asked = list(partitions)
        found = Background(self._ends_of, asked, "ask for offsets").results(self._left)
        ends = dict(zip(asked, found, strict=True))
        newest = self._newest(ends, identity)
        return {
            # A broker may know its newest message before it knows the end of its log.
            partition: Tail(low, newest.get(partition, low - 1), high - 1)
            for partition, (low, high) in ends.items()
        }

    def _metadata(self) -> tuple[list[int], bool]:
        try:
            found = self._consumer.list_topics(self._topic, timeout=self._left)
        except KafkaException:
            # Errors of connections are told by callbacks, which a client makes only when it is polled.
            self._consumer.poll(0)
            raise
        topic = found.topics[self._topic]
        if topic.error is not None:
            raise KafkaException(topic.error)
        if not topic.partitions:
            raise LookupError("the brokers tell no partitions of it")
        return sorted(topic.partitions), found.controller_id in found.brokers

    def _ends_of(self, partition: int) -> _Ends:
        ends = self._consumer.get_watermark_offsets(TopicPartition(self._topic, partition), timeout=self._left)
        if ends is None:
            raise TimeoutError("no answer")
        return _Ends(*ends)

    def _newest(self, ends: Mapping[int, _Ends], identity: int | None) -> dict[int, int]:
        """The newest message of each partition that has one."""
        found: dict[int, int] = {}
        for partition in ends:
            known = _newest_known.get((identity or 0, partition))
            if identity is not None and known is not None and known[0] == ends[partition]:
                found[partition] = known[1]
        missing = {partition for partition, (low, high) in ends.items() if high > low} - found.keys()
        step = _FIRST_STEP_BACK
        while missing:
            starts = {partition: max(ends[partition].low, ends[partition].high - step) for partition in missing}
            read = self._read(starts, {partition: ends[partition].high - 1 for partition in missing})
            found |= read
            missing -= {
                partition for partition in missing if partition in read or starts[partition] == ends[partition].low
            }
            step *= _STEP_GROWS_BY
        if identity is not None:
            _newest_known.update({(identity, partition): (ends[partition], last) for partition, last in found.items()})
        return found

    def _read(self, starts: Mapping[int, int], seen: Mapping[int, int]) -> dict[int, int]:
        """Reads each partition to its end and tells its newest offset; a partition without messages is left out.

        Args:
            starts: where to begin, by partition.
            seen: the last offset that is known of each; what comes behind it may never end, and is waited for shortly.
        """
        newest: dict[int, int] = {}
        waiting, reached_at = set(starts), 0.0
        self._consumer.assign([TopicPartition(self._topic, number, start) for number, start in starts.items()])
        while waiting:
            now = time.monotonic()
            if all(newest.get(partition, -1) >= seen[partition] for partition in waiting):
                reached_at = reached_at or now
                if now - reached_at > _WAIT_BEHIND_S:
                    break
            elif now > self._deadline:
                raise TimeoutError("the newest messages were not read in time")
            first = self._consumer.poll(min(self._left, _WAIT_BEHIND_S))
            for message in [first, *self._consumer.consume(1000, 0)] if first is not None else []:
                partition, offset, error = message.partition(), message.offset(), message.error()
                if error is not None and error.code() in OF_GROUPS:
                    continue
                if partition is None or offset is None:
                    raise KafkaException(error)
                if error is None:
                    newest[partition] = offset
                elif error.code() == KafkaError._PARTITION_EOF:
                    waiting.discard(partition)
                elif error.code() == KafkaError._AUTO_OFFSET_RESET:
                    # The log was trimmed meanwhile: nothing is left of what was seen.
                    waiting.discard(partition)
                else:
                    raise KafkaException(error)
        self._consumer.unassign()
        return newest


def identity_of(topic_id: str) -> int | None:
    """A number of 63 bits that stands for a topic's id."""
    if not topic_id.strip("A="):
        return None  # all zeros: a topic of a broker that gives no ids
    digest = hashlib.blake2b(topic_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
