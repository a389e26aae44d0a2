"""How long the hubs are waited for, in seconds. Whatever takes longer ends with a `HubUnavailableError`."""

STATE_TIMEOUT_S = 8.0
"""A look at a hub's state. A sensor's tick must not last over 10 s."""

OPEN_TIMEOUT_S = 10.0
"""Connecting to all partitions, to receive or to publish."""

PUBLISH_TIMEOUT_S = 10.0
"""The longest time without a batch that the hub took; many batches together may take longer."""

CLOSE_TIMEOUT_S = 2.0
"""Saying goodbye; after that the sockets are shut."""

GIVE_UP_AFTER_S = 20.0
"""An outage shorter than this is bridged by reconnecting; a longer one ends receiving, and the next session goes on."""

SILENT_AFTER_S = 30.0
"""A connection on which nothing arrived for so long, not even the sign of life that we ask for, counts as broken."""

HANDSHAKE_TIMEOUT_S = 5.0
"""Agreeing on TLS."""

TOKEN_TIMEOUT_S = 6.0
"""A token from the Azure identity of the process."""
