"""What charts show of their frames: the marks, where they are, and what is said of them."""

import math
import re
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from dashboard.charts.bars import bars, columns, daily
from dashboard.charts.compared import APART, comparison, distribution
from dashboard.charts.forest import forest
from dashboard.charts.lines import line
from dashboard.charts.marks import MMOL_L, TARGET, Limit, cut, thinned
from dashboard.charts.profile import (
    LEAST_DAYS,
    SLOTS,
    agp,
    by_time_of_day,
    control,
    time_in_range,
)
from dashboard.charts.svg import NARROW, WIDE, time_ticks
from dashboard.charts.vitals import vitals
from dashboard.routes_compare import told_apart

SINCE = datetime(2026, 11, 28, 10, tzinfo=UTC)
UNTIL = SINCE + timedelta(days=1)
ZONE = "Europe/Lisbon"
UTC_US = pl.Datetime("us", "UTC")


def every(minutes: int, values: list[float], since: datetime = SINCE) -> pl.DataFrame:
    times = [since + timedelta(minutes=minutes * place) for place in range(len(values))]
    return pl.DataFrame({"measured_at": times, "value": values}, schema={"measured_at": UTC_US, "value": pl.Float64})


def a_day() -> pl.DataFrame:
    return every(5, [120 + 60 * math.sin(place / 30) for place in range(288)])


