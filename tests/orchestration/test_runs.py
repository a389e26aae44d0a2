"""Jobs as Dagster runs them: what stands in the tables and in the event log afterwards."""

import logging
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from dagster._core.events import DagsterEventType

from assets.glucose import gold as gold_module
from assets.glucose.assets import CONTRACT
from assets.gold import DailyGold
from assets.stream import asset as stream_asset
from assets.stream.decode import Decoder
from assets.stream.history import History
from assets.stream.process import Processor
from assets.stream.session import SessionLimits
from orchestration.live import prepare_dagster_home
from orchestration.schedules import purge_runs
from orchestration.sensors import RANGE_END, RANGE_START
from orchestration.system import SQL, STREAMS
from orchestration.work import refresh_gold
from resources.lake import Lake
from resources.reports import reports
from resources.settings import Settings
from resources.sources import namespace_of
from tests.crash.scene import published
from tests.orchestration.site import GOLD, PATIENCE_S, SESSION, Site, reading, readings, today, wait_until
from tests.reference.values import load_devices, load_patients
from tests.stream.hubs import MemoryHub
from tests.stream.scenarios import run_session, ticking, troubled_bodies
from tests.stream.tables import assert_exact, assert_follows_bronze
from tests.stream.test_rebuild import BEFORE_THE_FIX

pytestmark = pytest.mark.service

ROOT = Path(__file__).resolve().parents[2]
GLUCOSE = STREAMS[0]
LAYERS = ("bronze", "silver", "quarantine", "alerts")
REBUILT = ("silver/glucose_readings", "quarantine/glucose_readings", "alerts/glucose_readings")
EVENT = DagsterEventType


def events_of(instance: dg.DagsterInstance, run_id: str, *kinds: DagsterEventType) -> list[Any]:
    logged = (entry.dagster_event for entry in instance.all_logs(run_id))
    return [event for event in logged if event and event.event_type in kinds]


def numbers(event: Any) -> dict[str, Any]:
    return {name: value.value for name, value in event.step_materialization_data.materialization.metadata.items()}


def materialized(instance: dg.DagsterInstance, run_id: str) -> dict[str, dict[str, Any]]:
    """The last materialization of each asset."""
    found = events_of(instance, run_id, EVENT.ASSET_MATERIALIZATION)
    return {event.asset_key.to_user_string(): numbers(event) for event in found}


def checks(instance: dg.DagsterInstance, run_id: str) -> dict[str, bool]:
    found = (each.asset_check_evaluation_data for each in events_of(instance, run_id, EVENT.ASSET_CHECK_EVALUATION))
    return {f"{each.asset_key.path[0]}:{each.check_name}": each.passed for each in found}


def failure(instance: dg.DagsterInstance, run_id: str) -> str:
    return " ".join(str(event.step_failure_data.error) for event in events_of(instance, run_id, EVENT.STEP_FAILURE))


def test_a_session_reports_counts_offsets_and_checks(site):
    bodies = [*readings(4, value=120.0), b"not json", *readings(1, value=120.0)]
    site.send([*bodies, bodies[0]])
    site.send(readings(2, first=datetime.now(UTC) - timedelta(hours=3)), partition=1)
    result = site.run_session()
    assert result.success
    reported = materialized(site.instance, result.run_id)
    bronze = reported["bronze/glucose_readings"]
    assert (bronze["events"], bronze["expired_events"]) == (9, 0)
    assert (bronze["offset/0"], bronze["offset/1"]) == (6, 1)
    assert reported["quarantine/glucose_readings"] == {"rows": 1}
    for layer in ("silver", "quarantine", "alerts"):
        assert reported[f"{layer}/glucose_readings"]["rows"] == site.rows(layer).height
    assert reported["silver/glucose_readings"]["duplicates"] == 9 - 1 - site.rows("silver").height
    assert checks(site.instance, result.run_id) == {
        "alarms:one_open_alarm": True,
        "alarms:raising_readings_exist": True,
        "alarms:silence_is_told": True,
        "alarms:transitions_continuous": True,
        "alerts:all_published": True,
        "bronze:sequence_continuity": True,
        "quarantine:quarantine_share": False,
        "silver:counts_reconcile": True,
        "silver:freshness": True,
        "silver:keys_unique": True,
    }
    assert_exact(site.lake, site.source)


