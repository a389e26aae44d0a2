"""The consensus metrics against hand-computed days and a plain-Python oracle, and their independence of row order."""

import math
import statistics
from collections.abc import Callable
from datetime import date
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from assets.glucose.gold import glucose_daily, glucose_moving_average, patient_comparison
from assets.glucose.tables import GLUCOSE_DAILY, GLUCOSE_MOVING_AVERAGE, PATIENT_COMPARISON

MONDAY, TUESDAY, WEDNESDAY = date(2026, 11, 23), date(2026, 11, 24), date(2026, 11, 25)
SILVER = pl.Schema({"patient_id": pl.Int64, "event_date": pl.Date, "glucose_mg_dl": pl.Float64, "location": pl.String})

Rows = list[tuple[int, date, float]]


def silver(rows: Rows) -> pl.DataFrame:
    return pl.DataFrame([(*row, "home") for row in rows], schema=SILVER, orient="row")


def day(*values: float, patient: int = 1, on: date = MONDAY) -> pl.DataFrame:
    return silver([(patient, on, value) for value in values])


days = st.lists(
    st.tuples(
        st.integers(1, 3),
        st.sampled_from([MONDAY, TUESDAY]),
        st.one_of(st.sampled_from([53.9, 54.0, 69.9, 70.0, 180.0, 180.1, 250.0, 250.1]), st.floats(0.1, 1000)),
    ),
    min_size=1,
    max_size=60,
)


def test_a_day_computed_by_hand():
    assert glucose_daily(day(50, 60, 70, 180, 190, 260)).row(0, named=True) == {
        "patient_id": 1,
        "event_date": MONDAY,
        "reading_count": 6,
        "mean_mg_dl": 135.0,
        "sd_mg_dl": pytest.approx(math.sqrt(7550)),
        "min_mg_dl": 50.0,
        "max_mg_dl": 260.0,
        "cv_percent": pytest.approx(100 * math.sqrt(7550) / 135),
        "gmi_percent": pytest.approx(6.5392),
        "tir_percent": pytest.approx(100 / 3),
        "tbr_below_70_percent": pytest.approx(100 / 3),
        "tbr_below_54_percent": pytest.approx(100 / 6),
        "tar_above_180_percent": pytest.approx(100 / 3),
        "tar_above_250_percent": pytest.approx(100 / 6),
    }


@pytest.mark.parametrize(
    ("value", "column"),
    [(70.0, "tir_percent"), (180.0, "tir_percent"), (69.9, "tbr_below_70_percent"), (180.1, "tar_above_180_percent")],
)
def test_a_reading_on_a_limit_belongs_to_one_share(value, column):
    shares = (
        glucose_daily(day(value))
        .select("tir_percent", "tbr_below_70_percent", "tar_above_180_percent")
        .row(0, named=True)
    )
    assert {name for name, share in shares.items() if share} == {column}


@pytest.mark.parametrize(("value", "share"), [(54.0, 0.0), (53.9, 100.0)])
def test_54_is_not_severe(value, share):
    assert glucose_daily(day(value))["tbr_below_54_percent"].item() == share


@pytest.mark.parametrize(("value", "share"), [(250.0, 0.0), (250.1, 100.0)])
def test_250_is_not_severe(value, share):
    assert glucose_daily(day(value))["tar_above_250_percent"].item() == share


def test_one_reading_has_no_spread():
    assert glucose_daily(day(100.0)).select("sd_mg_dl", "cv_percent").row(0) == (None, None)


def test_equal_readings_have_no_spread_at_all():
    assert glucose_daily(day(*[100.1] * 50)).select("sd_mg_dl", "cv_percent").row(0) == (0.0, 0.0)


@settings(deadline=None, max_examples=60)
@given(days)
def test_every_metric_is_the_oracle_s(rows: Rows):
    daily = glucose_daily(silver(rows))
    groups: dict[tuple[int, date], list[float]] = {}
    for patient, on, value in rows:
        groups.setdefault((patient, on), []).append(value)
    assert daily.select("patient_id", "event_date").rows() == sorted(groups)
    for row in daily.iter_rows(named=True):
        values = groups[row["patient_id"], row["event_date"]]
        mean = statistics.fmean(values)
        sd = statistics.stdev(values) if len(values) > 1 else None
        assert row == {
            "patient_id": row["patient_id"],
            "event_date": row["event_date"],
            "reading_count": len(values),
            "mean_mg_dl": pytest.approx(mean),
            "sd_mg_dl": sd if sd is None else pytest.approx(sd, abs=1e-9),
            "min_mg_dl": min(values),
            "max_mg_dl": max(values),
            "cv_percent": sd if sd is None else pytest.approx(100 * sd / mean, abs=1e-9),
            "gmi_percent": pytest.approx(3.31 + 0.02392 * mean),
            "tir_percent": share(values, lambda value: 70 <= value <= 180),
            "tbr_below_70_percent": share(values, lambda value: value < 70),
            "tbr_below_54_percent": share(values, lambda value: value < 54),
            "tar_above_180_percent": share(values, lambda value: value > 180),
            "tar_above_250_percent": share(values, lambda value: value > 250),
        }


