"""Minutes, days and scores in gold against a plain evaluation, and that no history of refreshes changes a byte."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from assets.gold import DailyGold
from assets.vitals.assets import CONTRACT, GOLD
from assets.vitals.gold import news2_evaluations, vitals_daily, vitals_minute
from assets.vitals.silver import MEASUREMENTS
from resources.lake import Lake
from tests.stream.oracle import news2_of
from tests.stream.scenarios import lake_in

MONDAY, TUESDAY = date(2026, 11, 23), date(2026, 11, 24)
MIDNIGHT = datetime(2026, 11, 24, tzinfo=UTC)
SCHEMA = CONTRACT.tables.silver.schema
SECOND = timedelta(seconds=1)

Row = dict[str, Any]


def row(at: datetime, patient: int = 1, **values: Any) -> Row:
    return {"patient_id": patient, "measured_at": at, **values}


def silver(rows: Sequence[Row]) -> pl.DataFrame:
    others = {"received_at": MIDNIGHT, "partition": 0, "sequence_number": 0, "event_index": 0, "ingest_date": TUESDAY}
    whole = [{name: (others | each).get(name) for name in SCHEMA} for each in rows]
    return pl.DataFrame(whole, schema=SCHEMA).with_columns(event_date=pl.col("measured_at").dt.date())


def around_midnight(seed: int, count: int = 400) -> list[Row]:
    """Partial readings of two patients, some of one instant, from 23:40 to 00:20."""
    rng = Random(seed)
    values: dict[str, list[Any]] = {
        "heart_rate_bpm": [40.0, 72.5, 131.0],
        "systolic_mmhg": [90.0, 120.0],
        "spo2_percent": [91.0, 95.5, 98.0],
        "temperature_c": [35.0, 37.04, 39.05],
        "respiratory_rate_per_min": [8.0, 16.0, 25.0],
        "diastolic_mmhg": [60.0],
        "glucose_mg_dl": [99.9],
        "is_sport_mode": [True, False],
        "is_on_oxygen": [True, False],
        "consciousness": ["A", "C", "U"],
    }
    return [
        row(
            MIDNIGHT + rng.randrange(-80, 80) * 15 * SECOND,
            rng.randint(1, 2),
            **{name: rng.choice(some) for name, some in values.items() if rng.random() < 0.3},
        )
        for _ in range(count)
    ]


def minutes_of(rows: Sequence[Row]) -> dict[tuple[int, datetime], list[Row]]:
    found: dict[tuple[int, datetime], list[Row]] = {}
    for each in rows:
        found.setdefault((each["patient_id"], each["measured_at"].replace(second=0, microsecond=0)), []).append(each)
    return found


@pytest.mark.parametrize("seed", range(5))
def test_minutes_are_what_a_plain_evaluation_gives(seed: int) -> None:
    rows = around_midnight(seed)
    found = vitals_minute(silver(rows))
    minutes = minutes_of(rows)
    assert found.select("patient_id", "minute_at").rows() == sorted(minutes)
    for each in found.iter_rows(named=True):
        readings = minutes[each["patient_id"], each["minute_at"]]
        assert each["reading_count"] == len(readings)
        assert each["sport_count"] == sum(bool(one.get("is_sport_mode")) for one in readings)
        for name in MEASUREMENTS:
            values = [one[name] for one in readings if name in one]
            assert each[f"{name}_count"] == len(values)
            assert each[f"{name}_min"] == min(values, default=None)
            assert each[f"{name}_max"] == max(values, default=None)
            assert each[f"{name}_mean"] == (pytest.approx(sum(values) / len(values)) if values else None)


@pytest.mark.parametrize("seed", range(5))
def test_running_means_are_of_the_day_up_to_the_end_of_the_minute(seed: int) -> None:
    rows = around_midnight(seed)
    for each in vitals_minute(silver(rows)).iter_rows(named=True):
        end = each["minute_at"] + timedelta(minutes=1)
        values = [
            one["heart_rate_bpm"]
            for one in rows
            if one["patient_id"] == each["patient_id"]
            and one["measured_at"].date() == each["event_date"]
            and one["measured_at"] < end
            and "heart_rate_bpm" in one
        ]
        assert each["avg_heart_rate"] == (pytest.approx(sum(values) / len(values)) if values else None)


@pytest.mark.parametrize("seed", range(5))
def test_a_day_is_the_sum_of_its_readings(seed: int) -> None:
    rows = around_midnight(seed)
    found = vitals_daily(silver(rows))
    for each in found.iter_rows(named=True):
        of_day = [
            one
            for one in rows
            if (one["patient_id"], one["measured_at"].date()) == (each["patient_id"], each["event_date"])
        ]
        assert each["reading_count"] == len(of_day)
        assert each["minute_count"] == len(minutes_of(of_day))
        values = [one["spo2_percent"] for one in of_day if "spo2_percent" in one]
        assert (each["spo2_percent_count"], each["spo2_percent_min"]) == (len(values), min(values))
        assert each["spo2_percent_mean"] == pytest.approx(sum(values) / len(values))


@pytest.mark.parametrize("seed", range(8))
def test_scores_are_those_of_the_oracle_at_the_last_reading_of_each_minute_over_midnight_too(seed: int) -> None:
    rows = around_midnight(seed)
    expected = []
    for (patient, _), readings in sorted(minutes_of(rows).items()):
        at = max(one["measured_at"] for one in readings)
        of_patient = sorted((one for one in rows if one["patient_id"] == patient), key=lambda one: one["measured_at"])
        known: list[Row] = [dict.fromkeys(SCHEMA) | one for one in of_patient]
        told = news2_of(at, known)
        if at.date() == TUESDAY and told["news2_score"] is not None:
            expected.append({"patient_id": patient, "event_date": TUESDAY, "evaluated_at": at} | told)
    found = news2_evaluations(silver(rows), [TUESDAY]).to_dicts()
    assert found == [{name: each[name] for name in found[0]} for each in expected]
    assert any(each["evaluated_at"] < MIDNIGHT + timedelta(minutes=4) for each in found)


def test_the_order_of_rows_changes_nothing() -> None:
    rows = around_midnight(1)
    for compute in (vitals_minute, vitals_daily, lambda frame: news2_evaluations(frame, [TUESDAY])):
        assert_frame_equal(compute(silver(rows)), compute(silver(rows[::-1])))


@pytest.mark.slow
@pytest.mark.parametrize("min_stored", [1, 1_000_000], ids=["kept slots", "no slots kept"])
def test_any_history_of_refreshes_gives_what_all_rows_at_once_give(tmp_path: Path, min_stored: int) -> None:
    lake = lake_in(tmp_path)
    golds = [replace(gold, slots=replace(gold.slots, min_stored=min_stored)) for gold in GOLD]
    rows = around_midnight(3)
    table = lake.table(CONTRACT.tables.silver).create()
    for number, part in enumerate((rows[:150], rows[150:160], rows[160:])):
        frame = silver(part)
        days = frame["event_date"].unique().to_list()
        table.append(frame, transactions={"vitals/0": number}, event_dates=days)
        for gold in golds:
            gold.refresh(lake, list(gold.pending(lake)))
    for gold in golds:
        assert_frame_equal(stored(lake, gold), computed(gold, rows))
        assert not gold.pending(lake)


def stored(lake: Lake, gold: DailyGold) -> pl.DataFrame:
    found = lake.table(gold.table).scan().collect().sort("patient_id", *_time(gold))
    return found.select(gold.table.schema.names())


def computed(gold: DailyGold, rows: Sequence[Row]) -> pl.DataFrame:
    return gold.compute(silver(rows).lazy(), [MONDAY, TUESDAY]).sort("patient_id", *_time(gold))


def _time(gold: DailyGold) -> list[str]:
    names = {"gold/vitals_minute": "minute_at", "gold/news2": "evaluated_at"}
    return [names.get(gold.table.name, "event_date")]


def test_an_empty_stream_has_empty_gold() -> None:
    for gold in GOLD:
        assert gold.compute(silver([]).lazy(), [MONDAY]).is_empty()
