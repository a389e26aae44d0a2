"""Sends events to a Kafka topic with an idempotent producer: in order for each key, none twice by its own repetitions.

After a failure the producer is given up with all that waits in it, and a thread makes another one. Until that is
connected, publishing fails at once.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple, Self

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from resources.background import Background
from resources.deadlines import CLOSE_TIMEOUT_S, OPEN_TIMEOUT_S, PUBLISH_TIMEOUT_S
from resources.event_source import HubUnavailableError
from resources.kafka_cluster import KafkaCluster
from resources.kafka_look import TopicLook
from resources.topic_address import Heard, TopicAddress

_RECONNECT_AFTER_S, _RECONNECT_AT_LEAST_EVERY_S = 0.5, 5.0
_BATCH_BYTES = 256 << 10
"""Small, since a broker refuses a batch as a whole if it is larger than a topic's limit for messages."""
_LINGER_MS = 1
_POLL_S = 0.1
_UNDER_WAY_EVENTS, _UNDER_WAY_BYTES = 20_000, 16 << 20
"""How much of one call is under way at once."""
_TOO_LARGE = (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE)


_NOTHING: Mapping[str, str] = {}


class _Event(NamedTuple):
    body: bytes
    key: str
    properties: Mapping[str, str]


class KafkaPublisher:
    """One topic to write to; implements `Publisher`. It is used in a `with`.

    Args:
        cluster: where the topic is.
        address: of the topic.
    """

    def __init__(self, cluster: KafkaCluster, address: TopicAddress) -> None:
        self._cluster, self._address = cluster, address
        self._changed = threading.Condition()
        self._sender: _Sender | None = None
        self._failure: HubUnavailableError | None = None
        self._closed = threading.Event()
        self._opening: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Begins to connect: the first event need not wait for it."""
        self._begin_to_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        with self._changed:
            sender, self._sender = self._sender, None
        if self._opening is not None:
            self._opening.join(CLOSE_TIMEOUT_S)
        if sender is not None:
            sender.close()

    def publish(
        self, bodies: Sequence[bytes], keys: Sequence[str], properties: Sequence[Mapping[str, str]] = ()
    ) -> list[int]:
        """Sends events and returns when the topic has them; those of one key go to one partition, in order.

        Args:
            bodies: of the events.
            keys: one for each event; an empty key is none.
            properties: names and texts for each event, its headers; or nothing at all.

        Returns:
            The indexes of events that are larger than the topic accepts; all others were sent.

        Raises:
            HubUnavailableError: the topic did not accept all of them in time.
        """
        sender = self._opened()
        try:
            with self._address.explained("publishing", sender.heard):
                events = zip(bodies, keys, properties or [_NOTHING] * len(bodies), strict=True)
                return sender.send([_Event(*each) for each in events])
        except BaseException as error:
            # Also an interrupt: what is on its way must not go on unseen.
            self._replace(sender, error)
            raise

    def _opened(self) -> "_Sender":
        began = time.monotonic()
        with self._changed:
            self._changed.wait_for(lambda: self._sender or self._failure, PUBLISH_TIMEOUT_S)
            if self._sender is not None:
                return self._sender
            if self._failure is not None:
                raise HubUnavailableError(str(self._failure)) from self._failure
        raise self._address.unavailable("connecting", TimeoutError("no answer"), time.monotonic() - began)

    def _replace(self, sender: "_Sender", error: BaseException) -> None:
        with self._changed:
            if self._sender is not sender:
                return  # another thread failed with it and was faster
            self._sender = None
            self._failure = error if isinstance(error, HubUnavailableError) else self._interrupted()
        sender.abandon()
        self._begin_to_open()

    def _interrupted(self) -> HubUnavailableError:
        return HubUnavailableError(
            f"{self._address}: publishing was interrupted, and the connection is made anew. Publish again; some events "
            "may have arrived."
        )

    def _begin_to_open(self) -> None:
        self._opening = threading.Thread(target=self._keep_opening, name=f"connect {self._address.topic}", daemon=True)
        self._opening.start()

    def _keep_opening(self) -> None:
        pause_s = _RECONNECT_AFTER_S
        while not self._closed.is_set():
            try:
                self._open()
                return
            except HubUnavailableError as error:
                with self._changed:
                    self._failure = error
                    self._changed.notify_all()
            self._closed.wait(pause_s)
            pause_s = min(2 * pause_s, _RECONNECT_AT_LEAST_EVERY_S)

    def _open(self) -> None:
        with self._address.explained("connecting"):
            look = TopicLook(self._cluster, self._address.topic, OPEN_TIMEOUT_S)
        # Producers make a topic that is missing; consumers do not, so one of them looks first.
        with look, self._address.explained("connecting", look.heard):
            look.partitions()
        with self._address.explained("connecting"):
            sender = _Sender(self._cluster, self._address.topic)
            try:
                sender.connect()
            except BaseException:
                sender.abandon()
                raise
        with self._changed:
            if not self._closed.is_set():
                self._sender, self._failure = sender, None
                self._changed.notify_all()
                return
        sender.close()


class _Sender:
    """A producer, and the thread that hears from it what was delivered."""

    def __init__(self, cluster: KafkaCluster, topic: str) -> None:
        self._topic, self.heard = topic, Heard()
        self._producer = Producer(
            cluster.client(
                **{
                    "enable.idempotence": True,
                    "acks": "all",
                    # Java's way: an event of a key goes where other senders' events of that key go.
                    "partitioner": "murmur2_random",
                    "linger.ms": _LINGER_MS,
                    "batch.size": _BATCH_BYTES,
                    "message.max.bytes": cluster.max_message_bytes,
                    "message.timeout.ms": int(PUBLISH_TIMEOUT_S * 1000),
                    "queue.buffering.max.messages": 10 * _UNDER_WAY_EVENTS,
                    "queue.buffering.max.kbytes": 10 * _UNDER_WAY_BYTES >> 10,
                },
                error_cb=self.heard,
            )
        )
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._listen, name=f"delivered {topic}", daemon=True)
        self._thread.start()

    def connect(self) -> None:
        """Connects to the topic's brokers.

        Raises:
            KafkaException: they do not answer.
        """
        self._producer.list_topics(self._topic, timeout=OPEN_TIMEOUT_S)

    def send(self, events: Sequence[_Event]) -> list[int]:
        """Sends events.

        Returns:
            The indexes of those that are too large.

        Raises:
            KafkaException: some were not delivered.
            TimeoutError: for a while none was.
        """
        call = _Call()
        for index, event in enumerate(events):
            if call.is_full:
                call.wait_for_room()
            self._produce(call, index, event)
        call.wait_until_done()
        # A broker refuses a batch as a whole, so each event of it is tried alone before it counts as too large.
        return sorted([*call.refused, *self._again(events, call.in_refused_batches)])

    def _again(self, events: Sequence[_Event], indexes: Sequence[int]) -> list[int]:
        too_large: list[int] = []
        for index in sorted(indexes):
            alone = _Call()
            self._produce(alone, index, events[index])
            alone.wait_until_done()
            too_large += [*alone.refused, *alone.in_refused_batches]
        return too_large

    def _produce(self, call: "_Call", index: int, event: _Event) -> None:
        body, key, properties = event
        call.begin(len(body))
        done = partial(call.done, index, len(body))
        headers: dict[str, str | bytes | None] = {
            name: text.encode("utf-8", "replace") for name, text in properties.items()
        }
        deadline = time.monotonic() + PUBLISH_TIMEOUT_S
        while True:
            try:
                self._producer.produce(
                    self._topic, body, key.encode() if key else None, on_delivery=done, headers=headers
                )
                return
            except KafkaException as error:
                if error.args[0].code() not in _TOO_LARGE:
                    raise
                call.refuse(index, len(body))
                return
            except BufferError:
                # Other threads have filled the producer's queue.
                if time.monotonic() > deadline:
                    raise TimeoutError(f"no event was accepted for {PUBLISH_TIMEOUT_S:.0f} s") from None
                time.sleep(_POLL_S / 10)

    def _listen(self) -> None:
        while not self._ended.is_set():
            self._producer.poll(_POLL_S)

    def close(self) -> None:
        """Ends; everything that was sent has been delivered."""
        self._ended.set()
        self._thread.join(CLOSE_TIMEOUT_S)

    def abandon(self) -> None:
        """Ends without what is under way: nothing of it may arrive after what is sent next."""
        Background(self._purge, [self._producer], "abandon")

    def _purge(self, producer: Producer) -> None:
        producer.purge()
        # Whoever waits for what is dropped is told here.
        producer.flush(CLOSE_TIMEOUT_S)
        self._ended.set()


class _Call:
    """What is under way of one call of `send`."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._events = self._bytes = 0
        self._moved_at = time.monotonic()
        self._error: KafkaError | None = None
        self.refused: list[int] = []
        self.in_refused_batches: list[int] = []

    @property
    def is_full(self) -> bool:
        """Whether enough is under way."""
        return self._events >= _UNDER_WAY_EVENTS or self._bytes >= _UNDER_WAY_BYTES

    def begin(self, size: int) -> None:
        """One more is under way."""
        with self._changed:
            self._events, self._bytes = self._events + 1, self._bytes + size

    def done(self, index: int, size: int, error: KafkaError | None, _: Message) -> None:
        """One was delivered, or not; the client calls it."""
        with self._changed:
            self._events, self._bytes = self._events - 1, self._bytes - size
            self._moved_at = time.monotonic()
            if error is not None:
                if error.code() in _TOO_LARGE:
                    self.in_refused_batches.append(index)
                else:
                    self._error = self._error or error
            if not self._events or error is not None or not self.is_full:
                self._changed.notify_all()

    def refuse(self, index: int, size: int) -> None:
        """One was not begun, because no broker takes so much."""
        with self._changed:
            self._events, self._bytes = self._events - 1, self._bytes - size
            self.refused.append(index)

    def wait_for_room(self) -> None:
        """Waits until not so much is under way; see `send` for what it raises."""
        self._wait(lambda: not self.is_full)

    def wait_until_done(self) -> None:
        """Waits until nothing is under way; see `send` for what it raises."""
        self._wait(lambda: not self._events)

    def _wait(self, is_so: Any) -> None:
        with self._changed:
            while not is_so() and self._error is None:
                left = self._moved_at + PUBLISH_TIMEOUT_S - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"no event was accepted for {PUBLISH_TIMEOUT_S:.0f} s")
                self._changed.wait(left)
            if self._error is not None:
                raise KafkaException(self._error)
