"""Sensors on a real hub, a real lake and Dagster's own run records."""

from datetime import UTC, datetime, timedelta
from time import sleep

import dagster as dg
import polars as pl
import pytest

from assets.glucose.assets import CONTRACT
from assets.glucose.tables import GLUCOSE_DAILY
from assets.gold_asset import EVENT_DATES, PENDING_ONLY_TAG
from assets.stream.asset import INGEST_DATES
from assets.stream.session import HubRecreatedError, Session, SessionLimits
from orchestration import sensors
from orchestration.jobs import OFFSETS_TAG
from orchestration.sensors import RANGE_END, RANGE_START
from orchestration.started_runs import IN_FLIGHT
from resources.settings import Settings
from tests.emulator.hub import RunningHub
from tests.orchestration.site import GOLD, SESSION, Site, reading, readings, today, wait_until
from tests.stream.hubs import MemoryHub
from tests.stream.scenarios import run_session, ticking
from tests.stream.test_outlet import AwayPublisher

SENSOR, GOLD_SENSOR = "glucose_readings_sensor", "glucose_readings_gold_sensor"

FINISHED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.CANCELED)


@pytest.mark.service
def test_an_empty_hub_starts_no_session(site):
    tick = site.tick(SENSOR)
    assert tick.run_requests == []
    assert tick.skip_message == "0 events behind: nothing to do."


@pytest.mark.service
def test_a_backlog_starts_one_session_of_today(site):
    site.send(readings(3))
    (request,) = site.tick(SENSOR).run_requests
    assert request.partition_key == today().isoformat()
    assert INGEST_DATES.has_partition_key(request.partition_key)
    assert request.run_key is None
    assert request.tags[OFFSETS_TAG] == "0:-1,1:-1"


@pytest.mark.service
def test_after_a_session_only_new_events_start_another(site):
    site.send(readings(3))
    assert site.run_session().success
    assert "0 events behind" in site.tick(SENSOR).skip_message
    site.send(readings(2), partition=1)
    (request,) = site.tick(SENSOR).run_requests
    assert request.tags[OFFSETS_TAG] == "0:2,1:-1"


@pytest.mark.service
def test_a_session_in_flight_starts_no_second(site):
    site.send(readings(3))
    for status in IN_FLIGHT:
        if status is not dg.DagsterRunStatus.CANCELING:
            run = site.record(SESSION, status)
            assert site.tick(SENSOR).skip_message == f"3 events behind; run {run.run_id[:8]} is about to start."
            site.instance.delete_run(run.run_id)
    for status in (*FINISHED, dg.DagsterRunStatus.CANCELING):
        site.record(SESSION, status)
    assert len(site.tick(SENSOR).run_requests) == 1


@pytest.mark.service
def test_without_an_idle_timeout_a_stream_has_a_session_also_while_nothing_comes(site):
    site.set(PULSELAKE_IDLE_TIMEOUT_S="")
    (request,) = site.tick(SENSOR).run_requests
    assert request.partition_key == today().isoformat()


@pytest.mark.service
def test_the_lock_tells_who_is_at_work_and_that_a_killed_session_is_not(site):
    site.set(PULSELAKE_IDLE_TIMEOUT_S="", PULSELAKE_MAX_SESSION_S="3600")
    run = site.record(SESSION, dg.DagsterRunStatus.STARTED)
    lease = Settings().lease(CONTRACT.stream, run.run_id)
    assert lease.active.take()
    assert "is at work since" in site.tick(SENSOR).skip_message
    site.set(PULSELAKE_MAX_SESSION_S="0.001")
    assert len(site.tick(SENSOR).run_requests) == 1
    lease.release()
    site.set(PULSELAKE_MAX_SESSION_S="3600")
    assert len(site.tick(SENSOR).run_requests) == 1


@pytest.mark.service
def test_a_session_of_another_stream_does_not_matter(site):
    site.send(readings(3))
    site.record("device_readings_session", dg.DagsterRunStatus.STARTED)
    assert len(site.tick(SENSOR).run_requests) == 1


@pytest.mark.service
def test_a_failed_session_is_started_again(site):
    site.send(readings(3))
    site.instance.report_run_failed(site.record(SESSION, dg.DagsterRunStatus.STARTED))
    assert len(site.tick(SENSOR).run_requests) == 1
    site.instance.report_run_failed(site.record(SESSION, dg.DagsterRunStatus.STARTED))
    tick = site.tick(SENSOR)
    assert tick.run_requests == []
    assert tick.skip_message.startswith("3 events behind; the last 2 run(s) failed")
    wait_until(lambda: site.tick(SENSOR).run_requests, "the next session")


