"""Imports files of other systems: looks at them, and publishes their records through the hubs like all other events.

So what is imported is in bronze as it came, passes the same checks, and can be rebuilt. An import that is repeated adds
nothing: its readings are duplicates.
"""

import sqlite3
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import chain, islice
from pathlib import Path, PurePath
from typing import IO, Any, NamedTuple

import polars as pl

from assets.adapters.avro import MAGIC as AVRO
from assets.adapters.avro import NOT_AVRO, parts_of_avro
from assets.adapters.bodies import outcomes_of, stream_of_outcome, streams_of
from assets.adapters.files import Part, format_of, parts_of_json, parts_of_text, parts_of_xml
from assets.adapters.formats import FORMATS, Format, declared, looks_like
from assets.adapters.outcomes import PATIENT, Outcome, Plain, Reading, Refused, Reject, Skip
from assets.reference.tables import IDENTITY
from assets.stream.adapting import known_kind
from assets.stream.cleaning import POSITIONS
from assets.stream.enrichment import References
from assets.stream.known import Known
from assets.stream.process import Processor
from orchestration.hashed import hashed
from orchestration.system import stream
from resources.event_source import Publisher
from resources.lake import Lake
from resources.records import ZIP_ERRORS

SUFFIXES = (".csv", ".xml", ".json", ".ndjson", ".jsonl", ".txt", ".avro")
_ELECTROCARDIOGRAMS = "/electrocardiograms/"
LOOKED_AT_BYTES, CHUNK_BYTES = 65_536, 1 << 18
NAMELESS = frozenset(
    {
        "clarity",
        "libreview",
        "carelink",
        "carelink-connect",
        "apple-health",
        "health-auto-export",
        "huawei",
        "tidepool",
        "nightscout",
    }
) | {"dexcom-share"}
"""The formats that do not name the patient; the upload does."""
PARTS_AT_ONCE = 25
"""How many parts are published, or judged, together: about 2,500 records, which need 6 MB."""
MAX_TEXT_BYTES = 256 << 20
"""The largest CSV or JSON file; exports of Apple Health may have any size."""


class ImportRefusedError(ValueError):
    """A file cannot be imported; the message says why and what to do. Nothing of it was published."""


@dataclass(frozen=True)
class Said:
    """What whoever imports says of the files.

    Attributes:
        source: the format or system; by default the file tells.
        binding: under which id `reference/identity` has the patient and the time zone.
        zone: the IANA zone of wall-clock times, if not that of the identity.
        date_order: ``day-first`` or ``month-first``.
        base: the address that relative references of FHIR are relative to.
    """

    source: str | None = None
    binding: str | None = None
    zone: str | None = None
    date_order: str | None = None
    base: str | None = None

    def attributes(self) -> dict[str, str]:
        """As attributes of events."""
        found = {"binding": self.binding, "zone": self.zone, "dateorder": self.date_order, "base": self.base}
        return {name: value for name, value in found.items() if value}


@dataclass
class Found:
    """What a file holds, or what its records became.

    Attributes:
        format: of the file.
        readings: records that are readings, by stream.
        skipped: records that are no measurements, by kind.
        rejected: records that go to quarantine, by reason.
        repeated: readings that repeat an earlier one of the same file.
        events: what was published, or would be, by stream.
        too_large: parts that no event can hold.
        ids: what the ids of its events begin with.
    """

    format: str = ""
    readings: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    repeated: int = 0
    events: Counter[str] = field(default_factory=Counter)
    too_large: int = 0
    ids: list[str] = field(default_factory=list)

    @property
    def skipped_kinds(self) -> Counter[str]:
        """The skipped records by kinds that can be told; what is no name of a kind counts as other."""
        told = Counter[str]()
        for kind, count in self.skipped.items():
            told[known_kind(kind)] += count
        return told


class _Event(NamedTuple):
    body: bytes
    streams: frozenset[str]
    outcomes: Sequence[Outcome]


Progress = Callable[[Found], None]


def files_of(path: Path) -> list[Path]:
    """The files of a folder that may be imported, in order; a file is taken whatever its name is."""
    if not path.is_dir():
        return [path]
    return sorted(each for each in path.rglob("*") if each.is_file() and is_importable(each))


def is_importable(path: PurePath) -> bool:
    """Whether a file of a folder may be one to import, by its name; an IoT Hub may call one by its minute only.

    What systems and spreadsheets put beside files, such as ``._a.csv`` of macOS and ``~$a.csv``, is none.
    """
    if path.name.startswith((".", "~$")):
        return False
    return path.suffix.lower() in (*SUFFIXES, ".zip") or path.name.isdigit()