def test_a_run_says_nothing_of_patients(site):
    secrets = ("7301946528", "123.4567", "Secretville", "Janet Doe", "1985-04-12", "hush-hush", "Team Secret")
    load_patients(site.lake, {"patient_id": 7301946528, "full_name": "Janet Doe", "care_team": "Team Secret"})
    load_devices(site.lake, {-1: "none of these"})
    site.send(
        [
            reading(datetime.now(UTC), 123.4567, patient=7301946528, location="Secretville"),
            reading(datetime.now(UTC), 90.0, patient=7301946528, battery=1, **{"Janet Doe, 1985-04-12": 1}),
            b'{"patient_id": 7301946528, "note": "hush-hush',
            reading(datetime.now(UTC), "hush-hush", patient=7301946528),
        ]
    )
    (request,) = site.tick("glucose_readings_sensor").run_requests
    result = site.run(SESSION, partition_key=request.partition_key, tags=request.tags)
    assert result.success
    run = site.instance.get_run_by_id(result.run_id)
    log = [dg.serialize_value(entry) for entry in site.instance.all_logs(result.run_id)]
    written = "\n".join([*log, dg.serialize_value(run)])
    assert site.rows("silver")["patient_id"].to_list() == [7301946528, 7301946528]
    assert site.rows("quarantine").height == 2
    assert [secret for secret in secrets if secret in written] == []
    assert site.rows("silver")["care_team"].to_list() == ["Team Secret", "Team Secret"]
    silver = materialized(site.instance, result.run_id)["silver/glucose_readings"]
    assert silver["reference_missing"] == 2
    assert silver["unknown_field/battery"] == 1
    assert silver["unknown_fields_unnamed"] == 1


CANARY = "canary-4711"


def quoting(*_: object, **__: object) -> pl.DataFrame:
    """Fails as Polars does, with a text that quotes a value."""
    return pl.select(pl.lit(CANARY).cast(pl.Int64))


def failing(target: object, name: str) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda patch: patch.setattr(target, name, quoting)


REBUILD = {"job": SESSION, "only": REBUILT}
FAILURES: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], dict[str, Any], bool]] = {
    "clean": (lambda patch: patch.setitem(CONTRACT.__dict__, "clean", quoting), {"job": SESSION}, True),
    "alert_payload": (lambda patch: patch.setitem(CONTRACT.__dict__, "alert_payload", quoting), {"job": SESSION}, True),
    "processing": (failing(Processor, "_process"), {"job": SESSION}, False),
    "decoding": (failing(Decoder, "decode"), {"job": SESSION}, False),
    "a look-up": (failing(History, "readings"), {"job": SESSION}, False),
    "a rebuild": (failing(Processor, "_process"), REBUILD, False),
    "a replay": (failing(Processor, "_process"), {"job": "glucose_readings_replay"}, False),
    "a rederivation": (failing(Processor, "_process"), {"job": "glucose_readings_rederive"}, False),
    "gold": (failing(gold_module, "_by_time"), {"job": GOLD, "only": ["gold/glucose_daily"]}, False),
}


