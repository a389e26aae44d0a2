"""All of a stream's tables made anew from bronze beside the old ones, and swapped."""

import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import dataframely as dy
import polars as pl
import pytest

from assets.glucose.assets import CONTRACT, GOLD
from assets.glucose.contract import GlucoseAlerts, GlucoseReadings
from assets.stream import rederive as rederive_module
from assets.stream.contract import Contract, Rule
from assets.stream.log import REDERIVED
from assets.stream.process import Outcome
from assets.stream.rederive import derive, redate, swap
from assets.stream.session import ClockError
from assets.stream.store import StreamStore
from resources.lake import ConcurrentWriteError, Lake, LakeTable, SchemaError
from tests.stream.hubs import MemoryPublisher
from tests.stream.scenarios import NOON, body, hub_with, lake_in, reading, run_session, ticking, troubled_bodies
from tests.stream.tables import assert_exact, everything, rows
from tests.stream.test_outlet import NOT_WAITING, AwayPublisher, ids
from tests.stream.test_rebuild import three_days

pytestmark = pytest.mark.slow

DAY = timedelta(days=1)


def whole(decoded: pl.DataFrame) -> pl.DataFrame:
    return CONTRACT.clean(decoded).with_columns(pl.col("glucose_mg_dl").cast(pl.Int64))


def with_whole_readings(rows: type[dy.Schema]) -> type[dy.Schema]:
    """Rows as an earlier version had them."""
    return type(f"Whole{rows.__name__}", (rows,), {"glucose_mg_dl": dy.Int64(nullable=False), "__doc__": rows.__doc__})


OLD = replace(
    CONTRACT, silver=with_whole_readings(GlucoseReadings), alerts=with_whole_readings(GlucoseAlerts), clean=whole
)


def rederive(contract: Contract, lake: Lake) -> None:
    derive(contract, lake)
    swap(contract, lake)


