"""Receives from all partitions of an event hub in one thread.

The SDK's own consumer loop visits partitions in turn, waits 0.2 s at each empty one, and up to `prefetch` events at a
slow one; and it wraps each event in objects that cost more than receiving it. So the SDK keeps what is hard
(connection, authentication, links, credit, unusual frames) and this module decides when to read, as soon as a socket
has something, and reads usual frames itself. What it relies on inside the SDK is pinned by tests/contract.
"""

import selectors
import struct
import threading
import time
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Protocol, Self, cast

from azure.eventhub import EventHubConsumerClient
from azure.eventhub._consumer import EventHubConsumer
from azure.eventhub._pyamqp.constants import LinkState

from resources.connections import Connections
from resources.deadlines import CLOSE_TIMEOUT_S, GIVE_UP_AFTER_S, OPEN_TIMEOUT_S, SILENT_AFTER_S
from resources.event_source import HubTakenOverError, HubUnavailableError, Pulled
from resources.hub_address import HubAddress, reason
from resources.message_details import ENQUEUED_TIME, SEQUENCE_NUMBER, annotations_of, key_of, properties_of
from resources.sdk import fall_back, is_tested, read_all_types
from resources.transfers import FrameBuffer, TransferReader, has_pending

read_all_types()

PREFETCH = 3000
OPENED_AT_ONCE = 8
MAX_BUFFERED_EVENTS = 30_000
MAX_BUFFERED_BYTES = 5 << 20
_DRAINED_SOCKET_TIMEOUT_S = 0.001
_IDLE_POLL_S = 0.05
_KEEP_ALIVE_S = 5.0


class _PastTheSdkError(ConnectionError):
    """Reading past the SDK failed: it, or a hub, is made in another way than expected."""


@contextmanager
def _past_the_sdk() -> Iterator[None]:
    try:
        yield
    except (AttributeError, TypeError, LookupError, ValueError, struct.error) as error:
        raise _PastTheSdkError(f"{type(error).__name__}: {error}") from error


