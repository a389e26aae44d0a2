"""Gold of adverse events is what a plain evaluation of all current reports says, in whatever order they came."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from assets import versioned
from assets.adverse_events import assets, tables
from assets.adverse_events.assets import CONTRACT, GOLD, SIGNAL_ALERTS
from assets.stream.rebuild import rebuild
from assets.stream.store import StreamStore
from assets.versioned import VersionedGold
from orchestration.system import stream
from orchestration.work import refresh_gold
from resources.lake import Lake
from tests.adverse_events import reports
from tests.adverse_events.reports import Report, bodies, drug, reaction, report, some_reports
from tests.stream.hubs import MemoryHub, MemoryPublisher
from tests.stream.scenarios import AT_THE_END, NOON, lake_in, run_session

pytestmark = pytest.mark.slow

STREAM = stream("adverse_events")
ORIGINAL = list(tables.PatientAdverseEventReport.columns())[:9]


class Registry:
    """Reports that come in parts."""

    def __init__(self, folder: Path) -> None:
        self.lake, self.hub = lake_in(folder), MemoryHub("adverse_events", partitions=1)
        self.sent: list[Report] = []

    def receive(self, some: list[Report], *, refresh: bool = True) -> None:
        self.sent += some
        self.hub.send(bodies(some), NOON)
        run_session(self.lake, self.hub, contract=CONTRACT, limits=AT_THE_END)
        if refresh:
            refresh_gold(STREAM, self.lake)

    def rows(self, table: Any) -> pl.DataFrame:
        found: pl.DataFrame = self.lake.table(table).scan().collect()
        return found

    def counted(self, table: Any, keys: int) -> dict[Any, tuple[int, ...]]:
        return {row[:keys]: row[keys:] for row in self.rows(table).iter_rows()}

    def assert_exact(self) -> None:
        """All of gold equals the plain evaluation."""
        original = self.rows(tables.PATIENT_ADVERSE_EVENT_REPORT)
        assert original.height == original.unique().height
        assert set(original.select(ORIGINAL).rows()) == reports.original_rows(self.sent)
        assert original.height == len(reports.original_rows(self.sent))
        assert self.counted(tables.REACTIONS_BY_DRUG, 2) == reports.by_drug(self.sent)
        assert self.counted(tables.REPORTS_BY_SUBSTANCE, 1) == reports.by_substance(self.sent)
        assert self.counted(tables.REACTIONS_BY_AGE_GROUP, 2) == reports.by_age_group(self.sent)
        trend = self.rows(tables.OVERDOSE_TREND).select(
            "month", "drug_name", *assets.REPORT_COUNTS, "suspect_report_count"
        )
        assert {row[:2]: row[2:] for row in trend.iter_rows()} == reports.overdoses(self.sent)
        signals = self.rows(tables.SAFETY_SIGNALS).select("substance", "reactionmeddrapt", *"abcd")
        assert {row[:2]: row[2:] for row in signals.iter_rows()} == reports.cells(self.sent)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path)


def test_what_is_brought_up_to_date_part_by_part_is_what_all_reports_give(registry: Registry) -> None:
    sent = some_reports(400, seed=1)
    for first, end in ((0, 150), (150, 151), (151, 152), (152, 260), (260, len(sent))):
        registry.receive(sent[first:end])
        registry.assert_exact()
    for gold in GOLD:
        before = registry.rows(gold.table)
        if isinstance(gold, VersionedGold):
            assert not gold.is_pending(registry.lake)
            registry.lake.table(gold.table).replace([], None, transactions=forgotten(registry.lake, gold))
        gold.refresh(registry.lake)
        assert set(registry.rows(gold.table).rows()) == set(before.rows()), gold.table.name


def forgotten(lake: Lake, gold: VersionedGold) -> dict[str, int]:
    """Makes a table's log say that it reflects another state of silver, so that it is made anew."""
    silver = lake.table(CONTRACT.tables.silver).id()
    return {f"reflects/{silver}/replaced": 99}


def test_versions_end_the_same_in_whatever_order_they_come(tmp_path: Path) -> None:
    versions = [
        report("7", "1", "20260110"),
        report("7", "2", "20260112", patient=patient([drug("IBUPROFEN")], ["Rash"])),
        report("7", "2", "20260115", patient=patient([drug("METFORMIN")], ["Nausea"])),
    ]
    found = []
    for number, order in enumerate(([0, 1, 2], [1, 2, 0])):
        registry = Registry(tmp_path / str(number))
        for place in order:
            registry.receive([versions[place]])
        registry.assert_exact()
        assert registry.rows(tables.PATIENT_ADVERSE_EVENT_REPORT)["drug_name"].to_list() == ["METFORMIN"]
        found.append(registry.rows(tables.SIGNAL_COUNTS).sort(pl.all()).rows())
    assert found[0] == found[1]


