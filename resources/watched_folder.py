"""A folder on a disk or in Azure's blob storage whose files are looked at again and again."""

import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import fsspec
from azure.core.exceptions import AzureError
from fsspec.asyn import sync
from fsspec.implementations.local import LocalFileSystem

from resources.stored_files import BLOCK_BYTES, times_of

PAGE = 5_000
"""How many names Azure tells for a request, at most."""
MAX_NOTE_BYTES = 64 << 10


class WatchedFolderError(OSError):
    """The folder cannot be listed or read; the message says what to check. Nothing was imported."""


class WatchedFile(NamedTuple):
    """A file as it was listed.

    Attributes:
        place: its path below the folder, with slashes.
        size: in bytes.
        changed_at: when its content last changed, by the clock of the store.
    """

    place: str
    size: int
    changed_at: datetime


class WatchedFolder:
    """The folder.

    Args:
        url: a path, ``file://…`` or ``abfs://container/path``.
        options: what fsspec needs to open it.
    """

    def __init__(self, url: str, options: Mapping[str, Any] | None = None) -> None:
        self._url, self._options = url, dict(options or {})

    def pages(self) -> Iterator[list[WatchedFile]]:
        """All files below the folder but hidden ones, some at a time: a page of a store's listing, or a folder.

        Of Azure's blob storage a page has 5,000 names and costs one request, whatever is new: it cannot be asked for
        what changed since.

        Raises:
            WatchedFolderError: it cannot be listed.
        """
        with self._explained("listed"):
            store, root = self._opened()
            store.invalidate_cache()
            if not store.isdir(root):
                raise FileNotFoundError("there is no such folder")
            pages = _pages_of_blobs(store, root) if hasattr(store, "service_client") else _pages_of_folders(store, root)
            for page in pages:
                found = [each._replace(place=each.place.removeprefix(root).lstrip("/")) for each in page]
                # A name that begins with a dot is hidden, a file's as well as a folder's.
                yield [each for each in found if not each.place.startswith(".") and "/." not in each.place]

    def text(self, place: str) -> str:
        """The text of a small file.

        Raises:
            WatchedFolderError: it cannot be read, is no UTF-8 or is large.
        """
        with self._explained("read"):
            store, root = self._opened()
            with closing(store.open(f"{root}/{place}", "rb")) as file:
                content: bytes = file.read(MAX_NOTE_BYTES + 1)
            if len(content) > MAX_NOTE_BYTES:
                raise ValueError(f"{PurePosixPath(place).name} has more than {MAX_NOTE_BYTES >> 10} KiB")
            return content.decode()

    @contextmanager
    def opened(self, place: str) -> Iterator[tuple[Path, str]]:
        """A file on a disk of this machine, and the SHA-256 of its content; a copy of it, so that it cannot change.

        Raises:
            WatchedFolderError: it cannot be read.
            FileNotFoundError: it has gone since it was listed.
        """
        with tempfile.TemporaryDirectory(prefix="pulselake-") as folder:
            suffix = PurePosixPath(place).suffix.lower()
            copy = Path(folder) / f"file{suffix}"
            with self._explained("read"):
                store, root = self._opened()
                sha256 = hashlib.sha256()
                with closing(store.open(f"{root}/{place}", "rb")) as source, copy.open("wb") as target:
                    while block := source.read(BLOCK_BYTES):
                        sha256.update(block)
                        target.write(block)
            # Its name may be a person's, and that of its content is as good.
            yield copy.rename(Path(folder) / f"{sha256.hexdigest()}{suffix}"), sha256.hexdigest()

    def _opened(self) -> tuple[Any, str]:
        store, root = fsspec.core.url_to_fs(self._url, **self._options)
        return store, (str(root).rstrip("/") if isinstance(store, LocalFileSystem) else str(root).strip("/"))

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            if what == "read":
                raise
            raise self._error(what, error) from error
        except (OSError, AzureError, ValueError, ImportError, shutil.Error) as error:
            raise self._error(what, error) from error

    def _error(self, what: str, error: Exception) -> WatchedFolderError:
        said = str(error) if isinstance(error, ValueError | FileNotFoundError) else type(error).__name__
        return WatchedFolderError(
            f"The watched folder could not be {what} ({said}), so nothing was imported. Check PULSELAKE_WATCH, that "
            "the folder can be read and, on Azure, the settings AZURE_STORAGE_…."
        )


def _pages_of_folders(store: Any, root: str) -> Iterator[list[WatchedFile]]:
    for _, _, files in store.walk(root, detail=True):
        yield [WatchedFile(info["name"], int(info["size"] or 0), max(times_of(store, info))) for info in files.values()]


def _pages_of_blobs(store: Any, root: str) -> Iterator[list[WatchedFile]]:
    """By adlfs' own client: `find` holds several kB of each blob until all are listed."""
    container, prefix, _ = store.split_path(f"{root}/")
    client = store.service_client.get_container_client(container)
    pages = client.list_blobs(name_starts_with=prefix, include=["metadata"], results_per_page=PAGE).by_page()

    async def next_page() -> list[Any] | None:
        try:
            return [each async for each in await anext(pages)]
        except StopAsyncIteration:
            return None

    while (page := sync(store.loop, next_page)) is not None:
        yield [
            WatchedFile(f"{container}/{blob.name}", blob.size, blob.last_modified)
            for blob in page
            if not _is_folder(blob)
        ]


def _is_folder(blob: Any) -> bool:
    """Where the account has folders of its own they are listed like empty blobs."""
    said = {name.lower(): value for name, value in (blob.metadata or {}).items()}
    return "true" in (said.get("hdi_isfolder"), said.get("is_directory"))
