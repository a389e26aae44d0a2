"""Sends events to an event hub, many in a batch.

`EventDataBatch.add` encodes each event twice and wraps it in objects, and sending encodes it once more; for bodies
the encoding is a prefix, so batches are filled with encoded events. What this relies on inside the
SDK is pinned by tests/contract; with another release of it, or where it does not fit, the SDK fills the batches.
Properties of an event are a section of its message in front of the body's.

Everything that waits for the hub is on daemon threads and has a deadline. After a failure a thread connects anew, and
until it has, publishing fails at once.
"""

import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

from azure.eventhub import EventData, EventDataBatch, EventHubProducerClient

from resources.background import Background
from resources.connections import Connections
from resources.deadlines import CLOSE_TIMEOUT_S, OPEN_TIMEOUT_S, PUBLISH_TIMEOUT_S
from resources.event_source import HubUnavailableError
from resources.hub_address import HubAddress
from resources.sdk import fall_back, is_tested

# An AMQP data section (described type 0x75) that holds a binary with a length of four bytes, which follow.
_BINARY_SECTION = b"\x00\x53\x75\xb0"
# An event in a batch is a section that holds the event's message, which is a section that holds its body.
_HEADERS = struct.Struct(">4sI4sI")
_OVERHEAD_BYTES = _HEADERS.size
# A section of application properties (0x74) that holds a map (0xd1) with its size and the number of keys and values,
# each a string (0xb1) with its length.
_PROPERTIES, _STRING = struct.Struct(">4sII"), struct.Struct(">sI")
_MAP_SECTION = b"\x00\x53\x74\xd1"
# The SDK copies a batch six times on its way out: of this size the copies stay in the processor's cache.
_FULL_BYTES = 256 << 10
_RECONNECT_AFTER_S, _RECONNECT_AT_LEAST_EVERY_S = 0.5, 5.0


class Numbered(NamedTuple):
    """An event's place in a call of `publish`, its body, and what is said about it."""

    number: int
    body: bytes
    properties: Mapping[str, str]


_NOTHING: Mapping[str, str] = {}


