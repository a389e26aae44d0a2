"""A small hospital's database in a SQLite file, which tests change as its users would."""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from assets.clinical.contract import Batch
from assets.clinical.sources import EHR
from assets.clinical_layers import Silver
from assets.clinical_loads import Loader
from orchestration.hospital import _TABLES as TABLES
from resources.batch_source import SqlTable
from resources.batch_sql import SqlSource
from resources.lake import Lake

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


class Database:
    """The file, and the source that reads one of its tables."""

    def __init__(self, folder: Path, batch: Batch = EHR) -> None:
        self.file, self.batch = folder / "hospital.sqlite", batch
        with closing(sqlite3.connect(self.file)) as connection:
            for tables in TABLES.values():
                for name, columns in tables.items():
                    connection.execute(f"CREATE TABLE IF NOT EXISTS {name} ({columns})")
            connection.commit()

    @property
    def url(self) -> str:
        return f"sqlite:///{self.file}"

    def source(self, piece_rows: int = 50_000) -> SqlSource:
        assert isinstance(self.batch.place, SqlTable)
        return SqlSource(
            self.batch.name, self.url, "PULSELAKE_EHR_URL", self.batch.place, piece_rows=piece_rows, clock=lambda: NOON
        )

    def execute(self, statement: str, *values: Any) -> None:
        with closing(sqlite3.connect(self.file)) as connection:
            connection.execute(statement, values)
            connection.commit()

    def insert(self, *rows: Mapping[str, Any], table: str = "EHR") -> None:
        with closing(sqlite3.connect(self.file)) as connection:
            for row in rows:
                places = ", ".join("?" * len(row))
                connection.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places})", tuple(row.values()))
            connection.commit()


def reading(number: int, **more: Any) -> dict[str, Any]:
    """A good row of EHR, an hour after the one before it."""
    at = NOON - timedelta(days=10) + timedelta(hours=number)
    return {
        "id": number,
        "patient_id": 1 + number % 3,
        "timestamp": f"{at:%Y-%m-%d %H:%M:%S}",
        "kind": "glucose",
        "reading": 100.0 + number % 7,
        "unit": "mg/dL",
        "device_id": 1001 + number % 3,
        "note": None,
        "updated_at": f"{at:%Y-%m-%d %H:%M:%S}",
    } | more


def loader(lake: Lake, batch: Batch = EHR, now: datetime = NOON) -> Loader:
    return Loader(lake, batch, lambda: now)


def silver(lake: Lake, batch: Batch = EHR) -> Silver:
    return Silver(lake, batch)
