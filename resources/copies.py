"""Copies a table's files into another table's folder, so that one commit can put them in the place of its own.

deltalake has no such operation. What this relies on inside it is pinned by tests/contract.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import date, datetime
from typing import Any
from uuid import uuid4

import polars as pl
from deltalake import DeltaTable
from deltalake._internal import DeltaFileSystemHandler
from deltalake.exceptions import TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction

_BLOCK_BYTES = 4 << 20


def copied_files(
    source: DeltaTable, source_uri: str, target_uri: str, options: dict[str, str]
) -> list[AddAction | RemoveAction]:
    """Copies the files of a table, under new names, into another folder of the same store.

    Returns:
        What a commit to the other table has to add.
    """
    reads, writes = DeltaFileSystemHandler(source_uri, options), DeltaFileSystemHandler(target_uri, options)
    actions: list[AddAction | RemoveAction] = []
    for file in pl.DataFrame(source.get_add_actions(flatten=False)).iter_rows(named=True):
        folder, _, _ = file["path"].rpartition("/")
        path = f"{folder}/part-{uuid4()}.zstd.parquet" if folder else f"part-{uuid4()}.zstd.parquet"
        _copy(reads, file["path"], writes, path)
        partition = {name: None if value is None else str(value) for name, value in (file["partition"] or {}).items()}
        actions.append(
            AddAction(path, file["size_bytes"], partition, file["modification_time"], True, _statistics(file))
        )
    return actions


def remove_folder(uri: str, options: dict[str, str]) -> None:
    """Removes all files below a folder; one that is not there is removed already."""
    with suppress(TableNotFoundError):
        DeltaFileSystemHandler(uri, options).delete_dir("")


def _copy(reads: DeltaFileSystemHandler, path: str, writes: DeltaFileSystemHandler, target: str) -> None:
    source: Any = reads.open_input_file(path)
    copy: Any = writes.open_output_stream(target)
    while block := bytes(source.read(_BLOCK_BYTES)):
        copy.write(block)
    copy.close()
    source.close()


def _statistics(file: Mapping[str, Any]) -> str:
    """A file's statistics as Delta's log has them."""
    bounds = {
        name: {column: _plain(value) for column, value in (file[bound] or {}).items() if value is not None}
        for name, bound in (("minValues", "min"), ("maxValues", "max"))
    }
    return json.dumps({"numRecords": file["num_records"], **bounds, "nullCount": file["null_count"] or {}})


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        # As deltalake cuts them: to milliseconds.
        return f"{value:%Y-%m-%dT%H:%M:%S}.{value.microsecond // 1000:03d}Z"
    return value.isoformat() if isinstance(value, date) else value
