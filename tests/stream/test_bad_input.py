"""Each kind of bad input lands where it should, and the batch around it goes on."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from assets.devices.assets import CONTRACT as DEVICES
from tests.stream import oracle
from tests.stream.batches import differences, micro_batch, process, process_bodies
from tests.stream.scenarios import NOON, PLAIN, body, hub_with, lake_in, reading, run_session, shuffled
from tests.stream.tables import assert_exact, rows

GOOD = ""
MEGABYTE = 1 << 20


def raw(**fields: str) -> bytes:
    """A good reading in which some fields are given as JSON text."""
    texts = {name: json.dumps(value) for name, value in reading().items()} | fields
    return ("{" + ", ".join(f'"{name}": {text}' for name, text in texts.items()) + "}").encode()


def at(moment: Any) -> bytes:
    return body(reading(timestamp=moment))


ALONE: dict[str, tuple[bytes, str]] = {
    "an empty body": (b"", "not_json"),
    "blanks": (b" \n\t", "not_json"),
    "a zero byte": (b"\x00", "not_json"),
    "truncated JSON": (body(reading())[:-5], "not_json"),
    "text behind the JSON": (body(reading()) + b"x", "not_json"),
    "what Python prints": (str(reading()).encode(), "not_json"),
    "NaN for a value": (raw(glucose_level="NaN"), "not_json"),
    "Infinity for a value": (raw(glucose_level="Infinity"), "not_json"),
    "NaN in an unknown field": (raw(extra="NaN"), "not_json"),
    "UTF-16": (json.dumps(reading()).encode("utf-16"), "not_json"),
    "invalid UTF-8 in a value": (body(reading(location="@")).replace(b"@", b"\xff"), "not_json"),
    "invalid UTF-8 in an unknown value": (body(reading(extra="@")).replace(b"@", b"\xff"), "not_json"),
    "invalid UTF-8 in an unknown name": (body(reading(**{"@": 1})).replace(b"@", b"\xff"), "not_json"),
    "invalid UTF-8 in an array": (body(reading(), reading(1, location="@")).replace(b"@", b"\xff"), "not_json"),
    "arrays in arrays without end": (b"[" * 100_000, "not_json"),
    "an unknown field of endless depth": (raw(extra="[" * 50_000 + "]" * 50_000), "not_json"),
    "a megabyte of nonsense": (b"x" * MEGABYTE, "not_json"),
    "a byte order mark": (b"\xef\xbb\xbf" + body(reading()), GOOD),
    "two byte order marks": (b"\xef\xbb\xbf" * 2 + body(reading()), "not_json"),
    "blanks around": (b"\r\n " + body(reading()) + b"\n", GOOD),
    "null": (b"null", "not_an_object"),
    "true": (b"true", "not_an_object"),
    "a number": (b"12", "not_an_object"),
    "a text": (b'"text"', "not_an_object"),
    "an empty array": (b"[]", "not_an_object"),
    "an array in an array": (b"[" + body(reading(), reading(1)) + b"]", "not_an_object"),
    "an empty object": (b"{}", "missing_field:patient_id"),
    "a field that is missing": (
        json.dumps({k: v for k, v in reading().items() if k != "device_id"}).encode(),
        "missing_field:device_id",
    ),
    "a value that is null": (raw(glucose_level="null"), "missing_field:glucose_level"),
    "a timestamp that is null": (raw(timestamp="null"), "missing_field:timestamp"),
    "an optional field that is null": (raw(location="null", unit="null"), GOOD),
    "a location that is a number": (raw(location="5"), "bad_type:location"),
    "an unknown unit": (body(reading(unit="mol")), "bad_type:unit"),
    "the other unit": (body(reading(value=5.5, unit="mmol/L")), GOOD),
    "the other unit as others spell it": (body(reading(value=5.5, unit=" MMOL ")), GOOD),
    "an empty unit": (body(reading(unit="")), "bad_type:unit"),
    "a unit of full-width letters": (body(reading(unit="ｍｇ/ｄＬ")), "bad_type:unit"),
    "mmol/L without its unit": (body(reading(value=5.6)), "implausible_unit"),
    "mmol/L without its unit, as text": (body(reading(value="11.1")), "implausible_unit"),
    "a sensor's error code": (body(reading(value=5)), "sensor_code"),
    "a sensor's error code with a unit": (body(reading(value=12, unit="mg/dl")), "sensor_code"),
    "too low for any meter": (body(reading(value=1.0, unit="mmol/L")), "implausible"),
    "a fraction too low for any meter": (body(reading(value=5.6, unit="mg/dL")), "implausible"),
    "the lowest that meters show": (body(reading(value=1.1, unit="mmol/L")), GOOD),
    "an id as text": (raw(patient_id='"5"'), "bad_type:patient_id"),
    "an id that is true": (raw(patient_id="true"), "bad_type:patient_id"),
    "an id with decimals": (raw(patient_id="5.5"), "bad_type:patient_id"),
    "an id of 31 digits": (raw(patient_id="1" + "0" * 30), "bad_type:patient_id"),
    "the largest id": (raw(patient_id=str(2**63 - 1)), GOOD),
    "an id above the largest": (raw(patient_id=str(2**63)), "bad_type:patient_id"),
    "the smallest id": (raw(patient_id=str(-(2**63))), GOOD),
    "an infinite id": (raw(patient_id="1e400"), "bad_type:patient_id"),
    "a value that is true": (raw(glucose_level="true"), "bad_type:glucose_level"),
    "a value that is an object": (raw(glucose_level="{}"), "bad_type:glucose_level"),
    "a value that is a word": (raw(glucose_level='"unknown"'), "bad_type:glucose_level"),
    "a value that is an empty text": (raw(glucose_level='""'), "bad_type:glucose_level"),
    "a value as text": (raw(glucose_level='" 120.5 "'), GOOD),
    "NaN as text": (raw(glucose_level='"NaN"'), "bad_type:glucose_level"),
    "Infinity as text": (raw(glucose_level='"inf"'), "bad_type:glucose_level"),
    "a value with a comma": (raw(glucose_level='"5,6"'), "bad_type:glucose_level"),
    "a value with an underscore": (raw(glucose_level='"1_0"'), "bad_type:glucose_level"),
    "a hexadecimal value": (raw(glucose_level='"0x64"'), "bad_type:glucose_level"),
    "a value in digits of another script": (raw(glucose_level='"١٢٠"'), "bad_type:glucose_level"),
    "a value with one digit of another script": (raw(glucose_level='"12٠"'), "bad_type:glucose_level"),
    "a value as text with an exponent": (raw(glucose_level='"1.2e2"'), GOOD),
    "a value as text that is too large": (raw(glucose_level='"1e400"'), "implausible"),
    "an infinite value": (raw(glucose_level="1e400"), "implausible"),
    "a value of 31 digits": (raw(glucose_level="1" + "0" * 30), "implausible"),
    "a value of 400 digits": (raw(glucose_level="1" * 400), "bad_type:glucose_level"),
    "a value of zero": (raw(glucose_level="0"), "implausible"),
    "the smallest number": (raw(glucose_level="5e-324"), "implausible_unit"),
    "the smallest value": (raw(glucose_level="20"), GOOD),
    "a negative value": (raw(glucose_level="-1"), "implausible"),
    "the largest value": (raw(glucose_level="1000"), GOOD),
    "a value above the largest": (raw(glucose_level="1000.0001"), "implausible"),
    "the sentinel for too low": (raw(glucose_level='"Low"'), GOOD),
    "the sentinel for too high": (raw(glucose_level='"HIGH"'), GOOD),
    "below the range": (raw(glucose_level='"< 2.2 mmol/L"'), GOOD),
    "below what may be anything": (raw(glucose_level='"<100"'), "bad_type:glucose_level"),
    "a word in two units": (raw(glucose_level='"<2.2 mmol/L"', unit='"mg/dL"'), "bad_type:unit"),
    "half of a surrogate pair": (raw(location='"\\ud800"'), "bad_type:location"),
    "half of a surrogate pair in an unknown field": (raw(extra='"\\ud800"'), GOOD),
    "half of a surrogate pair as a name": (body(reading(**{"\ud800": 1})), GOOD),
    "a pair of surrogates": (raw(location='"\\ud83d\\ude00"'), GOOD),
    "a zero character in a text": (raw(location='"a\\u0000b"'), GOOD),
    "a field twice": (body(reading())[:-1] + b', "patient_id": 2}', GOOD),
    "a field twice, the last one bad": (body(reading())[:-1] + b', "patient_id": "x"}', "bad_type:patient_id"),
    "a field twice, the first one bad": (b'{"patient_id": "x", ' + body(reading())[1:], GOOD),
    "unknown fields": (body(reading(battery=5, nested={"a": [1, {"b": None}]})), GOOD),
    "a megabyte in a known field": (body(reading(location="x" * MEGABYTE)), GOOD),
    "a megabyte in an unknown field": (body(reading(extra="x" * MEGABYTE)), GOOD),
    "an unknown number of 5000 digits": (raw(extra="1" * 5000), GOOD),
    "ten minutes ahead": (at((NOON + timedelta(minutes=10)).strftime(PLAIN)), GOOD),
    "more than ten minutes ahead": (at((NOON + timedelta(minutes=10, seconds=1)).strftime(PLAIN)), "in_the_future"),
    "the year 0": (at("0000-01-01 00:00:00"), "bad_timestamp"),
    "before the year 1": (at("0001-01-01T00:00:00+05:00"), "bad_timestamp"),
    "a year with a sign": (at("+10000-01-01 00:00:00"), "bad_timestamp"),
    "beyond the year 9999": (at("9999-12-31T23:59:59-05:00"), "bad_timestamp"),
    "the year 9999": (at("9999-12-31 23:59:59"), "in_the_future"),
    "an epoch of seconds": (at(NOON.timestamp()), GOOD),
    "an epoch of microseconds": (at(NOON.timestamp() * 1e6), GOOD),
    "an epoch as text": (at("1795424400000"), GOOD),
    "what .NET writes": (at("/Date(1795424400000+0100)/"), GOOD),
    "an epoch before 2010": (at(946_684_800_000), "bad_timestamp"),
    "an epoch of 32 bits that overflows": (at(2**32 - 1), "in_the_future"),
    "an epoch of nanoseconds": (at(NOON.timestamp() * 1e9), "bad_timestamp"),
    "a negative epoch": (at(-1), "bad_timestamp"),
    "an infinite epoch": (raw(timestamp="1e400"), "bad_timestamp"),
    "an epoch of 31 digits": (raw(timestamp="1" + "0" * 30), "bad_timestamp"),
    "a day that does not exist": (at("2026-02-30 10:00:00"), "bad_timestamp"),
    "an hour that does not exist": (at("2026-11-23 24:00:00"), "bad_timestamp"),
    "a zone that does not exist": (at("2026-11-23T10:00:00+25:00"), "bad_timestamp"),
    "an American date": (at("11/23/2026 10:00"), "bad_timestamp"),
    "a date alone": (at("2026-11-23"), "bad_timestamp"),
    "an empty timestamp": (at(""), "bad_timestamp"),
    "a year of five digits": (at("12026-11-23 10:00:00"), "bad_timestamp"),
    "a clock that was never set": (at("1970-01-01 00:00:00"), "bad_timestamp"),
    "a clock that begins anew in 2000": (at("2000-01-01 00:00:03"), "bad_timestamp"),
    "a GPS clock that begins anew in 2007": (at("2007-04-09T12:00:00Z"), "bad_timestamp"),
    "a clock of 32 bits that overflows": (at("2038-01-19T03:14:07Z"), "in_the_future"),
    "one digit of another script": (at("2026-11-23 1٠:00:00"), "bad_timestamp"),
    "one digit of another script in an offset": (at("2026-11-23T10:00:00+0٢:00"), "bad_timestamp"),
    "a timestamp that is true": (raw(timestamp="true"), "bad_type:timestamp"),
    "both value and time bad": (body(reading(value=-1, timestamp="x")), "implausible"),
}


@pytest.mark.parametrize(("bad", "reason"), ALONE.values(), ids=ALONE.keys())
def test_an_event_lands_where_it_belongs(bad: bytes, reason: str) -> None:
    outcome = process_bodies(bad)
    assert outcome.quarantine["reason"].to_list() == [reason] * bool(reason)
    assert outcome.silver.height == (0 if reason else 1)
    assert outcome.bronze["reading_count"].to_list() == [1]
    stored = outcome.bronze.row(0, named=True)
    assert (stored["body"].encode() if stored["body_bytes"] is None else stored["body_bytes"]) == bad


@pytest.mark.parametrize("bad", [bad for bad, _ in ALONE.values()], ids=ALONE.keys())
def test_a_bad_event_does_not_change_what_becomes_of_its_neighbours(bad: bytes) -> None:
    first, last = (
        body(reading(-100, 300, patient=77)),
        body(reading(-95, 50, patient=77), reading(-90, 400, patient=77)),
    )
    outcome = process_bodies(first, bad, last)
    of_neighbours = outcome.silver.filter(patient_id=77)
    assert of_neighbours.select("sequence_number", "event_index").rows() == [(0, 0), (2, 0), (2, 1)]
    assert differences(outcome, micro_batch(0, [first, bad, last])) == []


ARRAYS = {
    "a bad member among good ones": ([reading(0), {}, reading(1)], ["missing_field:patient_id"], [1]),
    "members of every wrong kind": ([1, "x", None, True, [], reading(0)], ["not_an_object"] * 5, [0, 1, 2, 3, 4]),
    "only bad members": ([reading(0, -1), reading(0, "x")], ["implausible", "bad_type:glucose_level"], [0, 1]),
    "a repeat within an array": ([reading(0), reading(0), reading(0, 101)], ["conflicting_duplicate"], [2]),
    "an unknown field in one member": (
        [reading(0), reading(1, extra=1), reading(2, location=5)],
        ["bad_type:location"],
        [2],
    ),
    "a huge number in one member": ([reading(0), reading(1, patient=10**30)], ["bad_type:patient_id"], [1]),
}


@pytest.mark.parametrize(("members", "reasons", "places"), ARRAYS.values(), ids=ARRAYS.keys())
def test_the_members_of_an_array_are_judged_one_by_one(
    members: list[Any], reasons: list[str], places: list[int]
) -> None:
    packed = json.dumps(members).encode()
    outcome = process_bodies(packed)
    assert outcome.quarantine.select("event_index", "reason").rows() == list(zip(places, reasons, strict=True))
    assert outcome.quarantine["body"].unique().to_list() == [packed.decode()]
    assert outcome.bronze["reading_count"].item() == len(members)
    assert differences(outcome, micro_batch(0, [packed])) == []


def test_everything_bad_at_once_goes_through_a_session(tmp_path: Path) -> None:
    bodies = [bad for bad, _ in ALONE.values()] + [json.dumps(members).encode() for members, _, _ in ARRAYS.values()]
    lake, hub = lake_in(tmp_path), hub_with(shuffled(bodies * 2), take=40, at=NOON + timedelta(minutes=30))
    totals = run_session(lake, hub)
    assert_exact(lake, hub)
    assert set(rows(lake, "quarantine")["reason"]) >= {reason for _, reason in ALONE.values() if reason}
    assert totals.events == 2 * len(bodies)


def report(**more: Any) -> dict[str, Any]:
    own = {"device_id": 1, "timestamp": "2026-11-23 11:00:00", "battery_level": 50, "firmware_version": "1.20.3"}
    return own | {"connectivity_status": "Connected", "error_codes": ""} | more


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (report(), GOOD),
        (report(battery_level=0, error_codes="Err3", connectivity_status="Poor Connection"), GOOD),
        (report(battery_level=100.5), "implausible"),
        (report(battery_level=-1), "implausible"),
        (report(battery_level=0.85), "implausible_unit"),
        (report(battery_level=1), GOOD),
        (report(battery_level=1.5), GOOD),
        (report(battery_level="50"), "bad_type:battery_level"),
        (report(battery_level=True), "bad_type:battery_level"),
        (report(battery_level=None), "missing_field:battery_level"),
        (report(firmware_version="1.2"), "bad_type:firmware_version"),
        (report(firmware_version="1.2.3\n"), "bad_type:firmware_version"),
        (report(firmware_version=1), "bad_type:firmware_version"),
        (report(firmware_version="1.2.٣"), "bad_type:firmware_version"),
        (report(connectivity_status="connected"), "bad_type:connectivity_status"),
        (report(error_codes="Err4"), "bad_type:error_codes"),
        (report(error_codes=None), "missing_field:error_codes"),
        (report(timestamp="soon"), "bad_timestamp"),
        (report(timestamp="2036-11-23 11:00:00"), "in_the_future"),
    ],
)
def test_a_devices_report_lands_where_it_belongs(bad: dict[str, Any], reason: str) -> None:
    outcome = process_bodies(body(bad), contract=DEVICES)
    assert outcome.quarantine["reason"].to_list() == [reason] * bool(reason)
    assert differences(outcome, micro_batch(0, [body(bad)]), oracle.DEVICES) == []


def test_infinite_battery_levels_are_implausible() -> None:
    bad = body(report(battery_level=7)).replace(b": 7", b": 1e999")
    assert process_bodies(bad, contract=DEVICES).quarantine["reason"].to_list() == ["implausible"]


def test_a_batch_of_nothing_but_bad_events_makes_no_reading() -> None:
    batch = micro_batch(0, [b"x", b"[]", b"{}"])
    outcome = process([batch, micro_batch(1, [b"y"], 3)])
    assert (outcome.silver.height, outcome.alerts.height, outcome.quarantine.height) == (0, 0, 4)
