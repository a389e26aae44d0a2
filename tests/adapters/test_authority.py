"""Whose a body is: what the transport stamped, what the body says, and what is known of both."""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from assets.glucose.assets import CONTRACT as GLUCOSE
from assets.reference.files import rows_of
from assets.reference.tables import IDENTITY
from assets.reference_store import put
from assets.vitals.assets import CONTRACT as VITALS
from orchestration.bridging import streams_for
from resources.lake import Lake
from tests.adapters.samples_as_events import Sent
from tests.adapters.world import CONTRACTS, LOADED, LONG_AGO, RECEIVED, lake_in, load_identity, processed

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


@pytest.mark.parametrize("at", ["1970-01-01T00:00:05Z", "2000-01-01T00:07:00Z"])
def test_of_a_device_whose_clock_was_never_set_the_clock_is_to_blame_and_not_its_id(lake: Lake, at: str):
    quarantined = processed(GLUCOSE, lake, [sent({"glucose": 110, "timestamp": at}, "cgm-0001")]).quarantine
    assert quarantined["reason"].to_list() == ["bad_timestamp"]


@pytest.mark.parametrize("device", ["cgm-0001", "ghost"])
def test_undeclared_fields_of_a_body_are_counted_once_whoever_reads_it(lake: Lake, device: str):
    found = processed(GLUCOSE, lake, [sent(READING | {"rate": 2}, device), sent([READING | {"rate": 1}] * 2)])
    assert found.unknown_fields == {"rate": 3}
    assert found.quarantine.is_empty()


@pytest.mark.parametrize("device", [None, "cgm-0001", "ghost"])
def test_what_only_readings_of_other_systems_have_is_undeclared_in_the_streams_own_words(lake: Lake, device: str):
    others = {"out_of_range": "below", "record_system": "dexcom", "record_id": "1"}
    found = processed(GLUCOSE, lake, [sent(READING | others, device)])
    assert found.unknown_fields == dict.fromkeys(others, 1)
    assert found.silver.select("range_flag", "record_system", "record_id").rows() == [(None, None, None)]


def test_a_text_that_is_no_unicode_costs_its_own_reading_only(lake: Lake):
    sign = {"heart_rate": 71, "consciousness": "A", "timestamp": AT}
    body = [sign, sign | {"consciousness": "\ud800"}, sign | {"timestamp": "2026-06-01T08:01:00Z"}]
    found = processed(VITALS, lake, [sent(body, "vit-0002")])
    assert found.quarantine.select("event_index", "reason").rows() == [(1, "bad_type:consciousness")]
    assert found.silver["event_index"].to_list() == [0, 2]


@pytest.mark.parametrize("kind", ["\ud800", "k" * 61, "Jane's"])
def test_a_kind_that_is_no_name_of_a_format_is_counted_as_another(lake: Lake, kind: str):
    entry = {"type": "cal", "date": 1780300800000, "device": "d"}
    body = [entry, entry | {"type": kind}]
    found = processed(GLUCOSE, lake, [sent(body, source="nightscout", binding="b"), sent(READING)])
    assert found.skipped_kinds == {"calibration": 1, "other": 1}
    assert found.silver["patient_id"].to_list() == [115]


def test_a_body_that_nobody_understands_has_the_reasons_of_the_stream_itself(lake: Lake):
    bodies = [b"{}", b"[1, {}]", b'{"patient_id": "x"}', b"{", None]
    found = processed(GLUCOSE, lake, [Sent(body) for body in bodies] + [Sent(b"[]", {"source": "no-format"})])
    assert found.quarantine["reason"].to_list() == [
        "missing_field:patient_id",
        "not_an_object",
        "missing_field:patient_id",
        "bad_type:patient_id",
        "not_json",
        "tombstone",
        "not_an_object",
    ]
    assert found.bronze["reading_count"].to_list() == [1, 2, 1, 1, 1, 1]


@pytest.mark.parametrize("is_bridged", [False, True])
def test_a_device_behind_an_iot_hub_chooses_no_patient_and_no_other_device(lake: Lake, is_bridged: bool):
    stamps = {"iothub-connection-device-id": "cgm-0001", "iothub-enqueuedtime": AT}
    claims = {"binding": "ns-site-a", "mqtt-topic": "health/dev-77/glucose", "mqtt-device": "dev-77"}
    body = json.dumps({"glucose_level": 100}).encode()
    entries = json.dumps([{"sgv": 120, "date": 1780301700000, "device": "xDrip-DexcomG6"}]).encode()
    given = (claims | stamps, {}) if is_bridged else (claims, stamps)
    rows = processed(GLUCOSE, lake, [Sent(body, *given), Sent(entries, *given)])
    assert rows.silver.select("patient_id", "device_id").rows() == [(115, 9901)]
    assert rows.quarantine["reason"].to_list() != []
    assert 101 not in rows.silver["patient_id"]


