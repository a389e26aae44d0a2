"""Files of other systems as parts of about a hundred records, each of which an event can hold. Pure.

A part is a document of the file's format by itself: rows come with their header, elements with their root. What only
the file as a whole tells, such as the order of day and month, comes with each part. A part of a CSV ends between four
o'clock and midnight where it can: clocks are changed in the hours before, and the order of rows tells what was when.
"""

import csv
import json
import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from io import StringIO
from itertools import count
from typing import Any, TypeVar
from xml.etree.ElementTree import tostring

import msgspec

from assets.adapters import apple_health, carelink, fhir, health_auto_export, huawei, libreview
from assets.adapters.envelopes import NO_JSON, RECORD, json_texts
from assets.adapters.formats import Format, looks_like
from assets.adapters.outcomes import UNKNOWN_FORMAT, Refused
from assets.adapters.tables_of_text import is_empty, rows_of, separator_of
from assets.adapters.values import list_of

RECORDS, MOST_RECORDS = 100, 1_000
"""How many records a part has, and how many where no row says a time at which it can end."""
WHOLE_BYTES = 256 << 10
"""A JSON document up to this size stays whole, and no part is larger but one of a single record."""
_SORTED_IN_KIB = 8 << 10
"""The memory in which vital signs of a large file are kept and sorted; the others are in a temporary file."""
_APART = ("Observation", "Bundle")
"""The resources of a Bundle that are taken by themselves; others come with what refers to them."""
_T = TypeVar("_T")
_HOUR = re.compile(r"(\d{1,2}):\d{2}(?::\d{2})?(?: ?([AaPp])[Mm])?", re.ASCII)
_FIRST_HOUR = 4


@dataclass(frozen=True)
class Part:
    """A part of a file.

    Attributes:
        format: of the file.
        data: a text, or what JSON holds.
        number: of the part, from 0.
        date_order: of the file, where it tells.
    """

    format: Format
    data: Any
    number: int
    date_order: str | None = None

    def event(self, said: Mapping[str, Any], file_id: str) -> bytes:
        """The body of the event: a CloudEvent around the part, so that it reads the same from every hub.

        Args:
            said: what is known of the file: `binding`, `zone`, `dateorder`, `base`; and `source`, if it is no file.
            file_id: tells files apart.
        """
        order = {"dateorder": self.date_order} if self.date_order else {}
        envelope = {
            "specversion": "1.0",
            "type": RECORD,
            "source": "pulselake/import",
            "id": f"{file_id}/{self.number}",
            "format": self.format.name,
            **order,
            **said,
        }
        try:
            return msgspec.json.encode(envelope | {"data": self.data})
        except UnicodeEncodeError:
            # Half of a surrogate pair, which one record has in a text, costs that record only.
            return json.dumps(envelope | {"data": self.data}).encode()


def format_of(beginning: bytes) -> Format | None:
    """The format of a file that is no JSON, by its first 64 KiB; None where it has none of them."""
    text = beginning.decode("utf-8-sig", "replace")
    return looks_like(text, is_text=True)


def parts_of_text(of: Format, text: str) -> Iterator[Part]:
    """The parts of a CSV export."""
    match of.name:
        case "libreview":
            yield from _parts_of_libreview(of, text)
        case "carelink":
            yield from _parts_of_carelink(of, text)
        case _:
            lines = _records(text, separator_of(text.partition("\n")[0]))
            for number, rows in enumerate(_chunks(lines[1:])):
                yield Part(of, "".join([lines[0], *rows]), number)


def _parts_of_libreview(of: Format, text: str) -> Iterator[Part]:
    separator = libreview.separator(text)
    rows, lines = rows_of(text, separator), _records(text, separator)
    if (header := libreview.header_of(rows)) is None:
        return
    order = libreview.order_of([row for row in rows[header + 1 :] if not is_empty(row)], None)
    # The lines before the header have the name of whoever made the file, which nobody needs.
    for number, chunk in enumerate(_chunks(lines[header + 1 :])):
        yield Part(of, "".join([lines[header], *chunk]), number, order.name)


