"""Rates, sustained values, counts and forecasts against a plain evaluation, and what no such evaluation could show."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.stream import kinds
from assets.stream.kinds import evaluated
from assets.stream.spans import MINUTE, Forecast, Nth, Rate, Span, Sustained
from tests.stream.plain_spans import Reading, plain

START = datetime(2026, 11, 23, tzinfo=UTC)
UTC_US = pl.Datetime("us", "UTC")
PLAUSIBLE = (20.0, 1000.0)
SPANS: tuple[Span, ...] = (
    Rate("rate", "value", 15 * MINUTE),
    Rate("rate_of_two", "value", 7 * MINUTE, at_least=2),
    Sustained("low", "value", 15 * MINUTE),
    Sustained("high", "value", 8 * MINUTE, gap=5 * MINUTE, beyond="above"),
    Nth("low_of", "value", 3, 4, 30 * MINUTE),
    Nth("high_of", "value", 2, 3, 20 * MINUTE, beyond="above"),
    Forecast("line", "value", "linear", 20 * MINUTE, 15 * MINUTE),
    Forecast("ar2", "value", "ar2", 30 * MINUTE, 60 * MINUTE),
)

Given = tuple[int, int, float | None, int]
"""Patient, microseconds since the start, value or None, number of the micro-batch that evaluated it (0: known)."""


def frame_of(readings: Sequence[Given]) -> pl.DataFrame:
    rows = [
        (patient, START + timedelta(microseconds=us), value, START + timedelta(seconds=batch), batch)
        for patient, us, value, batch in readings
    ]
    schema: dict[str, Any] = {
        "patient": pl.Int64,
        "measured_at": UTC_US,
        "value": pl.Float64,
        "pulled_at": UTC_US,
        "batch": pl.Int64,
    }
    return pl.DataFrame(rows, schema=schema, orient="row")


def columns(known: pl.DataFrame, new: pl.DataFrame, spans: Sequence[Span] = SPANS) -> pl.DataFrame:
    is_wanted = pl.Series([True]).new_from_index(0, new.height)
    return pl.DataFrame(evaluated(known, new, is_wanted, spans, "patient", {"value": PLAUSIBLE}))


def found(readings: Sequence[Given], spans: Sequence[Span] = SPANS) -> pl.DataFrame:
    """The columns at all readings that are not known before, evaluated in one call."""
    frame = frame_of(readings)
    return columns(frame.filter(pl.col("batch") == 0), frame.filter(pl.col("batch") > 0), spans)


def plainly(readings: Sequence[Given], span: Span) -> list[float | None]:
    right: list[float | None] = []
    for patient, us, value, batch in readings:
        if batch:
            known = [
                Reading(START + timedelta(microseconds=other_us), other)
                for who, other_us, other, since in readings
                if who == patient and since <= batch
            ]
            right.append(plain(span, Reading(START + timedelta(microseconds=us), value), known, PLAUSIBLE))
    return right


def assert_alike(readings: Sequence[Given], spans: Sequence[Span] = SPANS) -> None:
    frame = found(readings, spans)
    for span in spans:
        for mine, right in zip(frame[span.name].to_list(), plainly(readings, span), strict=True):
            assert (mine is None) == (right is None), (span.name, mine, right)
            # The exact value may be half way between two millionths.
            assert mine is None or mine == pytest.approx(right, rel=1e-9, abs=2e-6), span.name


SECOND, FIVE_MINUTES = 1_000_000, 300_000_000
instants = st.one_of(
    st.integers(0, 20).map(lambda number: number * FIVE_MINUTES),
    st.builds(
        lambda number, off: number * FIVE_MINUTES + off, st.integers(1, 20), st.integers(-9 * SECOND, 9 * SECOND)
    ),
    st.integers(0, 90).map(lambda number: number * 60 * SECOND),
    st.integers(0, 6000 * SECOND),
)
values = st.one_of(
    st.none(),
    st.sampled_from([55.0, 69.9, 70.0, 70.1, 110.0, 180.5]),
    st.floats(20, 400).map(lambda each: round(each, 1)),
)
some_readings = st.lists(st.tuples(st.integers(1, 2), instants, values, st.integers(0, 4)), min_size=1, max_size=45)


@pytest.mark.slow
@given(some_readings)
@settings(deadline=None, max_examples=150)
def test_columns_are_those_of_all_readings_known_when_a_reading_was_evaluated(readings: list[Given]) -> None:
    assert_alike(readings)


def a_day(seed: int, spacing: int = FIVE_MINUTES, hours: int = 6) -> list[Given]:
    """A patient's readings with jitter, gaps, readings that come late or share an instant, and some without a value."""
    random, found, level = Random(seed), [], 120.0
    for number in range(hours * 3600 * SECOND // spacing):
        level = min(max(level + random.gauss(0, 4), 41), 390)
        if random.random() < 0.06:
            continue
        us = number * spacing + random.choice((0, 0, random.randrange(-9 * SECOND, 9 * SECOND))) + 10 * SECOND
        batch = 1 + number // 10 + (random.randrange(1, 6) if random.random() < 0.1 else 0)
        value = None if random.random() < 0.03 else round(level, 1)
        found += [(1, us, value, batch)]
        if random.random() < 0.05:
            found += [(1, us, round(level + random.gauss(0, 9), 1), batch + random.randrange(3))]
    return found


@pytest.mark.parametrize("seed", range(4))
def test_columns_of_a_day_are_those_of_a_plain_evaluation(seed: int) -> None:
    assert_alike(a_day(seed))


@pytest.mark.slow
def test_columns_of_readings_of_each_second_are_those_of_a_plain_evaluation() -> None:
    spans: list[Span] = [
        Rate("rate", "value", MINUTE),
        Sustained("low", "value", MINUTE, gap=MINUTE),
        Nth("nth", "value", 3, 5, MINUTE),
    ]
    random = Random(1)
    assert_alike([(1, second * SECOND, 97.0 - random.random(), 1 + second // 50) for second in range(200)], spans)


@pytest.mark.slow
@given(st.data())
@settings(deadline=None, max_examples=60)
def test_the_order_of_arrival_and_the_cuts_do_not_change_a_column_by_a_bit(data: st.DataObject) -> None:
    readings = data.draw(some_readings)
    in_one_call = found(readings)
    order = data.draw(st.permutations(range(len(readings))))
    shuffled = found([readings[place] for place in order])
    new = [place for place, each in enumerate(readings) if each[3]]
    places = [place for place in order if readings[place][3]]
    assert shuffled.rows() == [in_one_call.row(new.index(place)) for place in places]
    frame = frame_of(readings)
    by_batch: dict[int, tuple[Any, ...]] = {}
    for number in range(1, 5):
        is_new = frame["batch"] == number
        one = columns(frame.filter(pl.col("batch") < number), frame.filter(is_new))
        by_batch |= dict(zip(is_new.arg_true().to_list(), one.rows(), strict=True))
    assert in_one_call.rows() == [by_batch[place] for place in new]


def test_what_is_laid_out_at_once_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = a_day(7)
    whole = found(readings)
    monkeypatch.setattr(kinds, "PAIRS", 5)
    assert found(readings).equals(whole)


def test_only_what_is_wanted_is_evaluated_and_others_count_as_known() -> None:
    frame = frame_of(a_day(3))
    is_wanted = pl.Series(number % 3 == 0 for number in range(frame.height))
    some = pl.DataFrame(evaluated(frame.clear(), frame, is_wanted, SPANS, "patient", {"value": PLAUSIBLE}))
    whole = columns(frame.clear(), frame)
    assert some.filter(is_wanted).equals(whole.filter(is_wanted))
    assert set(some.filter(~is_wanted).row(0)) == {None}
    nothing = pl.Series([False]).new_from_index(0, frame.height)
    assert evaluated(frame.clear(), frame, nothing, SPANS[:1], "patient", {})[0].null_count() == frame.height


def every_five_minutes(*given: float | None, patient: int = 1) -> list[Given]:
    return [(patient, number * FIVE_MINUTES, value, 1) for number, value in enumerate(given)]


def last(readings: Sequence[Given], span: Span) -> float | None:
    value: float | None = found(readings, (span,)).to_series()[-1]
    return value


def test_a_line_of_decimals_has_the_slope_that_a_person_would_write() -> None:
    falling = every_five_minutes(120.3, 109.8, 99.3, 88.8)
    assert last(falling, Rate("rate", "value")) == -2.1
    assert last(falling, Forecast("line", "value", "linear", 20 * MINUTE, 15 * MINUTE)) == 46.8


def test_a_rate_needs_readings_that_cover_half_of_its_length() -> None:
    rate = Rate("rate", "value")
    assert last(every_five_minutes(100, 90), rate) is None
    assert last([(1, second * SECOND, 100.0 + second, 1) for second in range(400)], rate) is None
    assert last([(1, second * SECOND, 100.0 + second, 1) for second in range(451)], rate) == 60
    assert last([(1, 0, 90.0, 1), (1, 0, 91.0, 1), (1, 0, 95.0, 1)], rate) is None


def test_a_sustained_value_reaches_back_at_least_its_length_without_a_gap() -> None:
    low = Sustained("low", "value", 15 * MINUTE)
    assert last(every_five_minutes(60, 65, 61), low) is None
    assert last(every_five_minutes(60, 65, 61, 50), low) == 65
    assert last(every_five_minutes(99, 60, 65, 61, 50), low) == 65
    # The reading before the span is the last one at or before its beginning.
    assert (
        last([(1, 0, 80.0, 1), *((1, 1 + each[1], *each[2:]) for each in every_five_minutes(60, 65, 61, 50)[1:])], low)
        == 80
    )
    assert last(every_five_minutes(60, None, None, 50), low) == 60
    assert last(every_five_minutes(60, 65, None, None, None, 50), low) is None
    assert last([*every_five_minutes(60, 65, 61), (1, 0, 90.0, 1), (1, 3 * FIVE_MINUTES, 50.0, 1)], low) == 90
    assert last(every_five_minutes(181, 260, 190, 199), Sustained("high", "value", 15 * MINUTE, beyond="above")) == 181


def test_of_readings_of_one_instant_a_count_takes_the_one_that_is_further_beyond() -> None:
    readings = [*every_five_minutes(60, 65, 90), (1, 2 * FIVE_MINUTES, 69.0, 1)]
    assert found(readings, (Nth("low", "value", 3, 4, 30 * MINUTE),)).to_series().to_list() == [None, None, 69, 69]
    assert last(readings, Nth("high", "value", 1, 2, 30 * MINUTE, "above")) == 90


def test_forecasts_stay_within_plausible_values() -> None:
    falling = every_five_minutes(*range(160, 40, -10))
    for method in ("linear", "ar2"):
        forecast = Forecast("x", "value", method, 30 * MINUTE, 60 * MINUTE)
        assert 20 <= (last(falling, forecast) or 0) < 50