class EventHubsPublisher:
    """One event hub to write to; implements `Publisher`. It is used in a `with`.

    Args:
        connect: makes a client of the SDK that opens its connections by what it is given.
        address: of the hub.
        fast: whether batches may be filled past the SDK.
    """

    def __init__(
        self, connect: Callable[[Connections], EventHubProducerClient], address: HubAddress, *, fast: bool = True
    ) -> None:
        self._connect, self._address, self._fast = connect, address, fast
        self._publishing = threading.Lock()
        self._changed = threading.Condition()
        self._sender: _Sender | None = None
        self._failure: HubUnavailableError | None = None
        self._closed = threading.Event()
        self._opening: threading.Thread | None = None
        self._connecting = Connections()
        self._turn = 0

    def __enter__(self) -> Self:
        """Begins to connect to all partitions: the first event need not wait seconds for its connection."""
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
            if self._opening.is_alive():
                self._connecting.cut()
        if sender is not None:
            sender.close()

    def publish(
        self, bodies: Sequence[bytes], keys: Sequence[str], properties: Sequence[Mapping[str, str]] = ()
    ) -> list[int]:
        """Sends events and returns when the hub has them; those of one key go to one partition, in order.

        Args:
            bodies: of the events.
            keys: one for each event; events with an empty key take the partitions in turn.
            properties: names and texts for each event, its application properties; or nothing at all.

        Returns:
            The indexes of events that are larger than the hub accepts; all others were sent.

        Raises:
            HubUnavailableError: the hub did not accept all of them in time.
        """
        began = time.monotonic()
        if not self._publishing.acquire(timeout=PUBLISH_TIMEOUT_S):
            raise self._address.unavailable("publishing", TimeoutError("another thread publishes"), PUBLISH_TIMEOUT_S)
        try:
            sender = self._opened(began)
            chosen = self._by_partition(sender.partitions, bodies, keys, properties or [_NOTHING] * len(bodies))
            # Each partition has a connection of its own: while the hub stores one's batch, another's is made.
            work = Background(lambda each: sender.send(*each), chosen.items(), f"publish {self._address.hub}")
            try:
                with self._address.explained("publishing"):
                    return sorted(number for too_large in sender.results(work) for number in too_large)
            except BaseException as error:
                # Also an interrupt: what is on its way must not go on unseen.
                self._replace(sender, work, error)
                raise
        finally:
            self._publishing.release()

    def _opened(self, began: float) -> "_Sender":
        with self._changed:
            wait_s = began + PUBLISH_TIMEOUT_S - time.monotonic()
            self._changed.wait_for(lambda: self._sender or self._failure, max(0.0, wait_s))
            if self._sender is not None:
                return self._sender
            if self._failure is not None:
                raise HubUnavailableError(str(self._failure)) from self._failure
        raise self._address.unavailable("connecting", TimeoutError("no answer"), time.monotonic() - began)

    def _replace(self, sender: "_Sender", work: Background[Any, Any], error: BaseException) -> None:
        with self._changed:
            self._sender = None
            self._failure = error if isinstance(error, HubUnavailableError) else self._interrupted()
        sender.connections.abandon(work)
        self._begin_to_open()

    def _interrupted(self) -> HubUnavailableError:
        return HubUnavailableError(
            f"Event hub '{self._address.hub}' at {self._address.endpoint}: publishing was interrupted, and the "
            "connection is made anew. Publish again; some events may have arrived."
        )

    def _unopened(self, error: Exception) -> HubUnavailableError:
        return HubUnavailableError(
            f"Event hub '{self._address.hub}' at {self._address.endpoint}: connecting failed in the client "
            f"({type(error).__name__}). It is tried again; nothing was lost."
        )

    def _begin_to_open(self) -> None:
        self._opening = threading.Thread(target=self._keep_opening, name=f"connect {self._address.hub}", daemon=True)
        self._opening.start()

    def _keep_opening(self) -> None:
        pause_s = _RECONNECT_AFTER_S
        while not self._closed.is_set():
            try:
                self._open()
                return
            except Exception as error:
                # A hub that is away matters only to who publishes, and tells that one. So does whatever else fails in
                # the SDK: the next attempt may succeed.
                with self._changed:
                    self._failure = error if isinstance(error, HubUnavailableError) else self._unopened(error)
                    self._changed.notify_all()
            self._closed.wait(pause_s)
            pause_s = min(2 * pause_s, _RECONNECT_AT_LEAST_EVERY_S)

    def _open(self) -> None:
        connections = self._connecting = Connections()
        with self._address.explained("connecting"):
            client = self._connect(connections)
            work = Background(lambda each: _Sender(each, connections, self._fast), [client], "open")
            try:
                [sender] = work.results(OPEN_TIMEOUT_S)
            except Exception:
                connections.abandon(work)
                raise
        with self._changed:
            if not self._closed.is_set():
                self._sender, self._failure = sender, None
                self._changed.notify_all()
                return
        sender.close()

    def _by_partition(
        self,
        partitions: Sequence[str],
        bodies: Sequence[bytes],
        keys: Sequence[str],
        properties: Sequence[Mapping[str, str]],
    ) -> dict[str, list[Numbered]]:
        # By our own hash: a partition key for each batch would make a batch for each key.
        by_key = {key: partition_of(key, partitions) for key in set(keys) if key}
        chosen: dict[str, list[Numbered]] = {}
        for number, (body, key, said) in enumerate(zip(bodies, keys, properties, strict=True)):
            if not key:
                self._turn += 1
            partition = by_key[key] if key else partitions[(self._turn - 1) % len(partitions)]
            chosen.setdefault(partition, []).append(Numbered(number, body, said))
        return chosen


def partition_of(key: str, partitions: Sequence[str]) -> str:
    """The partition of a key: CRC-32 modulo the number of partitions.

    It may be another than Azure would choose for the key, but it is always the same one.
    """
    return partitions[zlib.crc32(key.encode()) % len(partitions)]


