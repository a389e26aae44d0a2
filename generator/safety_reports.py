"""How a drug safety report is written: one JSON object of the openFDA API, in which every value is a text.

Fragments of JSON are prepared once; a report only puts them together, with its dates and its number. What a report
says is decided elsewhere.
"""

import json
from datetime import date, timedelta
from functools import cache
from random import Random
from typing import Any, NamedTuple

from generator.drugs import REACTIONS, SUBSTANCES, Substance

SUSPECT, CONCOMITANT, INTERACTING = 1, 2, 3
DECADE, YEAR, MONTH, WEEK, DAY, HOUR = "800", "801", "802", "803", "804", "805"
OUTCOMES = (None, "1", "2", "3", "4", "6", "5")
FATAL = OUTCOMES.index("5")
MISSING_AGE, MISSING_SEX = 0.15, 0.07
UNKNOWN_INDICATION = "PRODUCT USED FOR UNKNOWN INDICATION"
COUNTRIES = ("US",) * 12 + ("CA", "GB", "DE", "FR", "JP", "BR", "AU", "IT")
COUNTRY_NAMES = ("UNITED STATES", "CANADA", "UNITED KINGDOM", "JAPAN", "GERMANY")
COMPANIES = ("HELIOS PHARMA", "NORTHFIELD", "BLUEBIRD LABS", "MERIDIAN", "ALPENMED")
SERIOUSNESS = (
    *({"serious": "2"},) * 9,
    *({"serious": "1", "seriousnessother": "1"},) * 5,
    *({"serious": "1", "seriousnesshospitalization": "1"},) * 3,
    {"serious": "1", "seriousnesslifethreatening": "1"},
    {"serious": "1", "seriousnessdisabling": "1", "seriousnessother": "1"},
    {"serious": "1", "seriousnesscongenitalanomali": "1"},
)


class Origin(NamedTuple):
    """Where a report comes from, as the pieces of JSON around its number."""

    head: str
    company: str
    tail: str


class Report(NamedTuple):
    """A version of a report.

    Attributes:
        number: its safetyreportid, which all versions share.
        version: 0 in an old report, which does not say it.
        received: when its first version came, in days since 1970.
        receipt: when this version came.
        transmitted: a place in `DATE_FORMATS`: how its transmission date is written.
        origin: where it comes from.
        harm: a place in `SERIOUSNESS`, which is written unless the patient died.
        is_fatal: whether the patient died.
        patient: a piece of JSON.
        reactions: places among the prepared reactions; see `reaction_place`.
        drugs: pieces of JSON.
    """

    number: str
    version: int
    received: int
    receipt: int
    transmitted: int
    origin: Origin
    harm: int
    is_fatal: bool
    patient: str
    reactions: tuple[int, ...]
    drugs: tuple[str, ...]


def written(report: Report) -> bytes:
    """The body of a report."""
    number, company, tail = report.number, report.origin.company, report.origin.tail
    version = f'"safetyreportversion": "{report.version}", ' if report.version else ""
    received, receipt = day_text(report.received), day_text(report.receipt)
    code, length = DATE_FORMATS[report.transmitted]
    harm, death = _FATAL_HARM if report.is_fatal else _HARM[report.harm], ""
    if report.is_fatal:
        died = f'"102", "patientdeathdate": "{received}"' if report.harm % 2 else 'null, "patientdeathdate": null'
        death = f'"patientdeath": {{"patientdeathdateformat": {died}}}, '
    reactions = ", ".join([_REACTION_TEXTS[place] for place in report.reactions])
    return (
        f'{{{version}"safetyreportid": "{number}", {report.origin.head}{harm}'
        f'"transmissiondateformat": "{code}", "transmissiondate": "{receipt[:length]}", '
        f'"receivedateformat": "102", "receivedate": "{received}", '
        f'"receiptdateformat": "102", "receiptdate": "{receipt}", '
        f'"companynumb": "{company}{number}", {tail}"patient": {{{report.patient}{death}'
        f'"reaction": [{reactions}], "drug": [{", ".join(report.drugs)}]}}}}'
    ).encode()


DATE_FORMATS = (("102", 8), ("610", 6), ("602", 4))
"""Codes of date formats with the length of their dates, from the day to the year."""


@cache
def day_text(day: int) -> str:
    """A day since 1970 as yyyymmdd, the date format 102."""
    return (date(1970, 1, 1) + timedelta(days=day)).strftime("%Y%m%d")


def reaction_place(term: int, outcome: int) -> int:
    """Where a reaction with an outcome stands among the prepared ones. The outcome of DEATH is always fatal."""
    return term * len(OUTCOMES) + (FATAL if REACTIONS[term] == "DEATH" else outcome)


