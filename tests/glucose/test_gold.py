"""The consensus metrics against hand-computed days and a plain-Python oracle, and their independence of row order."""

import math
import statistics
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from assets.glucose.gold import glucose_daily, glucose_moving_average, patient_comparison
from assets.glucose.tables import GLUCOSE_DAILY, GLUCOSE_MOVING_AVERAGE, PATIENT_COMPARISON
from tests.stream.batches import process
from tests.stream.oracle import Event
from tests.stream.scenarios import body, reading

MONDAY, TUESDAY, WEDNESDAY = date(2026, 11, 23), date(2026, 11, 24), date(2026, 11, 25)
SILVER = pl.Schema(
    {
        "patient_id": pl.Int64(),
        "event_date": pl.Date(),
        "glucose_mg_dl": pl.Float64(),
        "measured_at": pl.Datetime("us", "UTC"),
        "device_id": pl.Int64(),
        "location": pl.String(),
    }
)
MINUTE = timedelta(minutes=1)
EVENING = datetime(2026, 11, 23, 20, tzinfo=UTC)

Row = tuple[int, date, float, timedelta, int]
"""Patient, date, value, time of the day, device."""
Rows = list[Row]


def silver(rows: Rows) -> pl.DataFrame:
    whole = [
        (patient, on, value, datetime.combine(on, time(), UTC) + after, device, "home")
        for patient, on, value, after, device in rows
    ]
    return pl.DataFrame(whole, schema=SILVER, orient="row")


def day(*values: float, patient: int = 1, on: date = MONDAY) -> pl.DataFrame:
    """One reading every five minutes from midnight on."""
    return silver([(patient, on, value, 5 * number * MINUTE, 10) for number, value in enumerate(values)])


def at_minutes(*readings: tuple[float, float], device: int = 10) -> pl.DataFrame:
    """Readings as minute of the day and value."""
    return silver([(1, MONDAY, value, minute * MINUTE, device) for minute, value in readings])


