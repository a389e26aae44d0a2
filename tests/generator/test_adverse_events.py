import json
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from assets.adverse_events.assets import CONTRACT
from generator.adverse_events import PLANTED, SUBSTANCE_OF
from generator.drugs import REACTIONS, SUBSTANCES
from generator.events import Event
from generator.streams import adverse_events
from tests.stream.batches import process_bodies

START = datetime(2024, 5, 1, tzinfo=UTC)
CONSTANTS: dict[str, Any] = {"repeats": 0, "late": 0, "variations": 0, "gaps": 0}
SUSPECT = "1"
NEVER_NULL = {"receiver", "patientonsetageunit", "patientdeathdateformat", "patientdeathdate"}


def historical(count: int, **arguments: Any) -> list[Event]:
    defaults: dict[str, Any] = {"spacing": timedelta(minutes=5), "patients": 20}
    return list(adverse_events(start=START, count=count, **defaults | arguments))


@pytest.fixture(scope="module")
def reports() -> list[dict[str, Any]]:
    return [json.loads(event.body) for event in historical(20_000, **CONSTANTS)]


@pytest.fixture(scope="module")
def mixed() -> list[Event]:
    shares: dict[str, Any] = {"faults": 0.2, "repeats": 0.05, "late": 0.05, "variations": 0.2}
    return historical(10_000, **shares)


def leaves(value: Any, name: str = "") -> list[tuple[str, Any]]:
    """Every value of a report with the name of its field."""
    if isinstance(value, dict):
        return [leaf for key, member in value.items() for leaf in leaves(member, key)]
    if isinstance(value, list):
        return [leaf for member in value for leaf in leaves(member, name)]
    return [(name, value)]


def identity_of(event: Event) -> tuple[str, str, str]:
    """What tells one version of a report from all others."""
    report = json.loads(event.body)
    return report["safetyreportid"], report.get("safetyreportversion", ""), report.get("receiptdate", "")


def test_the_vocabulary():
    assert len(SUBSTANCES) == len(REACTIONS) == len(set(REACTIONS)) == 60
    assert {"OVERDOSE", "INTENTIONAL OVERDOSE", "ACCIDENTAL OVERDOSE", "DEATH"} < set(REACTIONS)
    assert all(1 <= len(each.products) <= 3 for each in SUBSTANCES)
    assert len(SUBSTANCE_OF) == sum(len(each.products) for each in SUBSTANCES)
    assert len(PLANTED) == 40
    assert {substance for substance, _ in PLANTED} <= set(SUBSTANCE_OF.values())
    assert {reaction for _, reaction in PLANTED} <= set(REACTIONS)


def test_a_report_is_one_object_of_texts_with_its_number_as_key():
    for event in historical(2000, **CONSTANTS):
        report = json.loads(event.body)
        assert event.key == report["safetyreportid"]
        for name, value in leaves(report):
            assert isinstance(value, str) or (value is None and name in NEVER_NULL), (name, value)


@pytest.mark.slow
def test_reports_have_the_fields_of_the_real_ones(reports):
    sample = {"safetyreportid", "transmissiondateformat", "transmissiondate", "serious", "receivedateformat"}
    sample |= {"receivedate", "receiptdateformat", "receiptdate", "fulfillexpeditecriteria", "companynumb"}
    sample |= {"primarysource", "sender", "receiver", "patient"}
    assert all(sample <= set(report) for report in reports)
    for report in reports[:500]:
        for drug in report["patient"]["drug"]:
            assert {"drugcharacterization", "medicinalproduct", "drugauthorizationnumb"} < set(drug)


def test_a_report_has_one_to_six_drugs_the_first_one_or_two_suspect_and_one_to_four_reactions(reports):
    drugs, reactions, roles = Counter[int](), Counter[int](), Counter[str]()
    for report in reports:
        patient = report["patient"]
        given = [drug["drugcharacterization"] for drug in patient["drug"]]
        terms = [reaction["reactionmeddrapt"] for reaction in patient["reaction"]]
        suspects = given.count(SUSPECT)
        assert 1 <= suspects <= 2
        assert given[:suspects] == [SUSPECT] * suspects
        assert len(set(terms)) == len(terms)
        drugs[len(given)] += 1
        reactions[len(terms)] += 1
        roles.update(given)
    assert sorted(drugs) == [1, 2, 3, 4, 5, 6]
    assert sorted(reactions) == [1, 2, 3, 4]
    assert 0 < roles["3"] < 0.02 * roles.total()
    assert set(roles) == {"1", "2", "3"}


def test_every_drug_names_its_substance_in_one_way_or_another(reports):
    ways = Counter[tuple[bool, bool]]()
    for report in reports[:5000]:
        for drug in report["patient"]["drug"]:
            active, generic = drug.get("activesubstance"), drug.get("openfda")
            name = drug["medicinalproduct"].strip().removesuffix(".").upper()
            if active:
                name = active["activesubstancename"]
            elif generic:
                (name,) = generic["generic_name"]
            assert name == SUBSTANCE_OF[drug["medicinalproduct"]]
            ways[bool(active), bool(generic)] += 1
    assert len(ways) == 4