@pytest.mark.parametrize(("fail", "run", "succeeds"), FAILURES.values(), ids=FAILURES)
def test_whatever_fails_no_text_of_a_body_reaches_dagster_or_a_log(
    site, monkeypatch, caplog, capfd, fail, run, succeeds
):
    caplog.set_level("DEBUG")
    now = datetime.now(UTC)
    site.send([reading(now, 300.0, location=CANARY), f'{{"note": "{CANARY}'.encode(), reading(now, CANARY)])
    if run["job"] != SESSION or "only" in run:
        assert site.run_session().success
        site.send([reading(now, 301.0, location=CANARY)])
    elif fail is FAILURES["a look-up"][0]:
        assert site.run_session().success
        site.send([reading(now - timedelta(days=2), 300.0, location=CANARY)])
    options = dict(run)
    job, only = options.pop("job"), options.pop("only", ())
    if job == SESSION:
        options["partition_key"] = today().isoformat()
    if job == GOLD:
        options["tags"] = {RANGE_START: today().isoformat(), RANGE_END: today().isoformat()}
    with monkeypatch.context() as patch:
        fail(patch)
        result = site.run(job, only=only, **options)
    assert result.success is succeeds
    log = [dg.serialize_value(entry) for entry in site.instance.all_logs(result.run_id)]
    record = dg.serialize_value(site.instance.get_run_by_id(result.run_id))
    printed = capfd.readouterr()
    figures = [file.read_text() for file in sorted(Settings().metrics.iterdir())]
    assert "session ended" in printed.err
    written = "\n".join([*log, record, caplog.text, printed.out, printed.err, *figures])
    assert CANARY not in written, written[max(0, written.index(CANARY) - 600) : written.index(CANARY) + 200]
    assert site.rows("bronze").height >= 3


def test_a_session_shows_its_progress_while_it_runs(site, monkeypatch):
    monkeypatch.setattr(stream_asset, "LIVE_EVERY_S", 0.0)
    site.send(readings(3))
    result = site.run_session()
    assert result.success
    shown = events_of(site.instance, result.run_id, EVENT.ASSET_MATERIALIZATION)
    assert {event.partition for event in shown} == {today().isoformat()}
    assert Counter(event.asset_key.path[0] for event in shown) == dict.fromkeys((*LAYERS, "alarms"), 2)
    assert numbers(shown[0])["events"] == 3


def test_with_bronze_alone_selected_all_four_tables_are_still_written_and_shown(site):
    site.send(readings(3))
    result = site.run(SESSION, only=["bronze/glucose_readings"], partition_key=today().isoformat())
    assert result.success
    assert site.rows("silver").height == 3
    assert materialized(site.instance, result.run_id)["silver/glucose_readings"]["rows"] == 3
    assert set(checks(site.instance, result.run_id)) == {"bronze:sequence_continuity"}


def test_a_session_of_a_past_day_is_refused_and_says_what_to_select(offline):
    # Yesterday's may have been requested just before midnight.
    past = (today() - timedelta(days=2)).isoformat()
    result = offline.run(SESSION, partition_key=past)
    assert not result.success
    reason = failure(offline.instance, result.run_id)
    assert f"only for today ({today()}), not for {past}" in reason
    assert "select silver, quarantine and alerts without bronze" in reason


def test_a_session_without_its_hub_fails_with_the_hubs_name(site):
    site.hub.stop()
    result = site.run_session()
    assert not result.success
    assert "Check that the hub exists and runs" in failure(site.instance, result.run_id)


def days_of_trouble(lake: Lake, days: int = 3) -> list[str]:
    """Sessions on consecutive days that end yesterday, without a network; the ingest dates."""
    hub, first = MemoryHub(), today() - timedelta(days=days)
    bodies = troubled_bodies(90 * days, start=datetime(first.year, first.month, first.day, tzinfo=UTC))
    for number in range(days):
        noon = datetime(first.year, first.month, first.day, 12, tzinfo=UTC) + timedelta(days=number)
        hub.send(bodies[number::days], noon)
        run_session(lake, hub, clock=ticking(noon))
    return [(first + timedelta(days=number)).isoformat() for number in range(days)]


def everything(site: Site) -> dict[str, pl.DataFrame]:
    return {layer: site.rows(layer) for layer in LAYERS}


