"""The hubs of the streams, by whatever transport the settings choose: the only place that names one."""

from collections.abc import Collection
from contextlib import AbstractContextManager

from resources.event_source import EventSource, Publisher
from resources.settings import KAFKA, Settings


def source(settings: Settings, stream: str) -> EventSource:
    """The hub of a stream, to read from."""
    hub = settings.hub(stream)
    if settings.transport(stream) == KAFKA:
        from resources.kafka import KafkaSource  # noqa: PLC0415 - its client takes long to import

        return KafkaSource(settings.kafka_cluster(), hub)
    return settings.event_hubs_namespace().source(hub)


def publisher(settings: Settings, stream: str) -> AbstractContextManager[Publisher]:
    """The hub of a stream, to write to; it begins to connect when the block begins."""
    hub = settings.hub(stream)
    if settings.transport(stream) == KAFKA:
        from resources.kafka import publisher as kafka_publisher  # noqa: PLC0415 - its client takes long to import

        return kafka_publisher(settings.kafka_cluster(), hub)
    return settings.event_hubs_namespace().publisher(hub)


def described(settings: Settings, stream: str) -> str:
    """A stream's hub in the words of its transport, without a secret."""
    hub = settings.hub(stream)
    if settings.transport(stream) == KAFKA:
        return f"Kafka topic '{hub}' at {settings.kafka_cluster().bootstrap}"
    address = settings.event_hubs_namespace().address(hub)
    return f"event hub '{address.hub}' at {address.endpoint}"


class OneHubForTwoStreamsError(ValueError):
    """Two streams would read one hub, and take it away from each other for ever."""


class TransportOfNoStreamError(ValueError):
    """A setting names a stream that there is not."""


def check_hubs(settings: Settings, streams: Collection[str]) -> None:
    """Looks whether each stream has a hub of its own.

    Args:
        settings: which may name other hubs and transports.
        streams: all that are read or published.

    Raises:
        OneHubForTwoStreamsError: two of them have the same hub.
        TransportOfNoStreamError: a transport is named for something that is none of them.
    """
    if streams and (unknown := sorted(settings.transports.keys() - set(streams))):
        raise TransportOfNoStreamError(
            f"Setting PULSELAKE_TRANSPORTS: there is no stream '{unknown[0]}'; nothing was started. "
            f"There are: {', '.join(streams)}."
        )
    by_hub: dict[tuple[str, str], str] = {}
    for stream in streams:
        hub, transport = settings.hub(stream), settings.transport(stream)
        # Names of Event Hubs do not differ by case; those of topics do.
        name = hub if transport == KAFKA else hub.lower()
        if (other := by_hub.setdefault((transport, name), stream)) != stream:
            raise OneHubForTwoStreamsError(
                f"Setting PULSELAKE_HUBS: '{other}' and '{stream}' both have the hub '{hub}', where they would be in "
                f"each other's way; nothing was started. Give each a hub of its own, or remove one of the two names."
            )