def _parts_of_carelink(of: Format, text: str) -> Iterator[Part]:
    found = carelink.HEADER.search(text)
    if found is None:
        return
    cells, lines = rows_of(text, found[1]), _records(text, found[1])
    order, serial = carelink.order_of(cells), carelink.serial_of(cells)
    # Of the lines in front only this is needed; the others have a name.
    front = [f"Serial Number{found[1]}{serial}\n"] if serial else []
    number, head, rows = 0, list[str](), list[str]()
    is_begun = False
    for line in [*lines, ""]:
        is_section, is_header = line.startswith("-------"), line.startswith("Index")
        if (is_section or is_header or not line) and rows and is_begun:
            for chunk in _chunks(rows):
                yield Part(of, "".join([*front, *head, *chunk]), number, order)
                number += 1
            rows = []
        if is_section:
            head, is_begun = [line], False
        elif is_header:
            head, is_begun = [*[each for each in head if each.startswith("-------")], line], True
        elif is_begun:
            rows.append(line)


def _records(text: str, separator: str) -> list[str]:
    """The lines of a CSV with their ends; one with an open quote goes on in the next line.

    A quote within a cell, as in 5" of a note, opens none. Of one that is never closed each line stands alone.
    """
    lines = [*StringIO(text.removeprefix("\ufeff"), newline="")]
    reader, records, done = csv.reader(lines, delimiter=separator), list[str](), 0
    with suppress(csv.Error):
        for _ in reader:
            records.append("".join(lines[done : reader.line_num]))
            done = reader.line_num
    return records + lines[done:]


def _chunks(lines: list[str]) -> Iterator[list[str]]:
    chunk: list[str] = []
    size = 0
    for line in lines:
        if not line.strip():
            continue
        if chunk and size + len(line) > WHOLE_BYTES:
            yield chunk
            chunk, size = [], 0
        chunk.append(line)
        size += len(line)
        if len(chunk) >= MOST_RECORDS or (len(chunk) >= RECORDS and _is_by_day(line)):
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _is_by_day(line: str) -> bool:
    if not (found := _HOUR.search(line)):
        return False
    hour = int(found[1]) % 12 + (12 if found[2] in ("p", "P") else 0) if found[2] else int(found[1])
    return hour >= _FIRST_HOUR


def parts_of_xml(of: Format, chunks: Iterable[bytes], skipped: Counter[str]) -> Iterator[Part]:
    """The parts of an export of Apple Health, in the memory that some parts need, however large it is.

    Vital signs come last, by the time at which they were measured: an export is ordered by type, and what a cuff says
    of pressure and pulse becomes one reading only within a part. Halves of blood pressures that stand in correlations
    too come once.

    Args:
        of: the format.
        chunks: the bytes of the file, in order.
        skipped: to which is added what is in no part, by kind: most of an export are steps and the like.

    Raises:
        Refused: it is no such document, or it ends too early; all before was yielded.
    """
    # Without a name it is a temporary file that is gone when it is closed.
    with closing(sqlite3.connect("", isolation_level=None)) as signs:
        signs.execute(f"PRAGMA cache_size = -{_SORTED_IN_KIB}")
        signs.execute("PRAGMA journal_mode = OFF")
        signs.execute("CREATE TABLE signs (at TEXT, half INTEGER, element TEXT)")
        signs.execute("BEGIN")
        within: set[int] = set()
        numbers, refused = count(), None
        try:
            for some in _portions(_keeping_signs(chunks, signs, within, skipped), len):
                yield _part_of_elements(of, some, next(numbers))
        except Refused as error:
            refused = error
        for some in _by_instant(_kept(signs, within, skipped)):
            yield _part_of_elements(of, some, next(numbers))
        if refused is not None:
            raise refused


def _part_of_elements(of: Format, elements: Iterable[str], number: int) -> Part:
    return Part(of, f"<HealthData>{''.join(elements)}</HealthData>", number)


def _keeping_signs(
    chunks: Iterable[bytes], signs: sqlite3.Connection, within: set[int], skipped: Counter[str]
) -> Iterator[str]:
    """The measurements that are no vital signs; those are kept, and what stands in correlations is noted."""
    for element in apple_health.elements(chunks):
        if not apple_health.is_measurement(element):
            if not apple_health.is_of_document(element):
                skipped[apple_health.kind_of(element)] += 1
            continue
        text = tostring(element, encoding="unicode")
        if not apple_health.is_sign(element):
            yield text
            continue
        within.update(map(hash, apple_health.keys_within(element)))
        half = hash(apple_health.key_of(element)) if apple_health.is_pressure(element) else None
        signs.execute("INSERT INTO signs VALUES (?, ?, ?)", (apple_health.time_of(element), half, text))


