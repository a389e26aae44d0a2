"""Avro files of an IoT Hub's routing and of Event Hubs Capture: each message once, and nothing of a damaged file."""

import json
from base64 import b64decode, b64encode
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import pytest

from assets.adapters.avro import parts_of_avro
from assets.adapters.files import RECORDS, WHOLE_BYTES, parts_of_json
from assets.adapters.formats import looks_like
from assets.adapters.outcomes import DEVICES, GLUCOSE, VITALS, Refused
from orchestration.importing import ImportRefusedError, Said, files_of, send
from resources.lake import Lake
from tests.adapters.samples_as_events import SAMPLES, Sent
from tests.adapters.world import CONTRACTS, becomes, lake_in, processed
from tests.stream.hubs import MemoryPublisher

AT = "2026-06-01T08:00:00.0000000Z"
TEXTS = {"type": "map", "values": "string"}
VALUES = {"type": "map", "values": ["long", "double", "string", "bytes", "null"]}
BODY = {"name": "Body", "type": ["null", "bytes"]}
ROUTED = {
    "type": "record",
    "name": "Message",
    "namespace": "Microsoft.Azure.Devices",
    "fields": [
        {"name": "EnqueuedTimeUtc", "type": "string"},
        {"name": "Properties", "type": TEXTS},
        {"name": "SystemProperties", "type": TEXTS},
        BODY,
    ],
}
CAPTURED = {
    "type": "record",
    "name": "EventData",
    "namespace": "Microsoft.ServiceBus.Messaging",
    "fields": [
        {"name": "SequenceNumber", "type": "long"},
        {"name": "Offset", "type": "string"},
        {"name": "EnqueuedTimeUtc", "type": "string"},
        {"name": "SystemProperties", "type": VALUES},
        {"name": "Properties", "type": VALUES},
        BODY,
    ],
}


def avro(schema: dict[str, Any], records: Sequence[dict[str, Any]], codec: str = "null") -> bytes:
    file = BytesIO()
    fastavro.writer(file, schema, records, codec=codec, sync_interval=2_000)
    return file.getvalue()


def routed(body: Any, device: str = "cgm-0001", **properties: str) -> dict[str, Any]:
    """A message as an IoT Hub writes it into a container."""
    content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    system = {"connectionDeviceId": device, "enqueuedTime": AT}
    return {"EnqueuedTimeUtc": AT, "Properties": properties, "SystemProperties": system, "Body": content}


def captured(body: Any, system: dict[str, Any] | None = None, **properties: Any) -> dict[str, Any]:
    """An event as Event Hubs Capture writes it."""
    return {
        "SequenceNumber": 7,
        "Offset": "4711",
        "EnqueuedTimeUtc": "6/1/2026 8:00:00 AM",
        "SystemProperties": {"x-opt-enqueued-time": 1780300800000, **(system or {})},
        "Properties": properties,
        "Body": body if isinstance(body, bytes) else json.dumps(body).encode(),
    }


def bytes_of(body: Any) -> bytes:
    """What the device sent: in JSON it is base64, or an object where the device said that it is JSON."""
    if not isinstance(body, str):
        return json.dumps(body).encode()
    try:
        return b64decode(body, validate=True)
    except ValueError:
        return body.encode()


def events(content: bytes, **said: str) -> list[Sent]:
    return [Sent(part.event(said, "file")) for part in parts_of_avro(content)]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return lake_in(tmp_path_factory.mktemp("lake"))


@pytest.mark.parametrize("codec", ["null", "deflate"])
def test_messages_in_avro_become_what_they_become_in_json(lake: Lake, codec: str):
    lines = (SAMPLES / "iothub_storage.ndjson").read_bytes()
    messages = [json.loads(line) for line in lines.splitlines()]
    records = [
        {name: each.get(name, {}) for name in ("EnqueuedTimeUtc", "Properties", "SystemProperties")}
        | {"Body": bytes_of(each["Body"])}
        for each in messages
    ]
    as_json = [Sent(part.event({}, "f")) for part in parts_of_json(lines, lambda one: looks_like(one, is_text=False))]
    # What is no base64 in JSON is just no JSON here.
    expected = ["Q not_json" if each == "Q bad_base64" else each for each in becomes(lake, as_json)]
    assert becomes(lake, events(avro(ROUTED, records, codec))) == expected


def test_what_a_device_of_an_iot_hub_sent_is_of_the_patient_it_is_assigned_to(lake: Lake):
    bodies = [
        {"glucose_level": 120, "timestamp": "2026-06-01T07:55:00Z"},
        {"patient_id": 115, "device_id": 9901, "glucose_level": 121, "timestamp": "2026-06-01T07:56:00Z"},
        {"glucose_level": 122},
        [{"battery_level": 50, "timestamp": "2026-06-01T07:57:00Z"}, {"heart_rate": 61}],
        {"patient_id": 7, "device_id": 9901, "glucose_level": 121, "timestamp": "2026-06-01T07:58:00Z"},
        b"\xff",
        None,
    ]
    # The first folder of a container has the name of the hub, which stands for no patient.
    found = events(avro(ROUTED, [routed(body) for body in bodies]), binding="my-iot-hub")
    assert becomes(lake, found) == [
        "G 115 9901 2026-06-01T07:55:00Z 120.0",
        "G 115 9901 2026-06-01T07:56:00Z 121.0",
        "G 115 9901 2026-06-01T08:00:00Z 122.0",
        "D 9901 2026-06-01T07:57:00Z 50",
        "V 115 2026-06-01T08:00:00Z heart_rate 61",
        "Q identity_mismatch",
        "Q not_json",
        "Q not_an_object",
    ]