def assert_same(found: dict[str, pl.DataFrame], expected: dict[str, pl.DataFrame]) -> None:
    assert {name: frame.equals(expected[name]) for name, frame in found.items()} == dict.fromkeys(expected, True)


def damage(site: Site, day: str) -> None:
    """Takes the rows of one day from the tables that can be rebuilt, and nothing else."""
    for table in (site.store.silver, site.store.quarantine, site.store.alerts):
        table.replace([], f"ingest_date = '{day}'")


def test_a_backfill_from_bronze_gives_the_same_day_again(offline):
    days = days_of_trouble(offline.lake)
    before = everything(offline)
    damage(offline, days[1])
    assert offline.rows("silver").height < before["silver"].height
    result = offline.run(SESSION, only=REBUILT, partition_key=days[1])
    assert result.success
    assert_same(everything(offline), before)
    assert_follows_bronze(offline.lake)
    reported = materialized(offline.instance, result.run_id)
    assert set(reported) == set(REBUILT)
    of_day = before["silver"].filter(pl.col("ingest_date").cast(pl.String) == days[1]).height
    assert reported["silver/glucose_readings"]["rows_before"] == 0
    assert reported["silver/glucose_readings"]["rows"] == of_day
    assert checks(offline.instance, result.run_id)["silver:counts_reconcile"]
    assert "silver:freshness" not in checks(offline.instance, result.run_id)


def test_the_replay_job_lets_in_what_a_fix_lets_in_and_publishes_its_alerts(site):
    at = datetime.now(UTC) - timedelta(minutes=9)
    site.send([reading(at, "300"), reading(at + timedelta(minutes=1), 90.0), b"not json"])
    limits = SessionLimits(trigger_s=0.05, until_caught_up=True)
    run_session(site.lake, site.source, contract=BEFORE_THE_FIX, limits=limits, clock=lambda: datetime.now(UTC))
    assert site.rows("quarantine")["reason"].to_list() == ["bad_type:glucose_level", "not_json"]
    result = site.run("glucose_readings_replay")
    assert result.success
    assert site.rows("quarantine")["reason"].to_list() == ["not_json"]
    assert_exact(site.lake, site.source)
    stored = set(site.rows("alerts")["alert_id"])
    assert published(namespace_of(Settings()).source("alerts")) == stored
    assert len(stored) >= 3


def test_a_backfill_of_a_range_reports_each_day(offline):
    days = days_of_trouble(offline.lake)
    before = everything(offline)
    for day in days:
        damage(offline, day)
    result = offline.run(SESSION, only=REBUILT, tags={RANGE_START: days[0], RANGE_END: days[-1]})
    assert result.success
    assert_same(everything(offline), before)
    shown = events_of(offline.instance, result.run_id, EVENT.ASSET_MATERIALIZATION)
    assert Counter(event.partition for event in shown) == dict.fromkeys(days, 3)


def test_a_day_cannot_be_rebuilt_while_silver_is_behind(offline):
    (day,) = days_of_trouble(offline.lake, days=1)
    before = everything(offline)
    bronze = offline.store.bronze
    last = before["bronze"].tail(1).with_columns(pl.col("sequence_number") + 1)
    next_offset = {f"glucose_readings/{last['partition'][0]}": last["sequence_number"][0]}
    bronze.append(last, transactions=next_offset)
    result = offline.run(SESSION, only=REBUILT, partition_key=day)
    assert not result.success
    assert "silver is behind bronze" in failure(offline.instance, result.run_id)
    assert offline.rows("silver").equals(before["silver"])


def gold_rows(lake: Lake) -> dict[str, pl.DataFrame]:
    tables = (gold.table for gold in GLUCOSE.gold)
    return {
        table.name: lake.table(table)
        .scan()
        .collect()
        .sort([name for name in ("patient_id", "event_date") if name in table.schema])
        for table in tables
    }