def _kept(signs: sqlite3.Connection, within: set[int], skipped: Counter[str]) -> Iterator[tuple[str | None, str]]:
    """The vital signs with their times, in the order of these, without halves that stand in correlations too."""
    for at, half, text in signs.execute("SELECT at, half, element FROM signs ORDER BY at, rowid"):
        if half in within:
            skipped["in_correlation"] += 1
        else:
            yield at, text


def _by_instant(signs: Iterable[tuple[str | None, str]]) -> Iterator[list[str]]:
    """Elements some at a time. Those of one instant stay together unless they alone are too large for an event."""
    some: list[str] = []
    size, before = 0, None
    for at, text in signs:
        is_enough = len(some) >= RECORDS or size > WHOLE_BYTES // 2
        # What has no time belongs to nothing else.
        is_next = at is None or at != before
        if some and ((is_enough and is_next) or size + len(text) > WHOLE_BYTES):
            yield some
            some, size = [], 0
        some.append(text)
        size, before = size + len(text), at
    if some:
        yield some


def parts_of_json(content: bytes, wanted: Callable[[Any], Format | None]) -> Iterator[Part]:
    """The parts of a JSON document, or of lines of JSON.

    Args:
        content: of the file.
        wanted: the format of a document.

    Raises:
        Refused: there is nothing in it that is known.
        UnicodeDecodeError: it is no UTF-8.
    """
    values, _ = json_texts(content.removeprefix(b"\xef\xbb\xbf"), are_lines=True)
    known = next((found for value in values[:100] if value is not NO_JSON and (found := wanted(value))), None)
    if known is None:
        content.decode()
        raise Refused(UNKNOWN_FORMAT)
    if len(values) == 1:
        documents = [values[0]] if len(content) <= WHOLE_BYTES else _pieces(values[0])
        yield from (Part(known, document, number) for number, document in enumerate(documents))
        return
    # Only a line feed ends a line: a text in JSON may have other characters that Python takes for ends of lines.
    lines = [line for line in content.decode("utf-8-sig", "replace").split("\n") if line.strip()]
    known_values = values if len(values) == len(lines) else [None] * len(lines)
    number = 0
    for some in _together(zip(lines, known_values, strict=True), _instant_of_line, lambda each: len(each[0])):
        line, _ = some[0]
        is_large = len(line) > WHOLE_BYTES
        for document in _pieces_of_line(line) if is_large else ["\n".join(each for each, _ in some)]:
            yield Part(known, document, number)
            number += 1


def _instant_of_line(line: tuple[str, Any]) -> Any:
    """Of whom and when a line is; a large one comes alone."""
    text, value = line
    return None if len(text) > WHOLE_BYTES else fhir.instant_of({"resource": value})


def _pieces_of_line(line: str) -> Iterator[Any]:
    values, _ = json_texts(line.encode())
    if any(value is NO_JSON for value in values):
        yield line
        return
    for value in values:
        yield from _pieces(value)


def _portions(records: Iterable[_T], size: Callable[[_T], int]) -> Iterator[list[_T]]:
    """Records some at a time, so many that an event can hold them; one that is too large for that comes alone."""
    some: list[_T] = []
    sizes = 0
    for record in records:
        added = size(record)
        if some and (len(some) >= RECORDS or sizes + added > WHOLE_BYTES):
            yield some
            some, sizes = [], 0
        some.append(record)
        sizes += added
    if some:
        yield some


def _pieces(document: Any) -> Iterator[Any]:
    """A large document as several, by its records; whole if nobody knows where they are."""
    if isinstance(document, list):
        yield from _portions(document, _size)
    elif health_auto_export.is_document(document):
        yield from _pieces_of_metrics(document["data"])
    elif huawei.is_document(document):
        yield from _pieces_of_groups(document)
    elif fhir.is_bundle(document):
        yield from _pieces_of_bundle(document)
    elif name := next((each for each in ("result", "records") if list_of(document.get(each))), None):
        yield from (document | {name: some} for some in _portions(document[name], _size))
    else:
        yield document


