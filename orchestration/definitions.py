"""The whole system on one screen: assets, jobs, sensors and schedules, and what all of them share."""

import dagster as dg

from assets.clinical.assets import clinical_assets
from assets.gold import DailyGold
from assets.gold_asset import alarm_gold_asset, daily_gold_asset, gold_alerts_asset, whole_gold_asset
from assets.reference.assets import reference_assets
from assets.reports import report_assets
from assets.store_asset import reference_store_asset, store_asset
from assets.stream.asset import alarms_hub_asset, alerts_hub_asset, hub_asset, stream_assets, table_key
from assets.sync.reference import REFERENCE_FEEDS
from orchestration.clinical import clinical_gold, clinical_load, clinical_quality, clinical_schedule, quality_schedule
from orchestration.jobs import gold_job, openfda_poll, rederive_job, replay_job, reports_job, session_job, store_job
from orchestration.oltp import described, may_sync
from orchestration.schedules import housekeeping, retention, schedules
from orchestration.sensors import clinical_sensor, gold_sensor, openfda_sensor, session_sensor
from orchestration.system import FEEDS, HUBS, SQL, STREAMS, tables, views
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
checks_of_store = store_job()
report_tables = report_assets(reports(SQL / "reports"), tables(), views())


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
            alarms_hub_asset(stream.contract.tables["alarms"] for stream in STREAMS if stream.contract.alarms),
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
            *reference_assets(),
            *clinical_assets(),
            *(store_asset(feed, described(feed.table), may_sync) for feed in FEEDS),
            *(reference_store_asset(feed, described(feed.table), may_sync) for feed in REFERENCE_FEEDS),
        ],
    ),
    jobs=[
        *sessions.values(),
        *golds.values(),
        *(replay_job(stream) for stream in STREAMS),
        *(rederive_job(stream) for stream in STREAMS),
        reports_of_lake,
        checks_of_store,
        housekeeping,
        retention,
        openfda_poll,
        clinical_load,
        clinical_gold,
        clinical_quality,
    ],
    sensors=[
        *(session_sensor(stream, sessions[stream.name]) for stream in STREAMS),
        *(gold_sensor(stream, golds[stream.name]) for stream in STREAMS if stream.gold),
        openfda_sensor(),
        clinical_sensor(),
    ],
    schedules=[*schedules(reports_of_lake, checks_of_store), clinical_schedule(), quality_schedule()],
    resources={"lake": LakeResource(), "hubs": HubsResource(streams=list(HUBS)), "store": StoreResource()},
)
