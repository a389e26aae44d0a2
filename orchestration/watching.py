"""Imports the new files of a watched folder, each content once for a patient, and notes what became of them.

```
 folder ─▶ files that are not noted, and have not changed for a while ─▶ SHA-256 ─▶ known of the patient: noted
                                                                           └──────▶ new: imported, noted
```

Whose a file is says the first sub-folder, or a file `pulselake.toml` beside it or above it. Files stay where they are.
A file's name may be a person's: it is in the table only, never in logs or in Dagster.
"""

import json
import logging
import tomllib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, date, datetime, timedelta
from pathlib import PurePosixPath
from typing import Any

import polars as pl

from orchestration.importing import Found, ImportRefusedError, Said, is_importable, send
from orchestration.system import open_lake
from orchestration.watched_files import WATCHED
from resources import sources
from resources.batch_sources import storage_options
from resources.event_source import HubUnavailableError, Publisher
from resources.lake import Lake, LakeTable
from resources.leases import LeaseError
from resources.logs import tell
from resources.settings import Settings
from resources.watched_folder import WatchedFile, WatchedFolder, WatchedFolderError

_log = logging.getLogger(__name__)

LOCK = "watch"
SETTLED_AFTER = timedelta(seconds=10)
"""A file that changed less long ago may still be written."""
SHOWN_FAILURES = 5
MOST_DUE = 10_000
"""How many files a look imports; the next one goes on."""
MAINTAINED_EVERY = 100
"""After so many files their notes, a commit each, become few files again: each import looks through them."""
NOTES = "pulselake.toml"
IMPORTED, KNOWN, FAILED = "imported", "known", "failed"
_BEFORE = "its content was imported before for"
_SAID = {"patient": "binding", "zone": "zone", "date_order": "date_order", "source": "source", "base": "base"}
_KEY = ("place", "size", "changed_at", "said")
_NO_FILES = pl.DataFrame(schema={name: WATCHED.schema[name] for name in ("place", "size", "changed_at")})
_TOP = pl.lit(".")
_DATE_ORDERS = ("day-first", "month-first")


@dataclass(frozen=True)
class Due:
    """A file that is to be looked at, and what the folder says of it."""

    file: WatchedFile
    said: Said
    problem: str = ""

    @property
    def said_text(self) -> str:
        """What the folder says, as it is noted."""
        return _said_text(self.said, self.problem)


def _said_text(said: Said, problem: str) -> str:
    found = {name: value for name, value in asdict(said).items() if value}
    return json.dumps(found | ({"problem": problem} if problem else {}), sort_keys=True)


@dataclass
class Watched:
    """What a look at the folder did: how many files by status, and why some failed."""

    by_status: Counter[str] = field(default_factory=Counter)
    events: int = 0


def folder_of(settings: Settings) -> WatchedFolder | None:
    """The watched folder; None if none is set."""
    return WatchedFolder(settings.watch, storage_options(settings.watch)) if settings.watch else None


def due(folder: WatchedFolder, lake: Lake, now: datetime, most: int = MOST_DUE) -> list[Due]:
    """The first files that are not noted as they are now, and have not changed for a while.

    Of other files it holds about a hundred bytes each, since a folder may have hundreds of thousands.

    Raises:
        WatchedFolderError: the folder cannot be listed.
    """
    pages, notes_at = [_NO_FILES], list[str]()
    nameless = 0
    for listed in folder.pages():
        page = [each for each in listed if _is_unicode(each.place)]
        nameless += len(listed) - len(page)
        notes_at += [each.place for each in page if PurePosixPath(each.place).name == NOTES]
        settled = [
            each for each in page if is_importable(PurePosixPath(each.place)) and now - each.changed_at >= SETTLED_AFTER
        ]
        pages.append(pl.DataFrame(settled, schema=_NO_FILES.schema, orient="row"))
    if nameless:
        what = "the names of some files in the watched folder are no UTF-8, so these were not imported; rename them"
        tell(_log, what, logging.WARNING, files=nameless)
    files = pl.concat(pages)
    if files.is_empty():
        return []
    notes = _notes(folder, notes_at)
    # What is said of a file is the same for all files of its folder.
    parent = pl.when(pl.col("place").str.contains("/")).then(pl.col("place").str.replace("/[^/]*$", "")).otherwise(_TOP)
    files = files.with_columns(parent=parent)
    folders = files["parent"].unique().to_list()
    said = {each: _said_of(each, notes) for each in folders}
    texts = [_said_text(*said[each]) for each in folders]
    files = files.join(pl.DataFrame({"parent": folders, "said": texts}), on="parent", maintain_order="left")
    noted = lake.table(WATCHED).scan().select(*_KEY)
    new = files.lazy().join(noted, on=_KEY, how="anti", maintain_order="left").sort("place").head(most).collect()
    rows = new.select("place", "size", "changed_at", "parent").iter_rows()
    return [Due(WatchedFile(*file), *said[each]) for *file, each in rows]