def term_of(place: int) -> int:
    """The place in `REACTIONS` of a prepared reaction."""
    return place // len(OUTCOMES)


def _reaction(term: str, outcome: str | None) -> dict[str, str]:
    reaction = {"reactionmeddraversionpt": "27.0", "reactionmeddrapt": term}
    return reaction if outcome is None else reaction | {"reactionoutcome": outcome}


def _members(value: dict[str, Any]) -> str:
    """The members of an object as JSON that other members can follow."""
    return "".join(f"{json.dumps(name)}: {json.dumps(each)}, " for name, each in value.items())


_REACTION_TEXTS = [json.dumps(_reaction(term, outcome)) for term in REACTIONS for outcome in OUTCOMES]
_HARM = [_members(each) for each in SERIOUSNESS]
_FATAL_HARM = _members({"serious": "1", "seriousnessdeath": "1"})


def drug_texts(role: int) -> list[list[str]]:
    """By substance, all fragments of a drug in that role."""
    return [
        [
            json.dumps({"drugcharacterization": str(role)} | drug)
            for product in substance.products
            for indication in (*substance.indications, UNKNOWN_INDICATION)
            for drug in _drugs(number, substance, product, indication)
        ]
        for number, substance in enumerate(SUBSTANCES)
    ]


def generic(product: str) -> str:
    """A product's name in upper case, without a final full stop."""
    return product.strip().removesuffix(".").upper()


def _drugs(number: int, substance: Substance, product: str, indication: str) -> list[dict[str, Any]]:
    application = f"{20_000 + 37 * number:06d}"
    code, route = substance.route
    drug: dict[str, Any] = {
        "medicinalproduct": product,
        "drugauthorizationnumb": application,
        "drugdosagetext": "UNK",
        "drugadministrationroute": code,
        "drugindication": indication,
    }
    active = {"activesubstance": {"activesubstancename": substance.name}}
    openfda: dict[str, Any] = {
        "openfda": {
            "application_number": [f"NDA{application}"],
            "brand_name": [generic(product)],
            "generic_name": [substance.name],
            "manufacturer_name": [COMPANIES[number % len(COMPANIES)]],
            "product_type": ["HUMAN PRESCRIPTION DRUG"],
            "route": [route],
            "substance_name": [substance.name],
        }
    }
    ways = [drug | active | openfda, drug | active, drug | openfda]
    return [*ways, drug] if generic(product) == substance.name else ways


def patient_text(rng: Random) -> str:
    """A patient's age and sex, as far as they are known."""
    patient: dict[str, Any] = {} if rng.random() < MISSING_AGE else _age(rng)
    if rng.random() >= MISSING_SEX:
        patient["patientsex"] = rng.choices("120", (42, 54, 4))[0]
    return _members(patient)


def _age(rng: Random) -> dict[str, str | None]:
    age, unit = rng.choices(
        (
            (min(max(round(rng.gauss(56, 20)), 1), 101), YEAR),
            (rng.randint(1, 9), DECADE),
            (rng.randint(1, 23), MONTH),
            (rng.randint(1, 40), WEEK),
            (rng.randint(1, 36_000), DAY),
            (rng.randint(1, 72), HOUR),
            (rng.choice((-1, 250, 999)), YEAR),
            (rng.randint(20, 90), None),
        ),
        (900, 25, 20, 10, 25, 10, 3, 7),
    )[0]
    return {"patientonsetage": str(age), "patientonsetageunit": unit}


def modern_origin(rng: Random) -> Origin:
    """Where a recent report comes from."""
    country, sender, qualification = rng.choice(COUNTRIES), rng.choice(COMPANIES), rng.choice("11233555")
    head: dict[str, Any] = {"primarysourcecountry": country}
    if rng.random() < 0.8:
        head["occurcountry"] = country
    head |= {"reporttype": rng.choice("1112"), "fulfillexpeditecriteria": rng.choice("12")}
    source = {"reportercountry": country, "qualification": qualification}
    tail = {
        "duplicate": "1",
        "primarysource": source if rng.random() < 0.95 else {"reportercountry": country},
        "sender": {"sendertype": "2", "senderorganization": "FDA-Public Use"},
        "receiver": {"receivertype": "6", "receiverorganization": "FDA"},
    }
    return Origin(_members(head), f"{country}-{sender}-", _members(tail))


def old_origin(rng: Random) -> Origin:
    """Where an old report comes from: before 2014 much was left out."""
    source = {"reportercountry": rng.choice(COUNTRY_NAMES), "qualification": rng.choice("1235")}
    tail = {"primarysource": source, "sender": {"senderorganization": "FDA-Public Use"}, "receiver": None}
    return Origin(_members({"fulfillexpeditecriteria": "1"}), f"{rng.choice(COMPANIES)[:5]}", _members(tail))
