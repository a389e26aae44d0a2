"""A folder of documents and medical images, on a disk or in Azure's blob storage, as a source of batches.

A row says of a file where it is, how large it is, when it changed, its SHA-256 and, of a DICOM file, some fields of the
header. The content stays where it is, unless a folder for copies is given: a copy is named by its SHA-256, so that it
is written once and never changed.

On a disk a file counts as changed when its inode did, so that one that was moved there with an old date is seen too.
"""

import hashlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import fsspec
import pydicom
from azure.core.exceptions import AzureError
from pydicom.errors import InvalidDicomError

from resources.batch_source import BatchSourceError, Pulled, Watermark, digest, frame_of, one_line, trusted
from resources.stored_files import BLOCK_BYTES, times_of

PIECE_FILES, PIECE_BYTES = 500, 1 << 30
MAX_HEADER_BYTES = 8 << 20
"""Of a DICOM file so much is parsed at most; the pixels come behind the header."""

_PREAMBLE, _MAGIC = 128, b"DICM"
DICOM_FIELDS: Mapping[str, str] = {
    "dicom_patient_id": "PatientID",
    "dicom_study_date": "StudyDate",
    "dicom_modality": "Modality",
    "dicom_body_part": "BodyPartExamined",
    "dicom_study_uid": "StudyInstanceUID",
    "dicom_instance_uid": "SOPInstanceUID",
    "dicom_manufacturer": "Manufacturer",
    "dicom_rows": "Rows",
    "dicom_columns": "Columns",
}


@dataclass(frozen=True)
class _File:
    path: str
    name: str
    size: int
    modified_at: datetime
    changed_at: datetime

    @property
    def key(self) -> str:
        return digest([self.name, self.size, self.changed_at])


class FolderSource:
    """A folder with all that lies below it.

    Args:
        name: of the source, for messages.
        url: of the folder: a path, ``file://…`` or ``abfs://container/path``.
        setting: the environment variable that holds the URL, for messages.
        options: what fsspec needs to open it.
        copies: the folder to copy contents to, as a URL, with its options; None to copy nothing.
    """

    def __init__(
        self,
        name: str,
        url: str,
        setting: str,
        options: Mapping[str, Any] | None = None,
        *,
        copies: tuple[str, Mapping[str, Any]] | None = None,
        piece_files: int = PIECE_FILES,
    ) -> None:
        self._name, self._url, self._setting, self._options = name, url, setting, dict(options or {})
        self._copies, self._piece_files = copies, piece_files
        logging.getLogger("pydicom").setLevel(logging.CRITICAL)

    def pull(self, since: bytes | None) -> Iterator[Pulled]:
        """See `BatchSource.pull`. A file that cannot be read is a row that says why; it stops no other."""
        mark = Watermark.of(self._name, since)
        try:
            store, root = fsspec.core.url_to_fs(self._url, **self._options)
            store.invalidate_cache()
            if not store.isdir(root):
                raise FileNotFoundError("there is no such folder")
            start = mark.start()
            files = [
                file
                for file in self._files(store, root)
                if (start is None or file.changed_at >= start) and file.key not in mark.seen
            ]
            for piece in self._pieces(sorted(files, key=lambda file: (file.changed_at, file.name))):
                rows = [row for file in piece if (row := self._row(store, file))]
                now = datetime.now(UTC)
                mark.read((file.key, trusted(file.changed_at, now)) for file in piece)
                mark.forget(self._name)
                if rows:
                    yield Pulled(frame_of(rows), mark.cursor())
        except (OSError, AzureError, ValueError, ImportError) as error:
            raise BatchSourceError(
                self._name,
                f"reading the folder {self._url}",
                one_line(error),
                f"Check that it is there and can be read, {self._setting} and, on Azure, the settings AZURE_STORAGE_…. "
                "`pulselake hospital` makes the default one.",
            ) from None

    def _files(self, store: Any, root: str) -> Iterator[_File]:
        for path, info in store.find(root, detail=True).items():
            name = path.removeprefix(root).lstrip("/")
            yield _File(path, name, int(info["size"] or 0), *times_of(store, info))

    def _pieces(self, files: list[_File]) -> Iterator[list[_File]]:
        piece, size = list[_File](), 0
        for file in files:
            piece.append(file)
            size += file.size
            if len(piece) == self._piece_files or size >= PIECE_BYTES:
                yield piece
                piece, size = [], 0
        if piece:
            yield piece

    def _row(self, store: Any, file: _File) -> dict[str, Any] | None:
        row: dict[str, Any] = {
            "path": file.name,
            "size_bytes": file.size,
            "modified_at": file.modified_at.isoformat(),
            "sha256": None,
            "content_copy": None,
            "is_dicom": None,
            **dict.fromkeys(DICOM_FIELDS),
            "problem": None,
        }
        try:
            sha256, header = _read(store, file.path)
            row |= {"sha256": sha256, "is_dicom": header[_PREAMBLE : _PREAMBLE + 4] == _MAGIC}
            if self._copies:
                row["content_copy"] = self._copy(store, file.path, sha256)
        except FileNotFoundError:
            return None  # It went away since the folder was listed.
        except PermissionError as error:
            return row | {"problem": f"unreadable: {type(error).__name__}"}
        if row["is_dicom"]:
            row |= _dicom(header)
        return row

    def _copy(self, store: Any, path: str, sha256: str) -> str:
        """Copies a content, unless it is there, and returns the name of the copy."""
        assert self._copies
        target, root = fsspec.core.url_to_fs(self._copies[0], **self._copies[1])
        copy = f"{root.rstrip('/')}/{sha256}"
        if not target.exists(copy):
            target.makedirs(root, exist_ok=True)
            unfinished = f"{copy}.{uuid4().hex[:8]}"
            with closing(store.open(path, "rb")) as source, target.open(unfinished, "wb") as written:
                while block := source.read(BLOCK_BYTES):
                    written.write(block)
            target.mv(unfinished, copy)
        return sha256


def _read(store: Any, path: str) -> tuple[str, bytes]:
    """The SHA-256 of a file, and its beginning."""
    sha256, header = hashlib.sha256(), b""
    with closing(store.open(path, "rb")) as file:
        while block := file.read(BLOCK_BYTES):
            sha256.update(block)
            if len(header) < MAX_HEADER_BYTES:
                header += block[: MAX_HEADER_BYTES - len(header)]
    return sha256.hexdigest(), header


def _dicom(header: bytes) -> dict[str, Any]:
    """Some fields of a DICOM header; one that cannot be parsed is a problem of the file alone."""
    with warnings.catch_warnings():
        # It warns of much that scanners write; its texts may hold values.
        warnings.simplefilter("ignore")
        try:
            read = pydicom.dcmread(io.BytesIO(header), stop_before_pixels=True, specific_tags=[*DICOM_FIELDS.values()])
            found = {column: _plain(read.get(field)) for column, field in DICOM_FIELDS.items()}
        except (InvalidDicomError, ValueError, TypeError, LookupError, AttributeError, EOFError, OSError):
            found = {}
    return found if any(found.values()) else {"problem": "damaged DICOM header"}


def _plain(value: Any) -> Any:
    if value is None or value == "":
        return None
    return int(value) if isinstance(value, int) else str(value)
