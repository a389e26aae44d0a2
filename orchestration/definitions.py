"""The whole system on one screen: assets, jobs, sensors and schedules, and what all of them share."""

import dagster as dg

from assets.clinical.assets import clinical_assets
from assets.gold import DailyGold
from assets.gold_asset import alarm_gold_asset, daily_gold_asset, gold_alerts_asset, whole_gold_asset
from assets.notification_asset import outbox_asset
from assets.page_assets import data_quality_asset, report_pages
from assets.patients.assets import patient_360
from assets.reference.assets import reference_assets
from assets.reports import report_assets
from assets.store_asset import alarm_store_asset, reference_store_asset, store_asset
from assets.stream.asset import alarms_hub_asset, alerts_hub_asset, hub_asset, stream_assets, table_key
from assets.sync.alarms import ALERTS, LIFECYCLE
from assets.sync.reference import REFERENCE_FEEDS
from orchestration.clinical import clinical_gold, clinical_load, clinical_schedule
from orchestration.copied import copied_source, copied_tables_asset, copy_database
from orchestration.jobs import (
    device_poll_job,
    gold_job,
    notifications_job,
    openfda_poll,
    rederive_job,
    replay_job,
    reports_job,
    session_job,
    store_job,
    watched_import,
)
from orchestration.notifying import send_where_nobody_does
from orchestration.oltp import described, may_sync
from orchestration.pages import data_quality_job, page_schedules, report_pages_job
from orchestration.patients import patient_360_job, patients_sensor
from orchestration.schedules import housekeeping, retention, schedules
from orchestration.sensors import (
    clinical_sensor,
    declared_accounts,
    device_poll_sensor,
    first_load_sensor,
    gold_sensor,
    openfda_sensor,
    session_sensor,
    watch_sensor,
)
from orchestration.system import ALARM_FEEDS, FEEDS, HUBS, SQL, STREAMS, tables, views
from resources.dagster_resources import HubsResource, LakeResource, StoreResource
from resources.log_settings import set_up_from_settings
from resources.reports import reports

# This module is what the processes of sensors and of runs load first.
set_up_from_settings()

OWNER = "team:data-engineering"

contracts = {stream.name: stream.contract for stream in STREAMS}
sessions = {stream.name: session_job(stream) for stream in STREAMS}
golds = {stream.name: gold_job(stream) for stream in STREAMS if stream.gold}
reports_of_lake = reports_job()
checks_of_store, notifications = store_job(), notifications_job()
alarm_tables = [stream.contract.tables["alarms"] for stream in STREAMS if stream.contract.alarms]
report_files = reports(SQL / "reports")
report_tables = report_assets(report_files, tables(), views())
polls = {account.name: (account, device_poll_job(account)) for account in declared_accounts()}


def with_defaults(spec: dg.AssetSpec) -> dg.AssetSpec:
    """Owner, privacy tag and freshness; what is made of several streams counts as data of patients."""
    contract = contracts.get(spec.group_name or "")
    phi = "true" if contract is None or contract.phi else "false"
    spec = spec.merge_attributes(
        owners=[contract.owner if contract else OWNER], tags={"phi": spec.tags.get("phi", phi)}
    )
    if contract is None or contract.max_silence is None or spec.key != table_key(contract.tables.silver.name):
        return spec
    warned, failed = contract.max_silence, 4 * contract.max_silence
    return spec.replace_attributes(freshness_policy=dg.FreshnessPolicy.time_window(failed, warned))


defs = dg.Definitions(
    assets=dg.map_asset_specs(
        with_defaults,
        [
            *(hub_asset(stream.contract) for stream in STREAMS),
            *(stream_assets(stream.contract) for stream in STREAMS),
            alerts_hub_asset(table for stream in STREAMS for table in stream.published),
            alarms_hub_asset(alarm_tables),
            *(
                daily_gold_asset(gold, stream.name)
                if isinstance(gold, DailyGold)
                else whole_gold_asset(gold, stream.name)
                for stream in STREAMS
                for gold in stream.gold
            ),
            *(gold_alerts_asset(alerts, stream.name) for stream in STREAMS for alerts in stream.gold_alerts),
            alarm_gold_asset([stream.alarm_gold for stream in STREAMS if stream.alarm_gold]),
            report_tables,
            *report_pages(report_files, tables()),
            data_quality_asset([*contracts.values()], report_files, tables(), views()),
            *reference_assets(),
            *clinical_assets(),
            copied_source,
            copied_tables_asset,
            patient_360,
            *(store_asset(feed, described(feed.table), may_sync) for feed in FEEDS),
            *(alarm_store_asset(ALARM_FEEDS, table, described(table), may_sync) for table in (ALERTS, LIFECYCLE)),
            *(reference_store_asset(feed, described(feed.table), may_sync) for feed in REFERENCE_FEEDS),
            outbox_asset(alarm_tables, send_where_nobody_does),
        ],
    ),
    jobs=[
        *sessions.values(),
        *golds.values(),
        *(replay_job(stream) for stream in STREAMS),
        *(rederive_job(stream) for stream in STREAMS),
        reports_of_lake,
        checks_of_store,
        notifications,
        housekeeping,
        retention,
        openfda_poll,
        *(job for _, job in polls.values()),
        watched_import,
        clinical_load,
        clinical_gold,
        copy_database,
        patient_360_job,
        data_quality_job,
        report_pages_job,
    ],
    sensors=[
        *(session_sensor(stream, sessions[stream.name]) for stream in STREAMS),
        *(gold_sensor(stream, golds[stream.name]) for stream in STREAMS if stream.gold),
        openfda_sensor(),
        *(device_poll_sensor(account, job) for account, job in polls.values()),
        watch_sensor(),
        clinical_sensor(),
        first_load_sensor(),
        patients_sensor(),
    ],
    schedules=[*schedules(reports_of_lake, checks_of_store, notifications), clinical_schedule(), *page_schedules()],
    resources={"lake": LakeResource(), "hubs": HubsResource(streams=list(HUBS)), "store": StoreResource()},
)
