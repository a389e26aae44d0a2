"""Safety reports in other valid forms, and those that nobody should send, each with the reason that it deserves."""

from collections.abc import Mapping
from random import Random
from typing import Any

from generator import faults
from generator.bodies import Reading, Variation
from generator.drugs import REACTIONS

NO_REACTION_AND_NO_DRUG = "no_reaction_and_no_drug"
NO_DATES = (("102", "20241301"), ("102", "20230229"), ("102", "yesterday"), ("610", "202413"), ("602", "unknown"))
REQUIRED = ("safetyreportid", "patient")
WRONG: Mapping[str, tuple[Any, ...]] = {
    "safetyreportid": ([10003300], {"number": "10003300"}),
    "patient": ([], [{"patientsex": "1"}], "a man of 77", 7),
    "serious": (["1"], {"death": "1"}),
    "receiptdate": ([2024, 5, 1], {"year": "2024"}),
}
WRONG_IN_PATIENT: Mapping[str, Any] = {"reaction": "NAUSEA", "reaction[]": ["NAUSEA"], "drug": {"medicinalproduct": []}}
"""By where it is, a value that is wrong there; `[]` is an element of a list."""


def _without_openfda(reading: Reading, rng: Random) -> Reading:
    """Only where the substance is named elsewhere."""
    drugs = [
        {name: value for name, value in drug.items() if name != "openfda" or "activesubstance" not in drug}
        for drug in reading["patient"]["drug"]
    ]
    return _with_patient(reading, drug=drugs)


def _in_another_order(reading: Reading, rng: Random) -> Reading:
    names = [*reading]
    rng.shuffle(names)
    patient = dict(reversed(reading["patient"].items()))
    return {name: patient if name == "patient" else reading[name] for name in names}


def _with_more_fields(reading: Reading, rng: Random) -> Reading:
    more = {"authoritynumb": "US-FDA-7", "literaturereference": None, "reportduplicate": [{"duplicatenumb": "7"}]}
    return reading | more | {"patient": reading["patient"] | {"patientweight": "71.5", "patientagegroup": "5"}}


def _with_nulls(reading: Reading, rng: Random) -> Reading:
    nothing = dict.fromkeys(("occurcountry", "receiver", "primarysource", "seriousnessother", "companynumb"))
    return reading | nothing


def _without_receipt_date(reading: Reading, rng: Random) -> Reading:
    """The date of the first version counts instead, unless it is the later one."""
    if reading["receivedate"] > reading["receiptdate"]:
        return reading
    return _without(reading, "receiptdate", "receiptdateformat")


def _without_drugs(reading: Reading, rng: Random) -> Reading:
    return _with_patient(reading, drug=[])


def _without_reactions(reading: Reading, rng: Random) -> Reading:
    return reading | {"patient": _without(reading["patient"], "reaction")}


def _without(members: Reading, *names: str) -> Reading:
    return {name: value for name, value in members.items() if name not in names}


def _with_patient(reading: Reading, **members: Any) -> Reading:
    return reading | {"patient": reading["patient"] | members}


def _with_neither(reading: Reading, rng: Random) -> tuple[Reading, str]:
    patient = reading["patient"]
    nothing = rng.choice((_without(patient, "reaction", "drug"), patient | {"reaction": [], "drug": []}))
    return reading | {"patient": nothing}, NO_REACTION_AND_NO_DRUG


def _with_wrong_patient(reading: Reading, rng: Random) -> tuple[Reading, str]:
    path = rng.choice(tuple(WRONG_IN_PATIENT))
    name = path.removesuffix("[]")
    return _with_patient(reading, **{name: WRONG_IN_PATIENT[path]}), f"bad_type:patient.{path}"


def _with_no_date(reading: Reading, rng: Random) -> tuple[Reading, str]:
    name = rng.choice(("receiptdate", "receivedate", "transmissiondate"))
    code, text = rng.choice(NO_DATES)
    return reading | {name: text, f"{name}format": code}, faults.BAD_TIMESTAMP


def _with_other_content(reading: Reading, rng: Random) -> Reading:
    added = {"reactionmeddrapt": rng.choice(REACTIONS), "reactionoutcome": rng.choice("12346")}
    serious = "2" if reading["serious"] == "1" else "1"
    return _with_patient(reading, reaction=[*reading["patient"].get("reaction", ()), added]) | {"serious": serious}


VARIATIONS: tuple[Variation, ...] = (
    _without_openfda,
    _in_another_order,
    _with_more_fields,
    _with_nulls,
    _without_receipt_date,
    _without_drugs,
    _without_reactions,
)
FAULTS = [
    *faults.structural(REQUIRED, WRONG),
    faults.one_member("wrong_patient", _with_wrong_patient),
    faults.one_member("nothing_reported", _with_neither),
    faults.one_member("bad_timestamp", _with_no_date),
    faults.field("future", "receiptdate", ("20990101", "20990630"), faults.IN_THE_FUTURE),
    *faults.unusual(),
    faults.conflict(_with_other_content),
]
