"""Who sends readings: when each entity was heard of last, and from when on it is silent. Records of one array."""

from collections.abc import Sequence

import numpy as np

from assets.alarms.given import FOREVER, NEVER, NOT_SILENT, Int64s, Place, Readings, Seen, Silence, microseconds
from assets.alarms.records import Array, Records
from assets.alarms.tables import WATCHED_FOR

ENTITY = np.dtype(
    [
        *((name, np.int64) for name in ("entity", "received_at", "silent_after", "deadline", "silence")),
        *((name, np.int64) for name in Place._fields),
        ("is_told", np.bool_),
    ]
)
"""One entity.

`received_at` is the newest receipt of a fresh reading, `NEVER` if there was none, and the place is that of this one.
What holds about its silence has the number `silence`: it begins `silent_after` later, and `is_told` once it was raised.
`deadline` is when the entity falls silent, or, after that, when it is watched no more.
"""
_BLANK = np.zeros(1, ENTITY)
_BLANK["received_at"], _BLANK["deadline"], _BLANK["silent_after"] = NEVER, FOREVER, NOT_SILENT
_BLANK["sequence_number"] = _BLANK["event_index"] = -1


class Entities:
    """The entities of a stream that were heard of within the time for which they are watched."""

    def __init__(self) -> None:
        self._records = Records(_BLANK)
        self._places: dict[int, int] = {}
        self._newest: dict[str, Int64s] = {}
        self.silences: list[Silence | None] = [None]
        self._numbers: dict[Silence | None, int] = {None: 0}

    @property
    def all(self) -> Array:
        """The records, by their places; those of nobody have no deadline."""
        return self._records.all

    def places(self, entities: Sequence[int]) -> Int64s:
        """Where entities are; who is not known is from now on."""
        new = [each for each in entities if each not in self._places]
        if new:
            taken = self._records.add(len(new))
            self.all["entity"][taken] = new
            self._places.update(zip(new, taken.tolist(), strict=True))
            for name, newest in self._newest.items():
                self._newest[name] = self._grown(newest)
                self._newest[name][taken] = NEVER
        return np.fromiter(map(self._places.__getitem__, entities), np.int64, len(entities))

    def place(self, entity: int) -> int | None:
        """Where one of them is; None if it is not known."""
        return self._places.get(entity)

    def newest(self, measurement: str) -> Int64s:
        """For each place the newest time of a fresh reading with a measurement; `NEVER` where there was none."""
        if measurement not in self._newest:
            self._newest[measurement] = self._grown(np.empty(0, np.int64))
        return self._newest[measurement]

    def _grown(self, newest: Int64s) -> Int64s:
        more = len(self.all) - len(newest)
        return np.append(newest, np.full(more, NEVER)) if more else newest

    def forget_unheard(self) -> None:
        """Lets those go of whom nothing but revisions was read: nothing is known of them."""
        known = np.fromiter(self._places.values(), np.int64, len(self._places))
        self.forget(known[self.all["received_at"][known] == NEVER])

    def forget(self, places: Int64s) -> None:
        """Lets some of them go."""
        for entity in self.all["entity"][places].tolist():
            del self._places[entity]
        self._records.free(places)

    def pack(self) -> None:
        """Gives back the memory of entities that were forgotten; the others have other places then."""
        if not self._records.is_sparse(len(self._places)):
            return
        places = np.fromiter(self._places.values(), np.int64, len(self._places))
        self._records.pack(places)
        self._newest = {name: self._grown(newest[places]) for name, newest in self._newest.items()}
        self._places = {entity: place for place, entity in enumerate(self._places)}

    def number(self, silence: Silence | None) -> int:
        """The number of what is said about silence."""
        if (number := self._numbers.get(silence)) is None:
            number = self._numbers[silence] = len(self.silences)
            self.silences.append(silence)
        return number

    def take_up(self, seen: Sequence[Seen]) -> None:
        """Knows again who was seen lately."""
        places, records = self.places([each.entity for each in seen]), self.all
        records["received_at"][places] = [each.received_at for each in seen]
        for name in Place._fields:
            records[name][places] = [getattr(each.place, name) for each in seen]
        records["is_told"][places] = [each.is_told for each in seen]
        records["silence"][places] = [self.number(each.silence) for each in seen]
        records["silent_after"][places] = [NOT_SILENT if each.silence is None else each.silence.after for each in seen]
        for name in {name for each in seen for name in each.newest}:
            self.newest(name)[places] = [each.newest.get(name, NEVER) for each in seen]
        self.watch(places)

    def hear(self, places: Int64s, readings: Readings, at: Int64s) -> None:
        """Notes from which readings entities were heard of last."""
        records = self.all
        records["received_at"][places] = readings.received_at[at]
        for name in Place._fields:
            records[name][places] = getattr(readings, name)[at]
        records["is_told"][places] = False
        versions, which = np.unique(readings.silence[at], return_inverse=True)
        numbers = np.array([self.number(readings.silences[version]) for version in versions.tolist()], np.int64)
        records["silence"][places] = numbers[which]
        records["silent_after"][places] = readings.silent_after[versions][which]

    def watch(self, places: Int64s) -> None:
        """Says when each of some entities must be looked at."""
        records = self.all
        received_at, after = records["received_at"][places], records["silent_after"][places]
        is_over = records["is_told"][places] | (after == NOT_SILENT)
        deadline = received_at + np.where(is_over, microseconds(WATCHED_FOR), after)
        records["deadline"][places] = np.where(received_at == NEVER, FOREVER, deadline)
