"""The client of folders of documents, on a disk and in Azure's storage."""

import hashlib
import os
from datetime import date
from pathlib import Path
from random import Random
from typing import Any

import fsspec
import polars as pl
import pytest

from assets.clinical.contract import conform
from assets.clinical.silver import read_documents
from assets.clinical.sources import DOCUMENTS
from generator.hospital import dicom
from resources.batch_files import FolderSource
from resources.batch_json_lines import JsonLinesSource
from resources.batch_source import UNREADABLE, BatchSourceError
from tests.services.azurite import ACCOUNT, Azurite

IMAGE = dicom(17, date(2026, 11, 20), Random(0))


def pull(source: Any, since: bytes | None = None) -> tuple[pl.DataFrame, bytes | None]:
    frames = []
    for pulled in source.pull(since):
        frames.append(pulled.rows)
        since = pulled.cursor
    frames = [frame for frame in frames if frame.height]
    return pl.concat(frames, how="diagonal_relaxed") if frames else pl.DataFrame({"path": []}), since


def folder(path: Path, **options: Any) -> FolderSource:
    return FolderSource("documents", str(path), "PULSELAKE_DOCUMENTS_URL", **options)


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    root = tmp_path / "documents"
    (root / "patient-17").mkdir(parents=True)
    (root / "patient-17" / "Befund-Übersicht.txt").write_text("gut")
    (root / "patient-17" / "ct").write_bytes(IMAGE)
    (root / "patient-18-damaged.dcm").write_bytes(bytes(128) + b"DICM" + b"\xff" * 40)
    return root


def test_files_are_described_and_dicom_headers_are_read(documents):
    rows = pull(folder(documents))[0].sort("path")
    assert rows["path"].to_list() == ["patient-17/Befund-Übersicht.txt", "patient-17/ct", "patient-18-damaged.dcm"]
    assert rows["sha256"][0] == hashlib.sha256(b"gut").hexdigest()
    assert rows["is_dicom"].to_list() == [False, True, True]
    image = rows.row(1, named=True)
    assert (image["dicom_patient_id"], image["dicom_modality"], image["dicom_rows"]) == ("17", "CT", 16)
    assert image["dicom_study_date"] == "20261120"
    assert rows["dicom_patient_id"][2] is None


def test_silver_knows_whose_a_document_is(documents):
    came = conform(DOCUMENTS, pull(folder(documents))[0].sort("path"), {})
    assert came.wrong == ()
    found = read_documents(came.rows)
    assert found["reason"].to_list() == [None] * 3
    assert found["patient_id"].to_list() == [17, 17, 18]
    assert found["kind"].to_list() == ["txt", "dicom", "dicom"]
    assert found["studied_on"].to_list() == [None, date(2026, 11, 20), None]


def test_only_what_changed_is_read_again(documents):
    source = folder(documents, piece_files=1)
    rows, cursor = pull(source)
    assert rows.height == 3
    assert pull(source, cursor)[0].height == 0
    (documents / "patient-17" / "ct").write_bytes(IMAGE + b"\0")
    (documents / "new.pdf").write_bytes(b"%PDF")
    old = documents.parent / "old.pdf"
    old.write_bytes(b"%PDF")
    os.utime(old, (1e9, 1e9))
    old.rename(documents / "moved-here-with-an-old-date.pdf")
    rows, cursor = pull(source, cursor)
    assert sorted(rows["path"]) == ["moved-here-with-an-old-date.pdf", "new.pdf", "patient-17/ct"]
    assert pull(source, cursor)[0].height == 0


def test_contents_are_copied_once_by_their_hash(documents, tmp_path):
    (documents / "same.txt").write_text("gut")
    copies = tmp_path / "copies"
    rows, _ = pull(folder(documents, copies=(str(copies), {})))
    assert {file.name for file in copies.iterdir()} == set(rows["sha256"])
    assert len(set(rows["sha256"])) == 3
    assert (copies / hashlib.sha256(b"gut").hexdigest()).read_text() == "gut"
    written = {file: file.stat().st_mtime_ns for file in copies.iterdir()}
    pull(folder(documents, copies=(str(copies), {})))
    assert {file: file.stat().st_mtime_ns for file in copies.iterdir()} == written


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(BatchSourceError, match=r"documents: .*no such folder.*PULSELAKE_DOCUMENTS_URL"):
        pull(folder(tmp_path / "none"))


