"""AMQP 1.0 types: bytes to Python values and back.

Knows the type system of the specification (part 1) and nothing of frames, performatives or messages.
Whatever bytes come in, decoding ends with a value or a DecodeError.
"""

import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

NULL, TRUE, FALSE, EMPTY_LIST = b"\x40", b"\x41", b"\x42", b"\x45"
MAX_ZERO_WIDTH_ELEMENTS = 4096

_SHORT, _UINT, _LONG = struct.Struct(">H"), struct.Struct(">I"), struct.Struct(">q")
read_uint = _UINT.unpack_from
pack_uint = _UINT.pack
pack_long = _LONG.pack

_FIXED: dict[int, struct.Struct] = {
    0x50: struct.Struct(">B"),
    0x51: struct.Struct(">b"),
    0x52: struct.Struct(">B"),
    0x53: struct.Struct(">B"),
    0x54: struct.Struct(">b"),
    0x55: struct.Struct(">b"),
    0x60: _SHORT,
    0x61: struct.Struct(">h"),
    0x70: _UINT,
    0x71: struct.Struct(">i"),
    0x72: struct.Struct(">f"),
    0x80: struct.Struct(">Q"),
    0x81: _LONG,
    0x82: struct.Struct(">d"),
    0x83: _LONG,
}
_CONSTANTS: dict[int, object] = {0x40: None, 0x41: True, 0x42: False, 0x43: 0, 0x44: 0}
_FIXED_WIDTH = {0x4: 0, 0x5: 1, 0x6: 2, 0x7: 4, 0x8: 8, 0x9: 16}
_MALFORMED = (IndexError, struct.error, ValueError, TypeError, OverflowError, RecursionError)


class DecodeError(ValueError):
    """The bytes are not AMQP."""


class Symbol(str):
    __slots__ = ()


class Described(NamedTuple):
    descriptor: object
    value: object


def skip(data: bytes, at: int) -> int:
    """The index just past the value at `at`; it may lie past the end of truncated data."""
    constructor = data[at]
    if constructor == 0:
        return skip(data, skip(data, at + 1))
    width = constructor >> 4
    if width in _FIXED_WIDTH:
        return at + 1 + _FIXED_WIDTH[width]
    if width in (0xA, 0xC, 0xE):
        return at + 2 + data[at + 1]
    if width in (0xB, 0xD, 0xF):
        return at + 5 + int(read_uint(data, at + 1)[0])
    raise DecodeError(f"unknown constructor 0x{constructor:02x}")


def decode(data: bytes, at: int = 0) -> tuple[object, int]:
    """The value at `at` and the index just past it."""
    try:
        return _value(data, at)
    except DecodeError:
        raise
    except _MALFORMED as error:
        raise DecodeError(f"malformed AMQP value at byte {at}: {error}") from error


def decode_described_list(data: bytes) -> tuple[int, list[bytes], int]:
    """The descriptor's code, the still encoded fields, and where the payload after them starts."""
    try:
        if data[0] != 0:
            raise DecodeError("a performative must be a described list")
        code, at = _value(data, 1)
        count, at, end = _list_bounds(data, at)
        fields = []
        for _ in range(count):
            after = skip(data, at)
            fields.append(data[at:after])
            at = after
    except _MALFORMED as error:
        raise DecodeError(f"malformed performative: {error}") from error
    if not isinstance(code, int) or at != end or end > len(data):
        raise DecodeError("malformed performative")
    return code, fields, end


def map_entries(data: bytes, at: int) -> tuple[int, int]:
    """How many values (keys and values both counted) the map at `at` has and where the first one starts."""
    if data[at] == 0xC1:
        return data[at + 2], at + 3
    if data[at] == 0xD1:
        return int(read_uint(data, at + 5)[0]), at + 9
    raise DecodeError(f"a map was expected, not constructor 0x{data[at]:02x}")


def _list_bounds(data: bytes, at: int) -> tuple[int, int, int]:
    constructor = data[at]
    if constructor == 0x45:
        return 0, at + 1, at + 1
    if constructor == 0xC0:
        return data[at + 2], at + 3, at + 2 + data[at + 1]
    if constructor == 0xD0:
        return read_uint(data, at + 5)[0], at + 9, at + 5 + read_uint(data, at + 1)[0]
    raise DecodeError(f"a list was expected, not constructor 0x{constructor:02x}")


def _value(data: bytes, at: int) -> tuple[object, int]:
    constructor = data[at]
    if constructor == 0:
        descriptor, at = _value(data, at + 1)
        value, at = _value(data, at)
        return Described(descriptor, value), at
    return _primitive(constructor, data, at + 1)


def _primitive(constructor: int, data: bytes, at: int) -> tuple[object, int]:
    if constructor in _CONSTANTS:
        return _CONSTANTS[constructor], at
    if constructor in _FIXED:
        layout = _FIXED[constructor]
        return layout.unpack_from(data, at)[0], at + layout.size
    if constructor == 0x45:
        return [], at
    if constructor == 0x56:
        return data[at] == 1, at + 1
    kind = constructor >> 4
    if kind in (0xA, 0xB):
        return _variable(constructor, data, at)
    if kind in (0xC, 0xD, 0xE, 0xF):
        return _compound(constructor, data, at)
    if kind in _FIXED_WIDTH:
        return _wide(constructor, data, at, at + _FIXED_WIDTH[kind])
    raise DecodeError(f"unknown constructor 0x{constructor:02x}")


