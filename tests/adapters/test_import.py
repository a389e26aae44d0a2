"""`pulselake import` as its users meet it: what a dry run says, what is published, and what a second import adds."""

import json
import shutil
import sqlite3
import zipfile
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import pytest

from assets.devices.assets import CONTRACT as DEVICES
from assets.glucose.assets import CONTRACT as GLUCOSE
from assets.stream.contract import Contract
from assets.stream.session import SessionLimits
from assets.stream.store import StreamStore
from assets.vitals.assets import CONTRACT as VITALS
from orchestration.importing import Found, ImportRefusedError, _parts
from resources.event_hubs import EventHubsNamespace
from resources.lake import Lake
from resources.settings import Settings
from tests.adapters.samples_as_events import SAMPLES
from tests.midnight import wait_out_midnight
from tests.orchestration.commands import CommandLine, command_line, end
from tests.stream.scenarios import run_session


@pytest.fixture
def command(tmp_path: Path) -> CommandLine:
    """A home with the samples beside it, and their identities loaded."""
    command = command_line(tmp_path)
    shutil.copytree(SAMPLES, tmp_path / "samples")
    loaded = command.invoke("reference", "load", "identity", SAMPLES / "identity.csv", "--valid-from", "2020-01-01")
    assert "reference/identity: 48 added" in loaded.out
    return command


def test_a_dry_run_says_what_would_become_of_each_record_and_publishes_nothing(command: CommandLine):
    # Nothing listens where the hub would be.
    done = command.invoke("import", SAMPLES / "dexcom_clarity_en.csv", "--patient", "clarity-upload-1", "--dry-run")
    assert done.out.splitlines() == [
        "dexcom_clarity_en.csv (clarity): would publish 1 event to glucose_readings",
        "  readings: glucose_readings 5",
        "  skipped, since they are no readings of a stream: preamble 6, Carbs 1, Insulin 1, calibration 1",
        "  for quarantine: bad_type:glucose_level 1, implausible 1, missing_field:Glucose Value 1, "
        "missing_field:Timestamp 1, unknown_device 1",
        "  repeats of readings of the file: 1",
    ]


def test_a_patient_whom_nobody_knows_is_told_of(command: CommandLine):
    done = command.invoke("import", SAMPLES / "libreview_us.csv", "--patient", "a-slip", "--dry-run")
    assert "'a-slip' is no patient of 'abbott' in reference/identity" in " ".join(done.err.split())
    done = command.invoke("import", SAMPLES / "libreview_us.csv", "--patient", "lv-upload-1", "--dry-run")
    assert "is no patient" not in done.err
    # FHIR names its patients itself.
    done = command.invoke("import", SAMPLES / "fhir_bundle.json", "--patient", "a-slip", "--dry-run")
    assert "is no patient" not in done.err


def test_a_dry_run_of_a_phones_zip_tells_of_all_streams(command: CommandLine, tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
        archive.write(SAMPLES / "apple_export.xml", "apple_health_export/export.xml")
        archive.writestr("apple_health_export/export_cda.xml", "<ClinicalDocument/>")
        archive.writestr("apple_health_export/routes/route.gpx", "<gpx/>")
        archive.writestr("apple_health_export/electrocardiograms/ecg_2026-06-01.csv", "Name,Anna\nUnit,µV\n\n-12.5\n")
    done = command.invoke("import", tmp_path / "export.zip", "--patient", "hk-upload-1", "--dry-run")
    assert "would publish 1 event to glucose_readings, 1 event to vitals" in done.out
    assert "glucose_readings 3" in done.out
    assert "vitals 5" in done.out
    assert "in_correlation 2" in done.out
    assert "StepCount 1" in done.out
    assert "Electrocardiogram 1" in done.out
    assert "ExportDate" not in done.out


def test_messages_that_an_iot_hub_routed_to_storage_are_a_file_too(command: CommandLine):
    done = command.invoke("import", SAMPLES / "iothub_storage.ndjson", "--dry-run")
    assert "iothub_storage.ndjson (iot-hub-routing): would publish 1 event to glucose_readings" in done.out
    assert "  readings: glucose_readings 5" in done.out
    assert "  for quarantine: bad_base64 1" in done.out


def test_an_object_in_own_words_in_a_file_goes_to_the_stream_whose_words_it_has(command: CommandLine, tmp_path: Path):
    body = {"patient_id": 7, "device_id": 9, "heart_rate": 71, "timestamp": "2026-06-01T08:00:00Z"}
    file = tmp_path / "routed.ndjson"
    file.write_text(json.dumps({"SystemProperties": {"connectionDeviceId": "new"}, "Body": body}) + "\n")
    done = command.invoke("import", file, "--dry-run")
    assert "would publish 1 event to vitals" in done.out
    assert "  readings: vitals 1" in done.out


def test_a_file_that_does_not_say_whose_it_is_is_not_published_without_a_patient(command: CommandLine):
    done = command.invoke("import", SAMPLES / "libreview_us.csv", code=1)
    assert "libreview_us.csv: a file of libreview does not say whose it is, so nothing was published." in done.err
    assert "abbott,patient,my-upload,7,,Europe/Lisbon" in done.err.replace("\n", " ")


def test_an_order_of_day_and_month_that_the_file_does_not_tell_is_said(command: CommandLine):
    file = SAMPLES / "libreview_ambiguous.csv"
    unclear = command.invoke("import", file, "--patient", "lv-upload-3", "--dry-run")
    assert "ambiguous_date 5" in unclear.out
    said = command.invoke("import", file, "--patient", "lv-upload-3", "--date-order", "day-first", "--dry-run")
    assert "readings: glucose_readings 5" in said.out
    assert "no such order" in command.invoke("import", file, "--date-order", "dmy", code=1).err


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.csv", b"a,b\n1,2\n", "nothing that is known is in it"),
        ("a.json", b'{"a": 1}', "nothing that is known is in it"),
        ("a.zip", b"no zip", "the zip cannot be read"),
        ("a.xml", b"<HealthData><Record", "or it ends too early"),
        ("a.csv", (SAMPLES / "libreview_us.csv").read_text().encode("utf-16"), "the file is no UTF-8"),
        ("a.csv", (SAMPLES / "dexcom_clarity_en.csv").read_text().encode("utf-16"), "the file is no UTF-8"),
        ("a.json", (SAMPLES / "nightscout_entries.json").read_text().encode("utf-16"), "the file is no UTF-8"),
        ("a.json", '[{"sgv": 120, "device": "xDrip é"}]'.encode("latin-1"), "the file is no UTF-8"),
        ("a.zip", b"PK\5\6" + bytes(18), "there is no file of a known kind in the zip"),
    ],
)
def test_a_file_that_cannot_be_imported_is_told_of(
    command: CommandLine, tmp_path: Path, name: str, content: bytes, told: str
):
    (tmp_path / name).write_bytes(content)
    done = command.invoke("import", tmp_path / name, "--patient", "lv-upload-1", "--dry-run", code=1)
    assert told in " ".join(done.err.split())


