"""Reads events out of buffered AMQP frames: regular ones many at a time; the SDK reads the rest one by one.

The SDK passes each event through a dozen layers, which is four fifths of what receiving costs. Regular is a transfer
that brings a whole message in one frame: the annotations of Event Hubs, a partition key among them or not, application
properties that are texts, or none, and a single data section. A regular expression is exact about that, so what
it matches has one meaning. All other properties, and annotations of other names, are for the SDK to read.
"""

import re
import struct
from typing import Any, NamedTuple

from azure.eventhub._pyamqp.constants import MAX_FRAME_SIZE_BYTES

from resources.event_source import Pulled
from resources.message_details import texts_of

_CHUNK_BYTES, _HEAD_BYTES = 1 << 17, 8
_SIZE = struct.Struct(">I").unpack_from
_LONG, _SMALL_LONG = struct.Struct(">q").unpack, struct.Struct(">b").unpack
_NULL = b"\x40"
_ANNOTATIONS_SIZE, _NEXT = 2, 10  # groups of the regular expression
_DATA_HEAD = rb"\x00\x53\x75(?:\xa0(.)|\xb0(.{4}))"
_DATA = re.compile(_DATA_HEAD, re.DOTALL).match
_MAP = re.compile(rb"\xc1(.)(.)|\xd1(.{4})(.{4})", re.DOTALL).match
_WIDTHS = {0xA1: 1, 0xB1: 4}
"""In how many bytes the size of a text is written, by its constructor."""


def has_pending(sock: Any) -> bool:
    """Whether more can be had without the network's help: with TLS the socket has a buffer of its own."""
    return hasattr(sock, "pending") and sock.pending() > 0


class FrameBuffer:
    """Stands in for a socket: holds what has arrived, and hands frames to the SDK only where they are offered.

    The SDK reads twice for each frame: system calls, and at each of them another thread takes the interpreter.
    """

    def __init__(self, sock: Any, begun: bytes = b"") -> None:
        """Args: the socket, and what the SDK has read of a frame already."""
        self.socket = sock
        self._buffer = memoryview(bytearray(begun.ljust(_CHUNK_BYTES, b"\0")))
        self._start, self._end = 0, len(begun)
        self._offered = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.socket, name)

    def fileno(self) -> int:
        return int(self.socket.fileno())

    @property
    def held(self) -> memoryview:
        """What has arrived and was not read, from the start of a frame on."""
        return self._buffer[self._start : self._end]

    @property
    def frame_bytes(self) -> int:
        """The size of the first frame held; 0 where it is not complete.

        Raises:
            ConnectionError: no frame is so small, or so large as the SDK allows the hub.
        """
        count = self._end - self._start
        if count < 4:
            return 0
        size = int(_SIZE(self._buffer, self._start)[0])
        if not _HEAD_BYTES <= size <= MAX_FRAME_SIZE_BYTES:
            raise ConnectionError(f"the hub sent what is no AMQP frame: {size} bytes")
        return size if size <= count else 0

    def fill(self) -> None:
        """Reads what the socket has, as far as it fits.

        Raises:
            ConnectionError: the hub closed the connection.
        """
        count = self._end - self._start
        if len(self._buffer) - self._end < _CHUNK_BYTES // 2:
            # A frame may be larger than the buffer, which goes back to its size afterwards.
            size = max(_CHUNK_BYTES, 2 * count)
            target = self._buffer if size == len(self._buffer) else memoryview(bytearray(size))
            target[:count] = self.held
            self._buffer, self._start, self._end = target, 0, count
        try:
            read = self.socket.recv_into(self._buffer[self._end :])
        except TimeoutError:
            return
        if not read:
            raise ConnectionError("the hub closed the connection")
        self._end += read

    def skip(self, count: int) -> None:
        """What was read of `held` elsewhere."""
        self._start += count

    def offer(self, count: int) -> None:
        """Lets `recv_into` have so many bytes of those held."""
        self._offered = count

    def recv_into(self, buffer: memoryview) -> int:
        """What the SDK reads with."""
        count = min(len(buffer), self._offered)
        if not count:
            raise TimeoutError("no frame is offered")
        buffer[:count] = self._buffer[self._start : self._start + count]
        self._start += count
        self._offered -= count
        return count


