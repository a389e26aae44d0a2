"""What stands around a document: packed bodies, several JSON texts in one, CloudEvents, envelopes of Azure, topics.

```
 body ──▶ unpacked ──▶ JSON texts, or one other text ──▶ envelopes, at most four around each other ──▶ documents
```
"""

import json
import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, unquote

import msgspec
from msgspec.structs import replace

from assets.adapters.formats import CAPTURED, ROUTED, TELEMETRY, Format, declared, looks_like, names_of, of_names
from assets.adapters.outcomes import (
    BAD_BASE64,
    DEVICE,
    IDENTITY_MISMATCH,
    UNKNOWN_FORMAT,
    Context,
    ForeignId,
    Plain,
    Reject,
    Skip,
)
from assets.adapters.telemetry import kind_of
from assets.adapters.values import text_of
from assets.stream.decode import BAD_GZIP, NOT_AN_OBJECT, NOT_JSON, document_of, missing_field, parsed

MAX_LAYERS = 4
RECORD = "pulselake.record"
"""The type of CloudEvents in which Pulselake sends records of files, of polled accounts and of phones.

The attributes say what is known: `format`, `binding`, `authority` where the binding was authenticated, `zone`,
`dateorder`, `base`, and `received`, when the records came, where they are not old ones.
"""
IOT_HUB, MQTT = "azure-iot", "mqtt"
_CREATED = ("iothub-creation-time-utc", "iothub-app-iothub-creation-time-utc")
_ENQUEUED = ("iothub-enqueuedtime",)
_DEVICE_ID = "iothub-connection-device-id"
_TELEMETRY_EVENT = "Microsoft.Devices.DeviceTelemetry"
_BINARY = ("cloudEvents_", "cloudEvents:", "ce-")
"""What attributes of a CloudEvent in binary mode begin with: they are properties, and the body is the data."""
_VERSIONS = frozenset(f"{prefix}specversion" for prefix in _BINARY)
_RECEIVED = ("received", *(f"{prefix}time" for prefix in _BINARY))
_IOT_HUB_TOPIC = re.compile(r"devices/([^/]+)/messages/events/?(.*)")

Object = Mapping[str, Any]
_NOTHING_SAID = Context()


class Leaf(msgspec.Struct, frozen=True, gc=False):
    """A document in one of the formats, with what the envelopes said."""

    format: Format
    document: Any
    context: Context


Found = Leaf | Plain | Skip | Reject


class Unpacked(msgspec.Struct, frozen=True, gc=False):
    """What a body holds.

    Attributes:
        found: its documents, in order.
        is_foreign: whether there is anything in it that the stream's own decoder does not understand better.
    """

    found: list[Found]
    is_foreign: bool


def unpacked(body: bytes | None, properties: Object, annotations: Object) -> Unpacked:
    """The documents in a body.

    Args:
        body: as the hub had it.
        properties: what the sender said about it.
        annotations: what transports said about it.
    """
    transport = _transport(body, properties, annotations)
    if isinstance(transport, Skip):
        return Unpacked([transport], is_foreign=True)
    formats = declared(text_of(properties["source"])) if "source" in properties else ()
    is_certain = bool(formats) or _is_stamped(transport, properties, annotations)
    content = document_of(body or b"")
    if content is None:
        return Unpacked([Reject(BAD_GZIP)], is_foreign=is_certain)
    if (text := _other_text(content, formats)) is not None:
        return Unpacked([_leaf_of_text(text, formats, transport)], is_foreign=True)
    texts, is_lines = json_texts(content)
    layers = _Layers(formats, transport, is_certain=is_certain)
    layers.has_envelope = bool(properties) and not _VERSIONS.isdisjoint(properties)
    found = [each for value in texts for each in layers.of_text(value)]
    is_unusual = len(texts) > 1 and not is_lines
    # A topic is none of a stream's, so a list that came by it may have objects of several.
    is_mixed = transport.has_any_stream and len(found) > 1
    is_foreign = is_certain or is_unusual or is_mixed or layers.has_envelope
    return Unpacked(found, is_foreign or any(isinstance(each, Leaf) for each in found))


def _is_stamped(transport: Context, properties: Object, annotations: Object) -> bool:
    """Whether the transport says that a body is of another system."""
    if transport is _NOTHING_SAID:
        return False
    if _DEVICE_ID in properties or (annotations and any(name.startswith("iothub-") for name in annotations)):
        return True
    # A topic that names a patient says whose the body is, as a device does.
    is_of_patient = transport.system == MQTT and transport.binding is not None
    return transport.device is not None or transport.topic_kind is not None or is_of_patient


