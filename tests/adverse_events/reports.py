"""Made-up safety reports, and a plain evaluation of what current ones come to: report by report, without Polars."""

import json
from collections import Counter
from collections.abc import Iterable
from datetime import date, timedelta
from random import Random
from typing import Any

Report = dict[str, Any]
FIXTURE = "openfda_five_reports.json"
AGE_YEARS = {"800": 10, "801": 1, "802": 1 / 12, "803": 7 / 365.25, "804": 1 / 365.25, "805": 1 / 24 / 365.25}
DRUGS = ("ASPIRIN", "Aspirin.", "IBUPROFEN", "METFORMIN ", "DURAGESIC-100", "", None)
REACTIONS = ("Headache", "Nausea", "OVERDOSE", "Accidental overdose", "Rash", None)


def report(number: str = "1", version: str | None = "1", received: str = "20260110", **more: Any) -> Report:
    """A small report: one suspect drug, one reaction."""
    patient = {
        "patientonsetage": "40",
        "patientonsetageunit": "801",
        "patientsex": "1",
        "reaction": [{"reactionmeddrapt": "Headache"}],
        "drug": [{"medicinalproduct": "ASPIRIN", "drugcharacterization": "1"}],
    }
    dates = {"receiptdate": received, "receivedate": received, "transmissiondate": "20260201"}
    found = {"safetyreportid": number, "safetyreportversion": version, "serious": "1", "patient": patient} | dates
    return {name: value for name, value in (found | more).items() if value is not None}


def drug(name: str | None, characterization: str = "1", **more: Any) -> dict[str, Any]:
    return {"medicinalproduct": name, "drugcharacterization": characterization, **more}


def reaction(term: str | None) -> dict[str, Any]:
    return {"reactionmeddrapt": term}


