"""AMQP types: what is encoded can be decoded, and garbage is a DecodeError, never anything else."""

import math

import pytest
from azure.eventhub._buffered_producer._partition_resolver import compute_hash, generate_hash_code
from azure.eventhub._pyamqp._decode import decode_frame
from hypothesis import given
from hypothesis import strategies as st

from emulator import codec, frames
from emulator.codec import DecodeError
from emulator.keyhash import lookup3, partition_of
from emulator.message import ANNOTATIONS, BATCH_FORMAT, DATA, Delivery, sections, split, wire_batch
from emulator.requests import parse_request

LONG = st.integers(-(2**63), 2**63 - 1)
ASCII = st.text(st.characters(max_codepoint=127), max_size=300)
SCALARS = st.one_of(
    st.just((codec.NULL, None)),
    st.booleans().map(lambda value: (codec.boolean(value), value)),
    st.integers(0, 255).map(lambda value: (codec.ubyte(value), value)),
    st.integers(0, 2**16 - 1).map(lambda value: (codec.ushort(value), value)),
    st.integers(0, 2**32 - 1).map(lambda value: (codec.uint(value), value)),
    st.integers(0, 2**64 - 1).map(lambda value: (codec.ulong(value), value)),
    st.integers(-(2**31), 2**31 - 1).map(lambda value: (codec.int32(value), value)),
    LONG.map(lambda value: (codec.long(value), value)),
    LONG.map(lambda value: (codec.timestamp(value), value)),
    st.binary(max_size=300).map(lambda value: (codec.binary(value), value)),
    st.text(max_size=300).map(lambda value: (codec.string(value), value)),
    ASCII.map(lambda value: (codec.symbol(value), value)),
    st.lists(ASCII, max_size=5).map(lambda values: (codec.symbol_array(values), values)),
    st.lists(st.text(), max_size=5).map(lambda values: (codec.string_array(values), values)),
)


def _list(items):
    return codec.list_of(*[encoded for encoded, _ in items]), [value for _, value in items]


def _map(items):
    by_name = {codec.string(name): pair for name, pair in items.items()}
    return codec.map_of({name: pair[0] for name, pair in by_name.items()}), {n: p[1] for n, p in items.items()}


VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=6).map(_list), st.dictionaries(st.text(max_size=8), inner, max_size=4).map(_map)
    ),
    max_leaves=12,
)


@given(VALUES, st.binary(max_size=4))
def test_what_is_encoded_can_be_decoded(pair, behind):
    encoded, value = pair
    assert codec.decode(encoded + behind) == (value, len(encoded))
    assert codec.skip(encoded + behind, 0) == len(encoded)


@given(VALUES, st.data())
def test_a_truncated_value_is_a_decode_error(pair, data):
    encoded, _ = pair
    with pytest.raises(DecodeError):
        codec.decode(encoded[: data.draw(st.integers(0, len(encoded) - 1))])


@given(st.binary(max_size=64))
def test_garbage_is_decoded_or_refused(garbage):
    for parse in (codec.decode, frames.parse_performative, sections, parse_request, lambda data: split(0, data)):
        for data in (garbage, b"\x00\x53\x72\xc1" + garbage, b"\x00\x53\x14\xd0" + garbage):
            try:
                parse(data)
            except DecodeError:
                continue


def test_a_short_array_cannot_claim_a_billion_elements():
    with pytest.raises(DecodeError, match="does not fit"):
        codec.decode(b"\xf0\x00\x00\x00\x05\x3b\x9a\xca\x00\x40")


def test_endless_nesting_is_refused():
    with pytest.raises(DecodeError):
        codec.decode(b"\x00" * 100_000)


def test_performatives_are_read_by_the_sdk_with_all_their_fields():
    attach = frames.Performative(
        frames.ATTACH, [codec.string("n"), codec.uint(0), codec.TRUE, codec.NULL, codec.NULL], b""
    )
    for body, field_count in [
        (frames.open_("c", 512, 10), 10),
        (frames.begin(0, 255), 8),
        (frames.attach(attach, codec.NULL, codec.NULL, 1024), 14),
        (frames.flow(1, 2, (0, 1, 2)), 11),
        (frames.disposition(300, frames.ACCEPTED), 6),
        (frames.detach(0, True, frames.AmqpError("amqp:not-found", "gone")), 3),
        (frames.close(), 1),
    ]:
        code, fields = decode_frame(memoryview(body))
        assert code == body[2]
        assert len(fields) == field_count


@given(st.binary(max_size=60))
def test_keys_are_hashed_as_the_sdk_hashes_them(key):
    assert lookup3(key) == compute_hash(key.decode("latin-1"))[::-1]  # type: ignore[no-untyped-call]


def test_negative_hashes_count_from_zero_too():
    keys = [b"%d" % number for number in range(200)]
    assert {partition_of(key, 5) for key in keys} == {0, 1, 2, 3, 4}
    for key in keys:
        signed = generate_hash_code(key.decode())  # type: ignore[no-untyped-call]
        assert partition_of(key, 5) == int(abs(math.fmod(signed, 5)))


EVENT = st.binary(max_size=50).map(lambda body: frames.section(DATA, codec.binary(body)))


@given(st.lists(EVENT, min_size=1, max_size=5), st.none() | st.text(min_size=1, max_size=10))
def test_a_batch_is_split_stamped_and_numbered(messages, key):
    envelope = b"" if key is None else _annotated("x-opt-partition-key", codec.string(key))
    delivery = split(BATCH_FORMAT, envelope + b"".join(frames.section(DATA, codec.binary(m)) for m in messages))
    batch = wire_batch(delivery, 7, 100, 123)
    offset = 100
    for number in range(len(messages)):
        length, *parts = batch.pieces[number * 4 : number * 4 + 4]
        message = b"".join(parts)
        assert int.from_bytes(length, "big") == len(message)
        (code, start, _), *body = sections(message)
        expected = {"x-opt-sequence-number": 7 + number, "x-opt-offset": str(offset), "x-opt-enqueued-time": 123}
        if key is not None:
            expected["x-opt-partition-key"] = key
        assert (code, codec.decode(message, start)[0]) == (ANNOTATIONS, expected)
        assert message[body[0][1] - 3 :] == messages[number]
        last_offset, offset = offset, offset + 4 + len(message)
    assert (batch.event_count, batch.last_offset) == (len(messages), last_offset)


def test_annotations_of_the_client_are_kept_and_those_of_the_broker_replaced():
    own = codec.map_of({codec.symbol("x-own"): codec.uint(1), codec.symbol("x-opt-sequence-number"): codec.long(5)})
    event = frames.section(ANNOTATIONS, own) + frames.section(DATA, codec.binary(b""))
    delivery = Delivery(split(0, event).events, codec.string("k"))
    message = b"".join(wire_batch(delivery, 9, 0, 1).pieces[1:])
    annotations = codec.decode(message, 3)[0]
    assert isinstance(annotations, dict)
    assert annotations["x-own"] == 1
    assert annotations["x-opt-sequence-number"] == 9
    assert annotations["x-opt-partition-key"] == "k"


def _annotated(name: str, value: bytes) -> bytes:
    return frames.section(ANNOTATIONS, codec.map_of({codec.symbol(name): value}))
