"""Alarms of whole sessions: crashes, hubs that are away, what people do, rebuilds, and how an alarm is explained."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from assets.alarm_actions.assets import CONTRACT as ACTIONS
from assets.bitemporal import SAFETY_DELAY
from assets.devices.assets import CONTRACT as DEVICES
from assets.glucose.assets import CONTRACT
from assets.reference.rules import Wanted
from assets.reference_store import put_rules
from assets.stream.alarm_history import AlarmUnknownError, explained, found, standing
from assets.stream.contract import Contract
from assets.stream.rebuild import rebuild
from assets.stream.session import SessionLimits
from assets.stream.store import StreamStore
from orchestration.system import tables, views
from resources.analytics import Analytics
from resources.event_source import Pulled
from resources.lake import Lake
from tests.stream.hubs import MemoryHub, MemoryPublisher, MemoryReceiver
from tests.stream.scenarios import NOON, PLAIN, body, lake_in, reading, run_session, ticking
from tests.stream.test_crash_in_the_data import Killed, Life, MortalLake
from tests.stream.test_outlet import AwayPublisher

pytestmark = pytest.mark.slow

MINUTE, SECOND = timedelta(minutes=1), timedelta(seconds=1)
BEGIN = NOON - timedelta(hours=1)
LOW = [(0, 90), (5, 68), (10, 66), (15, 50), (20, 62), (25, 72), (30, 90), (35, 92), (40, 95), (45, 100)]
"""A low with its recovery: raised at 5, worsened at 15, eased at 20, cleared at 40 minutes."""
LOW_KINDS = ["raised", "worsened", "eased", "cleared"]
BY = "nurse"


def send(hub: MemoryHub, *values: tuple[float, float], patient: int = 1, after: timedelta = 5 * SECOND) -> None:
    """Readings that arrive shortly after they were measured, each in an event of its own."""
    for minute, value in values:
        partition = patient % len(hub.partitions)
        hub.send([body(reading(minute, value, patient=patient))], BEGIN + minute * MINUTE + after, partition)


def until(minute: float) -> Any:
    """A clock that stands at a minute of the scenario."""
    return ticking(BEGIN + minute * MINUTE + 10 * SECOND, timedelta(0))


def alarms(lake: Lake, contract: Contract = CONTRACT) -> pl.DataFrame:
    rows = lake.table(contract.tables["alarms"]).scan().collect()
    return rows.sort("fold", "index", "is_update")


def transitions(lake: Lake, contract: Contract = CONTRACT) -> pl.DataFrame:
    return alarms(lake, contract).filter(~pl.col("is_update")).sort("alarm_id", "index")


def kinds(lake: Lake, contract: Contract = CONTRACT, cause: str = "glucose_low") -> list[str]:
    return transitions(lake, contract).filter(pl.col("cause") == cause).sort("fold", "index")["kind"].to_list()


def told(publisher: MemoryPublisher) -> list[dict[str, Any]]:
    return [json.loads(text) for _, text in publisher.published]


def action(number: int, alarm_id: str, what: str, at: datetime, **more: Any) -> bytes:
    payload = {"action_id": f"a{number}", "alarm_id": alarm_id, "stream": CONTRACT.stream, "action": what, "by": BY}
    return json.dumps(payload | {"timestamp": at.isoformat()} | more).encode()


def do(lake: Lake, *bodies: bytes, at: datetime, hub: MemoryHub | None = None) -> MemoryHub:
    """Sends actions, and stores them by a session of theirs."""
    hub = hub or MemoryHub("alarm_actions", partitions=1)
    hub.send(bodies, at)
    run_session(lake, hub, contract=ACTIONS, clock=ticking(at + SECOND, timedelta(0)))
    return hub


def only_id(lake: Lake) -> str:
    [alarm_id] = standing(CONTRACT, lake)["alarm_id"]
    return str(alarm_id)


def test_an_alarm_is_raised_worsened_eased_and_cleared_once_and_each_step_is_told(tmp_path: Path) -> None:
    lake, hub, publisher = lake_in(tmp_path), MemoryHub(partitions=1, take=1), MemoryPublisher()
    send(hub, *LOW)
    run_session(lake, hub, alarms=publisher, clock=until(46))
    assert kinds(lake) == LOW_KINDS
    assert [each["transition"] for each in told(publisher)] == LOW_KINDS
    first, last = told(publisher)[0], told(publisher)[-1]
    assert (first["patient_id"], first["cause"], first["severity"], first["value"]) == (1, "glucose_low", "warning", 68)
    assert (last["worst_value"], last["reading_count"], last["state"]) == (50, 4, "cleared")
    assert {key for key, _ in publisher.published} == {"1"}


def test_sessions_that_die_at_any_commit_leave_the_alarms_of_one_that_lives(tmp_path: Path) -> None:
    def scene() -> MemoryHub:
        hub = MemoryHub(partitions=2, take=5)
        for patient in (1, 2, 3):
            send(hub, *((minute + patient, value) for minute, value in LOW), patient=patient)
        return hub

    whole, life = lake_in(tmp_path / "whole"), Life(10**9)
    run_session(MortalLake(whole.root, life=life), scene(), clock=until(50))
    right = transitions(whole).drop("fold", "decided_at", "ingest_date")
    assert right.height == 3 * len(LOW_KINDS)
    for place in range(life.done + 1):
        hub, lake, publisher = scene(), lake_in(tmp_path / str(place)), MemoryPublisher()
        with pytest.raises(Killed):
            run_session(MortalLake(lake.root, life=Life(place)), hub, alarms=publisher, clock=until(50))
        run_session(lake, hub, alarms=publisher, clock=until(50))
        assert transitions(lake).drop("fold", "decided_at", "ingest_date").equals(right), place
        published = {(each["alarm_id"], each["index"]) for each in told(publisher)}
        assert published == {*right.select("alarm_id", "index").rows()}, place


def test_a_silence_that_was_raised_before_a_crash_is_not_raised_again(tmp_path: Path) -> None:
    def scene() -> MemoryHub:
        hub = MemoryHub(partitions=1, take=100)
        send(hub, (0, 60), patient=1)
        send(hub, (45, 100), patient=2)
        return hub

    def found(lake: Lake) -> pl.DataFrame:
        run_session(lake, hub, clock=until(50))
        return transitions(lake).drop("fold", "decided_at", "ingest_date")

    hub, life = scene(), Life(10**9)
    run_session(MortalLake(lake_in(tmp_path / "whole").root, life=life), hub, clock=until(50))
    right = found(lake_in(tmp_path / "whole"))
    assert sorted(right["kind"]) == ["raised", "raised", "stale"]
    for place in range(life.done + 1):
        hub, lake = scene(), lake_in(tmp_path / str(place))
        with pytest.raises(Killed):
            run_session(MortalLake(lake.root, life=Life(place)), hub, clock=until(50))
        assert found(lake).equals(right), place


def test_while_their_hub_is_away_data_go_on_and_transitions_leave_later_in_their_order(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), MemoryHub(partitions=1, take=1)
    send(hub, *LOW[:4])
    totals = run_session(lake, hub, alarms=AwayPublisher(), clock=until(16))
    assert totals.silver == 4
    assert kinds(lake) == LOW_KINDS[:2]
    publisher = MemoryPublisher()
    send(hub, *LOW[4:])
    limits = SessionLimits(
        trigger_s=0, commit_interval_s=0, commit_readings=1, idle_timeout_s=3600, until_caught_up=True
    )
    run_session(lake, hub, alarms=publisher, limits=limits, clock=until(46))
    assert [each["transition"] for each in told(publisher)] == LOW_KINDS
    assert not StreamStore(CONTRACT, lake).alarms.scan().filter(pl.col("index") < 0).collect().height


def test_what_people_do_is_folded_in_its_order_and_a_repeat_changes_nothing(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), MemoryHub(partitions=1)
    send(hub, *LOW[:4])
    run_session(lake, hub, clock=until(16))
    alarm = only_id(lake)
    at = BEGIN + 16 * MINUTE
    acts = [
        action(1, alarm, "acknowledge", at, note="on my way"),
        action(2, alarm, "snooze", at + SECOND, until=(at + 10 * MINUTE).isoformat()),
        action(2, alarm, "snooze", at + SECOND, until=(at + 10 * MINUTE).isoformat()),
        action(3, alarm, "comment", at + 2 * SECOND, note="ate something"),
        action(4, "0123456789abcdef", "acknowledge", at),
    ]
    of_actions = do(lake, *acts, at=at)
    run_session(lake, hub, clock=until(17), **acting())
    assert kinds(lake) == ["raised", "worsened", "acknowledged", "snoozed", "commented"]
    row = standing(CONTRACT, lake).row(0, named=True)
    assert (row["state"], row["until"]) == ("snoozed", at + 10 * MINUTE)
    [refused] = transitions(lake).filter(pl.col("kind") == "refused").to_dicts()
    assert (refused["action_id"], refused["entity"], refused["note"]) == ("a4", None, "no alarm with this id is open")
    # Another session knows what is folded, and what is not.
    do(lake, action(5, alarm, "close", at + MINUTE), at=at + MINUTE, hub=of_actions)
    run_session(lake, hub, clock=until(18), **acting())
    assert kinds(lake) == ["raised", "worsened", "acknowledged", "snoozed", "commented", "closed"]
    assert standing(CONTRACT, lake).is_empty()


def acting() -> dict[str, Any]:
    """A session that waits long enough to learn of actions."""
    return {"limits": SessionLimits(trigger_s=0.05, commit_interval_s=0, commit_readings=1, idle_timeout_s=1.5)}


def test_a_session_that_ends_at_once_folds_the_actions_that_are_there(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), MemoryHub(partitions=1)
    send(hub, *LOW[:4])
    run_session(lake, hub, clock=until(16))
    do(lake, action(1, only_id(lake), "acknowledge", BEGIN + 16 * MINUTE), at=BEGIN + 16 * MINUTE)
    run_session(lake, hub, clock=until(17))
    assert standing(CONTRACT, lake)["state"].to_list() == ["acknowledged"]


def test_what_open_alarms_came_to_on_earlier_days_is_removed_and_they_stay_open(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), MemoryHub(partitions=1, take=1)
    send(hub, *((minute, 60) for minute in range(0, 60, 5)))
    run_session(lake, hub, clock=until(60))
    days = 3
    send(hub, *((minute + days * 1440, 60) for minute in range(0, 30, 5)))
    run_session(lake, hub, clock=until(days * 1440 + 30))
    today = (BEGIN + timedelta(days=days)).date()
    before = standing(CONTRACT, lake)
    store = StreamStore(CONTRACT, lake)
    store.look()
    store.maintain(today)
    left = alarms(lake)
    assert {*left.filter("is_update")["ingest_date"]} == {today}
    assert BEGIN.date() in {*left.filter(~pl.col("is_update"))["ingest_date"]}
    assert standing(CONTRACT, lake).equals(before)
    restored = StreamStore(CONTRACT, lake)
    restored.look()
    found_again = restored.open_alarms()
    assert found_again is not None
    assert len(found_again.episodes) == before.height == 1


def test_a_rebuild_leaves_the_record_of_alarms_as_it_is(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), MemoryHub(partitions=1)
    send(hub, *LOW)
    run_session(lake, hub, clock=until(46))
    before = alarms(lake)
    rebuild(CONTRACT, lake, BEGIN.date())
    assert alarms(lake).equals(before)
    send(hub, (50, 60))
    run_session(lake, hub, clock=until(51))
    assert kinds(lake) == [*LOW_KINDS, "raised"]


def test_a_patients_own_threshold_keeps_its_distance_from_where_the_alarm_ends(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), MemoryHub(partitions=1, take=1)
    wanted = [Wanted("glucose_low", {"threshold": 80.0}, "patient:1")]
    put_rules(
        lake, [CONTRACT], wanted, valid_from=BEGIN - timedelta(days=1), clock=lambda: BEGIN - SAFETY_DELAY - MINUTE
    )
    # It ends at 85, five above the threshold as for everybody.
    send(hub, (0, 79), (5, 82), (20, 84), (25, 85), (35, 86), (40, 90))
    run_session(lake, hub, clock=until(41))
    rows = transitions(lake).sort("index")
    assert rows["kind"].to_list() == ["raised", "cleared"]
    assert rows["threshold"].to_list() == [80.0, 80.0]
    assert rows["at"].to_list() == [BEGIN, BEGIN + 35 * MINUTE]


def test_a_fleet_that_falls_silent_at_once_has_an_alarm_each(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), MemoryHub("device_readings", partitions=2)
    common = {"battery_level": 50, "firmware_version": "1.2.3", "connectivity_status": "Connected", "error_codes": ""}
    for device in range(1000):
        one = common | {"device_id": device, "timestamp": BEGIN.strftime(PLAIN)}
        hub.send([json.dumps(one).encode()], BEGIN + device * timedelta(milliseconds=1), device % 2)
    run_session(lake, hub, contract=DEVICES, clock=until(1))
    assert standing(DEVICES, lake).is_empty()
    publisher = MemoryPublisher()
    run_session(lake, hub, contract=DEVICES, alarms=publisher, clock=until(61))
    rows = transitions(lake, DEVICES)
    assert rows["cause"].unique().to_list() == ["silence"]
    assert sorted(rows["entity"]) == [*range(1000)]
    assert rows["at"].min() == BEGIN + 60 * MINUTE
    assert len(told(publisher)) == 1000
    # A report ends the silence of its device alone.
    again = common | {"device_id": 7, "timestamp": (BEGIN + 62 * MINUTE).strftime(PLAIN)}
    hub.send([json.dumps(again).encode()], BEGIN + 62 * MINUTE, 1)
    run_session(lake, hub, contract=DEVICES, clock=until(63))
    assert standing(DEVICES, lake).height == 999


def test_after_which_time_a_patient_is_silent_can_differ_and_nobody_need_be_told(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), MemoryHub(partitions=1)
    wanted = [
        Wanted("glucose_silence", {"threshold": 10.0, "severity": "urgent"}, "patient:1"),
        Wanted("glucose_silence", {"is_enabled": False}, "patient:2"),
    ]
    put_rules(lake, [CONTRACT], wanted, valid_from=BEGIN - timedelta(days=1), clock=lambda: BEGIN - timedelta(hours=1))
    for patient in (1, 2, 3):
        send(hub, (0, 100), patient=patient)
    run_session(lake, hub, clock=until(1))
    run_session(lake, hub, clock=until(60))
    rows = transitions(lake).sort("entity")
    assert rows.select("entity", "cause", "severity", "rule_id", "threshold").rows() == [
        (1, "silence", "urgent", "glucose_silence", 10.0),
        (3, "silence", "warning", "glucose_silence", 30.0),
    ]
    assert rows["at"].to_list() == [BEGIN + 10 * MINUTE + 5 * SECOND, BEGIN + 30 * MINUTE + 5 * SECOND]


def test_a_silence_that_was_closed_is_not_told_of_again(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), MemoryHub(partitions=1)
    send(hub, (0, 100))
    run_session(lake, hub, clock=until(31))
    do(lake, action(1, only_id(lake), "close", BEGIN + 32 * MINUTE), at=BEGIN + 32 * MINUTE)
    for minute in (33, 50, 90):
        run_session(lake, hub, clock=until(minute))
    assert kinds(lake, cause="silence") == ["raised", "closed"]
    send(hub, (95, 100))
    run_session(lake, hub, clock=until(96))
    assert kinds(lake, cause="silence") == ["raised", "closed"]
    run_session(lake, hub, clock=until(126))
    assert kinds(lake, cause="silence") == ["raised", "closed", "raised"]


def test_after_seven_days_nobody_is_waited_for_and_all_alarms_end(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), MemoryHub(partitions=1)
    send(hub, (0, 60))
    run_session(lake, hub, clock=until(31))
    assert sorted(standing(CONTRACT, lake)["cause"]) == ["glucose_low", "silence"]
    for days in (7, 8, 9):
        run_session(lake, hub, clock=until(days * 1440 + 1))
    assert standing(CONTRACT, lake).is_empty()
    ended = transitions(lake).filter(pl.col("kind") == "cleared")
    assert {*ended["at"]} == {BEGIN + 7 * 1440 * MINUTE + 5 * SECOND}
    assert kinds(lake, cause="silence") == ["raised", "cleared"]


def test_a_snooze_ends_before_the_alarm_does_however_late_somebody_looks(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), MemoryHub(partitions=1)
    send(hub, (0, 100))
    run_session(lake, hub, clock=until(31))
    snooze_until = BEGIN + 60 * MINUTE
    snooze = action(1, only_id(lake), "snooze", BEGIN + 32 * MINUTE, until=snooze_until.isoformat())
    do(lake, snooze, at=BEGIN + 32 * MINUTE)
    for minute in (33, 34):
        run_session(lake, hub, clock=until(minute))
    assert kinds(lake, cause="silence") == ["raised", "snoozed"]
    run_session(lake, hub, clock=until(8 * 1440))
    assert kinds(lake, cause="silence") == ["raised", "snoozed", "reminded", "cleared"]
    ends = transitions(lake)["at"].to_list()[-2:]
    assert ends == [snooze_until, BEGIN + 7 * 1440 * MINUTE + 5 * SECOND]


def test_a_snooze_of_refused_readings_ends_before_the_reading_that_clears_it(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), MemoryHub(partitions=1)
    send(hub, (0, 4711), (1, 4711), (2, 4711))
    run_session(lake, hub, clock=until(3))
    snooze_until = BEGIN + 10 * MINUTE
    snooze = action(1, only_id(lake), "snooze", BEGIN + 4 * MINUTE, until=snooze_until.isoformat())
    do(lake, snooze, at=BEGIN + 4 * MINUTE)
    for minute in (5, 6):
        run_session(lake, hub, clock=until(minute))
    send(hub, (15, 100))
    run_session(lake, hub, clock=until(16))
    assert kinds(lake, cause="refused") == ["raised", "snoozed", "reminded", "cleared"]


def test_who_acknowledges_what_became_worse_meanwhile_has_not_seen_it(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), MemoryHub(partitions=1)
    send(hub, *LOW[:2])
    run_session(lake, hub, clock=until(6))
    alarm = only_id(lake)
    at = BEGIN + 16 * MINUTE
    of_actions = do(lake, action(1, alarm, "acknowledge", at, seen_index=0), at=at)
    send(hub, *LOW[2:4])
    run_session(lake, hub, clock=until(16))
    first = kinds(lake)
    do(lake, action(2, alarm, "acknowledge", at + SECOND, seen_index=0), at=at + SECOND, hub=of_actions)
    run_session(lake, hub, clock=until(17))
    assert kinds(lake) == [*first, "commented"]
    assert standing(CONTRACT, lake)["state"].to_list() == ["unacknowledged"]
    assert "before it became worse" in transitions(lake)["note"][-1]


def test_a_quiet_partition_is_told_of_while_another_one_is_busy(tmp_path: Path) -> None:
    hub, lake = MemoryHub(partitions=2, take=1), lake_in(tmp_path)
    send(hub, (0, 100), patient=1)
    # As many readings as take a while, each in a micro-batch of its own.
    send(hub, *((30 + second / 600, 100) for second in range(60)), patient=2)
    limits = SessionLimits(trigger_s=0.05, commit_interval_s=0.5, idle_timeout_s=0)
    run_session(lake, hub, limits=limits, clock=ticking(BEGIN + 31 * MINUTE, SECOND / 100))
    rows = transitions(lake)
    assert rows.select("entity", "cause", "kind").rows() == [(1, "silence", "raised")]


def test_no_one_is_silent_while_the_hub_is_known_to_hold_more(tmp_path: Path) -> None:
    class Slow(MemoryHub):
        """Its first looks find nothing, as while links open."""

        @contextmanager
        def receive(self, after: Mapping[int, int]) -> Iterator[MemoryReceiver]:
            yield _Empty(self, dict(after))

    class _Empty(MemoryReceiver):
        def take(self, timeout: float) -> list[Pulled]:
            self.takes += 1
            time.sleep(0.2 if self.takes < 12 else 0)
            return [] if self.takes < 12 else super().take(timeout)

    lake, hub = lake_in(tmp_path), MemoryHub(partitions=1)
    send(hub, (0, 100))
    run_session(lake, hub, clock=until(1))
    slow = Slow(partitions=1)
    slow.partitions = hub.partitions
    # Two hours without a session: all that came meanwhile waits.
    send(hub, *((minute, 100) for minute in range(5, 120, 5)))
    limits = SessionLimits(trigger_s=0.05, commit_interval_s=0, commit_readings=1, idle_timeout_s=3)
    run_session(lake, slow, limits=limits, clock=until(120))
    assert transitions(lake).is_empty()


def test_odd_rows_and_a_damaged_table_of_actions_stop_no_stream(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), MemoryHub(partitions=1)
    send(hub, *LOW[:2])
    run_session(lake, hub, clock=until(6))
    do(lake, action(1, only_id(lake), "comment", BEGIN + 6 * MINUTE, note="hm"), at=BEGIN + 6 * MINUTE)
    table = lake.table(ACTIONS.tables.silver)
    odd = table.scan().collect().with_columns(action=pl.lit("sing"), action_id=pl.lit("odd"), sequence_number=7)
    table.append(odd.cast({"sequence_number": pl.Int64}), transactions={})
    send(hub, *LOW[2:3])
    run_session(lake, hub, clock=until(11))
    assert transitions(lake).filter(pl.col("kind") == "refused")["note"].to_list() == ["nobody knows the action sing"]
    for file in Path(table.uri).rglob("*.parquet"):
        file.write_bytes(b"nothing")
    send(hub, *LOW[3:4])
    assert run_session(lake, hub, clock=until(16)).silver == 1
    assert kinds(lake) == ["raised", "commented", "worsened"]


def test_an_alarm_is_explained_by_its_readings_and_decided_again_the_same(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), MemoryHub(partitions=1, take=3)
    send(hub, *LOW[:6])
    run_session(lake, hub, clock=until(26))
    alarm = only_id(lake)
    do(lake, action(1, alarm, "acknowledge", BEGIN + 26 * MINUTE), at=BEGIN + 26 * MINUTE)
    run_session(lake, hub, clock=until(27), **acting())
    send(hub, *LOW[6:])
    run_session(lake, hub, clock=until(46))
    contract, rows = found([DEVICES, CONTRACT], lake, alarm[:6])
    told_of = explained(contract, lake, rows)
    assert told_of.is_same
    assert told_of.again["kind"].to_list() == ["raised", "worsened", "eased", "acknowledged", "cleared"]
    assert told_of.readings.height == len(LOW) - 1
    assert json.loads(told_of.readings["body"][1])["glucose_level"] == 68
    with pytest.raises(AlarmUnknownError, match="No alarm has the id ffff"):
        found([DEVICES, CONTRACT], lake, "ffff")


def test_an_alarm_whose_readings_would_decide_otherwise_now_says_so(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), MemoryHub(partitions=1)
    send(hub, *LOW)
    run_session(lake, hub, clock=until(46))
    [alarm] = transitions(lake)["alarm_id"].unique()
    changed = transitions(lake).with_columns(worst_value=pl.lit(49.0))
    assert explained(CONTRACT, lake, changed).is_same is False
    assert explained(CONTRACT, lake, found([CONTRACT], lake, alarm)[1]).is_same


def test_sql_has_open_alarms_and_transitions_of_all_streams(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), MemoryHub(partitions=1)
    send(hub, *LOW[:6])
    send(hub, *LOW, patient=2)
    run_session(lake, hub, clock=until(46))
    sql = Analytics(lake, tables(), views())
    is_open = sql.query("SELECT stream, entity, cause, severity, value FROM alarms.open").rows()
    assert is_open == [("glucose_readings", 1, "glucose_low", "warning", 72.0)]
    counted = sql.query("SELECT kind, count(*) FROM alarms.transitions GROUP BY ALL ORDER BY kind").rows()
    assert counted == [("cleared", 1), ("eased", 2), ("raised", 2), ("worsened", 2)]