def _is_unicode(place: str) -> bool:
    """Whether a table can hold a place: a disk may have names of any bytes."""
    try:
        return bool(place.encode())
    except UnicodeEncodeError:
        return False


def look(
    settings: Settings, *, now: Callable[[], datetime] = lambda: datetime.now(UTC), name: str = "a command"
) -> Watched:
    """Imports what is due, file by file; one that fails stops no other.

    Raises:
        LeaseError: another look is at work.
        WatchedFolderError: the folder cannot be listed or read.
        HubUnavailableError: a hub did not take a file; it is tried again by the next look.
        LakeUnavailableError: the lake cannot be opened.
    """
    if (folder := folder_of(settings)) is None:
        return Watched()
    lock = settings.lease(LOCK, name).active
    if not lock.take():
        raise LeaseError(
            f"'{lock.last_holder()}' imports from the watched folder at this moment; this look did nothing."
        )
    try:
        lake = open_lake(settings)
        table = lake.table(WATCHED).ensure()
        done = Watched()
        with ExitStack() as stack:
            publishers: dict[str, Publisher] = {}

            def publisher(stream: str) -> Publisher:
                if stream not in publishers:
                    publishers[stream] = stack.enter_context(sources.publisher(settings, stream))
                return publishers[stream]

            for each in due(folder, lake, now()):
                try:
                    row = _imported(each, folder, lake, publisher)
                except FileNotFoundError:
                    # It went away since the folder was listed.
                    continue
                at = now()
                row |= {"looked_at": at, "looked_on": at.date()}
                table.append(pl.DataFrame([row], schema=WATCHED.schema), transactions={})
                done.by_status[row["status"]] += 1
                done.events += row["events"]
                if done.by_status.total() % MAINTAINED_EVERY == 0:
                    _maintain(table, at.date())
        if done.by_status:
            _maintain(table, now().date())
        return done
    finally:
        lock.release()


def _maintain(table: LakeTable, today: date) -> None:
    table.maintain([("looked_on", "=", today.isoformat())], today=today)


def _imported(each: Due, folder: WatchedFolder, lake: Lake, publisher: Callable[[str], Publisher]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "place": each.file.place,
        "size": each.file.size,
        "changed_at": each.file.changed_at,
        "said": each.said_text,
        **dict.fromkeys(("sha256", "reason", "format")),
        **dict.fromkeys(("events", "readings", "skipped", "rejected"), 0),
    }
    if each.problem:
        return row | {"status": FAILED, "reason": each.problem}
    with folder.opened(each.file.place) as (file, sha256):
        row["sha256"] = sha256
        before = _imported_for(lake, sha256)
        if each.said.binding in before:
            return row | {"status": KNOWN}
        try:
            found = send(file, each.said, publisher)
        except ImportRefusedError as refused:
            return row | {"status": FAILED, "reason": str(refused).replace(file.name, "the file")}
        except (HubUnavailableError, MemoryError):
            raise
        except Exception as error:
            # A fault of an adapter costs its file only; its text may quote the file.
            return row | {"status": FAILED, "reason": f"it cannot be imported ({type(error).__name__})"}
    return row | {"reason": _of_others(before, found.ids) or None} | _counts(found)


