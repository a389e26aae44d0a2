"""Whether the hubs that the settings name can be those of the streams. What opens them is in `sources`."""

from collections.abc import Collection

from resources.settings import KAFKA, Settings


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
