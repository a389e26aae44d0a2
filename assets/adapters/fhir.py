"""FHIR R4: Observations, alone, in a Bundle or as one line of a bulk export.

What a code means is by LOINC; whether it is mass or molar says the unit, since senders mix these codes.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from assets.adapters.outcomes import (
    BAD_TIMESTAMP,
    DEVICE,
    GLUCOSE,
    NO_VALUE,
    PATIENT,
    UNKNOWN_FORMAT,
    VITALS,
    Context,
    ForeignId,
    Outcome,
    Reading,
    Record,
    Refused,
    Reject,
    Skip,
    attempted,
    each_record,
)
from assets.adapters.values import ABOVE, BELOW, glucose, glucose_unit, instant, list_of, needed, number, text_of
from assets.glucose.slots import TARGET_RANGE_MG_DL
from assets.stream.decode import NOT_AN_OBJECT, bad_type, missing_field

SYSTEM = "fhir"
LOINC, UCUM = "http://loinc.org", "http://unitsofmeasure.org"
MONITOR = frozenset({"99504-3", "105272-9"})
GLUCOSE_CODES = MONITOR | {"41653-7", "14743-9", "2340-8", "2339-0", "15074-8"}
LABORATORY = frozenset({"2345-7", "14749-6", "1558-6"})
PANELS = frozenset({"85354-9", "55284-4"})


class Vital(NamedTuple):
    """The field of a vital sign, and how its units are spelled, in lower case."""

    field: str
    units: frozenset[str]


_HEART = Vital(
    "heart_rate", frozenset({"/min", "1/min", "{beats}/min", "beats/minute", "beats/min", "count/min", "bpm"})
)
_BREATHS = Vital(
    "respiratory_rate", frozenset({"/min", "1/min", "{breaths}/min", "breaths/minute", "breaths/min", "count/min"})
)
_OXYGEN = Vital("spo2", frozenset({"%"}))
_PRESSURE_UNITS = frozenset({"mm[hg]", "mmhg"})
CODES: Mapping[str, Vital] = {
    "8867-4": _HEART,
    "9279-1": _BREATHS,
    "59408-5": _OXYGEN,
    "2708-6": _OXYGEN,
    "8310-5": Vital("temperature", frozenset({"cel", "c", "[degf]", "f", "degc", "degf"})),
    "8480-6": Vital("systolic_bp", _PRESSURE_UNITS),
    "8462-4": Vital("diastolic_bp", _PRESSURE_UNITS),
}
_MEASURED = GLUCOSE_CODES | CODES.keys()
_TAKEN = ("final", "amended", "corrected", "preliminary")
_WITHDRAWN = ("entered-in-error", "cancelled")
_LONGEST_PERIOD = timedelta(hours=1)
_AT_ONCE = timedelta(0)
_MAX_SAMPLES = 100_000
_MAX_BUNDLES = 4
_RELATIVE = re.compile(r"[A-Z][A-Za-z]+/[A-Za-z0-9.-]{1,64}")
_NAMED = re.compile(r"/([A-Z][A-Za-z]+/[A-Za-z0-9.-]{1,64})$")
_ABSOLUTE = re.compile(r"(https?://.+/)[A-Z][A-Za-z]+/[A-Za-z0-9.-]{1,64}")
_FLAGS = {"<": BELOW, "<=": BELOW, ">": ABOVE, ">=": ABOVE}

Object = Mapping[str, Any]


def is_document(document: Any) -> bool:
    """Whether a document is a resource."""
    return isinstance(document, dict) and isinstance(document.get("resourceType"), str)


def is_bundle(document: Any) -> bool:
    """Whether a document is a Bundle."""
    return is_document(document) and document["resourceType"] == "Bundle"


def instant_of(entry: Any) -> Any:
    """Of whom and when the resource of an entry is, so that those of one patient and instant have the same."""
    resource = _object(_object(entry).get("resource"))
    at = resource.get("effectiveDateTime") or resource.get("effectiveInstant")
    return (_object(resource.get("subject")).get("reference"), at) if at else None


def names_of(entry: Any) -> list[str]:
    """By which names references of other entries of its Bundle may mean an entry."""
    address = text_of(entry.get("fullUrl")) if isinstance(entry, dict) else ""
    found = _NAMED.search(address)
    return [address, *([found[1]] if found else [])] if address else []


def names_referred_to(entry: Any) -> list[str]:
    """Which names the resource of an entry refers to, of those that tell whose a reading is."""
    resource = _object(_object(entry).get("resource"))
    addresses = (text_of(_object(resource.get(name)).get("reference")) for name in ("subject", "device", "source"))
    return [address.partition("/_history/")[0] for address in addresses if address]


def adapt(document: Any, context: Context, depth: int = 0) -> Iterator[Outcome]:
    """The outcomes of a resource, or of the entries of a Bundle, which may be Bundles as in the answer to a batch."""
    if not is_document(document) or depth > _MAX_BUNDLES:
        yield Reject(UNKNOWN_FORMAT)
        return
    if not is_bundle(document):
        yield from _resource(document, _References(context.base, {}), context)
        return
    entries = list_of(document.get("entry"))
    if not entries:
        yield Skip("empty_bundle")
        return
    by_url = {text_of(entry.get("fullUrl")): entry.get("resource") for entry in entries if isinstance(entry, dict)}
    references: _References | None = None
    for entry in entries:
        resource = entry.get("resource") if isinstance(entry, dict) else None
        if resource is None or _object(_object(entry).get("request")).get("method") == "DELETE":
            yield Skip("no_resource")
            continue
        if isinstance(resource, dict) and resource.get("resourceType") == "Bundle":
            yield from adapt(resource, context, depth + 1)
            continue
        base = context.base or _base_of(entry)
        if references is None or references.base != base:
            references = _References(base, by_url)
        yield from _resource(resource, references, context)


def _base_of(entry: Object) -> str | None:
    """The address that the full address of an entry begins with."""
    found = _ABSOLUTE.fullmatch(text_of(entry.get("fullUrl")))
    return found[1] if found else None


class _References:
    """What references mean within one document."""

    def __init__(self, base: str | None, by_url: Mapping[Any, Any]) -> None:
        self.base, self._by_url = base, by_url

    def key(self, reference: Any, resource: Object, kind: str) -> ForeignId | None:
        """The id under which `reference/identity` has a patient or a device; None where nothing is referred to."""
        found = self._key(reference, resource, depth=0)
        return ForeignId(SYSTEM, kind, found) if found else None

    def _key(self, reference: Any, resource: Object, depth: int) -> str | None:
        if not isinstance(reference, dict) or depth > 3:
            return None
        address = text_of(reference.get("reference"))
        if "/_history/" in address:
            # Which version of a patient or a device is meant tells nothing about who it is.
            address = address.partition("/_history/")[0]
        if not address:
            return _identifier(reference.get("identifier"))
        if address.startswith("#"):
            found = next((each for each in list_of(resource.get("contained")) if _is_named(each, address[1:])), None)
            return self._known(found, resource, depth)
        absolute = f"{self.base}{address}" if self.base and _RELATIVE.fullmatch(address) else address
        referred = self._by_url.get(absolute) if self._by_url else None
        is_metric = referred is not None and _object(referred).get("resourceType") == "DeviceMetric"
        if is_metric or address.startswith("urn:"):
            return self._known(referred, resource, depth) or absolute
        return absolute

    def _known(self, referred: Any, resource: Object, depth: int) -> str | None:
        if not isinstance(referred, dict):
            return None
        if referred.get("resourceType") == "DeviceMetric":
            return self._key(referred.get("source"), resource, depth + 1)
        return next((key for each in list_of(referred.get("identifier")) if (key := _identifier(each))), None)


def _identifier(identifier: Any) -> str | None:
    of = _object(identifier)
    value = text_of(of.get("value"))
    return f"{text_of(of.get('system'))}|{value}" if value else None


def _is_named(resource: Any, name: str) -> bool:
    return isinstance(resource, dict) and resource.get("id") == name


def _resource(resource: Any, references: _References, context: Context) -> Iterator[Outcome]:
    if not isinstance(resource, dict):
        yield Reject(NOT_AN_OBJECT)
        return
    if resource.get("resourceType") != "Observation":
        yield Skip(text_of(resource.get("resourceType")) or "resource")
        return
    codes = _codes(resource)
    stream = GLUCOSE if codes & GLUCOSE_CODES else VITALS
    yield from each_record([resource], stream, lambda each: _observation(each, codes, references, context))


def _codes(resource: Object) -> set[str]:
    codings = list_of(_object(resource.get("code")).get("coding"))
    return {
        code
        for each in codings
        if isinstance(each, dict) and each.get("system") in (LOINC, None) and (code := text_of(each.get("code")))
    }


def _observation(resource: Object, codes: set[str], references: _References, context: Context) -> list[Outcome]:
    status = resource.get("status")
    if status in _WITHDRAWN:
        raise Refused(f"retracted:{status}")
    if status == "registered":
        return [Skip("registered")]
    if status not in _TAKEN:
        raise Refused(bad_type("status"))
    is_glucose = not codes.isdisjoint(GLUCOSE_CODES)
    is_panel = not is_glucose and (not codes.isdisjoint(PANELS) or _is_panel(resource))
    if not codes:
        codings = list_of(_object(resource.get("code")).get("coding"))
        if codings and not is_panel:
            return [Skip("code:other")]
        if not codings:
            raise Refused(missing_field("code"))
    known = None if is_glucose else next((code for code in sorted(codes) if code in CODES), None)
    if not is_glucose and not codes.isdisjoint(LABORATORY):
        return [Skip("lab")]
    if not is_glucose and not is_panel and known is None:
        return [Skip(f"code:{min(codes)}")]
    if (patient := references.key(resource.get("subject"), resource, PATIENT)) is None:
        raise Refused(missing_field("subject"))
    device = references.key(resource.get("device"), resource, DEVICE)
    meter = device or context.device_of(SYSTEM)
    version = text_of(_object(resource["meta"]).get("versionId")) if "meta" in resource else None
    of = Record(SYSTEM, text_of(resource.get("id")) or None, version or None)

    def reading(stream: str, at: datetime, values: Mapping[str, Any]) -> Reading:
        return Reading(stream, at, values, of, patient, meter if stream == GLUCOSE else device)

    if is_glucose:
        is_monitor = not codes.isdisjoint(MONITOR)
        return _samples(resource, GLUCOSE, lambda each: _glucose(each, is_monitor=is_monitor), reading, meter)
    if is_panel:
        return _panel(resource, reading, meter)
    vital = CODES[known or ""]
    return _samples(resource, VITALS, lambda each: _vital(each, vital), reading, None)


def _is_panel(resource: Object) -> bool:
    """Whether an Observation has components that are measurements and no value; its own code may be a local one."""
    if "component" not in resource or "dataAbsentReason" in resource:
        return False
    if any(name.startswith("value") for name in resource):
        return False
    components = (each for each in list_of(resource.get("component")) if isinstance(each, dict))
    return any(not _MEASURED.isdisjoint(_codes(each)) for each in components)


Make = Callable[[str, datetime, Mapping[str, Any]], Reading]


class _Value(msgspec.Struct, frozen=True, gc=False):
    value: Any
    unit: str | None
    flag: str | None = None
    is_whole: bool = False


def _samples(
    resource: Object,
    stream: str,
    values_of: Callable[[_Value], Mapping[str, Any]],
    reading: Make,
    device: ForeignId | None,
) -> list[Outcome]:
    """One reading, or one for each of sampled data."""
    values = _values(resource)
    if not values:
        return [Skip(NO_VALUE)]
    found = [(offset, values_of(each)) for offset, each in values]
    start = _time(resource)
    if stream == GLUCOSE and device is None:
        raise Refused(missing_field("device"))
    try:
        return [reading(stream, start + offset, each) for offset, each in found]
    except OverflowError:
        raise Refused(BAD_TIMESTAMP) from None


def _values(element: Object) -> list[tuple[timedelta, _Value]]:
    """The values of an Observation or a component, and how long after its time each was measured."""
    quantity = element.get("valueQuantity")
    if isinstance(quantity, dict):
        flag = None
        if (comparator := quantity.get("comparator")) is not None and (flag := _FLAGS.get(text_of(comparator))) is None:
            raise Refused(bad_type("comparator"))
        return [(_AT_ONCE, _Value(quantity.get("value"), _unit(quantity), flag))]
    if (whole := element.get("valueInteger")) is not None:
        return [(_AT_ONCE, _Value(whole, None, is_whole=True))]
    sampled = element.get("valueSampledData")
    if isinstance(sampled, dict):
        return list(_sampled(sampled))
    if any(name.startswith("value") for name in element):
        raise Refused(bad_type("value"))
    if "dataAbsentReason" in element:
        return []
    raise Refused(missing_field("value"))


def _sampled(data: Object) -> Iterator[tuple[timedelta, _Value]]:
    origin = _object(data.get("origin"))
    zero, unit = _number(origin.get("value", 0)), _unit(origin)
    factor, period = _number(data.get("factor", 1)), _number(data.get("period"))
    tokens = text_of(data.get("data")).split(None, _MAX_SAMPLES)
    if not 0 < period < 10**9 or len(tokens) > _MAX_SAMPLES or data.get("dimensions", 1) != 1:
        raise Refused(bad_type("value"))
    for place, token in enumerate(tokens):
        after = timedelta(milliseconds=place * period)
        if token == "E":
            continue
        if token in ("L", "U"):
            limit = data.get("lowerLimit" if token == "L" else "upperLimit")
            yield after, _Value(zero + factor * _number(limit), unit, BELOW if token == "L" else ABOVE)
        else:
            yield after, _Value(zero + factor * number(token, "value"), unit)


def _number(value: Any) -> float:
    """A FHIR decimal is a number of JSON."""
    if type(value) is not int and type(value) is not float:
        raise Refused(bad_type("value"))
    return number(value, "value")


def _unit(quantity: Object) -> str:
    code = text_of(quantity.get("code")) if quantity.get("system") == UCUM else ""
    return (code or text_of(quantity.get("unit"))).casefold()


def _glucose(each: _Value, *, is_monitor: bool) -> Mapping[str, Any]:
    value = _number(needed(each.value, "value"))
    return glucose(value, glucose_unit(each.unit), is_monitor=is_monitor, flag=lambda mg_dl: _flag(each.flag, mg_dl))


def _flag(flag: str | None, mg_dl: float) -> str | None:
    """The flag of a comparison. Its number stays, but above 40 as 40 would be a low that nobody measured."""
    low, high = TARGET_RANGE_MG_DL
    if (flag == BELOW and mg_dl > high) or (flag == ABOVE and mg_dl < low):
        raise Refused(bad_type("comparator"))
    return flag


def _vital(each: _Value, vital: Vital) -> Mapping[str, Any]:
    value = _number(needed(each.value, "value"))
    if not each.is_whole and each.unit not in vital.units:
        raise Refused(bad_type("unit"))
    if vital.field != "temperature" or each.unit is None:
        return {vital.field: value}
    return {vital.field: value, "unit": each.unit}


def _panel(resource: Object, reading: Make, meter: ForeignId | None) -> list[Outcome]:
    """The vital signs of the components as one reading, and each glucose as one of its own."""
    vitals: dict[str, Any] = {}
    levels: list[tuple[_Value, bool]] = []
    for component in list_of(resource.get("component")):
        if not isinstance(component, dict) or not (codes := _codes(component) & _MEASURED):
            continue
        vital = next((CODES[code] for code in sorted(codes) if code in CODES), None)
        for _, each in _values(component)[:1]:
            if vital is None:
                levels.append((each, not codes.isdisjoint(MONITOR)))
                continue
            value = _vital(each, vital)
            if any(vitals.get(name, said) != said for name, said in value.items()):
                raise Refused(bad_type("component"))
            vitals |= value
    if not vitals and not levels:
        return [Skip(NO_VALUE)]
    at = _time(resource)

    def glucose_reading(each: _Value, is_monitor: bool) -> Reading:
        if meter is None:
            raise Refused(missing_field("device"))
        return reading(GLUCOSE, at, _glucose(each, is_monitor=is_monitor))

    of_glucose = [attempted(GLUCOSE, glucose_reading, *level) for level in levels]
    return [*([reading(VITALS, at, vitals)] if vitals else []), *of_glucose]


def _time(resource: Object) -> datetime:
    for name in ("effectiveDateTime", "effectiveInstant"):
        if resource.get(name) is not None:
            return instant(resource[name])
    if isinstance(period := resource.get("effectivePeriod"), dict):
        start = instant(period.get("start"))
        if period.get("end") is not None and instant(period["end"]) - start > _LONGEST_PERIOD:
            raise Refused(BAD_TIMESTAMP)
        return start
    raise Refused(BAD_TIMESTAMP if "effectiveTiming" in resource else missing_field("effective"))


def _object(value: Any) -> Object:
    return value if isinstance(value, dict) else {}
