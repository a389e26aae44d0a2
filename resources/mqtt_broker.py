"""How to reach an MQTT broker. A value; the client is in `resources.mqtt`."""

from dataclasses import dataclass, field
from urllib.parse import urlsplit

PORTS = {"mqtt": 1883, "mqtts": 8883}


class BrokerUnavailableError(ConnectionError):
    """The broker refuses this client, or ended its session for good; the message says what to do."""


@dataclass(frozen=True)
class Broker:
    """How to reach a broker.

    Attributes:
        url: ``mqtt://host:port``, or ``mqtts://host:port`` for TLS.
        user, password: empty for none.
        ca_file: certificates to trust instead of the system's.
        client_id: names the session; it must stay the same, and be used by one client at a time.
        version: ``5`` or ``3.1.1``.
    """

    url: str
    user: str = ""
    password: str = field(default="", repr=False)
    ca_file: str = ""
    client_id: str = "pulselake"
    version: str = "5"

    @property
    def host(self) -> str:
        """The host's name."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """The port; that of the protocol where none is named."""
        parts = urlsplit(self.url)
        return parts.port or PORTS[parts.scheme]

    @property
    def is_tls(self) -> bool:
        """Whether connections are encrypted."""
        return urlsplit(self.url).scheme == "mqtts"

    def __str__(self) -> str:
        return f"MQTT broker {self.host}:{self.port}"
