"""Reference data of the synthetic patients: it fits the streams that are generated, and may be loaded from a file."""

import json
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from assets.reference.files import rows_of
from assets.reference.tables import REFERENCES
from generator.reference import reference_rows
from generator.streams import events

START = datetime(2026, 11, 23, tzinfo=UTC)
ROWS = reference_rows(50)


def ids(table: str, key: str) -> set[int]:
    return {row[key] for row in ROWS[table]}


@pytest.mark.parametrize("reference", [each for each in REFERENCES if each.short in ROWS], ids=lambda each: each.short)
def test_rows_are_what_a_file_may_hold(reference):
    schema = {name: reference.table.schema[name] for name in reference.cells}
    frame = pl.DataFrame(ROWS[reference.short], schema=schema)
    assert rows_of(reference, frame.write_csv(), date(2026, 1, 1)).equals(frame)


@pytest.mark.parametrize("stream", ["glucose", "devices", "vitals"])
def test_every_patient_and_device_of_a_stream_is_known(stream):
    made = events(stream, start=START, spacing=timedelta(minutes=5), patients=50, count=300, variations=0)
    readings = [json.loads(event.body) for event in made]
    assert {each["device_id"] for each in readings} <= ids("devices", "device_id")
    assert {each["patient_id"] for each in readings if "patient_id" in each} <= ids("patients", "patient_id")


def test_a_seed_gives_the_same_people_however_many_there_are():
    assert reference_rows(50) == ROWS
    assert reference_rows(20)["patients"] == ROWS["patients"][:20]
    assert reference_rows(50, seed=1)["patients"] != ROWS["patients"]


def test_ids_are_unique_also_where_numbers_of_monitors_are_those_of_wearables():
    devices = reference_rows(4010)["devices"]
    assert len({each["device_id"] for each in devices}) == len(devices) == 2 * 4010 - 10
    assert {each["patient_id"] for each in devices if each["device_id"] == 5001} == {4001}


def test_subscriptions_are_of_subscribers_and_about_those_there_are():
    groups = {row["groups"] for row in ROWS["patients"]}
    known = {f"patient:{number}" for number in ids("patients", "patient_id")} | {f"group:{each}" for each in groups}
    assert {row["scope"] for row in ROWS["subscriptions"]} <= known
    assert {row["subscriber_id"] for row in ROWS["subscriptions"]} == ids("subscribers", "subscriber_id")
    assert {row["manufacturer"] for row in ROWS["devices"]} <= {
        row["manufacturer_name"] for row in ROWS["manufacturers"]
    }
