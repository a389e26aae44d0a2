"""How the brokers of a Kafka cluster are reached. Only settings: nothing here needs the Kafka client."""

from dataclasses import dataclass, field
from typing import Any

EVENT_HUBS_USER = "$ConnectionString"
"""The user of the Kafka endpoint of Event Hubs; its password is a connection string of the namespace."""
MAX_MESSAGE_BYTES = (1 << 20) + 12
"""What brokers take by default: a body of a little less than 1 MiB."""


@dataclass(frozen=True)
class KafkaCluster:
    """A cluster and how to sign in.

    Attributes:
        bootstrap: ``host:port,…``.
        security: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL; empty chooses by what else is set.
        mechanism: of SASL: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.
        user, password: of SASL.
        ca_file: certificates that the brokers' ones are signed by; empty uses those of the system.
        group: a name for the brokers' records. Nothing is stored under it.
        max_message_bytes: the largest message that the brokers take, with its key and headers.
    """

    bootstrap: str
    security: str = ""
    mechanism: str = "PLAIN"
    user: str = ""
    password: str = field(default="", repr=False)
    ca_file: str = ""
    group: str = "pulselake"
    max_message_bytes: int = MAX_MESSAGE_BYTES

    @property
    def protocol(self) -> str:
        """How connections are secured."""
        if self.security:
            return self.security
        if self.user:
            return "SASL_SSL"
        return "SSL" if self.ca_file else "PLAINTEXT"

    def client(self, **options: Any) -> dict[str, Any]:
        """The configuration of a client."""
        common = {
            "bootstrap.servers": self.bootstrap,
            "security.protocol": self.protocol,
            "client.id": "pulselake",
            # What matters surfaces as an exception; the client would write it to stderr once more.
            "log_level": 2,
            "socket.keepalive.enable": True,
            "socket.timeout.ms": 10_000,
            "socket.connection.setup.timeout.ms": 5_000,
            "reconnect.backoff.max.ms": 1_000,
            # Azure drops connections that were idle for four minutes without a word.
            "connections.max.idle.ms": 180_000,
        }
        return common | self._sasl() | ({"ssl.ca.location": self.ca_file} if self.ca_file else {}) | options

    def consumer(self, **options: Any) -> dict[str, Any]:
        """The configuration of a consumer that is told its partitions and offsets."""
        chosen = {
            # Required by the client, and never joined: offsets are in the tables.
            "group.id": self.group,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "allow.auto.create.topics": False,
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
        }
        return self.client(**chosen | options)

    def _sasl(self) -> dict[str, str]:
        if not self.protocol.startswith("SASL"):
            return {}
        return {"sasl.mechanism": self.mechanism, "sasl.username": self.user, "sasl.password": self.password}
