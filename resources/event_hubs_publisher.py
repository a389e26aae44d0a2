"""Sends events to an event hub, many in a batch.

`EventDataBatch.add` encodes each event twice and wraps it in objects, and sending encodes it once more; for bodies
without properties the encoding is a prefix, so batches are filled with encoded events. What this relies on inside the
SDK is pinned by tests/contract.
"""

import struct
import threading
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from types import TracebackType
from typing import Any, Self

from azure.eventhub import EventDataBatch, EventHubProducerClient
from azure.eventhub.exceptions import EventHubError

from resources.event_source import HubUnavailableError

# An AMQP data section (described type 0x75) that holds a binary with a length of four bytes, which follow.
_BINARY_SECTION = b"\x00\x53\x75\xb0"
# An event in a batch is a section that holds the event's message, which is a section that holds its body.
_HEADERS = struct.Struct(">4sI4sI")
_OVERHEAD_BYTES = _HEADERS.size
# The SDK copies a batch six times on its way out: of this size the copies stay in the processor's cache.
_FULL_BYTES = 256 << 10


class EventHubsPublisher:
    """One event hub to write to; implements `Publisher`."""

    def __init__(self, client: EventHubProducerClient, hub: str) -> None:
        self._client, self._hub = client, hub
        self._pool = ThreadPoolExecutor(max_workers=8, thread_name_prefix=f"publish {hub}")
        self._opening: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Begins to open a sender for each partition: the first event need not wait seconds for its connection."""
        self._opening = threading.Thread(target=self._open_all, name=f"open {self._hub}")
        self._opening.start()
        return self

    def _open_all(self) -> None:
        try:
            self._client.create_batch()
            list(self._pool.map(self._open, self._partitions))
        except EventHubError:
            # A hub that is away matters only to who publishes, and tells that one.
            return

    def _wait_for_opening(self) -> None:
        if self._opening is not None:
            self._opening.join()

    def _open(self, partition: str) -> None:
        self._client._start_producer(partition, None)
        producer: Any = self._client._producers[partition]
        producer._open_with_retry()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        self._wait_for_opening()
        self._pool.shutdown()
        self._client.close()

    @cached_property
    def _partitions(self) -> list[str]:
        return list(self._client.get_partition_ids())

    def publish(self, bodies: Sequence[bytes], keys: Sequence[str]) -> None:
        """Sends events and returns when the hub has them; those of one key go to one partition, in order.

        Raises:
            HubUnavailableError: the hub did not accept all of them, or a body is larger than the hub accepts.
        """
        self._wait_for_opening()
        try:
            chosen = self._by_partition(bodies, keys)
            # Each partition has a connection of its own: while the hub stores one's batch, another's is made.
            list(self._pool.map(self._send, chosen.keys(), chosen.values()))
        except EventHubError as error:
            raise unavailable(self._hub, error) from error

    def _by_partition(self, bodies: Sequence[bytes], keys: Sequence[str]) -> dict[str, list[bytes]]:
        # By our own hash: a partition key for each batch would make a batch for each key.
        partitions = self._partitions
        by_key = {key: partitions[zlib.crc32(key.encode()) % len(partitions)] for key in set(keys)}
        chosen: dict[str, list[bytes]] = {}
        for body, key in zip(bodies, keys, strict=True):
            chosen.setdefault(by_key[key], []).append(body)
        return chosen

    def _send(self, partition: str, bodies: Sequence[bytes]) -> None:
        batch = self._client.create_batch(partition_id=partition)
        room = batch.max_size_in_bytes - batch.size_in_bytes
        start = size = 0
        for end, body in enumerate(bodies):
            added = len(body) + _OVERHEAD_BYTES
            if added > room:
                raise HubUnavailableError(
                    f"Event hub '{self._hub}': an event of {len(body)} bytes is larger than the "
                    f"{batch.max_size_in_bytes} bytes that it accepts. Send smaller bodies."
                )
            if size and size + added > min(room, _FULL_BYTES):
                self._client.send_batch(_filled(batch, bodies[start:end]))
                batch, start, size = self._client.create_batch(partition_id=partition), end, 0
            size += added
        self._client.send_batch(_filled(batch, bodies[start:]))


class _Sections(bytes):
    """A section's content and, behind it, whole sections; the SDK encodes it as the one section that it is told of."""

    first: int

    def __len__(self) -> int:
        return self.first


def _filled(batch: EventDataBatch, bodies: Sequence[bytes]) -> EventDataBatch:
    parts: list[bytes] = []
    for body in bodies:
        size = len(body)
        parts += (_HEADERS.pack(_BINARY_SECTION, size + len(_BINARY_SECTION) + 4, _BINARY_SECTION, size), body)
    parts[0] = parts[0][len(_BINARY_SECTION) + 4 :]
    sections = _Sections(b"".join(parts))
    sections.first = len(_BINARY_SECTION) + 4 + len(bodies[0])
    batch._message[5].append(sections)
    batch._size += sum(map(len, bodies)) + _OVERHEAD_BYTES * len(bodies)
    batch._count += len(bodies)
    return batch


def unavailable(hub: str, error: Exception) -> HubUnavailableError:
    """The SDK's error with the hub's name and what to do next."""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return HubUnavailableError(
        f"Event hub '{hub}': {reason.rstrip('. ')}. Check that the hub exists and runs (locally: `pulselake hub`) "
        "and that EVENTHUB_CONNECTION_STRING or EVENTHUB_NAMESPACE names it; nothing was lost."
    )
