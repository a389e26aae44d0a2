"""When pages for people are written: today's data quality every hour, and the published reports once a day."""

from datetime import UTC, timedelta

import dagster as dg

from assets.clinical.sources import SOURCES
from assets.page_assets import DATA_QUALITY, FOLDER, GROUP
from orchestration.jobs import BACKGROUND
from orchestration.system import STREAMS
from resources.dagster_resources import LakeResource
from resources.lake import Lake
from resources.landing import pages

data_quality_job = dg.define_asset_job(
    "data_quality",
    selection=dg.AssetSelection.assets(DATA_QUALITY),
    executor_def=dg.in_process_executor,
    tags=BACKGROUND,
    description="Writes the page that says how good the data of a day are.",
)
report_pages_job = dg.define_asset_job(
    "report_pages",
    selection=dg.AssetSelection.groups(GROUP) - dg.AssetSelection.assets(DATA_QUALITY),
    executor_def=dg.in_process_executor,
    tags=BACKGROUND,
    description="Writes the newest rows of the published reports as pages and as Parquet.",
)


def newest_pages(lake: Lake) -> list[tuple[str, int]]:
    """The path of the newest page of each kind, and how many there are of it."""
    by_kind: dict[str, list[str]] = {}
    for path in pages(lake, FOLDER):
        by_kind.setdefault(path.rpartition("/")[0], []).append(path)
    return [(paths[-1], len(paths)) for paths in by_kind.values()]


def page_schedules() -> list[dg.ScheduleDefinition]:
    """Today's page of data quality every hour, once more after midnight for the date that is over, and the reports."""
    running = dg.DefaultScheduleStatus.RUNNING

    @dg.schedule(
        name="data_quality_schedule",
        job=data_quality_job,
        cron_schedule="40 * * * *",
        default_status=running,
        description="Every hour: the page of today, and after midnight that of yesterday once more.",
    )
    def data_quality(context: dg.ScheduleEvaluationContext, lake: LakeResource) -> list[dg.RunRequest] | dg.SkipReason:
        # By the tick: one that is evaluated late is still of its own hour.
        opened, tick = lake.open(), context.scheduled_execution_time.astimezone(UTC)
        tables = [*(stream.contract.tables.bronze for stream in STREAMS), *(each.bronze for each in SOURCES)]
        if not any(opened.table(table).exists() for table in tables):
            return dg.SkipReason("Nothing came yet.")
        days = [tick.date()] if tick.hour else [tick.date() - timedelta(days=1), tick.date()]
        return [dg.RunRequest(run_key=f"{tick:%Y-%m-%dT%H:%M} {day}", partition_key=day.isoformat()) for day in days]

    reports = dg.ScheduleDefinition(
        name="report_pages_schedule",
        job=report_pages_job,
        cron_schedule="30 5 * * *",
        default_status=running,
        description="Every morning: the published reports as pages and as Parquet.",
    )
    return [data_quality, reports]
