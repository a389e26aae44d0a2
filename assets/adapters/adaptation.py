"""How a stream takes foreign bodies: outcomes to its payload, with the ids that `reference/identity` has.

An id is looked up for the instant of the measurement, by what was known when the event was pulled, like everything in
reference data. What was unknown then is looked up by what is known now: so a replay lets in what was quarantined, and
nothing that was resolved once changes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

import msgspec
import polars as pl

from assets.adapters.bodies import counts_as_skip, outcomes_of
from assets.adapters.outcomes import (
    DEVICE,
    GLUCOSE,
    IDENTITY_MISMATCH,
    PATIENT,
    VITALS,
    ForeignId,
    Outcome,
    Plain,
    Reading,
    Reject,
    unknown,
)
from assets.bitemporal import VALID_FROM, AsOfTexts
from assets.reference.tables import IDENTITY
from assets.stream.contract import Adaptation, Adapted, Foreign, Refusal, Skipped

MARKERS = ('"source":', "iothub-connection-device-id", "mqtt-topic")
"""What the properties or annotations of an event have whose body is looked at, also where the stream understands it."""


def adaptation(stream: str, payload: type[msgspec.Struct]) -> Adaptation:
    """The declaration for a stream.

    Args:
        stream: its name.
        payload: its payload with the fields that only foreign readings have.
    """
    return Adaptation(payload, IDENTITY.table, IDENTITY.keys, MARKERS, partial(_adapt, stream))


class _Wanted(NamedTuple):
    """An id of a reading: which event and outcome it belongs to."""

    place: tuple[int, int]
    id: ForeignId
    at: datetime
    known_by: datetime


def _adapt(stream: str, events: Sequence[Foreign], identities: AsOfTexts | None) -> list[list[Adapted] | None]:
    zones = _Zones(identities)
    found = [
        outcomes_of(each.body, each.properties, each.annotations, partial(zones.of, each.known_by)) for each in events
    ]
    wanted = [
        _Wanted((number, place), foreign, at, event.known_by)
        for number, (event, outcomes) in enumerate(zip(events, found, strict=True))
        for place, outcome in enumerate(outcomes or [])
        for foreign, at in _ids_of(outcome, stream, event)
    ]
    known = _Identities(identities, wanted)
    return [
        _of_event(event, outcomes, partial(_adapted, stream=stream, known=known, number=number))
        for number, (event, outcomes) in enumerate(zip(events, found, strict=True))
    ]


def _of_event(
    event: Foreign, outcomes: list[Outcome] | None, adapted: Callable[[Outcome, int], Adapted]
) -> list[Adapted] | None:
    if outcomes is None:
        return None
    found = [adapted(outcome, place) for place, outcome in enumerate(outcomes)]
    if event.is_decoded and any(each in (Refusal(unknown(DEVICE)), Refusal(unknown(PATIENT))) for each in found):
        # The body says itself whose it is, and nothing is known of the device that would contradict it.
        return None
    return found


def _ids_of(outcome: Outcome, stream: str, event: Foreign) -> Iterator[tuple[ForeignId, datetime]]:
    if isinstance(outcome, Plain) and outcome.device is not None:
        yield outcome.device, event.known_by
    if isinstance(outcome, Reading) and outcome.stream == stream:
        yield from ((each, outcome.measured_at) for each in (outcome.patient, outcome.device) if each is not None)


class _Known(NamedTuple):
    id: int
    patient: int | None
    since: datetime


class _Identities:
    """What the ids of some readings mean."""

    def __init__(self, identities: AsOfTexts | None, wanted: Sequence[_Wanted]) -> None:
        self._found: dict[tuple[tuple[int, int], ForeignId], _Known] = {}
        if identities is None or not wanted:
            return
        at, known_by = (
            pl.Series([getattr(each, name) for each in wanted], dtype=pl.Datetime("us", "UTC"))
            for name in ("at", "known_by")
        )
        rows = identities.rows_of([each.id for each in wanted], at, known_by)
        columns = identities.versions[["pulselake_id", "patient_of_device", VALID_FROM]]
        for each, row in zip(wanted, rows, strict=True):
            if row is not None:
                number, patient, since = columns.row(row)
                self._found[each.place, each.id] = _Known(number, patient, since)

    def of(self, place: tuple[int, int], foreign: ForeignId | None) -> _Known | None:
        """What an id of a reading means; None where nothing is known."""
        return None if foreign is None else self._found.get((place, foreign))


class _Zones:
    """The zones of bindings, each looked up once."""

    def __init__(self, identities: AsOfTexts | None) -> None:
        self._identities = identities
        self._found: dict[tuple[datetime, str, str], str | None] = {}

    def of(self, known_by: datetime, system: str, binding: str) -> str | None:
        """The zone of a binding at an instant, by what was known then."""
        key = known_by, system, binding
        if key not in self._found:
            self._found[key] = self._look_up(*key)
        return self._found[key]

    def _look_up(self, known_by: datetime, system: str, binding: str) -> str | None:
        if self._identities is None:
            return None
        at = pl.Series([known_by], dtype=pl.Datetime("us", "UTC"))
        [row] = self._identities.rows_of([(system, PATIENT, binding)], at, at)
        return None if row is None else self._identities.versions["zone"][row]


def _adapted(outcome: Outcome, index: int, stream: str, known: _Identities, number: int) -> Adapted:
    place = number, index
    if (kind := counts_as_skip(outcome, stream)) is not None:
        return Skipped(kind)
    if isinstance(outcome, Plain):
        stamped = known.of(place, outcome.device)
        if stamped is not None and stamped.id != outcome.body.get("device_id"):
            return Refusal(IDENTITY_MISMATCH)
        return outcome.body
    if isinstance(outcome, Reject):
        return Refusal(outcome.reason)
    if not isinstance(outcome, Reading):
        raise TypeError("an outcome of no known kind")
    return _payload(outcome, stream, known.of(place, outcome.patient), known.of(place, outcome.device))


def _payload(reading: Reading, stream: str, patient: _Known | None, device: _Known | None) -> Adapted:
    ids: dict[str, int | None] = {}
    is_device_needed = stream != VITALS or reading.patient is None
    if stream in (GLUCOSE, VITALS):
        if reading.patient is None:
            # Whose a device is, is not known for the time before its assignment.
            is_assigned = device is not None and device.since <= reading.measured_at
            ids["patient_id"] = device.patient if device is not None and is_assigned else None
        else:
            ids["patient_id"] = None if patient is None else patient.id
    if is_device_needed and device is None and (reading.patient is None or patient is not None):
        return Refusal(unknown(DEVICE))
    if "patient_id" in ids and ids["patient_id"] is None:
        return Refusal(unknown(PATIENT))
    ids["device_id"] = None if device is None else device.id
    if any(ids.get(name) is not None and ids[name] != claimed for name, claimed in reading.claims.items()):
        return Refusal(IDENTITY_MISMATCH)
    record = reading.record
    said = {"record_system": record.system, "record_id": record.id, "record_version": record.version}
    at: Mapping[str, Any] = {"timestamp": reading.measured_at.isoformat()}
    return {**ids, **at, **reading.values, **said}