def _of_others(before: Mapping[str | None, datetime], ids: Sequence[str]) -> str:
    """What is to be done about earlier imports of the same content, for other patients; empty if there is none."""
    who = ", ".join(f"'{patient}' on {at:%Y-%m-%d %H:%M} UTC" for patient, at in before.items() if patient)
    return who and (
        f"{_BEFORE} {who}, and those readings stay: they are of the events {', '.join(ids)}. If it was the wrong "
        "patient, take them back as docs/operations.md says under 'A file of the wrong patient'"
    )


def _counts(found: Found) -> dict[str, Any]:
    counts = {
        "format": found.format or None,
        "events": found.events.total(),
        "readings": found.readings.total(),
        "skipped": found.skipped.total(),
        "rejected": found.rejected.total(),
    }
    if found.too_large:
        reason = f"{found.too_large:,} parts are larger than an event of the hub and were not sent"
        return counts | {"status": FAILED, "reason": reason}
    return counts | {"status": IMPORTED}


def _imported_for(lake: Lake, sha256: str) -> Mapping[str | None, datetime]:
    """For which patients a content was imported, and when."""
    same = lake.table(WATCHED).scan().filter(pl.col("sha256") == sha256, pl.col("status") == IMPORTED)
    rows = same.select("said", "looked_at").collect().sort("looked_at")
    return {json.loads(said).get("binding"): at for said, at in rows.iter_rows()}


Notes = Mapping[str, Mapping[str, str] | str]
"""By folder what its notes say, or why they cannot be read."""


def _notes(folder: WatchedFolder, places: Sequence[str]) -> Notes:
    return {str(PurePosixPath(place).parent): _note(folder, place) for place in places}


def _note(folder: WatchedFolder, place: str) -> Mapping[str, str] | str:
    try:
        found = tomllib.loads(folder.text(place))
    except (WatchedFolderError, FileNotFoundError, ValueError) as error:
        return f"{NOTES} cannot be read ({type(error).__name__})"
    for name, value in found.items():
        if name not in _SAID:
            return f"{NOTES} has '{name}', which says nothing; there are {', '.join(_SAID)}"
        if not isinstance(value, str):
            return f"{NOTES}: the value of '{name}' must be a text"
    if found.get("date_order") not in (None, *_DATE_ORDERS):
        return f"{NOTES}: date_order must be {' or '.join(_DATE_ORDERS)}"
    return found


def _said_of(folder: str, notes: Notes) -> tuple[Said, str]:
    """What is said of the files of a folder, and why that cannot be told, else an empty text."""
    path = PurePosixPath(folder)
    found: dict[str, str] = {"patient": path.parts[0]} if path.parts else {}
    # From the outermost folder inwards, so that the nearest wins.
    for parent in [path, *path.parents][::-1]:
        note = notes.get(str(parent), {})
        if isinstance(note, str):
            return Said(), note
        found |= note
    return Said(**{_SAID[name]: value for name, value in found.items() if value}), ""


assert {*_SAID.values()} == {each.name for each in fields(Said)}


def lines_of(settings: Settings) -> list[str]:
    """What `pulselake status` says of the watched folder; nothing where no file was ever looked at."""
    rows = open_lake(settings).table(WATCHED).scan().select("place", "status", "reason", "looked_at").collect()
    if rows.is_empty():
        return []
    last = rows.sort("looked_at").group_by("place").last()
    counts = ", ".join(f"{count:,} {status}" for status, count in last["status"].value_counts().sort("status").rows())
    told = last.filter(pl.col("reason").is_not_null()).sort("looked_at", descending=True).head(SHOWN_FAILURES)
    return [
        f"watched folder: {counts}",
        *(f"  {place}: {reason}" for place, reason in told.select("place", "reason").iter_rows()),
    ]
