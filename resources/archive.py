"""Archived rows: Parquet files and a manifest for each date of a table, in a folder or on Azure's storage.

```
<archive>/silver/glucose_readings/ingest_date=2026-01-31/
    0000000123-5e0c7a1d-00000.parquet      all rows as they stood at version 123 of the Delta table
    0000000123-5e0c7a1d-00001.parquet
    0000000123-5e0c7a1d.json               the manifest, written last: counts, checksums, columns
```

A file that no manifest names was left by a run that was killed. What is archived, and when rows go, belongs to
`assets.retention`.
"""

import hashlib
import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import polars as pl
import pyarrow as pa
from deltalake._internal import DeltaFileSystemHandler
from deltalake.fs import DeltaStorageHandler
from pyarrow.fs import FileSelector, FileType, PyFileSystem
from pyarrow.parquet import ParquetFile, ParquetWriter

from resources.checksum import Tally
from resources.lake import Lake
from resources.parts import BATCH_ROWS, Part

FILE_BYTES = 512 << 20
"""A file that is as large is closed, and the next one begun."""
_BLOCK_BYTES = 4 << 20


class ArchiveError(RuntimeError):
    """An archive is not what its manifest says, or cannot be used; no row was deleted for it."""


class ArchivedFile(msgspec.Struct, frozen=True):
    """One Parquet file beside its manifest."""

    name: str
    rows: int
    bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """What was archived of one date of a table.

    Attributes:
        table: ``<layer>/<table>``.
        ingest_date: the date.
        delta_id, delta_version: of the table whose rows these are.
        rows: how many.
        checksum: of the rows, see `resources.checksum`.
        columns: their Polars types by name.
        files: where the rows are.
        archived_at: when.
        format: of this manifest.
    """

    table: str
    ingest_date: date
    delta_id: str
    delta_version: int
    rows: int
    checksum: str
    columns: dict[str, str]
    files: tuple[ArchivedFile, ...]
    archived_at: datetime
    format: int = 1


@dataclass(frozen=True)
class Archived:
    """A manifest and where it is.

    Attributes:
        path: below the root of the archive.
        sha256: of the manifest's file.
        manifest: what it says.
    """

    path: str
    sha256: str
    manifest: Manifest

    @property
    def folder(self) -> str:
        """Where its files are, below the root of the archive."""
        return self.path.rpartition("/")[0]


