"""The whole system's names and what every asset must say of itself; a change here is a change for users."""

from collections.abc import Iterable

import dagster as dg
import pytest

from assets.clinical.sources import GOLD as CLINICAL_GOLD
from assets.clinical.sources import SOURCES
from orchestration.definitions import defs
from orchestration.system import FEEDS, ROOT, STREAMS
from resources.store_tables import EDITABLE

GRAPH = defs.resolve_asset_graph()
EXECUTABLE = sorted(GRAPH.executable_asset_keys)
FILLED = (*(feed.table for feed in FEEDS), "Alerts", "AlertLifecycle")
LAYERS = ("landing", "bronze", "silver", "quarantine")
CLINICAL_POOLS = {"landing": "load", "bronze": "load", "silver": "clean", "quarantine": "clean"}
ADDED_UP = {gold.table.name for stream in STREAMS for gold in stream.daily_gold}
KINDS = {
    "alarms",
    "alerts",
    "azureeventhub",
    "bronze",
    "deltalake",
    "duckdb",
    "gold",
    "html",
    "landing",
    "parquet",
    "polars",
    "quarantine",
    "silver",
    "sql",
}
OF_NO_PATIENT = {
    *(dg.AssetKey([layer, each.name]) for each in SOURCES if not each.phi for layer in LAYERS),
    *(dg.AssetKey(each.table.name.split("/")) for each in CLINICAL_GOLD if not each.phi),
}


def names(keys: Iterable[dg.AssetKey] | Iterable[dg.AssetCheckKey]) -> list[str]:
    return sorted(key.to_user_string() for key in keys)


def test_assets():
    assert names(GRAPH.get_all_asset_keys()) == [
        "alarms/device_readings",
        "alarms/glucose_readings",
        "alarms/vitals",
        "alerts/adverse_events",
        "alerts/alarm_actions",
        "alerts/device_readings",
        "alerts/glucose_readings",
        "alerts/safety_signals",
        "alerts/vitals",
        "bronze/adverse_events",
        "bronze/alarm_actions",
        "bronze/copied_tables",
        "bronze/device_events",
        "bronze/device_readings",
        "bronze/documents",
        "bronze/ehr",
        "bronze/ehr_encounters",
        "bronze/ehr_medications",
        "bronze/ehr_patients",
        "bronze/glucose_readings",
        "bronze/telemetry",
        "bronze/trial_logs",
        "bronze/trials",
        "bronze/vitals",
        "gold/alarms",
        "gold/device_health",
        "gold/device_performance",
        "gold/document_index",
        "gold/glucose_daily",
        "gold/glucose_moving_average",
        "gold/news2",
        "gold/overdose_trend",
        "gold/patient_360",
        "gold/patient_adverse_event_report",
        "gold/patient_comparison",
        "gold/patient_monitoring",
        "gold/patient_monitoring_by_kind",
        "gold/reactions_by_age_group",
        "gold/reactions_by_drug",
        "gold/report_adverse_event_age_groups",
        "gold/report_adverse_event_overdose_trend",
        "gold/report_adverse_event_reactions_by_drug",
        "gold/report_adverse_event_signals",
        "gold/report_alarm_floods",
        "gold/report_alarm_performance",
        "gold/report_alarms_by_patient_and_day",
        "gold/report_alarms_by_rule",
        "gold/report_alarms_chattering",
        "gold/report_alarms_standing",
        "gold/report_alerts_by_rule_and_day",
        "gold/report_arrival_delay",
        "gold/report_clinical_dashboard",
        "gold/report_clinical_devices",
        "gold/report_clinical_loads",
        "gold/report_data_quality",
        "gold/report_device_attention",
        "gold/report_glucose_control_ranking",
        "gold/report_ingest_lag",
        "gold/report_load_compliance",
        "gold/report_patient_day_overview",
        "gold/report_quarantine_by_reason",
        "gold/report_vitals_day_overview",
        "gold/reports_by_substance",
        "gold/safety_signals",
        "gold/signal_counts",
        "gold/trial_summary",
        "gold/vitals_daily",
        "gold/vitals_minute",
        "hub/adverse_events",
        "hub/alarm_actions",
        "hub/alarms",
        "hub/alerts",
        "hub/device_readings",
        "hub/glucose_readings",
        "hub/vitals",
        "landing/device_events",
        "landing/documents",
        "landing/ehr",
        "landing/ehr_encounters",
        "landing/ehr_medications",
        "landing/ehr_patients",
        "landing/telemetry",
        "landing/trial_logs",
        "landing/trials",
        "notifications/outbox",
        "page/clinical_dashboard",
        "page/clinical_devices",
        "page/clinical_loads",
        "page/data_quality",
        "quarantine/adverse_events",
        "quarantine/alarm_actions",
        "quarantine/clinical_loads",
        "quarantine/device_events",
        "quarantine/device_readings",
        "quarantine/documents",
        "quarantine/ehr",
        "quarantine/ehr_encounters",
        "quarantine/ehr_medications",
        "quarantine/ehr_patients",
        "quarantine/glucose_readings",
        "quarantine/telemetry",
        "quarantine/trial_logs",
        "quarantine/trials",
        "quarantine/vitals",
        "reference/devices",
        "reference/identity",
        "reference/manufacturers",
        "reference/patients",
        "reference/rules",
        "reference/subscribers",
        "reference/subscriptions",
        "silver/alarm_actions",
        "silver/device_events",
        "silver/device_readings",
        "silver/documents",
        "silver/ehr",
        "silver/ehr_encounters",
        "silver/ehr_medications",
        "silver/ehr_patients",
        "silver/glucose_readings",
        "silver/report_drugs",
        "silver/report_reactions",
        "silver/safety_reports",
        "silver/telemetry",
        "silver/trial_logs",
        "silver/trials",
        "silver/vitals",
        "source/copied_tables",
        "source/device_events",
        "source/documents",
        "source/ehr",
        "source/ehr_encounters",
        "source/ehr_medications",
        "source/ehr_patients",
        "source/telemetry",
        "source/trial_logs",
        "source/trials",
        "store/AlertLifecycle",
        "store/Alerts",
        "store/DeviceOperationalData",
        "store/DeviceStaticInfo",
        "store/GlucoseReadings",
        "store/Manufacturer",
        "store/Patient",
        "store/PatientAdverseEventReport",
        "store/SubscribedPatients",
        "store/Subscriber",
        "store/patient_status",
    ]


