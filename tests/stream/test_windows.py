"""Trailing means and last values against loops that look at every reading, and what no loop could show: exactness."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from random import Random
from typing import Any, Literal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.stream.contract import Last, Window
from assets.stream.windows import trailing

START = datetime(2026, 11, 23, tzinfo=UTC)
TEN_MINUTES = Window("mean", "value", timedelta(minutes=10))
UTC_US = pl.Datetime("us", "UTC")

Reading = tuple[int, int, Any, int]
"""Patient, seconds since the start, value or None, number of the micro-batch that evaluated it (0: known before)."""


def means(
    readings: list[Reading], windows: Sequence[Window | Last] = (TEN_MINUTES,), dtype: type[pl.DataType] = pl.Float64
) -> pl.DataFrame:
    frame = pl.DataFrame(
        [
            (patient, START + timedelta(seconds=second), value, START + timedelta(seconds=batch), batch > 0)
            for patient, second, value, batch in readings
        ],
        schema={
            "patient": pl.Int64,
            "measured_at": UTC_US,
            "value": dtype,
            "pulled_at": UTC_US,
            "is_new": pl.Boolean,
        },
        orient="row",
    )
    return trailing(frame.filter(~pl.col("is_new")), frame.filter("is_new"), windows, "patient")


def looked_up(readings: list[Reading], reach: int = 600) -> list[float | None]:
    found: list[float | None] = []
    for patient, end, _, batch in readings:
        if batch:
            within = [
                round(value * 1_000_000)
                for other, second, value, known in readings
                if other == patient and end - reach < second <= end and known <= batch and value is not None
            ]
            found.append(sum(within) / (len(within) * 1_000_000) if within else None)
    return found


def last_values(readings: list[Reading], worse: Callable[..., Any], reach: int = 600) -> list[tuple[Any, float | None]]:
    """The value that counts at each new reading, and its age."""
    found: list[tuple[Any, float | None]] = []
    for patient, end, _, batch in readings:
        if batch:
            within = [
                (second, value)
                for other, second, value, known in readings
                if other == patient and end - reach < second <= end and known <= batch and value is not None
            ]
            last = max((second for second, _ in within), default=None)
            values = [value for second, value in within if second == last]
            found.append((worse(values), float(end - last)) if last is not None else (None, None))
    return found


readings = st.lists(
    st.tuples(st.integers(1, 2), st.integers(0, 1500), st.floats(0.1, 1000), st.integers(0, 4)), min_size=1, max_size=40
)


@given(readings)
@settings(deadline=None, max_examples=200)
def test_means_are_those_of_all_readings_known_when_a_reading_was_evaluated(some: list[Reading]) -> None:
    assert means(some).to_series().to_list() == looked_up(some)


sparse = st.lists(
    st.tuples(
        st.integers(1, 2),
        st.one_of(st.integers(0, 12).map(lambda number: number * 100), st.integers(0, 1500)),
        st.one_of(st.none(), st.sampled_from([-1.5, 0.0, 2.0, 90.0])),
        st.integers(0, 4),
    ),
    min_size=1,
    max_size=40,
)


@given(sparse)
@settings(deadline=None, max_examples=200)
def test_means_pass_over_readings_without_a_value(some: list[Reading]) -> None:
    assert means(some).to_series().to_list() == looked_up(some)


@given(sparse, st.sampled_from([("lowest", min), ("highest", max)]))
@settings(deadline=None, max_examples=300)
def test_last_values_are_those_that_were_known_when_a_reading_was_evaluated(
    some: list[Reading], which: tuple[Literal["lowest", "highest"], Callable[..., Any]]
) -> None:
    found = means(some, (Last("last", "value", timedelta(minutes=10), which[0]), TEN_MINUTES))
    assert found.select("last", "last_age_s").rows() == last_values(some, which[1])
    assert found["mean"].to_list() == looked_up(some)


@pytest.mark.parametrize(("dtype", "values"), [(pl.String, "ACU"), (pl.Boolean, [False, True]), (pl.Int64, [1, 2, 3])])
def test_values_of_any_type_are_carried_forward(dtype: type[pl.DataType], values: Sequence[Any]) -> None:
    rng = Random(1)
    some = [
        (rng.randint(1, 2), rng.randrange(0, 3000, 50), rng.choice([None, *values]), rng.randint(0, 3))
        for _ in range(300)
    ]
    found = means(some, (Last("last", "value", timedelta(minutes=10), "highest"),), dtype)
    assert found.rows() == last_values(some, max)
    assert found.schema["last"] == dtype


def test_a_value_as_old_as_the_window_is_not_known_any_more() -> None:
    last = Last("last", "value", timedelta(minutes=5))
    some: list[Reading] = [(1, 0, 7.0, 1), (1, 299, None, 1), (1, 300, None, 1)]
    assert means(some, (last,)).rows() == [(7.0, 0.0), (7.0, 299.0), (None, None)]


def test_many_late_readings_are_passed_over_in_one_call() -> None:
    some: list[Reading] = [(1, second, float(second), 1) for second in range(0, 600, 60)]
    some += [(1, second, -float(second), 2) for second in range(0, 600) if second % 60]
    found = means(some, (Last("last", "value", timedelta(minutes=10)),))
    assert found.rows() == last_values(some, min)


def test_the_window_is_open_at_its_beginning_and_closed_at_its_end() -> None:
    assert means([(1, 0, 10.0, 1), (1, 1, 20.0, 1), (1, 600, 60.0, 1), (1, 601, 90.0, 1)])["mean"].to_list() == [
        10,
        15,
        40,
        75,
    ]


def test_readings_of_one_moment_share_one_mean() -> None:
    assert means([(1, 5, 10.0, 1), (1, 5, 20.0, 1), (2, 5, 99.0, 1)])["mean"].to_list() == [15, 15, 99]


def test_the_order_of_arrival_does_not_change_a_mean_by_a_bit() -> None:
    some = [(1, second, Random(second).uniform(40, 400), 1) for second in range(0, 600, 7)]
    in_order = means(some)["mean"]
    for seed in range(20):
        order = list(range(len(some)))
        Random(seed).shuffle(order)
        shuffled = means([some[index] for index in order])["mean"]
        assert [shuffled[order.index(index)] for index in range(len(some))] == in_order.to_list()


def test_equal_readings_average_to_themselves_exactly() -> None:
    for value in (105.0, 105.1, 0.1, 99.1001, 1000.0):
        same = means([(1, second, value, 1) for second in range(0, 600, 10)])["mean"].to_list()
        assert {round(mean, 6) for mean in same} == {value}
        assert all(first == second for first, second in pairwise(same))


def test_several_windows_each_have_their_own_length() -> None:
    some = [(1, second, float(second), 1) for second in range(0, 1500, 100)]
    frame = means(some, (TEN_MINUTES, Window("short", "value", timedelta(minutes=3))))
    assert frame.columns == ["mean", "short"]
    assert frame["mean"].to_list() == looked_up(some)
    assert frame["short"].to_list() == looked_up(some, reach=180)


def test_each_window_averages_its_own_column() -> None:
    at = [START + timedelta(seconds=second) for second in (0, 60, 120)]
    new = pl.DataFrame({"patient": [1, 1, 1], "measured_at": at, "level": [1.5, 2.5, 5.0], "beats": [60, 70, 71]})
    new = new.with_columns(pulled_at=pl.lit(START))
    windows = [
        Window("level_mean", "level", timedelta(minutes=10)),
        Window("beats_mean", "beats", timedelta(minutes=2)),
    ]
    found = trailing(new.clear(), new, windows, "patient")
    assert found.to_dict(as_series=False) == {"level_mean": [1.5, 2.0, 3.0], "beats_mean": [60.0, 65.0, 70.5]}


def test_means_are_exact_although_what_was_added_before_them_exceeds_64_bits() -> None:
    some = [(patient, second, 3e12, 1) for patient in range(5) for second in range(0, 1500, 300)]
    assert means(some)["mean"].to_list() == [3e12] * len(some)


def test_no_reading_has_no_mean() -> None:
    assert means([(1, 0, 1.0, 0)]).height == 0
