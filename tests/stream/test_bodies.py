"""Bodies that are not one plain JSON document: what ordinary senders make is understood, the rest has a reason."""

import base64
import gzip
import json
import zlib
from random import Random

import msgspec
import polars as pl
import pytest

from assets.glucose.contract import GlucosePayload
from assets.stream.contract import ContractError, Int64
from assets.stream.decode import LEAST_ROOM_BYTES, MAX_UNPACKED_BYTES, Decoder
from assets.stream.process import Outcome
from tests.stream.batches import as_rows, differences, micro_batch, process_bodies
from tests.stream.scenarios import body, reading
from tests.stream.test_regular import assert_same

ONE, TWO = body(reading(0)), body(reading(5))
BOTH = ONE + b"\n" + TWO
MARK = b"\xef\xbb\xbf"


def long(size: int) -> bytes:
    """A body of so many bytes that gzip shrinks to a half."""
    shell = body(reading(0, note=""))
    note = Random(1).randbytes(size // 2 + 1).hex()[: size - len(shell)]
    return body(reading(0, note=note))


UNDERSTOOD: dict[str, tuple[bytes, int]] = {
    "a NUL behind": (ONE + b"\0", 1),
    "NULs behind": (ONE + b"\0\0\0", 1),
    "a line break and a NUL behind": (ONE + b"\n\0", 1),
    "a NUL and a line break behind": (ONE + b"\0\r\n", 1),
    "line breaks around": (b"\r\n" + ONE + b"\r\n", 1),
    "white space that is not JSON's": (b"\v\f" + ONE + b"\f", 1),
    "a mark, line breaks and a NUL": (MARK + b"\r\n" + ONE + b"\r\n\0", 1),
    "an array with a NUL behind": (body(reading(0), reading(5)) + b"\0", 2),
    "JSON lines": (BOTH, 2),
    "JSON lines with a last line break": (BOTH + b"\n", 2),
    "JSON lines of another system": (ONE + b"\r\n" + TWO + b"\r\n", 2),
    "JSON lines with blank ones": (b"\n" + ONE + b"\n\n \n" + TWO + b"\n\n", 2),
    "JSON lines with a mark and a NUL": (MARK + BOTH + b"\n\0", 2),
    "JSON lines with blanks around each": (b"  " + ONE + b" \n\t" + TWO, 2),
    "JSON lines with a NUL behind each": (ONE + b"\0\n" + TWO + b"\0\n", 2),
    "JSON lines with unknown fields": (body(reading(0, extra=1)) + b"\n" + body(reading(5, extra={})), 2),
    "gzip": (gzip.compress(ONE), 1),
    "gzip of an array": (gzip.compress(body(reading(0), reading(5))), 2),
    "gzip of JSON lines": (gzip.compress(BOTH + b"\n"), 2),
    "gzip of a mark and a NUL": (gzip.compress(MARK + ONE + b"\0"), 1),
    "gzip with the name of a file": (b"\x1f\x8b\x08\x08" + b"\0" * 4 + b"\0\x03a.json\0" + gzip.compress(ONE)[10:], 1),
    "gzip in two parts": (gzip.compress(ONE + b"\n") + gzip.compress(TWO), 2),
    "gzip with zeros behind": (gzip.compress(ONE) + b"\0" * 8, 1),
    "gzip that unpacks to the limit": (gzip.compress(long(MAX_UNPACKED_BYTES)), 1),
    "gzip that shrinks as far as readings do": (gzip.compress(ONE + b" " * (LEAST_ROOM_BYTES - len(ONE))), 1),
}


def stored(outcome: Outcome) -> list[bytes]:
    return outcome.bronze.select(pl.coalesce("body_bytes", pl.col("body").cast(pl.Binary))).to_series().to_list()


@pytest.mark.parametrize(("sent", "count"), UNDERSTOOD.values(), ids=UNDERSTOOD.keys())
def test_what_ordinary_senders_make_is_understood(sent: bytes, count: int) -> None:
    outcome = process_bodies(sent)
    assert outcome.silver["event_index"].to_list() == list(range(count))
    assert outcome.quarantine.is_empty()
    assert outcome.bronze["reading_count"].item() == count
    assert differences(outcome, micro_batch(0, [sent])) == []


ODD = {
    "two objects with something else between": (ONE + b"," + TWO, "not_json"),
    "an object and a number": (ONE + b"1", "not_json"),
    "a NUL in front": (b"\0" + ONE, "not_json"),
    "an array in a text": (json.dumps("[" + ONE.decode() + "]").encode(), "not_an_object"),
    "deflate without gzip": (zlib.compress(ONE), "not_json"),
    "base 64": (base64.b64encode(ONE), "not_json"),
    "UTF-16 with a mark": (ONE.decode().encode("utf-16"), "not_json"),
    "an Avro container": (b"Obj\x01\x02\x16avro.schema\x1c" + bytes(range(16)), "not_json"),
    "a trailing comma": (b"[" + ONE + b"," + TWO + b",]", "not_json"),
    "an unknown envelope": (b'{"rows": [' + ONE + b"]}", "missing_field:patient_id"),
    "lines of Python": (f"{reading(0)}\n{reading(5)}\n".encode(), "not_json"),
    "lines of numbers": (b"1\n2\n", "not_json"),
    "JSON lines and a line of something else": (BOTH + b"\nend", "not_json"),
    "an object over several lines that is cut off": (json.dumps(reading(), indent=1).encode()[:-1], "not_json"),
    "gzip that is cut off": (gzip.compress(ONE)[:-4], "bad_gzip"),
    "gzip that is cut off in its first bytes": (gzip.compress(ONE)[:6], "bad_gzip"),
    "the magic number alone": (b"\x1f\x8b", "bad_gzip"),
    "gzip with a wrong check sum": (gzip.compress(ONE)[:-8] + bytes(8), "bad_gzip"),
    "gzip with another method": (b"\x1f\x8b\x07" + gzip.compress(ONE)[3:], "bad_gzip"),
    "gzip with something behind": (gzip.compress(ONE) + b"x", "bad_gzip"),
    "gzip beyond the limit": (gzip.compress(long(MAX_UNPACKED_BYTES + 1)), "bad_gzip"),
    "gzip that is hardly more than blanks": (gzip.compress(ONE + b" " * (LEAST_ROOM_BYTES + 1)), "bad_gzip"),
    "gzip of very many members": (gzip.compress(b"[" + b"1," * 1_000_000 + b"1]"), "bad_gzip"),
    "gzip of gzip": (gzip.compress(gzip.compress(ONE)), "not_json"),
    "gzip of nothing": (gzip.compress(b""), "not_json"),
    "gzip of no JSON": (gzip.compress(b"x"), "not_json"),
}


@pytest.mark.parametrize(("sent", "reason"), ODD.values(), ids=ODD.keys())
def test_all_else_is_kept_with_a_reason(sent: bytes, reason: str) -> None:
    outcome = process_bodies(sent)
    assert outcome.quarantine.select("event_index", "reason").rows() == [(0, reason)]
    kept = outcome.quarantine.select(pl.coalesce("body_bytes", pl.col("body").cast(pl.Binary))).item()
    assert [kept] == stored(outcome) == [sent]
    assert outcome.silver.is_empty()
    assert differences(outcome, micro_batch(0, [sent])) == []


@pytest.mark.parametrize(
    ("lines", "good", "reasons"),
    [
        ([ONE, TWO[:-3]], [0], [(1, "not_json")]),
        ([ONE[:-3], TWO], [1], [(0, "not_json")]),
        ([ONE, body(reading(5, "x")), TWO], [0, 2], [(1, "bad_type:glucose_level")]),
        ([ONE, b"{}", b'{"patient_id": NaN}', TWO], [0, 3], [(1, "missing_field:patient_id"), (2, "not_json")]),
        ([ONE, body(reading(5, location="@")).replace(b"@", b"\xff")], [0], [(1, "not_json")]),
    ],
)
def test_a_damaged_line_spoils_no_other(lines: list[bytes], good: list[int], reasons: list[tuple[int, str]]) -> None:
    sent = b"\n".join(lines)
    outcome = process_bodies(sent)
    assert outcome.silver["event_index"].to_list() == good
    assert outcome.quarantine.select("event_index", "reason").rows() == reasons
    assert outcome.bronze["reading_count"].item() == len(lines)
    assert differences(outcome, micro_batch(0, [sent])) == []


def test_every_way_of_decoding_and_a_rebuild_agree() -> None:
    bodies = [sent for sent, _ in (*UNDERSTOOD.values(), *ODD.values())]
    assert_same(GlucosePayload, [*bodies, None, ONE])
    outcome = process_bodies(*bodies)
    assert stored(outcome) == bodies
    assert as_rows(process_bodies(*stored(outcome))) == as_rows(outcome)


def test_unknown_fields_of_json_lines_are_counted() -> None:
    assert process_bodies(body(reading(0, extra=1)) + b"\n" + body(reading(5, extra=2, x=3))).unknown_fields == {
        "extra": 2,
        "x": 1,
    }


def test_an_event_without_a_body_is_a_tombstone() -> None:
    decoded = Decoder(GlucosePayload).decode([ONE, None])
    assert decoded.rejects.rows() == [(1, 0, "tombstone")]
    assert decoded.readings["event"].to_list() == [0]
    assert decoded.reading_counts.to_list() == [1, 1]
    assert decoded.bodies.rows() == [(ONE.decode(), None), (None, None)]


class Mapped(msgspec.Struct):
    samples: dict[str, int] | None = None


class Inner(msgspec.Struct):
    samples: list[Mapped]


class Unread(msgspec.Struct):
    samples: msgspec.Raw


class Partly(msgspec.Struct):
    samples: str | list[str]


class TwoNumbers(msgspec.Struct):
    samples: Int64 | float


@pytest.mark.parametrize("payload", [Mapped, Inner, Partly, TwoNumbers, Unread])
def test_a_field_that_no_column_holds_is_refused_by_name(payload: type[msgspec.Struct]) -> None:
    with pytest.raises(ContractError, match=f"Payload {payload.__name__}: the field samples is declared as "):
        Decoder(payload)