def test_a_gold_backfill_of_a_range_makes_those_dates_and_the_comparison(offline):
    days = days_of_trouble(offline.lake)
    refresh_gold(GLUCOSE, offline.lake)
    before = gold_rows(offline.lake)
    dates = sorted({str(day) for day in before["gold/glucose_daily"]["event_date"]})
    for gold in GLUCOSE.gold:
        table = offline.lake.table(gold.table)
        table.replace([], "event_date >= '2000-01-01'" if isinstance(gold, DailyGold) else None)
    result = offline.run(GOLD, tags={RANGE_START: dates[0], RANGE_END: dates[-1]})
    assert result.success
    assert_same(gold_rows(offline.lake), before)
    reported = materialized(offline.instance, result.run_id)
    # Nothing happened to alarms since.
    assert reported.pop("gold/alarms")["rows"] == 0
    assert set(reported) == set(before)
    assert {name: counts["rows"] for name, counts in reported.items()} == {
        name: frame.height for name, frame in before.items()
    }
    assert days


def test_a_gold_run_leaves_other_dates_alone(offline):
    days_of_trouble(offline.lake)
    refresh_gold(GLUCOSE, offline.lake)
    before = gold_rows(offline.lake)
    dates = sorted({str(day) for day in before["gold/glucose_daily"]["event_date"]})
    daily = offline.lake.table(GLUCOSE.daily_gold[0].table)
    daily.replace([], "event_date >= '2000-01-01'")
    assert offline.run(GOLD, partition_key=dates[1]).success
    assert {str(day) for day in daily.scan().collect()["event_date"]} == {dates[1]}


def test_the_reports_job_builds_every_report(offline):
    days_of_trouble(offline.lake)
    refresh_gold(GLUCOSE, offline.lake)
    result = offline.run("reports")
    assert result.success
    reported = materialized(offline.instance, result.run_id)
    assert set(reported) == {f"gold/report_{report.name}" for report in reports(SQL / "reports")}
    assert reported["gold/report_data_quality"]["rows"] == 3
    assert reported["gold/report_patient_day_overview"]["rows"] > 0


def test_reports_of_an_empty_lake_are_empty(offline):
    result = offline.run("reports")
    assert result.success
    assert {counts["rows"] for counts in materialized(offline.instance, result.run_id).values()} == {0}


def test_house_keeping_purges_old_runs_and_maintains_gold(offline, monkeypatch):
    days_of_trouble(offline.lake, days=1)
    refresh_gold(GLUCOSE, offline.lake)
    daily = offline.lake.table(GLUCOSE.daily_gold[0].table)
    finished = offline.record(SESSION, dg.DagsterRunStatus.SUCCESS)
    working = offline.record(SESSION, dg.DagsterRunStatus.STARTED)
    monkeypatch.setenv("PULSELAKE_KEEP_RUNS_DAYS", "0")
    result = offline.run("housekeeping")
    assert result.success
    assert not offline.instance.has_run(finished.run_id)
    assert offline.instance.has_run(working.run_id)
    assert (Path(daily.uri) / "_delta_log" / "_last_checkpoint").exists()


def test_only_runs_that_ended_before_are_purged(offline):
    offline.record(SESSION, dg.DagsterRunStatus.SUCCESS)
    past, future = (datetime.now(UTC) + timedelta(days=days) for days in (-1, 1))
    assert purge_runs(offline.instance, past, past) == 0
    assert purge_runs(offline.instance, future, past) == 1


def test_successful_runs_of_gold_are_kept_for_a_shorter_time(offline):
    past, future = (datetime.now(UTC) + timedelta(days=days) for days in (-1, 1))
    gold = offline.record("glucose_readings_gold", dg.DagsterRunStatus.SUCCESS)
    others = [
        offline.record("glucose_readings_gold", dg.DagsterRunStatus.FAILURE),
        offline.record("glucose_readings_session", dg.DagsterRunStatus.SUCCESS),
    ]
    assert purge_runs(offline.instance, past, future) == 1
    assert not offline.instance.has_run(gold.run_id)
    assert all(offline.instance.has_run(run.run_id) for run in others)


