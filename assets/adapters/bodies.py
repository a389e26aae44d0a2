"""From the body of an event to outcomes: envelopes off, the format's adapter on, what belongs together merged."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

import msgspec
from msgspec.structs import replace

from assets.adapters.envelopes import Leaf, unpacked
from assets.adapters.formats import TELEMETRY
from assets.adapters.outcomes import DEVICES, GLUCOSE, VITALS, ForeignId, Outcome, Plain, Reading, Reject, Skip
from assets.adapters.telemetry import has_only_others_words, stream_of, streams_of_words
from assets.stream.decode import NOT_AN_OBJECT

ZoneOf = Callable[[str, str], str | None]
"""The zone of a system's binding."""
_OBJECTS = msgspec.json.Decoder(dict[str, Any])


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
    content = unpacked(body, _object(properties) if properties else {}, _object(annotations) if annotations else {})
    if not content.is_foreign:
        return None
    outcomes: list[Outcome] = []
    for each in content.found:
        if isinstance(each, Leaf):
            outcomes += _adapted(each, zone_of)
        else:
            outcomes.append(each)
    return (merged(outcomes) if len(outcomes) > 1 else outcomes) or [Reject(NOT_AN_OBJECT)]


def _adapted(leaf: Leaf, zone_of: ZoneOf) -> Iterable[Outcome]:
    context = leaf.context
    # Telemetry has the ids of whatever transported it.
    system = context.system if leaf.format is TELEMETRY else leaf.format.system
    if context.zone is None and context.binding is not None:
        context = context.changed(zone=zone_of(system, context.binding))
    found = leaf.format.adapt(leaf.document, context)
    if context.is_authority:
        return map(partial(_bound, patient=context.patient_of(system)), found)
    if context.device is not None and (leaf.format is not TELEMETRY or context.binding is not None):
        return map(partial(_stamped, device=context.device), found)
    return found


def _bound(outcome: Outcome, patient: ForeignId | None) -> Outcome:
    """An authenticated binding says whose a reading is, whoever the body names."""
    if isinstance(outcome, Plain):
        return replace(outcome, patient=patient)
    if isinstance(outcome, Reading) and outcome.stream != DEVICES and outcome.patient != patient:
        return replace(outcome, patient=patient, named=outcome.patient)
    return outcome


def _stamped(outcome: Outcome, device: ForeignId) -> Outcome:
    """The transport says what sent a reading, whatever device the body names."""
    return replace(outcome, stamped=device) if isinstance(outcome, Reading) else outcome


def _object(text: str) -> Mapping[str, Any]:
    try:
        return _OBJECTS.decode(text)
    except (ValueError, RecursionError):
        return {}


def merged(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The outcomes with vital signs of one patient and instant as one reading, at the place of the first.

    A sign that is there already with another value stays a reading of its own.
    """
    if len([each for each in outcomes if isinstance(each, Reading) and each.stream == VITALS]) < 2:
        return [*outcomes]
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
    is_other = (first.claims, first.named, first.stamped) != (second.claims, second.named, second.stamped)
    return is_other or any(first.values.get(name, value) != value for name, value in second.values.items())


def counts_as_skip(outcome: Outcome, stream: str) -> str | None:
    """The kind under which a stream counts an outcome that is none of its readings; None for those that are."""
    if isinstance(outcome, Skip):
        return outcome.kind
    if isinstance(outcome, Plain):
        is_others = outcome.has_any_stream and has_only_others_words(outcome.body, stream)
        return f"other_stream:{stream_of(outcome.body)}" if is_others else None
    return f"other_stream:{outcome.stream}" if outcome.stream not in (stream, None) else None


def stream_of_outcome(outcome: Outcome) -> str | None:
    """The stream that an outcome belongs to; None for what is skipped, or where nobody can tell."""
    if isinstance(outcome, Plain):
        return stream_of(outcome.body)
    return None if isinstance(outcome, Skip) else outcome.stream


def streams_of(outcomes: Sequence[Outcome]) -> set[str]:
    """The streams that outcomes belong to; empty if all of them are skipped.

    What nobody can tell the stream of belongs to glucose, where it is quarantined: it must not be lost.
    """
    found: set[str] = set()
    for each in outcomes:
        if isinstance(each, Plain):
            found |= streams_of_words(each.body)
        elif (stream := stream_of_outcome(each)) is not None:
            found.add(stream)
    return found or ({GLUCOSE} if any(isinstance(each, Reject) for each in outcomes) else found)
