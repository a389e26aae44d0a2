"""Which formats there are, and which one a document has: by what its sender declares, else by how it looks."""

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from typing import Any

from assets.adapters import (
    apple_health,
    carelink,
    carelink_connect,
    clarity,
    dexcom,
    fhir,
    health_auto_export,
    huawei,
    librelinkup,
    libreview,
    nightscout,
    own,
    telemetry,
    tidepool,
)
from assets.adapters.outcomes import Adapter


@dataclass(frozen=True)
class Format:
    """A format of foreign documents.

    Attributes:
        name: what a sender declares as `source`.
        system: whose ids it has in `reference/identity`.
        adapt: makes outcomes of a document.
        looks_so: whether a document has this format; of a text if `is_text`, else of what JSON holds.
        names: of these an object that looks so has at least one, in any case; in a list one of the first members has.
        is_text: whether its documents are texts other than JSON.
    """

    name: str
    system: str
    adapt: Adapter
    looks_so: Callable[[Any], bool]
    names: frozenset[str] = frozenset()
    is_text: bool = False


def _is_measurement(document: Any) -> bool:
    """Whether it is a message as the MedTech service takes it."""
    return isinstance(document, dict) and {"type", "device", "values"} <= document.keys()


def _is_routed(document: Any) -> bool:
    """Whether it is a message as an IoT Hub routes it into storage."""
    return isinstance(document, dict) and {"systemproperties", "body"} <= {name.lower() for name in document}


def _one_of(*names: str) -> frozenset[str]:
    return frozenset(name.lower() for name in names)


ROUTED = Format("iot-hub-routing", "azure-iot", telemetry.adapt, _is_routed, _one_of("systemProperties"))
"""Of files only: `assets.adapters.envelopes` takes the envelope of each message off."""
CAPTURED = Format("event-hubs-capture", "azure-iot", telemetry.adapt, lambda _: False)
"""Of files only: an event means what it meant in the hub that was captured."""
TELEMETRY = Format("telemetry", "azure-iot", telemetry.adapt, _is_measurement, _one_of("values"))
FORMATS: tuple[Format, ...] = (
    Format("fhir", fhir.SYSTEM, fhir.adapt, fhir.is_document, _one_of("resourceType")),
    Format("dexcom-v3", dexcom.SYSTEM, dexcom.adapt_v3, dexcom.is_v3, _one_of("recordType")),
    Format("nightscout", nightscout.SYSTEM, nightscout.adapt, nightscout.is_document, _one_of(*nightscout.NAMES)),
    Format("dexcom-share", dexcom.SYSTEM, dexcom.adapt_share, dexcom.is_share, _one_of("Value")),
    Format("librelinkup", librelinkup.SYSTEM, librelinkup.adapt, librelinkup.is_document, _one_of("data")),
    Format("tidepool", tidepool.SYSTEM, tidepool.adapt, tidepool.is_document, _one_of("type")),
    Format("carelink-connect", carelink.SYSTEM, carelink_connect.adapt, carelink_connect.is_document, _one_of("sgs")),
    Format(
        "health-auto-export",
        health_auto_export.SYSTEM,
        health_auto_export.adapt,
        health_auto_export.is_document,
        _one_of("data"),
    ),
    Format("huawei", huawei.SYSTEM, huawei.adapt, huawei.is_document, _one_of("group", "samplePoints")),
    Format("apple-health", apple_health.SYSTEM, apple_health.adapt, apple_health.is_document, is_text=True),
    Format("clarity", dexcom.SYSTEM, clarity.adapt, clarity.is_document, is_text=True),
    Format("libreview", libreview.SYSTEM, libreview.adapt, libreview.is_document, is_text=True),
    Format("carelink", carelink.SYSTEM, carelink.adapt, carelink.is_document, is_text=True),
    TELEMETRY,
    Format("pulselake", own.SYSTEM, own.adapt, own.is_document),
    ROUTED,
    CAPTURED,
)
"""In the order in which a document is looked at."""
_NAMES = frozenset[str]().union(*(each.names for each in FORMATS))
_MEMBERS = 10
"""How many members of a list formats look at."""
_DECLARED = {
    source: [each for each in FORMATS if source in (each.name, each.system)]
    for source in {*(each.name for each in FORMATS), *(each.system for each in FORMATS)}
}


def looks_like(document: Any, *, is_text: bool) -> Format | None:
    """The format that a document has; None where it has none of them."""
    if is_text:
        return next((each for each in FORMATS if each.is_text and each.looks_so(document)), None)
    return of_names(document, names_of(document))


def of_names(document: Any, names: Set[str]) -> Format | None:
    """The format that what JSON holds has, by the names that `names_of` finds in it."""
    if _NAMES.isdisjoint(names):
        return None
    return next((each for each in FORMATS if not each.names.isdisjoint(names) and each.looks_so(document)), None)


def names_of(document: Any) -> Set[str]:
    """The names in an object, or in the first members of a list, in lower case."""
    if isinstance(document, dict):
        return {*map(str.lower, document)}
    members = document[:_MEMBERS] if isinstance(document, list) else []
    names = set().union(*(member for member in members if isinstance(member, dict)))
    return {*map(str.lower, names)}


def declared(source: str | None) -> Sequence[Format]:
    """The formats of a declared source: the name of one, or of a system that has several."""
    return _DECLARED.get(source or "", ())