def look(path: Path, said: Said, lake: Lake, progress: Progress = lambda _: None) -> Found:
    """What the records of a file would become, by what is known of ids now. Nothing is published.

    Raises:
        ImportRefusedError: the file cannot be imported.
    """
    found = Found()
    judges: dict[str, _Judge] = {}
    for events in _some(_events(path, said, found)):
        for name in _streams_of(events):
            if name not in judges:
                judges[name] = _Judge(name, lake)
            judges[name].add([each.body for each in events if name in each.streams], found)
        progress(found)
    return found


def send(
    path: Path, said: Said, publisher_of: Callable[[str], Publisher], progress: Progress = lambda _: None
) -> Found:
    """Publishes the records of a file to the hubs of the streams that they belong to.

    Args:
        path: the file.
        said: what is known of it.
        publisher_of: the hub of a stream.
        progress: told what was published so far.

    Raises:
        ImportRefusedError: the file cannot be imported.
        HubUnavailableError: a hub did not take all; import the file again, what arrived counts once.
    """
    found = Found()
    for events in _some(_events(path, said, found)):
        for each in events:
            found.rejected.update(outcome.reason for outcome in each.outcomes if isinstance(outcome, Reject))
            readings = (outcome for outcome in each.outcomes if isinstance(outcome, Plain | Reading))
            found.readings.update(filter(None, map(stream_of_outcome, readings)))
        for name in _streams_of(events):
            bodies = [each.body for each in events if name in each.streams]
            # One key for the file: the order of its records decides what is a repeat.
            found.too_large += len(publisher_of(name).publish(bodies, [hashed(path.name.encode())] * len(bodies)))
            found.events[name] += len(bodies)
        progress(found)
    return found


def unknown_patient(found: Found, said: Said, lake: Lake) -> str:
    """What to do about a patient whom a file needs and `reference/identity` does not know; empty if there is none."""
    of = next((each for each in FORMATS if each.name == found.format and each.name in NAMELESS), None)
    if of is None or said.binding is None:
        return ""
    # What holds at any time counts, since the file may be old.
    known = (
        lake.table(IDENTITY.table)
        .scan()
        .filter(pl.col("system") == of.system, pl.col("kind") == PATIENT, pl.col("foreign_id") == said.binding.strip())
    )
    if known.head(1).collect().height:
        return ""
    return (
        f"'{said.binding}' is no patient of '{of.system}' in reference/identity, so all of it goes to quarantine. Look "
        f"for a slip in --patient, or load a line such as '{of.system},patient,{said.binding},7,,' and run `pulselake "
        "replay`."
    )


class _Judge:
    """Takes events through a stream's own processing, so that a dry run says what a session would do."""

    def __init__(self, name: str, lake: Lake) -> None:
        self._contract = stream(name).contract
        references = References(self._contract, lake)
        references.refresh()
        self._processor = Processor(self._contract, Known.nothing(self._contract), references)
        self._events = 0

    def add(self, bodies: Sequence[bytes], found: Found) -> None:
        """Adds what some more events become."""
        now = datetime.now(UTC)
        same = {"partition": 0, "received_at": now, "pulled_at": now, "hub_epoch": 0}
        columns: dict[str, pl.Series] = {
            name: pl.Series([same.get(name)], dtype=dtype).new_from_index(0, len(bodies))
            for name, dtype in POSITIONS.items()
        }
        first, self._events = self._events, self._events + len(bodies)
        columns["sequence_number"] = pl.int_range(first, self._events, eager=True)
        outcome = self._processor.process(pl.DataFrame(columns), bodies)
        # Nothing is stored, so nothing can be looked up later: what is remembered is what a session remembers.
        self._processor.known.mark_stored()
        name = self._contract.stream
        found.events[name] += len(bodies)
        found.readings[name] += outcome.silver.height
        found.repeated += int(outcome.duplicates["duplicates"].sum())
        found.rejected.update(dict(outcome.quarantine["reason"].value_counts().iter_rows()))


def _some(events: Iterator[_Event]) -> Iterator[list[_Event]]:
    while some := list(islice(events, PARTS_AT_ONCE)):
        yield some


def _streams_of(events: Sequence[_Event]) -> list[str]:
    return sorted({name for event in events for name in event.streams})


def _events(path: Path, said: Said, found: Found) -> Iterator[_Event]:
    """The events of a file; which records are skipped is added to what was found."""
    formats = declared(said.source)
    if said.source is not None and not formats:
        names = ", ".join(each.name for each in FORMATS)
        raise ImportRefusedError(f"There is no format '{said.source}', so nothing was published. Choose one: {names}.")
    for place, file in _opened(path, found):
        # A file's name may be a person's.
        file_id = hashed(f"{place}/{path.stat().st_size}".encode())
        found.ids.append(file_id)
        for part in _parts(place, file, formats, found):
            if part.number == 0:
                _check(place, part.format, said)
            found.format = part.format.name
            body = part.event(said.attributes(), file_id)
            outcomes = outcomes_of(body, None, None, lambda *_: said.zone or "UTC") or []
            found.skipped.update(outcome.kind for outcome in outcomes if isinstance(outcome, Skip))
            if streams := streams_of(outcomes):
                yield _Event(body, frozenset(streams), outcomes)


