"""Any bytes in: no exception out, every event accounted for, and the same rows however they are cut into batches."""

import gzip
import json
from collections import Counter
from datetime import timedelta
from typing import Any

import msgspec
import polars as pl
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from assets.devices.assets import CONTRACT as DEVICES
from assets.devices.contract import DevicePayload
from assets.glucose.assets import CONTRACT
from assets.glucose.contract import GlucosePayload
from assets.stream.contract import Contract
from assets.stream.decode import Decoded, Decoder
from assets.vitals.assets import CONTRACT as VITALS
from assets.vitals.contract import VitalsPayload
from tests.stream import oracle
from tests.stream.batches import as_rows, differences, flat, micro_batches, process
from tests.stream.oracle import GLUCOSE, Domain
from tests.stream.scenarios import NOON, PLAIN, body, reading, troubled_bodies


def examples(count: int) -> settings:
    return settings(max_examples=count, deadline=None, suppress_health_check=[HealthCheck.too_slow])


PAYLOADS = (GlucosePayload, DevicePayload, VitalsPayload)

numbers = st.one_of(
    st.integers(),
    st.integers(-(2**65), 2**65),
    st.floats(allow_nan=False),
    st.sampled_from([0, -0.0, 70, 115, 1000, 2**63, 10**30, 1e300, 1e400, 5e-324]),
)
scalars = st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=8))
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
moments = st.one_of(
    st.integers(-40, 12).map(lambda minutes: (NOON + timedelta(minutes=minutes)).strftime(PLAIN)),
    st.integers(-40, 12).map(lambda minutes: (NOON + timedelta(minutes=minutes)).isoformat()),
    st.integers(-40, 12).map(lambda minutes: int((NOON + timedelta(minutes=minutes)).timestamp() * 1000)),
    st.integers(-40, 12).map(lambda minutes: str(int((NOON + timedelta(minutes=minutes)).timestamp()))),
    st.just("yesterday"),
)
levels = st.one_of(
    st.sampled_from([53, 69.9, 70, 100, 105, 115, 115.1, 250.5, "Low", "High", "99.5", 0, -1, 1001]),
    st.sampled_from([5, 12, 19.9, 20, 22.2, 33.9, 3.0, 5.6, 10.0, 13.9, 55.5, "5.6", "5", "1,5", "nan", "٣"]),
    st.builds(
        "{}{}{}{}".format,
        st.sampled_from(["<", "> ", "LO", "hi", "Above_Range", "", "<="]),
        st.sampled_from(["", "2.2", "40", "54", "55", "22.2", "400"]),
        st.sampled_from(["", " ", "  "]),
        st.sampled_from(["", "mmol/L", "MG/DL", "mM", "mol"]),
    ),
    anything,
)
units = st.sampled_from(["mg/dL", "mmol/L", "mmol", "MG/DL ", "mM", "stone", "", None])
glucose = st.fixed_dictionaries(
    {"patient_id": st.integers(1, 2), "device_id": st.integers(1, 2), "glucose_level": levels, "timestamp": moments},
    optional={"unit": units, "location": anything, "extra": anything},
)
reports = st.fixed_dictionaries(
    {
        "device_id": st.integers(1, 2),
        "timestamp": moments,
        "battery_level": st.one_of(st.integers(-1, 101), st.floats(-0.1, 1.1), anything),
        "firmware_version": st.sampled_from(["1.2.3", "1.2", "v1.2.3", "1.2.٣", 5]),
        "connectivity_status": st.sampled_from(["Connected", "Disconnected", "lost", None]),
        "error_codes": st.sampled_from(["", "Err1", "Err9"]),
    },
    optional={"extra": anything},
)


measured = {
    "heart_rate": st.sampled_from([19, 20, 40, 41, 90, 100, 100.5, 131, 301]),
    "pulse": st.sampled_from([50, 51, 110, 111, 130.5]),
    "systolic_bp": st.sampled_from([39, 90, 90.5, 100, 110, 131, 219.5, 300]),
    "diastolic_bp": st.sampled_from([19, 60, 90, 130]),
    "spo2": st.sampled_from([0.57, 0.915, 1, 87.5, 88, 91.5, 95.4, 96, 100, 101]),
    "temperature": st.sampled_from([24, 35, 35.05, 36, 38.0, 38.05, 39.05, 39.1, 95, 100.4, 102.38]),
    "respiratory_rate": st.sampled_from([1, 8, 8.5, 11.4, 20.5, 24.5, 25]),
    "glucose_level": st.sampled_from([19, 22.2, 33, 120, 120.1, 1001]),
}
vitals = st.fixed_dictionaries(
    {"patient_id": st.integers(1, 2), "timestamp": moments},
    optional={
        **{name: st.one_of(values, values, values, st.none(), anything) for name, values in measured.items()},
        "device_id": st.sampled_from([None, 1, 2]),
        "unit": st.sampled_from(["F", " °f", "C", "[degF]", "K", None]),
        "sport_mode": st.sampled_from([True, False, None]),
        "on_oxygen": st.sampled_from([True, False, None]),
        "consciousness": st.sampled_from(["A", "c", " Pain", "U", "GCS 9", None]),
        "alert": anything,
    },
)


