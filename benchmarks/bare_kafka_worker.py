"""The references for draining Kafka: a process that receives a backlog and only counts it."""

import time
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from benchmarks.workers import peak_rss_mb, serve
from resources.kafka import KafkaSource
from resources.kafka_cluster import KafkaCluster

BATCH = 10_000


class Count:
    """How many events came, and when."""

    def __init__(self) -> None:
        self.events = self.first_events = 0
        self.first_at = self.last_at = 0.0

    def add(self, events: int) -> None:
        if not events:
            return
        self.last_at = time.monotonic()
        if not self.events:
            self.first_at, self.first_events = self.last_at, events
        self.events += events


def run(kafka: str, hub: str, events: int, way: str) -> dict[str, Any]:
    """Receives `events` events by the client's `consume` or `poll`, or by our receiver."""
    cluster, count = KafkaCluster(kafka), Count()
    source = KafkaSource(cluster, hub)
    began, began_cpu = time.monotonic(), time.process_time()
    if way == "receiver":
        with source.receive({}) as receiver:
            while count.events < events:
                count.add(sum(len(pulled.bodies) for pulled in receiver.take(1.0)))
    else:
        # As it comes: only the wait for an answer is the shorter one of this project, which this broker needs.
        consumer = Consumer(
            {"bootstrap.servers": kafka, "group.id": "bench", "enable.auto.commit": False, "fetch.wait.max.ms": 100}
        )
        partitions = source.state().tails
        consumer.assign([TopicPartition(hub, number, OFFSET_BEGINNING) for number in partitions])
        while count.events < events:
            messages = consumer.consume(BATCH, 1.0) if way == "consume" else [consumer.poll(1.0)]
            count.add(sum(1 for message in messages if message is not None and message.error() is None))
        consumer.close()
    return {
        "events": count.events,
        "first_events": count.first_events,
        "receiving_s": count.last_at - count.first_at,
        "whole_s": time.monotonic() - began,
        "cpu_s": time.process_time() - began_cpu,
        "peak_rss_mb": peak_rss_mb(),
    }


if __name__ == "__main__":
    serve(run)