@pytest.mark.service
def test_a_success_ends_a_row_of_failures(site):
    site.send(readings(3))
    for _ in range(5):
        site.instance.report_run_failed(site.record(SESSION, dg.DagsterRunStatus.STARTED))
    site.record(SESSION, dg.DagsterRunStatus.SUCCESS)
    assert len(site.tick(SENSOR).run_requests) == 1


@pytest.mark.service
def test_events_that_reached_bronze_only_start_a_session(site):
    site.send(readings(3))
    assert site.run_session().success
    silver = site.store.silver
    silver.replace([], None)
    offsets = {"glucose_readings/0": 0}
    silver.append(pl.DataFrame(schema=silver.table.schema), transactions=offsets)
    (request,) = site.tick(SENSOR).run_requests
    assert request.tags[OFFSETS_TAG] == "0:2,1:-1"


@pytest.mark.service
def test_alerts_that_wait_for_their_hub_start_a_session_when_no_reading_comes(site):
    site.send(readings(2, value=300.0))
    drained = SessionLimits(until_caught_up=True)
    assert Session(CONTRACT, site.lake, site.source, AwayPublisher(), limits=drained).run().alerts_withheld
    assert site.store.has_unpublished()
    assert len(site.tick(SENSOR).run_requests) == 1
    assert site.run_session().success
    assert not site.store.has_unpublished()
    assert "0 events behind" in site.tick(SENSOR).skip_message


@pytest.mark.service
def test_a_hub_that_is_down_skips_and_says_why(site):
    site.hub.stop()
    tick = site.tick(SENSOR)
    assert tick.run_requests == []
    assert "Event hub 'glucose_readings'" in tick.skip_message
    assert "nothing was lost" in tick.skip_message
    site.hub.start()
    assert "0 events behind" in site.tick(SENSOR).skip_message


def test_an_answer_that_comes_between_two_ticks_is_used_by_the_second(monkeypatch):
    monkeypatch.setattr(sensors, "TICK_TIMEOUT_S", 0.05)
    look: sensors.Look[str] = sensors.Look("the lake")
    asked: list[int] = []

    def slowly():
        asked.append(1)
        sleep(0.4)
        return "found"

    with pytest.raises(TimeoutError, match=r"No answer from the lake within 0\.05 s, so nothing was started"):
        look.at(slowly)
    sleep(0.6)
    assert look.at(slowly) == "found"
    assert len(asked) == 1
    with pytest.raises(TimeoutError):
        look.at(slowly)
    assert len(asked) == 2


@pytest.mark.service
def test_a_recreated_hub_gives_a_clear_error_and_loses_nothing(site, tmp_path):
    site.send(readings(5))
    assert site.run_session().success
    before = {layer: site.rows(layer) for layer in ("bronze", "silver", "quarantine", "alerts")}
    original = site.hub
    original.stop()
    (tmp_path / "new").mkdir()
    site.start(RunningHub(original.hubs, tmp_path / "new"))
    site.send(readings(2))
    with pytest.raises(HubRecreatedError, match=r"'glucose_readings' was recreated.*hubs accept glucose_readings"):
        site.tick(SENSOR)
    assert not site.run_session().success
    assert {layer: site.rows(layer).equals(rows) for layer, rows in before.items()} == dict.fromkeys(before, True)
    site.start(original)
    site.send(readings(1, first=datetime.now(UTC)))
    wait_until(lambda: site.tick(SENSOR).run_requests, "the next session")


def stream_in(site: Site, hub: MemoryHub, *instants: datetime) -> None:
    """A session that finds one new reading for each instant."""
    hub.send([reading(at, value=90.0) for at in instants], datetime.now(UTC))
    run_session(site.lake, hub, clock=ticking(datetime.now(UTC)))


def requested(site: Site) -> list[tuple[str, str]]:
    return [(each.tags[RANGE_START], each.tags[RANGE_END]) for each in site.tick(GOLD_SENSOR).run_requests]


def refresh(site: Site, start: str, end: str) -> dg.ExecuteInProcessResult:
    return site.run(GOLD, tags={RANGE_START: start, RANGE_END: end, PENDING_ONLY_TAG: "true"})


def at(day: int, minute: int = 0) -> datetime:
    return datetime(2026, 3, day, 12, minute, tzinfo=UTC)


def test_no_new_rows_refresh_no_gold(offline):
    assert offline.tick(GOLD_SENSOR).skip_message == "0 event dates to refresh: nothing to do."


