"""The hubs of the streams, by whatever transport the settings choose: the only place that names one."""

from collections.abc import Iterable
from contextlib import AbstractContextManager

from resources.event_source import EventSource, Publisher
from resources.settings import Settings


def source(settings: Settings, stream: str) -> EventSource:
    """The hub of a stream, to read from."""
    return settings.event_hubs_namespace().source(settings.hub(stream))


def publisher(settings: Settings, stream: str) -> AbstractContextManager[Publisher]:
    """The hub of a stream, to write to; it begins to connect when the block begins."""
    return settings.event_hubs_namespace().publisher(settings.hub(stream))


class OneHubForTwoStreamsError(ValueError):
    """Two streams would read one hub, and take it away from each other for ever."""


def check_hubs(settings: Settings, streams: Iterable[str]) -> None:
    """Looks whether each stream has a hub of its own.

    Args:
        settings: which may name other hubs.
        streams: all that are read or published.

    Raises:
        OneHubForTwoStreamsError: two of them have the same hub.
    """
    by_hub: dict[str, str] = {}
    for stream in streams:
        hub = settings.hub(stream)
        # Names of Event Hubs do not differ by case.
        if (other := by_hub.setdefault(hub.lower(), stream)) != stream:
            raise OneHubForTwoStreamsError(
                f"Setting PULSELAKE_HUBS: '{other}' and '{stream}' both have the hub '{hub}', where they would be in "
                f"each other's way; nothing was started. Give each a hub of its own, or remove one of the two names."
            )
