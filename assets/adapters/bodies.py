"""From the body of an event to outcomes: envelopes off, the format's adapter on, what belongs together merged."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from assets.adapters.envelopes import Leaf, unpacked
from assets.adapters.outcomes import VITALS, Outcome, Plain, Reading, Reject, Skip
from assets.stream.decode import NOT_AN_OBJECT

ZoneOf = Callable[[str, str], str | None]
"""The zone of a system's binding."""


def outcomes_of(
    body: bytes | None, properties: str | None, annotations: str | None, zone_of: ZoneOf
) -> list[Outcome] | None:
    """What the records in a body become, at least one outcome.

    Args:
        body: as the hub had it.
        properties: JSON text of what the sender said about it.
        annotations: JSON text of what transports said about it.
        zone_of: finds the zone of wall-clock times.

    Returns:
        None where the body is nothing foreign, so that what the stream's own decoder says of it counts.
    """
    found, is_foreign = unpacked(body, _object(properties), _object(annotations))
    if not is_foreign:
        return None
    outcomes = [
        outcome for each in found for outcome in (_adapted(each, zone_of) if isinstance(each, Leaf) else [each])
    ]
    return merged(outcomes) or [Reject(NOT_AN_OBJECT)]


def _adapted(leaf: Leaf, zone_of: ZoneOf) -> Iterator[Outcome]:
    context = leaf.context
    if context.zone is None and context.binding is not None:
        context = context.changed(zone=zone_of(leaf.format.system, context.binding))
    yield from leaf.format.adapt(leaf.document, context)


def _object(text: str | None) -> Mapping[str, Any]:
    if not text:
        return {}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def merged(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The outcomes with vital signs of one patient and instant as one reading, at the place of the first.

    A sign that is there already with another value stays a reading of its own.
    """
    kept: list[Outcome] = []
    places: dict[tuple[Any, datetime], int] = {}
    for outcome in outcomes:
        if not isinstance(outcome, Reading) or outcome.stream != VITALS:
            kept.append(outcome)
            continue
        who = (outcome.patient or outcome.device, outcome.measured_at)
        if (place := places.setdefault(who, len(kept))) == len(kept):
            kept.append(outcome)
            continue
        first = kept[place]
        if isinstance(first, Reading) and not _contradicts(first, outcome):
            device = first.device if first.device == outcome.device else None
            kept[place] = replace(first, values={**first.values, **outcome.values}, device=device)
        else:
            kept.append(outcome)
    return kept


def _contradicts(first: Reading, second: Reading) -> bool:
    return first.claims != second.claims or any(
        first.values.get(name, value) != value for name, value in second.values.items()
    )


def counts_as_skip(outcome: Outcome, stream: str) -> str | None:
    """The kind under which a stream counts an outcome that is none of its readings; None for those that are."""
    if isinstance(outcome, Skip):
        return outcome.kind
    if isinstance(outcome, Plain):
        return None
    return f"other_stream:{outcome.stream}" if outcome.stream not in (stream, None) else None
