"""Sends events to an event hub, many in a batch.

`EventDataBatch.add` encodes each event twice and wraps it in objects; for bodies without properties the encoding is a
prefix, so batches are filled directly. What this relies on inside the SDK is pinned by tests/contract.
"""

import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from types import TracebackType
from typing import Any, Self

from azure.eventhub import EventDataBatch, EventHubProducerClient
from azure.eventhub.exceptions import EventHubError

from resources.event_source import HubUnavailableError

# An AMQP data section (described type 0x75) that holds a binary with a length of four bytes.
_DATA_SECTION = b"\x00\x53\x75\xb0"
# What a batch spends on each event around its body: the section above twice (message in a section of the batch).
_OVERHEAD_BYTES = 16


class EventHubsPublisher:
    """One event hub to write to; implements `Publisher`."""

    def __init__(self, client: EventHubProducerClient, hub: str) -> None:
        self._client, self._hub = client, hub

    def __enter__(self) -> Self:
        """Opens a sender for each partition, so that the first event does not wait seconds for its connection.

        Raises:
            HubUnavailableError: the hub cannot be reached or does not exist.
        """
        try:
            self._client.create_batch()
            with ThreadPoolExecutor(max_workers=8) as pool:
                list(pool.map(self._open, self._partitions))
        except EventHubError as error:
            self._client.close()
            raise unavailable(self._hub, error) from error
        return self

    def _open(self, partition: str) -> None:
        self._client._start_producer(partition, None)
        producer: Any = self._client._producers[partition]
        producer._open_with_retry()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    @cached_property
    def _partitions(self) -> list[str]:
        return list(self._client.get_partition_ids())

    def publish(self, bodies: Sequence[bytes], keys: Sequence[str]) -> None:
        """Sends events and returns when the hub has them; those of one key go to one partition, in order.

        Raises:
            HubUnavailableError: the hub did not accept all of them, or a body is larger than the hub accepts.
        """
        try:
            # Partitions by our own hash: a partition key for each batch would make a batch for each key.
            partitions = self._partitions
            batches: dict[str, EventDataBatch] = {}
            for body, key in zip(bodies, keys, strict=True):
                partition = partitions[zlib.crc32(key.encode()) % len(partitions)]
                batch = batches.get(partition)
                if batch is None or not _fits(batch, body):
                    if batch is not None and len(batch):
                        self._client.send_batch(batch)
                    batch = batches[partition] = self._client.create_batch(partition_id=partition)
                    if not _fits(batch, body):
                        raise HubUnavailableError(
                            f"Event hub '{self._hub}': an event of {len(body)} bytes is larger than the "
                            f"{batch.max_size_in_bytes} bytes that it accepts. Send smaller bodies."
                        )
                _add(batch, body)
            for batch in batches.values():
                self._client.send_batch(batch)
        except EventHubError as error:
            raise unavailable(self._hub, error) from error


def _fits(batch: EventDataBatch, body: bytes) -> bool:
    return bool(batch._size + len(body) + _OVERHEAD_BYTES <= batch.max_size_in_bytes)


def _add(batch: EventDataBatch, body: bytes) -> None:
    batch._message[5].append(_DATA_SECTION + len(body).to_bytes(4, "big") + body)
    batch._size += len(body) + _OVERHEAD_BYTES
    batch._count += 1


def unavailable(hub: str, error: Exception) -> HubUnavailableError:
    """The SDK's error with the hub's name and what to do next."""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return HubUnavailableError(
        f"Event hub '{hub}': {reason} Check that the hub exists and runs (locally: `pulselake hub`) "
        "and that EVENTHUB_CONNECTION_STRING or EVENTHUB_NAMESPACE names it; nothing was lost."
    )
