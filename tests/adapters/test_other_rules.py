"""Rules of formats that no sample shows."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from assets.adapters import carelink_connect, clarity, dexcom, fhir, huawei
from assets.adapters.bodies import outcomes_of
from assets.adapters.formats import looks_like
from assets.adapters.outcomes import Context, Plain, Reading, Reject, Skip

AT = datetime(2026, 6, 1, 8, tzinfo=UTC)
UPLOAD = Context(binding="upload", zone="Europe/Berlin")


def told(outcome: Any) -> Any:
    """What an outcome says: an instant and values, or a kind, or a reason."""
    if isinstance(outcome, Reading):
        return outcome.measured_at, dict(outcome.values)
    return outcome.kind if isinstance(outcome, Skip) else outcome.reason


def test_carelink_connect_has_the_clock_of_the_device_and_no_value_at_zero():
    document = {
        "medicalDeviceSerialNumber": "NG1",
        "sgs": [
            {"sg": 118, "timestamp": "2026-06-01T10:00:00", "kind": "SG"},
            {"sg": 0, "timestamp": "2026-06-01T10:05:00", "sensorState": "WARM_UP"},
            {"sg": 39, "datetime": "2026-06-01T10:10:00.000-00:00"},
            {"sg": 120},
            7,
        ],
    }
    found = looks_like(document, is_text=False)
    assert found is not None
    assert found.name == "carelink-connect"
    value = {"unit": "mg/dL"}
    assert [told(each) for each in carelink_connect.adapt(document, UPLOAD)] == [
        (AT, value | {"glucose_level": 118}),
        "no_value",
        (AT + timedelta(minutes=10), value | {"glucose_level": 39, "out_of_range": "below"}),
        "missing_field:timestamp",
        "not_an_object",
    ]
    # The hour that comes twice goes by the order of the readings.
    times = ["2026-10-25T02:55:00", "2026-10-25T02:00:00"]
    twice = {"medicalDeviceSerialNumber": "NG1", "sgs": [{"sg": 100, "timestamp": text} for text in times]}
    first, second = carelink_connect.adapt(twice, UPLOAD)
    assert told(second)[0] - told(first)[0] == timedelta(minutes=5)
    assert [told(each) for each in carelink_connect.adapt({"sgs": []}, UPLOAD)] == ["no_value"]
    assert told(next(iter(carelink_connect.adapt(document, Context())))) == "no_time_zone"


def test_the_file_of_huaweis_privacy_centre():
    point = {"key": "DATA_POINT_DYNAMIC_HEARTRATE", "value": "67.0", "startTime": 1780300800000}
    document = [
        {"type": 7, "samplePoints": [point, {**point, "key": "DATA_POINT_STEPS"}, {"key": point["key"]}]},
        {"type": 7, "samplePoints": []},
    ]
    found = looks_like(document, is_text=False)
    assert found is not None
    assert found.name == "huawei"
    assert [told(each) for each in huawei.adapt(document, UPLOAD)] == [
        (AT, {"heart_rate": 67.0}),
        "DATA_POINT_STEPS",
        "missing_field:value",
        "no_value",
    ]


@pytest.mark.parametrize("separator", [",", ";"])
def test_a_decimal_comma_is_read_whatever_separates_the_cells(separator: str):
    header = ["Index", "Zeitstempel (JJJJ-MM-TTThh:mm:ss)", "Ereignistyp", "", "", "", "ID", "Glukosewert (mmol/L)"]
    row = ["1", "2026-06-01T10:00:00", "EGV", "", "", "", "8ZZ", '"5,4"']
    text = "\n".join(separator.join(each) for each in (header, row)) + "\n"
    [found] = clarity.adapt(text, UPLOAD)
    assert told(found) == (AT, {"glucose_level": 5.4, "unit": "mmol/L"})


@pytest.mark.parametrize(
    ("received", "expected"),
    [("2026-06-02T08:00:00Z", Reading), ("2027-06-02T08:00:00Z", Reject), (None, Reading)],
)
def test_a_receiver_whose_clock_is_months_wrong_is_refused_while_it_is_live(received: str | None, expected: type):
    record = {"systemTime": "2026-06-01T08:00:00", "value": 100, "unit": "mg/dL"}
    document = {"recordType": "egv", "userId": "u", "records": [record]}
    [found] = dexcom.adapt_v3(document, Context(enqueued_at=received))
    assert isinstance(found, expected)


def test_a_reference_to_a_version_means_the_same_patient():
    observation = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
        "subject": {"reference": "Patient/7/_history/3"},
        "effectiveDateTime": "2026-06-01T08:00:00Z",
        "valueQuantity": {"value": 71, "system": "http://unitsofmeasure.org", "code": "1/min"},
    }
    [found] = fhir.adapt(observation, Context(base="https://x/"))
    assert isinstance(found, Reading)
    assert found.patient is not None
    assert found.patient.value == "https://x/Patient/7"


def outcomes(body: Any, **properties: Any) -> Any:
    return outcomes_of(json.dumps(body).encode(), json.dumps(properties), None, lambda *_: None)


def test_a_cloudevent_in_binary_mode_has_its_time_in_a_property():
    own = {"patient_id": 7, "device_id": 1007, "glucose_level": 100}
    attributes = {"cloudEvents_specversion": "1.0", "cloudEvents_time": "2026-06-01T08:00:00Z"}
    [found] = outcomes(own, **attributes)
    assert found == Plain({**own, "timestamp": "2026-06-01T08:00:00Z"})
    [found] = outcomes({**own, "timestamp": "2026-06-01T07:00:00Z"}, **attributes)
    assert found.body["timestamp"] == "2026-06-01T07:00:00Z"
    assert outcomes(own) is None


def routed(body: Any, **properties: Any) -> Any:
    said = {"mqtt-topic": "ward/x/7", "mqtt-device": "dev-77", "mqtt-kind": "", "received": "2026-06-01T08:00:00Z"}
    return outcomes(body, **{**said, **properties})


def test_what_the_bridge_knows_of_a_topic_counts_more_than_its_levels():
    [found] = routed({"heart_rate": 70, "on_oxygen": True, "consciousness": "A"})
    assert told(found) == (AT, {"heart_rate": 70, "on_oxygen": True, "consciousness": "A"})
    assert found.device.value == "dev-77"
    [found] = routed(71, **{"mqtt-kind": "heart-rate"})
    assert told(found) == (AT, {"heart_rate": 71})
    [found] = routed(71, **{"mqtt-kind": "hrv"})
    assert found == Reject("unknown_format")
    battery = {"battery_level": 50, "firmware_version": "1.2.0", "error_codes": "E1"}
    [found] = routed(battery)
    assert dict(found.values) == battery
    # A patient in the topic and no device.
    [found] = routed({"heart_rate": 70}, **{"mqtt-device": "", "binding": "bed-9"})
    assert (found.patient.value, found.device.value) == ("bed-9", "bed-9")
    [found] = (
        outcomes_of(b"", json.dumps({"mqtt-topic": "a/b/glucose", "mqtt-retain": "false"}), None, lambda *_: None) or []
    )
    assert found == Skip("empty")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        # What no unit says is judged by silver: 22.2 is 400 mg/dL, and as mg/dL it would be an urgent low.
        ({"glucose": 22.2}, {"glucose_level": 22.2, "unit": None}),
        ({"glucose": 22, "units": "mmol/l"}, {"glucose_level": 22, "unit": "mmol/L"}),
        ({"glucose": 110, "unit": "mg/dl"}, {"glucose_level": 110, "unit": "mg/dL"}),
        ({"glucose": "<40"}, {"glucose_level": "<40", "unit": None}),
        ({"glucose_level": "BELOW_RANGE"}, {"glucose_level": "BELOW_RANGE", "unit": None}),
        # A measurement in a form that nobody knows is refused, and not passed over.
        ({"glucose": {"value": 45, "unit": "mg/dL"}}, "bad_type:glucose_level"),
        ({"heartRate": {"value": 75}}, "bad_type:heart_rate"),
        ({"glucose": {"glucose_level": 45}}, {"glucose_level": 45, "unit": None}),
        ({"steps": 9}, "no_value"),
    ],
)
def test_glucose_of_a_device_loses_no_low_and_invents_none(body: Any, expected: Any):
    found = routed(body)
    if isinstance(expected, dict):
        expected = (AT, expected)
    assert [told(each) for each in found] == [expected]


def test_an_object_on_a_topic_of_one_measurement_must_have_it():
    said = {"mqtt-kind": "glucose"}
    assert routed({"value": 45}, **said) == [Reject("missing_field:glucose")]
    assert routed({"glucose": None}, **said) == [Skip("no_value")]
    assert routed({"hr": 45}, **{"mqtt-kind": "vitals"}) == [Skip("no_value")]


@pytest.mark.parametrize("name", ["ts", "dateTime", "recorded_at", "measurementTime"])
def test_a_measurement_has_its_own_time_under_other_usual_names(name: str):
    [found] = routed({"glucose": 110, name: "2026-05-30T07:00:00Z"})
    assert isinstance(found, Reading)
    assert found.measured_at == datetime(2026, 5, 30, 7, tzinfo=UTC)