def _check(place: str, found: Format, said: Said) -> None:
    """Refuses a file that does not say whose it is, before anything of it is published."""
    if said.binding is None and found.name in NAMELESS:
        raise ImportRefusedError(
            f"{place}: a file of {found.name} does not say whose it is, so nothing was published. Add a line such as "
            f"'{found.system},patient,my-upload,7,,Europe/Lisbon' to a CSV with the header "
            "'system,kind,foreign_id,pulselake_id,patient_of_device,zone', load it with `pulselake reference load "
            "identity`, and import the file with `--patient my-upload`, or put it into a folder `my-upload` of the "
            "watched one."
        )


def _opened(path: Path, found: Found) -> Iterator[tuple[str, IO[bytes]]]:
    """A file, or the files in a zip."""
    if path.suffix.lower() != ".zip":
        with path.open("rb") as file:
            yield path.name, file
        return
    is_empty = True
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                # The export of a phone has pictures, routes and a second form of itself in it.
                name = member.filename.lower()
                if _ELECTROCARDIOGRAMS in f"/{name}":
                    found.skipped["Electrocardiogram"] += name.endswith(SUFFIXES)
                elif name.endswith(SUFFIXES) and "_cda" not in name and is_importable(PurePath(name)):
                    is_empty = False
                    with archive.open(member) as file:
                        yield f"{path.name}/{member.filename}", file
    except ZIP_ERRORS as error:
        raise ImportRefusedError(
            f"{path.name}: the zip cannot be read ({error}); get it again, and import that."
        ) from error
    if is_empty and not found.skipped:
        raise ImportRefusedError(
            f"{path.name}: there is no file of a known kind in the zip ({', '.join(SUFFIXES)}), so nothing was "
            "published. Unpack a zip that is in it, and import that."
        )


def _parts(place: str, file: IO[bytes], formats: Sequence[Format], found: Found) -> Iterator[Part]:
    beginning = file.read(LOOKED_AT_BYTES)
    of = next((each for each in formats if each.is_text), None) or format_of(beginning)
    try:
        if of is not None and of.name == "apple-health":
            chunks = iter(lambda: file.read(CHUNK_BYTES), b"")
            yield from parts_of_xml(of, chain([beginning], chunks), found.skipped)
            return
        content = beginning + file.read(MAX_TEXT_BYTES)
        if len(content) > MAX_TEXT_BYTES:
            raise ImportRefusedError(
                f"{place}: the file has more than {MAX_TEXT_BYTES >> 20} MiB, so nothing of it was published. Split it."
            )
        if content.startswith(AVRO):
            yield from _parts_of_avro(place, content)
        elif of is None:
            yield from parts_of_json(content, partial(_wanted, formats))
        else:
            yield from parts_of_text(of, content.decode("utf-8-sig"))
    except sqlite3.Error as error:
        raise ImportRefusedError(
            f"{place}: its vital signs could not be put in order in the temporary folder ({error}); what was read "
            "before that was taken. Make room there, or name another folder in SQLITE_TMPDIR, and import the file "
            "again."
        ) from error
    except UnicodeDecodeError:
        raise ImportRefusedError(
            f"{place}: the file is no UTF-8, so nothing was published. Save it as UTF-8."
        ) from None
    except Refused as refused:
        raise ImportRefusedError(
            f"{place}: nothing that is known is in it ({refused.reason}), or it ends too early; what was read before "
            "that was taken. Get the export again, or name its format with --source."
        ) from None


def _parts_of_avro(place: str, content: bytes) -> Iterator[Part]:
    try:
        yield from parts_of_avro(content)
    except Refused as refused:
        why = "the Avro file is damaged or ends too early" if refused.reason == NOT_AVRO else "no messages are in it"
        raise ImportRefusedError(
            f"{place}: {why}, so nothing of it was published. Get the file again. There must be messages as an IoT Hub "
            "routes them to storage, or as Event Hubs Capture writes them."
        ) from None


def _wanted(formats: Sequence[Format], document: Any) -> Format | None:
    """The format of a JSON document: the declared one, or the one that it looks like."""
    of_json = [each for each in formats if not each.is_text]
    found = next((each for each in of_json if each.looks_so(document)), None)
    if found is None and of_json:
        return of_json[0]
    return found or looks_like(document, is_text=False)
