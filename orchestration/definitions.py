"""The whole system on one screen: assets, jobs, sensors and schedules, and what all of them share."""

import dagster as dg

from assets.gold import DailyGold
from assets.gold_asset import daily_gold_asset, derived_gold_asset
from assets.reports import report_assets
from assets.stream.asset import alerts_hub_asset, hub_asset, stream_assets
from orchestration.jobs import gold_job, reports_job, session_job
from orchestration.schedules import housekeeping, schedules
from orchestration.sensors import gold_sensor, session_sensor
from orchestration.system import SQL, STREAMS, tables
from resources.dagster_resources import HubsResource, LakeResource
from resources.reports import reports

OWNER = "team:data-engineering"
WITHOUT_PHI = {"device_readings", "reports"}
"""Groups that hold no data of patients."""

sessions = {stream.name: session_job(stream) for stream in STREAMS}
golds = {stream.name: gold_job(stream) for stream in STREAMS}
reports_of_lake = reports_job()
report_tables = report_assets(reports(SQL / "reports"), tables())


def with_defaults(spec: dg.AssetSpec) -> dg.AssetSpec:
    """Owner and privacy tag of every asset."""
    phi = "false" if spec.group_name in WITHOUT_PHI else "true"
    return spec.merge_attributes(owners=[OWNER], tags={"phi": phi})


defs = dg.Definitions(
    assets=[
        *(hub_asset(stream.contract) for stream in STREAMS),
        *(stream_assets(stream.contract) for stream in STREAMS),
        alerts_hub_asset([stream.contract for stream in STREAMS]),
        *(
            daily_gold_asset(gold, stream.name)
            if isinstance(gold, DailyGold)
            else derived_gold_asset(gold, stream.name)
            for stream in STREAMS
            for gold in stream.gold
        ),
        report_tables,
    ],
    jobs=[*sessions.values(), *golds.values(), reports_of_lake, housekeeping],
    sensors=[
        *(session_sensor(stream, sessions[stream.name]) for stream in STREAMS),
        *(gold_sensor(stream, golds[stream.name]) for stream in STREAMS),
    ],
    schedules=schedules(reports_of_lake),
    resources={"lake": LakeResource(), "hubs": HubsResource()},
).map_asset_specs(func=with_defaults)