def some_reports(count: int, seed: int) -> list[Report]:
    """Reports of few drugs and reactions, with versions in any order, repeats and missing values."""
    rng, found = Random(seed), []
    for _ in range(count):
        first = date(2024, 1, 1) + timedelta(days=rng.randrange(500))
        received = first + timedelta(days=rng.choice((0, 0, 3, 40)))
        patient = {
            "patientonsetage": rng.choice(("1", "17", "18", "64", "65", "75", "24198", "abc", None)),
            "patientonsetageunit": rng.choice(("800", "801", "801", "802", "803", "804", "805", None)),
            "patientsex": rng.choice(("0", "1", "2", None)),
            "reaction": [reaction(rng.choice(REACTIONS)) for _ in range(rng.randrange(4))],
            "drug": [
                drug(rng.choice(DRUGS), rng.choice("1123"), drugindication=rng.choice(("PAIN", None)))
                | ({"activesubstance": {"activesubstancename": "Acetyl."}} if rng.random() < 0.1 else {})
                | ({"openfda": {"generic_name": ["ibu", "x"]}} if rng.random() < 0.1 else {})
                for _ in range(rng.randrange(4))
            ],
        }
        found.append(
            report(
                str(rng.randrange(count // 2)),
                rng.choice((None, "1", "1", "2", "3")),
                received.strftime("%Y%m%d"),
                receivedate=first.strftime("%Y%m%d"),
                serious=rng.choice(("1", "2", None)),
                seriousnessdeath=rng.choice(("1", None)),
                patient=patient,
            )
        )
    repeats = rng.sample(found, count // 10)
    mixed = [*found, *repeats]
    rng.shuffle(mixed)
    return mixed


def bodies(reports: Iterable[Report]) -> list[bytes]:
    return [json.dumps(each).encode() for each in reports]


def current(reports: Iterable[Report]) -> list[Report]:
    """Of each report its newest version; of what has one identity the first one stands."""
    first: dict[tuple[str, int | None, str], Report] = {}
    for each in reports:
        if each["patient"].get("drug") or each["patient"].get("reaction"):
            version = each.get("safetyreportversion")
            key = (each["safetyreportid"], version and int(version), each["receiptdate"])
            first.setdefault(key, each)
    newest: dict[str, tuple[tuple[int, str], Report]] = {}
    for (number, version, received), each in first.items():
        rank = (-1 if version is None else version, received)
        if number not in newest or rank > newest[number][0]:
            newest[number] = (rank, each)
    return [each for _, each in newest.values()]


def drugs_of(each: Report) -> list[dict[str, Any]]:
    return each["patient"].get("drug") or []


def terms_of(each: Report) -> set[str]:
    return {one["reactionmeddrapt"] for one in each["patient"].get("reaction") or [] if one["reactionmeddrapt"]}


def is_suspect(one: dict[str, Any]) -> bool:
    return str(one.get("drugcharacterization")) == "1"


def substance(one: dict[str, Any]) -> str | None:
    given = (
        (one.get("activesubstance") or {}).get("activesubstancename"),
        *((one.get("openfda") or {}).get("generic_name") or [])[:1],
        one.get("medicinalproduct"),
    )
    for name in given:
        plain = (name or "").strip().upper().removesuffix(".").rstrip()
        if plain:
            return plain
    return None


def age_years(each: Report) -> float | None:
    patient = each["patient"]
    try:
        years = float(patient["patientonsetage"]) * AGE_YEARS[patient["patientonsetageunit"]]
    except (KeyError, TypeError, ValueError):
        return None
    return years if 0 <= years <= 130 else None


def age_group(each: Report) -> str:
    years = age_years(each)
    if years is None:
        return "unknown"
    for end, name in ((2, "0-1"), (12, "2-11"), (18, "12-17"), (45, "18-44"), (65, "45-64"), (75, "65-74")):
        if years < end:
            return name
    return "75+"


def day_of(text: str | None) -> date | None:
    return date(int(text[:4]), int(text[4:6] or 1), int(text[6:8] or 1)) if text else None


def original_rows(reports: Iterable[Report]) -> set[tuple[Any, ...]]:
    """The original platform's table: id, date, age, sex, reaction, drug, characterization, indication, overdose."""
    return {
        (
            each["safetyreportid"],
            day_of(each.get("transmissiondate")),
            whole(each["patient"].get("patientonsetage")),
            whole(each["patient"].get("patientsex")),
            term["reactionmeddrapt"],
            one.get("medicinalproduct"),
            whole(one.get("drugcharacterization")),
            one.get("drugindication"),
            "overdose" in (term["reactionmeddrapt"] or "").lower(),
        )
        for each in current(reports)
        for term in each["patient"].get("reaction") or []
        for one in drugs_of(each)
    }


def whole(text: str | None) -> int | None:
    try:
        return int(text or "")
    except ValueError:
        return None


def marks(each: Report) -> tuple[int, int, int]:
    """One report, whether it is serious, and whether the patient died."""
    return 1, int(each.get("serious") == "1"), int(each.get("seriousnessdeath") == "1")


def added(counted: Iterable[tuple[Any, tuple[int, ...]]]) -> dict[Any, tuple[int, ...]]:
    found: dict[Any, tuple[int, ...]] = {}
    for key, counts in counted:
        found[key] = tuple(a + b for a, b in zip(found.get(key, (0,) * len(counts)), counts, strict=True))
    return found


def suspects_of(each: Report) -> dict[str, bool]:
    """By drug name, whether it is suspect anywhere in the report."""
    found: dict[str, bool] = {}
    for one in drugs_of(each):
        if one.get("medicinalproduct") is not None:
            found[one["medicinalproduct"]] = found.get(one["medicinalproduct"], False) or is_suspect(one)
    return found


def by_drug(reports: Iterable[Report]) -> dict[Any, tuple[int, ...]]:
    return added(
        ((name, term), (*marks(each), *(mark * suspect for mark in marks(each))))
        for each in current(reports)
        for name, suspect in suspects_of(each).items()
        for term in terms_of(each)
    )


def by_substance(reports: Iterable[Report]) -> dict[Any, tuple[int, ...]]:
    return added(
        ((name,), (*marks(each), *(mark * suspect for mark in marks(each))))
        for each in current(reports)
        for name in {substance(one) for one in drugs_of(each)} - {None}
        for suspect in [any(is_suspect(one) for one in drugs_of(each) if substance(one) == name)]
    )


def by_age_group(reports: Iterable[Report]) -> dict[Any, tuple[int, ...]]:
    return added(((term, age_group(each)), marks(each)) for each in current(reports) for term in terms_of(each))


def overdoses(reports: Iterable[Report]) -> dict[Any, tuple[int, ...]]:
    return added(
        (
            (date(int(each["receivedate"][:4]), int(each["receivedate"][4:6]), 1), name),
            (*marks(each), suspect),
        )
        for each in current(reports)
        if any("overdose" in term.lower() for term in terms_of(each))
        for name, suspect in suspects_of(each).items()
    )


def cells(reports: Iterable[Report]) -> dict[tuple[str, str], tuple[int, int, int, int]]:
    """The 2x2 table of each pair of a suspect substance and a reaction that some report names."""
    newest = current(reports)
    pairs, substances, terms = Counter[tuple[str, str]](), Counter[str](), Counter[str]()
    for each in newest:
        suspect = {name for one in drugs_of(each) if is_suspect(one) and (name := substance(one))}
        substances.update(suspect)
        terms.update(terms_of(each))
        pairs.update((name, term) for name in suspect for term in terms_of(each))
    return {
        (name, term): (
            both,
            substances[name] - both,
            terms[term] - both,
            len(newest) - substances[name] - terms[term] + both,
        )
        for (name, term), both in pairs.items()
    }