def _transport(body: bytes | None, properties: Object, annotations: Object) -> Context | Skip:
    """What the transport says, or that the message is no telemetry."""
    if not properties and not annotations:
        return _NOTHING_SAID
    # What an IoT Hub stamped comes as annotations, or as properties from the bridge, which puts them over the device's.
    is_bridged = _DEVICE_ID in properties and _DEVICE_ID not in annotations
    stamped = {**properties, **annotations} if is_bridged else annotations
    # All other properties are what the device says: it must not choose a patient, or another device by a topic.
    is_of_device = _DEVICE_ID in stamped
    # An IoT Hub says that with each message; the annotation of another transport could have any name.
    if stamped and text_of(stamped.get("iothub-message-source") or "Telemetry") != "Telemetry":
        return Skip("non_telemetry")
    if properties.get("iothub-MessageType") == "Will":
        return Skip("will")
    binding = None if is_of_device else _said(properties, "binding")
    sent_at = _first(properties, _CREATED)
    enqueued_at = _first(stamped, _ENQUEUED) or _first(properties, _RECEIVED)
    device = _device(stamped.get(_DEVICE_ID), IOT_HUB)
    # Brokers control who may publish to a topic, so the patient that it names counts more than the body.
    topic = None if is_of_device else _said(properties, "mqtt-topic")
    is_authority = topic is not None and binding is not None
    kind: str | None = None
    is_mapped = topic is not None and "mqtt-device" in properties and not _IOT_HUB_TOPIC.fullmatch(topic)
    if is_mapped:
        # The bridge knows by its map which level of a topic is what.
        kind = kind_of(_said(properties, "mqtt-kind") or "") or None
        device = _device(properties["mqtt-device"], MQTT)
    said = Context(
        binding,
        is_authority,
        _said(properties, "zone"),
        _said(properties, "date-order"),
        _said(properties, "base"),
        device,
        sent_at,
        enqueued_at,
        "mqtt-retain" in properties and _is_true(properties["mqtt-retain"]),
        kind,
        IOT_HUB if topic is None else MQTT,
        topic is not None,
    )
    if topic is not None:
        said = said if is_mapped else of_topic(topic, said)
        if not body:
            # It clears what the broker had retained; those who are subscribed already get it without the flag.
            return Skip("empty_retained" if said.is_retained else "empty")
        if said.topic_kind == "status":
            return Skip("status")
    return said


def _said(values: Object, name: str) -> str | None:
    return (text_of(values[name]) or None) if name in values else None


def _is_true(value: Any) -> bool:
    return str(value).lower() in ("true", "1")


def of_topic(topic: str, context: Context) -> Context:
    """The context with the device and the meaning of numbers that a topic names."""
    if found := _IOT_HUB_TOPIC.fullmatch(topic):
        bag = dict(parse_qsl(found[2], keep_blank_values=True))
        sent_at = _first(bag, _CREATED) or context.sent_at
        return context.changed(device=_device(unquote(found[1]), MQTT), sent_at=sent_at, system=MQTT)
    parts = topic.split("/")
    if len(parts) < 3:
        return context.changed(system=MQTT)
    return context.changed(device=_device(parts[-2], MQTT), topic_kind=kind_of(parts[-1]), system=MQTT)


def _device(name: Any, system: str) -> ForeignId | None:
    return ForeignId(system, DEVICE, text) if (text := text_of(name)) else None


def _first(values: Object, names: tuple[str, ...]) -> str | None:
    for name in names:
        if name in values and (text := text_of(values[name])):
            return text
    return None


def _other_text(content: bytes, formats: Sequence[Format]) -> str | None:
    """The text of a document that is no JSON; None where it may be JSON, or nothing that is known."""
    if content[:1] in (b"{", b"["):
        return None
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return None
    is_declared = any(each.is_text for each in formats)
    return text if is_declared or looks_like(text, is_text=True) is not None else None


def _leaf_of_text(text: str, formats: Sequence[Format], context: Context) -> Found:
    of_text = [each for each in formats if each.is_text]
    found = next((each for each in of_text if each.looks_so(text)), None) or looks_like(text, is_text=True)
    if found is None or (formats and found not in formats):
        return Reject(UNKNOWN_FORMAT)
    return Leaf(found, text, context)


NO_JSON = object()
"""Stands for a line that is no JSON."""