@pytest.fixture
def filed(offline: Site) -> Iterable[Site]:
    """A site whose instance keeps its records in files and limits pools, as the project's dagster.yaml says."""
    prepare_dagster_home(Settings())
    with dg.DagsterInstance.from_config(str(Settings().dagster_home)) as instance:
        offline.instance = instance
        yield offline


@pytest.fixture
def pooled(site: Site, filed: Site) -> Site:
    """The same with its hub running."""
    assert site is filed
    return filed


def test_a_purged_run_leaves_no_files(filed):
    one = ["gold/report_data_quality"]
    run_id = filed.run("reports", only=one).run_id

    def files() -> list[Path]:
        return [file for file in Settings().dagster_home.rglob("*") if run_id in str(file) and file.is_file()]

    assert {file.suffix for file in files()} >= {".db", ".out", ".err"}
    future = datetime.now(UTC) + timedelta(days=1)
    assert purge_runs(filed.instance, future, future) == 1
    assert files() == []
    assert filed.run("reports", only=one).success


def test_a_second_session_of_a_stream_takes_over_from_the_first(pooled, caplog):
    caplog.set_level(logging.INFO)
    pooled.set(PULSELAKE_IDLE_TIMEOUT_S="600")
    pooled.send(readings(5))
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(pooled.run_session)
        wait_until(pooled.store.bronze.exists, "the first session's start")
        pooled.set(PULSELAKE_IDLE_TIMEOUT_S="0.4")
        second = threads.submit(pooled.run_session)
        results = [first.result(PATIENCE_S), second.result(PATIENCE_S)]
    assert all(result.success for result in results)
    in_order = ["session is the successor", "session handed over", "session took over"]
    assert [message for message in caplog.messages if message in in_order] == in_order
    assert pooled.rows("bronze").height == 5
    assert_exact(pooled.lake, pooled.source)


def test_a_terminated_session_commits_what_it_pulled_and_ends_as_cancelled(site, tmp_path):
    run_id = "5e551000-0000-4000-8000-000000000000"
    stop = threading.Event()

    def feed() -> None:
        minute = 0
        while not stop.wait(0.1):
            minute += 5
            site.send(readings(5, first=datetime(2026, 3, 1, tzinfo=UTC) + timedelta(minutes=minute), value=120.0))

    feeder = threading.Thread(target=feed)
    (tmp_path / "dagster").mkdir()
    command = [sys.executable, "-m", "tests.orchestration.terminated", str(tmp_path / "dagster"), run_id]
    site.set(PULSELAKE_IDLE_TIMEOUT_S="600", PYTHONWARNINGS="ignore")
    with (tmp_path / "session.log").open("w") as log:
        session = subprocess.Popen(command, cwd=ROOT, stderr=log)
        feeder.start()
        try:
            wait_until(lambda: site.store.silver.scan().select(pl.len()).collect().item() > 0, "the first commit")
            with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance:
                run = instance.get_run_by_id(run_id)
                assert run is not None
                instance.report_run_canceling(run)
                session.send_signal(signal.SIGINT)
                session.wait(PATIENCE_S)
                ended = instance.get_run_by_id(run_id)
                assert ended is not None
                assert ended.status is dg.DagsterRunStatus.CANCELED
                reported = materialized(instance, run_id)
                assert checks(instance, run_id)["silver:counts_reconcile"]
        finally:
            stop.set()
            feeder.join()
            session.kill()
            session.wait()
    assert set(reported) == {f"{layer}/glucose_readings" for layer in (*LAYERS, "alarms")}
    assert reported["bronze/glucose_readings"]["events"] == site.rows("bronze").height
    assert reported["silver/glucose_readings"]["rows"] == site.rows("silver").height
    assert_follows_bronze(site.lake)
    site.set(PULSELAKE_IDLE_TIMEOUT_S="0.4")
    assert site.run_session().success
    assert_exact(site.lake, site.source)
