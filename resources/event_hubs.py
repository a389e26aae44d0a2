"""Azure Event Hubs by the azure-eventhub SDK; the local hub speaks the same protocol.

Who to connect to, and the state of a hub. Receiving is in `event_hubs_receiver`, sending in `event_hubs_publisher`.
"""

import logging
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from azure.eventhub import EventHubConsumerClient, EventHubProducerClient
from azure.eventhub.exceptions import EventHubError
from azure.identity import DefaultAzureCredential

from resources.event_hubs_publisher import EventHubsPublisher, unavailable
from resources.event_hubs_receiver import EventHubsReceiver
from resources.event_source import HubState, HubUnavailableError, Tail

# The SDK logs every connection step at INFO and every retry at WARNING; what matters surfaces as an exception.
logging.getLogger("azure.eventhub").setLevel(logging.ERROR)

DEFAULT_CONSUMER_GROUP = "$Default"
# How long the SDK lets an empty socket block; its default of 0.2 s makes each look-up of properties cost twice that.
_MANAGEMENT_SOCKET_TIMEOUT_S = 0.02


@dataclass(frozen=True)
class EventHubsNamespace:
    """How to reach the hubs: by connection string, or by namespace with the identity that Azure gives the process.

    Attributes:
        connection_string: ``Endpoint=sb://…``; with ``UseDevelopmentEmulator=true`` for a local hub.
        fully_qualified_namespace: ``NAME.servicebus.windows.net``; used where there is no connection string.
        consumer_group: the group to read as.
    """

    connection_string: str | None = field(default=None, repr=False)
    fully_qualified_namespace: str | None = None
    consumer_group: str = DEFAULT_CONSUMER_GROUP

    def source(self, hub: str) -> "EventHubsSource":
        """The hub to read from."""
        return EventHubsSource(self, hub)

    def publisher(self, hub: str) -> "EventHubsPublisher":
        """The hub to write to; close it, or use it in a `with`."""
        return EventHubsPublisher(self.producer(hub, retry_total=1), hub)

    def consumer(self, hub: str, **options: Any) -> EventHubConsumerClient:
        """A consumer client of the SDK."""
        if self.connection_string:
            return EventHubConsumerClient.from_connection_string(
                self.connection_string, self.consumer_group, eventhub_name=hub, **options
            )
        return EventHubConsumerClient(self._namespace, hub, self.consumer_group, self._credential, **options)

    def producer(self, hub: str, **options: Any) -> EventHubProducerClient:
        """A producer client of the SDK."""
        if self.connection_string:
            return EventHubProducerClient.from_connection_string(self.connection_string, eventhub_name=hub, **options)
        return EventHubProducerClient(self._namespace, hub, self._credential, **options)

    @property
    def _namespace(self) -> str:
        if not self.fully_qualified_namespace:
            raise HubUnavailableError(
                "No Event Hubs namespace is set. Set EVENTHUB_CONNECTION_STRING, or EVENTHUB_NAMESPACE together with "
                "an Azure identity, or start the local hub with `pulselake hub`."
            )
        return self.fully_qualified_namespace

    @cached_property
    def _credential(self) -> DefaultAzureCredential:
        return DefaultAzureCredential()


@dataclass(frozen=True)
class EventHubsSource:
    """One event hub to read from; implements `EventSource`."""

    namespace: EventHubsNamespace
    name: str

    def state(self) -> HubState:
        """The hub's identity and tails."""
        with self._errors(), self._client(retry_total=1) as client:
            hub = client.get_eventhub_properties()
            # Each look-up is a connection of its own that sleeps most of its 0.4 s.
            with ThreadPoolExecutor(max_workers=8) as pool:
                found = list(pool.map(client.get_partition_properties, hub["partition_ids"]))
        return HubState(int(hub["created_at"].timestamp() * 1000), {int(each["id"]): _tail(each) for each in found})

    @contextmanager
    def receive(self, after: Mapping[int, int]) -> Iterator[EventHubsReceiver]:
        """Receives from all partitions, in each behind the given sequence number."""
        with self._errors(), self._client() as client:
            partitions = [int(partition) for partition in client.get_partition_ids()]
            with EventHubsReceiver(
                client, self.namespace.consumer_group, {p: after.get(p) for p in partitions}
            ) as receiver:
                yield receiver

    def _client(self, **options: Any) -> EventHubConsumerClient:
        return self.namespace.consumer(self.name, socket_timeout=_MANAGEMENT_SOCKET_TIMEOUT_S, **options)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except EventHubError as error:
            raise unavailable(self.name, error) from error


def _tail(properties: Mapping[str, Any]) -> Tail:
    first = properties["beginning_sequence_number"]
    # Emptied by retention it ends before its first event to come; never written to it ends at -1.
    return Tail(first, first - 1 if properties["is_empty"] else properties["last_enqueued_sequence_number"])
