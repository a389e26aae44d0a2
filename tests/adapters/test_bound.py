"""Records that came by an authenticated binding, such as the token of an app or a login of a poll."""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from assets.adapters.files import parts_of_json
from assets.adapters.formats import FORMATS, Format
from assets.adapters.outcomes import VITALS
from assets.reference.files import rows_of
from assets.reference.tables import IDENTITY
from resources.lake import Lake
from tests.adapters.samples_as_events import SAMPLES, Sent
from tests.adapters.world import CONTRACTS, LOADED, RECEIVED, becomes, lake_in, load_identity, processed


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return lake_in(tmp_path_factory.mktemp("lake"))


def event(format: str, data: Any, **attributes: Any) -> Sent:
    envelope = {"specversion": "1.0", "type": "pulselake.record", "source": "test", "id": "1", "format": format}
    return Sent(json.dumps(envelope | attributes | {"data": data}).encode())


def dexcom(at: datetime, **more: Any) -> dict[str, Any]:
    record = {"systemTime": at.strftime("%Y-%m-%dT%H:%M:%S"), "value": 120, "unit": "mg/dL", "transmitterId": "a1" * 32}
    return {"recordType": "egv", "userId": "u-3f9a", "records": [record]} | more


@pytest.mark.parametrize(("days", "outcome"), [(89, "G 103 9203"), (91, "Q bad_timestamp")])
def test_a_live_reading_of_dexcom_is_at_most_ninety_days_old(lake: Lake, days: int, outcome: str):
    document = dexcom(RECEIVED - timedelta(days=days))
    [found] = becomes(lake, [event("dexcom-v3", document, received=RECEIVED.isoformat())])
    assert found.startswith(outcome)
    # A file may be old, and so may what was asked for from a date on.
    [found] = becomes(lake, [event("dexcom-v3", document)])
    assert found.startswith("G 103 9203")


def test_share_has_the_same_limit(lake: Lake):
    at = int((RECEIVED - timedelta(days=91)).timestamp() * 1000)
    said = {"binding": "share:acct-7", "received": RECEIVED.isoformat()}
    assert becomes(lake, [event("dexcom-share", [{"ST": f"Date({at})", "Value": 100}], **said)]) == ["Q bad_timestamp"]


@pytest.mark.parametrize(
    ("binding", "user", "outcome"),
    [
        ("u-3f9a", "u-3f9a", "G 103"),
        ("u-3f9a", "never-seen", "G 103"),
        ("u-3f9a", "share:acct-7", "Q identity_mismatch"),
        ("never-seen", "u-3f9a", "Q unknown_patient"),
    ],
)
def test_the_binding_beats_whom_the_body_names_and_a_contradiction_is_refused(
    lake: Lake, binding: str, user: str, outcome: str
):
    document = dexcom(RECEIVED - timedelta(hours=2), userId=user)
    [found] = becomes(lake, [event("dexcom-v3", document, binding=binding, authority=True)])
    assert found.startswith(outcome)


def test_a_binding_that_only_claims_to_be_authentic_is_none(lake: Lake):
    document = dexcom(RECEIVED - timedelta(hours=2))
    for claim in ("true", 1, None):
        [found] = becomes(lake, [event("dexcom-v3", document, binding="share:acct-7", authority=claim)])
        assert found.startswith("G 103")


@pytest.mark.parametrize(
    ("properties", "annotations"),
    [
        ({}, {"iothub-connection-device-id": "cgm-0001"}),
        ({"mqtt-topic": "health/dev-77/glucose"}, {}),
        ({"mqtt-topic": "ward/7", "mqtt-device": ""}, {}),
    ],
)
def test_a_device_or_a_topic_cannot_pass_for_an_authenticated_binding(
    lake: Lake, properties: dict[str, Any], annotations: dict[str, Any]
):
    record = event("dexcom-v3", dexcom(RECEIVED - timedelta(hours=2)), binding="u-3f9a", authority=True)
    assert becomes(lake, [Sent(record.body, properties, annotations)]) == ["Q identity_mismatch"]


def own(patient: int | None, **more: Any) -> dict[str, Any]:
    at = RECEIVED - timedelta(hours=1)
    whose = {} if patient is None else {"patient_id": patient}
    return whose | {"device_id": 10, "glucose_level": 100, "timestamp": at.isoformat()} | more


def test_own_payloads_get_the_patient_of_the_binding(tmp_path: Path):
    known = Lake(str(tmp_path))
    header = "system,kind,foreign_id,pulselake_id,patient_of_device,zone"
    load_identity(known, rows_of(IDENTITY, f"{header}\npulselake,patient,phone,7,,\n", date(2026, 6, 1)))
    said = {"binding": "phone", "authority": True}
    members: list[Any] = [own(None), own(8, device_id=11), own(7, device_id=12), 5]
    assert becomes(known, [event("pulselake", members, **said)]) == [
        "G 7 10 2026-06-15T11:00:00Z 100.0",
        "Q identity_mismatch",
        "G 7 12 2026-06-15T11:00:00Z 100.0",
        "Q not_an_object",
    ]
    assert becomes(known, [event("pulselake", own(7), binding="other", authority=True)]) == ["Q unknown_patient"]
    # Without a binding they are what they say, and vital signs are no readings of glucose.
    assert becomes(known, [event("pulselake", own(8))]) == ["G 8 10 2026-06-15T11:00:00Z 100.0"]
    vital = {"heart_rate": 71, "timestamp": RECEIVED.isoformat()}
    rows = processed(CONTRACTS[VITALS], known, [event("pulselake", vital, **said)])
    assert rows.silver["patient_id"].to_list() == [7]


