"""The Azure SDK in as few words as tests need: send, receive until there are enough, ask."""

import threading
from collections.abc import Iterable
from typing import Any

from azure.eventhub import EventData, EventHubConsumerClient, EventHubProducerClient

PATIENCE_SECONDS = 60.0


def producer(connection_string: str, hub: str = "hub", **options) -> EventHubProducerClient:
    options = {"retry_total": 0, "retry_backoff_factor": 0.05, **options}
    return EventHubProducerClient.from_connection_string(connection_string, eventhub_name=hub, **options)


def consumer(connection_string: str, hub: str = "hub", group: str = "$Default", **options) -> EventHubConsumerClient:
    return EventHubConsumerClient.from_connection_string(
        connection_string, consumer_group=group, eventhub_name=hub, **options
    )


def send(connection_string: str, bodies: Iterable[str | bytes], partition: str = "0", hub: str = "hub") -> None:
    with producer(connection_string, hub) as client:
        client.send_batch([EventData(body) for body in bodies], partition_id=partition)


def partition_properties(connection_string: str, partition: str = "0", hub: str = "hub") -> dict[str, Any]:
    with producer(connection_string, hub) as client:
        return client.get_partition_properties(partition)


class Reading:
    """A consumer in a thread of its own: what it got, which errors it was told."""

    def __init__(
        self, connection_string: str, partition: str | None = "0", hub: str = "hub", group: str = "$Default", **how
    ):
        self.events: list[Any] = []
        self.errors: list[Exception] = []
        self._changed = threading.Condition()
        self._client = consumer(connection_string, hub, group, retry_total=0, retry_backoff_factor=0.05)
        how = {"starting_position": "-1", "max_wait_time": 0.2, **how}
        self._thread = threading.Thread(
            target=self._client.receive_batch,
            args=(self._on_events,),
            kwargs={"partition_id": partition, "on_error": self._on_error, **how},
            daemon=True,
        )

    def _on_events(self, context, events) -> None:
        with self._changed:
            self.events += events
            self.metrics = context.last_enqueued_event_properties
            self._changed.notify_all()

    def _on_error(self, context, error) -> None:
        with self._changed:
            self.errors.append(error)
            self._changed.notify_all()

    def wait_for_events(self, count: int) -> list[Any]:
        with self._changed:
            self._changed.wait_for(lambda: len(self.events) >= count or self.errors, PATIENCE_SECONDS)
            assert not self.errors, self.errors
            assert len(self.events) >= count, f"{len(self.events)} of {count} events"
            return list(self.events)

    def wait_for_error(self) -> Exception:
        with self._changed:
            assert self._changed.wait_for(lambda: self.errors, PATIENCE_SECONDS), "no error was reported"
            return self.errors[0]

    def __enter__(self) -> "Reading":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._thread.join(PATIENCE_SECONDS)


def receive(connection_string: str, count: int, **how) -> list[Any]:
    with Reading(connection_string, **how) as reading:
        return reading.wait_for_events(count)


def bodies(events: Iterable[Any]) -> list[str]:
    return [event.body_as_str() for event in events]
