"""Rows of silver as FHIR R4 Observations, with the codes and units that `assets.adapters.fhir` reads. Pure."""

import hashlib
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from assets.adapters.fhir import LOINC, UCUM

Resource = dict[str, Any]
Row = Mapping[str, Any]

GLUCOSE_COLUMNS = ("patient_id", "device_id", "measured_at", "glucose_mg_dl", "range_flag")
_SIGNS: Mapping[str, tuple[tuple[str, ...], str, str]] = {
    "heart_rate_bpm": (("8867-4",), "/min", "Heart rate"),
    "respiratory_rate_per_min": (("9279-1",), "/min", "Respiratory rate"),
    "spo2_percent": (("59408-5", "2708-6"), "%", "Oxygen saturation"),
    "temperature_c": (("8310-5",), "Cel", "Body temperature"),
    "glucose_mg_dl": (("2339-0",), "mg/dL", "Glucose"),
}
_PRESSURES = {"systolic_mmhg": ("8480-6", "Systolic pressure"), "diastolic_mmhg": ("8462-4", "Diastolic pressure")}
VITALS_COLUMNS = ("patient_id", "device_id", "measured_at", *_SIGNS, *_PRESSURES)
_COMPARATORS = {"below": "<", "above": ">"}
_LABORATORY, _VITAL = "laboratory", "vital-signs"


def of_glucose(row: Row) -> Iterator[Resource]:
    """The Observation of a row of `silver/glucose_readings`; what lies outside of a sensor's range has a comparator."""
    codes, unit, text = _SIGNS["glucose_mg_dl"]
    quantity = _quantity(row["glucose_mg_dl"], unit, _COMPARATORS.get(row["range_flag"]))
    yield _observation(row, codes, text, _LABORATORY) | {"valueQuantity": quantity}


def of_vitals(row: Row) -> Iterator[Resource]:
    """The Observations of a row of `silver/vitals`: one for each sign, and one panel for a blood pressure."""
    for column, (codes, unit, text) in _SIGNS.items():
        if row[column] is not None:
            category = _LABORATORY if column == "glucose_mg_dl" else _VITAL
            yield _observation(row, codes, text, category) | {"valueQuantity": _quantity(row[column], unit)}
    components = [
        {"code": _code((code,), text), "valueQuantity": _quantity(row[column], "mm[Hg]")}
        for column, (code, text) in _PRESSURES.items()
        if row[column] is not None
    ]
    if components:
        yield _observation(row, ("85354-9",), "Blood pressure", _VITAL) | {"component": components}


def patient(number: int) -> Resource:
    """The patient of a Bundle: the id alone."""
    return {"resourceType": "Patient", "id": str(number)}


def entry(resource: Resource) -> Resource:
    """An entry of a Bundle."""
    return {"fullUrl": f"urn:pulselake:{resource['resourceType']}/{resource['id']}", "resource": resource}


def _observation(row: Row, codes: tuple[str, ...], text: str, category: str) -> Resource:
    at: datetime = row["measured_at"]
    # The same reading has the same id in each export.
    named = f"{row['patient_id']}/{row['device_id']}/{at.isoformat()}/{codes[0]}"
    device = {} if row["device_id"] is None else {"device": {"reference": f"Device/{row['device_id']}"}}
    system = "http://terminology.hl7.org/CodeSystem/observation-category"
    return {
        "resourceType": "Observation",
        "id": hashlib.sha256(named.encode()).hexdigest()[:32],
        "status": "final",
        "category": [{"coding": [{"system": system, "code": category}]}],
        "code": _code(codes, text),
        "subject": {"reference": f"Patient/{row['patient_id']}"},
        **device,
        "effectiveDateTime": at.isoformat(timespec="microseconds" if at.microsecond else "seconds"),
    }


def _code(codes: tuple[str, ...], text: str) -> Resource:
    return {"coding": [{"system": LOINC, "code": code} for code in codes], "text": text}


def _quantity(value: float, unit: str, comparator: str | None = None) -> Resource:
    said = {} if comparator is None else {"comparator": comparator}
    return {"value": value, **said, "unit": unit, "system": UCUM, "code": unit}