def test_a_captured_event_means_what_it_meant_in_its_hub(lake: Lake):
    own = {"patient_id": 3, "device_id": 4, "timestamp": AT}
    entry = [{"type": "sgv", "sgv": 130, "date": 1780301700000, "device": "xDrip-DexcomG6"}]
    stamp = {"iothub-connection-device-id": "cgm-0001", "iothub-enqueuedtime": 1780300800000}
    records = [
        captured(own | {"glucose_level": 110}),
        captured(own | {"heart_rate": 71}),
        captured(entry, binding=b"ns-site-a"),
        captured({"glucose_level": 120}, stamp, binding="ns-site-a", weight=1.5, nothing=None),
        captured([own | {"glucose_level": 111, "device_id": 5}]),
        captured(b'{"a":'),
    ]
    found = events(avro(CAPTURED, records), binding="my-namespace")
    rows = {stream: processed(contract, lake, found) for stream, contract in CONTRACTS.items()}
    silver = rows[GLUCOSE].silver.select("patient_id", "device_id", "glucose_mg_dl").rows()
    assert silver == [(3, 4, 110.0), (101, 9101, 130.0), (115, 9901, 120.0), (3, 5, 111.0)]
    assert rows[VITALS].silver["patient_id"].to_list() == [3]
    assert rows[DEVICES].silver.height == 0
    assert rows[GLUCOSE].quarantine["reason"].to_list() == ["not_json"]


def test_parts_have_few_records_and_few_bytes():
    small, large = routed({"glucose_level": 1}), routed(b"x" * 100_000)
    assert [part.data.count("\n") + 1 for part in parts_of_avro(avro(ROUTED, [small] * 250))] == [RECORDS, RECORDS, 50]
    parts = list(parts_of_avro(avro(ROUTED, [large] * 5)))
    assert [len(part.data) < WHOLE_BYTES for part in parts] == [True] * len(parts)
    assert [part.number for part in parts] == [0, 1, 2, 3, 4]
    # Capture writes a file for each of its windows, also where nothing came.
    assert list(parts_of_avro(avro(CAPTURED, []))) == []


def test_nothing_is_taken_of_a_file_that_is_cut_or_damaged(tmp_path: Path):
    content = avro(ROUTED, [routed({"glucose_level": number}) for number in range(100)], "deflate")
    whole = sum(part.data.count("\n") + 1 for part in parts_of_avro(content))
    assert whole == 100
    for end in range(10, len(content), len(content) // 50):
        # Blocks that are whole, each of which ends with the same mark, make a whole file.
        if content[end - 16 : end] != content[-16:]:
            with pytest.raises(Refused, match="not_avro"):
                list(parts_of_avro(content[:end]))
    cut, publisher = tmp_path / "cut.avro", MemoryPublisher()
    cut.write_bytes(content[:-20])
    with pytest.raises(ImportRefusedError, match="damaged or ends too early, so nothing of it was published"):
        send(cut, Said(), lambda _: publisher)
    cut.write_bytes(avro({"type": "record", "name": "x", "fields": [BODY]}, [{"Body": b"1"}]))
    with pytest.raises(ImportRefusedError, match="no messages are in it"):
        send(cut, Said(), lambda _: publisher)
    assert publisher.published == []


def test_a_file_whose_name_is_its_minute_is_one_to_import(tmp_path: Path):
    folder = tmp_path / "hub" / "00" / "2026" / "06" / "01" / "08"
    folder.mkdir(parents=True)
    for name in ("42", "43.avro", "LICENSE", "a.exe"):
        (folder / name).write_bytes(avro(ROUTED, [routed({"glucose_level": 120})]))
    assert [file.name for file in files_of(tmp_path)] == ["42", "43.avro"]
    publisher = MemoryPublisher()
    found = send(folder / "42", Said(), lambda _: publisher)
    assert (found.format, dict(found.readings), len(publisher.published)) == ("iot-hub-routing", {GLUCOSE: 1}, 1)


def test_a_body_that_is_no_base64_is_refused(lake: Lake):
    line = {"SystemProperties": {}, "Properties": {}, "Body": "no base64"}
    attributes = {"specversion": "1.0", "type": "pulselake.record", "source": "x", "id": "1"}
    event = attributes | {"format": "event-hubs-capture", "data": json.dumps(line)}
    assert becomes(lake, [Sent(json.dumps(event).encode())]) == ["Q bad_base64"]
    event["data"] = json.dumps(line | {"Body": b64encode(b"[]").decode()})
    assert becomes(lake, [Sent(json.dumps(event).encode())]) == ["Q not_an_object"]