@dataclass(frozen=True)
class Archive:
    """All archived rows.

    Attributes:
        store: its root, and what opens it.
    """

    store: Lake

    @property
    def root(self) -> str:
        """A folder or a URI."""
        return self.store.root

    def write(self, table: str, part: Part, now: datetime, frames: Iterable[pl.DataFrame]) -> Archived:
        """Writes rows and then their manifest; nothing of it is read back here.

        Args:
            table: the table's name.
            part: which rows these are.
            now: the time.
            frames: the rows, with the columns of the part.
        """
        folder, name = _folder(table, part.day), f"{part.version:010}-{uuid4().hex[:8]}"
        tally, files = Tally(), list[ArchivedFile]()
        rest = iter(frames)
        while (first := next(rest, None)) is not None:
            files.append(self._write_file(folder, f"{name}-{len(files):05}.parquet", first, rest, tally))
        columns = {each: str(type_) for each, type_ in part.schema.items()}
        manifest = Manifest(
            table, part.day, part.delta_id, part.version, tally.rows, tally.checksum, columns, tuple(files), now
        )
        text = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
        path = f"{folder}/{name}.json"
        with self._output(path) as output:
            output.write(text)
        return Archived(path, hashlib.sha256(text).hexdigest(), manifest)

    def manifests(self, table: str, day: date) -> list[Archived]:
        """Those of one date of a table, the oldest first."""
        paths = (path for path in self._paths(_folder(table, day)) if path.endswith(".json"))
        return sorted((self.load(path) for path in paths), key=lambda each: each.manifest.archived_at)

    def load(self, path: str) -> Archived:
        """A manifest.

        Raises:
            ArchiveError: it is not there, or is no manifest.
        """
        try:
            with self._files().open_input_file(path) as file:
                text = bytes(file.read())
            return Archived(path, hashlib.sha256(text).hexdigest(), msgspec.json.decode(text, type=Manifest))
        except FileNotFoundError as error:
            raise self._error(path, "is not there") from error
        except msgspec.DecodeError as error:
            raise self._error(path, "is no manifest") from error

    def verify(self, archived: Archived) -> None:
        """Reads all files of a manifest and compares them with what it says.

        Raises:
            ArchiveError: a file is missing or other than it was, or the rows are.
        """
        tally = Tally()
        for file in archived.manifest.files:
            path = f"{archived.folder}/{file.name}"
            try:
                if (found := self._digest(path)) != (file.bytes, file.sha256):
                    raise self._error(path, f"has {found[0]:,} bytes and not the content that its manifest names")
                before = tally.rows
                for rows in self._rows(path):
                    tally.add(rows)
            except FileNotFoundError as error:
                raise self._error(path, "is not there") from error
            except pa.ArrowException as error:
                raise self._error(path, "cannot be read as Parquet") from error
            if tally.rows - before != file.rows:
                raise self._error(path, f"has {tally.rows - before:,} rows and not {file.rows:,}")
        if (tally.rows, tally.checksum) != (archived.manifest.rows, archived.manifest.checksum):
            raise self._error(
                archived.path,
                f"names {archived.manifest.rows:,} rows with checksum {archived.manifest.checksum}, "
                f"its files have {tally.rows:,} with {tally.checksum}",
            )

    def frames(self, archived: Archived) -> Iterator[pl.DataFrame]:
        """The rows of a manifest, some at a time."""
        for file in archived.manifest.files:
            yield from self._rows(f"{archived.folder}/{file.name}")

    def discard(self, archived: Archived) -> None:
        """Removes a manifest, and then its files."""
        handler = self._handler()
        for path in (archived.path, *(f"{archived.folder}/{file.name}" for file in archived.manifest.files)):
            handler.delete_file(path)

    def sweep(self, table: str, day: date) -> None:
        """Removes files of a date that no manifest names."""
        named = {f"{each.folder}/{file.name}" for each in self.manifests(table, day) for file in each.manifest.files}
        handler = self._handler()
        for path in self._paths(_folder(table, day)):
            if path.endswith(".parquet") and path not in named:
                handler.delete_file(path)

    def _write_file(
        self, folder: str, name: str, first: pl.DataFrame, rest: Iterator[pl.DataFrame], tally: Tally
    ) -> ArchivedFile:
        before, frame = tally.rows, first
        schema = first.to_arrow(compat_level=pl.CompatLevel.oldest()).schema
        with self._output(f"{folder}/{name}") as output, ParquetWriter(output, schema, compression="zstd") as writer:
            while True:
                writer.write_table(tally.add(frame).to_arrow(compat_level=pl.CompatLevel.oldest()))
                if output.size >= FILE_BYTES or (following := next(rest, None)) is None:
                    break
                frame = following
        return ArchivedFile(name, tally.rows - before, output.size, output.sha256)

    def _output(self, path: str) -> "_Output":
        local = None if "://" in self.root else Path(self.root) / path
        return _Output(self._handler().open_output_stream(path), local)

    def _digest(self, path: str) -> tuple[int, str]:
        sha256, size = hashlib.sha256(), 0
        with self._files().open_input_file(path) as file:
            while block := bytes(file.read(_BLOCK_BYTES)):
                sha256.update(block)
                size += len(block)
        return size, sha256.hexdigest()

    def _rows(self, path: str) -> Iterator[pl.DataFrame]:
        with self._files().open_input_file(path) as file:
            for batch in ParquetFile(file).iter_batches(BATCH_ROWS):
                yield pl.DataFrame(batch)

    def _paths(self, folder: str) -> list[str]:
        found = self._files().get_file_info(FileSelector(folder, allow_not_found=True, recursive=True))
        return [each.path for each in found if each.type == FileType.File]

    def _handler(self) -> Any:
        # A new one each time: its token is valid for an hour, and a large date takes longer.
        self._create_root()
        return DeltaFileSystemHandler(self.root, self.store.options())

    def _files(self) -> PyFileSystem:
        self._create_root()
        return PyFileSystem(DeltaStorageHandler(self.root, self.store.options()))

    def _create_root(self) -> None:
        if "://" not in self.root:
            Path(self.root).mkdir(parents=True, exist_ok=True)

    def _error(self, path: str, what: str) -> ArchiveError:
        return ArchiveError(
            f"Archive {self.root}: {path} {what}. No row was deleted because of it. Restore the file from a copy, or "
            "find out who changed it."
        )


class _Output(io.RawIOBase):
    """A file that is being written, its size and SHA-256; once it is closed, a local one is on the disk."""

    def __init__(self, stream: Any, local: Path | None) -> None:
        self._stream, self._local, self._digest = stream, local, hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        block = bytes(data)
        self._digest.update(block)
        self._stream.write(block)
        self.size += len(block)
        return len(block)

    def close(self) -> None:
        if self.closed:
            return
        super().close()
        self._stream.close()
        if self._local:
            for path in (self._local, self._local.parent):
                descriptor = os.open(path, os.O_RDONLY)
                os.fsync(descriptor)
                os.close(descriptor)


def _folder(table: str, day: date) -> str:
    return f"{table}/ingest_date={day.isoformat()}"