def test_a_temporary_folder_that_is_full_is_told_of(monkeypatch: pytest.MonkeyPatch):
    def full(*_: object, **__: object) -> sqlite3.Connection:
        connection = sqlite3.connect(":memory:", isolation_level=None)
        connection.execute("PRAGMA max_page_count = 20")
        return connection

    monkeypatch.setattr("assets.adapters.files.sqlite3", SimpleNamespace(connect=full, Connection=sqlite3.Connection))
    record = (
        '<Record type="HKQuantityTypeIdentifierHeartRate" unit="count/min" startDate="2026-06-01 10:00:00 +0200" '
        'endDate="2026-06-01 10:00:00 +0200" sourceName="Watch" value="60"/>'
    )
    export = f"<HealthData>{record * 1_000}</HealthData>".encode()
    with pytest.raises(ImportRefusedError, match=r"in order in the temporary folder \(database or disk is full\)"):
        list(_parts("export.xml", BytesIO(export), [], Found()))


def test_what_systems_put_beside_files_is_not_imported(command: CommandLine, tmp_path: Path):
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("._a.csv", "~$a.csv", ".hidden.json"):
        (folder / name).write_bytes(b"\0\5\x16\7")
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        archive.write(SAMPLES / "libreview_us.csv", "a.csv")
        archive.writestr("__MACOSX/._a.csv", b"\0\5\x16\7")
    done = command.invoke("import", folder, "--patient", "lv-upload-1", "--dry-run")
    assert "a.zip (libreview): would publish 1 event to glucose_readings" in done.out


def test_an_unknown_source_and_an_empty_folder_are_told_of(command: CommandLine, tmp_path: Path):
    done = command.invoke("import", SAMPLES / "libreview_us.csv", "--source", "garmin", "--dry-run", code=1)
    assert "There is no format 'garmin'" in done.err
    (tmp_path / "empty").mkdir()
    assert "has no file of a known kind" in command.invoke("import", tmp_path / "empty", code=1).err


def counts(lake: Lake, contract: Contract) -> tuple[int, int]:
    """The rows of silver, and the duplicates."""
    store = StreamStore(contract, lake)
    days = store.bronze.dates("ingest_date")
    return store.silver.count(), sum(store.duplicates(day) for day in days)


@pytest.mark.slow
@pytest.mark.service
def test_imported_files_come_in_through_the_hubs_and_a_second_import_adds_nothing(command: CommandLine, tmp_path: Path):
    wait_out_midnight(120)
    hub = command.start_hub()
    try:
        files = {
            "apple_export.xml": "hk-upload-1",
            "libreview_de.csv": "lv-upload-2",
            "nightscout_devicestatus.json": "ns-site-a",
            "dexcom_v3_egvs.json": None,
        }

        for _ in range(2):
            for name, patient in files.items():
                command.invoke("import", SAMPLES / name, *(["--patient", patient] if patient else []))
        hubs = EventHubsNamespace(Settings(hub_port=command.port).local_connection_string)
        lake, to_the_end = Lake(str(command.home / "lake")), SessionLimits(until_caught_up=True)
        for contract, name in ((GLUCOSE, "glucose_readings"), (VITALS, "patient-data"), (DEVICES, "device_readings")):
            run_session(lake, hubs.source(name), contract=contract, limits=to_the_end, clock=lambda: datetime.now(UTC))
        assert counts(lake, GLUCOSE) == (3 + 9 + 8, 3 + 9 + 8)
        assert counts(lake, VITALS) == (5, 5)
        assert counts(lake, DEVICES) == (3, 3)
        readings = lake.table(GLUCOSE.tables.silver).scan().collect()
        assert {*readings["patient_id"]} == {111, 106, 103}
    finally:
        end(hub)


def test_kinds_that_are_no_names_are_told_as_others(command: CommandLine, tmp_path: Path):
    kinds = ["Patient", "\ud800", "[/]", "x" * 61]
    file = tmp_path / "resources.ndjson"
    file.write_text("".join(json.dumps({"resourceType": kind}) + "\n" for kind in kinds))
    done = command.invoke("import", file, "--source", "fhir", "--patient", "someone", "--dry-run")
    assert "  skipped, since they are no readings of a stream: other 3, Patient 1" in done.out