def test_only_hubs_clinical_sources_and_reference_data_are_outside():
    assert names(GRAPH.get_all_asset_keys() - set(EXECUTABLE)) == [
        "hub/adverse_events",
        "hub/alarm_actions",
        "hub/alarms",
        "hub/alerts",
        "hub/device_readings",
        "hub/glucose_readings",
        "hub/vitals",
        "quarantine/clinical_loads",
        "reference/devices",
        "reference/identity",
        "reference/manufacturers",
        "reference/patients",
        "reference/rules",
        "reference/subscribers",
        "reference/subscriptions",
        "source/copied_tables",
        "source/device_events",
        "source/documents",
        "source/ehr",
        "source/ehr_encounters",
        "source/ehr_medications",
        "source/ehr_patients",
        "source/telemetry",
        "source/trial_logs",
        "source/trials",
    ]


def test_reference_data_says_how_private_it_is():
    tags = {key.path[1]: GRAPH.get(key).tags["phi"] for key in GRAPH.get_all_asset_keys() if key.path[0] == "reference"}
    assert {name for name, phi in tags.items() if phi == "false"} == {"manufacturers"}
    assert all(GRAPH.get(key).group_name == "reference" for key in GRAPH.get_all_asset_keys() if key.path[1] in tags)


def test_checks():
    of_each_stream = [
        "alerts/{}:all_published",
        "bronze/{}:sequence_continuity",
        "quarantine/{}:quarantine_share",
    ]
    of_silver = ("counts_reconcile", "keys_unique")
    of_children = ("parents_exist", "counts_match_parents")
    of_alarms = ("one_open_alarm", "raising_readings_exist", "silence_is_told", "transitions_continuous")
    expected = [
        *(name.format(stream.name) for name in of_each_stream for stream in STREAMS),
        *(f"alarms/{stream.name}:{name}" for name in of_alarms for stream in STREAMS if stream.contract.alarms),
        *(f"{stream.contract.tables.silver.name}:{name}" for name in of_silver for stream in STREAMS),
        *(f"{stream.contract.tables.silver.name}:freshness" for stream in STREAMS if stream.contract.max_silence),
        *(f"notifications/outbox:{name}" for name in ("oldest_urgent", "failed_share", "none_given_up")),
        *(f"store/{table}:{name}" for name in ("rows_equal", "sync_lag") for table in FILLED),
        *(f"silver/{table}:{name}" for name in of_children for table in ("report_drugs", "report_reactions")),
        *(f"bronze/{source.name}:columns_as_declared" for source in SOURCES),
        *(f"silver/{source.name}:keys_unique" for source in SOURCES),
        *(f"quarantine/{source.name}:quarantine_share" for source in SOURCES),
        *(f"gold/patient_360:{name}" for name in ("no_patient_lost", "one_row_a_patient")),
    ]
    assert names(GRAPH.asset_check_keys) == sorted(expected)


