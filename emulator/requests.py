"""The request-response nodes: `$cbs` takes tokens, `$management` tells properties."""

import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

from emulator import codec
from emulator.auth import AccessKey, TokenRefused
from emulator.codec import NULL, DecodeError
from emulator.frames import AmqpError, section
from emulator.hub import Hub, Namespace, Partition
from emulator.message import APPLICATION_PROPERTIES, PROPERTIES, VALUE, sections

CBS, MANAGEMENT = "$cbs", "$management"
_SAS_TYPE = "servicebus.windows.net:sastoken"


class Grants(Protocol):
    """The resources one connection has shown valid tokens for."""

    def grant(self, resource: str, until_seconds: float) -> None: ...

    def may_access(self, path: str | None) -> bool:
        """Whether a valid token opens `path`, or anything at all."""
        ...


class Request(NamedTuple):
    message_id: bytes
    properties: dict[object, object]
    value: object

    def text(self, name: str) -> str:
        return str(self.properties.get(name, ""))


class Response(NamedTuple):
    status: int
    description: str
    body: bytes = NULL

    def message(self, correlation_id: bytes) -> bytes:
        """The reply; the id is echoed as it was encoded, because the SDK compares a uuid with a uuid."""
        status, description = codec.int32(self.status), codec.string(self.description)
        names = {"status-code": status, "status-description": description}
        names |= {"statusCode": status, "statusDescription": description}
        return (
            section(PROPERTIES, codec.list_of(*[NULL] * 5, correlation_id))
            + section(APPLICATION_PROPERTIES, codec.map_of({codec.string(key): value for key, value in names.items()}))
            + section(VALUE, self.body)
        )


Handler = Callable[[Request, Grants], Response]


def parse_request(message: bytes) -> Request:
    message_id, properties, value = NULL, {}, None
    for code, start, end in sections(message):
        if code == PROPERTIES:
            fields = codec.decode_described_list(message[start - 3 : end])[1]
            message_id = fields[0] if fields else NULL
        elif code == APPLICATION_PROPERTIES:
            decoded = codec.decode(message, start)[0]
            if not isinstance(decoded, dict):
                raise DecodeError("application properties must be a map")
            properties = decoded
        elif code == VALUE:
            value = codec.decode(message, start)[0]
    return Request(message_id, properties, value)


class Nodes:
    """Answers requests, by the address of the node."""

    def __init__(self, namespace: Namespace, key: AccessKey) -> None:
        self._namespace = namespace
        self._key = key
        self._handlers: dict[str, Handler] = {CBS: self._put_token, MANAGEMENT: self._read_properties}

    def answer(self, node: str, request: Request, grants: Grants) -> Response:
        return self._handlers[node](request, grants)

    def _put_token(self, request: Request, grants: Grants) -> Response:
        if request.text("operation") != "put-token":
            return Response(400, f"BadRequest: the operation '{request.text('operation')}' is not supported.")
        if request.text("type") != _SAS_TYPE or not isinstance(request.value, str):
            return Response(401, f"InvalidToken: tokens of type '{request.text('type')}' are not supported.")
        try:
            resource, until_seconds = self._key.verify(request.value, time.time())
        except TokenRefused as refusal:
            return Response(401, str(refusal))
        grants.grant(resource, until_seconds)
        return Response(202, "Accepted")

    def _read_properties(self, request: Request, grants: Grants) -> Response:
        name = request.text("name")
        if not grants.may_access(name.lower()):
            return Response(401, f"Unauthorized access. No token was put for hub '{name}'.")
        try:
            hub = self._namespace.hub(name)
            if request.text("type") == "com.microsoft:eventhub":
                return Response(200, "OK", _hub_properties(hub))
            return Response(200, "OK", _partition_properties(hub, hub.partition(request.text("partition"))))
        except AmqpError as error:
            return Response(404, error.description)


def _hub_properties(hub: Hub) -> bytes:
    return _string_map(
        name=codec.string(hub.name),
        type=codec.string("com.microsoft:eventhub"),
        created_at=codec.timestamp(hub.created_ms),
        partition_count=codec.int32(len(hub.partitions)),
        partition_ids=codec.string_array(list(hub.partitions)),
        georeplication_factor=codec.int32(1),
    )


def _partition_properties(hub: Hub, partition: Partition) -> bytes:
    log = partition.log
    return _string_map(
        name=codec.string(hub.name),
        type=codec.string("com.microsoft:partition"),
        partition=codec.string(partition.name),
        begin_sequence_number=codec.long(log.begin_sequence),
        last_enqueued_sequence_number=codec.long(log.last_sequence),
        last_enqueued_offset=codec.string(str(log.tail.last_offset)),
        last_enqueued_time_utc=codec.timestamp(log.tail.last_ms),
        is_partition_empty=codec.boolean(log.is_empty),
    )


def _string_map(**values: bytes) -> bytes:
    return codec.map_of({codec.string(name): value for name, value in values.items()})
