"""Bodies of other systems beside the stream's own, in one micro-batch.

```
 bodies ─▶ not marked ─▶ Decoder ─▶ readings ───────────────────────────────▶ ┐
             │              └ refused ─▶ ┐                                     ├─▶ as one
             └ marked ─────────────────▶ the contract's `adapt` ─▶ readings ─▶ │
                                         └ nothing foreign ─▶ Decoder ───────▶ ┘
```

A body is decoded once: what is wrong with one in the stream's own words is looked for only when no adapter understands
it. Which formats there are, the engine does not know. Bodies of the stream itself pass by: without a marker, and where
nothing is refused, nothing is looked at.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from itertools import chain
from typing import Any, NamedTuple

import msgspec
import polars as pl

from assets.bitemporal import SAFETY_DELAY
from assets.stream.contract import Adaptation, Contract, ForeignEvents, Utc
from assets.stream.decode import COUNT, INSTANT, SKIPPED, Body, Decoded, Decoder, rejected
from assets.stream.enrichment import References
from assets.stream.isolation import isolated

MAX_KIND_CHARACTERS = 60
OTHER_KIND = "other"
"""Under what a kind is counted that is long, or has characters that no name of a format has."""

_KIND = re.compile(rf"[A-Za-z0-9_.: /-]{{1,{MAX_KIND_CHARACTERS}}}")


class Adapting:
    """Adapts the bodies of one stream.

    Args:
        contract: the stream.
        decoder: of the stream's own bodies.
        references: where foreign ids are looked up; without them none is known.
    """

    def __init__(self, contract: Contract, decoder: Decoder, references: References | None) -> None:
        self._adaptation, self._own, self._references = contract.adaptation, decoder, references
        self._decoder = Decoder(contract.decoded_payload)
        self._objects = Decoder(_of_own_words(contract))
        schema = pl.Schema(self._decoder.schema | {INSTANT: Utc})
        self._none, self._names = pl.DataFrame(schema=schema), schema.names()

    def decoded(self, bodies: Sequence[Body], positions: pl.DataFrame) -> Decoded:
        """What the bodies of events hold, in the stream's own words or in those of other systems.

        Args:
            bodies: of the events.
            positions: what the events brought besides.
        """
        if self._adaptation is None:
            return self._own.decode(bodies)
        marked = _marked(self._adaptation, positions)
        decoded = self._not_marked(bodies, marked)
        if not (events := sorted({*marked, *decoded.rejects["event"]})):
            return decoded
        rows = positions[events][["properties", "annotations", "pulled_at"]]
        foreign = pl.DataFrame({"event": pl.Series(events, dtype=pl.Int64)}).hstack(rows)
        found = _together(isolated(foreign, lambda part: self._part(part, bodies), self._failed))
        reasons = self._adaptation.gives_way
        gives_way = {event for event, _, reason in found.refusals if reason in reasons and event in marked}
        if own := [event for event, count in zip(events, found.counts, strict=True) if not count or event in gives_way]:
            decoded = self._in_own_words(decoded, own, bodies)
            found = found.without({*own} - (gives_way & {*decoded.rejects["event"]}))
        return self._joined(decoded, found) if found.events else decoded

    def _not_marked(self, bodies: Sequence[Body], marked: set[int]) -> Decoded:
        """What the stream's decoder makes of the events that are not marked."""
        if not marked:
            decoded = self._own.decode(bodies, is_explained=False)
            return replace(decoded, readings=self._with_others(decoded.readings))
        nothing = self._own.not_decoded(bodies)
        nothing = replace(nothing, readings=self._with_others(nothing.readings))
        others = [event for event in range(len(bodies)) if event not in marked]
        return self._in_own_words(nothing, others, bodies, is_explained=False) if others else nothing

    def _with_others(self, readings: pl.DataFrame) -> pl.DataFrame:
        """Readings in the stream's own words, with the columns that only those of other systems fill."""
        columns = [
            pl.Series(name, [None], dtype).new_from_index(0, readings.height)
            for name, dtype in self._none.schema.items()
            if name not in readings.columns
        ]
        return readings.hstack(columns)[self._names]

    def _in_own_words(
        self, decoded: Decoded, events: Sequence[int], bodies: Sequence[Body], *, is_explained: bool = True
    ) -> Decoded:
        """The same with what the stream's decoder makes of some events."""
        own = self._own.decode([bodies[event] for event in events], is_explained=is_explained)
        numbers = pl.Series(events, dtype=pl.Int64)
        frames = (self._with_others(own.readings), own.rejects)
        readings, rejects = (frame.with_columns(event=numbers[frame["event"]]) for frame in frames)
        read = _with(decoded, events, readings, rejects, own.reading_counts)
        return replace(read, unknown_fields=decoded.unknown_fields + own.unknown_fields)

    def _part(self, part: pl.DataFrame, bodies: Sequence[Body]) -> "_Found":
        numbers: list[int] = part["event"].to_list()
        if self._adaptation is None:
            return self._nothing(numbers)
        events = ForeignEvents(
            numbers,
            [bodies[event] for event in numbers],
            part["properties"].to_list(),
            part["annotations"].to_list(),
            part["pulled_at"] - SAFETY_DELAY,
        )
        identities = None if self._references is None else self._references.identities
        adapted = self._adaptation.adapt(events, identities)
        readings, refusals = self._decoder.adapted(adapted.readings)
        return _Found(
            numbers, adapted.counts, readings, adapted.objects, [*adapted.refusals, *refusals], adapted.skipped
        )

    def _failed(self, part: pl.DataFrame, failure: str) -> "_Found":
        """An event on which the code of adapters fails keeps its position and gets a reason."""
        [event] = part["event"]
        return self._nothing([event])._replace(counts=[1], refusals=[(event, 0, f"failed:{failure}")])

    def _nothing(self, events: list[int]) -> "_Found":
        return _Found(events, [None] * len(events), self._none, [], [], [])

    def _joined(self, decoded: Decoded, found: "_Found") -> Decoded:
        """What the stream's decoder made of other events, with what adapters made of these."""
        unknown = Counter(decoded.unknown_fields)
        readings, rejects = [found.readings], [rejected(found.refusals)]
        if found.objects:
            # What the stream's decoder made of an event's readings is counted already.
            events = pl.Series(found.events, dtype=pl.Int64)
            seen = {*decoded.readings["event"].filter(decoded.readings["event"].is_in(events.implode()))}
            objects = [each for each in found.objects if each[0] not in seen]
            parts = [self._objects.members(objects, unknown)]
            if seen:
                parts.append(self._objects.members([each for each in found.objects if each[0] in seen], Counter()))
            readings += [self._with_others(frame) for frame, _ in parts]
            rejects += [frame for _, frame in parts]
        joined = _with(decoded, found.events, pl.concat(readings), pl.concat(rejects), found.counts)
        skipped = pl.DataFrame(_of_known_kinds(found.skipped), schema=SKIPPED, orient="row")
        return replace(joined, unknown_fields=unknown, skipped=skipped)


