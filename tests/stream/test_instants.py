"""Every form in which a timestamp may come, and what is no timestamp."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.stream.decode import TEXT
from assets.stream.instants import instants
from tests.stream import oracle

TEN = datetime(2026, 11, 23, 10, tzinfo=UTC)
MS = timedelta(milliseconds=1)


def parsed(*values: object) -> list[datetime | None]:
    frame = pl.DataFrame(
        {
            "timestamp": pl.Series([None if isinstance(value, str) else value for value in values], dtype=pl.Float64),
            "timestamp" + TEXT: pl.Series(
                [value if isinstance(value, str) else None for value in values], dtype=pl.String
            ),
        }
    )
    found = instants(frame, "timestamp")
    assert found.dtype == pl.Datetime("us", "UTC")
    return found.to_list()


def said_by_the_oracle(value: float | str) -> datetime | None:
    try:
        return oracle.instant(value)
    except oracle.Refused:
        return None


@pytest.mark.parametrize(
    ("value", "right"),
    [
        ("2026-11-23 10:00:00", TEN),
        ("2026-11-23T10:00:00", TEN),
        ("2026-11-23T10:00:00Z", TEN),
        ("2026-11-23 10:00:00Z", TEN),
        ("2026-11-23T10:00", TEN),
        ("2026-11-23T10:00Z", TEN),
        ("2026-11-23T12:00:00+02:00", TEN),
        ("2026-11-23T12:00:00+0200", TEN),
        ("2026-11-23T12:00:00+02", TEN),
        ("2026-11-23 12:00+02:00", TEN),
        ("2026-11-23T05:30:00-04:30", TEN),
        ("2026-11-24T00:00:00+14:00", TEN),
        ("2026-11-22T22:00:00-12:00", TEN),
        ("2026-11-23T10:00:00.250Z", TEN + 250 * MS),
        ("2026-11-23 10:00:00.250", TEN + 250 * MS),
        ("2026-11-23T12:00:00.000001+02:00", TEN + timedelta(microseconds=1)),
        ("2026-11-23T10:00:00.123456789Z", TEN + timedelta(microseconds=123456)),
        (TEN.timestamp() * 1000, TEN),
        (TEN.timestamp() * 1000 + 0.5, TEN + timedelta(microseconds=500)),
        (1_262_304_000_000, datetime(2010, 1, 1, tzinfo=UTC)),
        ("2010-01-01 00:00:00", datetime(2010, 1, 1, tzinfo=UTC)),
        ("2009-12-31 23:59:59", None),
        (1_262_303_999_999, None),
        (TEN.timestamp(), TEN),
        (TEN.timestamp() + 0.25, TEN + 250 * MS),
        (TEN.timestamp() * 1e6, TEN),
        (TEN.timestamp() * 1e9, None),
        (1_262_304_000, datetime(2010, 1, 1, tzinfo=UTC)),
        (1_262_303_999, None),
        (2**32 - 1, datetime(2106, 2, 7, 6, 28, 15, tzinfo=UTC)),
        (2**32, None),
        ("1795428000", TEN),
        ("1795428000.25", TEN + 250 * MS),
        ("1795428000000", TEN),
        ("1795428000000000", TEN),
        ("1795428000000000000", None),
        ("179542800000٠", None),
        ("-1795428000000", None),
        ("1.795428e12", None),
        ("20261123", None),
        ("202611231000", None),
        ("/Date(1795428000000)/", TEN),
        ("/Date(1795428000000+0100)/", TEN),
        ("/Date(1795428000000-0500)/", TEN),
        ("/Date(1795428000)/", None),
        ("/Date(-1)/", None),
        ("/Date(179542800000٠)/", None),
        ("Date(1795428000000)", None),
        ("2026-11-23t10:00:00z", TEN),
        ("2026-11-23T10:00:00,5Z", None),
        ("2026-11-23T24:00:00Z", None),
        ("2026-W48-1T10:00:00Z", None),
        ("2026-327T10:00:00Z", None),
        ("20261123T100000Z", None),
        ("2026-11-23T10", None),
        ("2026-11-2310:00:00", None),
        ("2026-1-123:00:00", None),
        ("+2026-11-23 10:00:0", None),
        ("2026-11-23T10:00:00+24:00", None),
        ("2026-11-23T10:00:00+99", None),
        ("2026-11-23T10:00:00+0٢:00", None),
        ("2026-11-23T1٠:00:00Z", None),
        ("2026-11-23 10:00:00 UTC", None),
        ("2026-11-23T10:00:00Z[UTC]", None),
        ("2026-11-23 9:00:00 AM", None),
        ("Mon Nov 23 09:00:00 AEDT 2026", None),
        ("23-11-2026 09:00", None),
        ("9999-12-31T23:59:59-05:00", None),
        ("2028-02-29 23:59:59", datetime(2028, 2, 29, 23, 59, 59, tzinfo=UTC)),
        ("2016-12-31T23:59:60Z", datetime(2017, 1, 1, tzinfo=UTC)),
        ("2017-01-01T00:59:60.5+01:00", datetime(2017, 1, 1, tzinfo=UTC) + 500 * MS),
        ("2016-12-31 23:59:60", datetime(2017, 1, 1, tzinfo=UTC)),
        ("2016-12-31T12:00:60Z", None),
    ],
)
def test_a_form_of_a_timestamp(value: object, right: datetime | None) -> None:
    assert parsed(value) == [right]


def test_forms_may_be_mixed_in_one_batch() -> None:
    values = [
        "2026-11-23 10:00:00",
        "x",
        TEN.timestamp() * 1000,
        "2026-11-23T12:00:00+02:00",
        None,
        "2026-11-23T10:00Z",
    ]
    assert parsed(*values) == [TEN, None, TEN, TEN, None, TEN]


def test_an_empty_batch_has_no_instants() -> None:
    assert parsed() == []


def _with_another(text: str, at: int, character: str) -> str:
    """The text with one character replaced, or one more at its end."""
    return text[:at] + character + text[at + 1 :]


zones = st.sampled_from(
    ["", "Z", "z", "+00:00", "-00:00", "+0530", "-11", "+23:59", "-1:00", "+24:00", "+05:60", "+0٢:00", " ", "UTC"]
)
numbers = st.integers(0, 99).map("{:02}".format)
texts = st.builds(
    "{}-{}-{}{}{}:{}{}{}{}".format,
    st.sampled_from(["1969", "2000", "2009", "2010", "2024", "2026", "9999", "20٢6"]),
    st.integers(0, 13).map("{:02}".format),
    st.integers(0, 32).map("{:02}".format),
    st.sampled_from(["T", " ", "t"]),
    st.integers(0, 25).map("{:02}".format),
    st.integers(0, 61).map("{:02}".format),
    st.one_of(st.just(""), st.integers(0, 60).map(":{:02}".format), st.just(":61")),
    st.one_of(st.just(""), st.integers(0, 999).map(".{:03}".format), st.integers(0, 10**9 - 1).map(".{:09}".format)),
    zones,
)


@given(st.lists(texts, min_size=1, max_size=20))
@settings(deadline=None, max_examples=150)
def test_texts_of_the_form_of_a_timestamp_mean_what_the_oracle_says(values: list[str]) -> None:
    values = [value.rstrip() for value in values]
    assert dict(zip(values, parsed(*values), strict=True)) == {value: said_by_the_oracle(value) for value in values}


epochs = st.one_of(st.floats(), st.floats(9e11, 2e12), st.floats(1e9, 5e9), st.integers(0, 2**53))


@given(st.lists(epochs, min_size=1, max_size=20))
@settings(deadline=None, max_examples=100)
def test_numbers_mean_what_the_oracle_says(values: list[float]) -> None:
    assert parsed(*values) == [said_by_the_oracle(value) for value in values]


@given(st.lists(st.one_of(st.integers(0, 10**19).map(str), epochs.map(str)), min_size=1, max_size=20))
@settings(deadline=None, max_examples=100)
def test_texts_of_digits_mean_what_the_oracle_says(values: list[str]) -> None:
    assert parsed(*values) == [said_by_the_oracle(value) for value in values]


digits = st.text(st.characters(categories=["Nd"]), min_size=1, max_size=30)
odd_texts = st.one_of(
    st.text(),
    st.text(st.sampled_from("0123456789-+:.,TtZz eE/()Date \n\t\0٢３"), max_size=40),
    digits,
    digits.map("/Date({})/".format),
    st.integers(1, 20_000).map(lambda length: "9" * length),
    st.builds("{}-{}-{} {}:{}:{}".format, *[digits] * 6),
    st.builds(_with_another, texts, st.integers(0, 40), st.characters(codec="utf-8")),
)


@pytest.mark.slow
@given(st.lists(odd_texts, max_size=20))
@settings(deadline=None, max_examples=300)
def test_any_text_is_what_the_oracle_says_and_never_an_error(values: list[str]) -> None:
    assert parsed(*values) == [said_by_the_oracle(value) for value in values]
