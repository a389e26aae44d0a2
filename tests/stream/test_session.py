"""When a session commits, goes on and ends, on a hub in memory and with the clock as an argument."""

import json
import time
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any

import polars as pl
import pytest

from assets.devices.assets import CONTRACT as DEVICES
from assets.glucose.assets import CONTRACT
from assets.stream import session
from assets.stream.checks import evaluate
from assets.stream.known import Known
from assets.stream.process import Outcome, ProcessingError, Processor
from assets.stream.session import HubRecreatedError, Session, SessionLimits, Totals
from assets.stream.store import StreamStore
from resources.event_source import HubUnavailableError
from resources.lake import ConcurrentWriteError, LakeTable
from tests.stream.batches import micro_batches, positions
from tests.stream.hubs import MemoryHub, MemoryPublisher
from tests.stream.scenarios import (
    AT_THE_END,
    EAGER,
    NOON,
    body,
    hub_with,
    lake_in,
    parts,
    reading,
    run_session,
    ticking,
    troubled_bodies,
)
from tests.stream.tables import assert_exact, assert_follows_bronze, everything, rows

DAY = timedelta(days=1)


@pytest.mark.slow
def test_micro_batches_and_commits_of_any_size_give_the_same_rows(tmp_path: Path) -> None:
    bodies = troubled_bodies(150)
    found = []
    for number, (take, limits) in enumerate([(7, EAGER), (7, AT_THE_END), (7, SessionLimits(0, 3600, 50, 0))]):
        lake, hub = lake_in(tmp_path / str(number)), hub_with(bodies, take=take)
        run_session(lake, hub, limits=limits)
        assert_exact(lake, hub)
        found.append(everything(lake))
        for event in found[-1]["bronze"]:
            del event["pulled_at"]
    assert found[0] == found[1] == found[2]


def test_sessions_of_a_few_events_each_know_what_the_sessions_before_them_knew(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), hub_with([])
    for number, part in enumerate(parts(troubled_bodies(240), 60)):
        hub.send(part, NOON, partition=number % 2)
        run_session(lake, hub, clock=ticking(NOON + timedelta(minutes=number)), limits=AT_THE_END)
    assert_exact(lake, hub)


