"""Files of other systems as parts of about a hundred records, each of which an event can hold. Pure.

A part is a document of the file's format by itself: rows come with their header, elements with their root. What only
the file as a whole tells, such as the order of day and month, comes with each part. A part of a CSV ends between four
o'clock and midnight where it can: clocks are changed in the hours before, and the order of rows tells what was when.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import tostring

import msgspec

from assets.adapters import apple_health, carelink, libreview
from assets.adapters.envelopes import NO_JSON, RECORD, json_texts
from assets.adapters.formats import Format, looks_like
from assets.adapters.outcomes import UNKNOWN_FORMAT, Refused
from assets.adapters.tables_of_text import is_empty, rows_of

RECORDS, MOST_RECORDS = 100, 1_000
"""How many records a part has, and how many where no row says a time at which it can end."""
WHOLE_BYTES = 256 << 10
"""A JSON document up to this size stays whole."""
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

    def event(self, said: Mapping[str, str], file_id: str) -> bytes:
        """The body of the event: a CloudEvent around the part, so that it reads the same from every hub.

        Args:
            said: what is known of the file: `binding`, `zone`, `dateorder`, `base`.
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
        return msgspec.json.encode(envelope | {"data": self.data})


def format_of(beginning: bytes) -> Format | None:
    """The format of a file that is no JSON, by its first 64 KiB; None where it has none of them."""
    text = beginning.decode("utf-8-sig", "replace")
    return looks_like(text, is_text=True)


def parts_of_text(of: Format, text: str) -> Iterator[Part]:
    """The parts of a CSV export."""
    lines = _records(text.removeprefix("\ufeff"))
    match of.name:
        case "libreview":
            yield from _parts_of_libreview(of, text, lines)
        case "carelink":
            yield from _parts_of_carelink(of, text, lines)
        case _:
            for number, rows in enumerate(_chunks(lines[1:])):
                yield Part(of, "".join([lines[0], *rows]), number)


def _parts_of_libreview(of: Format, text: str, lines: list[str]) -> Iterator[Part]:
    rows = rows_of(text, libreview.separator(text))
    if (header := libreview.header_of(rows)) is None:
        return
    order = libreview.order_of([row for row in rows[header + 1 :] if not is_empty(row)], None)
    # The lines before the header have the name of whoever made the file, which nobody needs.
    for number, chunk in enumerate(_chunks(lines[header + 1 :])):
        yield Part(of, "".join([lines[header], *chunk]), number, order.name)


def _parts_of_carelink(of: Format, text: str, lines: list[str]) -> Iterator[Part]:
    found = carelink.HEADER.search(text)
    if found is None:
        return
    cells = rows_of(text, found[1])
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


def _records(text: str) -> list[str]:
    """The lines of a CSV with their ends; one with an open quote goes on in the next line."""
    records: list[str] = []
    is_open = False
    for line in text.splitlines(keepends=True):
        if is_open:
            records[-1] += line
        else:
            records.append(line)
        is_open ^= line.count('"') % 2 == 1
    return records


def _chunks(lines: list[str]) -> Iterator[list[str]]:
    chunk: list[str] = []
    for line in lines:
        if not line.strip():
            continue
        chunk.append(line)
        if len(chunk) >= MOST_RECORDS or (len(chunk) >= RECORDS and _is_by_day(line)):
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _is_by_day(line: str) -> bool:
    if not (found := _HOUR.search(line)):
        return False
    hour = int(found[1]) % 12 + (12 if found[2] in ("p", "P") else 0) if found[2] else int(found[1])
    return hour >= _FIRST_HOUR


def parts_of_xml(of: Format, chunks: Iterable[bytes], skipped: Counter[str]) -> Iterator[Part]:
    """The parts of an export of Apple Health, in the memory that some parts need, however large it is.

    Halves of blood pressures come last, without those that stand in correlations too.

    Args:
        of: the format.
        chunks: the bytes of the file, in order.
        skipped: to which is added what is in no part, by kind: most of an export are steps and the like.

    Raises:
        Refused: it is no such document, or it ends too early; all before was yielded.
    """
    pressures: list[tuple[apple_health.Key, str]] = []
    within: set[apple_health.Key] = set()
    chunk: list[str] = []
    number = 0

    def part() -> Part:
        return Part(of, f"<HealthData>{''.join(chunk)}</HealthData>", number)

    for element in apple_health.elements(chunks):
        if not apple_health.is_measurement(element):
            skipped[apple_health.kind_of(element)] += 1
            continue
        text = tostring(element, encoding="unicode")
        within |= apple_health.keys_within(element)
        if apple_health.is_pressure(element):
            pressures.append((apple_health.key_of(element), text))
            continue
        chunk.append(text)
        if len(chunk) == RECORDS:
            yield part()
            chunk, number = [], number + 1
    for key, text in pressures:
        if key in within:
            skipped["in_correlation"] += 1
            continue
        chunk.append(text)
        if len(chunk) == RECORDS:
            yield part()
            chunk, number = [], number + 1
    if chunk:
        yield part()


def parts_of_json(content: bytes, wanted: Callable[[Any], Format | None]) -> Iterator[Part]:
    """The parts of a JSON document, or of lines of JSON.

    Args:
        content: of the file.
        wanted: the format of a document.

    Raises:
        Refused: there is nothing in it that is known.
    """
    values, _ = json_texts(content.removeprefix(b"\xef\xbb\xbf"), are_lines=True)
    known = next((found for value in values[:100] if value is not NO_JSON and (found := wanted(value))), None)
    if known is None:
        raise Refused(UNKNOWN_FORMAT)
    if len(values) == 1:
        documents = [values[0]] if len(content) <= WHOLE_BYTES else _pieces(values[0])
        yield from (Part(known, document, number) for number, document in enumerate(documents))
        return
    lines = [line for line in content.decode("utf-8-sig", "replace").splitlines() if line.strip()]
    for number, start in enumerate(range(0, len(lines), RECORDS)):
        yield Part(known, "\n".join(lines[start : start + RECORDS]), number)


def _pieces(document: Any) -> Iterator[Any]:
    """A large document as several, by the list of its records; whole if it has none."""
    if isinstance(document, list):
        yield from (document[start : start + RECORDS] for start in range(0, len(document), RECORDS))
        return
    for name in ("entry", "result", "records"):
        members = document.get(name)
        if isinstance(members, list) and members:
            # What Observations refer to must come with each of them.
            shared = [each for each in members if name == "entry" and not _is_observation(each)]
            others = [each for each in members if name != "entry" or _is_observation(each)]
            for start in range(0, len(others), RECORDS):
                yield document | {name: [*shared, *others[start : start + RECORDS]]}
            return
    yield document


def _is_observation(entry: Any) -> bool:
    resource = entry.get("resource") if isinstance(entry, dict) else None
    return isinstance(resource, dict) and resource.get("resourceType") == "Observation"
