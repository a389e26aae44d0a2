"""`gold/alarms` over whole sessions: what became of each alarm, what was missed and what never was."""

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random

import dagster as dg
import polars as pl
import pytest

from assets import gold_alarms
from assets.alarms.measures import ALARMS, LEAST_GAP
from assets.devices.assets import CONTRACT as DEVICES
from assets.glucose.assets import CONTRACT
from assets.gold_alarms import AlarmGold
from assets.gold_asset import PENDING_ONLY_TAG, alarm_gold_asset
from assets.reference.rules import Wanted
from assets.reference_store import put_rules
from assets.retention import Retention, restore
from assets.slots import GoldError
from assets.stream.contract import Rule
from assets.stream.rebuild import rebuild
from orchestration.schedules import maintain_gold
from orchestration.sensors import pending_derived
from orchestration.system import stream, tables, views
from orchestration.work import refresh_gold
from resources.analytics import Analytics
from resources.archive import Archive
from resources.dagster_resources import LakeResource
from resources.lake import ConcurrentWriteError, Lake, LakeTable
from resources.table import Table
from tests.alarms.measured import gold, missed, missed_in
from tests.alarms.test_sessions import (
    BEGIN,
    BY,
    LOW,
    MINUTE,
    SECOND,
    acting,
    action,
    do,
    only_id,
    send,
    until,
)
from tests.stream.hubs import MemoryHub
from tests.stream.scenarios import AT_THE_END, NOON, body, lake_in, reading, run_session, ticking
from tests.stream.test_crash_in_the_data import Killed, Life, MortalLake

pytestmark = pytest.mark.slow

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
GOLD = AlarmGold(CONTRACT)
DEVICE = (
    b'{"device_id": 7, "battery_level": 50, "firmware_version": "1.2.3", "connectivity_status": "Connected", '
    b'"error_codes": "", "timestamp": "2026-11-23 11:00:00"}'
)
LATE = [(minute, 60) for minute in range(-300, -240, 5)]
"""A low of an hour, five hours before the scenario begins."""


def refreshed(lake: Lake) -> pl.DataFrame:
    """All rows once nothing is pending."""
    assert GOLD.is_pending(lake)
    GOLD.refresh(lake)
    assert not GOLD.is_pending(lake)
    return gold(lake)


def anew(lake: Lake) -> pl.DataFrame:
    """All rows as they are made at once from the other tables."""
    shutil.rmtree(lake.table(ALARMS).uri)
    return refreshed(lake)


def states(rows: pl.DataFrame) -> list[tuple[str, str]]:
    return rows.select("cause", "state").rows()


def late(*values: tuple[float, float], patient: int = 1) -> bytes:
    return body(*(reading(minute, value, patient=patient) for minute, value in values))


def test_an_alarm_has_one_row_that_follows_it_to_its_end(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), MemoryHub(partitions=1)
    send(hub, *LOW[:4])
    run_session(lake, hub, clock=until(16))
    [row] = refreshed(lake).rows(named=True)
    assert (row["entity_key"], row["entity"], row["cause"], row["state"]) == ("patient_id", 1, "glucose_low", "open")
    assert (row["severity"], row["worst_severity"], row["rule_id"]) == ("warning", "urgent", "glucose_low")
    assert (row["raised_at"], row["cleared_at"], row["duration_s"]) == (BEGIN + 5 * MINUTE, None, None)
    assert (row["worst_value"], row["reading_count"], row["transition_count"], row["is_open"]) == (50, 3, 2, True)
    alarm, at = only_id(lake), BEGIN + 17 * MINUTE
    do(
        lake,
        action(1, alarm, "acknowledge", at),
        action(2, alarm, "snooze", at + SECOND, until=(at + 10 * MINUTE).isoformat()),
        action(3, alarm, "acknowledge", at + MINUTE),
        at=at,
    )
    run_session(lake, hub, clock=until(18), **acting())
    [row] = refreshed(lake).rows(named=True)
    assert (row["acknowledged_at"], row["acknowledged_by"]) == (at, BY)
    assert row["acknowledge_s"] == (at - row["decided_at"]).total_seconds()
    assert (row["snooze_count"], row["transition_count"], row["state"]) == (1, 5, "open")
    send(hub, *LOW[4:])
    run_session(lake, hub, clock=until(46))
    [row] = refreshed(lake).rows(named=True)
    assert (row["state"], row["ended"], row["cleared_at"]) == ("cleared", "cleared", BEGIN + 40 * MINUTE)
    assert (row["duration_s"], row["reading_count"], row["is_open"]) == (35 * 60, 4, False)
    assert (row["acknowledged_at"], row["snooze_count"]) == (at, 1)
    stepwise = gold(lake)
    assert stepwise.equals(anew(lake))