def _pieces_of_metrics(data: Mapping[str, Any]) -> Iterator[Any]:
    metrics = list_of(data.get("metrics"))
    known = [each for each in metrics if isinstance(each, dict) and isinstance(each.get("data"), list)]
    if unknown := [each for each in metrics if not any(each is one for one in known)]:
        yield {"data": {"metrics": unknown}}
    for name in health_auto_export.OTHERS:
        yield from ({"data": {name: some}} for some in _portions(list_of(data.get(name)), _size))
    for some in _together(_placed(known, "data"), _time_of("date")):
        yield {"data": {"metrics": _with_points(known, "data", some)}}


def _pieces_of_groups(document: Mapping[str, Any]) -> Iterator[Any]:
    """Of an answer of Huawei: its points are in sets, and these in groups."""
    sets = [each for group in document["group"] if isinstance(group, dict) for each in list_of(group.get("sampleSet"))]
    known = [each for each in sets if isinstance(each, dict) and isinstance(each.get("samplePoints"), list)]
    for some in _together(_placed(known, "samplePoints"), _time_of("startTime")):
        yield {**document, "group": [{"sampleSet": _with_points(known, "samplePoints", some)}]}


def _placed(holders: Sequence[Mapping[str, Any]], name: str) -> Iterator[tuple[int, Any]]:
    return ((place, point) for place, holder in enumerate(holders) for point in holder[name])


def _time_of(name: str) -> Callable[[tuple[int, Any]], Any]:
    return lambda placed: placed[1].get(name) if isinstance(placed[1], dict) else None


def _with_points(holders: Sequence[Mapping[str, Any]], name: str, placed: Iterable[tuple[int, Any]]) -> list[Any]:
    """The holders of some points, with these points only."""
    found: dict[int, list[Any]] = {}
    for place, point in placed:
        found.setdefault(place, []).append(point)
    return [{**holders[place], name: points} for place, points in sorted(found.items())]


def _size(value: Any) -> int:
    try:
        return len(msgspec.json.encode(value))
    except UnicodeEncodeError:
        return len(json.dumps(value))


def _together(
    records: Iterable[_T], instant: Callable[[_T], Any], size_of: Callable[[_T], int] = _size
) -> Iterator[list[_T]]:
    """Records some at a time. Those of one instant stay together, since their vital signs become one reading."""
    by_instant: dict[Any, list[_T]] = {}
    for number, record in enumerate(records):
        at = instant(record)
        # What has no time belongs to nothing else.
        by_instant.setdefault(number if at is None else str(at), []).append(record)
    some: list[_T] = []
    size = 0
    for group in by_instant.values():
        added = sum(map(size_of, group))
        if some and (len(some) >= RECORDS or size + added > WHOLE_BYTES):
            yield some
            some, size = [], 0
        some += group
        size += added
    if some:
        yield some


def _pieces_of_bundle(bundle: Mapping[str, Any]) -> Iterator[Any]:
    """Bundles of some Observations and of what these refer to. Bundles in it are taken apart by themselves."""
    if not (entries := list_of(bundle.get("entry"))):
        yield bundle
        return
    by_name = {name: entry for entry in entries if _type_of(entry) not in _APART for name in fhir.names_of(entry)}
    referred: set[int] = set()
    for some in _together((entry for entry in entries if _type_of(entry) == "Observation"), fhir.instant_of):
        shared: dict[int, Any] = {}
        names = [name for entry in some for name in fhir.names_referred_to(entry)]
        while names:
            entry = by_name.get(names.pop())
            if entry is not None and id(entry) not in shared:
                shared[id(entry)] = entry
                names += fhir.names_referred_to(entry)
        referred |= shared.keys()
        yield {**bundle, "entry": [*shared.values(), *some]}
    others = (entry for entry in entries if _type_of(entry) not in _APART and id(entry) not in referred)
    yield from ({**bundle, "entry": some} for some in _portions(others, _size))
    for entry in entries:
        if _type_of(entry) == "Bundle":
            yield from _pieces_of_bundle(entry["resource"])


def _type_of(entry: Any) -> str | None:
    resource = entry.get("resource") if isinstance(entry, dict) else None
    found = resource.get("resourceType") if isinstance(resource, dict) else None
    return found if isinstance(found, str) else None
