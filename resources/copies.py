"""Copies a table's files into another table's folder, so that one commit can put them in the place of its own.

deltalake has no such operation. What this relies on inside it is pinned by tests/contract.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import date, datetime
from typing import Any
from urllib.parse import unquote
from uuid import uuid4

import polars as pl
from deltalake import DeltaTable
from deltalake._internal import DeltaFileSystemHandler
from deltalake.exceptions import TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction

_BLOCK_BYTES = 4 << 20


class Copies:
    """Copies of one table's files in the folder of another table of the same store.

    They belong to no table until a commit names them (`keep`); `discard` removes those that none will name.

    Args:
        source_uri: the folder to copy from.
        target_uri: the folder to copy to.
        options: what opens the store.
    """

    def __init__(self, source_uri: str, target_uri: str, options: dict[str, str]) -> None:
        self._target_uri, self._options = target_uri, options
        self._reads, self._writes = (DeltaFileSystemHandler(uri, options) for uri in (source_uri, target_uri))
        self._copied: dict[str, AddAction] = {}

    def of(self, source: DeltaTable) -> list[AddAction | RemoveAction]:
        """Copies the files that a table has now, but for those that were copied before.

        Returns:
            What a commit to the other table has to add.
        """
        files = pl.DataFrame(source.get_add_actions(flatten=False))
        return [self._copied.get(file["path"]) or self._copy(file) for file in files.iter_rows(named=True)]

    def keep(self) -> None:
        """Says that a commit has named the copies: they are a table's own files now."""
        self._copied = {}

    def discard(self) -> None:
        """Removes all copies but those that a commit named after all, since its answer may have been lost."""
        if not self._copied:
            return
        target = DeltaTable(self._target_uri, storage_options=self._options)
        named = {unquote(path) for path in pl.DataFrame(target.get_add_actions(flatten=True))["path"]}
        for copy in self._copied.values():
            if copy.path not in named:
                self._writes.delete_file(copy.path)
        self._copied = {}

    def _copy(self, file: Mapping[str, Any]) -> AddAction:
        folder, _, _ = file["path"].rpartition("/")
        path = f"{folder}/part-{uuid4()}.zstd.parquet" if folder else f"part-{uuid4()}.zstd.parquet"
        source: Any = self._reads.open_input_file(file["path"])
        copy: Any = self._writes.open_output_stream(path)
        while block := bytes(source.read(_BLOCK_BYTES)):
            copy.write(block)
        copy.close()
        source.close()
        partition = {name: None if value is None else str(value) for name, value in (file["partition"] or {}).items()}
        added = AddAction(path, file["size_bytes"], partition, file["modification_time"], True, _statistics(file))
        self._copied[file["path"]] = added
        return added


def remove_folder(uri: str, options: dict[str, str]) -> None:
    """Removes all files below a folder; one that is not there is removed already."""
    with suppress(TableNotFoundError):
        DeltaFileSystemHandler(uri, options).delete_dir("")


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