def test_an_alarm_that_a_person_closed_and_one_that_stands_for_days(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), MemoryHub(partitions=1)
    send(hub, *LOW[:4])
    send(hub, (0, 130), patient=2)
    run_session(lake, hub, clock=until(16))
    refreshed(lake)
    [closed] = gold(lake).filter(pl.col("entity") == 1)["alarm_id"]
    do(lake, action(1, closed, "close", BEGIN + 17 * MINUTE), at=BEGIN + 17 * MINUTE)
    run_session(lake, hub, clock=until(18), **acting())
    # Days later the other one is worse, and then over.
    for minute, value in ((2 * 1440, 260), (2 * 1440 + 5, 90), (2 * 1440 + 20, 90), (2 * 1440 + 35, 90)):
        send(hub, (minute, value), patient=2)
        run_session(lake, hub, clock=until(minute + 1))
        refreshed(lake)
    rows = gold(lake)
    assert rows.equals(anew(lake))
    of_rules = rows.filter(pl.col("cause") != "silence")
    ended = of_rules.select("entity", "state", "worst_severity", "cleared_at", "event_date").rows()
    assert (1, "closed", "urgent", BEGIN + 17 * MINUTE, NOON.date()) in ended
    assert (2, "cleared", "urgent", BEGIN + 2 * DAY + 35 * MINUTE, NOON.date()) in ended


def test_a_backfill_in_any_order_and_any_micro_batches_gives_the_same_rows(tmp_path: Path) -> None:
    random = Random(1)
    # Late lows and highs of three days, some of them near alarms; each event has its receipt, whatever its place.
    minutes = [each + 0.5 for each in random.sample(range(-3 * 1440, 60), 100)]
    patients = [random.randrange(1, 4) for _ in minutes]
    values = [random.choice([50, 62, 90, 120, 150, 260]) for _ in minutes]
    events = [
        (late((minute, value), patient=patient), BEGIN + 2 * HOUR + number * SECOND)
        for number, (minute, patient, value) in enumerate(zip(minutes, patients, values, strict=True))
    ]
    oldest_first = sorted(zip(minutes, events, strict=True))
    orders = {"oldest": oldest_first, "newest": oldest_first[::-1], "mixed": random.sample(oldest_first, len(events))}
    found = {}
    for name, order in orders.items():
        lake, hub = lake_in(tmp_path / name), MemoryHub(partitions=1, take=random.randrange(1, 40))
        for patient in (1, 2):
            send(hub, *LOW[:7], patient=patient)
        run_session(lake, hub, clock=until(31))
        cut = sorted(random.sample(range(len(order)), 2))
        for begin, end in zip([0, *cut], [*cut, len(order)], strict=True):
            for _, (text, at) in order[begin:end]:
                hub.send([text], at)
            run_session(lake, hub, limits=AT_THE_END, clock=ticking(BEGIN + 3 * HOUR, timedelta(0)))
            if random.random() < 0.7:
                GOLD.refresh(lake)
        GOLD.refresh(lake)
        found[name] = gold(lake)
        assert missed(found[name]) == missed_in(lake, CONTRACT, LEAST_GAP)
        assert not set(found[name]["state"]) - {"open", "cleared", "missed"}
        if name == "mixed":
            assert found[name].equals(anew(lake))
    oldest = missed(found["oldest"])
    assert len({row[-1] for row in oldest}) >= 3
    # The mean of ten minutes is that of what was known, so breaches of it depend on the order. Nothing else does.
    lows = [{row for row in missed(rows) if row[2] == "glucose_low"} for rows in found.values()]
    assert lows[0] == lows[1] == lows[2] != set()


