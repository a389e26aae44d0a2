"""From a body to rows: real reports, units of age, dates, what is refused and why, and nested values in any form."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from assets.adverse_events.assets import CONTRACT
from assets.stream.decode import Decoder
from assets.stream.process import Outcome
from tests.adverse_events import reports
from tests.adverse_events.reports import Report, bodies, drug, reaction, report, some_reports
from tests.stream.batches import process_bodies

FIXTURES = Path(__file__).parents[1] / "fixtures"
REAL: list[Report] = json.loads((FIXTURES / reports.FIXTURE).read_text())["results"]


def outcome(*some: bytes) -> Outcome:
    return process_bodies(*some, contract=CONTRACT)


def silver(**more: Any) -> dict[str, Any]:
    """The row of a report with these members."""
    [row] = outcome(*bodies([report(**more)])).silver.to_dicts()
    return row


def reason(body: bytes | Report) -> str:
    found = outcome(body if isinstance(body, bytes) else json.dumps(body).encode())
    assert found.silver.is_empty()
    assert all(found.rows[child.role].is_empty() for child in CONTRACT.children)
    return str(found.quarantine["reason"].item())


def test_real_reports_become_rows() -> None:
    found = outcome(*bodies([*REAL, REAL[0]]))
    assert found.quarantine.is_empty()
    assert found.duplicates["duplicates"].to_list() == [1]
    assert not found.unknown_fields
    first = found.silver.row(0, named=True)
    assert first["safetyreportid"] == "5801206-7"
    assert (str(first["receiptdate"]), str(first["receivedate"])) == ("2008-06-25", "2008-07-07")
    assert (first["serious"], first["seriousnessdeath"], first["age_years"], first["patientsex"]) == (True, True, 26, 1)
    assert found.silver["drug_count"].to_list() == [1, 1, 1, 1, 9]
    assert found.rows["drugs"].filter(pl.col("safetyreportid") == "10003302")["substance"].to_list() == ["PREGABALIN"]
    assert found.rows["reactions"].filter("is_overdose")["reactionmeddrapt"].to_list() == ["OVERDOSE"]


@pytest.mark.parametrize("seed", range(2))
def test_children_are_the_elements_of_the_readings_that_stand(seed: int) -> None:
    sent = some_reports(300, seed)
    found = outcome(*bodies(sent))
    standing = {row["sequence_number"]: sent[row["sequence_number"]] for row in found.silver.to_dicts()}
    drugs = found.rows["drugs"].select("sequence_number", "drug_number", "drug_name", "substance").rows()
    assert drugs == [
        (at, number, one["medicinalproduct"], reports.substance(one))
        for at, each in standing.items()
        for number, one in enumerate(reports.drugs_of(each))
    ]
    terms = found.rows["reactions"].select("sequence_number", "reaction_number", "reactionmeddrapt").rows()
    assert terms == [
        (at, number, one["reactionmeddrapt"])
        for at, each in standing.items()
        for number, one in enumerate(each["patient"]["reaction"])
    ]


@pytest.mark.parametrize(
    ("age", "unit", "years"),
    [
        ("6", "800", 60),
        ("40", "801", 40),
        ("18", "802", 1.5),
        ("52", "803", 52 * 7 / 365.25),
        ("24198", "804", 24198 / 365.25),
        ("48", "805", 2 / 365.25),
        ("40", None, None),
        ("40", "806", None),
        (None, "801", None),
        ("forty", "801", None),
        ("999", "801", None),
        ("-1", "801", None),
        ("NaN", "801", None),
        (" 40 ", "801", 40),
        (40, 801, 40),
        ("1e400", "801", None),
    ],
)
def test_an_age_is_converted_by_its_unit(age: Any, unit: Any, years: float | None) -> None:
    patient = {"patientonsetage": age, "patientonsetageunit": unit, "reaction": [reaction("Rash")]}
    row = silver(patient=patient)
    assert row["age_years"] == (None if years is None else pytest.approx(years))
    given = str(age).strip() if age is not None else ""
    assert row["patientonsetage"] == (int(given) if given.lstrip("-").isdigit() else None)


@pytest.mark.parametrize(
    ("text", "day"), [("20260110", "2026-01-10"), ("202601", "2026-01-01"), ("2026", "2026-01-01")]
)
def test_a_date_may_be_a_day_a_month_or_a_year(text: str, day: str) -> None:
    row = silver(receiptdate=text)
    assert str(row["receiptdate"]) == day
    assert row["measured_at"].isoformat() == f"{day}T00:00:00+00:00"


def test_a_report_without_a_receipt_date_is_dated_by_the_others() -> None:
    row = silver(receiptdate="", receivedate="20260105")
    assert (row["receiptdate"], str(row["measured_at"].date())) == (None, "2026-01-05")
    row = silver(receiptdate=None, receivedate=None)
    assert str(row["measured_at"].date()) == "2026-02-01"


ANY: dict[str, Any] = {"reaction": [reaction("Rash")]}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{", "not_json"),
        (b"7", "not_an_object"),
        ({"patient": ANY, "receiptdate": "20260110"}, "missing_field:safetyreportid"),
        (report(" "), "missing_field:safetyreportid"),
        ({"safetyreportid": "1", "receiptdate": "20260110"}, "missing_field:patient"),
        (report() | {"patient": None}, "missing_field:patient"),
        (report(patient={}), "no_reaction_and_no_drug"),
        (report(patient={"drug": [], "reaction": None}), "no_reaction_and_no_drug"),
        (report(received="2026-01-10"), "bad_timestamp"),
        (report(received="20261340"), "bad_timestamp"),
        (report(received="18991231"), "bad_timestamp"),
        (report(transmissiondate="soon"), "bad_timestamp"),
        (report(receivedate="000"), "bad_timestamp"),
        (report(receiptdate=None, receivedate=None, transmissiondate=None), "missing_field:receiptdate"),
        (report(received="20991231"), "in_the_future"),
        (report(version="one"), "bad_type:safetyreportversion"),
        (report(version="2.7"), "bad_type:safetyreportversion"),
        (report(receivedate="20991231"), "in_the_future"),
        (report(transmissiondate="99991231"), "in_the_future"),
        (report(patient={"drug": [drug("A")] * 400, "reaction": [reaction("R")] * 251}), "too_many_pairs"),
        (report(patient=[]), "bad_type:patient"),
        (report(patient={"drug": {}}), "bad_type:patient.drug"),
        (
            report(patient={"drug": [drug("A"), drug("B") | {"medicinalproduct": ["B"]}]}),
            "bad_type:patient.drug[].medicinalproduct",
        ),
        (report(patient={"reaction": [None]}), "bad_type:patient.reaction[]"),
        (
            report(patient={"drug": [drug("A", openfda={"generic_name": 1})]}),
            "bad_type:patient.drug[].openfda.generic_name",
        ),
        (json.dumps(report(patient={"drug": [drug("\ud800")]})).encode(), "bad_type:patient"),
    ],
)
def test_what_is_refused_says_why(body: bytes | Report, expected: str) -> None:
    assert reason(body) == expected


def test_one_bad_report_costs_no_other() -> None:
    good = some_reports(50, 3)
    found = outcome(*bodies(good[:25]), b'{"safetyreportid": "x", "patient": {"drug": 5}}', *bodies(good[25:]))
    assert Counter(found.quarantine["reason"])["bad_type:patient.drug"] == 1
    assert found.silver.height == outcome(*bodies(good)).silver.height


def test_what_openfda_adds_later_is_no_other_report_and_a_correction_is() -> None:
    first = report(patient=ANY | {"drug": [drug("A")]})
    annotated = report(patient=ANY | {"drug": [drug("A", openfda={"generic_name": ["ALPHA"]})]})
    corrected = report(patient=ANY | {"drug": [drug("B")]})
    found = outcome(*bodies([first, annotated, corrected]))
    assert found.duplicates["duplicates"].to_list() == [1]
    assert found.quarantine["reason"].to_list() == ["conflicting_duplicate"]


@pytest.mark.parametrize(
    ("text", "number"), [("1", 1), (1, 1), ("1.0", 1), ("1.9", None), ("one", None), ("9007199254740993", 2**53 + 1)]
)
def test_a_code_is_a_whole_number_or_unknown(text: Any, number: int | None) -> None:
    found = outcome(*bodies([report(patient={"drug": [drug("A") | {"drugcharacterization": text}]})]))
    assert found.rows["drugs"]["drug_characterization"].to_list() == [number]


def test_values_within_objects_come_out_as_they_are() -> None:
    texts = ['a "b" \\ c', "naïve Ümläut 東京 😀", "line\nbreak\ttab\x00nul\x7f", "", "  "]
    found = outcome(*bodies([report(patient={"drug": [drug(text) for text in texts]})]))
    assert found.rows["drugs"]["drug_name"].to_list() == texts


def test_lists_and_objects_are_decoded_in_any_depth() -> None:
    decoded = Decoder(CONTRACT.payload).decode(bodies([report(), report(patient={"drug": [drug("A", openfda={})]})]))
    patient = decoded.readings["patient"].to_list()
    assert patient[0]["drug"][0]["openfda"] is None
    assert patient[1]["drug"][0]["openfda"] == {"generic_name": None}
    assert patient[1]["reaction"] is None