def test_jobs():
    assert sorted(job.name for job in defs.resolve_all_job_defs() if not job.name.startswith("__")) == [
        "adverse_events_gold",
        "adverse_events_rederive",
        "adverse_events_replay",
        "adverse_events_session",
        "alarm_actions_rederive",
        "alarm_actions_replay",
        "alarm_actions_session",
        "clinical_gold",
        "clinical_load",
        "copy_database",
        "data_quality",
        "device_readings_gold",
        "device_readings_rederive",
        "device_readings_replay",
        "device_readings_session",
        "glucose_readings_gold",
        "glucose_readings_rederive",
        "glucose_readings_replay",
        "glucose_readings_session",
        "housekeeping",
        "notifications",
        "openfda_poll",
        "patient_360",
        "report_pages",
        "reports",
        "retention",
        "store",
        "vitals_gold",
        "vitals_rederive",
        "vitals_replay",
        "vitals_session",
        "watched_import",
    ]


def test_what_may_wait_leaves_the_processors_to_sessions():
    niced = {job.name for job in defs.resolve_all_job_defs() if job.tags.get("pulselake/nice") == "10"}
    of_each_stream = {f"{stream.name}_rederive" for stream in STREAMS}
    of_gold = {f"{stream.name}_gold" for stream in STREAMS if stream.gold}
    clinical = {"clinical_gold", "clinical_load", "copy_database"}
    others = {"housekeeping", "notifications", "openfda_poll", "patient_360", "reports", "retention", "store"}
    others.add("watched_import")
    pages = {"data_quality", "report_pages"}
    assert niced == {*others, *clinical, *pages, *of_each_stream, *of_gold}


def test_sensors():
    repository = defs.get_repository_def()
    assert {sensor.name: sensor.minimum_interval_seconds for sensor in repository.sensor_defs} == {
        "adverse_events_gold_sensor": 30,
        "adverse_events_sensor": 5,
        "alarm_actions_sensor": 5,
        "clinical_first_load_sensor": 30,
        "clinical_sensor": 60,
        "device_readings_gold_sensor": 30,
        "device_readings_sensor": 5,
        "glucose_readings_gold_sensor": 30,
        "glucose_readings_sensor": 5,
        "openfda_sensor": 30,
        "patients_sensor": 120,
        "vitals_gold_sensor": 30,
        "vitals_sensor": 5,
        "watch_sensor": 30,
    }
    stopped = {
        sensor.name for sensor in repository.sensor_defs if sensor.default_status is dg.DefaultSensorStatus.STOPPED
    }
    # A local system asks nothing of the internet unless somebody wants it.
    assert stopped == {"openfda_sensor", "watch_sensor"}


def test_schedules():
    schedules = defs.get_repository_def().schedule_defs
    assert {schedule.name: schedule.cron_schedule for schedule in schedules} == {
        "clinical_schedule": "10 3 * * *",
        "data_quality_schedule": "40 * * * *",
        "housekeeping_schedule": "17 * * * *",
        "notifications_schedule": "7-59/15 * * * *",
        "report_pages_schedule": "30 5 * * *",
        "reports_schedule": "*/15 * * * *",
        "retention_schedule": "43 2 * * *",
        "store_schedule": "23 1 * * *",
    }
    assert {schedule.default_status for schedule in schedules} == {dg.DefaultScheduleStatus.RUNNING}