class _Found(NamedTuple):
    """What adapters made of events: these, for each of them the number of its records, and what `Adapted` has."""

    events: Sequence[int]
    counts: Sequence[int | None]
    readings: pl.DataFrame
    objects: Sequence[tuple[int, int, Mapping[str, Any]]]
    refusals: Sequence[tuple[int, int, str]]
    skipped: Sequence[tuple[int, str]]

    def without(self, events: Set[int]) -> "_Found":
        """The same without these events."""
        if not events:
            return self
        kept = [each for each in zip(self.events, self.counts, strict=True) if each[0] not in events]
        is_other = ~self.readings["event"].is_in(pl.Series([*events], dtype=pl.Int64).implode())
        return _Found(
            [event for event, _ in kept],
            [count for _, count in kept],
            self.readings.filter(is_other),
            [each for each in self.objects if each[0] not in events],
            [each for each in self.refusals if each[0] not in events],
            [each for each in self.skipped if each[0] not in events],
        )


def _together(parts: Iterable[_Found]) -> _Found:
    """Of consecutive parts, most often one."""
    found = [*parts]
    if len(found) == 1:
        return found[0]
    events, counts, readings, *others = zip(*found, strict=True)
    return _Found([*chain(*events)], [*chain(*counts)], pl.concat(readings), *([*chain(*some)] for some in others))


def _with(
    decoded: Decoded,
    events: Sequence[int],
    readings: pl.DataFrame,
    rejects: pl.DataFrame,
    counts: Sequence[int | None] | pl.Series,
) -> Decoded:
    """What was decoded, with other readings, rejects and counts of some events."""
    numbers, found = pl.Series(events, dtype=pl.Int64), pl.Series(counts, dtype=pl.Int64)
    return replace(
        decoded,
        readings=_besides(numbers, decoded.readings, readings),
        rejects=_besides(numbers, decoded.rejects, rejects),
        reading_counts=decoded.reading_counts.clone().scatter(numbers, found).alias(COUNT),
    )


def _of_own_words(contract: Contract) -> type[msgspec.Struct]:
    """The fields of objects in the stream's own words: the payload's, required where adapted readings need them too."""
    if contract.adaptation is None:
        return contract.payload
    own = contract.payload.__struct_fields__
    fields = (each for each in msgspec.structs.fields(contract.adaptation.payload) if each.name in own)
    declared = ((f.name, f.type) if f.required else (f.name, f.type, f.default) for f in fields)
    return msgspec.defstruct(contract.payload.__name__, declared, gc=False)


def _besides(events: pl.Series, of_all: pl.DataFrame, of_these: pl.DataFrame) -> pl.DataFrame:
    """Rows of all events with those of these ones in the place of the former, in order."""
    if of_all.height:
        of_all = of_all.filter(~of_all["event"].is_in(events.implode()))
    return pl.concat([of_all, of_these]).sort("event", "event_index") if of_all.height or of_these.height else of_all


def _marked(adaptation: Adaptation, positions: pl.DataFrame) -> set[int]:
    """The events whose properties or annotations say that their bodies may be foreign."""
    events: set[int] = set()
    for name in ("properties", "annotations"):
        said = positions[name]
        if said.null_count() < len(said):
            # Most events of a sender say the same.
            different = said.unique()
            marked = different.filter(different.str.contains_any(list(adaptation.markers)).fill_null(False))
            if marked.len():
                events.update(said.is_in(marked.implode()).fill_null(False).arg_true().to_list())
    return events


def _of_known_kinds(skipped: Sequence[tuple[int, str]]) -> list[tuple[int, str]]:
    """What senders name may be long, say something of a patient, or be no Unicode, which no frame takes."""
    names = {kind: known_kind(kind) for kind in {kind for _, kind in skipped}}
    return [(event, names[kind]) for event, kind in skipped]


def known_kind(kind: str) -> str:
    """The name under which a kind of skipped records is counted and told."""
    return kind if _KIND.fullmatch(kind) else OTHER_KIND


def kinds_of(skipped: pl.DataFrame) -> Counter[str]:
    """How many records of each kind were skipped."""
    return Counter(dict(skipped["kind"].value_counts().iter_rows()))
