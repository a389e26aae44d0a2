"""The watched folder: each content is imported once, whatever its file is called, and one that fails stops no other."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import fsspec
import polars as pl
import pytest
from azure.storage.blob import BlobServiceClient

from assets.glucose.assets import CONTRACT as GLUCOSE
from assets.stream.checks import evaluate
from assets.stream.rederive import derive, swap
from assets.stream.session import SessionLimits
from assets.stream.store import StreamStore
from orchestration.sensors import watch_sensor
from orchestration.watched_files import WATCHED
from orchestration.watching import SETTLED_AFTER, Watched, due, folder_of, lines_of, look
from resources.dagster_resources import HubsResource, LakeResource
from resources.event_source import HubUnavailableError
from resources.lake import Lake
from resources.settings import Settings
from resources.sources import namespace_of
from resources.storage import lake_of
from resources.watched_folder import WatchedFolder, WatchedFolderError
from tests.adapters.samples_as_events import SAMPLES
from tests.adapters.test_avro import CAPTURED, ROUTED, avro, captured, routed
from tests.adapters.world import load_identity
from tests.emulator.hub import RunningHub
from tests.midnight import wait_out_midnight
from tests.services.azurite import ACCOUNT, Azurite
from tests.stream.scenarios import run_session
from tests.stream.tables import rows

OPERATIONS = (Path(__file__).parents[2] / "docs/operations.md").read_text()
HUBS = ["glucose_readings:2", "patient-data:2", "device_readings:2"]


@pytest.fixture(scope="module")
def hub() -> Iterator[RunningHub]:
    wait_out_midnight(90)
    with RunningHub(HUBS) as hub:
        yield hub


class Place:
    def __init__(self, folder: Path, hub: RunningHub) -> None:
        self.folder = folder / "watched"
        self.folder.mkdir()
        self.settings = Settings(home=folder / "home", event_hubs=hub.connection_string, watch=str(self.folder))
        load_identity(lake_of(self.settings))

    def put(self, sample: str, place: str) -> Path:
        target = self.folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(SAMPLES / sample, target)
        return target

    def look(self, later: timedelta = 2 * SETTLED_AFTER) -> Watched:
        return look(self.settings, now=lambda: datetime.now(UTC) + later)

    def session(self) -> None:
        run_session(
            lake_of(self.settings),
            namespace_of(self.settings).source("glucose_readings"),
            contract=GLUCOSE,
            limits=SessionLimits(until_caught_up=True),
            clock=lambda: datetime.now(UTC),
        )

    def noted(self) -> list[tuple[str, str, str | None]]:
        table = lake_of(self.settings).table(WATCHED).scan().collect().sort("looked_at", "place")
        return table.select("place", "status", "reason").rows()

    def published(self, stream: str) -> int:
        state = namespace_of(self.settings).source(self.settings.hub(stream)).state()
        return sum(tail.last + 1 for tail in state.tails.values())


@pytest.fixture
def place(tmp_path: Path, hub: RunningHub) -> Place:
    return Place(tmp_path, hub)


@pytest.mark.service
@pytest.mark.slow
def test_new_files_are_imported_once_and_whose_they_are_says_their_folder(place: Place):
    place.put("dexcom_clarity_en.csv", "clarity-upload-1/ann.csv")
    place.put("dexcom_v3_egvs.json", "loose.json")
    (place.folder / "clarity-upload-1" / ".half.csv").write_text("x")
    (place.folder / "clarity-upload-1" / "photo.jpg").write_text("x")
    before = place.published("glucose_readings")
    # A file that changed a moment ago may still be written.
    assert place.look(timedelta()).by_status == {}
    assert place.look().by_status == {"imported": 2}
    assert place.published("glucose_readings") == before + 2
    assert place.look().by_status == {}
    place.session()
    assert {103, 102} <= {*rows(lake_of(place.settings), "silver")["patient_id"]}
    # Renamed, moved and copied; and touched, without another content.
    (place.folder / "loose.json").rename(place.folder / "renamed.json")
    shutil.copy(place.folder / "renamed.json", place.folder / "copy.JSON")
    os.utime(place.folder / "clarity-upload-1" / "ann.csv", (1, 1))
    assert place.look().by_status == {"known": 3}
    assert place.look().by_status == {}
    # Another content under an old name is new.
    (place.folder / "renamed.json").write_bytes((SAMPLES / "dexcom_v3_egvs.json").read_bytes() + b"\n")
    assert place.look().by_status == {"imported": 1}
    assert place.published("glucose_readings") == before + 3
    assert lines_of(place.settings) == ["watched folder: 2 imported, 2 known"]


@pytest.mark.service
@pytest.mark.slow
def test_one_that_fails_stops_no_other_and_is_tried_again_when_the_folder_says_more(place: Place):
    place.put("libreview_ambiguous.csv", "a.csv")
    (place.folder / "b.zip").write_bytes(b"no zip")
    (place.folder / "c.json").write_text('{"a": 1}')
    place.put("dexcom_v3_egvs.json", "d.json")
    assert place.look().by_status == {"failed": 3, "imported": 1}
    reasons = {name: reason or "" for name, status, reason in place.noted() if status == "failed"}
    assert "does not say whose it is" in reasons["a.csv"]
    assert "the zip cannot be read" in reasons["b.zip"]
    assert "nothing that is known is in it" in reasons["c.json"]
    assert place.look().by_status == {}
    told = lines_of(place.settings)
    assert told[0] == "watched folder: 3 failed, 1 imported"
    assert any(line.startswith("  b.zip: ") for line in told)
    note = place.folder / "pulselake.toml"
    note.write_text("patient = 3")
    assert place.look().by_status == {"failed": 4}
    assert any("must be a text" in (reason or "") for _, _, reason in place.noted())
    note.write_text('patient = "lv-upload-3"\ndate_order = "day-first"\n')
    # What named its patient itself is sent again, and adds nothing.
    assert place.look().by_status == {"imported": 2, "failed": 2}
    assert [reason for _, status, reason in place.noted() if status == "imported"] == [None] * 3
    assert place.look().by_status == {}


@pytest.mark.service
@pytest.mark.slow
def test_a_file_that_is_moved_to_the_right_patient_is_imported_for_that_one_and_can_be_taken_back(tmp_path: Path):
    with RunningHub(HUBS) as hub:
        place = Place(tmp_path, hub)
        wrong = place.put("dexcom_clarity_en.csv", "clarity-upload-2/export.csv")
        assert place.look().by_status == {"imported": 1}
        place.session()
        lake = lake_of(place.settings)
        by_wrong = rows(lake, "silver")
        assert {*by_wrong["patient_id"]} == {118}
        right = place.folder / "clarity-upload-1" / "export.csv"
        right.parent.mkdir()
        wrong.rename(right)
        assert place.look().by_status == {"imported": 1}
        place.session()
        assert {*rows(lake, "silver")["patient_id"]} == {102, 118}
        # Back again, and elsewhere for the same patient: both have it already.
        shutil.copy(right, wrong)
        shutil.copy(right, right.parent / "copy.csv")
        assert place.look().by_status == {"known": 2}
        [(at, reason)] = [(name, reason or "") for name, status, reason in place.noted() if reason]
        assert at == "clarity-upload-1/export.csv"
        assert any(line.startswith(f"  {at}: its content was imported before for") for line in lines_of(place.settings))
        found = re.search(r"before for 'clarity-upload-2' on .* of the events (\w+)\.", reason)
        assert found is not None
        # As docs/operations.md says.
        steps = OPERATIONS.split("A file of the wrong patient")[1].split("```python\n")[1].split("```")[0]
        for text, said in (
            (".pulselake/lake", lake.root),
            ("THE_EVENTS", found[1]),
            ("THE_WRONG_PATIENT", "clarity-upload-2"),
        ):
            assert text in steps
            steps = steps.replace(text, said)
        exec(steps, {})
        derive(GLUCOSE, lake)
        swap(GLUCOSE, lake)
        left = rows(lake, "silver")
        assert {*left["patient_id"]} == {102}
        assert left.height == by_wrong.height
        now = datetime.now(UTC)
        assert [
            each.name
            for each in evaluate(StreamStore(GLUCOSE, lake), now.date(), now)
            if each.is_error and not each.passed
        ] == []


@pytest.mark.service
@pytest.mark.slow
def test_a_hub_that_is_away_notes_nothing(tmp_path: Path):
    with RunningHub(HUBS) as hub:
        place = Place(tmp_path, hub)
        place.put("dexcom_v3_egvs.json", "a.json")
        hub.kill()
        with pytest.raises(HubUnavailableError):
            place.look()
        assert place.noted() == []
        hub.start()
        assert place.look().by_status == {"imported": 1}


@pytest.mark.service
@pytest.mark.slow
def test_the_sensor_starts_a_run_for_new_files_only_and_names_none(
    place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    for name, value in (("HOME", tmp_path / "home"), ("WATCH", place.folder)):
        monkeypatch.setenv(f"PULSELAKE_{name}", str(value))
    with dg.DagsterInstance.ephemeral() as instance:

        def tick() -> Any:
            context = dg.build_sensor_context(instance, resources={"lake": LakeResource(), "hubs": HubsResource()})
            return watch_sensor().evaluate_tick(context)

        assert "nothing to do" in str(tick().skip_message)
        old = place.put("dexcom_v3_egvs.json", "a-person.json")
        os.utime(old, (1, 1))
        assert "0 new files" in str(tick().skip_message)
        monkeypatch.setattr("orchestration.watching.SETTLED_AFTER", timedelta(0))
        [request] = tick().run_requests or []
        assert "person" not in json.dumps([request.tags, request.run_config])
        shutil.rmtree(place.folder)
        assert "The watched folder could not be listed" in str(tick().skip_message)


@pytest.mark.service
@pytest.mark.slow
def test_a_folder_that_takes_long_to_be_listed_is_listed_for_a_tenth_of_the_time(
    place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    for name, value in (("HOME", tmp_path / "home"), ("WATCH", place.folder)):
        monkeypatch.setenv(f"PULSELAKE_{name}", str(value))
    monkeypatch.setattr("orchestration.watching.SETTLED_AFTER", timedelta(0))
    # When the sensor asks whether it may list, when listing begins, and when it ends.
    seconds = iter([1000.0, 1000.0, 1020.0, 1199.0, 1201.0, 1201.0, 1203.0, 1238.0, 1242.0, 1242.0, 1242.0])
    sensor = watch_sensor(lambda: next(seconds))
    with dg.DagsterInstance.ephemeral() as instance:

        def tick() -> Any:
            context = dg.build_sensor_context(instance, resources={"lake": LakeResource(), "hubs": HubsResource()})
            return sensor.evaluate_tick(context)

        assert "0 new files" in str(tick().skip_message)
        place.put("dexcom_v3_egvs.json", "a.json")
        assert tick().skip_message == "Listing the folder took 20 s; it is listed again in 1 s."
        # The run that it starts lists the folder too.
        assert len(tick().run_requests or []) == 1
        assert tick().skip_message == "Listing the folder took 2 s; it is listed again in 3 s."
        assert len(tick().run_requests or []) == 1


def test_a_file_whose_name_is_no_text_stops_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    folder = tmp_path / "watched"
    folder.mkdir()
    (folder / "good.csv").write_text("x")
    with open(os.fsencode(folder) + b"/b\xe9d.csv", "wb"):
        found = due(WatchedFolder(str(folder)), Lake(str(tmp_path / "lake")), datetime.now(UTC) + 2 * SETTLED_AFTER)
    assert [each.file.place for each in found] == ["good.csv"]
    assert "no UTF-8" in caplog.text


def test_a_look_takes_a_part_of_very_many_files(tmp_path: Path):
    (tmp_path / "watched" / "bed-7").mkdir(parents=True)
    names = ["bed-7/a.json", "bed-7/b.json", "c.json", "d.json"]
    for name in names:
        (tmp_path / "watched" / name).write_text("{}")
    settings = Settings(home=tmp_path / "home", watch=str(tmp_path / "watched"))
    folder, lake, later = folder_of(settings), lake_of(settings), datetime.now(UTC) + 2 * SETTLED_AFTER
    assert folder is not None
    found = due(folder, lake, later, most=3)
    assert [(each.file.place, each.said.binding) for each in found] == [
        ("bed-7/a.json", "bed-7"),
        ("bed-7/b.json", "bed-7"),
        ("c.json", None),
    ]


def test_a_folder_that_is_not_there_is_told_of_without_naming_files(tmp_path: Path):
    settings = Settings(home=tmp_path / "home", watch=str(tmp_path / "none"))
    folder = folder_of(settings)
    assert folder is not None
    with pytest.raises(WatchedFolderError, match="PULSELAKE_WATCH"):
        due(folder, lake_of(settings), datetime.now(UTC))
    assert folder_of(Settings(home=tmp_path)) is None
    assert look(Settings(home=tmp_path)).by_status == {}
    assert lake_of(settings).table(WATCHED).scan().select(pl.len()).collect().item() == 0


@pytest.mark.service
@pytest.mark.slow
def test_a_container_is_watched_like_a_folder(azurite: Azurite, place: Place, monkeypatch: pytest.MonkeyPatch):
    # Each name comes by a request of its own.
    monkeypatch.setattr("resources.watched_folder.PAGE", 1)
    azurite.create_container("exports")
    options = {"connection_string": azurite.connection_string, "account_name": ACCOUNT}
    store, _ = fsspec.core.url_to_fs("abfs://exports", **options)
    for name in ("in/bed-7/a.json", "in/b.json", "other/c.json"):
        store.pipe_file(f"exports/{name}", (SAMPLES / "dexcom_v3_egvs.json").read_bytes())
    store.pipe_file("exports/in/bed-7/pulselake.toml", b'zone = "Europe/Berlin"')
    store.pipe_file("exports/in/bed-7/.hidden.json", b"{}")
    # Accounts with folders of their own list them so; the name could be that of a file of an IoT Hub.
    with BlobServiceClient.from_connection_string(azurite.connection_string) as client:
        client.get_blob_client("exports", "in/2026").upload_blob(b"", metadata={"hdi_isfolder": "true"})
    lake = lake_of(place.settings)
    folder, now = WatchedFolder("abfs://exports/in", options), datetime.now(UTC)
    assert due(folder, lake, now) == []
    found = due(folder, lake, now + timedelta(minutes=1))
    assert [(each.file.place, each.said.binding, each.said.zone) for each in found] == [
        ("b.json", None, None),
        ("bed-7/a.json", "bed-7", "Europe/Berlin"),
    ]
    with folder.opened("b.json") as (file, sha256):
        assert file.read_bytes() == (SAMPLES / "dexcom_v3_egvs.json").read_bytes()
        assert file.name == f"{sha256}.json"


@pytest.mark.service
@pytest.mark.slow
def test_what_an_iot_hub_and_capture_write_into_a_container_is_imported(
    azurite: Azurite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    azurite.create_container("routed")
    options = {"ACCOUNT_NAME": ACCOUNT, "ACCOUNT_KEY": azurite.key, "ENDPOINT": azurite.blob_endpoint}
    for name, value in options.items():
        monkeypatch.setenv(f"AZURE_STORAGE_{name}", value)
    store, _ = fsspec.core.url_to_fs("abfs://routed", connection_string=azurite.connection_string, account_name=ACCOUNT)
    message = routed({"glucose_level": 120, "timestamp": "2026-06-01T07:55:00Z"})
    event = captured({"patient_id": 3, "device_id": 4, "glucose_level": 110, "timestamp": "2026-06-01T07:55:00Z"})
    whole = avro(CAPTURED, [event])
    for path, content in (
        ("my-iot-hub/00/2026/06/01/08/42", avro(ROUTED, [message])),
        ("my-namespace/glucose/0/2026/06/01/08/05/00.avro", whole),
        ("my-namespace/glucose/0/2026/06/01/08/10/00.avro", avro(CAPTURED, [])),
        ("my-namespace/glucose/0/2026/06/01/08/15/00.avro", whole[:-5]),
    ):
        store.pipe_file(f"routed/{path}", content)
    with RunningHub(HUBS) as hub:
        place = Place(tmp_path, hub)
        place.settings = place.settings.model_copy(update={"watch": "abfs://routed"})
        assert place.look().by_status == {"imported": 3, "failed": 1}
        assert place.look().by_status == {}
        [reason] = [reason for _, status, reason in place.noted() if status == "failed"]
        assert (reason or "").startswith("the file: the Avro file is damaged or ends too early, so nothing of it")
        place.session()
    found = rows(lake_of(place.settings), "silver").sort("patient_id")
    assert found.select("patient_id", "device_id", "glucose_mg_dl").rows() == [(3, 4, 110.0), (115, 9901, 120.0)]
