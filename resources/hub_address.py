"""The name and the endpoint of a hub, and errors that say what failed there."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from azure.core.exceptions import AzureError
from azure.eventhub._pyamqp.error import AMQPException
from azure.eventhub.exceptions import EventHubError

from resources.event_source import HubUnavailableError

# What goes wrong outside: the hub, the network, TLS (an OSError), the identity, an answer that makes no sense.
_OUTSIDE = (EventHubError, AzureError, AMQPException, OSError, ValueError)


@dataclass(frozen=True)
class HubAddress:
    """Which hub is meant.

    Attributes:
        hub: the hub's name.
        endpoint: host and port, without a key.
    """

    hub: str
    endpoint: str

    @contextmanager
    def explained(self, what: str) -> Iterator[None]:
        """Turns what the outside raises in the block into an error that names hub, endpoint, time and remedy.

        Args:
            what: is tried, as the subject of a sentence.

        Raises:
            HubUnavailableError: the block failed.
        """
        began = time.monotonic()
        try:
            yield
        except HubUnavailableError:
            raise
        except _OUTSIDE as error:
            raise self.unavailable(what, error, time.monotonic() - began) from error

    def unavailable(self, what: str, error: Exception, seconds: float) -> HubUnavailableError:
        """What was tried, for how long, why it failed, and what to do next."""
        return HubUnavailableError(
            f"Event hub '{self.hub}' at {self.endpoint}: {what} failed after {seconds:.1f} s: {reason(error)}. "
            "Check that the hub exists and runs (locally: `pulselake hub`) and that EVENTHUB_CONNECTION_STRING or "
            "EVENTHUB_NAMESPACE names it; nothing was lost."
        )


def reason(error: Exception) -> str:
    """An error's text in one line and without a full stop; the SDK's go over several lines and repeat themselves."""
    lines = [line.strip(". ").removeprefix("Error Description: ") for line in str(error).splitlines()]
    told = dict.fromkeys(line for line in lines if line and not line.startswith("Error condition: "))
    return "; ".join(told) or next(filter(None, lines), type(error).__name__)
