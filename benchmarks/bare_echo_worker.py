"""The reference for latency: a process that receives with the SDK and sends every event on, unread."""

import struct
import threading
from collections.abc import Sequence
from typing import Any

from azure.eventhub import EventData, EventHubProducerClient, PartitionContext

from benchmarks.workers import serve
from resources.event_hubs import EventHubsNamespace

STAMP = struct.Struct(">Q")
"""The body of an echo: when its event was enqueued, epoch milliseconds."""


class Echo:
    """Sends a batch for every batch received, to the partition of the same number."""

    def __init__(self, producer: EventHubProducerClient) -> None:
        self._producer = producer
        self._lock = threading.Lock()
        self.events = 0

    def send(self, context: PartitionContext, events: Sequence[EventData]) -> None:
        if not events:
            return
        batch = self._producer.create_batch(partition_id=context.partition_id)
        for event in events:
            enqueued_at = event.enqueued_time
            assert enqueued_at is not None
            batch.add(EventData(STAMP.pack(round(enqueued_at.timestamp() * 1000))))
        self._producer.send_batch(batch)
        with self._lock:
            self.events += len(events)


def run(connection_string: str, hub: str, echo_hub: str, seconds: float, socket_timeout_s: float) -> dict[str, Any]:
    """Echoes new events for so many seconds; one receiving thread for each partition."""
    namespace = EventHubsNamespace(connection_string)
    with namespace.producer(echo_hub) as producer:
        client, echo = namespace.consumer(hub, socket_timeout=socket_timeout_s), Echo(producer)
        receiving = [
            threading.Thread(
                target=client.receive_batch,
                args=(echo.send,),
                kwargs={"partition_id": partition, "starting_position": "@latest", "max_wait_time": 0.1},
            )
            for partition in client.get_partition_ids()
        ]
        for thread in receiving:
            thread.start()
        threading.Event().wait(seconds)
        client.close()
        for thread in receiving:
            thread.join()
    return {"events": echo.events}


if __name__ == "__main__":
    serve(run)
