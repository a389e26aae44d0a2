"""What version 0.1 wrote is read, maintained and refreshed by today's code."""

from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from assets.gold import DailyGold
from orchestration.asking import analytics
from orchestration.system import STREAMS, Stream, tables
from orchestration.work import refresh_gold
from resources.lake import Lake
from resources.settings import Settings
from tests.resources.old_lake import old_lake

pytestmark = pytest.mark.slow

ROWS = {
    "bronze/glucose_readings": 44,
    "quarantine/glucose_readings": 23,
    "alerts/glucose_readings": 72,
    "silver/glucose_readings": 44,
    "gold/glucose_daily": 5,
    "gold/glucose_moving_average": 5,
    "gold/patient_comparison": 5,
    "bronze/device_readings": 40,
    "quarantine/device_readings": 5,
    "alerts/device_readings": 0,
    "silver/device_readings": 29,
    "gold/device_health": 5,
}
DAY = date(2026, 11, 23)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return old_lake(tmp_path)


def counts(lake: Lake) -> dict[str, int]:
    asked = analytics(lake, Settings())
    known = {table.name: table.sql_name for table in asked.tables}
    return {name: asked.query(f"SELECT count(*) FROM {known[name]}").item() for name in ROWS}


def assert_gold_follows_silver(stream: Stream, lake: Lake) -> None:
    for gold in stream.daily_gold:
        expected = gold.compute(lake.table(gold.source).scan(), [DAY])
        assert_frame_equal(lake.table(gold.table).scan().collect(), expected, check_row_order=False)


def test_every_table_answers_sql(lake: Lake) -> None:
    asked = analytics(lake, Settings())
    assert counts(lake) == ROWS
    for table in asked.tables:
        assert asked.query(f"FROM {table.sql_name}").schema == table.schema
    assert "gold/report_quarantine_by_reason" in {table.name for table in asked.tables}
    assert asked.query("SELECT sum(quarantined_count) FROM gold.report_quarantine_by_reason").item() == 28


def test_every_table_is_opened_for_writing_and_maintained_and_keeps_its_rows(lake: Lake) -> None:
    for table in tables():
        handle = lake.table(table)
        if table.layer != "gold":  # Gold takes other columns when it is refreshed.
            handle.ensure()
        if handle.exists():  # Gold of a stream that came later is not there yet.
            for today in (DAY, datetime.now(UTC).date()):
                handle.maintain(today=today)
    assert counts(lake) == ROWS


@pytest.mark.parametrize("stream", STREAMS[:2], ids=lambda stream: stream.short)
def test_gold_follows_what_comes_after(lake: Lake, stream: Stream) -> None:
    refresh_gold(stream, lake)
    assert refresh_gold(stream, lake) == {}
    assert_gold_follows_silver(stream, lake)
    silver = lake.table(stream.contract.tables.silver).ensure()
    more = (
        silver.scan()
        .head(3)
        .collect()
        .with_columns(event_date=DAY, measured_at=pl.col("measured_at").dt.offset_by("1m"))
    )
    silver.append(more, transactions={}, event_dates=[DAY])
    assert {gold.table.name for gold in stream.daily_gold} <= set(refresh_gold(stream, lake))
    assert_gold_follows_silver(stream, lake)


def test_gold_of_an_unchanged_contract_is_not_made_anew(lake: Lake) -> None:
    for gold in (gold for stream in STREAMS for gold in stream.gold if lake.table(gold.table).is_current()):
        assert not (gold.pending(lake) if isinstance(gold, DailyGold) else gold.is_pending(lake))
