"""What an AMQP message brings besides its body, as text: its partition key, its properties and its annotations.

The input is a message as the Event Hubs SDK decodes it. The SDK gives AMQP strings and symbols as bytes and timestamps
as integers, so an integer counts as an instant only where its name is known to be one.
"""

import json
from base64 import b64encode
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import Any

import msgspec

SEQUENCE_NUMBER, ENQUEUED_TIME = b"x-opt-sequence-number", b"x-opt-enqueued-time"
PARTITION_KEY = b"x-opt-partition-key"
# These have columns of their own in bronze, or say nothing beyond them.
_OWN_ANNOTATIONS = {SEQUENCE_NUMBER, ENQUEUED_TIME, PARTITION_KEY, b"x-opt-offset", b"x-opt-sequence-number-epoch"}
_INSTANTS = {"absolute-expiry-time", "creation-time", "iothub-enqueuedtime"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_AS_JSON = msgspec.json.Encoder(order="deterministic").encode
"""Writes an object of texts byte for byte as `_json` does, in a tenth of the time; that one takes other values too."""


def key_of(message: Any) -> str | None:
    """The partition key; None if the message has none."""
    key = (message.message_annotations or {}).get(PARTITION_KEY)
    return None if key is None else _text(key)


def properties_of(message: Any) -> str | None:
    """JSON text of the application properties, and of the standard properties that are set under the key ``amqp``.

    Returns:
        None if there are neither.
    """
    properties = _members((message.application_properties or {}).items())
    standard = _members(
        (name.replace("_", "-"), value)
        for name, value in (message.properties._asdict() if message.properties else {}).items()
        if value is not None
    )
    if standard:
        # An application property may have that name too.
        if "amqp" in properties:
            standard["amqp"] = properties["amqp"]
        properties["amqp"] = standard
    return _json(properties)


def texts_of(application_properties: Mapping[bytes, bytes]) -> str | None:
    """What `properties_of` gives for a message with application properties only, all of them strings."""
    try:
        # Most often they are UTF-8, and need no look at what each of them is.
        members = {str(name, "utf-8"): str(value, "utf-8") for name, value in application_properties.items()}
    except UnicodeDecodeError:
        return _json(_members(application_properties.items()))
    return _AS_JSON(members).decode() if members else None


def annotations_of(message: Any) -> str | None:
    """JSON text of the message annotations that are not columns of bronze themselves; None if there are none."""
    annotations = message.message_annotations or {}
    return _json(_members((name, value) for name, value in annotations.items() if name not in _OWN_ANNOTATIONS))


def _json(members: dict[str, Any]) -> str | None:
    if not members:
        return None
    return json.dumps(members, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _members(entries: Iterable[tuple[Any, Any]]) -> dict[str, Any]:
    return {name: _value(value, name) for key, value in entries for name in [_text(key)]}


def _value(value: Any, name: str = "") -> Any:
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return _instant(value) if name in _INSTANTS else value
    if isinstance(value, float):
        return value if isfinite(value) else str(value)
    if isinstance(value, dict):
        return _members(value.items())
    if isinstance(value, list | tuple):
        return [_value(each) for each in value]
    return _text(value)


def _instant(milliseconds: int) -> str | int:
    try:
        return (_EPOCH + timedelta(milliseconds=milliseconds)).isoformat(timespec="milliseconds")
    except OverflowError:
        return milliseconds


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes | bytearray | memoryview):
        try:
            return str(bytes(value), "utf-8")
        except UnicodeDecodeError:
            return b64encode(value).decode()
    # A text of Python may hold what UTF-8 cannot.
    return str(value).encode("utf-8", "replace").decode()