class _PartitionConsumer(EventHubConsumer):
    """The SDK's consumer of one partition, handing over messages as they are decoded."""

    def __init__(self, client: EventHubConsumerClient, partition: int, after: int | None, *, fast: bool = True) -> None:
        address = client._address
        super().__init__(
            client,
            f"amqps://{address.hostname}{address.path}/ConsumerGroups/{client._consumer_group}/Partitions/{partition}",
            event_position="-1" if after is None else after,
            prefetch=PREFETCH,
            # An exclusive reader: should a session hang without dying, the next one takes its links over.
            owner_level=0,
            keep_alive=None,
            # By AMQP 1.0, 2.4.5, the hub sends an empty frame when it has been silent for about so long.
            idle_timeout=SILENT_AFTER_S / 2,
            on_event_received=None,
            amqp_transport=client._amqp_transport,
        )
        self.partition = partition
        self.after = after
        self.fast = fast
        self.pulled = Pulled.nothing(partition)
        self.size = 0
        self.kept_alive_at = 0.0
        self._heard_at = time.monotonic()
        self._unread: Exception | None = None

    def open(self) -> None:
        """Connects.

        Raises:
            TimeoutError: it takes too long.
        """
        deadline = time.monotonic() + OPEN_TIMEOUT_S
        while not self._open():
            if time.monotonic() > deadline:
                raise TimeoutError(f"partition {self.partition} could not be opened in {OPEN_TIMEOUT_S:.0f} s")
        self._client_of_link = cast(Any, self._handler)
        self._connection = self._client_of_link._connection
        self._session, self._link = self._client_of_link._session, self._client_of_link._link
        # The SDK sees only some of the frames: it is watched here whether the hub is silent.
        self._connection._idle_timeout = None
        self._heard_at = time.monotonic()
        transport = self._connection._transport
        if self.fast:
            with _past_the_sdk():
                channels = {session: channel for channel, session in self._connection._incoming_endpoints.items()}
                self._transfers = TransferReader(self.partition, channels[self._session], self._link.remote_handle)
                self.frames = FrameBuffer(transport.sock, transport._read_buffer.read())
                transport.sock = self.frames
        self.sock = transport.sock
        self.sock.settimeout(_DRAINED_SOCKET_TIMEOUT_S)

    @property
    def is_readable(self) -> bool:
        """Whether `poll` finds something that `select` does not see, see `has_pending`."""
        return has_pending(self.sock)

    def poll(self, *, is_readable: bool, now: float) -> None:
        """Reads what the socket holds; also tops up credit and keeps the connection alive.

        Raises:
            ConnectionError: it broke, or the hub was silent for too long.
        """
        if is_readable:
            self._heard_at = now
            if self.fast:
                self.frames.fill()
                self._read()
            else:
                self._work(batch=PREFETCH)
        elif now - self._heard_at > SILENT_AFTER_S:
            raise ConnectionError(
                f"the hub was silent for {SILENT_AFTER_S:.0f} s on the connection of partition {self.partition}"
            )
        if self._link.current_link_credit <= PREFETCH // 2:
            self._link.flow(link_credit=PREFETCH)
        if now - self.kept_alive_at > _KEEP_ALIVE_S:
            self.kept_alive_at = now
            self._work()
        state = self._link.get_state()
        if state is not LinkState.ATTACHED:
            raise ConnectionError(f"the hub ended the link of partition {self.partition} ({state.name})")

    def _read(self) -> None:
        """Reads the frames that have arrived completely."""
        while True:
            with _past_the_sdk():
                self._read_regular()
            if not (size := self.frames.frame_bytes):
                return
            before = len(self.frames.held)
            self.frames.offer(size)
            self._work(batch=1)
            self.frames.offer(0)
            if len(self.frames.held) == before:
                return

    def _read_regular(self) -> None:
        session, link = self._session, self._link
        if link._received_payload:
            return
        # The SDK must see the transfer that uses up the window: it answers it.
        events, size = self._transfers.read(self.frames.held, most=session.incoming_window - 1)
        if count := len(events.bodies):
            self.frames.skip(size)
            session.next_incoming_id += count
            session.remote_outgoing_window -= count
            session.incoming_window -= count
            link.delivery_count += count
            link.current_link_credit -= count
            self._keep(events)

    def _work(self, **options: Any) -> None:
        is_alive = self._client_of_link.do_work(**options)
        if self._unread is not None:
            raise ConnectionError(
                f"partition {self.partition}: an event cannot be read ({type(self._unread).__name__})"
            )
        if not is_alive:
            raise ConnectionError(f"the connection of partition {self.partition} broke")

    def _message_received(self, message: Any) -> None:
        """What the SDK calls with a message that it has read; it only logs what is raised here."""
        # The SDK keeps the tags of all deliveries, for answers that are never given.
        self._link._received_delivery_tags.clear()
        try:
            annotations = message.message_annotations
            self._keep(
                Pulled(
                    self.partition,
                    [annotations[SEQUENCE_NUMBER]],
                    [annotations[ENQUEUED_TIME]],
                    [body_of(message)],
                    [key_of(message)],
                    [properties_of(message)],
                    [annotations_of(message)],
                )
            )
        except Exception as error:
            self._unread = error

    def _keep(self, events: Pulled) -> None:
        known = 0 if self.after is None else bisect_right(events.sequence_numbers, self.after)
        if known == len(events.bodies):
            return
        self.after = events.sequence_numbers[-1]
        self.pulled.extend(events, known)
        self.size += _bytes_of(events.bodies[known:])
        for texts in (events.keys, events.properties, events.annotations):
            self.size += sum(len(text) for text in texts[known:] if text)

    def skip(self, last: int) -> None:
        """Drops what was received up to this sequence number, and what will be."""
        if last < 0:
            return
        held = self.hand_over()
        self.after = last if self.after is None else max(self.after, last)
        kept = bisect_right(held.sequence_numbers, last)
        self.pulled.extend(held, kept)
        self.size = _bytes_of(held.bodies[kept:])

    def hand_over(self) -> Pulled:
        pulled, self.pulled, self.size = self.pulled, Pulled.nothing(self.partition), 0
        return pulled


class Connect(Protocol):
    """Makes a client of the SDK that opens its connections by what it is given."""

    def __call__(self, connections: Connections, /) -> EventHubConsumerClient: ...


