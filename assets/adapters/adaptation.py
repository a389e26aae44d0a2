"""How a stream takes foreign bodies: outcomes to columns of its payload, with the ids that `reference/identity` has."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import msgspec
import polars as pl

from assets.adapters.bodies import counts_as_skip, outcomes_of
from assets.adapters.identities import Identities, resolved
from assets.adapters.outcomes import (
    DEVICE,
    DEVICES,
    IDENTITY_MISMATCH,
    PATIENT,
    Plain,
    Reading,
    Reject,
    unknown,
)
from assets.bitemporal import AsOfTexts
from assets.reference.tables import IDENTITY
from assets.stream.contract import Adaptation, Adapted, AdaptedReadings, ForeignEvents, Utc

MARKERS = ('"source":', "iothub-connection-device-id", "mqtt-topic")
"""What the properties or annotations of an event have whose body is looked at, also where the stream understands it."""

_OF_READING = frozenset(
    ("patient_id", "device_id", "timestamp", "record_system", "record_id", "record_version"),
)
"""Fields of payloads that no adapter names: they are of the reading itself."""
_EPOCH, _MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)


def adaptation(stream: str, payload: type[msgspec.Struct]) -> Adaptation:
    """The declaration for a stream.

    Args:
        stream: its name.
        payload: its payload with the fields that only foreign readings have.
    """
    # A body of the stream's own says itself whose it is; an unknown device of the transport does not contradict it.
    gives_way = frozenset((unknown(DEVICE), unknown(PATIENT)))
    names = [name for name in payload.__struct_fields__ if name not in _OF_READING]
    return Adaptation(payload, IDENTITY.table, IDENTITY.keys, MARKERS, gives_way, partial(_adapt, stream, names))


_Places = list[tuple[int, int, int]]
"""For each outcome the place of its event among those that are adapted, the event's number, and its own position."""


def _adapt(stream: str, names: Sequence[str], events: ForeignEvents, table: AsOfTexts | None) -> Adapted:
    identities = Identities(events.known_by, table)
    counts: list[int | None] = []
    readings: list[Reading] = []
    objects: list[Plain] = []
    places: _Places = []
    of_objects: _Places = []
    refusals: list[tuple[int, int, str]] = []
    skipped: list[tuple[int, str]] = []
    for place, (event, body, properties, annotations) in enumerate(zip(*events[:4], strict=True)):
        outcomes = outcomes_of(body, properties, annotations, partial(identities.zone_of, place))
        if outcomes is None:
            counts.append(None)
            continue
        counts.append(len(outcomes))
        for index, outcome in enumerate(outcomes):
            if isinstance(outcome, Reading) and outcome.stream == stream:
                readings.append(outcome)
                places.append((place, event, index))
            elif (kind := counts_as_skip(outcome, stream)) is not None:
                skipped.append((event, kind))
            elif isinstance(outcome, Plain):
                objects.append(outcome)
                of_objects.append((place, event, index))
            elif isinstance(outcome, Reject):
                refusals.append((event, index, outcome.reason))
            else:
                raise TypeError("an outcome of no known kind")
    known_by = events.known_by
    found = _of_readings(readings, places, names, stream, known_by, identities, refusals)
    kept = _of_objects(objects, of_objects, stream, known_by, identities, refusals)
    return Adapted(counts, found, kept, refusals, skipped)


def _of_readings(
    readings: Sequence[Reading],
    places: _Places,
    names: Sequence[str],
    stream: str,
    known_by: pl.Series,
    identities: Identities,
    refusals: list[tuple[int, int, str]],
) -> AdaptedReadings:
    """The columns of those readings whose ids are known; the others are added to the refusals."""
    at = _instants([each.measured_at for each in readings])
    ids = resolved(readings, stream, at, _of_events(known_by, places), identities)
    if (reasons := ids["reason"]).null_count() < len(readings):
        refused = zip(places, reasons.to_list(), strict=True)
        refusals += [(event, index, reason) for (_, event, index), reason in refused if reason is not None]
        good = reasons.is_null().arg_true()
        at, ids = at[good], ids[good]
        readings, places = [readings[place] for place in good], [places[place] for place in good]
    records = [each.record for each in readings]
    values = [each.values for each in readings]
    fields: dict[str, Sequence[Any] | pl.Series] = {
        "patient_id": ids["patient_id"],
        "device_id": ids["device_id"],
        "record_system": [each.system for each in records],
        "record_id": [each.id for each in records],
        "record_version": [each.version for each in records],
    }
    for name in names:
        fields[name] = [each.get(name) for each in values]
    return AdaptedReadings([event for _, event, _ in places], [index for *_, index in places], at, fields)


def _of_events(known_by: pl.Series, places: _Places) -> pl.Series:
    """Up to when versions count for each outcome."""
    return known_by.gather(pl.Series([place for place, _, _ in places], dtype=pl.Int64))


def _of_objects(
    objects: Sequence[Plain],
    places: _Places,
    stream: str,
    known_by: pl.Series,
    identities: Identities,
    refusals: list[tuple[int, int, str]],
) -> list[tuple[int, int, Mapping[str, Any]]]:
    """Objects in the stream's own words that their transport does not contradict; others are added to the refusals."""
    found = [(event, index, each.body) for (_, event, index), each in zip(places, objects, strict=True)]
    if not any(each.patient or each.device for each in objects):
        return found
    known_by = _of_events(known_by, places)
    at = _instants([each.measured_at for each in objects])
    at = at.zip_with(at.is_not_null(), known_by)
    rows = {
        "at": at,
        "patient": identities.rows_of([each.patient for each in objects], at, known_by),
        "device": identities.rows_of([each.device for each in objects], at, known_by),
    }
    ids = pl.DataFrame(rows).select(
        patient=identities.id_of("patient"),
        device=identities.id_of("device"),
        owner=identities.owner_of("device", "at"),
    )
    kept: list[tuple[int, int, Mapping[str, Any]]] = []
    for (event, index, _), each, (patient, device, owner) in zip(found, objects, ids.iter_rows(), strict=True):
        body = each.body
        if device is not None and _is_another(each, stream, device, owner):
            refusals.append((event, index, IDENTITY_MISMATCH))
            continue
        if each.patient is not None and stream != DEVICES:
            # An authenticated binding says whose it is.
            if patient is None or body.get("patient_id", patient) != patient:
                refusals.append((event, index, unknown(PATIENT) if patient is None else IDENTITY_MISMATCH))
                continue
            body = {**body, "patient_id": patient}
        kept.append((event, index, body))
    return kept


def _is_another(each: Plain, stream: str, device: int, owner: int | None) -> bool:
    """Whether an object of Pulselake's own words names another device than the stamped one, or not whose that is."""
    if device != each.body.get("device_id"):
        return True
    whose = None if each.measured_at is None else owner
    return stream != DEVICES and whose is not None and each.body.get("patient_id") != whose


def _instants(found: Sequence[datetime | None]) -> pl.Series:
    # Polars takes three times as long for datetimes.
    numbers = [None if each is None else (each - _EPOCH) // _MICROSECOND for each in found]
    return pl.Series(numbers, dtype=pl.Int64).cast(Utc)
