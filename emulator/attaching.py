"""From an attach to a link: what the address means, whether the client may go there, where a reader starts."""

import re
from typing import NamedTuple

from emulator.codec import Described
from emulator.frames import AmqpError, Performative
from emulator.hub import Namespace
from emulator.links import Link, Session
from emulator.positions import start_cursor
from emulator.receiving import EventSink, RequestSink
from emulator.requests import CBS, MANAGEMENT, Nodes
from emulator.sending import EventSource, ReplySource

_METRICS_CAPABILITY = "com.microsoft:enable-receiver-runtime-metric"
_SCHEME_AND_HOST = re.compile(r"amqps?://[^/]+", re.IGNORECASE)
_SOURCE, _TARGET, _CAPABILITIES, _PROPERTIES = 5, 6, 12, 13
_FILTER = 7


class Termini(NamedTuple):
    """Everything a link can lead to."""

    namespace: Namespace
    nodes: Nodes


def make_link(termini: Termini, session: Session, handle: int, attach: Performative) -> Link:
    client_receives = attach.flag(2)
    terminus = _terminus(attach, _SOURCE if client_receives else _TARGET)
    address = str(terminus[0])
    if address in (CBS, MANAGEMENT):
        if address == MANAGEMENT:
            _authorize(session, address, None)
        if client_receives:
            return ReplySource(session, handle, address)
        return RequestSink(session, handle, address, termini.nodes)
    path = _SCHEME_AND_HOST.sub("", address).strip("/")
    _authorize(session, address, path.lower())
    entity = termini.namespace.resolve(path)
    if not client_receives:
        return EventSink(session, handle, entity)
    if entity.group is None or entity.partition is None:
        raise AmqpError("amqp:not-allowed", "A receiver needs a consumer group and a partition.")
    cursor = start_cursor(entity.partition.log, terminus[_FILTER] if len(terminus) > _FILTER else None)
    link = EventSource(session, handle, entity.partition, entity.group, _epoch(attach))
    link.start(cursor, _wants_metrics(attach))
    return link


def _authorize(session: Session, address: str, path: str | None) -> None:
    if not session.peer.may_access(path):
        raise AmqpError("amqp:unauthorized-access", f"Unauthorized access. No valid token was put for '{address}'.")


def _terminus(attach: Performative, index: int) -> list[object]:
    terminus = attach.value(index)
    if isinstance(terminus, Described) and isinstance(terminus.value, list) and terminus.value:
        return terminus.value
    raise AmqpError("amqp:invalid-field", "The link has no address.")


def _epoch(attach: Performative) -> int | None:
    properties = attach.value(_PROPERTIES)
    epoch = properties.get("com.microsoft:epoch") if isinstance(properties, dict) else None
    if epoch is not None and not isinstance(epoch, int):
        raise AmqpError("amqp:invalid-field", "The epoch must be a number.")
    return epoch


def _wants_metrics(attach: Performative) -> bool:
    wanted = attach.value(_CAPABILITIES)
    return _METRICS_CAPABILITY in (wanted if isinstance(wanted, list) else [wanted])