class EventHubsReceiver:
    """Implements `Receiver` on one background thread.

    Args:
        connect: makes a client.
        address: of the hub.
        after: each partition's last known sequence number, or None for its beginning.
        fast: whether regular transfers may be read past the SDK.
    """

    def __init__(
        self, connect: Connect, address: HubAddress, after: Mapping[int, int | None], *, fast: bool = True
    ) -> None:
        self._address, self._connections = address, Connections()
        self._client = connect(self._connections)
        fast = fast and is_tested()
        self._consumers = [_PartitionConsumer(self._client, number, last, fast=fast) for number, last in after.items()]
        self._changed = threading.Condition()
        self._filled = threading.Event()
        self._opened = threading.Event()
        self._stopping = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name=f"receive {address.hub}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._stopping.set()
            self._changed.notify_all()
        self._thread.join(CLOSE_TIMEOUT_S)
        if self._thread.is_alive():
            # It waits for a hub that does not answer.
            self._connections.cut()
            self._thread.join(CLOSE_TIMEOUT_S)

    def take(self, timeout: float) -> list[Pulled]:
        """What has arrived since the last call; waits up to `timeout` seconds for any."""
        with self._changed:
            self._changed.wait_for(lambda: self._failure or any(c.pulled.bodies for c in self._consumers), timeout)
            pulled = [consumer.hand_over() for consumer in self._consumers if consumer.pulled.bodies]
            if not pulled and self._failure:
                raise self._told(self._failure) from self._failure
            if pulled:
                self._filled.clear()
            self._changed.notify_all()
        return pulled

    def _told(self, failure: Exception) -> HubUnavailableError:
        is_stolen = "stolen" in str(failure)
        return (HubTakenOverError if is_stolen else HubUnavailableError)(
            f"Event hub '{self._address.hub}' at {self._address.endpoint}: receiving stopped: "
            f"{'another session of this stream took over' if is_stolen else reason(failure)}. "
            "What was pulled is kept; the rest is pulled again by the next session."
        )

    def wait_until_open(self, timeout: float) -> bool:
        """Waits up to `timeout` seconds until all partitions are being received, and says whether they are."""
        return self._opened.wait(timeout)

    def skip(self, reached: Mapping[int, int]) -> None:
        """Hands out no more events up to a sequence number of each partition; another receiver handed them out."""
        with self._changed:
            for consumer in self._consumers:
                consumer.skip(reached.get(consumer.partition, -1))
            self._changed.notify_all()

    def gather(self, seconds: float) -> None:
        """Lets so much time pass, or less if the buffer is full before, or receiving fails."""
        self._filled.wait(max(0.0, seconds))

    def _run(self) -> None:
        try:
            self._receive_until_stopped()
        except Exception as error:
            with self._changed:
                self._failure = error
                self._filled.set()
                self._changed.notify_all()
        finally:
            self._close()

    def _receive_until_stopped(self) -> None:
        failing_since: float | None = None
        while not self._stopping.is_set():
            began, opened_at = time.monotonic(), None
            try:
                self._open()
                opened_at = time.monotonic()
                self._receive()
            except Exception as error:
                now = time.monotonic()
                if failing_since is None or (opened_at is not None and now - opened_at > GIVE_UP_AFTER_S):
                    failing_since = began if opened_at is None else now
                fast = self._stays_fast(error)
                if now - failing_since > GIVE_UP_AFTER_S or not _is_retryable(error):
                    raise
                self._reconnect(fast)

    def _open(self) -> None:
        # Side by side, because each waits for answers of the hub most of its time.
        with self._connections.limit(OPEN_TIMEOUT_S), ThreadPoolExecutor(OPENED_AT_ONCE) as pool:
            for opened in [pool.submit(consumer.open) for consumer in self._consumers]:
                opened.result()
        self._opened.set()

    def _stays_fast(self, error: Exception) -> bool:
        fast = any(consumer.fast for consumer in self._consumers)
        if isinstance(error, _PastTheSdkError):
            fall_back(f"reading past it failed on hub '{self._address.hub}' ({error})")
            return False
        return fast

    def _receive(self) -> None:
        with selectors.DefaultSelector() as selector:
            for consumer in self._consumers:
                selector.register(consumer.sock, selectors.EVENT_READ, consumer)
            while not self._stopping.is_set():
                self._poll(selector)

    def _poll(self, selector: selectors.BaseSelector) -> None:
        buffered = {consumer for consumer in self._consumers if consumer.is_readable}
        ready = selector.select(0 if buffered else _IDLE_POLL_S)
        readable = buffered.union(key.data for key, _ in ready)
        with self._changed:
            for consumer in self._consumers:
                consumer.poll(is_readable=consumer in readable, now=time.monotonic())
            self._changed.notify_all()
            if self._is_full():
                self._filled.set()
            # Backpressure: unread sockets fill up, and the hub stops sending.
            self._changed.wait_for(lambda: self._stopping.is_set() or not self._is_full())

    def _is_full(self) -> bool:
        return (
            sum(len(c.pulled.bodies) for c in self._consumers) > MAX_BUFFERED_EVENTS
            or sum(c.size for c in self._consumers) > MAX_BUFFERED_BYTES
        )

    def _close(self) -> None:
        # Saying goodbye to a hub that does not answer takes no longer than that.
        with self._connections.limit(CLOSE_TIMEOUT_S):
            for consumer in self._consumers:
                consumer.close()

    def _reconnect(self, fast: bool) -> None:
        self._close()
        with self._changed:
            replaced = [
                _PartitionConsumer(self._client, old.partition, old.after, fast=fast) for old in self._consumers
            ]
            for new, old in zip(replaced, self._consumers, strict=True):
                new.pulled, new.size = old.pulled, old.size
            self._consumers = replaced
        self._stopping.wait(0.5)


def _is_retryable(error: Exception) -> bool:
    condition = str(getattr(error, "condition", ""))
    return not any(word in condition for word in ("stolen", "not-found", "unauthorized", "argument"))


def _bytes_of(bodies: Sequence[bytes | None]) -> int:
    return sum(len(body) for body in bodies if body)


def body_of(message: Any) -> bytes:
    """The body of a message in data sections, or of another AMQP type as its text."""
    if message.data is not None:
        return b"".join(message.data)
    body = message.value if message.value is not None else message.sequence
    if body is None:
        return b""
    return body if isinstance(body, bytes) else str(body).encode()
