"""The elements of a list in a JSON document, as files of openFDA's downloads have it; also in the members of a zip.

A file is mapped into memory and not read into it, and the elements are views of it: what the system needs of a large
file it can take back. Members of a zip are unpacked into temporary files before.
"""

import mmap
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import IO, Any

import msgspec

# A RuntimeError is for a password; a NotImplementedError, which is one, for a compression that zipfile does not know.
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError)
"""What reading a zip raises that is broken or cannot be read here."""
_Document = bytes | mmap.mmap | msgspec.Raw


class RecordsError(ValueError):
    """A file does not have the list that was asked for; nothing of it was used."""


def records(path: str | PathLike[str], name: str) -> Iterator[bytes]:
    """The elements of a list, in order: objects without white space, all else as it stands.

    Args:
        path: of a JSON document, or of a zip whose members ``*.json`` each have the list.
        name: of the list in the document; names of objects around it come before it, with dots between.

    Raises:
        RecordsError: before the first element, if a document is no JSON or lacks the list.
    """
    for elements in [_elements(document, place, name) for place, document in _documents(Path(path))]:
        for element in elements:
            text = bytes(element)
            yield msgspec.json.format(text, indent=-1) if text.startswith(b"{") else text


def _elements(document: _Document, place: str, name: str) -> list[msgspec.Raw]:
    *around, last = name.split(".")
    found: Any = document
    try:
        for each in around:
            found = _value(found, each, msgspec.Raw)
        elements: list[msgspec.Raw] = _value(found, last, list[msgspec.Raw])
    except msgspec.ValidationError as error:
        raise RecordsError(
            f"{place}: there is no list under '{name}', so nothing was used. {error}. Name the list that has the "
            "records, as 'results', or 'data.results' where it is in an object."
        ) from None
    except msgspec.DecodeError as error:
        raise RecordsError(
            f"{place}: the file is no JSON, so nothing was used. {error}. Look whether it is complete, or publish it "
            "without --records if it has one body a line."
        ) from None
    return elements


def _value(document: _Document, name: str, kind: Any) -> Any:
    level = msgspec.defstruct("Level", [("value", kind)], rename={"value": name})
    return msgspec.structs.astuple(msgspec.json.decode(document, type=level))[0]


def _documents(path: Path) -> Iterator[tuple[str, _Document]]:
    if path.suffix.lower() != ".zip":
        with path.open("rb") as file:
            yield str(path), _mapped(file)
        return
    try:
        with zipfile.ZipFile(path) as archive:
            members = [each for each in archive.infolist() if each.filename.lower().endswith(".json")]
            for member in members:
                with archive.open(member) as packed, tempfile.TemporaryFile() as unpacked:
                    shutil.copyfileobj(packed, unpacked, 1 << 20)
                    unpacked.flush()
                    yield f"{path}, {member.filename}", _mapped(unpacked)
    except ZIP_ERRORS as error:
        raise RecordsError(f"{path}: the zip is broken, so nothing was used. {error}. Download it again.") from error
    if not members:
        raise RecordsError(f"{path}: the zip has no member *.json, so nothing was used. Publish another file.")


def _mapped(file: IO[bytes]) -> _Document:
    # Nothing can be mapped of an empty file.
    return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if file.seek(0, 2) else b""