def test_gold_is_refreshed_for_touched_dates_the_newest_first(offline):
    stream_in(offline, MemoryHub(), at(1), at(2), at(5))
    # The moving average of a date needs the day before: the date after a touched one follows it.
    assert requested(offline) == [("2026-03-05", "2026-03-05"), ("2026-03-01", "2026-03-03")]


@pytest.mark.service
def test_dates_of_dead_clocks_do_not_hold_up_today(offline):
    now = datetime.now(UTC) - timedelta(minutes=1)
    old = [datetime(2012, 1, 1, tzinfo=UTC) + timedelta(days=30 * number) for number in range(120)]
    stream_in(offline, MemoryHub(), now, *old)
    due = requested(offline)
    assert due[0] == (now.date().isoformat(), now.date().isoformat())
    assert len(due) == 2
    for each in due:
        assert refresh(offline, *each).success
    made = offline.lake.table(GLUCOSE_DAILY).scan().select("event_date").collect().to_series().to_list()
    assert now.date() in made
    assert 1 < len(made) <= 63
    assert requested(offline)


@pytest.mark.service
def test_a_gold_run_that_lasts_long_leaves_older_dates_to_the_next_one(offline, monkeypatch):
    monkeypatch.setattr("assets.gold_asset.PENDING_S", -1.0)
    stream_in(offline, MemoryHub(), at(1), at(5), at(9))
    made = []
    for _ in range(3):
        assert refresh(offline, "2026-03-01", "2026-03-10").success
        dates = offline.lake.table(GLUCOSE_DAILY).scan().select("event_date").collect().to_series()
        made.append(sorted(dates.dt.day()))
    assert made == [[9], [5, 9], [1, 5, 9]]


@pytest.mark.service
def test_only_what_is_still_due_is_requested_again(offline):
    hub = MemoryHub()
    stream_in(offline, hub, at(1), at(9), at(20))
    first, *others = requested(offline)
    assert (first, others) == (("2026-03-20", "2026-03-20"), [("2026-03-01", "2026-03-10")])
    assert refresh(offline, *first).success
    # Without the newest date those that are left begin with the newest of them.
    first, *others = requested(offline)
    assert (first, others) == (("2026-03-09", "2026-03-10"), [("2026-03-01", "2026-03-02")])
    for each in (first, *others):
        assert refresh(offline, *each).success
    assert requested(offline) == []
    stream_in(offline, hub, at(9, minute=1))
    assert requested(offline) == [("2026-03-09", "2026-03-10")]


def test_one_gold_run_at_a_time(offline):
    stream_in(offline, MemoryHub(), at(1))
    run = offline.record(GOLD, dg.DagsterRunStatus.QUEUED)
    assert offline.tick(GOLD_SENSOR).skip_message == f"1 event dates to refresh; run {run.run_id[:8]} is at work."


@pytest.mark.service
def test_a_failed_gold_run_is_started_again(offline):
    stream_in(offline, MemoryHub(), at(1))
    (due,) = requested(offline)
    gold = offline.folder / "lake" / "gold"
    gold.write_text("no folder")
    assert not refresh(offline, *due).success
    assert not refresh(offline, *due).success
    gold.unlink()
    assert "the last 2 run(s) failed" in offline.tick(GOLD_SENSOR).skip_message
    wait_until(lambda: requested(offline) == [due], "the next run")
    assert refresh(offline, *due).success
    assert requested(offline) == []


@pytest.mark.service
def test_a_comparison_that_a_run_left_behind_is_requested_alone(offline):
    stream_in(offline, MemoryHub(), at(1))
    ((start, end),) = requested(offline)
    days = ("gold/glucose_daily", "gold/glucose_moving_average")
    assert offline.run(GOLD, only=days, tags={RANGE_START: start, RANGE_END: end}).success
    (request,) = offline.tick(GOLD_SENSOR).run_requests
    assert request.asset_selection == [dg.AssetKey(["gold", "patient_comparison"])]
    assert request.partition_key is None
    assert RANGE_START not in request.tags
    assert offline.run(GOLD, only=["gold/patient_comparison"], tags=request.tags).success
    assert offline.tick(GOLD_SENSOR).skip_message == "0 event dates to refresh: nothing to do."


def test_every_date_that_a_reading_may_have_is_a_partition(offline):
    oldest, newest = datetime(2010, 1, 1, tzinfo=UTC), datetime.now(UTC) + timedelta(minutes=9)
    stream_in(offline, MemoryHub(), oldest, newest)
    dates = {date for pair in requested(offline) for date in pair}
    assert {"2010-01-01", newest.date().isoformat()} <= dates
    assert all(EVENT_DATES.has_partition_key(date) for date in dates)
    assert EVENT_DATES.has_partition_key((today() + timedelta(days=1)).isoformat())
