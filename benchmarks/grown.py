"""A lake whose silver holds one long day of readings, written as fast as it can be, and what comes in afterwards."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
from deltalake import CommitProperties, write_deltalake

from assets.day import slot
from assets.glucose.assets import CONTRACT
from benchmarks.report import say
from resources.lake import EVENT_DATES, Lake, LakeTable
from resources.maintenance import HOOKS, row_properties
from resources.schema import delta_schema

PATIENTS = 1000
FULL_DAY = PATIENTS * 86_400
DAY = datetime(2026, 11, 23, tzinfo=UTC)
_FILE_ROWS = 3_600_000
_COMMIT_S = 2
_LATE_US = 7200 * 1_000_000


@dataclass(frozen=True)
class Grown:
    """A lake with some readings of one event date: 1,000 patients, each second, up to `end`."""

    folder: Path
    readings: int

    @property
    def lake(self) -> Lake:
        """The lake itself."""
        return Lake(str(self.folder))

    @property
    def silver(self) -> LakeTable:
        """Its silver table."""
        return self.lake.table(CONTRACT.tables.silver)

    def write(self) -> "Grown":
        """Writes the readings in the files that compaction would have made."""
        silver, began = self.silver.create(), datetime.now(UTC)
        properties = row_properties(delta_schema(silver.table), level=4, max_row_group_size=131_072)
        for first in range(0, self.readings, _FILE_ROWS):
            rows = _readings(first, min(_FILE_ROWS, self.readings - first))
            write_deltalake(
                silver.delta(),
                rows.to_arrow(compat_level=pl.CompatLevel.oldest()),
                mode="append",
                writer_properties=properties,
                post_commithook_properties=HOOKS,
                commit_properties=CommitProperties(custom_metadata={EVENT_DATES: DAY.date().isoformat()}),
            )
        say(f"  {self.readings:,} readings were written in {(datetime.now(UTC) - began).total_seconds():.0f} s")
        return self

    def arrive(self, seconds: int = 30, late: int = 0) -> int:
        """Commits what comes in during some seconds, every two seconds, as a session does.

        Args:
            seconds: for how long.
            late: how many readings of each commit were measured earlier, up to two hours.
        """
        count = self.readings
        for rows in self._commits(seconds, late):
            slots = dict(rows.select("event_date", slot()).unique().group_by("event_date").agg("slot").iter_rows())
            self.silver.append(rows, transactions={}, event_dates=slots, event_slots=slots)
            count += rows.height
        return count - self.readings

    def _commits(self, seconds: int, late: int) -> Iterator[pl.DataFrame]:
        for second in range(0, seconds, _COMMIT_S):
            rows = _readings(self.readings + second * PATIENTS, _COMMIT_S * PATIENTS)
            behind = pl.when(pl.int_range(pl.len()) < late).then(
                (pl.int_range(pl.len()) + 1) * _LATE_US // max(late, 1) + 500_000
            )
            measured = rows.with_columns(pl.col("measured_at") - pl.duration(microseconds=behind.otherwise(0)))
            yield measured.with_columns(event_date=pl.col("measured_at").dt.date())


def _readings(first: int, count: int) -> pl.DataFrame:
    """Readings in the order of time; the values wander, so that files compress as those of real ones do."""
    number, patient, second = pl.col("number"), pl.col("patient_id"), pl.col("second")
    wave = (second / 3600 + patient).sin() * 60 + 120
    rows = (
        pl.LazyFrame({"number": pl.int_range(first, first + count, eager=True)})
        .with_columns(patient_id=number % PATIENTS, second=number // PATIENTS)
        .with_columns(
            device_id=patient + PATIENTS,
            measured_at=pl.lit(DAY) + pl.duration(seconds=second, microseconds=patient * 700),
            glucose_mg_dl=(wave + (number.hash(7) % 9).cast(pl.Float64) - 4).round(),
            location=pl.lit("home"),
            partition=patient % 4,
            sequence_number=number // 4,
            event_index=0,
            event_date=pl.lit(DAY.date()),
            ingest_date=pl.lit(DAY.date()),
            hub_epoch=0,
            reported_unit=pl.lit("mg/dL"),
        )
        .with_columns(
            received_at=pl.col("measured_at") + pl.duration(seconds=1), reported_value=pl.col("glucose_mg_dl")
        )
        .with_columns(range_flag=None)
    )
    return rows.select(pl.col(name).cast(dtype) for name, dtype in CONTRACT.tables.silver.schema.items()).collect()
