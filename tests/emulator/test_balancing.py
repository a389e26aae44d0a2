"""Async consumers that share partitions by epochs, as the SDK's load balancing does."""

import asyncio
import time
from typing import Any

import pytest
from azure.eventhub import EventData
from azure.eventhub.aio import CheckpointStore, EventHubConsumerClient, EventHubProducerClient

pytestmark = pytest.mark.service

PARTITIONS = ("0", "1", "2", "3")
PATIENCE_S = 300.0


class MemoryStore(CheckpointStore):
    """Ownership and checkpoints of one hub, shared by the consumers of this process."""

    def __init__(self) -> None:
        self._owners: dict[str, dict[str, Any]] = {}
        self._checkpoints: dict[str, dict[str, Any]] = {}
        self._version = 0

    async def list_ownership(self, *_: str, **__: object) -> list[dict[str, Any]]:
        return [dict(owner) for owner in self._owners.values()]

    async def claim_ownership(self, ownership_list, **_: object) -> list[dict[str, Any]]:
        claimed = []
        for wish in ownership_list:
            current = self._owners.get(wish["partition_id"])
            if current is None or current["etag"] == wish.get("etag"):
                self._version += 1
                owner = dict(wish, etag=str(self._version), last_modified_time=time.time())
                self._owners[wish["partition_id"]] = owner
                claimed.append(dict(owner))
        return claimed

    async def update_checkpoint(self, checkpoint, **_: object) -> None:
        self._checkpoints[checkpoint["partition_id"]] = checkpoint

    async def list_checkpoints(self, *_: str, **__: object) -> list[dict[str, Any]]:
        return list(self._checkpoints.values())


class Consumer:
    def __init__(self, connection_string: str, store: MemoryStore) -> None:
        self.sequences: dict[str, list[int]] = {name: [] for name in PARTITIONS}
        self._client = EventHubConsumerClient.from_connection_string(
            connection_string,
            consumer_group="$Default",
            eventhub_name="balanced",
            checkpoint_store=store,
            load_balancing_interval=0.5,
        )

    async def _on_events(self, context, events) -> None:
        if events:
            self.sequences[context.partition_id] += [event.sequence_number for event in events]
            await context.update_checkpoint(events[-1])

    async def __aenter__(self) -> "Consumer":
        self._task = asyncio.create_task(
            self._client.receive_batch(self._on_events, starting_position="-1", max_wait_time=0.2)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()
        await self._task


async def _send(client: EventHubProducerClient, count: int) -> None:
    for name in PARTITIONS:
        await client.send_batch([EventData(b"x") for _ in range(count)], partition_id=name)


async def _until(is_reached) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not is_reached():
            await asyncio.sleep(0.05)


async def _balance(connection_string: str) -> tuple[dict[str, list[int]], dict[str, list[int]], int]:
    """What each of two consumers was given until all that was sent arrived, and how many events a partition has."""
    store, sent = MemoryStore(), 200
    producer = EventHubProducerClient.from_connection_string(connection_string, eventhub_name="balanced")
    async with producer, Consumer(connection_string, store) as first:
        await _send(producer, 200)
        await _until(lambda: all(len(first.sequences[name]) >= 200 for name in PARTITIONS))
        async with Consumer(connection_string, store) as second:
            async with asyncio.timeout(PATIENCE_S):
                while not any(second.sequences.values()):
                    await _send(producer, 1)
                    sent += 1
                    await asyncio.sleep(0.1)
            await _until(
                lambda: all(len(set(first.sequences[name] + second.sequences[name])) == sent for name in PARTITIONS)
            )
    return first.sequences, second.sequences, sent


# A client that is closed while it loses a partition leaves that connection to the collector of garbage.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_two_async_consumers_share_the_partitions_and_lose_nothing(emulator):
    first, second, sent = asyncio.run(_balance(emulator.connection_string))
    assert any(second.values())
    for name in PARTITIONS:
        assert set(first[name] + second[name]) == set(range(sent))
