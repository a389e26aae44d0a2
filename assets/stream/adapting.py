"""Bodies of other systems beside the stream's own, in one micro-batch.

```
 bodies ─▶ Decoder ─▶ readings, rejects ──────────────────────────▶ ┐
                          │ events with a reject, or with a marker    ├─▶ as one
                          └─▶ the contract's `adapt` ─▶ readings … ─▶ ┘
```

What was adapted takes the place of what the decoder made of the event. Which formats there are, the engine does not
know. Bodies of the stream itself pass by: without a reject and a marker nothing is looked at.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import polars as pl

from assets.bitemporal import SAFETY_DELAY
from assets.stream.contract import Adaptation, Adapted, Contract, Foreign, Refusal, Skipped
from assets.stream.decode import COUNT, NOT_AN_OBJECT, POSITION, SKIPPED, Body, Decoded, Decoder
from assets.stream.enrichment import References
from assets.stream.isolation import isolated

MAX_KIND_CHARACTERS = 60
OTHER_KIND = "other"
"""Under what a kind is counted that is long, or has characters that no name of a format has."""

_KIND = r"^[A-Za-z0-9_.: /-]+$"


class Adapting:
    """Adapts the bodies of one stream.

    Args:
        contract: the stream.
        references: where foreign ids are looked up; without them none is known.
    """

    def __init__(self, contract: Contract, references: References | None) -> None:
        self._adaptation, self._references = contract.adaptation, references
        self._decoder = Decoder(contract.decoded_payload)
        nothing, _ = self._decoder.members([], Counter())
        own = Decoder(contract.payload).schema
        self._others = {name: dtype for name, dtype in nothing.schema.items() if name not in own}
        self._names = nothing.columns

    def adapted(self, decoded: Decoded, bodies: Sequence[Body], positions: pl.DataFrame) -> Decoded:
        """What was decoded, with what foreign bodies become in the place of what the decoder made of them.

        Args:
            decoded: what the stream's decoder made of the bodies.
            bodies: of the events.
            positions: what the events brought besides.
        """
        if self._adaptation is None:
            return decoded
        columns = (
            pl.Series(name, [None], dtype).new_from_index(0, decoded.readings.height)
            for name, dtype in self._others.items()
        )
        decoded = replace(decoded, readings=decoded.readings.hstack(list(columns))[self._names])
        if not (events := _candidates(self._adaptation, decoded, positions)):
            return decoded
        rows = positions[events][["properties", "annotations", "pulled_at"]]
        foreign = pl.DataFrame({"event": pl.Series(events, dtype=pl.Int64)}).hstack(rows)
        foreign = foreign.with_columns(is_decoded=~foreign["event"].is_in(decoded.rejects["event"].implode()))
        parts = isolated(foreign, lambda part: self._part(part, bodies), _failed)
        found = {event: records for part in parts for event, records in part if records is not None}
        return self._joined(decoded, found) if found else decoded

    def _part(self, part: pl.DataFrame, bodies: Sequence[Body]) -> list[tuple[int, list[Adapted] | None]]:
        adaptation = self._adaptation
        if adaptation is None:
            return []
        numbers: list[int] = part["event"].to_list()
        events = [
            Foreign(bodies[event], properties, annotations, pulled_at - SAFETY_DELAY, is_decoded)
            for event, properties, annotations, pulled_at, is_decoded in part.iter_rows()
        ]
        identities = None if self._references is None else self._references.identities
        return list(zip(numbers, adaptation.adapt(events, identities), strict=True))

    def _joined(self, decoded: Decoded, found: dict[int, list[Adapted]]) -> Decoded:
        members: list[tuple[int, int, object]] = []
        skipped: list[tuple[int, str]] = []
        refused: list[tuple[int, int, str]] = []
        for event, records in found.items():
            for index, record in enumerate(records or [Refusal(NOT_AN_OBJECT)]):
                if isinstance(record, Skipped):
                    skipped.append((event, record.kind))
                elif isinstance(record, Refusal):
                    refused.append((event, index, record.reason))
                else:
                    members.append((event, index, record))
        # What the stream's decoder made of an event's readings is counted already.
        seen = {*decoded.readings["event"]}
        unknown = Counter(decoded.unknown_fields)
        parts = [
            self._decoder.members([each for each in members if each[0] not in seen], unknown),
            self._decoder.members([each for each in members if each[0] in seen], Counter()),
        ]
        readings, rejects = (pl.concat(frames) for frames in zip(*parts, strict=True))
        schema = POSITION | {"reason": pl.String}
        events = pl.Series(list(found), dtype=pl.Int64)
        counts = pl.Series([max(1, len(records)) for records in found.values()], dtype=pl.Int64)
        own = ~pl.col("event").is_in(events.implode())
        return replace(
            decoded,
            readings=pl.concat([decoded.readings.filter(own), readings[self._names]]).sort(
                "event", "event_index", maintain_order=True
            ),
            rejects=pl.concat(
                [decoded.rejects.filter(own), rejects, pl.DataFrame(refused, schema=schema, orient="row")]
            ).sort("event", "event_index"),
            reading_counts=decoded.reading_counts.clone().scatter(events, counts).alias(COUNT),
            unknown_fields=unknown,
            skipped=_of_known_kinds(pl.DataFrame(skipped, schema=SKIPPED, orient="row")),
        )


def _candidates(adaptation: Adaptation, decoded: Decoded, positions: pl.DataFrame) -> list[int]:
    """The events whose bodies may be foreign, in order."""
    events = {*decoded.rejects["event"]}
    for name in ("properties", "annotations"):
        said = positions[name]
        if said.null_count() < len(said):
            # Most events of a sender say the same.
            different = said.unique()
            marked = different.filter(different.str.contains_any(list(adaptation.markers)).fill_null(False))
            if marked.len():
                events.update(said.is_in(marked.implode()).fill_null(False).arg_true())
    return sorted(events)


def _failed(part: pl.DataFrame, failure: str) -> list[tuple[int, list[Adapted] | None]]:
    """An event on which the code of adapters fails keeps its position and gets a reason."""
    return [(part["event"][0], [Refusal(f"failed:{failure}")])]


def _of_known_kinds(skipped: pl.DataFrame) -> pl.DataFrame:
    """What senders name may be long, or say something of a patient."""
    kind = pl.col("kind")
    is_name = kind.str.contains(_KIND) & (kind.str.len_chars() <= MAX_KIND_CHARACTERS)
    return skipped.with_columns(kind=pl.when(is_name).then(kind).otherwise(pl.lit(OTHER_KIND)))


def kinds_of(skipped: pl.DataFrame) -> Counter[str]:
    """How many records of each kind were skipped."""
    return Counter(dict(skipped["kind"].value_counts().iter_rows()))
