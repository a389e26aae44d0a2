"""Receives from all partitions of a Kafka topic in one thread.

Partitions and offsets are assigned; no group is joined, so nothing is taken away from another reader. The client of
librdkafka fetches ahead into a queue of its own, which is bounded, and connects again by itself. This module takes
messages out of that queue many at a time, into a buffer that is bounded too. A second thread looks at the topic: for
partitions that were added, for another topic of the same name, and whether the brokers are there.

```
 brokers ─▶ librdkafka's queue ─▶ receive thread ─▶ buffer by partition ─▶ take
                                       ▲
 topic ──▶ watch thread: new partitions, identity, sign of life
```
"""

import threading
import time
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Self

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from resources.background import Background
from resources.deadlines import CLOSE_TIMEOUT_S, GIVE_UP_AFTER_S
from resources.event_source import HubUnavailableError, Pulled
from resources.kafka_cluster import KafkaCluster
from resources.kafka_details import keys_of, properties_of, times_of
from resources.kafka_look import OF_GROUPS, TopicLook
from resources.topic_address import Heard, TopicAddress, reason

MAX_BUFFERED_EVENTS = 30_000
MAX_BUFFERED_BYTES = 5 << 20
_QUEUED_KBYTES, _QUEUED_MESSAGES = 16 << 10, 50_000
"""How much librdkafka fetches ahead; it may go over by what one answer of a broker holds."""
_TAKEN_AT_ONCE = 10_000
_POLL_S = 0.1
_FETCH_WAIT_MS = 100
_BACKOFF_MS = 5
"""How soon a queue that was full is looked at again; the client's default of a second would stop a backlog."""
_LOOK_EVERY_S, _LOOK_AGAIN_S, _LOOK_S = 5.0, 1.0, 2.0
"""How often the topic is looked at, how often during an outage, and how long one look may take."""

_OUTAGES = {
    getattr(KafkaError, name)
    for name in (
        "_ALL_BROKERS_DOWN",
        "_TRANSPORT",
        "_RESOLVE",
        "_TIMED_OUT",
        "_SSL",
        "_AUTHENTICATION",
        "_UNKNOWN_TOPIC",
        "_UNKNOWN_PARTITION",
        "UNKNOWN_TOPIC_OR_PART",
        "UNKNOWN_TOPIC_ID",
        "LEADER_NOT_AVAILABLE",
        "NOT_LEADER_FOR_PARTITION",
        "BROKER_NOT_AVAILABLE",
        "REPLICA_NOT_AVAILABLE",
        "REQUEST_TIMED_OUT",
        "NETWORK_EXCEPTION",
        "OFFSET_NOT_AVAILABLE",
        "FENCED_LEADER_EPOCH",
        "UNKNOWN_LEADER_EPOCH",
        "KAFKA_STORAGE_ERROR",
    )
    if hasattr(KafkaError, name)
}
"""Errors that pass when brokers come back; the client tries again by itself."""


class _RecreatedTopicError(Exception):
    """The topic is another one than at the beginning."""


class _Partition:
    """What was received of one partition and not handed out yet.

    Attributes:
        next: the offset to go on with; None before the first message of a partition that is read from its beginning.
        has_answered: whether the brokers sent something of it, be it that there is nothing.
        expired, expired_to: how many offsets were passed over since the log was trimmed, and the first one behind them.
    """

    def __init__(self, number: int, after: int | None) -> None:
        self.number = number
        self.next = None if after is None else after + 1
        self.pulled = Pulled.nothing(number)
        self.size = 0
        self.has_answered = False
        self.expired = self.expired_to = 0

    def position(self, topic: str) -> TopicPartition:
        return TopicPartition(topic, self.number, OFFSET_BEGINNING if self.next is None else self.next)

    def keep(self, messages: list[Message], now_ms: int) -> None:
        self.has_answered = True
        offsets: list[int] = [message.offset() for message in messages]  # type: ignore[misc]
        if self.next is not None and offsets[0] < self.next:
            known = bisect_left(offsets, self.next)
            messages, offsets = messages[known:], offsets[known:]
            if not offsets:
                return
        bodies: list[bytes | None] = [message.value() for message in messages]
        keys, properties = keys_of(messages), properties_of(messages)
        nothing: list[str | None] = [None] * len(offsets)
        times = times_of(messages, now_ms)
        self.next = offsets[-1] + 1
        self.pulled.extend(Pulled(self.number, offsets, times, bodies, keys, properties, nothing))
        self.size += _bytes_of(bodies) + _bytes_of(keys) + _bytes_of(properties)

    def pass_over(self, low: int) -> None:
        """Goes on where a trimmed log begins."""
        if self.next is not None and self.next < low:
            self.expired, self.expired_to = self.expired + low - self.next, low
            self.next = low

    def skip(self, last: int) -> None:
        held = self.hand_over()
        self.next = last + 1 if self.next is None else max(self.next, last + 1)
        # Whoever skips knows of the offsets up to there, also of those that expired.
        self.expired = max(0, min(held.expired, self.expired_to - last - 1))
        kept = bisect_left(held.sequence_numbers, last + 1)
        self.pulled.extend(held, kept)
        self.size = _bytes_of(held.bodies[kept:])

    def hand_over(self) -> Pulled:
        pulled = self.pulled._replace(expired=self.expired)
        self.pulled, self.size, self.expired = Pulled.nothing(self.number), 0, 0
        return pulled


