"""The lake: Delta tables in a local folder or on ADLS Gen2, written exactly once.

Every write carries the offsets it reaches as Delta app transactions, so rows and offsets are one commit. Delta accepts
a replayed transaction, hence the caller compares `offsets()` with what it is about to write; a second writer that
opened the same version is refused by Delta itself. What the rows mean belongs to `assets`.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property

import polars as pl
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Transaction, write_deltalake
from deltalake import Schema as DeltaSchema
from deltalake.exceptions import TableNotFoundError

from resources.table import Table

# Time travel is not what a hot table is for: its log and its replaced files are kept this long for running readers.
RETENTION_HOURS = 2
CONFIGURATION: Mapping[str, str | None] = {
    "delta.logRetentionDuration": f"interval {RETENTION_HOURS} hours",
    "delta.deletedFileRetentionDuration": f"interval {RETENTION_HOURS} hours",
    "delta.checkpointInterval": "100",
}
EVENT_DATES = "event_dates"


class SchemaError(ValueError):
    """A frame does not have the columns and types of its table; nothing was written."""


@dataclass(frozen=True)
class Lake:
    """The root of all tables.

    Attributes:
        root: a folder or an ``abfss://container@account.dfs.core.windows.net/path`` URI.
        storage_options: what deltalake and Polars need to open it; empty for a folder.
    """

    root: str
    storage_options: Mapping[str, str] = field(default_factory=dict, repr=False)

    def table(self, table: Table) -> "LakeTable":
        """The handle of a table, which need not exist yet."""
        return LakeTable(table, f"{self.root.rstrip('/')}/{table.name}", dict(self.storage_options))


@dataclass
class LakeTable:
    """One Delta table. A handle serves one writer at a time; `refresh` moves it to the newest version."""

    table: Table
    uri: str
    storage_options: dict[str, str] = field(repr=False)

    @cached_property
    def _schema(self) -> pl.Schema:
        return self.table.schema

    @property
    def name(self) -> str:
        """``<layer>/<table>``."""
        return self.table.name

    def exists(self) -> bool:
        """Whether the table was created."""
        return DeltaTable.is_deltatable(self.uri, storage_options=self.storage_options)

    def delta(self) -> DeltaTable:
        """A fresh handle at the newest version, for maintenance and for reading the log.

        Raises:
            TableNotFoundError: the table was not created yet.
        """
        return DeltaTable(self.uri, storage_options=self.storage_options)

    def ensure(self) -> "LakeTable":
        """Creates the table, empty, if it is not there."""
        if not self.exists():
            DeltaTable.create(
                self.uri,
                schema=DeltaSchema.from_arrow(_arrow_schema(self._schema)),
                mode="ignore",
                partition_by=list(self.table.partition_by),
                configuration=dict(CONFIGURATION),
                storage_options=self.storage_options,
                description=self.table.description,
            )
        return self

    def scan(self) -> pl.LazyFrame:
        """The table's rows at its newest version; an empty frame of its schema where it was not created yet."""
        try:
            return pl.scan_delta(self.delta(), use_pyarrow=False).select(self._schema.names())
        except TableNotFoundError:
            return pl.LazyFrame(schema=self._schema)

    def version(self) -> int | None:
        """The newest version, None where the table was not created yet."""
        try:
            return self.delta().version()
        except TableNotFoundError:
            return None

    def transactions(self, app_ids: Iterable[str]) -> dict[str, int]:
        """The newest version of each app transaction that the table's log knows."""
        try:
            delta = self.delta()
        except TableNotFoundError:
            return {}
        found = {app_id: delta.transaction_version(app_id) for app_id in app_ids}
        return {app_id: version for app_id, version in found.items() if version is not None}

    def append(
        self,
        frame: pl.DataFrame,
        *,
        transactions: Mapping[str, int],
        event_dates: Iterable[date] = (),
    ) -> int:
        """Appends rows and sets app transactions in one commit.

        Args:
            frame: rows of exactly the table's schema; it may be empty, then only the transactions are committed.
            transactions: app id to version, for instance ``{"glucose_readings/0": 41}``.
            event_dates: the dates that the rows touch, for those who derive tables by event date.

        Returns:
            The number of rows written.

        Raises:
            SchemaError: the frame's columns or types differ from the table's.
        """
        self._check(frame)
        write_deltalake(
            self.delta(),
            frame.to_arrow(compat_level=pl.CompatLevel.oldest()),
            mode="append",
            commit_properties=_commit(transactions, event_dates),
            post_commithook_properties=PostCommitHookProperties(cleanup_expired_logs=False),
        )
        return frame.height

    def replace(
        self,
        frames: Iterable[pl.DataFrame],
        predicate: str,
        *,
        transactions: Mapping[str, int] | None = None,
        event_dates: Iterable[date] = (),
    ) -> int:
        """Replaces the rows that the predicate selects, in one commit and in memory bounded by the largest frame.

        Args:
            frames: the new rows, piece by piece; all must satisfy the predicate.
            predicate: over partition columns, for instance ``ingest_date = '2026-11-23'``.
            transactions: app transactions to set in the same commit.
            event_dates: the dates that the old and the new rows touch.

        Returns:
            The number of rows written.

        Raises:
            SchemaError: a frame's columns or types differ from the table's; the old rows stay.
        """
        written = 0

        def batches() -> Iterator[pa.RecordBatch]:
            nonlocal written
            for frame in frames:
                self._check(frame)
                written += frame.height
                yield from frame.to_arrow(compat_level=pl.CompatLevel.oldest()).to_batches()

        schema = _arrow_schema(self._schema)
        write_deltalake(
            self.delta(),
            pa.RecordBatchReader.from_batches(schema, batches()),
            mode="overwrite",
            predicate=predicate,
            commit_properties=_commit(transactions or {}, event_dates),
            post_commithook_properties=PostCommitHookProperties(cleanup_expired_logs=False),
        )
        return written

    def touched_since(self, version: int | None) -> set[date] | None:
        """The event dates that commits after `version` name; None where the log no longer reaches back that far."""
        delta = self.delta()
        newest = delta.version()
        if version is None or version > newest:
            return None
        if version == newest:
            return set()
        commits = delta.history(newest - version)
        if len(commits) < newest - version:
            return None
        named = (commit.get(EVENT_DATES, "") for commit in commits)
        return {date.fromisoformat(day) for days in named for day in days.split(",") if day}

    def maintain(self, predicate: list[tuple[str, str, str]] | None = None, *, small_files: int = 20) -> None:
        """Keeps the number of files and of log entries bounded: compact, checkpoint, expire the log, vacuum.

        Args:
            predicate: the partitions to compact, for instance ``[("ingest_date", "=", "2026-11-23")]``; all if None.
            small_files: compact only when a partition has more files than this.
        """
        delta = self.delta()
        if len(delta.file_uris(predicate)) > small_files:
            delta.optimize.compact(
                partition_filters=predicate,
                post_commithook_properties=PostCommitHookProperties(cleanup_expired_logs=False),
            )
        delta.create_checkpoint()
        delta.cleanup_metadata()
        delta.vacuum(retention_hours=RETENTION_HOURS, dry_run=False, enforce_retention_duration=False)

    def _check(self, frame: pl.DataFrame) -> None:
        if frame.schema != self._schema:
            raise SchemaError(
                f"{self.name}: the rows have {dict(frame.schema)} but the table has {dict(self._schema)}; "
                "nothing was written. Make the transformation return the table's columns, in order."
            )


def _commit(transactions: Mapping[str, int], event_dates: Iterable[date]) -> CommitProperties:
    days = ",".join(sorted(day.isoformat() for day in event_dates))
    return CommitProperties(
        app_transactions=[Transaction(app_id, version) for app_id, version in transactions.items()],
        custom_metadata={EVENT_DATES: days} if days else None,
    )


def _arrow_schema(schema: pl.Schema) -> pa.Schema:
    return pl.DataFrame(schema=schema).to_arrow(compat_level=pl.CompatLevel.oldest()).schema