def test_tables_made_anew_have_the_rows_that_streaming_wrote_and_sessions_go_on(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    hub = three_days(lake)
    streamed = everything(lake)
    rederive(CONTRACT, lake)
    assert everything(lake) == streamed
    assert not (tmp_path / "lake/rederived").exists() or not any((tmp_path / "lake/rederived").rglob("*.parquet"))
    hub.send(troubled_bodies(40, seed=9), NOON + 3 * DAY)
    run_session(lake, hub, clock=ticking(NOON + 3 * DAY))
    assert_exact(lake, hub)


def test_a_type_that_changed_stops_the_stream_keeps_bronze_going_and_is_mended_without_a_loss(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), hub_with([body(reading(minute, 7.0 + 100 + minute)) for minute in range(5)])
    run_session(lake, hub, contract=OLD)
    before = rows(lake, "silver", OLD)
    hub.send([body(reading(10, 107.9)), body(reading(11, 300.6))], NOON)
    with pytest.raises(SchemaError, match=r"alerts/glucose_readings.*glucose_mg_dl.*long.*double.*rederive"):
        run_session(lake, hub, clock=ticking(NOON + timedelta(minutes=1)))
    assert rows(lake, "silver", OLD).equals(before)
    assert rows(lake, "bronze").height == 7
    rederive(CONTRACT, lake)
    assert {107.9, 300.6} <= {*rows(lake, "silver")["glucose_mg_dl"]}
    assert run_session(lake, hub, clock=ticking(NOON + timedelta(minutes=2))).events == 0
    assert_exact(lake, hub)


def test_a_new_rule_holds_for_all_of_history_and_publishes_nothing(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), hub_with([body(reading(minute, 100)) for minute in range(5)])
    run_session(lake, hub)
    stricter = replace(CONTRACT, rules=(*CONTRACT.rules, Rule("glucose_any", "glucose_mg_dl", "above", 1.0, "warning")))
    rederive(stricter, lake)
    assert rows(lake, "alerts")["rule"].to_list().count("glucose_any") == 5
    publisher = MemoryPublisher()
    run_session(lake, hub, contract=stricter, publisher=publisher, clock=ticking(NOON + timedelta(minutes=1)))
    assert publisher.published == []


def test_a_killed_run_goes_on_where_it_was_and_one_of_other_code_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = lake_in(tmp_path)
    three_days(lake)
    monkeypatch.setattr("assets.stream.store.CHUNK_READINGS", 60)
    commit, committed = StreamStore.commit, list[int]()

    def dying(self: StreamStore, outcomes: list[Outcome], **options: object) -> None:
        committed.append(sum(outcome.bronze.height for outcome in outcomes))
        if len(committed) == 3:
            raise KeyboardInterrupt
        commit(self, outcomes, **options)  # type: ignore[arg-type]

    whole_bronze, streamed = rows(lake, "bronze").height, everything(lake)
    monkeypatch.setattr(StreamStore, "commit", dying)
    with pytest.raises(KeyboardInterrupt):
        derive(CONTRACT, lake)
    done = sum(committed[:2])
    derive(CONTRACT, lake)
    assert sum(committed[3:]) == whole_bronze - done
    count = len(committed)
    monkeypatch.setattr(rederive_module, "_code_of", lambda _: 4711)
    derive(CONTRACT, lake)
    assert sum(committed[count:]) == whole_bronze
    swap(CONTRACT, lake)
    assert everything(lake) == streamed


@pytest.mark.parametrize("role", ["alerts", "quarantine", "silver"])
def test_a_swap_that_dies_between_two_tables_is_completed_by_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    lake = lake_in(tmp_path)
    hub = three_days(lake)
    derive(CONTRACT, lake)
    adopt = LakeTable.adopt

    def dying(self: LakeTable, *arguments: object, **options: object) -> None:
        if self.table.layer == role:
            raise KeyboardInterrupt
        adopt(self, *arguments, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(LakeTable, "adopt", dying)
        with pytest.raises(KeyboardInterrupt):
            swap(CONTRACT, lake)
    assert_exact(lake, hub)
    hub.send(troubled_bodies(30, seed=4), NOON + 3 * DAY)
    run_session(lake, hub, clock=ticking(NOON + 3 * DAY))
    rederive(CONTRACT, lake)
    assert_exact(lake, hub)
    store = StreamStore(CONTRACT, lake)
    store.look()
    assert store.log.of("bronze")[store.log.id(REDERIVED)] == 0


def test_a_session_that_writes_during_the_swap_is_ended_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, hub = lake_in(tmp_path), hub_with(troubled_bodies(60), take=5)
    run_session(lake, hub)
    hub.send(troubled_bodies(60, seed=2), NOON)
    derive(CONTRACT, lake)
    swapped: list[int] = []

    def swap_meanwhile() -> bool:
        if len(swapped) < 3:
            swapped.append(1)
            if len(swapped) == 3:
                swap(CONTRACT, lake)
        return False

    with pytest.raises(ConcurrentWriteError):
        run_session(lake, hub, clock=ticking(NOON + timedelta(minutes=1)), should_stop=swap_meanwhile)
    run_session(lake, hub, clock=ticking(NOON + timedelta(minutes=2)))
    assert_exact(lake, hub)


def test_alerts_that_wait_while_tables_are_swapped_are_sent_afterwards(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), hub_with([body(reading(0, 90))], partitions=1)
    published, sent = MemoryPublisher(), MemoryPublisher()
    run_session(lake, hub, publisher=published)
    hub.send([body(reading(minute, 300)) for minute in range(1, 4)], NOON)
    run_session(lake, hub, publisher=AwayPublisher(), limits=NOT_WAITING, clock=ticking(NOON + timedelta(minutes=1)))
    rederive(CONTRACT, lake)
    run_session(lake, hub, publisher=sent, clock=ticking(NOON + timedelta(minutes=2)))
    assert sorted(ids(published) + ids(sent)) == sorted(rows(lake, "alerts")["alert_id"])
    assert not StreamStore(CONTRACT, lake).has_unpublished()
    assert_exact(lake, hub)


@pytest.mark.parametrize("is_gap", [False, True], ids=["of this outage", "of an outage that is over"])
def test_alerts_that_wait_in_a_table_that_does_not_fit_hold_up_neither_bronze_nor_the_remedy(
    tmp_path: Path, is_gap: bool
) -> None:
    lake, hub = lake_in(tmp_path), hub_with([body(reading(minute, 300)) for minute in range(5)], partitions=1)
    run_session(lake, hub, contract=OLD, publisher=AwayPublisher(), limits=NOT_WAITING)
    if is_gap:
        store = StreamStore(OLD, lake)
        store.look()
        store.waiting.reopen()
    hub.send([body(reading(minute, 301)) for minute in range(10, 20)], NOON)
    with pytest.raises(SchemaError, match="rederive"):
        run_session(lake, hub, clock=ticking(NOON + timedelta(minutes=1)))
    assert rows(lake, "bronze").height == 15
    rederive(CONTRACT, lake)
    sent = MemoryPublisher()
    run_session(lake, hub, publisher=sent, clock=ticking(NOON + timedelta(minutes=2)))
    assert sorted(ids(sent)) == sorted(rows(lake, "alerts")["alert_id"])
    assert_exact(lake, hub)


@pytest.mark.parametrize("value", [90, 300], ids=["without an alert", "with alerts"])
def test_a_session_that_is_faster_than_a_swap_makes_it_try_again_and_leaves_no_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: int
) -> None:
    lake, hub = lake_in(tmp_path), hub_with([body(reading(minute, 300)) for minute in range(5)], partitions=1)
    run_session(lake, hub)
    derive(CONTRACT, lake)
    swap_once, raced = rederive_module._swap, list[int]()

    def racing(store: StreamStore, *arguments: object) -> None:
        if len(raced) < 2:
            raced.append(1)
            hub.send([body(reading(20 + len(raced), value))], NOON)
            run_session(lake, hub, clock=ticking(NOON + timedelta(minutes=len(raced))))
        swap_once(store, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(rederive_module, "_swap", racing)
    swap(CONTRACT, lake)
    run_session(lake, hub, clock=ticking(NOON + timedelta(minutes=5)))
    assert_exact(lake, hub)
    silver = CONTRACT.tables.silver
    files = {Path(uri).name for uri in lake.table(silver).delta().file_uris()}
    found = {each.name for each in (tmp_path / "lake" / silver.name).rglob("*.zstd.parquet")}
    assert {name for name in found if "-c000" not in name} <= files


def test_a_swap_that_is_refused_each_time_leaves_no_copies_and_what_was_derived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise ConcurrentWriteError("faster")

    lake = lake_in(tmp_path)
    three_days(lake)
    derive(CONTRACT, lake)
    silver = tmp_path / "lake" / CONTRACT.tables.silver.name
    before = set(silver.rglob("*.parquet"))
    with monkeypatch.context() as patched:
        patched.setattr(rederive_module, "_swap", refused)
        with pytest.raises(ConcurrentWriteError):
            swap(CONTRACT, lake)
    assert set(silver.rglob("*.parquet")) == before
    assert any((tmp_path / "lake" / "rederived").rglob("*.parquet"))


def test_a_table_that_was_removed_is_there_again_after_a_swap(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), hub_with(troubled_bodies(40))
    run_session(lake, hub)
    shutil.rmtree(tmp_path / "lake" / CONTRACT.tables.quarantine.name)
    rederive(CONTRACT, lake)
    assert_exact(lake, hub)


def test_gold_follows_tables_that_were_made_anew(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), hub_with(troubled_bodies(60))
    run_session(lake, hub)
    daily = GOLD[0]
    daily.refresh(lake, list(daily.pending(lake)))
    assert not daily.pending(lake)
    rederive(CONTRACT, lake)
    assert set(daily.pending(lake)) == set(rows(lake, "silver")["event_date"])


def test_events_of_a_clock_that_was_ahead_move_to_today_and_the_stream_goes_on(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), hub_with(troubled_bodies(40), take=6)
    run_session(lake, hub)
    hub.send(troubled_bodies(40, seed=2), NOON)
    run_session(lake, hub, clock=ticking(NOON + 30 * DAY))
    hub.send(troubled_bodies(40, seed=3), NOON)
    today = NOON + timedelta(hours=1)
    with pytest.raises(ClockError, match="rederive glucose_readings"):
        run_session(lake, hub, clock=ticking(today))
    derive(CONTRACT, lake)
    assert redate(CONTRACT, lake, today) == 44
    assert redate(CONTRACT, lake, today) == 0
    rederive(CONTRACT, lake)
    run_session(lake, hub, clock=ticking(today + timedelta(seconds=1)))
    assert rows(lake, "bronze")["ingest_date"].unique().to_list() == [NOON.date()]
    assert_exact(lake, hub)