@pytest.mark.service
def test_blobs_are_read_like_files(azurite: Azurite, tmp_path):
    azurite.create_container("scans")
    options = {"connection_string": azurite.connection_string, "account_name": ACCOUNT}
    store = fsspec.filesystem("abfs", **options)
    store.pipe({"scans/in/patient-17/ct.dcm": IMAGE, "scans/in/patient-17/Übersicht.txt": b"gut"})
    copies = ("abfs://scans/copies", options)
    source = FolderSource("documents", "abfs://scans/in", "PULSELAKE_DOCUMENTS_URL", options, copies=copies)
    rows, cursor = pull(source)
    assert sorted(rows["path"]) == ["patient-17/ct.dcm", "patient-17/Übersicht.txt"]
    assert rows.sort("path")["dicom_modality"].to_list() == ["CT", None]
    assert sorted(rows["sha256"]) == sorted(hashlib.sha256(each).hexdigest() for each in (IMAGE, b"gut"))
    store.invalidate_cache()
    assert {path.rpartition("/")[2] for path in store.ls("scans/copies", detail=False)} == set(rows["sha256"])
    assert pull(source, cursor)[0].height == 0
    store.pipe("scans/in/new.txt", b"neu")
    assert pull(source, cursor)[0]["path"].to_list() == ["new.txt"]
    with pytest.raises(BatchSourceError, match="no such folder"):
        pull(FolderSource("documents", "abfs://scans/none", "PULSELAKE_DOCUMENTS_URL", options))


def test_lines_are_read_once_also_where_files_grow(tmp_path):
    source = JsonLinesSource("device_events", tmp_path, "PULSELAKE_DEVICE_EVENTS_URL", piece_rows=2)
    first, second = tmp_path / "2026-11-19.jsonl", tmp_path / "2026-11-20.jsonl"
    first.write_text('{"id": "a", "value": 1}\n{"id": "b"}\n\n{"id": "c"}\nnot json\n')
    second.write_text('{"id": "d"}\n{"id": "half')
    rows, cursor = pull(source)
    assert rows["id"].drop_nulls().to_list() == ["a", "b", "c", "d"]
    assert rows[UNREADABLE].drop_nulls().to_list() == ['"not json"']
    assert pull(source, cursor)[0].height == 0
    with second.open("a") as file:
        file.write('-written"}\n')
    rows, cursor = pull(source, cursor)
    assert rows["id"].to_list() == ["half-written"]
    first.write_text('{"id": "e"}\n')
    assert pull(source, cursor)[0]["id"].to_list() == ["e"]


def test_the_last_line_may_have_no_end_and_the_first_one_a_byte_order_mark(tmp_path):
    source = JsonLinesSource("device_events", tmp_path, "PULSELAKE_DEVICE_EVENTS_URL")
    file = tmp_path / "events.jsonl"
    file.write_bytes(b'\xef\xbb\xbf{"id": "a"}\r\n{"id": "b"}')
    rows, cursor = pull(source)
    assert rows["id"].to_list() == ["a", "b"]
    assert pull(source, cursor)[0].height == 0
    with file.open("ab") as opened:
        opened.write(b'\r\n{"id": "c"}')
    rows, cursor = pull(source, cursor)
    assert rows["id"].to_list() == ["c"]


def test_a_folder_of_lines_that_is_not_there_is_named(tmp_path):
    with pytest.raises(BatchSourceError, match=r"device_events: .*PULSELAKE_DEVICE_EVENTS_URL"):
        pull(JsonLinesSource("device_events", tmp_path / "none", "PULSELAKE_DEVICE_EVENTS_URL"))
