"""The regular form is read as msgspec would have decoded it, whatever stands beside it."""

import json
from collections.abc import Sequence
from itertools import chain
from typing import Annotated, Any

import msgspec
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets.devices.contract import DevicePayload
from assets.glucose.contract import GlucosePayload
from assets.stream.contract import Int64
from assets.stream.decode import Decoded, Decoder
from tests.stream.test_properties import device_bodies, examples, glucose_bodies

NUMBERS = ["0", "7", "70.5", "126.40", "999999999999999999", "999999999999999.123456789012345", "0.1"]
ODD_NUMBERS = [
    "-0",
    "-0.0",
    "-5",
    "01",
    "1.",
    ".5",
    "1e2",
    "1E400",
    "9223372036854775808",
    "99999999999999999999",
    "NaN",
]
TEXTS = ['"2026-11-23 12:00:00"', '"1764000000000"', '""', '"Ås, Norge"', '"]}{[:,"', '"\x7f"']
ODD_TEXTS = [r'"a\"b"', r'"\u0041"', r'"\ud800"', '"a\tb"', '"', '"a"b"']
VALUES = [*NUMBERS, *TEXTS] * 4 + [*ODD_NUMBERS, *ODD_TEXTS, "true", "null", "{}", "[1]", ""]


class Always(Decoder):
    """Looks for the regular form in every batch."""

    regular_from = 0


class Never(Decoder):
    """Leaves all to msgspec."""

    regular_from = 2**63


def assert_same(payload: type[msgspec.Struct], bodies: Sequence[bytes | None]) -> Decoded:
    found, expected = (decoder(payload).decode(bodies) for decoder in (Always, Never))
    assert found.readings.equals(expected.readings)
    assert found.readings.schema == expected.readings.schema
    for column in found.readings.select(pl.col(pl.Float64)):
        signs = [pl.select(1 / each[column.name]).to_series() for each in (found.readings, expected.readings)]
        assert signs[0].equals(signs[1]), "zeros have signs"
    assert found.rejects.equals(expected.rejects)
    assert found.reading_counts.equals(expected.reading_counts)
    assert found.unknown_fields == expected.unknown_fields
    assert found.bodies.equals(expected.bodies)
    return found


def members(payload: type[msgspec.Struct]) -> st.SearchStrategy[bytes]:
    """Objects of the payload's fields in their order, or nearly so, with values that are right or nearly so."""
    names = [each.name for each in msgspec.structs.fields(payload)]
    chosen = st.one_of(
        st.integers(0, len(names)).map(lambda count: names[:count]),
        st.just(names),
        st.lists(st.sampled_from([*names, "extra"]), max_size=len(names) + 1),
    )
    space, value = st.sampled_from(["", " ", " ", "  ", "\n"]), st.sampled_from(VALUES)
    member = chosen.flatmap(
        lambda keys: st.tuples(*(st.tuples(st.just(key), space, value, st.just(","), space) for key in keys))
    )
    return member.map(_written)


def _written(parts: tuple[tuple[str, str, str, str, str], ...]) -> bytes:
    written = "".join(chain.from_iterable((f'"{key}":', *more) for key, *more in parts))
    return ("{" + written.rstrip(", \n") + "}").encode()


@pytest.mark.slow
@pytest.mark.parametrize("payload", [GlucosePayload, DevicePayload])
def test_whatever_stands_in_a_batch_is_decoded_the_same(payload: type[msgspec.Struct]) -> None:
    some = st.one_of(members(payload), members(payload), glucose_bodies, device_bodies, st.none())

    @given(st.lists(some, max_size=8))
    @examples(400)
    def check(bodies: list[bytes | None]) -> None:
        assert_same(payload, bodies)

    check()


@pytest.mark.parametrize("value", [*NUMBERS, *ODD_NUMBERS, *TEXTS, *ODD_TEXTS])
@pytest.mark.parametrize("name", ["patient_id", "glucose_level", "timestamp", "location", "unit"])
def test_each_value_means_the_same_in_each_field(name: str, value: str) -> None:
    good = {"patient_id": "1", "device_id": "2", "glucose_level": "100", "timestamp": '"2026-11-23 12:00:00"'}
    fields = good | {"location": '"Oslo"', "unit": '"mg/dL"', name: value}
    written = ", ".join(f'"{key}": {text}' for key, text in fields.items())
    assert_same(GlucosePayload, [f"{{{written}}}".encode()])


