"""Avro files of messages: as message routing of an IoT Hub writes them, and as Event Hubs Capture does. Pure.

A message becomes a line of JSON, with its body in base64 so that its bytes stay what they were. What the lines mean is
in `assets.adapters.envelopes`.
"""

from base64 import b64encode
from collections.abc import Iterator, Mapping
from io import BytesIO
from math import isfinite
from typing import Any

import fastavro
import msgspec

from assets.adapters.files import RECORDS, WHOLE_BYTES, Part
from assets.adapters.formats import CAPTURED, ROUTED, Format
from assets.adapters.outcomes import UNKNOWN_FORMAT, Refused

MAGIC = b"Obj\x01"
"""What an Avro file begins with."""
NOT_AVRO = "not_avro"
_ENQUEUED = "iothub-enqueuedtime"
"""A text, or epoch milliseconds."""


def parts_of_avro(content: bytes) -> Iterator[Part]:
    """The parts of a file; the first comes when all of the file was read, so that nothing is taken of a damaged one.

    Raises:
        Refused: the file is damaged or ends too early, or holds no such messages.
    """
    of: Format | None = None
    for _ in _records(content):
        pass
    lines: list[bytes] = []
    number = size = 0
    for record in _records(content):
        of = of or _format_of(record)
        line = msgspec.json.encode(_message(record))
        if lines and (len(lines) == RECORDS or size + len(line) > WHOLE_BYTES):
            yield Part(of, b"\n".join(lines).decode(), number)
            lines, number, size = [], number + 1, 0
        lines.append(line)
        size += len(line)
    if lines and of is not None:
        yield Part(of, b"\n".join(lines).decode(), number)


def _records(content: bytes) -> Iterator[Any]:
    try:
        yield from fastavro.reader(BytesIO(content))
    except Exception:
        # What a damaged file raises has no base of its own: it may be any error of Python.
        raise Refused(NOT_AVRO) from None


def _format_of(record: Any) -> Format:
    names = {str(name).lower() for name in record} if isinstance(record, Mapping) else set()
    if not {"systemproperties", "body"} <= names:
        raise Refused(UNKNOWN_FORMAT)
    return CAPTURED if "sequencenumber" in names else ROUTED


def _message(record: Mapping[str, Any]) -> dict[str, Any]:
    found = {name.lower(): value for name, value in record.items()}
    body = found["body"]
    return {
        "EnqueuedTimeUtc": str(found.get("enqueuedtimeutc") or ""),
        "SystemProperties": _members(found["systemproperties"]),
        "Properties": _members(found.get("properties")),
        "Body": None if body is None else b64encode(body if isinstance(body, bytes) else str(body).encode()).decode(),
    }


def _members(values: Any) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        return {}
    return {name: str(value) if name == _ENQUEUED else _value(value) for name, value in values.items()}


def _value(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value) if isinstance(value, float) and not isfinite(value) else value
