"""What is asked of files wherever they are stored, by fsspec."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from fsspec.implementations.local import LocalFileSystem

BLOCK_BYTES = 4 << 20
"""How much of a file is read at once."""


def times_of(store: Any, info: Mapping[str, Any]) -> tuple[datetime, datetime]:
    """When a file was modified, as it says itself, and when it changed, by the clock of the store."""
    if isinstance(store, LocalFileSystem):
        # What fsspec calls `created` is the time at which the inode changed.
        return datetime.fromtimestamp(info["mtime"], UTC), datetime.fromtimestamp(info["created"], UTC)
    found = info.get("last_modified") or info.get("LastModified")
    if not isinstance(found, datetime):
        raise ValueError(f"{type(store).__name__} does not say when a file changed")
    at = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    return at, at
