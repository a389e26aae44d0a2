"""Reference data both ways: loads get into the store, edits get into the lake, and neither is taken for the other."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from assets.reference.tables import DEVICES, MANUFACTURERS, PATIENTS, SUBSCRIBERS, SUBSCRIPTIONS, Reference
from assets.reference_store import held, put
from assets.store_reference import MANY_GONE, ReferenceSync
from assets.sync.reference import REFERENCE_FEEDS
from resources.lake import Lake

MANUFACTURER, PATIENT, DEVICE, SUBSCRIBER, SUBSCRIBED = REFERENCE_FEEDS
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


def now() -> datetime:
    return datetime.now(UTC)


def load(lake, reference: Reference, *rows: dict[str, Any], valid_from: datetime = LONG_AGO, **options: Any) -> None:
    schema = {name: reference.table.schema[name] for name in reference.cells}
    put(lake, reference, pl.DataFrame([*rows], schema=schema), valid_from=valid_from, clock=now, **options)


def patient(number: int, **values: Any) -> dict[str, Any]:
    return {"patient_id": number, "full_name": f"Patient {number}", "gender": "female", "groups": "icu"} | values


def held_patients(lake) -> dict[int, dict[str, Any]]:
    rows = held(lake, PATIENTS, datetime.now(UTC)).iter_rows(named=True)
    return {row["patient_id"]: row for row in rows}


def versions(lake: Lake) -> int:
    return lake.table(PATIENTS.table).count()


def names(store) -> dict[int, str]:
    return {row[0]: row[1] for row in store.query("SELECT patient_id, full_name FROM Patient")}


def edit(store, statement: str) -> None:
    with store._engine.begin() as connection:
        connection.exec_driver_sql(statement)


@pytest.fixture
def sync(lake, store) -> ReferenceSync:
    return ReferenceSync(lake, store)


def test_what_holds_now_is_in_the_store(sync, lake, store):
    load(lake, PATIENTS, patient(1), patient(2, date_of_birth=date(1980, 2, 29), address="Straße 1, 東京"))
    exchanged = sync.exchange(PATIENT)
    assert (exchanged.to_store, exchanged.to_lake, exchanged.problem) == (2, 0, "")
    assert store.query("SELECT patient_id, full_name, gender, address, patient_groups FROM Patient ORDER BY 1") == [
        (1, "Patient 1", "female", None, "icu"),
        (2, "Patient 2", "female", "Straße 1, 東京", "icu"),
    ]
    assert sync.exchange(PATIENT).to_store == 0


def test_a_load_changes_and_ends_rows(sync, lake, store):
    load(lake, PATIENTS, patient(1), patient(2))
    sync.exchange(PATIENT)
    load(lake, PATIENTS, patient(1, full_name="Another"), replaces=True)
    sync.exchange(PATIENT)
    assert names(store) == {1: "Another"}
    assert ReferenceSync(lake, store).exchange(PATIENT).to_store == 0


def test_a_version_of_the_future_gets_into_the_store_when_it_holds(lake, store):
    now = datetime.now(UTC)
    clock = [now]
    sync = ReferenceSync(lake, store, lambda: clock[0])
    load(lake, PATIENTS, patient(1))
    load(lake, PATIENTS, patient(1, full_name="Later"), valid_from=now + timedelta(hours=1))
    sync.exchange(PATIENT)
    assert names(store) == {1: "Patient 1"}
    clock[0] += timedelta(hours=2)
    sync.exchange(PATIENT)
    assert names(store) == {1: "Later"}


def test_an_edit_a_new_row_and_a_removed_one_get_into_the_lake(sync, lake, store):
    load(lake, PATIENTS, patient(1), patient(2), patient(3))
    sync.exchange(PATIENT)
    edit(store, "UPDATE Patient SET full_name = 'Edited' WHERE patient_id = 1")
    edit(store, "INSERT INTO Patient (patient_id, full_name, patient_groups) VALUES (9, 'New', 'b; a')")
    edit(store, "DELETE FROM Patient WHERE patient_id = 3")
    assert sync.exchange(PATIENT).to_lake == 3
    found = held_patients(lake)
    assert {number: row["full_name"] for number, row in found.items()} == {1: "Edited", 2: "Patient 2", 9: "New"}
    assert {number: row["changed_by"] for number, row in found.items()} == {1: "store", 2: None, 9: "store"}
    # In the form that reference data have, and not as a change again.
    assert store.query("SELECT patient_groups FROM Patient WHERE patient_id = 9") == [("a;b",)]
    before = versions(lake)
    for _ in range(3):
        assert (again := sync.exchange(PATIENT)).to_lake == again.to_store == 0
    assert ReferenceSync(lake, store).exchange(PATIENT).to_lake == 0
    assert versions(lake) == before


def test_of_two_changes_the_later_one_wins(sync, lake, store):
    load(lake, PATIENTS, patient(1), patient(2))
    sync.exchange(PATIENT)
    edit(store, "UPDATE Patient SET full_name = 'Store first' WHERE patient_id = 1")
    load(lake, PATIENTS, patient(1, full_name="Lake second"), patient(2, full_name="Lake first"))
    edit(store, "UPDATE Patient SET full_name = 'Store second' WHERE patient_id = 2")
    sync.exchange(PATIENT)
    assert names(store) == {1: "Lake second", 2: "Store second"}
    assert {number: row["full_name"] for number, row in held_patients(lake).items()} == names(store)
    assert sync.exchange(PATIENT) == sync.exchange(PATIENT)


def test_a_row_that_was_removed_comes_back_if_the_lake_has_another_version(sync, lake, store):
    load(lake, PATIENTS, patient(1))
    sync.exchange(PATIENT)
    edit(store, "DELETE FROM Patient")
    load(lake, PATIENTS, patient(1, full_name="Corrected"))
    sync.exchange(PATIENT)
    assert names(store) == {1: "Corrected"}
    assert held_patients(lake)[1]["full_name"] == "Corrected"


def test_a_crash_after_the_lake_was_written_changes_nothing_twice(sync, lake, store):
    load(lake, PATIENTS, patient(1))
    sync.exchange(PATIENT)
    edit(store, "UPDATE Patient SET full_name = 'Edited'")
    # What the sync writes first, before it dies.
    load(lake, PATIENTS, patient(1, full_name="Edited"), valid_from=datetime.now(UTC), changed_by="store")
    before = versions(lake)
    assert sync.exchange(PATIENT).to_lake == 0
    assert (versions(lake), names(store)) == (before, {1: "Edited"})


def test_an_edit_after_such_a_crash_is_not_lost(sync, lake, store):
    load(lake, PATIENTS, patient(1))
    sync.exchange(PATIENT)
    edit(store, "UPDATE Patient SET full_name = 'First'")
    load(lake, PATIENTS, patient(1, full_name="First"), valid_from=datetime.now(UTC), changed_by="store")
    edit(store, "UPDATE Patient SET full_name = 'Second'")
    sync.exchange(PATIENT)
    assert names(store) == {1: "Second"}
    assert held_patients(lake)[1]["full_name"] == "Second"


def test_a_wrong_edit_is_told_and_holds_up_no_other(sync, lake, store):
    load(lake, PATIENTS, patient(1), patient(2))
    sync.exchange(PATIENT)
    edit(store, "UPDATE Patient SET gender = 'unclear' WHERE patient_id = 1")
    edit(store, "UPDATE Patient SET full_name = NULL WHERE patient_id = 2")
    edit(store, "INSERT INTO Patient (patient_id, full_name) VALUES (3, 'New')")
    exchanged = sync.exchange(PATIENT)
    assert exchanged.to_lake == 1
    assert (
        "patient_id 1, column gender: none of the words that may stand here; write one of female" in exchanged.problem
    )
    assert "patient_id 2, column full_name: an empty value" in exchanged.problem
    assert store.state("Patient").problem == exchanged.problem
    assert held_patients(lake)[1]["gender"] == "female"
    edit(store, "UPDATE Patient SET gender = 'other' WHERE patient_id = 1")
    edit(store, "UPDATE Patient SET full_name = 'Two' WHERE patient_id = 2")
    assert sync.exchange(PATIENT).problem == ""
    assert store.state("Patient").problem == ""
    assert held_patients(lake)[1]["gender"] == "other"


def test_a_table_that_was_emptied_ends_nobody(sync, lake, store):
    load(lake, PATIENTS, *map(patient, range(MANY_GONE)))
    sync.exchange(PATIENT)
    edit(store, "DELETE FROM Patient")
    exchanged = sync.exchange(PATIENT)
    assert "100 rows were removed at once" in exchanged.problem
    assert len(held_patients(lake)) == MANY_GONE
    store.forget("Patient")
    assert sync.exchange(PATIENT).problem == ""
    assert len(names(store)) == MANY_GONE


def test_a_dropped_table_is_made_and_filled_by_a_resync(sync, lake, store):
    load(lake, PATIENTS, patient(1))
    sync.exchange(PATIENT)
    edit(store, "DROP TABLE Patient")
    store.recreate("Patient")
    store.forget("Patient")
    sync.exchange(PATIENT)
    assert names(store) == {1: "Patient 1"}
    edit(store, "UPDATE Patient SET full_name = 'Edited'")
    assert sync.exchange(PATIENT).to_lake == 1


def test_a_resync_takes_what_was_edited_and_not_taken_yet(sync, lake, store):
    load(lake, PATIENTS, patient(1), patient(2))
    sync.exchange(PATIENT)
    edit(store, "UPDATE Patient SET full_name = 'Edited' WHERE patient_id = 2")
    store.forget("Patient")
    sync.exchange(PATIENT)
    assert names(store) == {1: "Patient 1", 2: "Edited"}
    assert held_patients(lake)[2]["full_name"] == "Edited"
    assert versions(lake) == 3


def test_a_lake_that_lost_its_reference_data_gets_them_from_the_store(sync, lake, store):
    load(lake, PATIENTS, patient(1))
    sync.exchange(PATIENT)
    lake.remove()
    sync.exchange(PATIENT)
    assert held_patients(lake)[1]["full_name"] == "Patient 1"


def test_devices_name_their_manufacturer_by_id(sync, lake, store):
    load(
        lake,
        MANUFACTURERS,
        {"manufacturer_id": 1, "manufacturer_name": "Acme"},
        {"manufacturer_id": 2, "manufacturer_name": "Bolt"},
    )
    load(
        lake,
        DEVICES,
        {"device_id": 10, "manufacturer": "Acme", "model": "M"},
        {"device_id": 11, "manufacturer": "Unknown"},
    )
    sync.exchange(MANUFACTURER)
    sync.exchange(DEVICE)
    devices = "SELECT device_id, manufacturer_id, model FROM DeviceStaticInfo ORDER BY 1"
    assert store.query(devices) == [(10, 1, "M"), (11, None, None)]
    edit(store, "UPDATE DeviceStaticInfo SET manufacturer_id = 2 WHERE device_id = 10")
    edit(store, "UPDATE DeviceStaticInfo SET model = 'N' WHERE device_id = 11")
    sync.exchange(DEVICE)
    rows = held(lake, DEVICES, datetime.now(UTC)).select("device_id", "manufacturer", "model").rows()
    assert rows == [(10, "Bolt", "M"), (11, "Unknown", "N")]
    # A manufacturer that becomes known is seen at its devices.
    load(lake, MANUFACTURERS, {"manufacturer_id": 3, "manufacturer_name": "Unknown"})
    sync.exchange(DEVICE)
    assert store.query(devices) == [(10, 2, "M"), (11, 3, "N")]


def test_subscribers_and_subscriptions(sync, lake, store):
    load(lake, SUBSCRIBERS, {"subscriber_id": 1, "name": "Dr A", "type": "doctor", "channels": "TELEGRAM_A"})
    subscription = {"subscription_id": 1, "subscriber_id": 1, "tier": 0, "minimum_severity": "urgent"}
    load(
        lake,
        SUBSCRIPTIONS,
        subscription | {"scope": "patient:7"},
        subscription | {"subscription_id": 2, "scope": "group:icu"},
    )
    sync.exchange(SUBSCRIBER)
    sync.exchange(SUBSCRIBED)
    assert store.query("SELECT name, contact_details FROM Subscriber") == [("Dr A", "TELEGRAM_A")]
    rows = "SELECT subscription_id, patient_id, group_name, tier FROM SubscribedPatients ORDER BY 1"
    assert store.query(rows) == [(1, 7, None, 0), (2, None, "icu", 0)]
    edit(store, "INSERT INTO SubscribedPatients (subscriber_id, patient_id) VALUES (1, 8)")
    edit(store, "UPDATE Subscriber SET contact_details = 'https://secret.example/token'")
    edit(store, "INSERT INTO SubscribedPatients (subscriber_id) VALUES (1)")
    assert "patient_id or group_name" in sync.exchange(SUBSCRIBED).problem
    assert "no name of a secret" in sync.exchange(SUBSCRIBER).problem
    found = held(lake, SUBSCRIPTIONS, datetime.now(UTC)).select("subscription_id", "scope", "minimum_severity").rows()
    assert found == [(1, "patient:7", "urgent"), (2, "group:icu", "urgent"), (3, "patient:8", "warning")]
