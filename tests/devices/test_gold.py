"""Device health against hand-computed days, and its independence of row order."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from assets.devices.gold import device_health
from assets.devices.tables import DEVICE_HEALTH

MIDNIGHT = datetime(2026, 11, 23, tzinfo=UTC)
SILVER = pl.Schema(
    {
        "device_id": pl.Int64(),
        "measured_at": pl.Datetime("us", "UTC"),
        "battery_level": pl.Float64(),
        "connectivity_status": pl.String(),
        "error_codes": pl.String(),
    }
)

Report = tuple[float, float, str, str]


def silver(*reports: Report, device: int = 1) -> pl.DataFrame:
    rows = [(device, MIDNIGHT + timedelta(minutes=minute), *rest) for minute, *rest in reports]
    return pl.DataFrame(rows, schema=SILVER, orient="row").with_columns(event_date=pl.col("measured_at").dt.date())


def levels(*points: tuple[float, float]) -> pl.DataFrame:
    return silver(*[(minute, level, "Connected", "") for minute, level in points])


def slope(frame: pl.DataFrame) -> Any:
    return device_health(frame)["battery_slope_percent_per_day"].item()


def test_a_day_computed_by_hand():
    rows = silver(
        (0, 90, "Connected", ""),
        (30, 80, "Poor Connection", "Err2"),
        (90, 70, "Disconnected", "Err1"),
        (135, 75, "Connected", "Err1"),
    )
    row = device_health(rows).row(0, named=True)
    assert row == {
        "device_id": 1,
        "event_date": date(2026, 11, 23),
        "reading_count": 4,
        "last_seen_at": MIDNIGHT + timedelta(minutes=135),
        "battery_min_percent": 70.0,
        "battery_last_percent": 75.0,
        "battery_slope_percent_per_day": pytest.approx(np.polyfit([0, 30, 90, 135], [90, 80, 70, 75], 1)[0] * 1440),
        "connected_percent": 50.0,
        "poor_connection_percent": 25.0,
        "disconnected_percent": 25.0,
        "error_count": 3,
        "err1_count": 2,
        "err2_count": 1,
        "err3_count": 0,
        "silent_gap_count": 2,
        "longest_silent_gap_minutes": 60.0,
    }


def test_a_steady_drain_has_its_own_slope():
    assert slope(levels((0, 100), (360, 75), (720, 50))) == pytest.approx(-100.0)


def test_a_charge_makes_the_slope_positive():
    assert slope(levels((0, 20), (60, 15), (120, 100))) > 0


def test_a_full_battery_has_no_slope():
    assert slope(levels((0, 100), (60, 100))) == 0.0


@pytest.mark.parametrize("points", [[(5, 80)], [(5, 80), (5, 60)]])
def test_one_time_has_no_slope(points):
    assert slope(levels(*points)) is None


@pytest.mark.parametrize(("pause", "gaps"), [(30, (0, None)), (30.001, (1, pytest.approx(30.001)))])
def test_a_gap_is_silent_from_more_than_thirty_minutes(pause, gaps):
    health = device_health(levels((0, 50), (pause, 50)))
    assert health.select("silent_gap_count", "longest_silent_gap_minutes").row(0) == gaps


def test_silence_over_midnight_is_no_gap_of_either_day():
    health = device_health(levels((0, 50), (1440, 50)))
    assert health["silent_gap_count"].to_list() == [0, 0]


def test_devices_do_not_fill_each_other_s_gaps():
    both = pl.concat([levels((0, 50), (60, 50)), silver((30, 50, "Connected", ""), device=2)])
    assert device_health(both)["silent_gap_count"].to_list() == [1, 0]


reports = st.lists(
    st.tuples(
        st.floats(0, 2000, allow_nan=False),
        st.floats(0, 100),
        st.sampled_from(["Connected", "Disconnected", "Poor Connection"]),
        st.sampled_from(["", "Err1", "Err2", "Err3"]),
    ),
    min_size=1,
    max_size=40,
)


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(reports, st.randoms())
def test_the_order_of_rows_changes_no_bit(rows: list[Report], random):
    first, second = silver(*rows), silver(*random.sample(rows, len(rows)))
    assert_frame_equal(device_health(first), device_health(second), check_exact=True)


@settings(deadline=None, max_examples=60)
@given(reports)
def test_a_day_alone_is_the_day_in_company(rows: list[Report]):
    everything = silver(*rows)
    day = everything["event_date"].max()
    assert_frame_equal(
        device_health(everything.lazy().filter(event_date=day)),
        device_health(everything).filter(event_date=day),
        check_exact=True,
    )


@settings(deadline=None, max_examples=60)
@given(reports)
def test_shares_and_errors_add_up(rows: list[Report]):
    health = device_health(silver(*rows))
    shares = health.select(pl.sum_horizontal("connected_percent", "poor_connection_percent", "disconnected_percent"))
    errors = health.select(pl.sum_horizontal("err1_count", "err2_count", "err3_count")).to_series()
    assert shares.to_series().to_list() == pytest.approx([100.0] * health.height)
    assert errors.to_list() == health["error_count"].to_list()


def test_no_reports_give_no_rows_of_the_table_s_schema():
    health = device_health(silver())
    assert health.height == 0
    assert health.schema == DEVICE_HEALTH.schema
