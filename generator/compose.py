"""From a block of the grid to events: packs readings, and carries out what `cadence` decided for each event."""

from collections.abc import Iterable, Iterator
from random import Random
from typing import NamedTuple, Protocol

from generator import events as labels
from generator.bodies import Variation, array, decode, encode
from generator.cadence import FAULT, KEPT, LATE, PLAIN, REPEAT, Block, Cadence
from generator.events import Event
from generator.faults import Fault


class Members(NamedTuple):
    """The readings of a block.

    Attributes:
        keys: the partition key of each event.
        bodies: the JSON object of each reading, event by event.
    """

    keys: list[str]
    bodies: list[bytes]


class Source(Protocol):
    """What one stream measures."""

    faults: list[Fault]
    variations: list[Variation]

    def members(self, block: Block) -> Members:
        """The readings that the block's events hold."""


class Composer:
    """Remembers each patient's last accepted event, of which repeats and conflicts are made, and what is kept."""

    def __init__(self, source: Source, cadence: Cadence, rng: Random) -> None:
        self._source = source
        self._pack = cadence.pack
        self._live = cadence.live
        self._rng = rng
        self._last: list[Event | None] = [None] * cadence.patients
        self._kept: list[list[Event]] = [[] for _ in range(cadence.patients)]

    def events(self, blocks: Iterable[Block], until: float | None) -> Iterator[Event]:
        """The blocks' events that are due before `until`."""
        for block in blocks:
            if until is None or not len(block.due) or block.due[-1] < until:
                yield from self._events(block)
            else:
                yield from self._events(_before(block, until))
                return

    def _events(self, block: Block) -> Iterator[Event]:
        last, pack, live = self._last, self._pack, self._live
        keys, members = self._source.members(block)
        rows = zip(block.patients.tolist(), block.kinds.tolist(), block.due.tolist(), strict=True)
        for place, (patient, kind, due) in enumerate(rows):
            body = members[place] if pack == 1 else array(members[place * pack : (place + 1) * pack])
            label = labels.LATE if kind == LATE else labels.CLEAN
            event = Event(keys[place], body, label, "", pack, 0, 0, due if live else None)
            if kind == KEPT:
                self._kept[patient].append(event._replace(label=labels.BACKFILL))
                continue
            if self._kept[patient]:
                yield from self._backfill(patient, event.due)
            if kind in (PLAIN, LATE):
                last[patient] = event
                yield event
            else:
                yield self._other(event, kind, patient)

    def _backfill(self, patient: int, due: float | None) -> Iterator[Event]:
        """What a phone kept while it had no network, the newest first."""
        kept, self._kept[patient] = self._kept[patient], []
        for event in reversed(kept):
            self._last[patient] = sent = event._replace(due=due)
            yield sent

    def _other(self, event: Event, kind: int, patient: int) -> Event:
        last = self._last[patient]
        if kind == REPEAT and last is not None:
            return last._replace(label=labels.REPEAT, duplicates=last.readings, due=event.due)
        if kind == FAULT:
            return self._spoiled(event, last)
        self._last[patient] = varied = event if kind == REPEAT else self._varied(event)
        return varied

    def _varied(self, event: Event) -> Event:
        readings = decode(event.body)
        place = self._rng.randrange(len(readings))
        readings[place] = self._rng.choice(self._source.variations)(readings[place], self._rng)
        return event._replace(body=encode(readings if self._pack > 1 else readings[0]))

    def _spoiled(self, event: Event, last: Event | None) -> Event:
        previous = decode(last.body)[-1] if last else None
        fault = self._rng.choice(self._source.faults)
        spoiled = fault.spoil(decode(event.body), previous, self._rng)
        if spoiled is None:
            return event
        # A reading and the one that contradicts it stay in order only within one partition.
        key = last.key if last and fault.label == labels.CONFLICT else event.key
        body, reason, readings, quarantined = spoiled
        return Event(key, body, fault.label, reason, readings, quarantined, due=event.due)


def _before(block: Block, until: float) -> Block:
    end = int((block.due < until).sum())
    return Block(block.patients[:end], block.kinds[:end], block.due[:end], block.measured_us[:end])
