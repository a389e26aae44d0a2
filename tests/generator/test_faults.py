from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from generator.events import Event
from generator.streams import STREAMS, events

START = datetime(2024, 5, 1, tzinfo=UTC)
REASONS = {
    "not_json",
    "not_an_object",
    "bad_timestamp",
    "in_the_future",
    "implausible",
    "implausible_unit",
    "conflicting_duplicate",
}
IMPLAUSIBLE = {"implausible", "implausible_unit"}
HARMLESS = {"bom", "unknown_fields"}
SCALARS = (b"42", b'"reading"', b"null", b"true")


def faulty(stream: str, **arguments: Any) -> list[Event]:
    defaults: dict[str, Any] = {
        "start": START,
        "spacing": timedelta(minutes=5),
        "count": 4000,
        "faults": 1,
        "repeats": 0,
        "late": 0,
    }
    made = list(events(stream, **defaults | {"variations": 0} | arguments))
    return [event for event in made if event.label != "clean"]


@pytest.mark.parametrize(
    ("stream", "required", "typed", "own"),
    [
        (
            "glucose",
            {"patient_id", "device_id", "glucose_level", "timestamp"},
            {"patient_id", "device_id", "glucose_level"},
            {"sensor_code"},
        ),
        (
            "devices",
            {"device_id", "timestamp", "battery_level", "firmware_version", "connectivity_status", "error_codes"},
            {"device_id", "battery_level", "firmware_version", "connectivity_status", "error_codes"},
            set(),
        ),
        (
            "vitals",
            {"patient_id", "timestamp"},
            {"patient_id", "device_id", "heart_rate", "spo2", "sport_mode", "on_oxygen", "consciousness"},
            {"no_measurement", *(f"implausible:{name}" for name in ("heart_rate", "diastolic_bp", "temperature"))},
        ),
        (
            "adverse_events",
            {"safetyreportid", "patient"},
            {"safetyreportid", "patient", "serious", "receiptdate"}
            | {"patient.reaction", "patient.reaction[]", "patient.drug"},
            {"no_reaction_and_no_drug"},
        ),
    ],
)
def test_every_reason_for_quarantine_occurs(stream, required, typed, own):
    made = faulty(stream, faults=0.9)
    reasons = REASONS if stream in ("glucose", "devices") else REASONS - IMPLAUSIBLE
    expected = reasons | own | {f"missing_field:{name}" for name in required} | {f"bad_type:{name}" for name in typed}
    assert {event.reason for event in made if event.reason} == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stream", "kinds"), [("glucose", 22), ("devices", 21), ("vitals", 24), ("adverse_events", 17)]
)
def test_all_kinds_of_fault_are_about_as_frequent(stream, kinds):
    labels = Counter(event.label for event in faulty(stream, count=20_000, faults=0.9))
    assert len(labels) == kinds
    assert max(labels.values()) < 1.5 * min(labels.values())


@pytest.mark.parametrize("stream", STREAMS)
def test_only_what_is_harmless_is_accepted_whole(stream):
    whole = {event.label for event in faulty(stream) if not event.quarantined}
    assert whole == HARMLESS
    assert all(not event.reason for event in faulty(stream) if event.label in HARMLESS)


def test_a_bad_reading_in_a_pack_takes_no_other_with_it():
    made = [event for event in faulty("glucose", pack=5) if event.label == "missing_field"]
    assert {(event.readings, event.quarantined) for event in made} == {(5, 1)}


def test_a_pack_that_cannot_be_read_counts_as_one():
    made = [event for event in faulty("glucose", pack=5) if event.label == "truncated_json"]
    assert {(event.readings, event.quarantined) for event in made} == {(1, 1)}


def test_a_conflict_needs_something_to_conflict_with():
    assert "conflict" not in {event.label for event in faulty("glucose", faults=1)}


def looks(label: str, body: bytes) -> bool:
    return {
        "python_repr": body.startswith(b"{'patient_id': "),
        "invalid_utf8": b"\xff" in body,
        "empty_body": not body.strip(),
        "nan": b'"glucose_level": NaN' in body,
        "bom": body.startswith(b'\xef\xbb\xbf{"'),
        "non_object": body in SCALARS,
        "bad_member": body.startswith(b"["),
        "null_field": b": null" in body,
    }.get(label, True)


def test_bodies_look_as_their_labels_say():
    made = faulty("glucose", faults=0.9)
    assert [event for event in made if not looks(event.label, event.body)] == []