def test_late_readings_near_an_alarm_are_the_alarm_s_and_others_are_missed_once(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), MemoryHub(partitions=1)
    send(hub, *LOW)
    hub.send([late(*LATE), late((-8, 60), (-20, 60))], BEGIN + 50 * MINUTE)
    run_session(lake, hub, clock=until(51))
    rows = refreshed(lake)
    assert states(rows) == [("glucose_low", "missed"), ("glucose_low", "missed"), ("glucose_low", "cleared")]
    far, near = rows.head(2).rows(named=True)
    assert (far["raised_at"], far["cleared_at"]) == (BEGIN - 300 * MINUTE, BEGIN - 245 * MINUTE)
    assert (far["reading_count"], far["is_late"], far["duration_s"]) == (12, True, 55 * 60)
    # Eight minutes before the alarm belong to it, twenty do not.
    assert (near["raised_at"], near["reading_count"]) == (BEGIN - 20 * MINUTE, 1)
    again = gold(lake)
    assert again.equals(anew(lake))


def test_a_missed_episode_that_passes_midnight_is_one_of_each_day(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), MemoryHub(partitions=1)
    midnight = -11 * 60
    hub.send([late(*((midnight + minute, 60) for minute in range(-20, 21, 5)))], BEGIN)
    run_session(lake, hub, clock=until(1))
    rows = refreshed(lake)
    assert rows["state"].to_list() == ["missed", "missed"]
    assert rows.select("event_date", "reading_count").rows() == [(NOON.date() - DAY, 4), (NOON.date(), 5)]


def test_an_alarm_raised_later_takes_in_what_was_missed_right_before_it(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), MemoryHub(partitions=1)
    hub.send([late((-30, 60), (-10, 60))], BEGIN + 20 * MINUTE)
    run_session(lake, hub, clock=until(0))
    assert refreshed(lake)["raised_at"].to_list() == [BEGIN - 30 * MINUTE, BEGIN - 10 * MINUTE]
    send(hub, (1, 60))
    run_session(lake, hub, clock=until(2))
    rows = refreshed(lake)
    assert rows.select("state", "raised_at").rows() == [("missed", BEGIN - 30 * MINUTE), ("open", BEGIN + MINUTE)]
    assert rows.equals(anew(lake))


def changed(rule_id: str, threshold: float) -> tuple[Rule, ...]:
    return tuple(replace(rule, threshold=threshold) if rule.id == rule_id else rule for rule in CONTRACT.rules)


def test_an_alarm_whose_reading_breaks_no_rule_any_more_is_retracted_until_it_does(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), MemoryHub(partitions=1)
    send(hub, (0, 68), (5, 90), (20, 90))
    send(hub, (0, 130), (5, 60), patient=2)
    run_session(lake, hub, clock=until(60))
    before = refreshed(lake)
    assert ("silence", "open") in states(before)
    rebuild(replace(CONTRACT, rules=changed("glucose_low", 65.0)), lake, NOON.date())
    rows = refreshed(lake)
    assert rows.filter(pl.col("state") == "retracted").select("entity", "cause", "ended").rows() == [
        (1, "glucose_low", "cleared")
    ]
    assert rows.drop("state").equals(before.drop("state"))
    rebuild(CONTRACT, lake, NOON.date())
    assert refreshed(lake).equals(before)


def test_breaches_that_a_rebuild_lets_in_are_missed(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), MemoryHub(partitions=1)
    send(hub, (0, 72), (5, 73), (10, 90))
    run_session(lake, hub, clock=until(11))
    GOLD.refresh(lake)
    assert gold(lake).is_empty()
    rebuild(replace(CONTRACT, rules=changed("glucose_low", 74.0)), lake, NOON.date())
    [row] = refreshed(lake).rows(named=True)
    assert (row["state"], row["reading_count"], row["worst_value"]) == ("missed", 2, 72)


