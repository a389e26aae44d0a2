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
        (946_684_800_000, datetime(2000, 1, 1, tzinfo=UTC)),
        ("2000-01-01 00:00:00", datetime(2000, 1, 1, tzinfo=UTC)),
        ("2028-02-29 23:59:59", datetime(2028, 2, 29, 23, 59, 59, tzinfo=UTC)),
        ("2016-12-31T23:59:60Z", datetime(2017, 1, 1, tzinfo=UTC)),
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


zones = st.sampled_from(
    ["", "Z", "+00:00", "-00:00", "+0530", "-11", "+23:59", "-1:00", "+24:00", "+05:60", " ", "UTC"]
)
numbers = st.integers(0, 99).map("{:02}".format)
texts = st.builds(
    "{}-{}-{}{}{}:{}{}{}{}".format,
    st.sampled_from(["1969", "1999", "2000", "2024", "2026", "9999"]),
    st.integers(0, 13).map("{:02}".format),
    st.integers(0, 32).map("{:02}".format),
    st.sampled_from(["T", " "]),
    st.integers(0, 25).map("{:02}".format),
    st.integers(0, 61).map("{:02}".format),
    st.one_of(st.just(""), st.integers(0, 59).map(":{:02}".format), st.just(":61")),
    st.one_of(st.just(""), st.integers(0, 999).map(".{:03}".format), st.integers(0, 10**9 - 1).map(".{:09}".format)),
    zones,
)


@given(st.lists(texts, min_size=1, max_size=20))
@settings(deadline=None, max_examples=150)
def test_texts_of_the_form_of_a_timestamp_mean_what_the_oracle_says(values: list[str]) -> None:
    values = [value.rstrip() for value in values]
    assert dict(zip(values, parsed(*values), strict=True)) == {value: said_by_the_oracle(value) for value in values}


@given(st.lists(st.one_of(st.floats(), st.floats(9e11, 2e12), st.integers(0, 2**53)), min_size=1, max_size=20))
@settings(deadline=None, max_examples=100)
def test_numbers_mean_what_the_oracle_says(values: list[float]) -> None:
    assert parsed(*values) == [said_by_the_oracle(value) for value in values]


@given(st.lists(st.text(), max_size=20))
@settings(deadline=None, max_examples=100)
def test_any_text_is_an_instant_or_none_and_never_an_error(values: list[str]) -> None:
    assert len(parsed(*values)) == len(values)