class _Sender:
    """Open connections to all partitions of a hub."""

    def __init__(self, client: EventHubProducerClient, connections: Connections, fast: bool) -> None:
        self.client, self.connections = client, connections
        self.partitions = list(client.get_partition_ids())
        self._fast = fast and is_tested() and _can_fill(client.create_batch())
        self._took_at = time.monotonic()
        # Without a deadline of its own: the caller waits for this one.
        Background(self._open, self.partitions, "open partition").results(threading.TIMEOUT_MAX)

    def _open(self, partition: str) -> None:
        self.client._start_producer(partition, None)
        producer: Any = self.client._producers[partition]
        producer._open_with_retry()

    def close(self) -> None:
        """Says goodbye to the hub, if it listens."""
        work = Background(lambda client: client.close(), [self.client], "close")
        work.join(CLOSE_TIMEOUT_S)
        self.connections.abandon(work)

    def results(self, work: Background[Any, list[int]]) -> list[list[int]]:
        """What `send` returned for each partition, as long as the hub takes one batch after the other.

        Raises:
            TimeoutError: for a while it took none.
        """
        self._took_at = time.monotonic()
        while True:
            seen = self._took_at
            try:
                return work.results(seen + PUBLISH_TIMEOUT_S - time.monotonic())
            except TimeoutError:
                # Some errors of the SDK are of that type too.
                if self._took_at == seen or not work.is_alive:
                    raise

    def send(self, partition: str, events: Sequence[Numbered]) -> list[int]:
        """Sends a partition's events in order.

        Returns:
            The indexes of those that are too large.
        """
        too_large: list[int] = []
        for batch in (self._filled if self._fast else self._added)(partition, events, too_large):
            self.client.send_batch(batch)
            self._took_at = time.monotonic()
        return too_large

    def _filled(self, partition: str, events: Sequence[Numbered], too_large: list[int]) -> Iterator[EventDataBatch]:
        batch = self.client.create_batch(partition_id=partition)
        room = batch.max_size_in_bytes - batch.size_in_bytes
        messages: list[tuple[bytes, bytes]] = []
        size = 0
        for number, body, properties in events:
            said = _section_of(properties) if properties else b""
            added = len(said) + len(body) + _OVERHEAD_BYTES
            if added > room:
                too_large.append(number)
                continue
            if messages and size + added > min(room, _FULL_BYTES):
                yield _filled(batch, messages)
                batch, messages, size = self.client.create_batch(partition_id=partition), [], 0
            messages.append((said, body))
            size += added
        if messages:
            yield _filled(batch, messages)

    def _added(self, partition: str, events: Sequence[Numbered], too_large: list[int]) -> Iterator[EventDataBatch]:
        batch = self.client.create_batch(partition_id=partition)
        for number, body, properties in events:
            if _is_added(batch, body, properties):
                continue
            if len(batch):
                yield batch
                batch = self.client.create_batch(partition_id=partition)
            if not _is_added(batch, body, properties):
                too_large.append(number)
        if len(batch):
            yield batch


def _is_added(batch: EventDataBatch, body: bytes, properties: Mapping[str, str]) -> bool:
    event = EventData(body)
    event.properties = dict[str | bytes, Any](properties.items())
    try:
        batch.add(event)
    except ValueError:
        return False
    return True


class _Sections(bytes):
    """A section's content and, behind it, whole sections; the SDK encodes it as the one section that it is told of."""

    first: int

    def __len__(self) -> int:
        return self.first


def _filled(batch: EventDataBatch, messages: Sequence[tuple[bytes, bytes]]) -> EventDataBatch:
    parts: list[bytes] = []
    for said, body in messages:
        size = len(body)
        head = _HEADERS.pack(_BINARY_SECTION, len(said) + len(_BINARY_SECTION) + 4 + size, _BINARY_SECTION, size)
        # Between the two headers is what is said about the event.
        parts += (head[:8], said, head[8:], body) if said else (head, body)
    # The section's own header in front of the first message is what the SDK encodes.
    parts[0] = parts[0][8:]
    said, body = messages[0]
    sections = _Sections(b"".join(parts))
    sections.first = len(said) + len(_BINARY_SECTION) + 4 + len(body)
    batch._message[5].append(sections)
    batch._size += sum(len(said) + len(body) for said, body in messages) + _OVERHEAD_BYTES * len(messages)
    batch._count += len(messages)
    return batch


def _section_of(properties: Mapping[str, str]) -> bytes:
    """The section of an event's application properties."""
    encoded = [each.encode("utf-8", "replace") for pair in properties.items() for each in pair]
    content = b"".join(part for text in encoded for part in (_STRING.pack(b"\xb1", len(text)), text))
    return _PROPERTIES.pack(_MAP_SECTION, len(content) + 4, len(encoded)) + content


def _can_fill(batch: EventDataBatch) -> bool:
    """Whether a batch is made as `_filled` expects; tried with one that is not sent."""
    try:
        if len(_filled(batch, [(b"", b"body")])) == 1:
            return True
        reason = "a batch counts its events in another way"
    except (AttributeError, TypeError, LookupError) as error:
        reason = f"a batch is made in another way ({error})"
    fall_back(reason)
    return False
