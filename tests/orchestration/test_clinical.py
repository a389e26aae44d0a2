"""The clinical sources under Dagster: a synthetic hospital through all layers, with sources that are down or bad."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from typer.testing import CliRunner

from assets.clinical.sources import EHR, GOLD, SOURCES
from orchestration.cli import app
from orchestration.clinical import due, keys_of, shown
from orchestration.definitions import defs
from orchestration.hospital import make_hospital, served_telemetry
from resources.batch_sources import EHR_FILE
from resources.settings import Settings
from tests.orchestration.site import Site, today

ASSETS = [key.to_user_string() for key in defs.resolve_asset_graph().get_all_asset_keys()]
pytestmark = pytest.mark.service


@pytest.fixture
def hospital(offline: Site) -> Iterator[Path]:
    """A hospital of ten patients and three days, whose telemetry is served."""
    folder = Settings().hospital
    make_hospital(folder, patients=10, days=3, until=datetime.now(UTC))
    with served_telemetry(folder, 0) as address:
        offline.set(PULSELAKE_TELEMETRY_URL=address)
        yield folder


def load(site: Site, *names: str) -> dict[str, dg.ExecuteInProcessResult]:
    """The runs that the schedule requests, or those of some sources."""
    wanted = [each for each in SOURCES if not names or each.name in names]
    return {
        each.name: site.run(
            "clinical_load",
            only=[key.to_user_string() for key in keys_of(each)],
            partition_key=today().isoformat(),
        )
        for each in wanted
    }


def follow(site: Site) -> int:
    """Runs what the sensor requests until it requests nothing; how many runs there were."""
    runs = 0
    while requests := (site.tick("clinical_sensor").run_requests or []):
        for request in requests:
            runs += 1
            only = [key.to_user_string() for key in request.asset_selection or []]
            assert site.run("clinical_gold", only=only, tags=request.tags).success
        assert runs < 20
    return runs


def rows(site: Site, name: str) -> pl.DataFrame:
    return pl.read_delta(f"{site.lake.root}/{name}")


def test_a_hospital_goes_through_all_layers(offline, hospital):
    with closing(sqlite3.connect(hospital / EHR_FILE)) as connection:
        # So few patients have a bad reading in most stretches of three days, not in all.
        connection.execute("UPDATE EHR SET reading = 'n/a' WHERE id = (SELECT min(id) FROM EHR)")
        connection.commit()
    results = load(offline)
    assert {name: result.success for name, result in results.items()} == dict.fromkeys(results, True)
    follow(offline)
    assert due(offline.lake) == ([], [])
    with closing(sqlite3.connect(hospital / EHR_FILE)) as connection:
        [(in_ehr,)] = connection.execute("SELECT count(*) FROM EHR")
    assert rows(offline, "bronze/ehr").height == in_ehr
    for each in SOURCES:
        bronze, quarantine = offline.lake.table(each.bronze).count(), offline.lake.table(each.quarantine).count()
        silver = offline.lake.table(each.silver).count()
        assert 0 < silver <= bronze - quarantine, each.name
    for derived in GOLD:
        assert offline.lake.table(derived.table).count(), derived.table.name
    joined = rows(offline, "silver/ehr")
    assert not joined.select("patient_id", "measured_at").is_duplicated().any()
    assert joined["telemetry_at"].drop_nulls().len() > joined.height / 2
    reports = [name for name in ASSETS if name.startswith("gold/report_clinical_")]
    assert offline.run("reports", only=reports).success
    assert all(rows(offline, name).height for name in reports)
    loads = rows(offline, "gold/report_clinical_loads")
    assert loads.filter(source="ehr")["row_count"].sum() == in_ehr
    assert offline.run("data_quality", partition_key=today().isoformat()).success
    page = (Path(offline.lake.root) / "pages" / "data_quality" / f"{today()}.html").read_text()
    for said in ("silver/ehr_patients", "keys unique", "bad value: reading", "All is well: 27 checks passed"):
        assert said in page
    assert offline.run("report_pages").success
    listed = CliRunner().invoke(app, ["pages"])
    assert f"{offline.lake.root}/pages/data_quality/{today()}.html  (1 days)" in listed.output
    assert listed.output.count(".html") == 4
    for name in ("clinical_dashboard", "clinical_devices", "clinical_loads"):
        pages = Path(offline.lake.root) / "pages" / name
        assert pl.read_parquet(pages / f"{today()}.parquet").height
        assert "<table>" in (pages / f"{today()}.html").read_text()
    # What one run says to Dagster is counts and names of columns.
    events = "".join(map(str, results["ehr_patients"].all_events))
    names = rows(offline, "silver/ehr_patients")["full_name"].drop_nulls()
    assert not [name for name in names if name in events]


def test_a_source_that_is_down_fails_alone_and_the_next_run_catches_up(offline, hospital):
    (hospital / EHR_FILE).rename(hospital / "away")
    results = load(offline)
    assert {name for name, result in results.items() if not result.success} == {
        "ehr",
        "ehr_patients",
        "ehr_encounters",
        "ehr_medications",
    }
    [failed] = [event for event in results["ehr"].all_events if event.is_step_failure]
    for said in ("ehr: reading the table EHR", "unable to open database file", "PULSELAKE_EHR_URL"):
        assert said in str(failed.step_failure_data.user_failure_data)
    assert rows(offline, "silver/telemetry").height
    (hospital / "away").rename(hospital / EHR_FILE)
    assert load(offline, "ehr")["ehr"].success
    assert rows(offline, "silver/ehr").height


def test_a_second_run_and_a_backfill_change_nothing(offline, hospital):
    load(offline, "telemetry", "ehr")
    follow(offline)
    tables = (
        "bronze/ehr",
        "silver/ehr",
        "quarantine/ehr",
        "gold/patient_monitoring",
        "gold/patient_monitoring_by_kind",
    )
    before = {name: rows(offline, name).sort(pl.all()) for name in tables}
    load(offline, "telemetry", "ehr")
    yesterday = (today() - timedelta(days=1)).isoformat()
    ehr = next(each for each in SOURCES if each.name == "ehr")
    only = [key.to_user_string() for key in keys_of(ehr)]
    for _ in range(2):
        assert offline.run("clinical_load", only=only, partition_key=yesterday).success
        by_date = [derived.table.name for derived in GOLD if derived.table.name.startswith("gold/patient")]
        assert offline.run("clinical_gold", only=by_date, partition_key=yesterday).success
    follow(offline)
    for name, frame in before.items():
        assert rows(offline, name).sort(pl.all()).equals(frame), name


def test_a_new_column_is_reported_by_a_check_and_kept(offline, hospital):
    make_hospital(hospital, patients=12, days=3, until=datetime.now(UTC) - timedelta(days=1))
    load(offline, "ehr")
    make_hospital(hospital, patients=12, days=3, until=datetime.now(UTC), has_wards=True)
    result = load(offline, "ehr")["ehr"]
    assert result.success
    checks = {check.check_name: check for check in result.get_asset_check_evaluations()}
    assert not checks["columns_as_declared"].passed
    assert checks["columns_as_declared"].metadata["undeclared_columns"].value == "ward"
    assert checks["keys_unique"].passed
    assert rows(offline, "bronze/ehr")["ward"].drop_nulls().len()


def evaluated(offline: Site, name: str, tick: datetime) -> Any:
    repository = defs.get_repository_def()
    with dg.build_schedule_context(
        instance=offline.instance, scheduled_execution_time=tick, repository_def=repository, resources=defs.resources
    ) as context:
        return repository.get_schedule_def(name).evaluate_tick(context)


def test_a_page_of_data_quality_is_of_the_day_of_its_tick_however_late_that_is_evaluated(offline):
    tick = datetime(2026, 11, 20, 0, 40, tzinfo=UTC)
    assert "Nothing came yet" in evaluated(offline, "data_quality_schedule", tick).skip_message
    offline.lake.table(EHR.bronze).create()
    keys = [
        [each.partition_key for each in evaluated(offline, "data_quality_schedule", at).run_requests]
        for at in (tick, tick.replace(hour=23), tick.astimezone(timezone(timedelta(hours=-5))))
    ]
    assert keys == [["2026-11-19", "2026-11-20"], ["2026-11-20"], ["2026-11-19", "2026-11-20"]]


def test_the_schedule_starts_a_run_for_each_source_that_is_set_up(offline):
    def evaluate() -> Any:
        return evaluated(offline, "clinical_schedule", datetime.now(UTC))

    assert "pulselake hospital" in evaluate().skip_message
    offline.set(PULSELAKE_TRIALS_URL="sqlite:///trials.sqlite")
    requests = evaluate().run_requests
    assert [request.tags["pulselake/source"] for request in requests] == ["trials", "trial_logs"]
    assert {request.partition_key for request in requests} == {today().isoformat()}
    Settings().hospital.mkdir(parents=True)
    assert len(evaluate().run_requests) == len(SOURCES)


def test_a_range_of_dates_is_one_that_dagster_knows():
    day = today()
    assert shown([day, day - timedelta(days=3)]) == (day - timedelta(days=3), day)
    assert shown([day, day.replace(year=1950), day - timedelta(days=4000)]) == (day - timedelta(days=365), day)
    assert shown([day.replace(year=1950)]) is None