times_of_day = st.one_of(
    st.integers(0, 1439).map(lambda minute: minute * MINUTE),
    st.integers(0, 20).map(lambda minute: minute * MINUTE),
    st.timedeltas(timedelta(0), timedelta(hours=23, minutes=59, seconds=59)),
)
days = st.lists(
    st.tuples(
        st.integers(1, 3),
        st.sampled_from([MONDAY, TUESDAY]),
        st.one_of(
            st.sampled_from([53.9, 54.0, 69.9, 70.0, 180.0, 180.1, 250.0, 250.1]),
            st.integers(100_000, 10**9).map(lambda value: value / 1e6),
        ),
        times_of_day,
        st.integers(1, 2),
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
        "tir_time_percent": pytest.approx(100 / 3),
        "tbr_below_70_time_percent": pytest.approx(100 / 3),
        "tbr_below_54_time_percent": pytest.approx(100 / 6),
        "tar_above_180_time_percent": pytest.approx(100 / 3),
        "tar_above_250_time_percent": pytest.approx(100 / 6),
        "mean_time_mg_dl": pytest.approx(135.0),
        "active_percent": pytest.approx(100 * 30 / 1440),
        "near_duplicate_count": 0,
        "last_at": datetime.combine(MONDAY, time(0, 25), UTC),
        "last_mg_dl": 260.0,
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
    groups: dict[tuple[int, date], Rows] = {}
    for one in rows:
        groups.setdefault(one[:2], []).append(one)
    assert daily.select("patient_id", "event_date").rows() == sorted(groups)
    for row in daily.iter_rows(named=True):
        of_day = groups[row["patient_id"], row["event_date"]]
        values = [value for _, _, value, _, _ in of_day]
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
            **by_time(of_day),
            "near_duplicate_count": near_duplicates(of_day),
            **last(of_day),
        }


def last(rows: Rows) -> dict[str, Any]:
    """The last reading, of several at that instant the lowest."""
    _, day, value, after, _ = min(rows, key=lambda row: (-row[3], row[2]))
    return {"last_at": datetime.combine(day, time(), UTC) + after, "last_mg_dl": value}


def by_time(rows: Rows) -> dict[str, Any]:
    """A day's shares of time, reading by reading."""
    lowest: dict[timedelta, float] = {}
    for _, _, value, after, _ in rows:
        lowest[after] = min(value, lowest.get(after, value))
    instants, longest = sorted(lowest), 15 * MINUTE
    stands = [later - earlier for earlier, later in pairwise(instants)]
    stands.append(stands[-1] if stands else longest)
    microseconds = [
        min(stand, longest, timedelta(days=1) - after) // timedelta(microseconds=1)
        for stand, after in zip(stands, instants, strict=True)
    ]
    total = sum(microseconds)

    def percent(condition: Callable[[float], bool]) -> Any:
        part = sum(long for long, after in zip(microseconds, instants, strict=True) if condition(lowest[after]))
        return pytest.approx(100 * part / total)

    weighted = sum(long * lowest[after] for long, after in zip(microseconds, instants, strict=True))
    return {
        "tir_time_percent": percent(lambda value: 70 <= value <= 180),
        "tbr_below_70_time_percent": percent(lambda value: value < 70),
        "tbr_below_54_time_percent": percent(lambda value: value < 54),
        "tar_above_180_time_percent": percent(lambda value: value > 180),
        "tar_above_250_time_percent": percent(lambda value: value > 250),
        "mean_time_mg_dl": pytest.approx(weighted / total),
        "active_percent": pytest.approx(100 * total / 86_400_000_000),
    }


def near_duplicates(rows: Rows) -> int:
    by_device: dict[int, list[tuple[timedelta, float]]] = {}
    for _, _, value, after, device in rows:
        by_device.setdefault(device, []).append((after, value))
    return sum(
        later[0] - earlier[0] <= MINUTE and abs(later[1] - earlier[1]) <= 10
        for readings in by_device.values()
        for earlier, later in pairwise(sorted(readings))
    )


def shares_of_time(readings: pl.DataFrame) -> tuple[float, ...]:
    """Time in range, mean over time and minutes that are covered."""
    row = glucose_daily(readings).row(0, named=True)
    return row["tir_time_percent"], row["mean_time_mg_dl"], row["active_percent"] * 14.4


def test_six_calm_hours_and_a_high_one_are_six_sevenths_in_range() -> None:
    calm = [(15.0 * step, 120.0) for step in range(24)]
    high = [(360.0 + minute, 220.0) for minute in range(60)]
    readings = at_minutes(*calm, *high)
    assert shares_of_time(readings) == pytest.approx((600 / 7, 940 / 7, 420))
    assert glucose_daily(readings).select("tir_percent", "mean_mg_dl").row(0) == pytest.approx((200 / 7, 1340 / 7))


def test_a_reading_stands_for_fifteen_minutes_at_most() -> None:
    readings = at_minutes((0, 100), (5, 200), (300, 100), (305, 200))
    assert shares_of_time(readings) == pytest.approx((100 / 3, 500 / 3, 30))


def test_the_last_reading_stands_as_long_as_the_one_before_it() -> None:
    assert shares_of_time(at_minutes((0, 100), (1, 200))) == pytest.approx((50, 150, 2))
    assert shares_of_time(at_minutes((0, 100), (600, 200))) == pytest.approx((50, 150, 30))


def test_an_only_reading_stands_for_fifteen_minutes() -> None:
    assert shares_of_time(at_minutes((600, 100))) == pytest.approx((100, 100, 15))


@pytest.mark.parametrize(("minute", "minutes"), [(1425, 15), (1430, 10), (1439.5, 0.5)])
def test_no_reading_stands_beyond_midnight(minute: float, minutes: float) -> None:
    assert shares_of_time(at_minutes((minute, 100))) == pytest.approx((100, 100, minutes))


def test_a_reading_of_the_day_before_does_not_reach_into_the_day() -> None:
    readings = pl.concat([at_minutes((1439, 300)), day(100.0, 100.0, on=TUESDAY)])
    alone = readings.filter(event_date=TUESDAY)
    assert_frame_equal(glucose_daily(readings).filter(event_date=TUESDAY), glucose_daily(alone), check_exact=True)
    assert shares_of_time(alone) == pytest.approx((100, 100, 10))


def test_a_day_without_gaps_is_covered_as_a_whole() -> None:
    daily = glucose_daily(day(*[100.0] * 288))
    assert daily.select("active_percent", "tir_time_percent").row(0) == (100.0, 100.0)
    assert patient_comparison(daily).select("active_percent", "tir_time_percent").row(0) == (100.0, 100.0)


def test_of_several_readings_of_one_instant_the_lowest_stands() -> None:
    readings = pl.concat([at_minutes((0, 60), (5, 100)), at_minutes((0, 100), (5, 90), device=20)])
    assert shares_of_time(readings) == pytest.approx((50, 75, 10))


@pytest.mark.parametrize(
    ("readings", "count"),
    [
        ([(0, 100), (0.01, 100)], 1),
        ([(0, 100), (1, 110)], 1),
        ([(0, 100), (1, 90)], 1),
        ([(0, 100), (1.001, 100)], 0),
        ([(0, 100), (0.5, 110.5)], 0),
        ([(0, 100), (0.5, 105), (1, 110)], 2),
    ],
)
def test_a_near_duplicate_is_within_a_minute_and_ten_mg_dl_of_the_reading_before(
    readings: list[tuple[float, float]], count: int
) -> None:
    assert glucose_daily(at_minutes(*readings))["near_duplicate_count"].item() == count


def test_readings_of_two_devices_are_no_near_duplicates() -> None:
    readings = pl.concat([at_minutes((0, 100)), at_minutes((0.1, 100), device=20)])
    assert glucose_daily(readings)["near_duplicate_count"].item() == 0


def share(values: list[float], condition: Callable[[float], bool]) -> Any:
    return pytest.approx(100 * sum(map(condition, values)) / len(values))


@pytest.mark.slow
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
        device_id=pl.int_range(40_000) % 7,
        event_date=pl.when(pl.int_range(40_000) % 2 == 0).then(MONDAY).otherwise(TUESDAY),
    )
    after = pl.duration(seconds=pl.int_range(40_000).hash(5) % 86_400)
    rows = rows.with_columns(measured_at=pl.col("event_date").cast(pl.Datetime("us", "UTC")) + after)
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


