"""Days made anew from bronze: the rows that streaming wrote, or those that a fixed clean function would have."""

import shutil
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest

from assets.glucose.assets import CONTRACT
from assets.stream import rebuild as rebuild_module
from assets.stream.contract import Rule
from assets.stream.decode import TEXT
from assets.stream.rebuild import NotCaughtUpError, Rebuilt, days_to_replay, rebuild, replay
from assets.stream.store import StreamStore
from resources.lake import ConcurrentWriteError, Lake, LakeTable
from resources.table import Table
from tests.stream.hubs import MemoryHub
from tests.stream.scenarios import (
    AT_THE_END,
    NOON,
    body,
    hub_with,
    lake_in,
    parts,
    reading,
    run_session,
    shuffled,
    ticking,
    troubled_bodies,
)
from tests.stream.tables import assert_exact, assert_follows_bronze, everything, rows

pytestmark = pytest.mark.slow

DAY = timedelta(days=1)
DAYS = [NOON.date() + number * DAY for number in range(3)]


def three_days(lake: Lake) -> MemoryHub:
    """Shuffled readings of a week, in sessions on three days, each of several micro-batches; the lake is new."""
    made, hub = _three_days()
    shutil.copytree(made.name, lake.root)
    return deepcopy(hub)


@cache
def _three_days() -> tuple[TemporaryDirectory[str], MemoryHub]:
    """They are made once, since that takes longer than most of what is done with them."""
    folder = TemporaryDirectory()
    lake = Lake(folder.name)
    bodies = shuffled(
        [*troubled_bodies(240, start=NOON - 6 * DAY), *troubled_bodies(120, seed=2)]
        + [body(reading(minutes, value=100 + minutes, device=device)) for minutes in range(30) for device in (10, 11)]
    )
    hub = MemoryHub(take=9)
    for number, part in enumerate(parts(bodies, len(bodies) // 6 + 1)):
        for partition in (0, 1):
            hub.send(part[partition::2], NOON + number * DAY / 2, partition)
        run_session(lake, hub, limits=AT_THE_END, clock=ticking(NOON + (number // 2) * DAY + (number % 2) * DAY / 4))
    return folder, hub


def test_a_rebuilt_day_has_the_rows_that_streaming_wrote(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    hub = three_days(lake)
    assert_exact(lake, hub)
    streamed = everything(lake)
    counts = {day: StreamStore(CONTRACT, lake).duplicates(day) for day in DAYS}
    for day in (DAYS[1], DAYS[0], DAYS[2], DAYS[2]):
        rebuilt = rebuild(CONTRACT, lake, day)
        assert rebuilt.before == rebuilt.after
        assert rebuilt.new_alerts == 0
        assert everything(lake) == streamed
    assert {day: StreamStore(CONTRACT, lake).duplicates(day) for day in DAYS} == counts
    assert run_session(lake, hub, clock=ticking(NOON + 3 * DAY)).events == 0
    assert_exact(lake, hub)


def test_a_damaged_day_is_restored_and_the_other_days_are_not_touched(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    three_days(lake)
    streamed = everything(lake)
    for table in (CONTRACT.tables.silver, CONTRACT.tables.quarantine, CONTRACT.tables.alerts):
        lake.table(table).delta().delete(f"ingest_date = '{DAYS[1]}'")
    rebuilt = rebuild(CONTRACT, lake, DAYS[1])
    assert rebuilt.before == {"silver": 0, "quarantine": 0, "alerts": 0}
    assert everything(lake) == streamed
    of_day = pl.col("ingest_date") == DAYS[1]
    assert rebuilt.event_dates == tuple(rows(lake, "silver").filter(of_day)["event_date"].unique().sort())
    assert rebuilt.new_alerts == rebuilt.after["alerts"] > 0


def test_a_day_that_bronze_does_not_have_stays_empty(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    run_session(lake, hub_with(troubled_bodies(30)))
    before = everything(lake)
    assert rebuild(CONTRACT, lake, date(2026, 11, 1)).after == {"silver": 0, "quarantine": 0, "alerts": 0}
    assert everything(lake) == before


def strict_clean(decoded: pl.DataFrame) -> pl.DataFrame:
    """The clean function before its fix: values as text are refused."""
    is_text = pl.col("glucose_level" + TEXT).is_not_null()
    return CONTRACT.clean(decoded).with_columns(
        reason=pl.when(is_text).then(pl.lit("bad_type:glucose_level")).otherwise("reason")
    )


BEFORE_THE_FIX = replace(CONTRACT, clean=strict_clean)


def test_a_replay_after_a_fix_moves_readings_from_quarantine_to_silver_and_raises_no_alert_twice(
    tmp_path: Path,
) -> None:
    lake = lake_in(tmp_path)
    hub = hub_with([body(reading(0, "300")), body(reading(1, 200)), b"not json", body(reading(2, "Low"))])
    run_session(lake, hub, contract=BEFORE_THE_FIX)
    old_alerts = set(rows(lake, "alerts")["alert_id"])
    assert rows(lake, "quarantine").height == 3
    assert days_to_replay(BEFORE_THE_FIX, lake) == []
    assert days_to_replay(CONTRACT, lake) == [NOON.date()]
    new: list[str] = []
    rebuild(CONTRACT, lake, NOON.date(), lambda alerts: new.extend(alerts["alert_id"]))
    assert_exact(lake, hub)
    assert rows(lake, "quarantine")["reason"].to_list() == ["not_json"]
    assert rows(lake, "silver").height == 3
    assert old_alerts <= set(rows(lake, "alerts")["alert_id"])
    assert sorted(new) == sorted(set(rows(lake, "alerts")["alert_id"]) - old_alerts)
    assert days_to_replay(CONTRACT, lake) == []


def test_a_replay_reaches_the_days_after_it_whose_readings_repeat_or_follow_what_was_fixed(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    hub = hub_with([body(reading(0, "300"))], partitions=1)
    run_session(lake, hub, contract=BEFORE_THE_FIX)
    hub.send([body(reading(0, 300)), body(reading(5, 101))], NOON + DAY)
    run_session(lake, hub, contract=BEFORE_THE_FIX, clock=ticking(NOON + DAY))
    for day in days_to_replay(CONTRACT, lake):
        rebuild(CONTRACT, lake, day)
    assert_exact(lake, hub)
    assert days_to_replay(CONTRACT, lake) == []


def test_a_replay_publishes_no_alert_that_any_day_held_and_stores_it_once(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), hub_with([body(reading(0, "300"))], partitions=1)
    run_session(lake, hub, contract=BEFORE_THE_FIX)
    hub.send([body(reading(0, 300)), body(reading(5, 101))], NOON + DAY)
    run_session(lake, hub, contract=BEFORE_THE_FIX, clock=ticking(NOON + DAY))
    published = set(rows(lake, "alerts")["alert_id"])
    assert published
    new: list[str] = []
    done = replay(CONTRACT, lake, lambda alerts: new.extend(alerts["alert_id"]))
    assert [each.day for each in done] == DAYS[:2]
    assert published.isdisjoint(new)
    assert sum(each.new_alerts for each in done) == len(new)
    assert rows(lake, "alerts")["alert_id"].is_unique().all()
    assert_exact(lake, hub)


def test_new_alerts_of_a_replay_come_some_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assets.stream.store.CHUNK_READINGS", 10)
    lake = lake_in(tmp_path)
    run_session(lake, hub_with([body(reading(minute, 300)) for minute in range(40)], take=5))
    stricter = replace(CONTRACT, rules=(*CONTRACT.rules, Rule("any", "glucose_mg_dl", "above", 1.0, "urgent")))
    sizes: list[int] = []
    rebuilt = rebuild(stricter, lake, NOON.date(), lambda alerts: sizes.append(alerts.height))
    assert rebuilt.new_alerts == sum(sizes) == 40
    assert max(sizes) <= 10


def test_a_conflicting_duplicate_alone_is_no_reason_to_replay(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    run_session(lake, hub_with([body(reading(0, 100)), body(reading(0, 101))]))
    assert rows(lake, "quarantine")["reason"].to_list() == ["conflicting_duplicate"]
    assert days_to_replay(CONTRACT, lake) == []


@pytest.mark.parametrize("chunk_bytes", [1, 64 << 20])
def test_a_fix_is_found_wherever_in_the_day_its_readings_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int
) -> None:
    monkeypatch.setattr(rebuild_module, "CHUNK_BYTES", chunk_bytes)
    lake, hub = lake_in(tmp_path), MemoryHub(partitions=1)
    for minutes in range(5):
        hub.send([b"not json", body(reading(minutes, "x"), reading(minutes, "y"))], NOON + timedelta(minutes=minutes))
    run_session(lake, hub, contract=BEFORE_THE_FIX)
    assert days_to_replay(BEFORE_THE_FIX, lake) == []
    hub.send([body(reading(20, "x"), reading(21, "300"))], NOON + timedelta(minutes=20))
    run_session(lake, hub, contract=BEFORE_THE_FIX, clock=ticking(NOON + timedelta(minutes=21)))
    assert days_to_replay(BEFORE_THE_FIX, lake) == []
    assert days_to_replay(CONTRACT, lake) == [NOON.date()]


def test_a_replay_that_a_session_ends_goes_on_with_the_day_that_is_left(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), hub_with([body(reading(0, "300"))], partitions=1)
    run_session(lake, hub, contract=BEFORE_THE_FIX)
    for number in (1, 2):
        hub.send([body(reading(1440 * number, "301"))], NOON + number * DAY)
        run_session(lake, hub, contract=BEFORE_THE_FIX, clock=ticking(NOON + number * DAY))

    def session_of_the_last_day() -> None:
        if days_to_replay(CONTRACT, lake) == DAYS[2:]:
            hub.send([body(reading(1440 * 2 + 1, 100))], NOON + 2 * DAY)
            run_session(lake, hub, clock=ticking(NOON + 2 * DAY + timedelta(minutes=1)))

    done: list[date] = []
    with pytest.raises(ConcurrentWriteError):
        replay(
            CONTRACT,
            InterruptedLake(lake.root, layer="silver", event=session_of_the_last_day),
            on_progress=lambda rebuilt: done.append(rebuilt.day),
        )
    assert done == DAYS[:2]
    assert [rebuilt.day for rebuilt in replay(CONTRACT, lake)] == DAYS[2:]
    assert days_to_replay(CONTRACT, lake) == []
    assert_exact(lake, hub)


def test_a_fix_that_comes_while_a_replay_is_due_reaches_earlier_days_too(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), hub_with([body(reading(0, "300"))], partitions=1)
    run_session(lake, hub, contract=BEFORE_THE_FIX)
    hub.send([body(reading(5, 101))], NOON + DAY)
    run_session(lake, hub, contract=BEFORE_THE_FIX, clock=ticking(NOON + DAY))
    StreamStore(CONTRACT, lake).mark_replay(DAYS[1])
    assert days_to_replay(BEFORE_THE_FIX, lake) == [DAYS[1]]
    assert days_to_replay(CONTRACT, lake) == DAYS[:2]


def test_a_rebuild_while_bronze_is_ahead_is_refused(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), hub_with(troubled_bodies(30))
    run_session(lake, hub)
    bronze = lake.table(CONTRACT.tables.bronze)
    last = rows(lake, "bronze").filter(partition=0).tail(1).with_columns(pl.col("sequence_number") + 1)
    bronze.append(last, transactions={"glucose_readings/0": last["sequence_number"].item()})
    before = everything(lake)
    with pytest.raises(NotCaughtUpError, match="drain"):
        rebuild(CONTRACT, lake, NOON.date())
    assert everything(lake) == before


@dataclass(frozen=True)
class InterruptedLake(Lake):
    """Something else happens just before the table of a layer is replaced."""

    layer: str = ""
    event: object = None

    def table(self, table: Table) -> LakeTable:
        plain = super().table(table)
        return InterruptedTable(plain.table, plain.uri, plain.lake, self.layer, self.event)


@dataclass
class InterruptedTable(LakeTable):
    layer: str
    event: object

    def adopt(self, *arguments, **options) -> None:
        if self.table.layer == self.layer and callable(self.event):
            self.event()
        super().adopt(*arguments, **options)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("layer", ["quarantine", "alerts", "silver"])
def test_a_rebuild_that_dies_between_two_tables_is_completed_by_the_next_one(tmp_path: Path, layer: str) -> None:
    def die() -> None:
        raise Killed

    lake = lake_in(tmp_path)
    hub = hub_with([body(reading(0, "300")), body(reading(1, 200)), b"not json", body(reading(2, "Low"))])
    run_session(lake, hub, contract=BEFORE_THE_FIX)
    with pytest.raises(Killed):
        rebuild(CONTRACT, InterruptedLake(lake.root, layer=layer, event=die), NOON.date())
    rebuild(CONTRACT, lake, NOON.date())
    assert_exact(lake, hub)


@pytest.mark.parametrize("layer", ["quarantine", "alerts", "silver"])
def test_a_rebuild_of_today_gives_way_to_a_session_that_writes_today(tmp_path: Path, layer: str) -> None:
    lake, hub = lake_in(tmp_path), hub_with(troubled_bodies(60))
    run_session(lake, hub)

    def session() -> None:
        hub.send(troubled_bodies(60, seed=3), NOON)
        run_session(lake, hub, clock=ticking(NOON + timedelta(minutes=1)))

    with pytest.raises(ConcurrentWriteError):
        rebuild(CONTRACT, InterruptedLake(lake.root, layer=layer, event=session), NOON.date())
    rebuild(CONTRACT, lake, NOON.date())
    assert_exact(lake, hub)


@pytest.mark.parametrize("layer", ["quarantine", "alerts", "silver"])
def test_a_rebuild_of_yesterday_and_a_session_of_today_do_not_disturb_each_other(tmp_path: Path, layer: str) -> None:
    lake, hub = lake_in(tmp_path), hub_with(troubled_bodies(60), take=20)
    run_session(lake, hub)
    hub.send(troubled_bodies(60, seed=2), NOON + DAY)
    run_session(lake, hub, clock=ticking(NOON + DAY))

    def session() -> None:
        hub.send(troubled_bodies(60, seed=3), NOON + DAY)
        run_session(lake, hub, clock=ticking(NOON + DAY + timedelta(minutes=1)))

    rebuild(CONTRACT, InterruptedLake(lake.root, layer=layer, event=session), NOON.date())
    assert run_session(lake, hub, clock=ticking(NOON + DAY + timedelta(minutes=2))).caught_up_events == 0
    assert_exact(lake, hub)


def test_a_rebuild_that_began_before_midnight_loses_nothing_that_came_until_midnight(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), hub_with(troubled_bodies(60))
    run_session(lake, hub)

    def sessions_until_after_midnight() -> None:
        for number, at in enumerate([datetime(2026, 11, 23, 23, 59, tzinfo=NOON.tzinfo), NOON + DAY]):
            hub.send(troubled_bodies(60, seed=number + 7), at)
            run_session(lake, hub, clock=ticking(at))

    with pytest.raises(ConcurrentWriteError):
        rebuild(CONTRACT, InterruptedLake(lake.root, layer="silver", event=sessions_until_after_midnight), NOON.date())
    for day in DAYS[:2]:
        rebuild(CONTRACT, lake, day)
    assert_exact(lake, hub)


def test_a_session_that_remembers_rows_that_were_rebuilt_ends_and_the_next_one_goes_on(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), hub_with([body(reading(0, "300")), body(reading(1, 200))])
    run_session(lake, hub, contract=BEFORE_THE_FIX)
    hub.send([body(reading(minutes + 30, 100)) for minutes in range(20)], NOON + DAY)
    hub.take = 1
    done: list[Rebuilt] = []

    def rebuild_once() -> bool:
        if not done:
            done.append(rebuild(CONTRACT, lake, NOON.date()))
        return False

    with pytest.raises(ConcurrentWriteError):
        run_session(lake, hub, clock=ticking(NOON + DAY), should_stop=rebuild_once)
    run_session(lake, hub, clock=ticking(NOON + DAY))
    assert_follows_bronze(lake)
