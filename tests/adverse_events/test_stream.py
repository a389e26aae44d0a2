"""Child tables and versions in sessions: committed before silver, exact after any crash, rebuilt, asked by SQL."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from assets.adverse_events.assets import CONTRACT
from assets.stream.checks import evaluate
from assets.stream.rebuild import rebuild
from assets.stream.rederive import derive, swap
from assets.stream.store import StreamStore
from orchestration.asking import analytics
from resources.lake import Lake, LakeTable
from resources.settings import Settings
from tests.adverse_events.reports import Report, bodies, current, report, some_reports
from tests.stream.hubs import MemoryHub
from tests.stream.scenarios import AT_THE_END, EAGER, NOON, lake_in, run_session

pytestmark = pytest.mark.slow

NOTHING_LOST = b'{"safetyreportid": "1", "patient": {}, "receiptdate": "20260101"}'
WRITTEN = [output.role for output in CONTRACT.outputs if output.role != "alerts"]


def hub_of(sent: list[Report], take: int = 40) -> MemoryHub:
    hub = MemoryHub("adverse_events", partitions=2, take=take)
    for number, body in enumerate([*bodies(sent), NOTHING_LOST]):
        hub.send([body], NOON, number % 2)
    return hub


def tables(lake: Lake) -> dict[str, list[str]]:
    """All rows by role, but for the moment at which they were pulled."""
    store = StreamStore(CONTRACT, lake)
    found = {role: table.scan().drop("pulled_at", strict=False).collect() for role, table in store.tables.items()}
    return {role: sorted(map(str, rows.rows())) for role, rows in found.items()}


def unsound(lake: Lake) -> list[str]:
    findings = evaluate(StreamStore(CONTRACT, lake), NOON.date(), NOON)
    assert {finding.name for finding in findings} >= {"parents_exist", "counts_match_parents"}
    return [f"{finding.table}:{finding.name}" for finding in findings if not finding.passed and finding.is_error]


@pytest.mark.parametrize("role", WRITTEN)
@pytest.mark.parametrize("is_before", [True, False])
def test_a_crash_at_any_commit_leaves_every_table_exact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: str, is_before: bool
) -> None:
    sent = some_reports(100, 7)
    right = lake_in(tmp_path / "right")
    run_session(right, hub_of(sent), contract=CONTRACT, limits=EAGER)
    lake, hub, append = lake_in(tmp_path), hub_of(sent), LakeTable.append
    left = [2]

    def crashing(table: LakeTable, frame: pl.DataFrame, **options: Any) -> int:
        if table.name != CONTRACT.tables[role].name or frame.is_empty() or left[0] == 0:
            return append(table, frame, **options)
        left[0] -= 1
        written = 0 if is_before or left[0] else append(table, frame, **options)
        if left[0] == 0:
            raise ConnectionError("the process dies")
        return written or append(table, frame, **options)

    monkeypatch.setattr(LakeTable, "append", crashing)
    with pytest.raises(ConnectionError):
        run_session(lake, hub, contract=CONTRACT, limits=EAGER)
    monkeypatch.undo()
    run_session(lake, hub, contract=CONTRACT, limits=EAGER)
    assert tables(lake) == tables(right)
    assert unsound(lake) == []


def test_a_rebuild_and_a_rederive_give_the_rows_of_the_session(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    run_session(lake, hub_of(some_reports(150, 8)), contract=CONTRACT, limits=EAGER)
    before = tables(lake)
    assert rebuild(CONTRACT, lake, NOON.date()).after["drugs"] == len(before["drugs"])
    assert tables(lake) == before
    derive(CONTRACT, lake)
    swap(CONTRACT, lake)
    assert tables(lake) == before
    assert unsound(lake) == []


def test_checks_find_a_child_without_its_parent_and_one_that_is_missing(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    run_session(lake, hub_of([report("1"), report("2")]), contract=CONTRACT, limits=AT_THE_END)
    assert unsound(lake) == []
    drugs = StreamStore(CONTRACT, lake).tables["drugs"]
    rows = drugs.scan().collect()
    drugs.replace([rows.head(1)], None)
    assert unsound(lake) == ["drugs:counts_match_parents"]
    # Of the event behind it, which is in quarantine.
    strayed = rows.with_columns(pl.lit(0, pl.Int64).alias("partition"), pl.lit(1, pl.Int64).alias("sequence_number"))
    drugs.replace([strayed], None)
    assert unsound(lake) == ["drugs:parents_exist", "drugs:counts_match_parents"]


def test_sql_says_which_version_is_current(tmp_path: Path) -> None:
    lake, sent = lake_in(tmp_path), some_reports(200, 9)
    run_session(lake, hub_of(sent), contract=CONTRACT, limits=AT_THE_END)
    asked = analytics(lake, Settings())
    found = asked.query(
        "SELECT safetyreportid, safetyreportversion FROM silver.safety_report_versions WHERE is_current"
    )
    versions = [
        (each["safetyreportid"], int(each["safetyreportversion"]) if "safetyreportversion" in each else None)
        for each in current(sent)
    ]
    assert sorted(found.rows(), key=str) == sorted(versions, key=str)
    all_versions = asked.query("SELECT count(*) AS n FROM silver.safety_reports")["n"].item()
    assert all_versions == len(tables(lake)["silver"]) > len(versions)
    listed = asked.query("SHOW TABLES").rows()
    assert ("silver", "safety_reports") in listed
    assert asked.query("SELECT stream, count(*) AS n FROM silver.all_streams GROUP BY stream").rows() == [
        ("adverse_events", all_versions)
    ]


def test_a_session_that_commits_children_first_is_no_orphan(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), hub_of([report("1")])
    run_session(lake, hub, contract=CONTRACT, limits=AT_THE_END)
    drugs = StreamStore(CONTRACT, lake).tables["drugs"]
    ahead = drugs.scan().collect().with_columns(pl.lit(9, pl.Int64).alias("sequence_number"))
    drugs.append(ahead, transactions={})
    assert unsound(lake) == []


def test_an_integer_that_no_column_holds_costs_its_report_only(tmp_path: Path) -> None:
    lake, huge = lake_in(tmp_path), report("2", patient={"patientsex": -(10**60), "reaction": [{}]})
    run_session(lake, hub_of([report("1"), huge, report("3")]), contract=CONTRACT, limits=EAGER)
    store = StreamStore(CONTRACT, lake)
    assert store.silver.scan().collect()["safetyreportid"].sort().to_list() == ["1", "3"]
    reasons = store.quarantine.scan().collect()["reason"].sort().to_list()
    assert reasons == ["bad_type:patient.patientsex", "no_reaction_and_no_drug"]


def test_repeats_are_found_on_whatever_date_and_in_whatever_session(tmp_path: Path) -> None:
    lake, sent = lake_in(tmp_path), [report(str(number), received=f"20{number:02d}0110") for number in range(10, 26)]
    hub = hub_of(sent)
    run_session(lake, hub, contract=CONTRACT, limits=EAGER)
    for each in bodies(sent):
        hub.send([each], NOON)
    totals = run_session(lake, hub, contract=CONTRACT, limits=EAGER)
    assert totals.duplicates == len(sent)
    assert unsound(lake) == []
