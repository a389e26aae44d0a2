"""Frames and performatives: what AMQP peers say to each other, as bytes.

Builds the performatives the server sends and gives typed access to the fields of those it receives.
Trailing null fields are always spelled out, because the Azure SDK indexes fields by fixed position.
"""

import struct
from typing import NamedTuple, TypeVar

from emulator import codec
from emulator.codec import NULL, DecodeError

AMQP_HEADER, SASL_HEADER = b"AMQP\x00\x01\x00\x00", b"AMQP\x03\x01\x00\x00"
AMQP_FRAME, SASL_FRAME = 0, 1

OPEN, BEGIN, ATTACH, FLOW, TRANSFER = 0x10, 0x11, 0x12, 0x13, 0x14
DISPOSITION, DETACH, END, CLOSE = 0x15, 0x16, 0x17, 0x18
SASL_INIT = 0x41

WINDOW = 0x7FFFFFFF
SERIAL_MASK = 0xFFFFFFFF
ACCEPTED = b"\x00\x53\x24\x45"

_HEAD = struct.Struct(">IBBH")
pack_frame_head = _HEAD.pack
FRAME_HEAD_SIZE = _HEAD.size

_T = TypeVar("_T")


class AmqpError(Exception):
    """A refusal the client is told about, with an AMQP error condition."""

    def __init__(self, condition: str, description: str) -> None:
        super().__init__(f"{condition}: {description}")
        self.condition = condition
        self.description = description

    def encoded(self) -> bytes:
        return described(0x1D, codec.symbol(self.condition), codec.string(self.description), NULL)


class Performative(NamedTuple):
    """A received performative with its fields still encoded, and the bytes after it."""

    code: int
    raw: list[bytes]
    payload: bytes

    def value(self, index: int) -> object:
        return codec.decode(self.raw[index])[0] if index < len(self.raw) else None

    def encoded(self, index: int) -> bytes:
        return self.raw[index] if index < len(self.raw) else NULL

    def integer(self, index: int, default: int = 0) -> int:
        return _typed(self.value(index), int, default)

    def flag(self, index: int) -> bool:
        return _typed(self.value(index), bool, False)

    def text(self, index: int) -> str:
        return _typed(self.value(index), str, "")


def parse_performative(body: bytes) -> Performative:
    code, fields, payload_at = codec.decode_described_list(body)
    return Performative(code, fields, body[payload_at:])


def _typed(value: object, expected: type[_T], default: _T) -> _T:
    if value is None:
        return default
    if not isinstance(value, expected):
        raise DecodeError(f"{expected.__name__} expected, got {type(value).__name__}")
    return value


def frame(channel: int, body: bytes, frame_type: int = AMQP_FRAME) -> bytes:
    return pack_frame_head(len(body) + FRAME_HEAD_SIZE, 2, frame_type, channel) + body


def described(code: int, *fields: bytes) -> bytes:
    return section(code, codec.list_of(*fields))


def section(code: int, value: bytes) -> bytes:
    return bytes((0x00, 0x53, code)) + value


def sasl_mechanisms(names: list[str]) -> bytes:
    return described(0x40, codec.symbol_array(names))


def sasl_outcome_ok() -> bytes:
    return described(0x44, codec.ubyte(0), NULL)


def open_(container: str, max_frame: int, channel_max: int) -> bytes:
    limits = codec.uint(max_frame), codec.ushort(channel_max)
    return described(OPEN, codec.string(container), NULL, *limits, *[NULL] * 6)


def begin(remote_channel: int, handle_max: int) -> bytes:
    window = codec.uint(WINDOW)
    return described(
        BEGIN, codec.ushort(remote_channel), codec.uint(0), window, window, codec.uint(handle_max), NULL, NULL, NULL
    )


def attach(request: Performative, source: bytes, target: bytes, max_message: int) -> bytes:
    """The answer to an attach: the same link seen from the other side, all fourteen fields present."""
    client_receives = request.flag(2)
    return described(
        ATTACH,
        request.encoded(0),
        request.encoded(1),
        codec.boolean(not client_receives),
        request.encoded(3),
        request.encoded(4),
        source,
        target,
        NULL,
        codec.FALSE,
        codec.uint(0) if client_receives else NULL,
        codec.ulong(max_message),
        NULL,
        NULL,
        NULL,
    )


def flow(next_incoming: int, next_outgoing: int, link: tuple[int, int, int] | None = None) -> bytes:
    """Session windows and, for one link, (handle, delivery count, credit)."""
    about_link = [NULL] * 3 if link is None else [codec.uint(part & SERIAL_MASK) for part in link]
    return described(
        FLOW,
        codec.uint(next_incoming & SERIAL_MASK),
        codec.uint(WINDOW),
        codec.uint(next_outgoing & SERIAL_MASK),
        codec.uint(WINDOW),
        *about_link,
        NULL,
        codec.FALSE,
        codec.FALSE,
        NULL,
    )


def disposition(delivery_id: int, state: bytes) -> bytes:
    delivery = codec.uint(delivery_id)
    return described(DISPOSITION, codec.TRUE, delivery, delivery, codec.TRUE, state, codec.FALSE)


def rejected(error: AmqpError) -> bytes:
    return described(0x25, error.encoded())


def detach(handle: int, closed: bool, error: AmqpError | None = None) -> bytes:
    return described(DETACH, codec.uint(handle), codec.boolean(closed), error.encoded() if error else NULL)


def end(error: AmqpError | None = None) -> bytes:
    return described(END, error.encoded() if error else NULL)


def close(error: AmqpError | None = None) -> bytes:
    return described(CLOSE, error.encoded() if error else NULL)


class TransferTemplate:
    """The constant bytes around the delivery id of every transfer of one link: settled, one constant tag.

    One tag for all, because the SDK keeps every tag it has seen in a set for the life of the link.
    """

    def __init__(self, handle: int) -> None:
        head = codec.uint(handle) + b"\x70"
        rest = NULL + NULL + codec.FALSE * 3
        tag = codec.binary(b"\x01") + codec.uint(0) + codec.TRUE
        self.after_id = tag + codec.FALSE + rest
        self.after_id_more = tag + codec.TRUE + rest
        size = len(head) + 4 + len(self.after_id)
        self.before_id = b"\x00\x53" + bytes((TRANSFER, 0xC0, size + 1, 11)) + head
        self.overhead = FRAME_HEAD_SIZE + len(self.before_id) + 4 + len(self.after_id)

    def frames(self, channel: int, delivery_id: int, message: bytes, max_frame: int) -> list[bytes]:
        """A message cut into as many frames as the peer's frame limit demands."""
        room = max_frame - self.overhead
        before_id = self.before_id + codec.pack_uint(delivery_id)
        last = (len(message) - 1) // room
        return [
            frame(
                channel,
                before_id
                + (self.after_id if number == last else self.after_id_more)
                + message[number * room : (number + 1) * room],
            )
            for number in range(last + 1)
        ]
