"""What events bring besides their bodies becomes text, whatever AMQP types it has."""

import json
import uuid
from decimal import Decimal
from typing import Any

import pytest
from azure.eventhub._pyamqp._decode import decode_payload
from azure.eventhub._pyamqp.message import Message, Properties
from hypothesis import given
from hypothesis import strategies as st

from emulator import codec
from resources.message_details import annotations_of, key_of, properties_of
from resources.sdk import read_all_types

OWN: dict[str | bytes, Any] = {
    b"x-opt-sequence-number": 1,
    b"x-opt-offset": b"1",
    b"x-opt-enqueued-time": 1,
    b"x-opt-sequence-number-epoch": None,
}


def properties(message: Message) -> Any:
    return json.loads(properties_of(message) or "{}")


def test_a_message_with_nothing_has_no_texts() -> None:
    for message in (Message(), Message(application_properties={}, properties=Properties(), message_annotations={})):
        assert (key_of(message), properties_of(message), annotations_of(message)) == (None, None, None)


def test_what_bronze_has_as_columns_is_no_annotation() -> None:
    message = Message(message_annotations=OWN | {b"x-opt-partition-key": b"patient 7"})
    assert (key_of(message), annotations_of(message)) == ("patient 7", None)
    assert key_of(Message(message_annotations=OWN | {b"x-opt-partition-key": None})) is None
    assert annotations_of(Message(message_annotations=OWN | {b"b": b"2", b"a": 1})) == '{"a":1,"b":"2"}'


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (2**64 - 1, "18446744073709551615"),
        (-1.5, "-1.5"),
        (float("nan"), '"nan"'),
        (float("-inf"), '"-inf"'),
        (b"t\xc3\xa4xt", '"täxt"'),
        (b"\xff\x00", '"/wA="'),
        (b"\x00", '"\\u0000"'),
        ("\ud800", '"?"'),
        (uuid.UUID(int=7), '"00000000-0000-0000-0000-000000000007"'),
        (Decimal("1.50"), '"1.50"'),
        ([1, b"a", [None]], '[1,"a",[null]]'),
        ({b"b": 1, b"a": {2: b"c"}}, '{"a":{"2":"c"},"b":1}'),
    ],
)
def test_a_value_of_any_type_has_a_text(value: Any, text: str) -> None:
    assert properties_of(Message(application_properties={b"value": value})) == f'{{"value":{text}}}'


def test_the_standard_properties_are_together_and_instants_are_told_by_their_names() -> None:
    message = Message(
        application_properties={b"creation_time": 1, b"z": b"1"},
        properties=Properties(
            message_id=uuid.UUID(int=7),
            user_id=b"\xff",
            creation_time=1_700_000_000_123,
            group_sequence=5,
            subject=b"s",
        ),
    )
    assert properties(message) == {
        "amqp": {
            "creation-time": "2023-11-14T22:13:20.123+00:00",
            "group-sequence": 5,
            "message-id": "00000000-0000-0000-0000-000000000007",
            "subject": "s",
            "user-id": "/w==",
        },
        "creation_time": 1,
        "z": "1",
    }


def test_an_instant_that_no_calendar_has_stays_a_number() -> None:
    assert properties(Message(properties=Properties(creation_time=2**63 - 1))) == {"amqp": {"creation-time": 2**63 - 1}}


def test_an_application_property_named_amqp_is_not_lost() -> None:
    message = Message(application_properties={b"amqp": 1}, properties=Properties(subject=b"s"))
    assert properties(message) == {"amqp": {"amqp": 1, "subject": "s"}}
    assert properties(Message(application_properties={b"amqp": 1})) == {"amqp": 1}


def test_types_that_the_sdk_leaves_out_are_read() -> None:
    read_all_types()
    entries = {
        codec.symbol("char"): b"\x73" + "ä".encode("utf-32-be"),
        codec.symbol("decimal32"): b"\x74" + b"\xff" * 4,
        codec.symbol("decimal64"): b"\x84" + b"\xff" * 8,
        codec.symbol("last"): codec.string("read"),
    }
    message = decode_payload(memoryview(b"\x00\x53\x74" + codec.map_of(entries)))
    assert properties(message) == {"char": "ä", "decimal32": "/////w==", "decimal64": "//////////8=", "last": "read"}


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.binary(max_size=9)
    | st.text(max_size=9)
    | st.uuids(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.binary(max_size=5) | st.integers(), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(st.binary(max_size=9) | st.integers() | st.none(), values, max_size=4),
    st.lists(values, max_size=13),
)
def test_whatever_comes_is_sorted_json_in_utf_8(entries: dict[Any, Any], standard: list[Any]) -> None:
    message = Message(application_properties=entries, properties=Properties(*standard), message_annotations=entries)
    for text in (properties_of(message), annotations_of(message)):
        if text is not None:
            text.encode()
            read = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
            assert json.dumps(read, ensure_ascii=False, sort_keys=True, separators=(",", ":")) == text
