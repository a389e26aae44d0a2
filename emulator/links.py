"""Sessions and links: credit and windows, which both directions have in common.

What flows through a link is in `receiving` and `sending`; frames, sockets and the order of the handshake are
the connection's business.
"""

from typing import Protocol

from emulator import frames
from emulator.frames import AmqpError, Performative
from emulator.requests import Grants

MAX_MESSAGE_BYTES = 1024 * 1024


class Peer(Grants, Protocol):
    """The connection as its links see it."""

    max_frame: int
    is_paused: bool

    def send(self, channel: int, body: bytes) -> None: ...

    def write(self, data: bytes) -> None: ...

    def wake_later(self, link: "Link") -> None: ...


class Session:
    def __init__(self, peer: Peer, channel: int, next_incoming: int, window: int) -> None:
        self.peer, self.channel = peer, channel
        self.next_incoming, self.next_outgoing = next_incoming, 0
        self.window = window
        self.delivery_id = 0
        self.links: dict[int, Link] = {}

    def on_flow(self, flow: Performative) -> None:
        """Windows count transfer frames, of which a delivery may have several."""
        self.window = flow.integer(0) + flow.integer(1) - self.next_outgoing
        if flow.value(4) is None:
            self.pump()
            if flow.flag(9):
                self.peer.send(self.channel, frames.flow(self.next_incoming, self.next_outgoing))
        elif link := self.links.get(flow.integer(4)):
            link.on_flow(flow)

    def pump(self) -> None:
        for link in list(self.links.values()):
            link.pump()

    def close(self) -> None:
        for link in self.links.values():
            link.close()
        self.links.clear()


class Link:
    def __init__(self, session: Session, handle: int) -> None:
        self.session, self.handle = session, handle
        self.credit = 0
        self.delivery_count = 0

    def opened(self) -> None:
        """The attach has been answered."""

    def on_flow(self, flow: Performative) -> None:
        """The client tells its link state."""

    def on_transfer(self, transfer: Performative) -> None:
        """The client sends; only a receiving link takes it."""

    def pump(self) -> None:
        """Send what can be sent now."""

    def close(self) -> None:
        """The link is gone."""

    def disconnect(self, error: AmqpError) -> None:
        self.close()
        self.session.links.pop(self.handle, None)
        self.session.peer.send(self.session.channel, frames.detach(self.handle, True, error))

    def send_flow(self) -> None:
        session = self.session
        state = (self.handle, self.delivery_count, self.credit)
        session.peer.send(session.channel, frames.flow(session.next_incoming, session.next_outgoing, state))