def _wide(constructor: int, data: bytes, at: int, end: int) -> tuple[object, int]:
    if end > len(data):
        raise DecodeError("truncated value")
    raw = bytes(data[at:end])
    if constructor == 0x73:
        return chr(int.from_bytes(raw, "big")), end
    if constructor == 0x98:
        return UUID(bytes=raw), end
    if constructor in (0x74, 0x84, 0x94):
        return raw, end
    raise DecodeError(f"unknown constructor 0x{constructor:02x}")


def _variable(constructor: int, data: bytes, at: int) -> tuple[object, int]:
    if constructor < 0xB0:
        length, at = data[at], at + 1
    else:
        length, at = read_uint(data, at)[0], at + 4
    end = at + length
    if end > len(data):
        raise DecodeError("truncated value")
    raw = bytes(data[at:end])
    kind = constructor & 0x0F
    if kind == 0:
        return raw, end
    if kind == 1:
        return raw.decode(), end
    if kind == 3:
        return Symbol(raw.decode("ascii")), end
    raise DecodeError(f"unknown constructor 0x{constructor:02x}")


def _compound(constructor: int, data: bytes, at: int) -> tuple[object, int]:
    if constructor & 0x10:
        end, count, at = at + 4 + read_uint(data, at)[0], read_uint(data, at + 4)[0], at + 8
    else:
        end, count, at = at + 1 + data[at], data[at + 1], at + 2
    if end > len(data):
        raise DecodeError("truncated value")
    items: list[object] = []
    if constructor in (0xE0, 0xF0):
        element, at = data[at], at + 1
        if count > max(end - at, MAX_ZERO_WIDTH_ELEMENTS):
            raise DecodeError(f"an array of {count} elements does not fit into {end - at} bytes")
        for _ in range(count):
            item, at = _primitive(element, data, at)
            items.append(item)
    else:
        for _ in range(count):
            item, at = _value(data, at)
            items.append(item)
    if at != end:
        raise DecodeError("the size of a compound value does not match its elements")
    if constructor in (0xC1, 0xD1):
        return dict(zip(items[::2], items[1::2], strict=True)), end
    if constructor in (0xC0, 0xD0, 0xE0, 0xF0):
        return items, end
    raise DecodeError(f"unknown constructor 0x{constructor:02x}")


def ubyte(value: int) -> bytes:
    return bytes((0x50, value))


def ushort(value: int) -> bytes:
    return b"\x60" + _SHORT.pack(value)


def uint(value: int) -> bytes:
    if value == 0:
        return b"\x43"
    return bytes((0x52, value)) if value < 256 else b"\x70" + pack_uint(value)


def ulong(value: int) -> bytes:
    if value == 0:
        return b"\x44"
    return bytes((0x53, value)) if value < 256 else b"\x80" + value.to_bytes(8, "big")


def int32(value: int) -> bytes:
    return b"\x71" + value.to_bytes(4, "big", signed=True)


def long(value: int) -> bytes:
    return b"\x81" + pack_long(value)


def timestamp(milliseconds: int) -> bytes:
    return b"\x83" + pack_long(milliseconds)


def boolean(value: bool) -> bytes:
    return TRUE if value else FALSE


def binary(value: bytes) -> bytes:
    return _sized(0, value)


def string(value: str) -> bytes:
    return _sized(1, value.encode())


def symbol(value: str) -> bytes:
    return _sized(3, value.encode("ascii"))


def list_of(*encoded: bytes) -> bytes:
    return compound(0, b"".join(encoded), len(encoded)) if encoded else EMPTY_LIST


def map_of(encoded: Mapping[bytes, bytes]) -> bytes:
    return compound(1, b"".join(key + value for key, value in encoded.items()), len(encoded) * 2)


def string_array(values: Sequence[str]) -> bytes:
    return _array(b"\xb1", [value.encode() for value in values])


def symbol_array(values: Sequence[str]) -> bytes:
    return _array(b"\xb3", [value.encode("ascii") for value in values])


def compound(kind: int, body: bytes, count: int) -> bytes:
    """A list (kind 0) or map (kind 1) from its encoded elements."""
    if len(body) < 255 and count < 256:
        return bytes((0xC0 | kind, len(body) + 1, count)) + body
    return bytes((0xD0 | kind,)) + pack_uint(len(body) + 4) + pack_uint(count) + body


def _sized(kind: int, raw: bytes) -> bytes:
    if len(raw) < 256:
        return bytes((0xA0 | kind, len(raw))) + raw
    return bytes((0xB0 | kind,)) + pack_uint(len(raw)) + raw


def _array(constructor: bytes, raws: Sequence[bytes]) -> bytes:
    body = constructor + b"".join(pack_uint(len(raw)) + raw for raw in raws)
    return b"\xf0" + pack_uint(len(body) + 4) + pack_uint(len(raws)) + body