def share(values: list[float], condition: Callable[[float], bool]) -> Any:
    return pytest.approx(100 * sum(map(condition, values)) / len(values))


@settings(deadline=None, max_examples=60)
@given(days, st.randoms())
def test_the_order_of_rows_changes_no_bit(rows: Rows, random):
    shuffled = random.sample(rows, len(rows))
    first, second = silver(rows), silver(shuffled)
    assert_frame_equal(glucose_daily(first), glucose_daily(second), check_exact=True)
    assert_frame_equal(
        glucose_moving_average(first, [TUESDAY]), glucose_moving_average(second, [TUESDAY]), check_exact=True
    )
    days = glucose_daily(first)
    assert_frame_equal(
        patient_comparison(days), patient_comparison(days.sample(fraction=1, shuffle=True, seed=3)), check_exact=True
    )


def test_many_readings_give_the_same_bits_in_any_order_chunks_and_company():
    values = pl.select(pl.int_range(40_000)).to_series().hash(7) % 400_000 / 1000 + 40.0
    rows = pl.DataFrame({"glucose_mg_dl": values}).with_columns(
        patient_id=pl.int_range(40_000) % 3,
        event_date=pl.when(pl.int_range(40_000) % 2 == 0).then(MONDAY).otherwise(TUESDAY),
    )
    expected = glucose_daily(rows)
    shuffled = rows.sample(fraction=1, shuffle=True, seed=1)
    pieces = pl.concat([shuffled[:11], shuffled[11:9_000], shuffled[9_000:]], rechunk=False)
    alone = glucose_daily(shuffled.lazy().filter(event_date=TUESDAY))
    assert_frame_equal(glucose_daily(pieces), expected, check_exact=True)
    assert_frame_equal(alone, expected.filter(event_date=TUESDAY), check_exact=True)


def test_the_two_day_mean_weighs_readings_not_days():
    rows = pl.concat([day(100.0), day(160.0, 190.0, on=TUESDAY)])
    assert glucose_moving_average(rows, [TUESDAY]).rows() == [(1, TUESDAY, 2, 175.0, 3, 150.0)]


def test_without_a_day_before_the_two_day_mean_is_the_day_s():
    rows = pl.concat([day(100.0), day(160.0, on=WEDNESDAY)])
    assert glucose_moving_average(rows, [MONDAY, WEDNESDAY]).rows() == [
        (1, MONDAY, 1, 100.0, 1, 100.0),
        (1, WEDNESDAY, 1, 160.0, 1, 160.0),
    ]


def test_only_wanted_dates_come_out():
    rows = pl.concat([day(100.0), day(110.0, on=TUESDAY), day(120.0, on=WEDNESDAY)])
    assert glucose_moving_average(rows, [WEDNESDAY])["event_date"].to_list() == [WEDNESDAY]


def test_a_date_needs_itself_and_the_day_before_only():
    needed = pl.concat([day(110.1, 97.3, on=TUESDAY), day(120.7, on=WEDNESDAY)])
    company = pl.concat([day(100.0), needed])
    assert_frame_equal(
        glucose_moving_average(needed, [WEDNESDAY]), glucose_moving_average(company, [WEDNESDAY]), check_exact=True
    )


def test_a_patient_absent_on_a_date_has_no_row_for_it():
    assert glucose_moving_average(day(100.0), [TUESDAY]).is_empty()


def test_patients_are_ranked_by_time_in_range_over_all_readings():
    daily = glucose_daily(
        pl.concat(
            [
                day(100.0, 200.0, 200.0, patient=1),
                day(100.0, patient=1, on=TUESDAY),
                day(100.0, 300.0, patient=2),
                day(100.0, patient=3),
                day(*[200.0] * 4, patient=4),
            ]
        )
    )
    assert patient_comparison(daily).rows() == [
        (1, 4, 150.0, 50.0, 2),
        (2, 2, 200.0, 50.0, 2),
        (3, 1, 100.0, 100.0, 1),
        (4, 4, 200.0, 0.0, 4),
    ]


def test_equal_shares_of_different_days_share_a_rank():
    thirds = pl.concat([day(100.0, 200.0, 200.0), day(100.0, 200.0, 200.0, on=TUESDAY)])
    sixths = day(*[100.0] * 2, *[200.0] * 4, patient=2)
    assert patient_comparison(glucose_daily(pl.concat([thirds, sixths])))["rank"].to_list() == [1, 1]


def test_no_readings_give_no_rows_of_the_tables_schemas():
    nothing = silver([])
    frames = (
        glucose_daily(nothing),
        glucose_moving_average(nothing, [MONDAY]),
        patient_comparison(glucose_daily(nothing)),
    )
    assert [frame.height for frame in frames] == [0, 0, 0]
    assert [frame.schema for frame in frames] == [
        GLUCOSE_DAILY.schema,
        GLUCOSE_MOVING_AVERAGE.schema,
        PATIENT_COMPARISON.schema,
    ]


def test_no_dates_give_no_rows():
    assert glucose_moving_average(day(100.0), []).is_empty()