def test_patients_are_ranked_by_the_share_of_time_in_range():
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
    comparison = patient_comparison(daily)
    # Of patient 1 the only reading of Tuesday stands for as long as the three of Monday together.
    assert comparison.select("patient_id", "reading_count", "mean_mg_dl", "tir_percent", "rank").rows() == [
        (1, 4, 150.0, 50.0, 2),
        (2, 2, 200.0, 50.0, 3),
        (3, 1, 100.0, 100.0, 1),
        (4, 4, 200.0, 0.0, 4),
    ]
    assert comparison["tir_time_percent"].to_list() == pytest.approx([200 / 3, 50, 100, 0])
    assert comparison["mean_time_mg_dl"].to_list() == pytest.approx([400 / 3, 200, 100, 200])
    assert comparison["active_percent"].to_list() == pytest.approx(
        [100 * 15 / 1440, *(100 * m / 1440 for m in (10, 15, 20))]
    )
    assert comparison["near_duplicate_count"].to_list() == [0, 0, 0, 0]


def test_a_patient_whose_days_know_no_time_has_the_last_rank():
    old = glucose_daily(day(100.0, patient=1))
    times = [
        name for name in GLUCOSE_DAILY.schema if "_time_" in name or name in ("active_percent", "near_duplicate_count")
    ]
    old = old.with_columns(pl.lit(None, old.schema[name]).alias(name) for name in times)
    comparison = patient_comparison(pl.concat([old, glucose_daily(day(300.0, patient=2))]))
    assert comparison.select(
        "patient_id", "rank", "tir_time_percent", "active_percent", "near_duplicate_count"
    ).rows() == [
        (1, 2, None, None, None),
        (2, 1, 0.0, pytest.approx(100 * 15 / 1440), 0),
    ]
    assert comparison["mean_time_mg_dl"].to_list() == [None, 300.0]


def test_both_units_of_the_limits_give_one_day() -> None:
    mmol_l, mg_dl = (3.0, 3.8, 3.9, 10.0, 10.1, 13.9, 14.0), (54, 69, 70, 180, 182, 250, 252)
    sent = [body(reading(30 * at, value, patient=81, unit="mmol/L")) for at, value in enumerate(mmol_l)]
    sent += [body(reading(30 * at, value, patient=82)) for at, value in enumerate(mg_dl)]
    outcome = process([[Event(0, at, EVENING, EVENING, each) for at, each in enumerate(sent)]])
    daily = glucose_daily(outcome.silver)
    names = ("tir", "tbr_below_70", "tbr_below_54", "tar_above_180", "tar_above_250")
    for kind in ("percent", "time_percent"):
        for row in daily.select(f"{name}_{kind}" for name in names).rows():
            assert row == pytest.approx([200 / 7, 200 / 7, 0, 300 / 7, 100 / 7])
    urgent = outcome.alerts.filter(rule="glucose_urgent_high")
    assert urgent["patient_id"].to_list() == [81, 82]


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
