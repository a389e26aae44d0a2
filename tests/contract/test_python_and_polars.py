"""What decoding and windows rest on in Python, msgspec and Polars."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import msgspec
import polars as pl
import pytest

pytestmark = pytest.mark.contract

START = datetime(2026, 11, 23, tzinfo=UTC)


def minutes(*values: int) -> list[datetime]:
    return [START + timedelta(minutes=value) for value in values]


def test_a_list_keeps_what_was_appended_before_an_iterator_failed_and_the_iterator_goes_on() -> None:
    remaining, found = iter(["1", "2", "x", "4", "y"]), list[int]()
    for expected in ([1, 2], [1, 2, 4], [1, 2, 4]):
        with suppress(ValueError):
            found.extend(map(int, remaining))
        assert found == expected


def test_msgspec_does_not_look_at_the_encoding_of_fields_that_it_skips() -> None:
    class Known(msgspec.Struct):
        a: int

    assert msgspec.json.Decoder(Known).decode(b'{"a": 1, "\xff": "\xff"}').a == 1


def test_msgspec_takes_the_last_of_two_fields_of_one_name() -> None:
    class Known(msgspec.Struct):
        a: int

    assert msgspec.json.Decoder(Known).decode(b'{"a": 1, "a": 2}').a == 2


def test_rolling_sums_are_closed_at_their_end_and_open_at_their_beginning() -> None:
    frame = pl.DataFrame({"at": minutes(0, 1, 10, 11), "value": [1, 10, 100, 1000]})
    sums = frame.select(pl.col("value").rolling_sum_by("at", window_size=timedelta(minutes=10))).to_series()
    assert sums.to_list() == [1, 11, 110, 1100]


def test_rolling_sums_of_one_moment_hold_all_readings_of_it() -> None:
    frame = pl.DataFrame({"at": minutes(0, 0, 5), "value": [1, 2, 4]})
    assert frame.select(pl.col("value").rolling_sum_by("at", "10m")).to_series().to_list() == [3, 3, 7]


def test_rolling_sums_over_groups_keep_the_order_of_rows() -> None:
    frame = pl.DataFrame({"who": [1, 2, 1, 2], "at": minutes(0, 0, 5, 5), "value": [1, 10, 2, 20]})
    sums = frame.select(pl.col("value").rolling_sum_by("at", "10m").over("who")).to_series()
    assert sums.to_list() == [1, 10, 3, 30]


def test_bytes_that_are_no_utf8_are_refused_as_text() -> None:
    with pytest.raises(pl.exceptions.ComputeError):
        pl.Series([b"a", b"\xff"], dtype=pl.Binary).cast(pl.String)


def test_a_time_with_more_than_microseconds_is_cut_not_rounded() -> None:
    text = pl.Series(["2026-11-23 00:00:00.123456789"])
    assert text.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us").dt.microsecond().item() == 123456