def test_pieces_of_a_large_post_of_a_phone_keep_what_belongs_together():
    [of] = [each for each in FORMATS if each.name == "health-auto-export"]

    def wanted(_: Any) -> Format:
        return of

    start = datetime(2026, 6, 1, tzinfo=UTC)
    dates = [(start + timedelta(minutes=minute)).strftime("%Y-%m-%d %H:%M:%S +0000") for minute in range(2000)]
    metrics: list[dict[str, Any]] = [
        {"name": name, "units": units, "data": [{"date": each, "qty": value, "source": "W" * 40} for each in dates]}
        for name, units, value in (("heart_rate", "count/min", 71), ("blood_oxygen_saturation", "%", 97))
    ]
    metrics.append({"name": "step_count", "units": "count", "data": [{"qty": 5}, 7]})
    parts = list(parts_of_json(json.dumps({"data": {"metrics": metrics}}).encode(), wanted))
    seen = []
    for part in parts:
        points = [(each["name"], point) for each in part.data["data"]["metrics"] for point in each["data"]]
        seen += points
        of_time: dict[str, set[str]] = {}
        for name, point in points:
            if isinstance(point, dict) and "date" in point:
                of_time.setdefault(point["date"], set()).add(name)
        assert {len(names) for names in of_time.values()} <= {2}
    assert len(parts) == 41
    assert len(seen) == 4002


def test_the_samples_of_health_auto_export_become_the_same_in_one_piece(lake: Lake):
    document = json.loads((SAMPLES / "health_auto_export.json").read_text())
    said = {"binding": "hae-automation-1", "authority": True}
    found = becomes(lake, [event("health-auto-export", document, **said)])
    plain = becomes(lake, [Sent((SAMPLES / "health_auto_export.json").read_bytes(), {"binding": "hae-automation-1"})])
    assert found == plain


HEADER = "system,kind,foreign_id,pulselake_id,patient_of_device,zone"


def with_ids(folder: Path, *lines: str, loaded_at: datetime = LOADED) -> Lake:
    known = Lake(str(folder))
    load_identity(known, rows_of(IDENTITY, "\n".join([HEADER, *lines, ""]), date(2026, 6, 1)), loaded_at)
    return known


def of_sensor(transmitter: str) -> dict[str, Any]:
    document = dexcom(RECEIVED - timedelta(hours=2), userId="user-7")
    document["records"][0]["transmitterId"] = transmitter
    return document


def test_a_sensor_that_was_replaced_is_the_patients_own_device_until_somebody_says_more(tmp_path: Path):
    ids = ("patient,anna,7,,", "patient,bert,8,,", "device,anna,1007,,", "device,old,1008,,")
    known = with_ids(tmp_path, *(f"dexcom,{each}" for each in ids))
    said = {"binding": "anna", "authority": True}
    assert [each.split()[:3] for each in becomes(known, [event("dexcom-v3", of_sensor("old"), **said)])] == [
        ["G", "7", "1008"]
    ]
    new = [event("dexcom-v3", of_sensor("new"), **said)]
    assert becomes(known, new)[0].startswith("G 7 1007 ")
    # Not of a file in which somebody else is named, and not of a pump's battery.
    of_other = of_sensor("new") | {"userId": "bert"}
    assert becomes(known, [event("dexcom-v3", of_other, binding="anna")]) == ["Q unknown_device"]
    status = {"created_at": RECEIVED.isoformat(), "device": "rig", "uploader": {"battery": 50}}
    assert becomes(known, [event("nightscout", [status], **said)]) == ["Q unknown_device"]
    # What becomes known later is for what comes later: a rebuild gives the same.
    later = RECEIVED + timedelta(days=1)
    with_ids(tmp_path, "dexcom,device,new,1009,,", loaded_at=later)
    assert becomes(known, new)[0].startswith("G 7 1007 ")


def test_without_a_device_of_the_patient_a_new_sensor_waits_in_quarantine(tmp_path: Path):
    known = with_ids(tmp_path, "abbott,patient,anna,7,,")
    point = {"FactoryTimestamp": "6/15/2026 8:00:00 AM", "ValueInMgPerDl": 110}
    connection = {"patientId": "p", "sensor": {"sn": "NEW"}, "glucoseMeasurement": point}
    document = {"status": 0, "data": {"connection": connection, "graphData": []}}
    sent = [event("librelinkup", document, binding="anna", authority=True)]
    assert becomes(known, sent) == ["Q unknown_device"]
    with_ids(tmp_path, "abbott,device,anna,1007,,", loaded_at=RECEIVED + timedelta(days=1))
    assert becomes(known, sent) == ["G 7 1007 2026-06-15T08:00:00Z 110.0"]