def nearly(members: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[Any]:
    """Good members, members with one field replaced or removed, and things that are no member at all."""
    names = st.sampled_from(
        ["patient_id", "device_id", "glucose_level", "timestamp", "battery_level", "sport_mode", "x"]
    )
    replaced = st.builds(lambda member, name, value: member | {name: value}, members, names, anything)
    removed = st.builds(lambda member, name: {k: v for k, v in member.items() if k != name}, members, names)
    return st.one_of(members, members, members, replaced, removed, anything)


def texts(members: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    whole = st.one_of(members, members, st.lists(members, max_size=4)).map(lambda value: json.dumps(value).encode())
    plain = st.one_of(members, st.lists(members, max_size=4)).map(
        lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
    )
    cut = st.builds(lambda text, at: text[: at % (len(text) + 1)], whole, st.integers(0, 10_000))
    flipped = st.builds(_with, whole, st.integers(0, 10_000), st.integers(0, 255))
    lines = st.builds(
        bytes.join, st.sampled_from([b"\n", b"\r\n", b"\n\n", b"\0\n", b" "]), st.lists(whole | cut, max_size=4)
    )
    wrapped = st.builds(
        lambda before, text, behind: before + text + behind,
        st.sampled_from([b"", b"\r\n", b"\0", b"\xef\xbb\xbf"]),
        st.one_of(whole, cut, lines),
        st.sampled_from([b"\n", b"\0", b"\0\0\r\n", b"\v", b""]),
    )
    packed = wrapped.map(gzip.compress)
    damaged = st.builds(_with, packed, st.integers(0, 10_000), st.integers(0, 255)) | packed.map(lambda text: text[:-3])
    return st.one_of(whole, whole, whole, plain, cut, flipped, lines, wrapped, packed, damaged, st.binary(max_size=20))


def _with(text: bytes, at: int, byte: int) -> bytes:
    return text[: at % len(text)] + bytes([byte]) + text[at % len(text) + 1 :]


glucose_bodies, device_bodies, vitals_bodies = (texts(nearly(each)) for each in (glucose, reports, vitals))
CASES = {
    "glucose": (CONTRACT, GLUCOSE, glucose_bodies),
    "devices": (DEVICES, oracle.DEVICES, device_bodies),
    "vitals": (VITALS, oracle.VITALS, vitals_bodies),
}


def total(decoded: Decoded) -> int:
    return decoded.readings.height + decoded.rejects.height


@given(st.lists(st.one_of(glucose_bodies, device_bodies, vitals_bodies, st.binary(), st.none()), max_size=12))
@examples(120)
def test_any_bytes_decode_without_an_exception_and_every_event_is_accounted_for(bodies: list[bytes | None]) -> None:
    for payload in PAYLOADS:
        decoder = Decoder(payload)
        decoded = decoder.decode(bodies)
        assert total(decoded) == sum(decoded.reading_counts)
        assert len(decoded.reading_counts) == len(bodies)
        assert min(decoded.reading_counts, default=1) >= 1
        assert decoded.readings.schema == decoder.schema
        places = Counter(
            [
                *decoded.readings.select("event", "event_index").rows(),
                *decoded.rejects.select("event", "event_index").rows(),
            ]
        )
        right = {(event, index) for event, count in enumerate(decoded.reading_counts) for index in range(count)}
        assert places == Counter(dict.fromkeys(right, 1))


class Explaining(Decoder):
    """Looks at every body member by member, as the decoder does with what it refuses at first."""

    def __init__(self, payload: type[msgspec.Struct]) -> None:
        super().__init__(payload)
        self._strict = self._lenient = _refuse


def _refuse(body: object) -> Any:
    raise msgspec.ValidationError


@pytest.mark.slow
@given(st.lists(st.one_of(glucose_bodies, device_bodies, vitals_bodies, st.none()), max_size=8))
@examples(200)
def test_the_fast_and_the_explaining_way_of_decoding_agree(bodies: list[bytes | None]) -> None:
    for payload in PAYLOADS:
        fast, slow = Decoder(payload).decode(bodies), Explaining(payload).decode(bodies)
        assert fast.readings.equals(slow.readings)
        assert fast.rejects.equals(slow.rejects)
        assert fast.reading_counts.equals(slow.reading_counts)
        assert fast.unknown_fields == slow.unknown_fields


@pytest.mark.parametrize(("contract", "domain", "bodies"), CASES.values(), ids=CASES)
def test_whatever_comes_becomes_what_the_oracle_says(
    contract: Contract, domain: Domain, bodies: st.SearchStrategy[bytes]
) -> None:
    @given(st.lists(st.lists(bodies, max_size=6), min_size=1, max_size=4))
    @examples(100)
    def holds(batches: list[list[bytes]]) -> None:
        events = micro_batches(*batches)
        outcome = process(events, contract)
        assert differences(outcome, flat(events), domain) == []
        accounted = outcome.silver.height + outcome.quarantine.height + int(outcome.duplicates["duplicates"].sum())
        assert accounted == outcome.bronze["reading_count"].sum()
        assert outcome.silver.select(domain.key).is_unique().all()
        assert outcome.alerts.is_empty() or outcome.alerts["alert_id"].is_unique().all()

    holds()


@pytest.mark.slow
@pytest.mark.parametrize("stream", ["glucose", "vitals"])
def test_processing_micro_batches_again_in_one_call_gives_the_same_rows(stream: str) -> None:
    contract, _, bodies = CASES[stream]

    @given(st.lists(st.lists(bodies, max_size=6), min_size=1, max_size=5))
    @examples(40)
    def holds(batches: list[list[bytes]]) -> None:
        events = micro_batches(*batches)
        assert as_rows(process(events, contract)) == as_rows(process([flat(events)], contract))

    holds()


@pytest.mark.slow
@given(st.data())
@examples(50)
def test_late_and_repeated_readings_over_many_micro_batches_match_the_oracle(data: st.DataObject) -> None:
    some = st.builds(
        lambda minutes, value, device: body(reading(minutes, value, device=device)),
        st.integers(0, 25),
        st.sampled_from([60, 100, 105, 106, 116, 300]),
        st.integers(1, 2),
    )
    batches = data.draw(st.lists(st.lists(some, min_size=1, max_size=8), min_size=2, max_size=6))
    events = micro_batches(*batches)
    assert differences(process(events), flat(events)) == []
    assert as_rows(process(events)) == as_rows(process([flat(events[:2]), flat(events[2:])]))


parts_of_vitals = st.fixed_dictionaries(
    {"patient_id": st.just(1), "seconds": st.integers(0, 700)},
    optional={
        "device_id": st.integers(1, 2),
        "pulse": st.sampled_from([40, 80, 131]),
        "respiratory_rate": st.sampled_from([8, 15, 25]),
        "spo2": st.sampled_from([87, 91, 98]),
        "systolic_bp": st.sampled_from([90, 120]),
        "temperature": st.sampled_from([35.0, 37, 39.1]),
        "on_oxygen": st.booleans(),
        "consciousness": st.sampled_from("ACU"),
        "sport_mode": st.booleans(),
    },
)


def _at_seconds(member: dict[str, Any]) -> bytes:
    at = NOON - timedelta(hours=1) + timedelta(seconds=member["seconds"] // 20 * 20)
    return json.dumps(member | {"timestamp": at.strftime(PLAIN)}).encode()


@pytest.mark.slow
@given(st.data())
@examples(60)
def test_scores_of_late_and_partial_readings_match_the_oracle_however_they_are_cut(data: st.DataObject) -> None:
    some = parts_of_vitals.map(_at_seconds)
    batches = data.draw(st.lists(st.lists(some, min_size=1, max_size=12), min_size=2, max_size=6))
    events = micro_batches(*batches)
    outcome = process(events, VITALS)
    assert differences(outcome, flat(events), oracle.VITALS) == []
    assert as_rows(outcome) == as_rows(process([flat(events[:2]), flat(events[2:])], VITALS))
    assert as_rows(outcome) == as_rows(process([flat(events)], VITALS))


@pytest.mark.slow
@given(st.lists(st.integers(1, 60), min_size=1, max_size=12))
@examples(12)
def test_a_fleets_day_gives_the_oracles_rows_however_it_is_cut(sizes: list[int]) -> None:
    bodies = troubled_bodies(200)
    assume(sum(sizes) > 20)
    cuts, first = [], 0
    for size in sizes:
        cuts.append(bodies[first : first + size])
        first += size
    events = micro_batches(*cuts)
    outcome = process(events)
    assert differences(outcome, flat(events)) == []
    assert as_rows(outcome) == as_rows(process([flat(events)]))


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True


@given(glucose, st.sampled_from(["extra", "zone", "Ünit"]), anything)
@examples(50)
def test_unknown_fields_change_nothing_but_their_count(member: dict[str, Any], name: str, value: Any) -> None:
    assume(_is_json(value) and name not in member)
    plain = process(micro_batches([json.dumps(member).encode()]))
    more = process(micro_batches([json.dumps(member | {name: value}).encode()]))
    assert plain.silver.equals(more.silver)
    assert plain.quarantine.select(pl.exclude("body")).equals(more.quarantine.select(pl.exclude("body")))
