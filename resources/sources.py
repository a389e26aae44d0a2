"""The hubs of the streams, by whatever transport the settings choose: the only place that names one."""

from contextlib import AbstractContextManager
from functools import cache

from resources.event_hubs import EventHubsNamespace, EventHubsSource
from resources.event_source import EventSource, SendingPublisher
from resources.settings import KAFKA, Settings

# One for the process: sensors read the settings every few seconds, and an identity answers slowly at first.
_namespace = cache(EventHubsNamespace)


def namespace_of(settings: Settings) -> EventHubsNamespace:
    """How to reach hubs that are Event Hubs."""
    connection_string = settings.local_connection_string if settings.uses_local_hub else settings.event_hubs
    return _namespace(connection_string, settings.namespace, settings.consumer_group, settings.fast_amqp)


def iot_hub_of(settings: Settings) -> EventHubsSource | None:
    """The built-in endpoint of the IoT Hub; None if there is none."""
    if not settings.iot_hub:
        return None
    # The name is given by itself; the SDK compares it with one in the string.
    parts = [part for part in settings.iot_hub.split(";") if part.strip()]
    name = next(part for part in parts if part.strip().lower().startswith("entitypath"))
    connection_string = ";".join(part for part in parts if part is not name)
    namespace = _namespace(connection_string, None, settings.iot_hub_group, settings.fast_amqp)
    return namespace.source(name.partition("=")[2].strip())


def source(settings: Settings, stream: str) -> EventSource:
    """The hub of a stream, to read from."""
    hub = settings.hub(stream)
    if settings.transport(stream) == KAFKA:
        from resources.kafka import KafkaSource

        return KafkaSource(settings.kafka_cluster(), hub)
    return namespace_of(settings).source(hub)


def publisher(settings: Settings, stream: str) -> AbstractContextManager[SendingPublisher]:
    """The hub of a stream, to write to; it begins to connect when the block begins."""
    hub = settings.hub(stream)
    if settings.transport(stream) == KAFKA:
        from resources.kafka import publisher as kafka_publisher

        return kafka_publisher(settings.kafka_cluster(), hub)
    return namespace_of(settings).publisher(hub)


def described(settings: Settings, stream: str) -> str:
    """A stream's hub in the words of its transport, without a secret."""
    hub = settings.hub(stream)
    if settings.transport(stream) == KAFKA:
        return f"Kafka topic '{hub}' at {settings.kafka_cluster().bootstrap}"
    address = namespace_of(settings).address(hub)
    return f"event hub '{address.hub}' at {address.endpoint}"
