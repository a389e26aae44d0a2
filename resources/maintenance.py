"""Keeps the files and the log of a Delta table few: what is compacted, and how long is kept what was replaced.

When it is done is up to the callers of `resources.lake`.
"""

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import polars as pl
from deltalake import ColumnProperties, DeltaTable, PostCommitHookProperties, Schema, WriterProperties
from deltalake.exceptions import CommitFailedError
from deltalake.fs import DeltaStorageHandler
from deltalake.schema import PrimitiveType

# Time travel is not what a hot table is for: its log and its replaced files are kept this long for running readers.
# A commit that takes longer may be refused: a file that no commit names by then is taken for what a killed writer left.
RETENTION_HOURS = 2
# A checkpoint forgets removals that are older than this, and a file whose removal is forgotten is deleted by a sweep
# only. So it is later than the deletion by some sessions.
REMOVALS_HOURS = 2 * RETENTION_HOURS
CONFIGURATION: Mapping[str, str | None] = {
    "delta.logRetentionDuration": f"interval {RETENTION_HOURS} hours",
    "delta.deletedFileRetentionDuration": f"interval {REMOVALS_HOURS} hours",
    # A commit reads the log behind the last checkpoint: 35 ms with 100 entries, 12 ms with 10.
    "delta.checkpointInterval": "10",
}
APPEND_ONLY: Mapping[str, str | None] = {"delta.appendOnly": "true"}
_FENCE = "pulselake.sweptAt"
COMPACTED_BYTES = 100 << 20
"""The size of the files that compaction makes. Files of more than half of it are left as they are."""
# A dictionary of numbers and instants, which mostly differ, takes a fifth of the time of writing and more space.
_BY_DIFFERENCES = ColumnProperties(dictionary_enabled=False, encoding="DELTA_BINARY_PACKED")
_WHOLE = (PrimitiveType("long"), PrimitiveType("timestamp"))
# The clean-up of expired log files is half of a commit's time; `maintain` does it.
HOOKS = PostCommitHookProperties(cleanup_expired_logs=False)


def row_properties(schema: Schema, *, level: int = 1, **options: Any) -> WriterProperties:
    """How rows are written: half the size of deltalake's default, Snappy, and written a little faster."""
    columns = {field.name: _BY_DIFFERENCES for field in schema.fields if field.type in _WHOLE}
    return WriterProperties(compression="ZSTD", compression_level=level, column_properties=columns, **options)


def data_files(delta: DeltaTable) -> pl.DataFrame:
    """One row a file: `size_bytes`, ``partition.<column>``, ``max.<column>`` and more."""
    return pl.DataFrame(delta.get_add_actions(flatten=True))


def compact_around(delta: DeltaTable, partition: list[tuple[str, str, str]], small_files: int) -> None:
    """Compacts a partition and the one before it, each if it has more small files than that.

    A table without partitions is compacted as a whole; `partition` is empty then.
    """
    if not partition:
        if data_files(delta).filter(pl.col("size_bytes") < COMPACTED_BYTES // 2).height > small_files:
            _compact(delta, None)
        return
    [(column, _, newest)] = partition
    value = pl.col("value").cast(pl.String)
    crowded = (
        data_files(delta)
        .filter(pl.col("size_bytes") < COMPACTED_BYTES // 2)
        .group_by(pl.col(f"partition.{column}").alias("value"))
        .agg(files=pl.len())
        .filter(value <= newest)
        .top_k(2, by="value")
        .filter(pl.col("files") > small_files)
    )
    for each in crowded.select(value).to_series():
        _compact(delta, [(column, "=", each)])


def _compact(delta: DeltaTable, partition: list[tuple[str, str, Any]] | None) -> None:
    try:
        delta.optimize.compact(
            partition_filters=partition,
            target_size=COMPACTED_BYTES,
            # A scan holds several row groups at once, and skips those of other times; the default is a million.
            writer_properties=row_properties(delta.schema(), level=4, max_row_group_size=131_072),
            post_commithook_properties=HOOKS,
        )
    except CommitFailedError:
        # Somebody replaced the same rows meanwhile, as a rebuild does; what it left is compacted the next time.
        delta.update_incremental()


def clean_up(delta: DeltaTable) -> None:
    """Writes a checkpoint and deletes what is too old: log entries, and files that the log says were removed."""
    delta.create_checkpoint()
    delta.cleanup_metadata()
    delta.vacuum(retention_hours=RETENTION_HOURS, dry_run=False, enforce_retention_duration=False)


def sweep(delta: DeltaTable, storage_options: dict[str, str], older_than_hours: int = RETENTION_HOURS) -> None:
    """Deletes old files that no log entry names; all files of the table are listed.

    Such a file was left by a killed writer, or belongs to one that still runs: slow, or suspended since it wrote it.
    A commit of the table's properties comes first, because Delta refuses every commit that was begun before it. What
    is not committed by then never will be, so no commit can name a file that is deleted here.
    """
    old = delta.vacuum(retention_hours=older_than_hours, dry_run=True, enforce_retention_duration=False, full=True)
    if not old:
        return
    delta.alter.set_table_properties({_FENCE: datetime.now(UTC).isoformat()}, raise_if_not_exists=False)
    delta.update_incremental()
    committed = {unquote(path) for path in data_files(delta)["path"]}
    storage = DeltaStorageHandler(delta.table_uri, storage_options)
    for path in old:
        if unquote(path) not in committed:
            with suppress(FileNotFoundError):
                storage.delete_file(path)
