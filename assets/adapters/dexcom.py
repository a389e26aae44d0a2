"""Dexcom: estimated glucose values of the interface v3, and the answer of Share."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from assets.adapters.outcomes import (
    BAD_TIMESTAMP,
    GLUCOSE,
    NO_VALUE,
    PATIENT,
    Context,
    ForeignId,
    Outcome,
    Reading,
    Record,
    Refused,
    Reject,
    Skip,
    each_record,
)
from assets.adapters.values import (
    IN_UTC,
    dexcom_flag,
    glucose,
    glucose_unit,
    instant,
    microsoft_date,
    needed,
    text_of,
    whole_second,
)
from assets.glucose.silver import MG_DL
from assets.stream.decode import NOT_AN_OBJECT, missing_field

SYSTEM = "dexcom"
_ONE_READING = timedelta(seconds=30)
"""A phone and a watch upload one reading within so long."""
_OLDEST_LIVE = timedelta(days=90)
"""After a hard reset the system clock of a receiver may be months or years behind; a file may have old readings."""


def is_v3(document: Any) -> bool:
    """Whether a document is an answer of the interface v3."""
    return isinstance(document, dict) and "recordType" in document and isinstance(document.get("records"), list)


def adapt_v3(document: Any, context: Context) -> Iterator[Outcome]:
    """The outcomes of the records of an answer."""
    if not is_v3(document):
        yield Reject(missing_field("records"), GLUCOSE)
        return
    if not document["records"]:
        yield Skip(NO_VALUE)
        return
    if document["recordType"] != "egv":
        yield from (Skip(text_of(document["recordType"]) or "records") for _ in document["records"])
        return
    user = text_of(document.get("userId"))
    patient = ForeignId(SYSTEM, PATIENT, user) if user else context.patient_of(SYSTEM)
    oldest = _oldest(context)
    yield from each_record(document["records"], GLUCOSE, lambda each: [_value(each, user, patient, context, oldest)])


def _value(record: Any, user: str, patient: ForeignId | None, context: Context, oldest: datetime | None) -> Outcome:
    if not isinstance(record, dict):
        raise Refused(NOT_AN_OBJECT)
    unit = glucose_unit(needed(record.get("unit"), "unit"))
    value = needed(record.get("value"), "value")
    # What carries no offset was sent by a receiver, whose system clock is in UTC.
    at = _plausible(instant(needed(record.get("systemTime"), "systemTime"), IN_UTC), oldest)
    values = glucose(value, unit, is_monitor=True, flag=dexcom_flag, has_error_codes=True)
    transmitter = text_of(record.get("transmitterId"))
    device = context.device_of(SYSTEM, transmitter, f"user:{user}" if user else None)
    of = Record(SYSTEM, text_of(record.get("recordId")) or None)
    return Reading(GLUCOSE, whole_second(at), values, of, patient, device)


def _oldest(context: Context) -> datetime | None:
    """The instant of the oldest reading that can come live; None where the document did not come live."""
    if context.enqueued_at is None:
        return None
    try:
        return instant(context.enqueued_at) - _OLDEST_LIVE
    except (Refused, OverflowError):
        return None


def _plausible(at: datetime, oldest: datetime | None) -> datetime:
    if oldest is not None and at < oldest:
        raise Refused(BAD_TIMESTAMP)
    return at


def is_share(document: Any) -> bool:
    """Whether a document is an answer of Share."""
    return isinstance(document, list) and any(
        isinstance(each, dict) and "Value" in each and {"ST", "WT", "DT"} & each.keys() for each in document[:10]
    )


def adapt_share(document: Any, context: Context) -> Iterator[Outcome]:
    """The outcomes of the readings of an answer.

    A value that comes again within 30 seconds gets the instant of the first one, so that it counts as its duplicate.
    """
    before: dict[tuple[Any, ...], list[Reading]] = defaultdict(list)
    oldest = _oldest(context)

    def reading(record: Any) -> list[Outcome]:
        found = _share(record, context, oldest)
        same = before[(*found.values.items(),)]
        for other in same:
            if abs(other.measured_at - found.measured_at) <= _ONE_READING:
                return [other]
        same.append(found)
        return [found]

    yield from each_record(document if isinstance(document, list) else [document], GLUCOSE, reading)


def _share(record: Any, context: Context, oldest: datetime | None) -> Reading:
    if not isinstance(record, dict):
        raise Refused(NOT_AN_OBJECT)
    value = needed(record.get("Value"), "Value")
    at = _plausible(microsoft_date(needed(record.get("ST") or record.get("WT"), "ST")), oldest)
    values = glucose(value, MG_DL, is_monitor=True, flag=dexcom_flag, has_error_codes=True)
    patient, device = context.patient_of(SYSTEM), context.device_of(SYSTEM)
    return Reading(GLUCOSE, whole_second(at), values, Record(SYSTEM), patient, device)