def reading(**more: Any) -> bytes:
    return json.dumps({"patient_id": 1, "device_id": 2, "glucose_level": 100.5, "timestamp": "x"} | more).encode()


@pytest.mark.slow
@given(st.lists(members(GlucosePayload), min_size=1, max_size=4), st.sampled_from([", ", ",", " , ", "},{", "", "\n"]))
@examples(300)
def test_arrays_of_what_is_nearly_regular_are_decoded_the_same(objects: list[bytes], between: str) -> None:
    joined = between.encode().join(objects)
    assert_same(GlucosePayload, [b"[" + joined + b"]", b"[" + joined, joined + b"]", joined, b"[" + objects[0] + b"]"])


def test_what_is_irregular_keeps_its_place_among_the_regular() -> None:
    array = b"[" + reading(patient_id=5) + b", 3, " + reading(patient_id=6) + b"]"
    regular = b"[" + reading(patient_id=9) + b", " + reading(patient_id=10) + b"]"
    bodies = [
        reading(),
        None,
        array,
        reading(extra=1, patient_id=7),
        reading(patient_id=8),
        b"\xff",
        regular,
        reading(),
    ]
    decoded = assert_same(GlucosePayload, bodies)
    places = decoded.readings.select("event", "event_index", "patient_id").rows()
    assert places == [(0, 0, 1), (2, 0, 5), (2, 2, 6), (3, 0, 7), (4, 0, 8), (6, 0, 9), (6, 1, 10), (7, 0, 1)]
    assert decoded.rejects["event"].to_list() == [1, 2, 5]
    assert decoded.reading_counts.to_list() == [1, 1, 3, 1, 1, 1, 2, 1]
    assert decoded.unknown_fields == {"extra": 1}


@pytest.mark.parametrize(
    ("body", "is_regular"),
    [
        (reading(), True),
        (reading(location="Tromsø"), True),
        (reading(location="Oslo", unit="mmol/L"), True),
        (reading(glucose_level="Low", timestamp=1764000000000), True),
        (reading().replace(b" ", b""), True),
        (reading(location="Ås"), False),
        (reading(location=None), False),
        (reading(unit="mmol/L"), False),
        (reading(glucose_level=-1), False),
        (reading(extra=1), False),
        (b"\xef\xbb\xbf" + reading(), False),
        (reading() + b"\n", False),
        (reading() + b"\n" + reading(), False),
        (reading() + b"\x00", False),
        (b"[" + reading() + b"]", True),
        (b"[" + reading() + b",  " + reading() + b"]", False),
        (b"[" + reading() + b"," + reading(), False),
        (reading() + b"," + reading() + b"]", False),
        (reading() + b"," + reading(), False),
        (b"[]", False),
    ],
)
def test_the_form_that_devices_send_is_regular(body: bytes, is_regular: bool) -> None:
    form = Decoder(GlucosePayload)._regular
    assert form is not None
    if is_regular and b"Troms" in body:
        body = json.dumps(json.loads(body), ensure_ascii=False).encode()
    # Objects and arrays are read apart where a batch has both.
    for beside in ([], [reading().decode()], [f"[{reading().decode()}]"]):
        read = form.read(pl.Series("body", [body.decode(), *beside]))
        assert read["event"].to_list() == [0] * is_regular + [1] * len(beside)


class Bounded(msgspec.Struct):
    share: Annotated[int, msgspec.Meta(ge=0, le=100)]


class Counting(msgspec.Struct):
    number: Int64
    count: float | str
    body: str


class Defaulting(msgspec.Struct):
    number: Int64
    unit: str = "mg/dL"


class Renamed(msgspec.Struct, rename="camel"):
    patient_id: Int64


class Later(msgspec.Struct, kw_only=True):
    number: Int64
    unit: str | None = None
    other: Int64


def test_a_field_may_have_any_name() -> None:
    body = b'{"number": 1, "count": 2.5, "body": "x"}'
    assert_same(Counting, [body, b"[" + body + b", " + body + b"]"])


@pytest.mark.parametrize("payload", [Bounded, Defaulting, Renamed, Later])
def test_what_only_msgspec_heeds_is_left_to_it(payload: type[msgspec.Struct]) -> None:
    names = ["share", "number", "unit", "other", "patientId", "patient_id"]
    bodies = [json.dumps({name: 7 if name != "unit" else "x" for name in names[at:]}).encode() for at in range(6)]
    bodies += [json.dumps({name: 101}).encode() for name in names]
    assert_same(payload, [*bodies, b'{"number": 1}', b'{"number": 1, "other": 2}'])
