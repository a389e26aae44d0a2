"""Whose a body is: what the transport stamped, what the body says, and what is known of both."""

import json
from pathlib import Path
from typing import Any

import pytest

from assets.glucose.assets import CONTRACT as GLUCOSE
from assets.vitals.assets import CONTRACT as VITALS
from resources.lake import Lake
from tests.adapters.samples_as_events import Sent
from tests.adapters.world import lake_in, processed

AT = "2026-06-01T08:00:00Z"
READING = {"patient_id": 115, "device_id": 9901, "glucose_level": 110, "timestamp": AT}
SIGNS = {"patient_id": 116, "heart_rate": 71, "timestamp": AT}


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return lake_in(tmp_path_factory.mktemp("lake"))


def sent(body: Any, device: str | None = None, **properties: Any) -> Sent:
    """A message that came through an IoT Hub, if a device is named."""
    annotations = {} if device is None else {"iothub-connection-device-id": device, "iothub-enqueuedtime": AT}
    return Sent(json.dumps(body).encode(), properties, annotations)


@pytest.mark.parametrize("device", [None, "cgm-0001", "ghost"])
def test_a_body_in_the_streams_own_words_needs_no_identity(lake: Lake, device: str | None):
    rows = processed(GLUCOSE, lake, [sent(READING, device)]).silver
    assert rows.select("patient_id", "device_id").rows() == [(115, 9901)]
    signs = processed(VITALS, lake, [sent(SIGNS, device and device.replace("cgm-0001", "vit-0002"))]).silver
    assert signs["patient_id"].to_list() == [116]


@pytest.mark.parametrize(
    ("contract", "body", "device"),
    [
        (GLUCOSE, READING | {"device_id": 1}, "cgm-0001"),
        (VITALS, SIGNS | {"patient_id": 7}, "vit-0002"),
        (VITALS, SIGNS | {"device_id": 7}, "vit-0002"),
    ],
)
def test_a_body_that_contradicts_a_known_stamp_is_refused(lake: Lake, contract: Any, body: Any, device: str):
    rows = processed(contract, lake, [sent(body, device)])
    assert rows.quarantine["reason"].to_list() == ["identity_mismatch"]


def test_without_identities_nothing_changes_for_bodies_in_the_streams_own_words(tmp_path: Path):
    rows = processed(
        GLUCOSE, Lake(str(tmp_path)), [sent(READING, "cgm-0001"), sent({"glucose_level": 100}, "cgm-0001")]
    )
    assert rows.silver.height == 1
    assert rows.quarantine["reason"].to_list() == ["unknown_device"]


def test_a_property_source_that_names_no_format_changes_nothing(lake: Lake):
    rows = processed(GLUCOSE, lake, [sent(READING, source="gateway 7"), sent([1], source="gateway 7")])
    assert (rows.silver.height, rows.quarantine["reason"].to_list()) == (1, ["not_an_object"])


def test_a_declared_source_is_believed_and_a_body_of_another_kind_is_refused(lake: Lake):
    fitting = [{"sgv": 120, "date": 1780301700000, "device": "xDrip-DexcomG6"}]
    events = [
        sent(fitting, source="nightscout", binding="ns-site-a"),
        sent({"a": 1}, source="nightscout", binding="ns-site-a"),
        sent({"a": 1}, source="clarity", binding="clarity-upload-1"),
        Sent(b"no JSON", {"source": "fhir"}),
    ]
    rows = processed(GLUCOSE, lake, events)
    assert rows.silver["patient_id"].to_list() == [101]
    assert rows.quarantine["reason"].to_list() == ["missing_field:type", "unknown_format", "not_json"]


def test_the_zone_of_an_upload_can_be_said_with_it(lake: Lake):
    header = "Index,Timestamp (YYYY-MM-DDThh:mm:ss),Event Type,,,,Source Device ID,Glucose Value (mg/dL)\n"
    body = (header + "1,2026-06-01T10:00:00,EGV,,,,8ZZ01A,101\n").encode()
    events = [
        Sent(body, {"binding": "clarity-upload-1"}),
        Sent(body, {"binding": "clarity-upload-1", "zone": "Asia/Tokyo"}),
        Sent(body, {"binding": "nobody"}),
    ]
    rows = processed(GLUCOSE, lake, events)
    assert [at.hour for at in rows.silver["measured_at"]] == [8, 1]
    assert rows.quarantine["reason"].to_list() == ["no_time_zone"]
