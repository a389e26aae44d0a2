"""Links on which the client sends: deliveries to store, requests to answer."""

from emulator import frames
from emulator.codec import DecodeError
from emulator.frames import AmqpError, Performative
from emulator.hub import Entity
from emulator.links import MAX_MESSAGE_BYTES, Link, Session
from emulator.message import split
from emulator.requests import Nodes, parse_request
from emulator.sending import ReplySource

_CREDIT = 1000


class ReceivingLink(Link):
    """The client sends; deliveries are put together from their frames and settled one by one."""

    def __init__(self, session: Session, handle: int) -> None:
        super().__init__(session, handle)
        self._parts: list[bytes] = []
        self._size = 0
        self._first: Performative | None = None

    def opened(self) -> None:
        self._grant_credit()

    def take(self, message_format: int, message: bytes) -> None:
        raise NotImplementedError

    def on_transfer(self, transfer: Performative) -> None:
        first = self._first = self._first or transfer
        self._parts.append(transfer.payload)
        self._size += len(transfer.payload)
        if self._size > MAX_MESSAGE_BYTES:
            self._forget()
            self.disconnect(
                AmqpError(
                    "amqp:link:message-size-exceeded",
                    f"The received message exceeds the limit of {MAX_MESSAGE_BYTES} bytes on the link.",
                )
            )
        elif transfer.flag(9):
            self._forget()
        elif not transfer.flag(5):
            message = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
            self._forget()
            self._settle(first, message, first.flag(4) or transfer.flag(4))

    def _forget(self) -> None:
        self._parts, self._size, self._first = [], 0, None

    def _settle(self, first: Performative, message: bytes, is_settled: bool) -> None:
        self.delivery_count += 1
        self.credit -= 1
        state = frames.ACCEPTED
        try:
            self.take(first.integer(3), message)
        except AmqpError as error:
            state = frames.rejected(error)
        except DecodeError as error:
            state = frames.rejected(AmqpError("amqp:decode-error", str(error)))
        if not is_settled:
            self.session.peer.send(self.session.channel, frames.disposition(first.integer(1), state))
        if self.credit <= _CREDIT // 2:
            self._grant_credit()

    def _grant_credit(self) -> None:
        self.credit = _CREDIT
        self.send_flow()


class EventSink(ReceivingLink):
    """Deliveries for a hub, or for one partition of it."""

    def __init__(self, session: Session, handle: int, entity: Entity) -> None:
        super().__init__(session, handle)
        self._entity = entity

    def take(self, message_format: int, message: bytes) -> None:
        delivery = split(message_format, message)
        if delivery.events:
            partition = self._entity.partition or self._entity.hub.partition_for(delivery)
            partition.append(delivery)


class RequestSink(ReceivingLink):
    """Requests for a node; replies go out on the session's link from the same node."""

    def __init__(self, session: Session, handle: int, node: str, nodes: Nodes) -> None:
        super().__init__(session, handle)
        self._node, self._nodes = node, nodes

    def take(self, message_format: int, message: bytes) -> None:
        request = parse_request(message)
        response = self._nodes.answer(self._node, request, self.session.peer)
        for link in self.session.links.values():
            if isinstance(link, ReplySource) and link.node == self._node:
                link.reply(response.message(request.message_id))
                return
        raise AmqpError("amqp:precondition-failed", f"There is no receiving link from {self._node} for the reply.")