def glucose(days: int, minutes: int = 5) -> pl.DataFrame:
    """Readings of one patient up to `UNTIL`: 100 by night, 160 by day, in UTC."""
    times = [UNTIL - timedelta(minutes=minutes * place) for place in range(days * 1440 // minutes)][::-1]
    values = [160.0 if 8 <= each.hour < 20 else 100.0 for each in times]
    return pl.DataFrame(
        {"patient_id": 7, "device_id": 70, "measured_at": times, "glucose_mg_dl": values},
        schema_overrides={"patient_id": pl.Int64, "device_id": pl.Int64, "measured_at": UTC_US},
    ).with_columns(event_date=pl.col("measured_at").dt.date())


def marks(svg: str, style: str) -> list[ElementTree.Element]:
    """The marks that have all of some classes."""
    wanted = {*style.split()}
    return [each for each in ElementTree.fromstring(svg).iter() if wanted <= {*each.get("class", "").split()}]


def texts(svg: str) -> list[str]:
    return [each.text or "" for each in ElementTree.fromstring(svg).iter("text")]


def drawn(svg: str, style: str = "line") -> list[list[tuple[float, float]]]:
    """The points of lines."""
    found = []
    for each in marks(svg, style):
        numbers = [float(number) for number in re.findall(r"-?[\d.]+", each.get("d", ""))]
        found.append(list(zip(numbers[::2], numbers[1::2], strict=True)))
    return found


def test_a_line_breaks_where_there_are_no_readings_and_says_so():
    before, after = every(5, [100.0] * 60), every(5, [150.0] * 60, SINCE + timedelta(hours=10))
    svg = line(pl.concat([before, after]), SINCE, UNTIL, ZONE, title="Glucose")
    first, second = drawn(svg)
    assert first[-1][0] < second[0][0]
    gaps = marks(svg, "gap")
    assert [each[0].text for each in gaps] == [
        "no readings from 28 Nov 14:55 to 28 Nov 20:00",
        "no readings from 29 Nov 00:55 to 29 Nov 10:00",
    ]


def test_readings_next_to_each_other_are_one_line():
    svg = line(a_day(), SINCE, UNTIL, ZONE, title="Glucose")
    assert len(drawn(svg)) == 1
    assert marks(svg, "gap") == []


def test_thinning_keeps_what_is_lowest_and_highest():
    values = [120.0] * 4032
    values[1777], values[2900] = 41.0, 390.0
    points = every(5, values)
    kept = thinned(points, SINCE, SINCE + timedelta(days=14), 300)
    assert kept.height < 1300
    assert kept["measured_at"].is_sorted()
    assert {41.0, 390.0} <= {*kept["value"]}
    assert kept.row(0) == points.row(0)
    assert kept.row(-1) == points.row(-1)


def test_a_low_of_one_reading_is_drawn_on_a_phone_too():
    values = [120.0] * 4032
    values[1777] = 41.0
    svg = line(every(5, values), SINCE, SINCE + timedelta(days=14), ZONE, title="Glucose", size=NARROW)
    [points] = drawn(svg)
    assert max(y for _, y in points) == pytest.approx(215.2, abs=0.2)  # 41 of 40 to 300, from 216 up to 26
    assert all(x <= NARROW.width for x, _ in points)


def test_values_are_shown_in_mmol_per_l_with_the_limits_of_the_pair():
    limits = [Limit(54.0, "urgent", "urgent low"), Limit(250.0, "urgent", "urgent high")]
    svg = line(a_day(), SINCE, UNTIL, ZONE, title="Glucose", unit=MMOL_L, bands=[TARGET], limits=limits)
    said = texts(svg)
    assert {"target 3.9–10.0", "urgent low 3.0", "urgent high 13.9", "Glucose, mmol/L"} <= {*said}
    mg_dl, mmol = drawn(line(a_day(), SINCE, UNTIL, ZONE, title="Glucose"))[0], drawn(svg)[0]
    assert [y for _, y in mmol] == pytest.approx([y for _, y in mg_dl], abs=0.11)


def test_alarms_have_a_shape_a_severity_and_a_text():
    alarms = pl.DataFrame(
        {
            "raised_at": [SINCE + timedelta(hours=3), SINCE + timedelta(hours=4)],
            "ended_at": [SINCE + timedelta(hours=5), None],
            "severity": ["urgent", "warning"],
            "cause": ["glucose_low", "glucose_high"],
        }
    )
    svg = line(a_day(), SINCE, UNTIL, ZONE, title="Glucose", alarms=alarms)
    shapes = {each.get("class"): each for each in marks(svg, "alarm") if each.tag.endswith("path")}
    assert shapes["alarm urgent"].get("d") != shapes["alarm warning"].get("d")
    assert shapes["alarm urgent"][0].text == "urgent glucose_low: 28 Nov 13:00 to 28 Nov 15:00"
    assert shapes["alarm warning"][0].text == "warning glucose_high: 28 Nov 14:00 to now"
    lanes = {each.get("y") for each in marks(svg, "alarm") if each.tag.endswith("rect")}
    assert len(lanes) == 2


def test_a_chart_is_named_and_summed_up_for_those_who_do_not_see_it():
    svg = line(every(5, [62.0, 240.0, 118.0]), SINCE, UNTIL, ZONE, title="Glucose")
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img"
    assert root[0].text == "Glucose"
    assert root.get("aria-label") == (
        "Glucose. From 28 Nov 10:00 to 29 Nov 10:00, times in Europe/Lisbon. 3 readings, lowest 62 at 28 Nov 10:00, "
        "highest 240 at 28 Nov 10:05, last 118 at 28 Nov 10:10, in mg/dL; 0 gaps."
    )


def test_texts_of_others_are_escaped_and_no_style_is_inline():
    rows = pl.DataFrame({"label": ["<script>&"], "value": [3]})
    svg = bars(rows, "Reactions", said="reports")
    assert "<script>" not in svg
    assert "style=" not in svg
    assert "<script>&" in "".join(texts(svg))


def test_without_readings_a_chart_says_so():
    svg = line(every(5, []), SINCE, UNTIL, ZONE, title="Glucose")
    assert "No readings." in (ElementTree.fromstring(svg).get("aria-label") or "")
    assert "no readings" in texts(svg)


def test_ticks_are_round_local_times_also_when_clocks_change():
    since = datetime(2026, 3, 28, 12, tzinfo=UTC)
    ticks = time_ticks(since, since + timedelta(days=1), ZoneInfo("Europe/Berlin"), 9)
    assert [label for _, label in ticks] == ["15:00", "18:00", "21:00", "29 Mar", "03:00", "06:00", "09:00", "12:00"]
    after = [instant for instant, label in ticks if label == "03:00"]
    assert after == [datetime(2026, 3, 29, 1, tzinfo=UTC)]


@pytest.mark.parametrize("hours", [24, 24 * 7, 24 * 14])
@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_labels_of_times_do_not_lie_on_each_other_nor_are_cut(size, hours):
    svg = line(a_day(), SINCE, SINCE + timedelta(hours=hours), ZONE, title="Glucose", size=size)
    ticks = [
        each for each in marks(svg, "tick") if re.search("[:A-Z]", each.text or "") and each.get("text-anchor") != "end"
    ]
    places = [float(each.get("x", "0")) for each in ticks]
    assert len(places) >= 3
    assert min(b - a for a, b in pairwise(places)) >= 36
    assert max(places) <= size.width - 18


def test_percentiles_are_those_of_the_local_time_of_day():
    slots = by_time_of_day(glucose(14), "America/New_York")
    assert slots["slot"].to_list() == list(range(SLOTS))
    by_hour = {slot // 4: value for slot, value in slots.select("slot", "p50").iter_rows() if slot % 4 == 2}
    # From 8 to 20 in UTC is from 3 to 15 there.
    assert [hour for hour, value in by_hour.items() if value == 160.0] == list(range(3, 15))


def test_percentiles_are_those_of_all_readings_around_a_time():
    values = [float(each) for each in range(1, 15)]
    times = [datetime(2026, 11, 1 + day, 12, 5, tzinfo=UTC) for day in range(14)]
    readings = pl.DataFrame({"measured_at": times, "glucose_mg_dl": values})
    row = by_time_of_day(readings, "UTC").row(48, named=True)
    assert row == {"slot": 48, "p5": 1.65, "p25": 4.25, "p50": 7.5, "p75": 10.75, "p95": 13.35}


def test_a_time_of_day_with_readings_of_too_few_days_is_left_out():
    slots = by_time_of_day(glucose(LEAST_DAYS - 2), "UTC")
    assert slots["p50"].null_count() == SLOTS
    svg = agp(slots, "UTC")
    assert drawn(svg, "median") == []
    assert "Too few readings" in svg


def test_a_profile_breaks_where_the_day_has_no_readings():
    readings = glucose(14).filter(~pl.col("measured_at").dt.hour().is_between(12, 14))
    assert len(drawn(agp(by_time_of_day(readings, "UTC"), "UTC"), "line median")) == 2


def test_the_measures_are_those_of_the_consensus():
    readings = glucose(14)
    found = control(readings, UNTIL - timedelta(days=14), UNTIL)
    assert found is not None
    mean = readings["glucose_mg_dl"].to_numpy().mean()
    assert found.mean_mg_dl == pytest.approx(mean)
    assert found.gmi_percent == pytest.approx(3.31 + 0.02392 * mean)
    assert found.cv_percent == pytest.approx(100 * readings["glucose_mg_dl"].to_numpy().std(ddof=1) / mean)
    assert found.active_percent == pytest.approx(100, abs=0.5)
    assert found.in_range == 100
    assert found.is_sufficient


def test_half_the_readings_are_half_the_active_time():
    since = UNTIL - timedelta(days=14)
    found = control(glucose(7), since, UNTIL)
    assert found is not None
    assert found.active_percent == pytest.approx(50, abs=0.5)
    assert not found.is_sufficient
    assert control(glucose(7).clear(), since, UNTIL) is None


def test_the_bar_of_time_in_range_has_five_shares_that_fill_it():
    readings = glucose(14)
    values = {10: 300.0, 11: 200.0, 12: 60.0, 13: 50.0}
    hour = pl.col("measured_at").dt.hour()
    readings = readings.with_columns(
        hour.replace_strict(values, default=pl.col("glucose_mg_dl")).alias("glucose_mg_dl")
    )
    found = control(readings, UNTIL - timedelta(days=14), UNTIL)
    assert found is not None
    svg = time_in_range(found)
    heights = [float(each.get("height", "0")) for each in marks(svg, "share")]
    assert sum(heights) == pytest.approx(236 - 14 - 28, abs=1)
    assert len(heights) == 5
    assert {"very low < 54", "low 54–< 70", "in range 70–180", "high > 180–250", "very high > 250"} <= {*texts(svg)}
    # One hour of 24 is 4.2 %.
    assert texts(svg).count("4 % (1 h 0 min)") == 4


def test_daily_means_are_bars_and_those_of_two_days_a_line():
    days = pl.DataFrame(
        {
            "event_date": [date(2026, 11, day) for day in range(1, 15)],
            "mean": [100.0 + day for day in range(14)],
            "two_day_mean": [100.0 + day for day in range(14)],
        }
    )
    svg = daily(days, "Daily means")
    assert len(marks(svg, "bar")) == 14
    [points] = drawn(svg, "line second")
    assert len(points) == 14
    tops = [float(each.get("y", "0")) for each in marks(svg, "bar")]
    assert [y for _, y in points] == pytest.approx(tops, abs=0.11)


def test_days_without_readings_have_neither_bars_nor_lines():
    dates = [date(2026, 11, day) for day in (1, 2, 5, 6)]
    svg = daily(pl.DataFrame({"event_date": dates, "mean": 100.0, "two_day_mean": 100.0}), "Daily means")
    lefts = [float(each.get("x", "0")) for each in marks(svg, "bar")]
    assert lefts[2] - lefts[1] == pytest.approx(3 * (lefts[1] - lefts[0]), abs=0.3)
    assert [len(points) for points in drawn(svg, "line second")] == [2, 2]
    svg = comparison(pl.DataFrame({"name": "Patient 1", "event_date": dates, "value": 100.0}), "Daily means")
    assert [len(points) for points in drawn(svg, "line series-0")] == [2, 2]


def test_patients_of_one_name_are_told_apart():
    assert told_apart({1: "Ana Silva", 2: "Bram Visser", 7: "Ana Silva"}) == {
        1: "1 Ana Silva",
        2: "Bram Visser",
        7: "7 Ana Silva",
    }


def test_patients_in_one_chart_have_markers_and_names_that_do_not_lie_on_each_other():
    days = pl.DataFrame(
        [
            {"name": f"Patient {number}", "event_date": date(2026, 11, day), "value": 120.0}
            for number in range(6)
            for day in range(1, 8)
        ]
    )
    svg = comparison(days, "Daily means")
    shapes = {each.get("d") for each in marks(svg, "marker")}
    assert len(shapes) == 6
    places = [float(each.get("y", "0")) for each in marks(svg, "tick") if (each.text or "").startswith("Patient")]
    assert len(places) == 6
    assert min(b - a for a, b in pairwise(places)) >= 12


def test_labels_of_capitals_are_cut_sooner():
    assert cut("amlodipine", 10) == "amlodipine"
    assert cut("AMLODIPINE", 10) == "AMLODI…"
    assert cut("AMLODIPINE", 13.5) == "AMLODIPINE"
    assert cut("x" * 30, 20) == "x" * 19 + "…"
    assert cut("Anna", 0) == "A…"


@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_the_numbers_of_limits_do_not_stand_on_each_other(size):
    rows = pl.DataFrame({"name": ["Ana"], "p5": [60.0], "p25": [90.0], "p50": [110.0], "p75": [150.0], "p95": [260.0]})
    svg = distribution(rows, "Glucose", unit=MMOL_L, size=size)
    ticks = [each for each in marks(svg, "tick") if each.get("text-anchor") != "end"]
    places = [float(each.get("x", "")) for each in ticks]
    assert min(after - before for before, after in pairwise(places)) >= APART
    assert "3.9" in texts(svg)
    assert len(marks(svg, "grid")) == 5


def test_a_distribution_has_a_box_a_line_and_a_median():
    rows = pl.DataFrame(
        {"name": ["Patient 1"], "p5": [60.0], "p25": [90.0], "p50": [120.0], "p75": [150.0], "p95": [260.0]}
    )
    svg = distribution(rows, "Glucose")
    [bar], [whisker] = marks(svg, "bar"), marks(svg, "whisker")
    left, right = float(bar.get("x", "0")), float(bar.get("x", "0")) + float(bar.get("width", "0"))
    [median] = [float(each.get("x1", "0")) for each in marks(svg, "median")]
    assert float(whisker.get("x1", "0")) < left < median < right < float(whisker.get("x2", "0"))


def test_a_ratio_of_one_lies_on_the_line_of_no_association():
    rows = pl.DataFrame(
        {
            "label": ["A × B", "C × D"],
            "estimate": [1.0, 8.0],
            "lower": [0.6, 4.0],
            "upper": [1.6, 16.0],
            "count": [5, 40],
            "is_signal": [False, True],
        }
    )
    svg = forest(rows, "Signals", measure="PRR")
    one = float(marks(svg, "none")[0].get("x1", "0"))
    places = {each.get("class"): each.get("transform", "") for each in marks(svg, "estimate")}
    assert places["estimate quiet"].startswith(f"translate({one:g} ")
    assert marks(svg, "estimate signal")[0].get("d") != marks(svg, "estimate quiet")[0].get("d")
    assert "8.00 (4.00–16.00)" in texts(svg)
    [interval] = marks(svg, "interval signal")
    # Logarithmic: 8 is in the middle of 4 and 16.
    middle = (float(interval.get("x1", "0")) + float(interval.get("x2", "0"))) / 2
    assert places["estimate signal"].startswith(f"translate({middle:.1f}".removesuffix(".0"))


def test_columns_and_bars_are_as_long_as_their_values():
    rows = pl.DataFrame({"label": ["a", "b"], "value": [10, 20], "part": [5, 20]})
    for svg, side in (
        (bars(rows, "Reports", said="reports"), "width"),
        (columns(rows, "Reports", said="reports"), "height"),
    ):
        whole = [float(each.get(side, "0")) for each in marks(svg, "bar") if "part" not in each.get("class", "")]
        assert whole[1] == pytest.approx(2 * whole[0], abs=0.2)


def minutes() -> pl.DataFrame:
    times = [SINCE + timedelta(minutes=place) for place in range(1440)]
    means = {
        "heart_rate_bpm_mean": 80.0,
        "systolic_mmhg_mean": 120.0,
        "diastolic_mmhg_mean": 75.0,
        "spo2_percent_mean": 97.0,
        "respiratory_rate_per_min_mean": 16.0,
        "temperature_c_mean": 37.04,
    }
    return pl.DataFrame({"minute_at": times, **means}, schema_overrides={"minute_at": UTC_US})


def test_vitals_are_panels_with_their_last_values_and_the_score_with_its_risk():
    scores = pl.DataFrame(
        {
            "evaluated_at": [SINCE + timedelta(hours=1), UNTIL - timedelta(minutes=1)],
            "news2_score": [2, 3],
            "news2_risk": ["low", "low-medium"],
        }
    )
    svg = vitals(minutes(), scores, SINCE, UNTIL, ZONE)
    assert {
        "heart rate 80 /min",
        "blood pressure 120/75 mmHg",
        "SpO2 97 %",
        "respiration 16 /min",
        "temperature 37.0 °C",
        "NEWS2 3 (low-medium)",
    } <= {*texts(svg)}
    assert len(marks(svg, "limit")) == 2
    nothing = vitals(minutes().clear(), scores.clear(), SINCE, UNTIL, ZONE, size=NARROW)
    assert "NEWS2 –" in texts(nothing)


def test_vitals_that_are_old_say_when_they_were_measured():
    old = pl.col("minute_at") < SINCE + timedelta(hours=2)
    spo2 = pl.when(old).then(pl.col("spo2_percent_mean")).alias("spo2_percent_mean")
    scores = pl.DataFrame({"evaluated_at": [SINCE], "news2_score": [0], "news2_risk": ["low"]})
    said = texts(vitals(minutes().with_columns(spo2), scores, SINCE, UNTIL, ZONE))
    assert {"SpO2 97 % at 28 Nov 11:59", "NEWS2 0 (low) at 28 Nov 10:00", "heart rate 80 /min"} <= {*said}