class TransferReader:
    """Reads the transfers of one link.

    Args:
        partition: that the link brings.
        channel: of the link's session, as the hub numbers it.
        handle: of the link, as the hub numbers it.
    """

    def __init__(self, partition: int, channel: int, handle: int) -> None:
        self._partition = partition
        self._match = re.compile(_regular(channel, handle), re.DOTALL).match

    def read(self, data: memoryview, most: int) -> tuple[Pulled, int]:
        """The events of the regular transfers that the data begins with, and of how many bytes those are."""
        events = Pulled.nothing(self._partition)
        keys, properties = events.keys, events.properties
        at = 0
        while len(events.bodies) < most and (found := self._match(data, at)):
            size, annotations_size, count, long, small_long, offset, enqueued, epoch, key, _, *body = found.groups()
            begin, stop = found.end(), at + int.from_bytes(size)
            names = (long or small_long, offset, enqueued, epoch, key)
            if (
                stop > len(data)
                or enqueued is None
                or (long is None) == (small_long is None)
                # Each annotation is there once, and there are no others.
                or count[0] != 2 * (5 - names.count(None))
                or found.start(_NEXT) != found.end(_ANNOTATIONS_SIZE) + annotations_size[0]
            ):
                break
            said = None
            if body[0] is None and body[1] is None:
                texts = _texts(data, found.end(_NEXT), stop)
                if texts is None or not (found := _DATA(data, texts.end, stop)):
                    break
                said, begin, body = texts_of(texts.found), found.end(), [*found.groups()]
            if stop - begin != int.from_bytes(body[0] or body[1]):
                break
            try:
                keys.append(_key(key))
            except UnicodeDecodeError:
                break
            properties.append(said)
            [number] = _SMALL_LONG(small_long) if long is None else _LONG(long)
            events.sequence_numbers.append(number)
            events.enqueued_ms.append(_LONG(enqueued)[0])
            events.bodies.append(bytes(data[begin:stop]))
            at = stop
        # A transfer with other annotations is not regular.
        events.annotations.extend([None] * len(keys))
        return events, at


class _Texts(NamedTuple):
    """The texts of a map, and where it ends."""

    found: dict[bytes, bytes]
    end: int


def _texts(data: memoryview, at: int, stop: int) -> _Texts | None:
    """The map at a place, within a frame that stops at another; None where it is damaged, or not of texts alone."""
    if not (head := _MAP(data, at, stop)):
        return None
    small_size, small_count, size, count = head.groups()
    after = head.end(1 if size is None else 3)
    end, members = after + int.from_bytes(size or small_size), int.from_bytes(count or small_count)
    if not head.end() <= end <= stop or members % 2:
        return None
    # Taken out of the frame at once: taking each text out of it by itself costs three times as much.
    section, place, texts = bytes(data[head.end() : end]), 0, list[bytes]()
    while place < len(section):
        width = _WIDTHS.get(section[place])
        if width is None:
            return None
        begin = place + 1 + width
        place = begin + int.from_bytes(section[place + 1 : begin])
        texts.append(section[begin:place])
    if len(texts) != members or place != len(section):
        return None
    return _Texts(dict(zip(texts[::2], texts[1::2], strict=True)), end)


def _key(value: bytes | None) -> str | None:
    """A string of AMQP with its constructor and size; None for null."""
    return None if value is None or value == _NULL else str(value[2:], "utf-8")


def _regular(channel: int, handle: int) -> bytes:
    """AMQP 1.0, 2.3 (frame), 2.7.5 (transfer) and 3.2.3 (annotations), written as bytes."""
    null, uint, no, flag = rb"\x40", rb"\x43|\x52.|\x70.{4}", rb"\x40|\x42", rb"\x40|\x41|\x42"
    link = rb"\x70" + re.escape(struct.pack(">I", handle))
    if handle < 256:
        link += rb"|\x52" + re.escape(bytes((handle,))) + (rb"|\x43" if handle == 0 else b"")
    fields = (
        link,
        uint,  # delivery-id
        null + rb"|\xa0" + _sized(32),  # delivery-tag
        null + b"|" + uint,  # message-format
        flag,  # settled
        no,  # more
        null + rb"|\x50.",  # rcv-settle-mode
        null,  # state
        no,  # resume
        no,  # aborted
        flag,  # batchable
    )
    frame = rb"(.{4})\x02\x00" + re.escape(struct.pack(">H", channel))
    transfer = rb"\x00\x53\x14\xc0.\x0b" + b"".join(b"(?:" + field + b")" for field in fields)
    # The SDK's senders write a header next to a partition key; it says nothing that is wanted here.
    value = b"(?:" + flag + b"|" + uint + rb"|\x50.|\x56.)"
    values = b"|".join(rb"\x%02x%s{%d}" % (count, value, count) for count in range(1, 6))
    header = rb"(?:\x00\x53\x70(?:\x45|\xc0.(?:" + values + rb")))?"
    long = rb"\x55.|\x54.|\x71.{4}|\x81.{8}"
    annotation = (
        rb"\xa3(?:\x15x-opt-sequence-number(?:\x81(.{8})|\x55(.))"
        rb"|\x0cx-opt-offset(\xa1" + _sized(40) + rb")|\x13x-opt-enqueued-time\x83(.{8})"
        rb"|\x1bx-opt-sequence-number-epoch(\x40|" + long + rb")"
        rb"|\x13x-opt-partition-key(\x40|\xa1" + _sized(255) + rb"))"
    )
    after = rb"(" + _DATA_HEAD + rb"|\x00\x53\x74)"
    return frame + transfer + header + rb"\x00\x53\x72\xc1(.)(.)(?:" + annotation + b"){3,5}" + after


def _sized(most: int) -> bytes:
    """Up to so many bytes behind their number."""
    return b"(?:" + b"|".join(rb"\x%02x.{%d}" % (count, count) for count in range(most + 1)) + b")"
