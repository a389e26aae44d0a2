"""Azure Event Hubs by the azure-eventhub SDK; the local hub speaks the same protocol.

Who to connect to, and the state of a hub. Receiving is in `event_hubs_receiver`, sending in `event_hubs_publisher`.
"""

import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from azure.eventhub import EventHubConsumerClient, EventHubProducerClient

from resources.background import Background
from resources.connections import Connections, tls_context
from resources.deadlines import OPEN_TIMEOUT_S, STATE_TIMEOUT_S
from resources.event_hubs_publisher import EventHubsPublisher
from resources.event_hubs_receiver import EventHubsReceiver
from resources.event_source import HubState, HubUnavailableError, Tail
from resources.hub_address import HubAddress
from resources.identity import BoundedCredential

# The SDK logs every connection step at INFO and every retry at WARNING; what matters surfaces as an exception.
logging.getLogger("azure.eventhub").setLevel(logging.ERROR)

# How long the SDK lets an empty socket block; its default of 0.2 s makes each look-up of properties cost twice that.
_MANAGEMENT_SOCKET_TIMEOUT_S = 0.02


@dataclass(frozen=True)
class EventHubsNamespace:
    """How to reach the hubs: by connection string, or by namespace with the identity that Azure gives the process.

    Attributes:
        connection_string: ``Endpoint=sb://…``; with ``UseDevelopmentEmulator=true`` for a local hub.
        fully_qualified_namespace: ``NAME.servicebus.windows.net``; used where there is no connection string.
        consumer_group: the group to read as.
        fast: whether regular events may be read and sent past the SDK.
    """

    connection_string: str | None = field(default=None, repr=False)
    fully_qualified_namespace: str | None = None
    consumer_group: str = "$Default"
    fast: bool = True

    def source(self, hub: str) -> "EventHubsSource":
        """The hub to read from."""
        return EventHubsSource(self, hub)

    def publisher(self, hub: str) -> "EventHubsPublisher":
        """The hub to write to, for use in a `with`."""
        return EventHubsPublisher(
            lambda connections: self.producer(hub, retry_total=1, amqp_transport=connections),
            self.address(hub),
            fast=self.fast,
        )

    def address(self, hub: str) -> HubAddress:
        """The hub's name and endpoint, for messages."""
        found = re.search(r"Endpoint\s*=\s*sb://([^/;\s]+)", self.connection_string or "")
        return HubAddress(hub, found[1] if found else self.fully_qualified_namespace or "no endpoint")

    def consumer(self, hub: str, **options: Any) -> EventHubConsumerClient:
        """A consumer client of the SDK."""
        options = {"ssl_context": tls_context(), **options}
        if self.connection_string:
            return EventHubConsumerClient.from_connection_string(
                self.connection_string, self.consumer_group, eventhub_name=hub, **options
            )
        return EventHubConsumerClient(self._namespace, hub, self.consumer_group, self._credential, **options)

    def producer(self, hub: str, **options: Any) -> EventHubProducerClient:
        """A producer client of the SDK."""
        options = {"ssl_context": tls_context(), **options}
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
    def _credential(self) -> BoundedCredential:
        return BoundedCredential()


@dataclass(frozen=True)
class EventHubsSource:
    """One event hub to read from; implements `EventSource`."""

    namespace: EventHubsNamespace
    name: str

    def state(self) -> HubState:
        """The hub's identity and tails.

        Raises:
            HubUnavailableError: the hub did not tell them within `STATE_TIMEOUT_S`.
        """
        with self._asking("asking for its state", STATE_TIMEOUT_S, retry_total=1) as (client, ask):
            [hub] = ask(lambda _: client.get_eventhub_properties(), [None])
            # Each look-up is a connection of its own that sleeps most of its time.
            found = ask(client.get_partition_properties, hub["partition_ids"])
            identity = int(hub["created_at"].timestamp() * 1000)
            return HubState(identity, {int(each["id"]): _tail(each) for each in found})

    @contextmanager
    def receive(self, after: Mapping[int, int]) -> Iterator[EventHubsReceiver]:
        """Receives from all partitions, in each behind the given sequence number.

        Raises:
            HubUnavailableError: the hub did not name its partitions within `OPEN_TIMEOUT_S`.
        """
        with self._asking("asking for its partitions", OPEN_TIMEOUT_S) as (client, ask):
            [partitions] = ask(lambda _: client.get_partition_ids(), [None])
        positions = {int(partition): after.get(int(partition)) for partition in partitions}
        with EventHubsReceiver(self._client, self.address, positions, fast=self.namespace.fast) as receiver:
            yield receiver

    @property
    def address(self) -> HubAddress:
        """The hub's name and endpoint, for messages."""
        return self.namespace.address(self.name)

    def _client(self, connections: Connections, **options: Any) -> EventHubConsumerClient:
        return self.namespace.consumer(
            self.name, socket_timeout=_MANAGEMENT_SOCKET_TIMEOUT_S, amqp_transport=connections, **options
        )

    @contextmanager
    def _asking(self, what: str, seconds: float, **options: Any) -> Iterator[tuple[EventHubConsumerClient, "_Ask"]]:
        """A client, and a function that asks it in threads; all answers come within the time, or an error does."""
        deadline = time.monotonic() + seconds
        connections, asked = Connections(), list[Background[Any, Any]]()

        def ask(question: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
            asked.append(Background(question, items, what))
            return asked[-1].results(deadline - time.monotonic())

        with self.address.explained(what):
            try:
                yield self._client(connections, **options), ask
            finally:
                connections.abandon(*asked)


_Ask = Callable[[Callable[[Any], Any], Iterable[Any]], list[Any]]


def _tail(properties: Mapping[str, Any]) -> Tail:
    first, last = properties["beginning_sequence_number"], properties["last_enqueued_sequence_number"]
    # One that is empty ends at -1, or before its first event to come; what a hub tells of one that retention emptied
    # is not written down anywhere.
    return Tail(first, max(first - 1, last) if properties["is_empty"] else last)
