"""Landed files: what a source gave, one Parquet file a load, as it came. A file is written once and never changed.

```
<lake>/landing/ehr/load_date=2026-11-29/00000012-5e0c7a1d.parquet
```
"""

import os
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any
from uuid import uuid4

import polars as pl
from deltalake._internal import DeltaFileSystemHandler

from resources.lake import Lake

FOLDER = "landing"


class Landing:
    """The landed files of one source.

    Args:
        lake: where they are.
        source: the source's name.
    """

    def __init__(self, lake: Lake, source: str) -> None:
        self._lake, self._source = lake, source

    def write(self, rows: pl.DataFrame, load_id: str, day: date) -> str:
        """Writes a load.

        Args:
            rows: what came.
            load_id: of the load; no other one has it.
            day: when it came.

        Returns:
            The file's path below the lake.
        """
        path = f"{FOLDER}/{self._source}/load_date={day.isoformat()}/{load_id}.parquet"
        if "://" in self._lake.root:
            rows.write_parquet(self._uri(path), storage_options=self._lake.polars_options() or None)
            return path
        file = Path(self._uri(path))
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_suffix(f".{uuid4().hex[:8]}.unfinished")
        try:
            with unfinished.open("wb") as written:
                rows.write_parquet(written)
                written.flush()
                os.fsync(written.fileno())
            # Fails where there is such a file, which a rename would replace.
            os.link(unfinished, file)
        finally:
            with suppress(FileNotFoundError):
                unfinished.unlink()
        return path

    def read(self, path: str) -> pl.DataFrame:
        """The rows of a load.

        Raises:
            LandingError: the file is not there or cannot be read.
        """
        try:
            return pl.read_parquet(self._uri(path), storage_options=self._lake.polars_options() or None)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise LandingError(
                f"{path} in {self._lake.root} cannot be read ({type(error).__name__}), so the rows of this load were "
                "not made again; bronze keeps those it has. Restore the file from a copy of the lake."
            ) from error

    def _uri(self, path: str) -> str:
        return f"{self._lake.root.rstrip('/')}/{path}"


def write_page(lake: Lake, path: str, content: str | bytes) -> None:
    """Writes a file below the lake; one that is there is replaced, at once and as a whole."""
    if "://" not in lake.root:
        Path(lake.root).mkdir(parents=True, exist_ok=True)
    # pyarrow's file system hands over buffers, which deltalake's does not take.
    output: Any = DeltaFileSystemHandler(lake.root, lake.options()).open_output_stream(path)
    output.write(content.encode() if isinstance(content, str) else content)
    output.close()


def pages(lake: Lake, folder: str) -> list[str]:
    """The paths of the HTML pages below a folder of the lake, in order."""
    if "://" not in lake.root and not Path(lake.root).is_dir():
        return []
    found = DeltaFileSystemHandler(lake.root, lake.options()).get_file_info_selector(folder, True, True)
    return sorted(each.path for each in found if each.path.endswith(".html"))


class LandingError(RuntimeError):
    """A landed file cannot be read."""