def test_the_patient_of_a_topic_counts_more_than_the_body(tmp_path: Path):
    lake = Lake(str(tmp_path))
    header = "system,kind,foreign_id,pulselake_id,patient_of_device,zone"
    ids = ("mqtt,patient,bed-9,7,,", "fhir,patient,bed-9,7,,", "fhir,patient,Patient/8,8,,", "fhir,device,bed-9,9,,")
    load_identity(lake, rows_of(IDENTITY, "\n".join([header, *ids, ""]), date(2026, 6, 1)))
    observation = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "99504-3"}]},
        "effectiveDateTime": AT,
        "valueQuantity": {"value": 120, "unit": "mg/dL"},
    }

    def at_bed(bed: str, body: Any, **properties: str) -> Sent:
        return sent(body, **{"mqtt-topic": f"ward/{bed}", "mqtt-device": "", "binding": bed} | properties)

    events = [
        at_bed("bed-9", READING),
        at_bed("bed-9", READING | {"patient_id": 7}),
        at_bed("bed-9", observation | {"subject": {"reference": "Patient/8"}}, source="fhir"),
        at_bed("bed-9", observation | {"subject": {"reference": "Patient/other"}}, source="fhir"),
        # Of a bed that nobody knows the body is believed, as without a topic.
        at_bed("bed-1", READING),
    ]
    found = processed(GLUCOSE, lake, events)
    assert found.silver.select("patient_id", "device_id").rows() == [(7, 9901), (7, 9), (115, 9901)]
    assert found.quarantine["reason"].to_list() == ["identity_mismatch"] * 2


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


STAMP_IDS = (
    "azure-iot,device,cgm-1,21,7",
    "azure-iot,device,gateway,22,",
    "nightscout,device,of-7,31,7",
    "nightscout,device,of-8,32,8",
    "nightscout,device,of-nobody,33,",
    "fhir,patient,Patient/7,7,,",
    "fhir,patient,Patient/8,8,,",
    "dexcom,patient,user-7,7,,",
    "dexcom,patient,user-8,8,,",
    "dexcom,device,transmitter,41,,",
)


def observed(patient: str) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "99504-3"}]},
        "subject": {"reference": f"Patient/{patient}"},
        "effectiveDateTime": AT,
        "valueQuantity": {"value": 120, "unit": "mg/dL"},
    }


def entry(device: str) -> dict[str, Any]:
    return {"type": "sgv", "sgv": 120, "date": 1780301700000, "device": device}


def estimated(user: str) -> dict[str, Any]:
    record = {"systemTime": AT, "value": 120, "unit": "mg/dL", "transmitterId": "transmitter"}
    return {"recordType": "egv", "userId": user, "records": [record]}


@pytest.mark.parametrize("way", ["annotations", "properties", "routed", "topic"])
@pytest.mark.parametrize(
    ("body", "stamp", "becomes"),
    [
        (observed("7"), "cgm-1", (7, 21)),
        (observed("8"), "cgm-1", "identity_mismatch"),
        (observed("never-seen"), "cgm-1", (7, 21)),
        (observed("8"), "gateway", (8, 22)),
        (entry("of-7"), "cgm-1", (7, 31)),
        (entry("of-8"), "cgm-1", "identity_mismatch"),
        (entry("never-seen"), "cgm-1", (7, 21)),
        (entry("of-nobody"), "cgm-1", "identity_mismatch"),
        (entry("of-7"), "gateway", "identity_mismatch"),
        (entry("of-7"), "never-seen", (7, 31)),
        (estimated("user-7"), "cgm-1", (7, 41)),
        (estimated("user-8"), "cgm-1", "identity_mismatch"),
        (estimated("user-8"), "never-seen", (8, 41)),
        (READING | {"patient_id": 7, "device_id": 21}, "cgm-1", (7, 21)),
        (READING | {"patient_id": 8, "device_id": 21}, "cgm-1", "identity_mismatch"),
    ],
)
def test_whom_a_foreign_body_names_must_be_whose_the_stamped_device_is(
    stamped_lake: Lake, way: str, body: Any, stamp: str, becomes: tuple[int, int] | str
):
    stamps = {"iothub-connection-device-id": stamp, "iothub-enqueuedtime": AT}
    event = {
        "annotations": Sent(json.dumps(body).encode(), {}, stamps),
        "properties": Sent(json.dumps(body).encode(), stamps),
        "routed": Sent(json.dumps({"SystemProperties": {"connectionDeviceId": stamp}, "Body": body}).encode()),
        "topic": Sent(json.dumps(body).encode(), {"mqtt-topic": f"health/{stamp}/glucose", "mqtt-device": stamp}),
    }[way]
    found = processed(GLUCOSE, stamped_lake, [event])
    expected = ([becomes], []) if isinstance(becomes, tuple) else ([], [becomes])
    assert (found.silver.select("patient_id", "device_id").rows(), found.quarantine["reason"].to_list()) == expected