def test_ages_are_often_missing_seldom_implausible_and_in_every_unit(reports):
    patients = [report["patient"] for report in reports]
    assert sum("patientonsetage" not in patient for patient in patients) / len(patients) == pytest.approx(
        0.15, abs=0.02
    )
    units = Counter(patient.get("patientonsetageunit") for patient in patients if "patientonsetage" in patient)
    assert set(units) == {"800", "801", "802", "803", "804", "805", None}
    assert units["801"] > 0.8 * units.total()
    years = [int(patient["patientonsetage"]) for patient in patients if patient.get("patientonsetageunit") == "801"]
    assert 0 < sum(not 0 <= age <= 120 for age in years) < 0.01 * len(years)
    assert {patient.get("patientsex") for patient in patients} == {"0", "1", "2", None}


def test_a_death_is_serious_and_has_a_place_of_its_own(reports):
    deaths = [report for report in reports if "patientdeath" in report["patient"]]
    assert 0.02 < len(deaths) / len(reports) < 0.15
    for report in reports:
        is_death = "patientdeath" in report["patient"]
        assert (report.get("seriousnessdeath") == "1") == is_death
        assert report["serious"] == "1" or not is_death
        if any(reaction["reactionmeddrapt"] == "DEATH" for reaction in report["patient"]["reaction"]):
            assert is_death
    formats = {report["patient"]["patientdeath"]["patientdeathdateformat"] for report in deaths}
    assert formats == {"102", None}


def test_some_reports_are_as_those_of_old(reports):
    old = [report for report in reports if "safetyreportversion" not in report]
    assert 0.01 < len(old) / len(reports) < 0.05
    assert all(report["receiver"] is None and "-" in report["safetyreportid"] for report in old)
    assert all(report["receiver"] for report in reports if "safetyreportversion" in report)


def test_dates_are_written_as_their_formats_say(reports):
    lengths = {"102": 8, "610": 6, "602": 4}
    formats = Counter(report["transmissiondateformat"] for report in reports)
    assert set(formats) == set(lengths)
    assert formats["102"] > 0.9 * len(reports)
    for report in reports:
        for name in ("transmissiondate", "receivedate", "receiptdate"):
            assert len(report[name]) == lengths[report[f"{name}format"]]
    earlier = [report["receivedate"] <= report["receiptdate"] for report in reports]
    assert 0.98 < sum(earlier) / len(earlier) < 1


def test_the_past_is_spread_over_the_time_that_it_covers():
    made = historical(2000, spacing=timedelta(days=1), **CONSTANTS)
    dates = {json.loads(event.body)["receiptdate"] for event in made}
    assert (min(dates), max(dates)) == ("20240501", "20240808")
    assert len(dates) == 100


def test_live_reports_have_the_receipt_date_of_the_day_on_which_they_are_due():
    start = datetime(2024, 5, 1, 23, 59, tzinfo=UTC)
    for event in adverse_events(start=start, rate=50.0, seconds=120, gaps=0, late=0, repeats=0, variations=0):
        report = json.loads(event.body)
        assert event.due is not None
        due = datetime.fromtimestamp(event.due, UTC)
        assert report["receiptdate"] == due.strftime("%Y%m%d")
        assert report["receivedate"] <= report["receiptdate"]


def test_runs_that_begin_one_after_the_other_share_no_number():
    numbers = [
        {event.key for event in adverse_events(start=START + timedelta(seconds=later), rate=100.0, seconds=10)}
        for later in (0, 10)
    ]
    assert not numbers[0] & numbers[1]


def test_about_one_event_in_twenty_is_a_later_version(reports):
    later = [report for report in reports if int(report.get("safetyreportversion", 1)) > 1]
    assert 0.03 < len(later) / len(reports) < 0.07


def test_a_later_version_says_at_least_what_the_one_before_said(reports):
    versions = defaultdict(list)
    for report in reports:
        versions[report["safetyreportid"]].append(report)
    followed = [each for each in versions.values() if len(each) > 1]
    assert len(followed) > 500
    grown = 0
    for one, other in (pair for each in followed for pair in pairwise(each)):
        assert int(one["safetyreportversion"]) < int(other["safetyreportversion"])
        assert one["receiptdate"] <= other["receiptdate"]
        assert one["receivedate"] == other["receivedate"]
        for name in ("reaction", "drug"):
            before, after = one["patient"][name], other["patient"][name]
            assert after[: len(before)] == before
        grown += one["patient"] != other["patient"]
    assert grown > 400


def test_late_versions_come_after_those_that_follow_them():
    newest: dict[str, int] = {}
    overtaken = 0
    for event in historical(20_000, late=0.01, repeats=0, variations=0):
        report = json.loads(event.body)
        version = int(report.get("safetyreportversion", 0))
        before = newest.get(event.key, 0)
        if version < before:
            assert event.label == "late"
            overtaken += 1
        newest[event.key] = max(version, before)
    assert 100 < overtaken < 250