def test_a_rule_that_is_data_only_is_missed_under_its_cause(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), MemoryHub(partitions=1)
    new = {
        **{"stream": CONTRACT.stream, "cause": "glucose_in_pregnancy", "column": "glucose_mg_dl"},
        **{"comparison": "above", "threshold": 95.0, "severity": "urgent"},
    }
    put_rules(lake, [CONTRACT], [Wanted("glucose_pregnant", new)], valid_from=BEGIN - DAY, clock=lambda: BEGIN - HOUR)
    hub.send([late((-200, 99))], BEGIN)
    run_session(lake, hub, clock=until(1))
    [row] = refreshed(lake).rows(named=True)
    assert (row["state"], row["cause"], row["severity"]) == ("missed", "glucose_in_pregnancy", "urgent")
    assert (row["rule_id"], row["worst_value"]) == ("glucose_pregnant", 99)


def test_nothing_was_missed_before_there_were_alarms(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), MemoryHub(partitions=1)
    send(hub, *LOW)
    run_session(lake, hub, contract=replace(CONTRACT, alarms=None), clock=until(46))
    assert not GOLD.is_pending(lake)
    send(hub, *((1440 + minute, value) for minute, value in LOW))
    hub.send([late(*LATE)], BEGIN + DAY)
    run_session(lake, hub, clock=until(1440 + 46))
    rows = refreshed(lake).filter(pl.col("cause") == "glucose_low")
    assert rows["state"].to_list() == ["missed", "cleared"]
    assert rows["raised_at"].to_list() == [BEGIN - 300 * MINUTE, BEGIN + DAY + 5 * MINUTE]


def test_alarms_of_silence_are_never_retracted_and_need_no_alerts(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), MemoryHub("device_readings", partitions=1)
    hub.send([DEVICE], BEGIN)
    run_session(lake, hub, contract=DEVICES, clock=until(90))
    AlarmGold(DEVICES).refresh(lake)
    [row] = gold(lake).rows(named=True)
    assert (row["entity_key"], row["entity"], row["state"]) == ("device_id", 7, "open")
    assert (row["cause"], row["rule_id"], row["worst_value"]) == ("silence", "device_silence", None)


def test_a_session_that_dies_at_any_commit_makes_nothing_look_missed_or_retracted(tmp_path: Path) -> None:
    def scene() -> MemoryHub:
        hub = MemoryHub(partitions=1, take=4)
        send(hub, *LOW)
        return hub

    whole, life = lake_in(tmp_path / "whole"), Life(10**9)
    run_session(MortalLake(whole.root, life=life), scene(), clock=until(46))
    right = refreshed(whole).drop("decided_at")
    # From where all tables are there on.
    for place in range(1, life.done + 1, 2):
        hub, lake = scene(), lake_in(tmp_path / str(place))
        with pytest.raises(Killed):
            run_session(MortalLake(lake.root, life=Life(place)), hub, clock=until(46))
        GOLD.refresh(lake)
        assert not {"missed", "retracted"} & set(gold(lake)["state"]), place
        run_session(lake, hub, clock=until(46))
        GOLD.refresh(lake)
        assert gold(lake).drop("decided_at").equals(right), place


def three_days(lake: Lake) -> MemoryHub:
    """A low in time and a late one on each of three days."""
    hub = MemoryHub(partitions=1)
    for number in range(3):
        after = number * 1440
        send(hub, *((after + minute, value) for minute, value in LOW))
        hub.send([late(*((after + minute, value) for minute, value in LATE))], BEGIN + number * DAY + 50 * MINUTE)
        run_session(lake, hub, clock=until(after + 51))
    return hub


