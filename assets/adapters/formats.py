"""Which formats there are, and which one a document has: by what its sender declares, else by how it looks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from assets.adapters import (
    apple_health,
    carelink,
    clarity,
    dexcom,
    fhir,
    health_auto_export,
    huawei,
    librelinkup,
    libreview,
    nightscout,
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
        is_text: whether its documents are texts other than JSON.
    """

    name: str
    system: str
    adapt: Adapter
    looks_so: Callable[[Any], bool]
    is_text: bool = False


def _is_measurement(document: Any) -> bool:
    """Whether it is a message as the MedTech service takes it."""
    return isinstance(document, Mapping) and {"type", "device", "values"} <= document.keys()


TELEMETRY = Format("telemetry", "azure-iot", telemetry.adapt, _is_measurement)
FORMATS: tuple[Format, ...] = (
    Format("fhir", fhir.SYSTEM, fhir.adapt, fhir.is_document),
    Format("dexcom-v3", dexcom.SYSTEM, dexcom.adapt_v3, dexcom.is_v3),
    Format("nightscout", nightscout.SYSTEM, nightscout.adapt, nightscout.is_document),
    Format("dexcom-share", dexcom.SYSTEM, dexcom.adapt_share, dexcom.is_share),
    Format("librelinkup", librelinkup.SYSTEM, librelinkup.adapt, librelinkup.is_document),
    Format("tidepool", tidepool.SYSTEM, tidepool.adapt, tidepool.is_document),
    Format("health-auto-export", health_auto_export.SYSTEM, health_auto_export.adapt, health_auto_export.is_document),
    Format("huawei", huawei.SYSTEM, huawei.adapt, huawei.is_document),
    Format("apple-health", apple_health.SYSTEM, apple_health.adapt, apple_health.is_document, is_text=True),
    Format("clarity", dexcom.SYSTEM, clarity.adapt, clarity.is_document, is_text=True),
    Format("libreview", libreview.SYSTEM, libreview.adapt, libreview.is_document, is_text=True),
    Format("carelink", carelink.SYSTEM, carelink.adapt, carelink.is_document, is_text=True),
    TELEMETRY,
)
"""In the order in which a document is looked at."""


def looks_like(document: Any, *, is_text: bool) -> Format | None:
    """The format that a document has; None where it has none of them."""
    return next((each for each in FORMATS if each.is_text == is_text and each.looks_so(document)), None)


def declared(source: str | None) -> list[Format]:
    """The formats of a declared source: the name of one, or of a system that has several."""
    return [each for each in FORMATS if source in (each.name, each.system)] if source else []
