"""A folder of files with a JSON object in each line, as a source of batches; it stands in for Cosmos DB.

Files may grow at their end. A line counts once its end is there: a line break or, in the last line, that of its object.
A file that became shorter is read again.
"""

from codecs import BOM_UTF8
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from resources.batch_source import PIECE_ROWS, BatchSourceError, Pulled, frame_of, one_line


class JsonLinesSource:
    """The files ``*.jsonl`` of a folder, in the order of their names.

    Args:
        name: of the source, for messages.
        folder: where they are.
        setting: the environment variable that holds the folder, for messages.
    """

    def __init__(self, name: str, folder: Path, setting: str, *, piece_rows: int = PIECE_ROWS) -> None:
        self._name, self._folder, self._setting, self._piece_rows = name, folder, setting, piece_rows

    def pull(self, since: bytes | None) -> Iterator[Pulled]:
        """See `BatchSource.pull`."""
        read = self._positions(since)
        try:
            if not self._folder.is_dir():
                raise FileNotFoundError("there is no such folder")
            files = sorted(self._folder.glob("*.jsonl"))
        except OSError as error:
            raise self._error(str(self._folder), error) from None
        rows, file = list[Any](), self._folder
        try:
            for file in files:
                for lines, position in self._lines(file, read.get(file.name, 0)):
                    read[file.name] = position
                    rows += [_row(line) for line in lines if line.strip()]
                    # A file may have few lines, and each piece costs a commit.
                    if len(rows) >= self._piece_rows:
                        yield Pulled(frame_of(rows), msgspec.json.encode(read))
                        rows = []
        except OSError as error:
            if rows:
                yield Pulled(frame_of(rows), msgspec.json.encode(read))
            raise self._error(file.name, error) from None
        if msgspec.json.encode(read) != since:
            yield Pulled(frame_of(rows) if rows else pl.DataFrame(), msgspec.json.encode(read))

    def _lines(self, file: Path, position: int) -> Iterator[tuple[list[bytes], int]]:
        """Complete lines behind a position, some at a time, each time with the position behind them."""
        with file.open("rb") as opened:
            if opened.seek(0, 2) < position:
                position = 0
            opened.seek(position)
            lines: list[bytes] = []
            for line in opened:
                # Programs often write no line break behind the last object, and no beginning of an object is one.
                if not line.endswith(b"\n") and not isinstance(_row(line), dict):
                    break
                lines.append(line)
                position += len(line)
                if len(lines) == self._piece_rows:
                    yield lines, position
                    lines = []
            if lines:
                yield lines, position

    def _positions(self, since: bytes | None) -> dict[str, int]:
        try:
            return msgspec.json.decode(since, type=dict[str, int]) if since else {}
        except msgspec.MsgspecError as error:
            raise BatchSourceError(
                self._name,
                "reading the cursor",
                f"it is none of this client ({error})",
                "Restore the table of states, or set the source up under another name to read everything again.",
            ) from None

    def _error(self, what: str, error: OSError) -> BatchSourceError:
        return BatchSourceError(
            self._name,
            f"reading {what}",
            one_line(error),
            f"Check that the folder is there and can be read, and {self._setting}. `pulselake hospital` makes the "
            "default one.",
        )


def _row(line: bytes) -> Any:
    try:
        return msgspec.json.decode(line.removeprefix(BOM_UTF8))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return line.decode("utf-8", errors="replace").rstrip("\r\n")