def test_no_version_comes_twice_but_by_repetition(mixed):
    seen: dict[tuple[str, str, str], bytes] = {}
    for event in mixed:
        if event.label not in ("clean", "late", "repeat"):
            continue
        identity = identity_of(event)
        assert (identity in seen) == (event.label == "repeat")
        assert seen.setdefault(identity, event.body) == event.body


def test_a_contradiction_has_the_key_of_what_it_contradicts(mixed):
    accepted: set[tuple[str, str, str]] = set()
    conflicts = 0
    for event in mixed:
        if event.label in ("clean", "late"):
            accepted.add(identity_of(event))
        elif event.label == "conflict":
            assert identity_of(event) in accepted
            assert json.loads(event.body)["safetyreportid"] == event.key
            conflicts += 1
    assert conflicts > 50


def test_other_valid_forms_of_a_report_all_occur():
    made = [json.loads(event.body) for event in historical(3000, variations=1, repeats=0, late=0)]
    patients = [report["patient"] for report in made]
    assert any(next(iter(report)) not in ("safetyreportversion", "safetyreportid") for report in made)
    assert any("literaturereference" in report for report in made)
    assert any("receiptdate" not in report for report in made)
    assert any(report.get("companynumb", "") is None for report in made)
    assert any("reaction" not in patient for patient in patients)
    assert any(patient["drug"] == [] for patient in patients)
    assert any(not any("openfda" in drug for drug in patient["drug"]) for patient in patients)


def test_the_stream_does_with_every_event_what_its_label_says(mixed):
    outcome = process_bodies(*(event.body for event in mixed), contract=CONTRACT)
    assert outcome.silver.height == sum(event.accepted for event in mixed)
    assert outcome.duplicates["duplicates"].sum() == sum(event.duplicates for event in mixed)
    reasons = Counter[str]()
    for event in mixed:
        reasons.update({event.reason: event.quarantined} if event.quarantined else {})
    assert Counter(outcome.quarantine["reason"]) == reasons


@pytest.mark.slow
def test_the_planted_associations_can_be_found_and_nothing_else_looks_like_one():
    made = historical(200_000, patients=100)
    suspects, reactions = matrices(made)
    with np.errstate(divide="ignore"):
        both, ratio, is_signal = disproportionality(suspects, reactions)
    names = [each.name for each in SUBSTANCES]
    planted = np.zeros(both.shape, dtype=bool)
    for substance, reaction in PLANTED:
        planted[names.index(substance), REACTIONS.index(reaction)] = True
    assert is_signal[planted].all()
    assert 4 <= ratio[planted].min() <= ratio[planted].max() <= 8
    assert ((both >= 100) & ~planted).sum() >= 2000
    assert not is_signal[~planted].any()
    assert ratio[~planted].max() < 2


def matrices(made: list[Event]) -> tuple[np.ndarray, np.ndarray]:
    """Of the latest version of each report, which substances are suspect and which reactions there are."""
    numbers = {each.name: place for place, each in enumerate(SUBSTANCES)}
    terms = {term: place for place, term in enumerate(REACTIONS)}
    latest: dict[str, tuple[int, list[int], list[int]]] = {}
    for event in made:
        report = json.loads(event.body)
        version = int(report.get("safetyreportversion", 0))
        if version >= latest.get(event.key, (0, [], []))[0]:
            drugs, found = report["patient"]["drug"], report["patient"].get("reaction", [])
            suspects = [numbers[SUBSTANCE_OF[d["medicinalproduct"]]] for d in drugs if d["drugcharacterization"] == "1"]
            latest[event.key] = (version, suspects, [terms[each["reactionmeddrapt"]] for each in found])
    shape = (len(latest), len(SUBSTANCES)), (len(latest), len(REACTIONS))
    suspect, reaction = (np.zeros(each, dtype=np.float32) for each in shape)
    for row, (_, of_drugs, of_terms) in enumerate(latest.values()):
        suspect[row, of_drugs] = 1
        reaction[row, of_terms] = 1
    return suspect, reaction


def disproportionality(suspect: np.ndarray, reaction: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each substance and reaction the reports of both, the PRR, and whether all criteria call it a signal."""
    a = (suspect.T @ reaction).astype(float)
    b = suspect.sum(axis=0)[:, None] - a
    c = reaction.sum(axis=0)[None, :] - a
    n = len(suspect)
    d = n - a - b - c
    prr = a / (a + b) / (c / (c + d))
    chi2 = n * np.maximum(abs(a * d - b * c) - n / 2, 0) ** 2 / ((a + b) * (c + d) * (a + c) * (b + d))
    lower = np.exp(np.log(a * d / (b * c)) - 1.96 * np.sqrt(1 / a + 1 / b + 1 / c + 1 / d))
    expected = (a + b) * (a + c) / n
    ic025 = np.log2((a + 0.5) / (expected + 0.5)) - 3.3 * (a + 0.5) ** -0.5 - 2 * (a + 0.5) ** -1.5
    return a, prr, (prr >= 2) & (chi2 >= 4) & (a >= 3) & (lower > 1) & (ic025 > 0)