def test_a_report_that_moves_to_another_month_leaves_the_one_before(registry: Registry) -> None:
    registry.receive([report("1", "1", "20260110"), report("2", "1", "20260110")])
    registry.receive([report("1", "2", "20260112", receivedate="20251231")])
    registry.assert_exact()
    months = registry.rows(tables.PATIENT_ADVERSE_EVENT_REPORT).sort("safetyreportid")["receive_month"]
    assert [str(month) for month in months] == ["2025-12-01", "2026-01-01"]


def test_a_large_report_is_never_multiplied_but_in_the_original_table(registry: Registry) -> None:
    names, terms = [f"DRUG {number}" for number in range(100)], [f"Term {number}" for number in range(100)]
    registry.receive([report(patient=patient([drug(name) for name in names], terms)), report("2")])
    registry.assert_exact()
    stored = {child.role: registry.rows(child.table).height for child in CONTRACT.children}
    assert stored == {"drugs": 101, "reactions": 101}
    assert registry.rows(tables.PATIENT_ADVERSE_EVENT_REPORT).height == 10_001


def test_gold_follows_a_day_that_was_rebuilt(registry: Registry) -> None:
    registry.receive(some_reports(60, 5))
    rebuild(CONTRACT, registry.lake, NOON.date())
    pending = [gold.table.name for gold in GOLD if isinstance(gold, VersionedGold) and gold.is_pending(registry.lake)]
    assert len(pending) == 6
    refresh_gold(STREAM, registry.lake)
    registry.assert_exact()


def test_gold_follows_a_rebuild_that_died_between_the_children_and_their_readings(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.receive([report("1"), report("2")])
    replace_day = StreamStore.replace_day

    def dying(store: StreamStore, role: str, *arguments: Any, **options: Any) -> None:
        if role == "silver":
            raise ConnectionError("the process dies")
        replace_day(store, role, *arguments, **options)

    monkeypatch.setattr(StreamStore, "replace_day", dying)
    with pytest.raises(ConnectionError):
        rebuild(CONTRACT, registry.lake, NOON.date())
    monkeypatch.undo()
    assert all(each.is_pending(registry.lake) for each in GOLD if isinstance(each, VersionedGold))
    rebuild(CONTRACT, registry.lake, NOON.date())
    registry.receive([report("3")])
    registry.assert_exact()


def test_gold_of_other_code_is_made_anew(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.receive([report("1"), report("2")])
    monkeypatch.setattr(versioned, "_code_of", lambda compute: 7)
    assert all(each.is_pending(registry.lake) for each in GOLD if isinstance(each, VersionedGold))
    refresh_gold(STREAM, registry.lake)
    registry.assert_exact()


def test_gold_counts_reports_whose_events_were_removed_from_bronze(registry: Registry) -> None:
    registry.hub = MemoryHub("adverse_events", partitions=2)
    registry.hub.send(bodies([report("1"), report("2")]), NOON, 1)
    registry.receive([report("3")])
    registry.sent += [report("1"), report("2")]
    bronze = registry.lake.table(CONTRACT.tables.bronze)
    bronze.replace([bronze.scan().filter(pl.col("partition") == 0).collect()], None)
    for each in GOLD:
        registry.lake.table(each.table).replace([], None, transactions={})
    rebuild_marks(registry)
    refresh_gold(STREAM, registry.lake)
    registry.assert_exact()


def rebuild_marks(registry: Registry) -> None:
    """Makes silver's log say that rows were replaced, so that gold is made anew."""
    store = StreamStore(CONTRACT, registry.lake)
    store.look()
    store.log.set("silver", store.log.next_replacement(None))


def test_a_new_signal_of_a_later_refresh_is_seen(registry: Registry) -> None:
    registry.receive([report("1")])
    SIGNAL_ALERTS.refresh(registry.lake, lambda: nullcontext(MemoryPublisher()), NOON)
    assert not SIGNAL_ALERTS.is_pending(registry.lake)
    registry.receive([report("2")])
    assert SIGNAL_ALERTS.is_pending(registry.lake)


def test_repeats_alone_write_no_row_of_gold(registry: Registry) -> None:
    registry.receive([report("1"), report("2")])
    versions = {gold.table.name: registry.lake.table(gold.table).files().height for gold in GOLD}
    registry.receive([report("1")], refresh=False)
    assert refresh_gold(STREAM, registry.lake) == {
        gold.table.name: 0 for gold in GOLD if isinstance(gold, VersionedGold)
    }
    assert versions == {gold.table.name: registry.lake.table(gold.table).files().height for gold in GOLD}


def patient(drugs: list[dict[str, Any]], terms: list[str]) -> dict[str, Any]:
    return {"drug": drugs, "reaction": [reaction(term) for term in terms]}
