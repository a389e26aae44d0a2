"""Lists in JSON documents and zips, as openFDA's downloads have them."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from generator import publisher
from generator.events import NO_OBJECT, RECORDED
from generator.publisher import publish_file
from resources.records import RecordsError, records
from tests.stream.hubs import MemoryPublisher

REPORTS = [{"safetyreportid": "1", "a": [1, {"b": None}]}, {"safetyreportid": "2"}, {"x": 1.50}]
COMPACT = [json.dumps(each, separators=(",", ":")).encode() for each in REPORTS]


def document(folder: Path, value: Any, name: str = "reports.json") -> Path:
    file = folder / name
    file.write_bytes(value if isinstance(value, bytes) else json.dumps(value, indent=2).encode())
    return file


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("results", {"meta": {"results": 3}, "results": REPORTS}),
        ("data.results", {"data": {"n": 1, "results": REPORTS}}),
        ("a.b.c", {"a": {"b": {"c": REPORTS}}}),
    ],
)
def test_the_elements_of_a_list(tmp_path, name, value):
    assert [*records(document(tmp_path, value), name)] == COMPACT


def test_an_element_keeps_its_numbers_and_names(tmp_path):
    text = b'{"results": [ {"a" : 1.50,\n"a":12345678901234567890123, "t": "x  \\u00e9"} , 1.0,"a\\n b", [ 1, 2 ]]}'
    assert [*records(document(tmp_path, text), "results")] == [
        b'{"a":1.50,"a":12345678901234567890123,"t":"x  \\u00e9"}',
        b"1.0",
        b'"a\\n b"',
        b"[ 1, 2 ]",
    ]


def zipped(folder: Path, **members: Any) -> Path:
    file = folder / "reports.json.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in members.items():
            archive.writestr(name.replace("_", "."), value if isinstance(value, bytes) else json.dumps(value))
    return file


def test_the_members_of_a_zip_follow_each_other(tmp_path):
    file = zipped(tmp_path, a_json={"results": REPORTS[:2]}, read_txt=b"read me", b_JSON={"results": REPORTS[2:]})
    assert [*records(file, "results")] == COMPACT


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "reports.json: the file is no JSON, so nothing was used. Input data was truncated"),
        (b'{"results": [{"a": 1}, {"a"', "is no JSON"),
        (b'{"results": [1]}\n{"results": [2]}\n', "without --records if it has one body a line"),
        (b'{"meta": 1}', "there is no list under 'results', so nothing was used. Object missing required field"),
        (b'{"results": {"a": 1}}', "no list under 'results'.*Expected `array`, got `object`"),
        (b"[1, 2]", "no list under 'results'.*Expected `object`, got `array`"),
    ],
)
def test_a_document_without_the_list_is_explained_and_nothing_is_sent(tmp_path, content, said):
    hub = MemoryPublisher()
    with pytest.raises(RecordsError, match=said):
        publish_file(document(tmp_path, content), hub, records="results")
    with pytest.raises(RecordsError, match=said.replace("reports.json:", r"zip, b.json:")):
        publish_file(zipped(tmp_path, a_json={"results": REPORTS}, b_json=content), hub, records="results")
    assert hub.published == []


def test_a_zip_that_is_none_or_has_nothing_is_explained(tmp_path):
    with pytest.raises(RecordsError, match=r"no member \*\.json"):
        [*records(zipped(tmp_path, a_txt=b"x"), "results")]
    with pytest.raises(RecordsError, match="the zip is broken, so nothing was used"):
        [*records(document(tmp_path, b"PK no zip", "x.zip"), "results")]
    broken = bytearray(zipped(tmp_path, a_json={"results": REPORTS * 50}).read_bytes())
    broken[60:90] = bytes(30)
    with pytest.raises(RecordsError, match="the zip is broken, so nothing was used"):
        [*records(document(tmp_path, bytes(broken), "y.zip"), "results")]


def test_each_record_is_an_event_with_the_key_of_its_report(tmp_path):
    hub = MemoryPublisher()
    done = publish_file(document(tmp_path, {"results": [*REPORTS, 5, None, "text"]}), hub, records="results")
    assert hub.published == [*zip(["1", "2", ""], COMPACT, strict=True), ("", b"5"), ("", b"null"), ("", b'"text"')]
    assert done.by_label == {RECORDED: 3, NO_OBJECT: 3}


def test_without_the_option_lines_are_bodies(tmp_path):
    file = document(tmp_path, {"results": REPORTS})
    assert [event.body for event in publisher.recorded(file)] == file.read_bytes().split(b"\n")