def json_texts(content: bytes, *, are_lines: bool = False) -> tuple[list[Any], bool]:
    """What the JSON texts in a content hold, and whether each of them is a line of its own.

    Several texts are lines that all begin an object, of which a damaged one spoils no other, or objects one behind the
    other with nothing else between them.

    Args:
        content: in UTF-8.
        are_lines: whether each line is a text, whatever it begins with.
    """
    try:
        return [parsed(content)], True
    except (ValueError, RecursionError):
        pass
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return [NO_JSON], True
    lines = [stripped for line in text.split("\n") if (stripped := line.strip())]
    if are_lines or (len(lines) > 1 and all(line.startswith("{") for line in lines)):
        found = [_one_behind_the_other(line) for line in lines]
        values = [value for some in found for value in some]
        is_any = any(value is not NO_JSON for value in values)
        return (values, len(values) == len(lines)) if is_any else ([NO_JSON], True)
    values = _one_behind_the_other(text.strip())
    return values, len(values) == 1


def _one_behind_the_other(text: str) -> list[Any]:
    """The objects of which a text consists; nothing of it is taken if there is something else in it."""
    values: list[Any] = []
    place = 0
    while place < len(text):
        try:
            value, place = _DECODER.raw_decode(text, place)
        except (ValueError, RecursionError):
            return [NO_JSON]
        values.append(value)
        while place < len(text) and text[place] in _WHITE_SPACE:
            place += 1
    is_one = len(values) == 1 or all(isinstance(value, dict) for value in values)
    return values if values and is_one else [NO_JSON]


