"""The reference for draining: a process that receives a backlog with the SDK alone and only counts it."""

import threading
import time
from collections.abc import Sequence
from typing import Any

from azure.eventhub import EventData, LoadBalancingStrategy, PartitionContext

from benchmarks.workers import peak_rss_mb, serve
from resources.event_hubs import EventHubsNamespace

BATCH = 3000


class Count:
    """Counts until all events are there."""

    def __init__(self, expected: int) -> None:
        self._expected = expected
        self._lock = threading.Lock()
        self.events = self.first_events = 0
        self.first_at = self.last_at = 0.0
        self.is_complete = threading.Event()

    def add(self, _: PartitionContext, events: Sequence[EventData]) -> None:
        with self._lock:
            self.last_at = time.monotonic()
            if not self.events:
                self.first_at, self.first_events = self.last_at, len(events)
            self.events += len(events)
            if self.events >= self._expected:
                self.is_complete.set()


def run(connection_string: str, hub: str, events: int, threads: int) -> dict[str, Any]:
    """Receives `events` events with one thread for all partitions, or one for each of four."""
    client = EventHubsNamespace(connection_string).consumer(
        hub, load_balancing_interval=0.2, load_balancing_strategy=LoadBalancingStrategy.GREEDY
    )
    count = Count(events)
    options = {"prefetch": BATCH, "max_batch_size": BATCH, "starting_position": "-1"}
    began, began_cpu = time.monotonic(), time.process_time()
    partitions: list[dict[str, str]] = (
        [{}] if threads == 1 else [{"partition_id": each} for each in client.get_partition_ids()]
    )
    receiving = [
        threading.Thread(target=client.receive_batch, args=(count.add,), kwargs=options | partition)
        for partition in partitions
    ]
    for thread in receiving:
        thread.start()
    count.is_complete.wait()
    whole_s = time.monotonic() - began
    client.close()
    for thread in receiving:
        thread.join()
    return {
        "events": count.events,
        "first_events": count.first_events,
        "receiving_s": count.last_at - count.first_at,
        "whole_s": whole_s,
        "cpu_s": time.process_time() - began_cpu,
        "peak_rss_mb": peak_rss_mb(),
    }


if __name__ == "__main__":
    serve(run)