def test_a_reading_far_behind_what_is_in_memory_is_still_known_as_a_repeat(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    first = [body(reading(minutes, value=100 + minutes % 7)) for minutes in range(0, 60, 5)]
    hub = hub_with(first, partitions=1, take=1)
    run_session(lake, hub)
    yesterday = reading(-24 * 60, value=90)
    late = [body(reading(0, value=100)), body(reading(5, value=999)), body(yesterday), body(yesterday)]
    hub.send(late, NOON)
    totals = run_session(lake, hub)
    assert (totals.silver, totals.duplicates, totals.quarantine) == (1, 2, 1)
    assert_exact(lake, hub)


def test_a_late_reading_is_averaged_with_readings_that_left_the_memory_long_ago(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    hub = hub_with([body(reading(minutes, value=100)) for minutes in (0, 2, 4, 300, 600)], partitions=1, take=1)
    run_session(lake, hub)
    hub.send([body(reading(6, value=114))], NOON)
    run_session(lake, hub)
    assert rows(lake, "alerts").is_empty()
    hub.send([body(reading(8, value=112))], NOON)
    run_session(lake, hub)
    assert rows(lake, "alerts").select("rule", "mean_10_min").rows() == [("glucose_average_high", 105.2)]
    assert_exact(lake, hub)


def test_two_devices_of_a_patient_at_one_moment_raise_one_alert(tmp_path: Path) -> None:
    for number, take in enumerate((1, 10)):
        lake, publisher = lake_in(tmp_path / str(number)), MemoryPublisher()
        hub = hub_with([body(reading(value=300, device=device)) for device in (1, 2)], partitions=1, take=take)
        run_session(lake, hub, publisher=publisher)
        run_session(lake, hub, publisher=publisher)
        assert rows(lake, "silver").height == 2
        assert rows(lake, "alerts").select("rule", "device_id").rows() == [
            ("glucose_average_high", 1),
            ("glucose_high", 1),
            ("glucose_urgent_high", 1),
        ]
        assert len(publisher.published) == 3
        assert_exact(lake, hub)


def test_two_devices_of_a_patient_at_one_moment_in_different_sessions_raise_one_alert(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), hub_with([body(reading(value=300, device=1))], partitions=1)
    run_session(lake, hub)
    hub.send([body(reading(600, value=100)), body(reading(value=300, device=2))], NOON + DAY)
    run_session(lake, hub)
    assert rows(lake, "alerts").height == 3
    assert_exact(lake, hub)


def test_alerts_are_published_before_they_are_committed_and_keyed_by_patient(tmp_path: Path) -> None:
    class Watching(MemoryPublisher):
        def publish(self, bodies, keys) -> list[int]:
            stored.append(rows(lake, "alerts").height)
            return super().publish(bodies, keys)

    stored: list[int] = []
    lake, publisher = lake_in(tmp_path), Watching()
    run_session(lake, hub_with([body(reading(value=50, patient=7))]), publisher=publisher)
    assert stored == [0]
    assert [key for key, _ in publisher.published] == ["11", "11"]
    assert [json.loads(each)["rule"] for _, each in publisher.published] == ["glucose_low", "glucose_urgent_low"]


@pytest.mark.slow
def test_a_session_goes_on_over_midnight_and_each_micro_batch_gets_the_date_of_its_pull(tmp_path: Path) -> None:
    late_evening = datetime(2026, 11, 23, 23, 59, 58, tzinfo=UTC)
    lake, hub = lake_in(tmp_path), hub_with(troubled_bodies(100), take=2)
    totals = run_session(lake, hub, clock=ticking(late_evening))
    assert totals.events == rows(lake, "bronze").height > 100
    assert_exact(lake, hub)
    assert rows(lake, "bronze")["ingest_date"].unique().dt.day().sort().to_list() == [23, 24]


@pytest.mark.slow
def test_a_clock_that_goes_back_does_not_change_the_order_of_processing(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), hub_with(troubled_bodies(60), take=5)
    run_session(lake, hub)
    hub.send(troubled_bodies(60, seed=2), NOON)
    run_session(lake, hub, clock=ticking(NOON - timedelta(minutes=5), step=timedelta(seconds=-1)))
    assert_exact(lake, hub)


def test_a_hub_that_fails_in_the_middle_leaves_what_was_pulled_committed(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), hub_with(troubled_bodies(60), take=10)
    hub.fails_after = 2
    with pytest.raises(HubUnavailableError):
        run_session(lake, hub, limits=AT_THE_END)
    assert rows(lake, "bronze").height == 40
    assert_follows_bronze(lake)
    hub.fails_after = None
    run_session(lake, hub)
    assert_exact(lake, hub)


def test_a_publisher_that_fails_loses_no_event_and_no_alert(tmp_path: Path) -> None:
    class Failing(MemoryPublisher):
        def publish(self, bodies, keys) -> list[int]:
            if len(self.published) > 20:
                raise HubUnavailableError("the alerts hub is away")
            return super().publish(bodies, keys)

    lake, hub = lake_in(tmp_path), hub_with(troubled_bodies(60), take=10)
    failing, working, ending = Failing(), MemoryPublisher(), replace(EAGER, until_caught_up=True)
    assert run_session(lake, hub, publisher=failing, limits=ending).alerts_withheld == "the alerts hub is away"
    assert_exact(lake, hub)
    run_session(lake, hub, publisher=working)
    published = [json.loads(each)["alert_id"] for _, each in failing.published + working.published]
    assert set(published) == set(rows(lake, "alerts")["alert_id"])
    assert working.published


@pytest.mark.slow
def test_a_commit_that_failed_is_not_overtaken_by_later_micro_batches(tmp_path: Path) -> None:
    class Failing(LakeTable):
        def append(self, frame, **options) -> int:
            appended.append(frame.height)
            if len(appended) == 1:
                # Other micro-batches are pulled and processed meanwhile: some, or all that there are.
                wanted, deadline = min(hub.takes + 20, 150), time.monotonic() + 60
                while hub.takes < wanted:
                    assert time.monotonic() < deadline, "no other micro-batch was pulled"
                    time.sleep(0.01)
                raise OSError("no space left on device")
            return super().append(frame, **options)

    appended: list[int] = []
    lake, hub = lake_in(tmp_path), hub_with(troubled_bodies(300), take=1)
    session = Session(CONTRACT, lake, hub, MemoryPublisher(), limits=SessionLimits(0, 0, 10_000, 0), clock=ticking())
    session.store.log.tables["silver"] = Failing(session.store.silver.table, session.store.silver.uri, lake)
    with pytest.raises(OSError, match="no space"):
        session.run()
    assert len(appended) == 2
    assert appended[1] > appended[0]
    assert_follows_bronze(lake)
    run_session(lake, hub)
    assert_exact(lake, hub)


def test_a_micro_batch_that_is_committed_again_with_a_later_one_counts_its_duplicates_once(tmp_path: Path) -> None:
    repeated = body(reading())
    lake = lake_in(tmp_path)
    processor = Processor(CONTRACT, Known.nothing(CONTRACT))
    first, second = (
        processor.process(positions(batch), [event.body for event in batch])
        for batch in micro_batches([repeated, repeated, repeated], [repeated])
    )
    store = StreamStore(CONTRACT, lake)
    store.open([0])
    store.commit([first])
    store.commit([first, second])
    assert (rows(lake, "silver").height, rows(lake, "bronze").height) == (1, 4)
    assert store.duplicates(first.bronze["ingest_date"][0]) == 3


def test_a_session_that_lost_the_race_for_a_commit_writes_nothing(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), hub_with(troubled_bodies(60), take=20)
    raced: list[Totals] = []

    def other_session_first() -> bool:
        if not raced:
            raced.append(run_session(lake, hub, clock=ticking(NOON + timedelta(seconds=1))))
        return False

    with pytest.raises(ConcurrentWriteError, match="another session"):
        run_session(lake, hub, should_stop=other_session_first)
    assert_exact(lake, hub)


def test_a_session_is_refused_too_if_the_other_one_wrote_other_partitions(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), hub_with([body(reading(value=101))], partitions=2)
    run_session(lake, hub)
    raced: list[Totals] = []

    def other_session_writes_partition_1_first() -> bool:
        if not raced:
            hub.send([body(reading(1, value=300))], NOON, partition=1)
            raced.append(run_session(lake, hub, clock=ticking(NOON + timedelta(minutes=1))))
            hub.firsts[1] = 1
            hub.send([body(reading(1, value=300))], NOON, partition=0)
        return False

    with pytest.raises(ConcurrentWriteError):
        run_session(
            lake, hub, should_stop=other_session_writes_partition_1_first, clock=ticking(NOON + timedelta(minutes=2))
        )
    hub.firsts[1] = 0
    run_session(lake, hub, clock=ticking(NOON + timedelta(minutes=3)))
    assert_exact(lake, hub)


@pytest.mark.parametrize("change", ["shorter", "another"])
def test_a_hub_that_was_recreated_gives_a_clear_error_and_nothing_is_read(tmp_path: Path, change: str) -> None:
    lake, hub = lake_in(tmp_path), hub_with(troubled_bodies(40))
    run_session(lake, hub)
    before = everything(lake)
    other = hub_with(troubled_bodies(40)[:10] if change == "shorter" else troubled_bodies(400))
    if change == "another":
        other.identity = 2
    with pytest.raises(HubRecreatedError, match=r"glucose_readings.*was recreated.*hubs accept glucose_readings"):
        run_session(lake, other)
    assert everything(lake) == before


def test_events_that_the_hub_expired_before_they_were_read_are_counted(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), hub_with([body(reading(minutes)) for minutes in range(10)], partitions=1)
    hub.expire(0, first=2)
    assert run_session(lake, hub).expired_events == 0, "gone before the stream was first read"
    hub.send([body(reading(minutes)) for minutes in range(10, 20)], NOON)
    hub.expire(0, first=14)
    totals = run_session(lake, hub)
    assert (totals.events, totals.expired_events) == (6, 4)


def test_events_that_expired_are_counted_once_also_where_nothing_came_after_them(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), hub_with([body(reading(minutes)) for minutes in range(10)], partitions=1)
    run_session(lake, hub)
    hub.send([body(reading(minutes)) for minutes in range(10, 20)], NOON)
    hub.expire(0, first=20)
    hub.fails_after = 0
    with pytest.raises(HubUnavailableError):
        run_session(lake, hub)
    hub.fails_after = None
    assert [run_session(lake, hub).expired_events for _ in range(2)] == [10, 0]
    hub.send([body(reading(minutes)) for minutes in range(20, 30)], NOON)
    hub.expire(0, first=23)
    assert [run_session(lake, hub).expired_events for _ in range(2)] == [3, 0]
    assert rows(lake, "bronze")["sequence_number"].to_list() == [*range(10), *range(23, 30)]


def test_events_that_expire_while_a_session_runs_are_counted(tmp_path: Path) -> None:
    class Forgetful(MemoryHub):
        def state(self):
            found = super().state()
            self.expire(0, first=min(4, len(self.partitions[0]) - 1))
            return found

    lake, hub = lake_in(tmp_path), Forgetful(partitions=1)
    hub.send([body(reading(0))], NOON)
    run_session(lake, hub)
    hub.send([body(reading(minutes)) for minutes in range(1, 10)], NOON)
    totals = run_session(lake, hub)
    assert (totals.events, totals.expired_events) == (6, 3)


def test_partitions_that_are_added_to_a_hub_are_read_from_their_beginning(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), hub_with(troubled_bodies(40), partitions=1)
    run_session(lake, hub)
    hub.partitions[1], hub.firsts[1] = [], 0
    hub.send(troubled_bodies(40, seed=5), NOON, partition=1)
    run_session(lake, hub)
    assert_exact(lake, hub)


def test_a_session_ends_after_its_time_even_if_the_hub_never_runs_dry(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), hub_with([body(reading(minutes / 10)) for minutes in range(300)], take=1)
    totals = run_session(lake, hub, limits=SessionLimits(0, 0, 1, 3600, max_duration_s=0.3))
    assert 0 < totals.events < 300
    assert_follows_bronze(lake)


def test_until_caught_up_ends_without_waiting_for_the_idle_timeout(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), hub_with(troubled_bodies(40), take=3)
    limits = SessionLimits(trigger_s=0.001, commit_interval_s=3600, idle_timeout_s=3600, until_caught_up=True)
    run_session(lake, hub, limits=limits)
    assert_exact(lake, hub)


def test_an_empty_hub_leaves_empty_tables(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), MemoryHub()
    assert run_session(lake, hub).commits == 0
    assert everything(lake) == {"bronze": [], "quarantine": [], "alerts": [], "silver": []}


def test_progress_and_totals_hold_counts_and_offsets_and_no_reading(tmp_path: Path) -> None:
    reports: list[Totals] = []
    bodies = [body(reading(value=123.456, location="Secretville")), b"nonsense"]
    totals = run_session(lake_in(tmp_path), hub_with(bodies), on_progress=reports.append)
    assert totals.reached == {0: 0, 1: 0}
    assert reports[-1] == totals
    assert not {"123.456", "Secretville", "nonsense"} & set(str(totals).replace(",", " ").split())


def test_unknown_fields_are_counted_and_kept_in_bronze_only(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    bodies = [
        body(reading(0), battery=5, x={"y": 1}),
        body(reading(1), battery=6),
        body(reading(2), reading(3, battery=7)),
    ]
    totals = run_session(lake, hub_with(bodies))
    assert totals.unknown_fields == {"battery": 3, "x": 1}
    assert rows(lake, "silver").height == 4


def test_devices_have_no_rules_and_so_no_alerts(tmp_path: Path) -> None:
    report = {"device_id": 1, "timestamp": "2026-11-23 11:00:00", "battery_level": 50, "firmware_version": "1.2.3"}
    good = report | {"connectivity_status": "Connected", "error_codes": ""}
    lake, hub = lake_in(tmp_path), hub_with([body(good), body(good | {"battery_level": 101})])
    hub.name = "device_readings"
    totals = run_session(lake, hub, contract=DEVICES)
    assert (totals.silver, totals.quarantine, totals.alerts) == (1, 1, 0)


def test_checks_pass_after_a_session_and_name_what_is_missing_or_doubled(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), hub_with([body(reading(minutes)) for minutes in range(30)])
    run_session(lake, hub)
    store = StreamStore(CONTRACT, lake)
    assert [
        finding.name for finding in evaluate(store, NOON.date(), NOON - timedelta(minutes=25)) if not finding.passed
    ] == []
    bronze = rows(lake, "bronze")
    lake.table(CONTRACT.tables.bronze).append(bronze.head(1), transactions={})
    lake.table(CONTRACT.tables.bronze).append(
        bronze.tail(1).with_columns(pl.col("sequence_number") + 85), transactions={}
    )
    lake.table(CONTRACT.tables.silver).append(rows(lake, "silver").head(3), transactions={})
    findings = {finding.name: finding for finding in evaluate(store, NOON.date(), NOON + timedelta(hours=1))}
    assert {name for name, finding in findings.items() if not finding.passed} == {
        "counts_reconcile",
        "sequence_continuity",
        "keys_unique",
        "freshness",
    }
    assert findings["sequence_continuity"].counts == {"missing": 84, "doubled": 1}
    assert findings["counts_reconcile"].counts["difference"] == -1
    assert findings["keys_unique"].counts == {"repeated_keys": 3}


def test_a_lake_whose_folder_has_blanks_and_umlauts_is_read_back(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path / "my läke #1 100%"), hub_with(troubled_bodies(40), take=10)
    run_session(lake, hub)
    run_session(lake, hub)
    assert_exact(lake, hub)


def test_a_session_object_runs_with_defaults_that_need_no_argument(tmp_path: Path) -> None:
    session = Session(CONTRACT, lake_in(tmp_path), MemoryHub(), MemoryPublisher(), should_stop=lambda: True)
    assert session.run().events == 0


def test_behind_a_micro_batch_that_failed_nothing_is_processed_or_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, hub = lake_in(tmp_path), hub_with([body(reading(5 * n, value=300)) for n in range(4)], partitions=1, take=1)
    publisher, process, begun = MemoryPublisher(), Processor._process, []

    def failing(self: Processor, *arguments: Any) -> Outcome:
        begun.append(arguments)
        if len(begun) == 2:
            raise OSError("the look-up of 300 mg/dL failed")
        return process(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Processor, "_process", failing)
        with pytest.raises(ProcessingError, match="failed with OSError at") as failed:
            run_session(lake, hub, publisher=publisher, limits=AT_THE_END)
    assert "300 mg/dL" not in str(failed.value)
    assert len(begun) == 2
    assert rows(lake, "silver").height < rows(lake, "bronze").height
    run_session(lake, hub, publisher=publisher, limits=AT_THE_END)
    assert_exact(lake, hub)
    published = [json.loads(text)["alert_id"] for _, text in publisher.published]
    assert sorted(set(published)) == sorted(rows(lake, "alerts")["alert_id"])


def test_commits_go_on_while_files_are_made_fewer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, enough = Event(), Event()
    monkeypatch.setattr(session, "MAINTAIN_EVERY_S", 0)
    commits = 0

    def slow(store: StreamStore, day: date) -> None:
        begun.set()
        enough.wait(300)

    def progress(totals: Totals) -> None:
        nonlocal commits
        commits += begun.is_set() and not enough.is_set()
        if commits == 3:
            enough.set()

    monkeypatch.setattr(StreamStore, "maintain", slow)
    hub = hub_with([body(reading(minutes)) for minutes in range(20)], take=1)
    run_session(lake_in(tmp_path), hub, on_progress=progress)
    assert enough.is_set()