def test_a_refresh_that_ends_early_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = lake_in(tmp_path)
    three_days(lake)
    whole = refreshed(lake)
    assert whole.filter(pl.col("state") == "missed").height == 3
    shutil.rmtree(lake.table(ALARMS).uri)
    monkeypatch.setattr(gold_alarms, "MAX_DATES", 1)
    monkeypatch.setattr(gold_alarms, "SLICE_ROWS", 2)
    commits = 0
    while GOLD.is_pending(lake):
        GOLD.refresh(lake, should_stop=lambda: True)
        commits += 1
        assert commits < 20
    # One for each ingest date of alarms, of which the last has the newest date, and one for each other date.
    assert commits == 5
    assert gold(lake).equals(whole)


def test_a_refresh_reads_no_date_that_did_not_change(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    hub = three_days(lake)
    before = refreshed(lake)
    gone, after = NOON.date(), 2 * 1440
    send(hub, (after + 60, 60), (after + 65, 90), (after + 80, 90))
    run_session(lake, hub, clock=until(after + 81))
    for name in (CONTRACT.tables.alerts.name, CONTRACT.tables["alarms"].name, ALARMS.name):
        for file in Path(lake.root, name).rglob("*.parquet"):
            if gone.isoformat() in str(file.parent):
                file.unlink()
    assert GOLD.is_pending(lake)
    assert GOLD.refresh(lake) > 0
    rest = lake.table(ALARMS).scan().filter(pl.col("event_date") > gone).collect()
    assert rest.height == before.filter(pl.col("event_date") > gone).height + 1


@dataclass(frozen=True)
class BusyLake(Lake):
    """Somebody else refreshes, right before the first rows of gold are replaced."""

    others: list[Lake] = field(default_factory=list)

    def table(self, table: Table) -> LakeTable:
        plain = super().table(table)
        return BusyTable(plain.table, plain.uri, plain.lake, self.others)


@dataclass
class BusyTable(LakeTable):
    others: list[Lake] = field(default_factory=list)

    def replace(
        self,
        frames: Iterable[pl.DataFrame],
        predicate: str | None,
        *,
        transactions: Mapping[str, int] | None = None,
        expected: Mapping[str, int | None] | None = None,
        event_dates: Iterable[date] = (),
        renew: bool = False,
    ) -> int:
        if self.others:
            GOLD.refresh(self.others.pop())
        return super().replace(
            frames,
            predicate,
            transactions=transactions,
            expected=expected,
            event_dates=event_dates,
            renew=renew,
        )


def test_of_two_refreshes_at_once_the_slower_one_writes_nothing(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    three_days(lake)
    with pytest.raises(ConcurrentWriteError):
        GOLD.refresh(BusyLake(lake.root, others=[lake]))
    assert not GOLD.is_pending(lake)
    found = gold(lake)
    assert found.equals(anew(lake))


def test_what_follows_from_archived_alerts_stays(tmp_path: Path) -> None:
    lake, archive = lake_in(tmp_path / "lake"), Archive(lake_in(tmp_path / "archive"))
    hub = three_days(lake)
    before = refreshed(lake)
    run = Retention(CONTRACT, lake, archive, {"alerts": 1}, ticking(NOON + 9 * DAY))
    due = run.due()
    for each in due:
        run.retire(each)
    assert len(due) == 2
    # A late reading of an archived date: the date is known in part only, so nothing of it is made anew.
    hub.send([late((-400, 60))], BEGIN + 2 * DAY + HOUR)
    run_session(lake, hub, clock=until(2 * 1440 + 61))
    GOLD.refresh(lake)
    assert (
        gold(lake)
        .filter(pl.col("event_date") < NOON.date() + 2 * DAY)
        .equals(before.filter(pl.col("event_date") < NOON.date() + 2 * DAY))
    )
    for each in due:
        restore(lake, archive, lake.table(CONTRACT.tables.alerts), each.day, NOON + 9 * DAY)
    rows = refreshed(lake)
    assert rows.filter(pl.col("raised_at") == BEGIN - 400 * MINUTE)["state"].to_list() == ["missed"]
    assert missed(rows) == missed_in(lake, CONTRACT, LEAST_GAP)


def test_a_stream_with_many_alerts_a_day_is_left_alone_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = lake_in(tmp_path)
    hub = three_days(lake)
    now = datetime.now(UTC)
    assert GOLD.is_due(lake, now)
    GOLD.refresh(lake)
    assert not GOLD.is_due(lake, now + DAY)
    send(hub, (2 * 1440 + 60, 60))
    run_session(lake, hub, clock=until(2 * 1440 + 61))
    alerts = lake.table(CONTRACT.tables.alerts).scan().collect()
    count = alerts.filter(pl.col("ingest_date") == alerts["ingest_date"].max()).height
    monkeypatch.setattr(gold_alarms, "REST", HOUR * 1_000_000 / count)
    assert not GOLD.is_due(lake, now + 59 * MINUTE)
    assert GOLD.is_due(lake, now + 61 * MINUTE)


def test_an_error_tells_nothing_of_a_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake, hub = lake_in(tmp_path), MemoryHub(partitions=1)
    send(hub, *LOW)
    run_session(lake, hub, clock=until(46))

    def fails(*_: object) -> pl.DataFrame:
        raise ValueError("patient 1 has 50 mg/dL")

    monkeypatch.setattr("assets.alarms.measures.Measure.missed", fails)
    with pytest.raises(GoldError, match="gold/alarms: computing it failed with ValueError") as raised:
        GOLD.refresh(lake)
    assert "mg/dL" not in str(raised.value)
    assert raised.value.__context__ is None


def test_sensors_refreshes_house_keeping_and_sql_know_the_table(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), MemoryHub(partitions=1)
    send(hub, *LOW)
    hub.send([late(*LATE)], BEGIN + 50 * MINUTE)
    run_session(lake, hub, clock=until(51))
    resource, key = LakeResource(root=lake.root), dg.AssetKey(["gold", "alarms"])
    glucose = stream("glucose")
    assert key in pending_derived(glucose, resource)
    assert refresh_gold(glucose, lake)["gold/alarms"] == 2
    assert key not in pending_derived(glucose, resource)
    assert "gold/alarms" not in refresh_gold(glucose, lake)
    before = lake.table(ALARMS).version()
    with dg.build_op_context(resources={"lake": resource}) as context:
        maintain_gold(context)
    assert lake.table(ALARMS).version() != before
    assert not GOLD.is_pending(lake)
    sql = Analytics(lake, tables(), views())
    assert sql.query("SELECT state, count(*) FROM gold.alarms GROUP BY ALL ORDER BY ALL").rows() == [
        ("cleared", 1),
        ("missed", 1),
    ]


def test_in_dagster_the_part_of_a_stream_that_fails_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PULSELAKE_HOME", str(tmp_path))
    lake, hub = lake_in(tmp_path), MemoryHub(partitions=1)
    send(hub, *LOW)
    run_session(lake, hub, clock=until(46))
    of_devices = MemoryHub("device_readings", partitions=1)
    of_devices.send([DEVICE], BEGIN)
    run_session(lake, of_devices, contract=DEVICES, clock=until(90))
    for file in Path(lake.root, DEVICES.tables["alarms"].name).rglob("*.parquet"):
        file.unlink()
    asset, resources = alarm_gold_asset([AlarmGold(DEVICES), GOLD]), {"lake": LakeResource(root=lake.root)}
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize([asset], instance=instance, resources=resources, raise_on_error=False)
        logged = " ".join(entry.user_message for entry in instance.all_logs(result.run_id))
    assert not result.success
    assert "gold/alarms: the part of device_readings was not refreshed: FileNotFoundError" in logged
    assert states(gold(lake)) == [("glucose_low", "cleared")]
    # A run for pending dates leaves out what was refreshed shortly before.
    send(hub, (60, 60))
    run_session(lake, hub, clock=until(61))
    monkeypatch.setattr(gold_alarms, "REST", 1_000_000 * DAY)
    asset = alarm_gold_asset([GOLD])
    dg.materialize([asset], resources=resources, tags={PENDING_ONLY_TAG: "true"})
    assert GOLD.is_pending(lake)
    dg.materialize([asset], resources=resources)
    assert states(gold(lake)) == [("glucose_low", "cleared"), ("glucose_low", "open")]
