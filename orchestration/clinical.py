"""When the clinical sources are loaded and what follows from them: a run a source and day, and gold for what changed.

A source that is down fails its own run. The next day's run, or one that is started by hand, goes on where it was.
"""

from collections.abc import Collection, Iterator
from datetime import UTC, date, datetime, timedelta

import dagster as dg
from pydantic import ValidationError

from assets.clinical.assets import landing_key
from assets.clinical.contract import Batch
from assets.clinical.sources import GOLD, SOURCES
from assets.clinical_layers import Gold, Silver
from assets.gold_asset import EVENT_DATES
from assets.stream.asset import table_key
from orchestration.jobs import BACKGROUND, MAX_RUNTIME_TAG
from resources.batch_sources import is_set_up
from resources.lake import Lake
from resources.settings import Settings

SOURCE_TAG = "pulselake/source"
LOAD_MAX_RUNTIME_S = 6 * 3600
MAX_SHOWN = timedelta(days=365)
DEFAULT_CRON = "10 3 * * *"


def keys_of(batch: Batch) -> list[dg.AssetKey]:
    """The assets of a source, from landing to silver."""
    tables = (batch.bronze, batch.silver, batch.quarantine)
    return [landing_key(batch), *(table_key(table.name) for table in tables)]


GOLD_BY_DATE = [table_key(each.table.name) for each in GOLD if each.is_by_date]
_SILVER = [table_key(table.name) for each in SOURCES for table in (each.silver, each.quarantine)]

clinical_load = dg.define_asset_job(
    "clinical_load",
    selection=dg.AssetSelection.assets(*(key for each in SOURCES for key in keys_of(each))),
    executor_def=dg.in_process_executor,
    tags={MAX_RUNTIME_TAG: str(LOAD_MAX_RUNTIME_S), **BACKGROUND},
    description="Loads clinical sources: what is new into landing and bronze, and then silver.",
)

clinical_gold = dg.define_asset_job(
    "clinical_gold",
    selection=dg.AssetSelection.assets(*_SILVER, *(table_key(each.table.name) for each in GOLD)),
    executor_def=dg.in_process_executor,
    tags={MAX_RUNTIME_TAG: str(LOAD_MAX_RUNTIME_S), **BACKGROUND},
    description="Brings silver and gold of the clinical sources up to date where they are behind.",
)


def _cron() -> str:
    """Settings that are wrong are named by whoever needs them."""
    try:
        return Settings().clinical_cron
    except ValidationError:
        return DEFAULT_CRON


def clinical_schedule() -> dg.ScheduleDefinition:
    """Loads every source once a day, each in a run of its own, so that none waits for another."""

    @dg.schedule(
        name="clinical_schedule",
        job=clinical_load,
        cron_schedule=_cron(),
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Starts a run for each clinical source that is set, or that `pulselake hospital` made.",
    )
    def schedule(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        settings, tick = Settings(), context.scheduled_execution_time
        today = datetime.now(UTC).date().isoformat()
        sources = [each for each in SOURCES if is_set_up(settings, each.setting)]
        for each in sources:
            # Of one tick each source is loaded once, however often the tick is evaluated.
            yield dg.RunRequest(
                run_key=f"{each.name} {tick:%Y-%m-%dT%H:%M}",
                partition_key=today,
                asset_selection=keys_of(each),
                tags={SOURCE_TAG: each.name},
            )
        if not sources:
            yield dg.SkipReason(
                "No clinical source is set. Set PULSELAKE_EHR_URL and the others, or run `pulselake hospital`."
            )

    return schedule


def never_loaded(settings: Settings, lake: Lake) -> list[Batch]:
    """The sources that are set up and have no silver yet."""
    return [each for each in SOURCES if is_set_up(settings, each.setting) and not lake.table(each.silver).exists()]


def due(lake: Lake) -> tuple[list[dg.AssetKey], list[date]]:
    """What is behind: silver tables or, where there are none, gold tables that are made as a whole, and event dates."""
    silver = [each for each in SOURCES if Silver(lake, each).is_due()]
    if silver:
        return [table_key(table.name) for each in silver for table in (each.silver, each.quarantine)], []
    known = [each for each in GOLD if any(lake.table(source.silver).exists() for source in each.sources)]
    whole = [table_key(each.table.name) for each in known if not each.is_by_date and Gold(lake, each).is_due()]
    dates = {day for each in known if each.is_by_date for day in Gold(lake, each).pending()}
    return whole, sorted(dates)


def shown(dates: Collection[date]) -> tuple[date, date] | None:
    """The first and the last event date of which a run says that it makes them; it makes all that are pending.

    Dagster keeps an event of each date of the range, so a range has a year at most. A date that is no partition cannot
    be named: records reach back further.
    """
    named = [day for day in dates if EVENT_DATES.has_partition_key(day.isoformat())]
    return (max(min(named), max(named) - MAX_SHOWN), max(named)) if named else None