@pytest.mark.parametrize("key", EXECUTABLE, ids=dg.AssetKey.to_user_string)
def test_every_asset_says_what_it_is_whose_and_how_private(key):
    asset = GRAPH.get(key)
    assert asset.description
    assert asset.owners == ["team:data-engineering"]
    others = {"alarms", "clinical", "copied", "notifications", "pages", "patients", "reports", "store"}
    assert asset.group_name in {*(stream.name for stream in STREAMS), *others}
    assert asset.kinds
    assert asset.kinds <= KINDS
    # Reports are made of several streams, so of patients too.
    of_devices = asset.group_name == "device_readings" or key.path[-1] in ("DeviceOperationalData", "Manufacturer")
    assert asset.tags["phi"] == ("false" if of_devices or key in OF_NO_PATIENT else "true")


def test_silver_has_a_freshness_policy():
    assert names(key for key in EXECUTABLE if GRAPH.get(key).freshness_policy) == [
        "silver/device_readings",
        "silver/glucose_readings",
        "silver/safety_reports",
        "silver/vitals",
    ]


@pytest.mark.parametrize("key", EXECUTABLE, ids=dg.AssetKey.to_user_string)
def test_lineage_starts_at_a_hub_at_a_clinical_source_or_at_reference_data(key):
    sources = {ancestor for ancestor in GRAPH.get_ancestor_asset_keys(key) if not GRAPH.get(ancestor).parent_keys}
    assert sources
    roots = {source.path[0] for source in sources}
    assert roots <= {"hub", "source", "reference"}
    # What may be edited in the store is of reference data alone.
    assert bool(roots & {"hub", "source"}) == (key.path[-1] not in EDITABLE)


def test_alerts_end_at_their_hub():
    assert names(GRAPH.get(dg.AssetKey(["hub", "alerts"])).parent_keys) == [
        "alerts/adverse_events",
        "alerts/alarm_actions",
        "alerts/device_readings",
        "alerts/glucose_readings",
        "alerts/safety_signals",
        "alerts/vitals",
    ]


def test_alarms_follow_from_alerts_and_from_what_people_do_and_end_at_their_hub():
    assert names(GRAPH.get(dg.AssetKey(["hub", "alarms"])).parent_keys) == [
        "alarms/device_readings",
        "alarms/glucose_readings",
        "alarms/vitals",
    ]
    assert names(GRAPH.get(dg.AssetKey(["alarms", "vitals"])).parent_keys) == [
        "alerts/vitals",
        "silver/alarm_actions",
        "silver/vitals",
    ]


def test_every_job_runs_in_one_process():
    jobs = [job for job in defs.resolve_all_job_defs() if not job.name.startswith("__")]
    assert {job.executor_def.name for job in jobs} == {"in_process"}


def test_two_writers_of_a_derived_table_share_a_pool():
    # All daily gold of a stream writes the table of slots that it is added up from. The writers of a stream's own
    # tables wait for each other by locks, see `resources.leases`.
    pools = {name: set(GRAPH.get(dg.AssetKey(name.split("/"))).pools or ()) for name in names(EXECUTABLE)}
    assert pools == {
        name: {
            "reports"
            if name.startswith("gold/report_")
            else f"gold__{GRAPH.get(dg.AssetKey(name.split('/'))).group_name}"
            if name in ADDED_UP
            else name.replace("/", "__")
        }
        if name.startswith(("gold/", "notifications/", "store/")) or name == "alerts/safety_signals"
        else {"copied_tables"}
        if name == "bronze/copied_tables"
        else {name.replace("/", "__")}
        if name.startswith("page/")
        else {f"{CLINICAL_POOLS[name.partition('/')[0]]}__{name.partition('/')[2]}"}
        if name.partition("/")[2] in {source.name for source in SOURCES}
        else set()
        for name in pools
    }


def test_every_run_has_a_time_limit(tmp_path):
    (tmp_path / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text())
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert instance.run_monitoring_enabled
        assert instance.run_monitoring_max_runtime_seconds > 0