def _refused(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


_WHITE_SPACE = " \t\n\r"
_DECODER = json.JSONDecoder(parse_constant=_refused)


class _Layers:
    """Takes envelopes off documents.

    Args:
        formats: that were declared.
        context: of the transport.
        is_certain: whether what is no envelope is a document of another system, whatever it looks like.
    """

    def __init__(self, formats: Sequence[Format], context: Context, *, is_certain: bool) -> None:
        self._formats, self._context, self._is_certain = formats, context, is_certain
        self.has_envelope = False

    def of_text(self, value: Any) -> Iterable[Found]:
        """The documents in the value of a JSON text."""
        if value is NO_JSON:
            return [Reject(NOT_JSON)]
        if isinstance(value, str) and not self._is_certain:
            try:
                inner = parsed(value.encode())
            except (ValueError, RecursionError):
                return [Reject(NOT_AN_OBJECT)]
            if isinstance(inner, dict):
                self.has_envelope = True
                return self._of(inner, self._context, 1)
        return self._of(value, self._context, 0)

    def _of(self, value: Any, context: Context, depth: int) -> Iterable[Found]:
        if depth > MAX_LAYERS:
            return [Reject(UNKNOWN_FORMAT)]
        if self._formats:
            return [self._declared(value, context)]
        # Looked at once for envelopes and formats: with most telemetry that costs as much as reading it.
        names = names_of(value)
        if not _ENVELOPES.isdisjoint(names):
            if isinstance(value, list) and any(isinstance(each, dict) and _envelope(each) for each in value[:10]):
                self.has_envelope = True
                return self._of_members(value, context, depth)
            if isinstance(value, dict) and (kind := _envelope(value)):
                self.has_envelope = True
                return _OPEN[kind](self, value, context, depth + 1)
        if found := of_names(value, names):
            return [Leaf(found, value, context)]
        if context.device is not None or context.topic_kind is not None or self._is_certain:
            return [Leaf(TELEMETRY, value, context)]
        return (
            [_plain(member, context) for member in value]
            if isinstance(value, list) and value
            else [_plain(value, context)]
        )

    def _of_members(self, members: list[Any], context: Context, depth: int) -> Iterator[Found]:
        for member in members:
            if isinstance(member, dict):
                yield from self._of(member, context, depth)
            else:
                yield Reject(NOT_AN_OBJECT)

    def _declared(self, value: Any, context: Context) -> Found:
        candidates = [each for each in self._formats if not each.is_text]
        found = next((each for each in candidates if each.looks_so(value)), None)
        if found is None and not candidates:
            return Reject(UNKNOWN_FORMAT)
        return Leaf(found or candidates[0], value, context)

    def cloud_event(self, event: Object, context: Context, depth: int) -> Iterator[Found]:
        """The data of a CloudEvent in structured mode."""
        kind = text_of(event.get("type"))
        if event.get("specversion") != "1.0":
            yield Reject(UNKNOWN_FORMAT)
            return
        if kind == RECORD:
            yield from self._record(event, context, depth)
            return
        if kind.startswith("Microsoft.Devices."):
            yield from self._iot_event(kind, event, event.get("time"), context, depth)
            return
        if kind == "MQTT.EventPublished":
            context = of_topic(text_of(event.get("subject")), context)
        if time := _said(event, "time"):
            context = context.changed(enqueued_at=time)
        if "data_base64" in event:
            yield from self._of_base64(event["data_base64"], context, depth)
        elif "data" not in event:
            yield Reject(missing_field("data"))
        elif isinstance(event["data"], str) and context.topic_kind is None:
            found = looks_like(event["data"], is_text=True)
            yield Leaf(found, event["data"], context) if found else Reject(NOT_AN_OBJECT)
        else:
            yield from self._of(event["data"], context, depth)

    def _record(self, event: Object, context: Context, depth: int) -> Iterator[Found]:
        """Records that Pulselake itself got; lines of JSON are a text."""
        if self._is_certain or context.device is not None or context.system == MQTT:
            # A device or a publisher to a topic must not say by such a body whose it is.
            yield Reject(IDENTITY_MISMATCH)
            return
        formats = declared(text_of(event.get("format")))
        said = context.changed(
            binding=text_of(event.get("binding")) or None,
            is_authority=event.get("authority") is True,
            enqueued_at=text_of(event.get("received")) or None,
            zone=text_of(event.get("zone")) or None,
            date_order=text_of(event.get("dateorder")) or None,
            base=text_of(event.get("base")) or None,
        )
        if not formats or "data" not in event:
            yield Reject(UNKNOWN_FORMAT)
            return
        data = event["data"]
        is_lines = isinstance(data, str) and not formats[0].is_text
        values = json_texts(data.encode("utf-8", "replace"), are_lines=True)[0] if is_lines else [data]
        for value in values:
            if value is NO_JSON:
                yield Reject(NOT_JSON)
            elif formats[0] is ROUTED and isinstance(value, dict):
                yield from self.stored(value, said.changed(has_any_stream=True), depth)
            elif formats[0] is CAPTURED and isinstance(value, dict):
                yield from self._captured(value)
            else:
                yield Leaf(formats[0], value, said)

    def event_grid(self, event: Object, context: Context, depth: int) -> Iterator[Found]:
        """The data of an event in the schema of Event Grid."""
        kind = text_of(event.get("eventType"))
        if kind.startswith("Microsoft.Devices."):
            yield from self._iot_event(kind, event, event.get("eventTime"), context, depth)
        else:
            context = context.changed(enqueued_at=text_of(event.get("eventTime")) or None)
            yield from self._of(event.get("data"), context, depth)

    def _iot_event(self, kind: str, event: Object, time: Any, context: Context, depth: int) -> Iterator[Found]:
        if kind != _TELEMETRY_EVENT:
            yield Skip("non_telemetry")
            return
        data = _object(event.get("data"))
        system = _object(data.get("systemProperties"))
        yield from self._message(data.get("body"), system, _object(data.get("properties")), time, context, depth)

    def stored(self, message: Object, context: Context, depth: int) -> Iterator[Found]:
        """A message as routing writes it into storage, and as the MedTech service normalises it."""
        by_name = {name.lower(): value for name, value in message.items()}
        system, properties = (_object(by_name.get(name)) for name in ("systemproperties", "properties"))
        yield from self._message(
            by_name.get("body"), system, properties, by_name.get("enqueuedtimeutc"), context, depth
        )

    def _message(
        self, body: Any, system: Object, properties: Object, time: Any, context: Context, depth: int
    ) -> Iterator[Found]:
        if text_of(system.get("iothub-message-source") or "Telemetry") != "Telemetry":
            yield Skip("non_telemetry")
            return
        enqueued = _first(system, ("iothub-enqueuedtime", "enqueuedTime")) or text_of(time) or None
        device = system.get(_DEVICE_ID) or system.get("connectionDeviceId")
        context = context.changed(
            device=_device(device, IOT_HUB) or context.device,
            sent_at=_first(properties, _CREATED),
            enqueued_at=enqueued,
            is_retained=str(properties.get("mqtt-retain")).lower() in ("true", "1"),
        )
        if not isinstance(body, str):
            yield from self._telemetry(body, context, depth)
            return
        try:
            inner = parsed(body.encode())
        except (ValueError, RecursionError):
            yield from self._of_base64(body, context, depth)
        else:
            yield from self._telemetry(inner, context, depth)

    def _telemetry(self, value: Any, context: Context, depth: int) -> Iterator[Found]:
        if context.device is None and not isinstance(value, str):
            yield Leaf(looks_like(value, is_text=False) or TELEMETRY, value, context)
        else:
            yield from self._of(value, context, depth)

    def _captured(self, event: Object) -> Iterator[Found]:
        """The documents of an event as they were in the hub that was captured, whoever imports it."""
        try:
            body = b64decode(text_of(event.get("Body")), validate=True)
        except (Base64Error, ValueError):
            yield Reject(BAD_BASE64)
            return
        found = unpacked(body, _object(event.get("Properties")), _object(event.get("SystemProperties"))).found
        # The file may be of a hub of all streams.
        yield from (replace(each, has_any_stream=True) if isinstance(each, Plain) else each for each in found)

    def _of_base64(self, text: Any, context: Context, depth: int) -> Iterator[Found]:
        try:
            content = document_of(b64decode(text_of(text), validate=True))
        except (Base64Error, ValueError):
            yield Reject(BAD_BASE64)
            return
        if content is None:
            yield Reject(BAD_GZIP)
            return
        if (other := _other_text(content, [])) is not None:
            yield _leaf_of_text(other, [], context)
            return
        for value in json_texts(content)[0]:
            if value is NO_JSON:
                yield Reject(NOT_JSON)
            else:
                yield from self._of(value, context, depth + 1)

    def iot_central(self, message: Object, context: Context, depth: int) -> Iterator[Found]:
        """A message that IoT Central exports."""
        if (source := text_of(message.get("messageSource"))) != "telemetry":
            yield Skip(source or "non_telemetry")
            return
        context = context.changed(
            device=_device(message.get("deviceId"), IOT_HUB),
            sent_at=_first(_object(message.get("messageProperties")), _CREATED),
            enqueued_at=text_of(message.get("enqueuedTime")) or None,
        )
        yield Leaf(TELEMETRY, message.get("telemetry"), context)

    def stream_analytics(self, message: Object, context: Context, depth: int) -> Iterator[Found]:
        """A row that Stream Analytics writes, with the columns of IoT Hub."""
        hub = _object(message.get("IoTHub"))
        context = context.changed(
            device=_device(hub.get("ConnectionDeviceId"), IOT_HUB), enqueued_at=text_of(hub.get("EnqueuedTime")) or None
        )
        beside = ("IoTHub", "EventProcessedUtcTime", "EventEnqueuedUtcTime", "PartitionId")
        yield Leaf(TELEMETRY, {name: value for name, value in message.items() if name not in beside}, context)

    def records(self, envelope: Object, context: Context, depth: int) -> Iterator[Found]:
        """The members of ``{"records": […]}``, of which only one level is unwrapped."""
        members = envelope["records"]
        if not isinstance(members, list):
            yield Reject(UNKNOWN_FORMAT)
            return
        if not members:
            yield Reject(NOT_AN_OBJECT)
        for member in members:
            if isinstance(member, dict) and {"category", "resourceId"} <= member.keys():
                yield Skip("platform_log")
            elif isinstance(member, dict) and _envelope(member) == "records":
                yield _plain(member, context)
            else:
                yield from self._of(member, context, depth)


_OPEN = {
    "cloud_event": _Layers.cloud_event,
    "event_grid": _Layers.event_grid,
    "stored": _Layers.stored,
    "iot_central": _Layers.iot_central,
    "stream_analytics": _Layers.stream_analytics,
    "records": _Layers.records,
}


_ENVELOPES = frozenset(("specversion", "records", "eventtype", "applicationid", "iothub", "systemproperties"))
"""Of these an object that is an envelope has at least one, in any case."""


def _envelope(value: Object) -> str | None:
    """Which envelope an object is."""
    names = names_of(value)
    if "specversion" in value and "type" in value:
        return "cloud_event"
    if "records" in value and "recordType" not in value:
        others = (other for name, other in value.items() if name != "records")
        return "records" if all(isinstance(other, str) for other in others) else None
    if {"eventType", "topic", "data"} <= value.keys():
        return "event_grid"
    if {"applicationId", "messageSource", "schema"} <= value.keys():
        return "iot_central"
    if "ConnectionDeviceId" in _object(value.get("IoTHub")):
        return "stream_analytics"
    return "stored" if len(value) < 20 and {"systemproperties", "body"} <= names else None


def _plain(value: Any, context: Context) -> Found:
    if not isinstance(value, dict):
        return Reject(NOT_AN_OBJECT)
    if "timestamp" not in value and context.enqueued_at is not None:
        value = {**value, "timestamp": context.enqueued_at}
    return Plain(value, has_any_stream=context.has_any_stream)


def _object(value: Any) -> Object:
    return value if isinstance(value, dict) else {}