def _bytes_of(values: Iterable[bytes | str | None]) -> int:
    return sum(len(value) for value in values if value)


class KafkaReceiver:
    """Implements `Receiver` on background threads; used in a `with`.

    Args:
        cluster: where the topic is.
        address: of the topic.
        after: each partition's last known offset, or None for its beginning.
        identity: of the topic that is meant; None where the brokers tell none.
    """

    def __init__(
        self, cluster: KafkaCluster, address: TopicAddress, after: Mapping[int, int | None], identity: int | None
    ) -> None:
        self._cluster, self._address, self._topic, self._identity = cluster, address, address.topic, identity
        self._partitions = {number: _Partition(number, last) for number, last in after.items()}
        self._added: list[int] = []
        self._heard = Heard(self._note)
        self._changed = threading.Condition()
        self._filled = threading.Event()
        self._opened = threading.Event()
        self._stopping = threading.Event()
        self._failing: Exception | None = None
        self._failing_since = 0.0
        self._failure: Exception | None = None
        self._consumer = Consumer(
            cluster.consumer(
                **{
                    "queued.max.messages.kbytes": _QUEUED_KBYTES,
                    "queued.min.messages": _QUEUED_MESSAGES,
                    "fetch.wait.max.ms": _FETCH_WAIT_MS,
                    "fetch.queue.backoff.ms": _BACKOFF_MS,
                },
                error_cb=self._heard,
            )
        )
        self._threads = [
            threading.Thread(target=self._run, name=f"receive {self._topic}", daemon=True),
            threading.Thread(target=self._watch, name=f"watch {self._topic}", daemon=True),
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._stopping.set()
            self._changed.notify_all()
        deadline = time.monotonic() + CLOSE_TIMEOUT_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def take(self, timeout: float) -> list[Pulled]:
        """What has arrived since the last call; waits up to `timeout` seconds for any."""
        with self._changed:
            self._changed.wait_for(lambda: self._failure or self._has_events(), timeout)
            pulled = [each.hand_over() for each in self._partitions.values() if each.pulled.bodies]
            if not pulled and self._failure:
                raise HubUnavailableError(
                    f"{self._address}: receiving stopped: {reason(self._failure, self._heard)}. What was pulled is "
                    "kept; the rest is pulled again by the next session."
                ) from self._failure
            if pulled:
                self._filled.clear()
                self._changed.notify_all()
        return pulled

    def wait_until_open(self, timeout: float) -> bool:
        """Waits up to `timeout` seconds until all partitions are being received, and says whether they are."""
        return self._opened.wait(timeout)

    def skip(self, reached: Mapping[int, int]) -> None:
        """Hands out no more events up to an offset of each partition; another receiver handed them out."""
        with self._changed:
            for number, last in reached.items():
                if number in self._partitions and last >= 0:
                    self._partitions[number].skip(last)
            self._changed.notify_all()

    def gather(self, seconds: float) -> None:
        """Lets so much time pass, or less if the buffer is full before, or receiving fails."""
        self._filled.wait(max(0.0, seconds))

    def _has_events(self) -> bool:
        return any(each.pulled.bodies for each in self._partitions.values())

    def _is_full(self) -> bool:
        events = sum(len(each.pulled.bodies) for each in self._partitions.values())
        return (
            events >= MAX_BUFFERED_EVENTS or sum(each.size for each in self._partitions.values()) >= MAX_BUFFERED_BYTES
        )

    def _run(self) -> None:
        try:
            self._consumer.assign([each.position(self._topic) for each in self._partitions.values()])
            while not self._stopping.is_set():
                self._receive()
        except Exception as error:
            self._fail(error)
        finally:
            # A client that waits for a broker that does not answer is left to its thread.
            Background(lambda consumer: consumer.close(), [self._consumer], "close").join(CLOSE_TIMEOUT_S)

    def _receive(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopping.is_set() or not self._is_full(), _POLL_S)
            added, self._added = self._added, []
            may_read = not self._is_full()
            outage = self._failing
            outage_s = time.monotonic() - self._failing_since
        if added:
            self._take_up(added)
        # `consume` waits for as many messages as it is asked for: so one is waited for, and those behind it are taken.
        if may_read and (first := self._consumer.poll(_POLL_S)) is not None:
            self._keep([first, *self._consumer.consume(_TAKEN_AT_ONCE, 0)])
        elif outage is not None and outage_s > GIVE_UP_AFTER_S:
            raise outage

    def _keep(self, messages: list[Message]) -> None:
        events: dict[int, list[Message]] = {}
        told: list[Message] = []
        for message in messages:
            if message.error() is None:
                events.setdefault(message.partition(), []).append(message)  # type: ignore[arg-type]
            else:
                told.append(message)
        now_ms = time.time_ns() // 1_000_000
        with self._changed:
            for number, some in events.items():
                self._partitions[number].keep(some, now_ms)
            if events:
                self._failing = None
            self._changed.notify_all()
        for message in told:
            self._told(message)
        with self._changed:
            is_full = self._is_full()
            if is_full:
                self._filled.set()
            if is_full or all(each.has_answered for each in self._partitions.values()):
                self._opened.set()

    def _told(self, message: Message) -> None:
        error, number = message.error(), message.partition()
        partition = self._partitions.get(-1 if number is None else number)
        if error is None or error.code() in OF_GROUPS:
            return
        if error.code() == KafkaError._PARTITION_EOF and partition is not None:
            partition.has_answered = True
        elif error.code() == KafkaError._AUTO_OFFSET_RESET and partition is not None:
            self._go_on_behind_trimmed(partition)
        elif error.code() in _OUTAGES:
            self._note(error)
        else:
            raise KafkaException(error)

    def _go_on_behind_trimmed(self, partition: _Partition) -> None:
        """Where the next offset is not in the log any more, the log goes on behind what was removed.

        Raises:
            _RecreatedTopicError: it ends before that offset.
        """
        found = self._consumer.get_watermark_offsets(TopicPartition(self._topic, partition.number), timeout=_LOOK_S)
        low, high = found if found is not None else (0, 0)
        if partition.next is not None and partition.next > high:
            raise _RecreatedTopicError(
                f"partition {partition.number} ends at {high - 1}, but was read up to {partition.next - 1} before"
            )
        with self._changed:
            partition.pass_over(low)
        # `seek` is refused where fetching has stopped by an error.
        self._consumer.incremental_unassign([TopicPartition(self._topic, partition.number)])
        self._consumer.incremental_assign([partition.position(self._topic)])

    def _take_up(self, added: list[int]) -> None:
        with self._changed:
            new = {number: _Partition(number, None) for number in added if number not in self._partitions}
            self._partitions |= new
        if new:
            self._consumer.incremental_assign([each.position(self._topic) for each in new.values()])

    def _watch(self) -> None:
        look: TopicLook | None = None
        try:
            while not self._stopping.wait(_LOOK_AGAIN_S if self._failing is not None else _LOOK_EVERY_S):
                try:
                    look = look or TopicLook(self._cluster, self._topic, _LOOK_S)
                    look.restart()
                    self._look(look)
                except (KafkaException, LookupError) as error:
                    heard = look.heard.error if look is not None else None
                    self._note_outage(error if heard is None else KafkaException(heard))
                except TimeoutError:
                    continue  # slow is not away
        except Exception as error:
            self._fail(error)
        finally:
            if look is not None:
                look.__exit__(None, None, None)

    def _look(self, look: TopicLook) -> None:
        partitions = look.partitions()
        identity = None if self._identity is None else look.identity()
        if None not in (identity, self._identity) and identity != self._identity:
            raise _RecreatedTopicError("the topic was deleted and another one of this name was made")
        with self._changed:
            self._failing = None
            self._added = [number for number in partitions if number not in self._partitions]

    def _note(self, error: KafkaError) -> None:
        if self._failing is None or error.code() != KafkaError._ALL_BROKERS_DOWN:
            self._note_outage(KafkaException(error))

    def _note_outage(self, error: Exception) -> None:
        """Remembers since when brokers are away; receiving goes on by itself if they come back in time."""
        if self._failing is None:
            self._failing_since = time.monotonic()
        self._failing = error

    def _fail(self, error: Exception) -> None:
        with self._changed:
            self._failure = self._failure or error
            self._stopping.set()
            self._filled.set()
            self._changed.notify_all()
