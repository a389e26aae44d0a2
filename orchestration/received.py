"""What an app posted becomes events for hubs: the records as they came, with whose they are. No IO and no clock."""

import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from assets.adapters import nightscout
from assets.adapters.bodies import outcomes_of, streams_of
from assets.adapters.files import Part, parts_of_json
from assets.adapters.formats import FORMATS, Format
from assets.adapters.outcomes import DEVICES, GLUCOSE, VITALS, Outcome, Refused, Reject, Skip
from orchestration.hashed import hashed

MAX_BYTES = 8 << 20
"""The largest body, packed and unpacked."""
OWN_STREAMS = {"glucose": GLUCOSE, "vitals": VITALS, "devices": DEVICES}
"""The streams whose payloads may be posted as they are, by their short names."""

_BY_NAME = {each.name: each for each in FORMATS}


class NotUnderstoodError(ValueError):
    """A body is nothing that its address takes; the text says why and quotes nothing of it."""


class TooLargeError(ValueError):
    """A body is too large."""


@dataclass(frozen=True)
class Kind:
    """What an address takes.

    Attributes:
        format: of the bodies.
        stream: that they belong to, where the format does not say it.
        is_of_records: whether every object and every list is taken, and its records are judged one by one.
        has_readings: whether its records should be readings. If not, those that are none are counted only.
    """

    format: Format
    stream: str | None = None
    is_of_records: bool = False
    has_readings: bool = True


HEALTH_AUTO_EXPORT = Kind(_BY_NAME["health-auto-export"])
FHIR = Kind(_BY_NAME["fhir"])
NIGHTSCOUT = Kind(_BY_NAME["nightscout"], is_of_records=True)
NO_READINGS = Kind(_BY_NAME["nightscout"], is_of_records=True, has_readings=False)
"""Insulin, meals and settings: Nightscout's uploaders send them again and again until they are taken."""
OWN = {name: Kind(_BY_NAME["pulselake"], stream, is_of_records=True) for name, stream in OWN_STREAMS.items()}


@dataclass
class Received:
    """What a body holds.

    Attributes:
        events: for each stream, the bodies of its events.
        counts: how many outcomes of its records are readings, are skipped, and are for quarantine.
        records: how many records it has; one may have several readings, as of a phone's battery and a pump's.
    """

    events: dict[str, list[bytes]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    records: int = 0


def received(content: bytes, kind: Kind, patient: str, now: datetime) -> Received:
    """What a body becomes.

    Args:
        content: unpacked.
        kind: what its address takes.
        patient: whose it is, by the token.
        now: when it came.

    Raises:
        NotUnderstoodError: it is nothing that the address takes.
    """
    found = Received()
    if content.strip() == b"[]":
        return found
    digest = hashed(content)
    said: Mapping[str, Any] = {
        "source": "pulselake/receive",
        "binding": patient,
        "authority": True,
        "received": now.isoformat(timespec="milliseconds"),
    }
    try:
        parts = _counting(parts_of_json(content, lambda document: _wanted(kind, document)), found)
        for part in parts if kind.has_readings else _entries(parts, found):
            body = part.event(said, digest)
            outcomes = outcomes_of(body, None, None, lambda *_: "UTC") or []
            found.counts.update(map(_counted, outcomes))
            # What only holds records to skip goes nowhere.
            for stream in sorted(streams_of(outcomes)) if kind.stream is None else [kind.stream]:
                found.events.setdefault(stream, []).append(body)
    except (Refused, RecursionError, UnicodeDecodeError):
        raise NotUnderstoodError(
            f"The body is no JSON of the kind {kind.format.name}, or it ends too early; nothing was taken."
        ) from None
    return found


def unpacked(content: bytes) -> bytes:
    """What gzip holds.

    Raises:
        NotUnderstoodError: it is no gzip.
        TooLargeError: it is too large.
    """
    unpacking = zlib.decompressobj(31)
    try:
        found = unpacking.decompress(content, MAX_BYTES + 1)
    except zlib.error:
        raise NotUnderstoodError("The body is no gzip; nothing was taken.") from None
    if len(found) > MAX_BYTES:
        raise TooLargeError
    if not unpacking.eof or unpacking.unused_data:
        raise NotUnderstoodError("The body is no complete gzip; nothing was taken.")
    return found


def _wanted(kind: Kind, document: Any) -> Format | None:
    is_taken = kind.is_of_records and isinstance(document, list | dict)
    return kind.format if is_taken or kind.format.looks_so(document) else None


def _counting(parts: Iterable[Part], found: Received) -> Iterator[Part]:
    for part in parts:
        found.records += len(part.data) if isinstance(part.data, list) else 1
        yield part


def _entries(parts: Iterable[Part], found: Received) -> Iterator[Part]:
    """Of the parts what is an entry of Nightscout; of lines of JSON all, since only the adapter tells them apart."""
    for part in parts:
        records = part.data if isinstance(part.data, list) else [part.data]
        kept = [each for each in records if isinstance(each, str) or nightscout.is_entry(each)]
        if others := len(records) - len(kept):
            found.counts["skipped"] += others
        if kept:
            yield part if len(kept) == len(records) else replace(part, data=kept)


def _counted(outcome: Outcome) -> str:
    return "skipped" if isinstance(outcome, Skip) else "refused" if isinstance(outcome, Reject) else "readings"
