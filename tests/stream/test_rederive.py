"""All of a stream's tables made anew from bronze beside the old ones, and swapped."""

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
from assets.stream.rebuild import NotCaughtUpError
from assets.stream.rederive import derive, redate, swap
from assets.stream.session import ClockError
from assets.stream.store import StreamStore
from resources.lake import ConcurrentWriteError, Lake, LakeTable, SchemaError
from tests.stream.hubs import MemoryPublisher
from tests.stream.scenarios import NOON, body, hub_with, lake_in, reading, run_session, ticking, troubled_bodies
from tests.stream.tables import assert_exact, everything, rows
from tests.stream.test_outlet import NOT_WAITING, AwayPublisher
from tests.stream.test_rebuild import three_days

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


def test_a_swap_while_alerts_wait_is_refused(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    run_session(lake, hub_with([body(reading(0, 300))]), publisher=AwayPublisher(), limits=NOT_WAITING)
    derive(CONTRACT, lake)
    with pytest.raises(NotCaughtUpError, match="alerts wait for the alerts hub"):
        swap(CONTRACT, lake)


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
    assert redate(CONTRACT, lake, today) == 44
    assert redate(CONTRACT, lake, today) == 0
    rederive(CONTRACT, lake)
    run_session(lake, hub, clock=ticking(today + timedelta(seconds=1)))
    assert rows(lake, "bronze")["ingest_date"].unique().to_list() == [NOON.date()]
    assert_exact(lake, hub)
