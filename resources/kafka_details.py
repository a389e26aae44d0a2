"""What a Kafka message brings besides its body, as text: its key, its headers and its time."""

import json
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

from confluent_kafka import Message

BASE64 = "base64"
"""Marks bytes that are no UTF-8: as the prefix ``base64:`` of a key, as the only member of an object of a header."""

Headers = Sequence[tuple[str, bytes | None]]


def keys_of(messages: Sequence[Message]) -> list[str | None]:
    """The keys as text; None where a message has none."""
    keys: list[Any] = [message.key() for message in messages]
    try:
        return [key and key.decode() if key is not None else None for key in keys] if any(keys) else _empty(keys)
    except UnicodeDecodeError:
        return [None if key is None else _key(key) for key in keys]


def properties_of(messages: Sequence[Message]) -> list[str | None]:
    """JSON text of the headers; None where a message has none."""
    headers: list[Any] = [message.headers() for message in messages]
    return [headers_text(each) if each else None for each in headers]


def headers_text(headers: Headers) -> str:
    """Headers as a JSON object; of a name that comes several times, an array of the values in their order."""
    members: dict[str, list[Any]] = {}
    for name, value in headers:
        members.setdefault(name, []).append(_value(value))
    plain = {name: values[0] if len(values) == 1 else values for name, values in members.items()}
    return json.dumps(plain, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def times_of(messages: Sequence[Message], now_ms: int) -> list[int]:
    """When the topic took each message, epoch milliseconds; where the sender says it, no later than now.

    A sender may say anything: what lies in the future or before 1970 counts as now.
    """
    times = [message.timestamp()[1] for message in messages]
    if min(times) < 0 or max(times) > now_ms:
        return [time if 0 <= time <= now_ms else now_ms for time in times]
    return times


def _empty(keys: list[Any]) -> list[str | None]:
    return [None if key is None else "" for key in keys]


def _key(key: bytes) -> str:
    value = _value(key)
    return value if isinstance(value, str) else f"{BASE64}:{value[BASE64]}"


def _value(value: bytes | None) -> Any:
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {BASE64: b64encode(value).decode()}