@pytest.fixture(scope="module")
def stamped_lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = Lake(str(tmp_path_factory.mktemp("stamped")))
    header = "system,kind,foreign_id,pulselake_id,patient_of_device,zone"
    ids = [f"{each}," if each.count(",") == 4 else each for each in STAMP_IDS]
    ids += [each.replace("azure-iot", "mqtt") for each in ids if each.startswith("azure-iot")]
    load_identity(lake, rows_of(IDENTITY, "\n".join([header, *ids, ""]), date(2026, 6, 1)))
    return lake


def test_what_a_device_measured_for_the_patient_before_is_not_compared_with_the_one_of_now(tmp_path: Path):
    lake = Lake(str(tmp_path))
    header = "system,kind,foreign_id,pulselake_id,patient_of_device,zone"
    first, second = (rows_of(IDENTITY, f"{header}\nazure-iot,device,d,5,{who},\n", date(2026, 6, 1)) for who in (7, 8))
    put(lake, IDENTITY, first, valid_from=LONG_AGO, clock=lambda: LOADED)
    put(lake, IDENTITY, second, valid_from=datetime(2026, 6, 1, 9, tzinfo=UTC), clock=lambda: LOADED)
    body = READING | {"patient_id": 7, "device_id": 5}
    late, wrong = sent(body, "d"), sent(body | {"timestamp": "2026-06-01T10:00:00Z"}, "d")
    rows = processed(GLUCOSE, lake, [late, wrong])
    assert rows.silver["patient_id"].to_list() == [7]
    assert rows.quarantine["reason"].to_list() == ["identity_mismatch"]


@pytest.mark.parametrize("said", [{}, {"mqtt-device": "dev-77"}, {"mqtt-device": ""}])
def test_the_entries_of_a_list_go_each_to_its_own_stream(lake: Lake, said: dict[str, str]):
    mine = {"patient_id": 117, "device_id": 9911, "timestamp": AT}
    battery = {"battery_level": 50, "firmware_version": "1.0.0", "connectivity_status": "Connected", "error_codes": ""}
    body = [mine | {"heart_rate": 71}, mine | {"glucose_level": 101}, mine | battery, mine | {"steps": 9}]
    properties = {"mqtt-topic": "ward/all", "received": AT} | said
    event = Sent(json.dumps(body).encode(), properties)
    assert streams_for(event.body or b"", properties) == sorted(CONTRACTS)
    rows = {stream: processed(contract, lake, [event]) for stream, contract in CONTRACTS.items()}
    assert {stream: each.silver.height for stream, each in rows.items()} == dict.fromkeys(CONTRACTS, 1)
    # What has the words of no stream is refused and not lost, in each of them.
    assert {each.quarantine.height for each in rows.values()} == {1}
    assert {int(each.skipped["skipped"].sum()) for each in rows.values()} == {2}


@pytest.mark.parametrize("count", [1, 2])
def test_an_object_with_words_of_two_streams_goes_to_both(lake: Lake, count: int):
    both = READING | {"heart_rate": 71}
    body = both if count == 1 else [both, both | {"timestamp": "2026-06-01T08:05:00Z"}]
    properties = {"mqtt-topic": "ward/all", "received": AT}
    event = Sent(json.dumps(body).encode(), properties)
    assert streams_for(event.body or b"", properties) == [GLUCOSE.stream, VITALS.stream]
    assert [processed(contract, lake, [event]).silver.height for contract in (GLUCOSE, VITALS)] == [count, count]


@pytest.mark.parametrize(("said", "kept"), [("1.2", None), ("v3.1-beta", None), (" 1.20.3 ", "1.20.3"), (7, None)])
def test_how_another_system_numbers_firmware_costs_no_battery(lake: Lake, said: Any, kept: str | None):
    body = {"battery": 40, "firmwareVersion": said, "timestamp": AT}
    rows = processed(CONTRACTS["device_readings"], lake, [sent(body, "cgm-0001")])
    assert rows.silver.select("device_id", "battery_level", "firmware_version").rows() == [(9901, 40.0, kept)]


def test_a_corrected_line_counts_for_what_is_pulled_later_and_changes_nothing_that_was_resolved(tmp_path: Path):
    lake = Lake(str(tmp_path))
    header = "system,kind,foreign_id,pulselake_id,patient_of_device,zone"

    def load(patient: int, at: datetime, others: str = "") -> None:
        ids = f"{header}\nazure-iot,device,d,5,{patient},\n{others}"
        load_identity(lake, rows_of(IDENTITY, ids, date(2026, 6, 1)), at)

    def patients() -> list[int]:
        events = [sent({"glucose_level": 100, "timestamp": AT}, device) for device in ("d", "late")]
        return processed(GLUCOSE, lake, events).silver["patient_id"].to_list()

    load(7, LOADED)
    assert patients() == [7]
    later = RECEIVED + timedelta(days=1)
    load(8, later, "azure-iot,device,late,6,9,\n")
    assert patients() == [7, 9]
    # Of what was unknown when it was pulled the newest version counts.
    load(8, later + timedelta(days=1), "azure-iot,device,late,6,10,\n")
    assert patients() == [7, 10]
