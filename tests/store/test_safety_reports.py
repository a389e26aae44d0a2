"""Safety reports in the store: the current version of each, with its drugs and reactions."""

from datetime import date, timedelta
from typing import Any

import polars as pl
import pytest

import assets.store_sync as store_sync
from assets.store_sync import StoreSync
from assets.sync.feed import version_key
from assets.sync.safety_reports import NAME_CHARACTERS, name_of
from tests.store.values import DAY, NEXT_DAY, NOON, REPORTS

TABLES = REPORTS.contract.tables


def report(name: str, version: int | None, number: int, drugs, reactions, day: date = DAY, **values: Any):
    """A version of a report: its row in silver and those of its drugs and reactions."""
    at = NOON + timedelta(minutes=number)
    position = {
        "safetyreportid": name,
        "safetyreportversion": version,
        "received_at": at,
        "partition": 0,
        "sequence_number": number,
        "event_index": 0,
        "event_date": NOON.date(),
        "ingest_date": day,
    }
    flags = {each: False for each in TABLES.silver.schema if each.startswith("seriousness")}
    whole = (
        position
        | flags
        | {
            "measured_at": NOON,
            "transmissiondate": date(2026, 11, 1),
            "serious": True,
            "patientonsetage": 61,
            "patientsex": 2,
            "drug_count": len(drugs),
            "reaction_count": len(reactions),
            "content": "x",
        }
    )
    return (
        whole | values,
        [position | {"drug_number": place, "drug_name": each} for place, each in enumerate(drugs)],
        [
            position | {"reaction_number": place, "reactionmeddrapt": each, "is_overdose": "overdose" in (each or "")}
            for place, each in enumerate(reactions)
        ],
    )


def add(lake, reports, **transactions: int) -> None:
    rows = {
        "drugs": [each for _, drugs, _ in reports for each in drugs],
        "reactions": [each for _, _, reactions in reports for each in reactions],
        "silver": [whole for whole, _, _ in reports],
    }
    for role, of_role in rows.items():
        table = lake.table(TABLES[role]).create()
        table.append(pl.DataFrame(of_role, schema=table.table.schema), transactions=transactions)


def stored(store) -> list[tuple[Any, ...]]:
    columns = ["safetyreportid", "drug_name", "reactionmeddrapt", "is_overdose", "safetyreportversion"]
    found = [each for rows in store.rows("PatientAdverseEventReport", columns) for each in rows.iter_rows()]
    return sorted(found, key=lambda each: tuple(str(value) for value in each))


@pytest.fixture
def sync(lake, store) -> StoreSync:
    return StoreSync(lake, store, clock=lambda: NOON)


def test_a_report_has_a_row_for_each_pair_of_a_drug_and_a_reaction(sync, lake, store):
    add(lake, [report("a", 1, 1, ["X", "Y", "X"], ["headache", "drug overdose"])])
    sync.catch_up(REPORTS)
    assert stored(store) == [
        ("a", "X", "drug overdose", True, 1),
        ("a", "X", "headache", False, 1),
        ("a", "Y", "drug overdose", True, 1),
        ("a", "Y", "headache", False, 1),
    ]
    assert sync.compare(REPORTS, DAY).is_equal


def test_a_later_version_replaces_the_rows_and_an_earlier_one_does_not(sync, lake, store):
    add(lake, [report("a", 2, 1, ["X"], ["headache"]), report("b", None, 2, ["X"], [None])])
    sync.catch_up(REPORTS)
    add(lake, [report("a", 1, 3, ["Z"], ["nausea"], NEXT_DAY), report("b", 1, 4, [None], ["rash"], NEXT_DAY)])
    sync.catch_up(REPORTS)
    assert stored(store) == [("a", "X", "headache", False, 2), ("b", None, "rash", False, 1)]
    assert sync.compare(REPORTS, DAY).is_equal
    assert sync.compare(REPORTS, NEXT_DAY).is_equal


def test_a_version_without_drugs_removes_the_rows(sync, lake, store):
    add(lake, [report("a", 1, 1, ["X"], ["headache"])])
    sync.catch_up(REPORTS)
    add(lake, [report("a", 2, 2, [], ["headache"])])
    sync.catch_up(REPORTS)
    assert stored(store) == []
    # And it is still known that version 1 is old.
    add(lake, [report("a", 1, 3, ["X"], ["headache"])])
    sync.catch_up(REPORTS)
    assert stored(store) == []


def test_letters_of_names_are_told_apart(sync, lake, store):
    add(lake, [report("a", 1, 1, ["x", "X"], ["é", "e"]), report("A", 1, 2, ["x"], ["e"])])
    sync.catch_up(REPORTS)
    assert len(stored(store)) == 5
    add(lake, [report("A", 2, 3, ["y"], ["e"])])
    sync.catch_up(REPORTS)
    assert len(stored(store)) == 5
    assert sync.compare(REPORTS, DAY).is_equal


def test_all_of_it_is_written_again_after_a_replacement(sync, lake, store, monkeypatch):
    monkeypatch.setattr(store_sync, "PORTION_ROWS", 4)
    add(lake, [report(f"r{number}", 1, number, ["X", "Y"], ["headache"]) for number in range(12)])
    sync.catch_up(REPORTS)
    assert len(stored(store)) == 24
    silver = lake.table(TABLES.silver)
    kept = silver.scan().filter(pl.col("sequence_number") >= 5).collect()
    silver.replace([kept], f"ingest_date = '{DAY}'", transactions={"adverse_events/replaced": 1})
    sync.catch_up(REPORTS)
    assert {each[0] for each in stored(store)} == {f"r{number}" for number in range(5, 12)}
    assert sync.compare(REPORTS, DAY).is_equal


def test_the_view_has_what_the_original_kept(sync, lake, store):
    add(lake, [report("a", 1, 1, ["X"], ["e"]), report("b", 1, 2, ["X"], ["e"], serious=False)])
    add(lake, [report("c", 1, 3, ["X"], ["e"], serious=None)])
    sync.catch_up(REPORTS)
    assert store.query("SELECT safetyreportid FROM SeriousPatientAdverseEventReport") == [("a",)]


def test_versions_are_ordered_as_the_contract_orders_them():
    low, high = -(2**63), 2**63 - 1
    rows = [
        report("a", version, number, [], [], measured_at=NOON + timedelta(days=days))[0] | {"hub_epoch": epoch}
        for version, days, epoch, number in [
            (None, 0, None, 1),
            (None, 0, None, 10),
            (None, 0, 1, 2),
            (None, 5, 0, 0),
            (low, -20_000, 0, 0),
            (low, -1, 0, 0),
            (-1, 0, 0, 0),
            (0, 0, 0, 0),
            (9, 0, 0, 0),
            (10, 0, 0, 0),
            (high, 0, 0, 0),
        ]
    ]
    keys = pl.DataFrame(rows, schema=TABLES.silver.schema).select(version_key(REPORTS.contract)).to_series()
    assert keys.to_list() == sorted(set(keys))
    assert max(map(len, keys)) <= 191


def test_long_ids_stay_apart():
    long = ["x" * NAME_CHARACTERS, "x" * (NAME_CHARACTERS + 1), "x" * 500, "x" * 499 + "y"]
    names = pl.DataFrame({"id": long}).select(name_of(pl.col("id"))).to_series()
    assert names[0] == long[0]
    assert names.n_unique() == 4
    assert max(map(len, names)) <= 191
