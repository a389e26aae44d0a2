"""A lake that has run for a while: as many readings as wanted, written straight into the tables of the glucose stream.

Silver holds one reading a second of each of 1,000 patients, in the order of `measured_at`. Bronze, quarantine and
alerts hold what belongs to them: ten readings an event, one alert for 100 readings, one quarantined reading for 1,000.
The files are compacted, as those of a session that has ended. Gold has a row for each patient, or device, and day of
some years; its figures are made up.
"""

from datetime import UTC, date, datetime, timedelta

import polars as pl

from assets.devices import tables as devices
from assets.glucose import tables as glucose
from assets.glucose.assets import CONTRACT
from resources.lake import Lake
from resources.table import Table

PATIENTS = 1_000
SECONDS = 86_400
GOLD_DAYS = 100
UTC_US = pl.Datetime("us", "UTC")
COMMIT_ROWS = 1_000_000
LAST_DAY = date(2026, 11, 23)


def build(lake: Lake, readings: int, *, days: int = 1, commit_rows: int = COMMIT_ROWS) -> None:
    """Fills the tables.

    Args:
        lake: where to; the tables must not exist.
        readings: in silver, in all.
        days: how many days share them equally; the last one is `LAST_DAY`.
        commit_rows: how many readings a commit holds at most.
    """
    for table in CONTRACT.tables:
        lake.table(table).ensure()
    number = 0
    for back in reversed(range(days)):
        start = datetime.combine(LAST_DAY - timedelta(days=back), datetime.min.time(), UTC)
        left = readings // days
        while left:
            rows = min(left, commit_rows)
            _commit(lake, start, readings // days - left, rows, number)
            left, number = left - rows, number + rows
        for table in CONTRACT.tables:
            lake.table(table).maintain([("ingest_date", "=", start.date().isoformat())])


def build_gold(lake: Lake, days: int) -> None:
    """Fills the daily tables of gold, and the comparison of patients."""
    for first in range(0, days, GOLD_DAYS):
        _gold(lake, [LAST_DAY - timedelta(days=back) for back in range(first, min(days, first + GOLD_DAYS))])
    patients = pl.int_range(PATIENTS, dtype=pl.Int64, eager=True).alias("patient_id").to_frame()
    _append(lake, glucose.PATIENT_COMPARISON, patients.with_columns(rank=pl.col("patient_id") + 1), [])


def _gold(lake: Lake, dates: list[date]) -> None:
    ids = pl.DataFrame({"event_date": dates}).join(
        pl.int_range(PATIENTS, dtype=pl.Int64, eager=True).alias("patient_id").to_frame(), how="cross"
    )
    daily = ids.with_columns(device_id=pl.col("patient_id") + 1_000, last_seen_at=pl.col("event_date").cast(UTC_US))
    for table in (glucose.GLUCOSE_DAILY, devices.DEVICE_HEALTH):
        _append(lake, table, daily, dates)


def _append(lake: Lake, table: Table, frame: pl.DataFrame, dates: list[date]) -> None:
    filled = {
        name: pl.lit(50, type_)
        for name, type_ in table.schema.items()
        if name not in frame.columns and type_.is_numeric()
    }
    rows = _as_rows(frame.with_columns(**filled), table)
    lake.table(table).ensure().append(rows, transactions={}, event_dates=dates)


def append(lake: Lake, rows: int = 1_000) -> None:
    """One more commit, of readings of the last day."""
    start = datetime.combine(LAST_DAY, datetime.min.time(), UTC)
    _commit(lake, start, SECONDS * PATIENTS - rows, rows, 10**12)


def _commit(lake: Lake, start: datetime, first: int, rows: int, number: int) -> None:
    silver = _readings(start, first, rows, number)
    dates = [start.date()]
    events = silver.gather_every(10).with_columns(
        body=pl.lit('{"patient_id": 1, "device_id": 1001, "glucose_level": 120}'),
        reading_count=pl.lit(10, pl.Int64),
        pulled_at=pl.col("received_at"),
    )
    alerts = silver.gather_every(100).with_columns(
        alert_id=pl.col("sequence_number").cast(pl.String),
        rule=pl.lit("glucose_high"),
        rule_version=pl.lit(1, pl.Int64),
        severity=pl.lit("warning"),
        threshold=pl.lit(115.0),
    )
    quarantined = silver.gather_every(1_000).with_columns(reason=pl.lit("bad_timestamp"), body=pl.lit("{}"))
    for table, frame in (
        (CONTRACT.tables.bronze, events),
        (CONTRACT.tables.quarantine, quarantined),
        (CONTRACT.tables.alerts, alerts),
        (CONTRACT.tables.silver, silver),
    ):
        lake.table(table).append(_as_rows(frame, table), transactions={}, event_dates=dates)


def _readings(start: datetime, first: int, rows: int, number: int) -> pl.DataFrame:
    place = pl.int_range(first, first + rows, dtype=pl.Int64, eager=True).alias("place")
    measured = pl.lit(start).cast(UTC_US) + pl.duration(seconds=pl.col("place") // PATIENTS)
    jitter = pl.col("place").hash(1) % 5_000_000
    return place.to_frame().select(
        patient_id=pl.col("place") % PATIENTS,
        device_id=pl.col("place") % PATIENTS + 1_000,
        measured_at=measured,
        glucose_mg_dl=(60 + pl.col("place").hash(2) % 200).cast(pl.Float64),
        range_flag=pl.lit(None, pl.String),
        received_at=measured + pl.duration(microseconds=jitter.cast(pl.Int64)),
        partition=pl.col("place") % 4,
        sequence_number=number + pl.col("place") - first,
        event_index=pl.lit(0, pl.Int64),
        event_date=pl.lit(start.date()),
        ingest_date=pl.lit(start.date()),
        hub_epoch=pl.lit(0, pl.Int64),
    )


def _as_rows(frame: pl.DataFrame, table: Table) -> pl.DataFrame:
    absent = {name: pl.lit(None, type_) for name, type_ in table.schema.items() if name not in frame.columns}
    return frame.with_columns(**absent).select(table.schema.names())
