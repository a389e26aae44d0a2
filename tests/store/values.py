"""A small lake with rows of silver, and what the store should make of them, worked out by plain Python."""

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl

from assets.stream.contract import Contract
from assets.sync.feed import AnyFeed
from orchestration.system import FEEDS
from resources.lake import Lake, LakeTable
from resources.store import Store
from tests.resources.lakes import row

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
DAY = NOON.date()
NEXT_DAY = DAY + timedelta(days=1)
GLUCOSE, DEVICES, VITALS, REPORTS = FEEDS
PLACES = (None, "Größe", "quote \" and ' and \\", "tab\there\nand line", "NULL", "\\N", "心電図 😀", "")
"""Texts that a careless way into a database changes."""


def silver(lake: Lake, feed: AnyFeed) -> LakeTable:
    return lake.table(feed.contract.tables.silver).create()


def readings(numbers: Iterable[int], day: date = DAY, value: float = 100.0) -> list[dict[str, Any]]:
    """Glucose readings by their numbers: alternating between two partitions of the hub."""
    return [
        row(
            NOON + timedelta(seconds=5 * number, microseconds=number),
            patient_id=number % 5,
            device_id=number % 5 + 1000,
            glucose_mg_dl=value + number / 7,
            range_flag="below" if number % 11 == 0 else None,
            location=PLACES[number % len(PLACES)],
            partition=number % 2,
            sequence_number=number // 2,
            event_date=(NOON + timedelta(seconds=5 * number)).date(),
            ingest_date=day,
        )
        for number in numbers
    ]


def frame(table: LakeTable, rows: Sequence[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=table.table.schema)


def add(lake: Lake, feed: AnyFeed, rows: Sequence[dict[str, Any]]) -> None:
    table = silver(lake, feed)
    table.append(frame(table, rows), transactions={})


def replace_day(lake: Lake, contract: Contract, day: date, rows: Sequence[dict[str, Any]]) -> None:
    """Replaces the rows of a day as a rebuild does, by the marks that it leaves."""
    table, app_id = lake.table(contract.tables.silver), f"{contract.stream}/replaced"
    number = table.transactions([app_id]).get(app_id, 0) + 1
    marks = {app_id: number, f"{app_id}/{number}": day.toordinal()}
    table.replace([frame(table, rows)], f"ingest_date = '{day.isoformat()}'", transactions=marks)


def expected(rows: Iterable[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Rows of `GlucoseReadings`, in order."""
    return sorted(
        (
            each["patient_id"],
            each["device_id"],
            each["measured_at"].replace(tzinfo=None),
            each["glucose_mg_dl"],
            each["location"],
            each["range_flag"],
            each["ingest_date"],
        )
        for each in rows
    )


def stored(store: Store) -> list[tuple[Any, ...]]:
    """The same of what the store has."""
    columns = ["patient_id", "device_id", "timestamp", "glucose_level", "location", "range_flag", "ingest_date"]
    return sorted(each for rows in store.rows("GlucoseReadings", columns) for each in rows.iter_rows())


def numbers_of_rows(store: Store) -> dict[tuple[Any, ...], int]:
    """Which number the database gave each reading."""
    frames = store.rows("GlucoseReadings", ["patient_id", "device_id", "timestamp", "reading_id"])
    return {each[:3]: each[3] for rows in frames for each in rows.iter_rows()}
