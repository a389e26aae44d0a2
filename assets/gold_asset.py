"""The Dagster side of gold tables: thin assets around `DailyGold`, partitioned by event date."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from time import monotonic
from typing import Any

import dagster as dg

from assets.alarms.measures import ALARMS
from assets.gold import DailyGold, DerivedGold, pieces
from assets.gold_alarms import AlarmGold
from assets.gold_alerts import GoldAlerts
from assets.stream.asset import table_key
from assets.stream.contract import ALERTS_HUB
from assets.versioned import VersionedGold
from resources.dagster_resources import HubsResource, LakeResource
from resources.settings import Settings
from resources.task_metrics import noted

# Earlier than any reading, also in a lake of a version that took dates from 2000 on: a sensor cannot ask for a date
# that is no partition.
FIRST_EVENT_DATE = "2000-01-01"
# A reading may be some minutes ahead of its receipt, so tomorrow's partition exists too.
EVENT_DATES = dg.DailyPartitionsDefinition(start_date=FIRST_EVENT_DATE, end_offset=2)
"""Partitions of what is derived by the day on which it was measured."""
PENDING_ONLY_TAG = "pulselake/pending_only"
"""Of the dates of a run with this tag those are made that are pending: scattered dates need not be a run each."""

PENDING_S = 30.0
"""After how long such a run begins nothing more; what it leaves is pending, and the next one goes on there."""
MAX_ANEW = 7
"""How many dates a backfill makes in one commit: it reads all of their readings again."""


def daily_gold_asset(gold: DailyGold, group: str) -> dg.AssetsDefinition:
    """A gold table by event date; a run replaces dates of its partitions and no others."""

    key = table_key(gold.table.name)

    @dg.multi_asset(
        name=key.to_python_identifier(),
        specs=[
            dg.AssetSpec(
                key,
                deps=[table_key(gold.source.name)],
                description=gold.table.description,
                group_name=group,
                kinds={"deltalake", "polars"},
            )
        ],
        partitions_def=EVENT_DATES,
        backfill_policy=dg.BackfillPolicy.single_run(),
        # All gold of a stream by event date writes the same table of slots.
        pool=f"gold__{group}",
    )
    def daily_gold(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult[Any]:
        opened, end = lake.open(), monotonic() + PENDING_S
        dates = [date.fromisoformat(each) for each in context.partition_keys]
        if not (is_anew := PENDING_ONLY_TAG not in context.run.tags):
            pending = gold.pending(opened)
            dates = [day for day in dates if day in pending]

        # A backfill is bounded by what was asked for. A run of the sensor ends soon: it holds up today's next one.
        def should_stop() -> bool:
            return not is_anew and monotonic() > end

        rows = 0
        with noted(Settings().metrics, "gold", stream=group, part=gold.table.name) as note:
            for place, piece in enumerate(pieces(dates, MAX_ANEW) if is_anew else pieces(dates)):
                if place and should_stop():
                    break
                rows += gold.refresh(opened, piece, is_anew=is_anew, should_stop=should_stop)
                if is_anew:
                    context.log.info("Made %s to %s; a killed run has made what it said last.", piece[-1], piece[0])
            note.rows = rows
        return dg.MaterializeResult(metadata={"rows": rows, "dates": len(dates)})

    return daily_gold


def whole_gold_asset(gold: DerivedGold | VersionedGold, group: str) -> dg.AssetsDefinition:
    """A gold table that is no table by event date: a run brings all of it up to date."""

    @dg.asset(
        key=table_key(gold.table.name),
        deps=[table_key(source.name) for source in gold.sources],
        description=gold.table.description,
        group_name=group,
        kinds={"deltalake", "polars", "gold"},
        pool=table_key(gold.table.name).to_python_identifier(),
    )
    def whole_gold(lake: LakeResource) -> dg.MaterializeResult[Any]:
        with noted(Settings().metrics, "gold", stream=group, part=gold.table.name) as note:
            rows = note.rows = gold.refresh(lake.open())
        return dg.MaterializeResult(metadata={"rows": rows})

    return whole_gold


def gold_alerts_asset(alerts: GoldAlerts, group: str) -> dg.AssetsDefinition:
    """The alerts that a gold table raises."""

    @dg.asset(
        key=table_key(alerts.table.name),
        deps=[table_key(alerts.source.name)],
        description=alerts.table.description,
        group_name=group,
        kinds={"deltalake", "polars", "alerts"},
        pool=table_key(alerts.table.name).to_python_identifier(),
    )
    def gold_alerts(lake: LakeResource, hubs: HubsResource) -> dg.MaterializeResult[Any]:
        with noted(Settings().metrics, "gold", stream=group, part=alerts.table.name) as note:
            note.rows = alerts.refresh(lake.open(), lambda: hubs.publisher(ALERTS_HUB), datetime.now(UTC))
        return dg.MaterializeResult(metadata={"raised": note.rows})

    return gold_alerts


def alarm_gold_asset(of_streams: Sequence[AlarmGold]) -> dg.AssetsDefinition:
    """`gold/alarms`; a run brings the part of every stream up to date. The gold jobs of these streams share it.

    Runs for pending dates come all the time, and leave out streams whose alerts of a day are many.
    """

    @dg.asset(
        key=table_key(ALARMS.name),
        deps=[table_key(source.name) for gold in of_streams for source in gold.sources],
        description=ALARMS.description,
        group_name="alarms",
        kinds={"deltalake", "polars", "gold"},
        pool=table_key(ALARMS.name).to_python_identifier(),
    )
    def alarm_gold(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult[Any]:
        opened, end, rows = lake.open(), monotonic() + PENDING_S, 0
        failures: dict[str, Exception] = {}
        is_asked_for = PENDING_ONLY_TAG not in context.run.tags
        for gold in (each for each in of_streams if is_asked_for or each.is_due(opened, datetime.now(UTC))):
            stream = gold.contract.stream
            try:
                with noted(Settings().metrics, "gold", stream=stream, part=ALARMS.name) as note:
                    note.rows = gold.refresh(opened, should_stop=lambda: monotonic() > end)
                    rows += note.rows
            except Exception as error:
                # That of one stream stops no other.
                failures[stream] = error
                context.log.error("%s: the part of %s was not refreshed: %s", ALARMS.name, stream, type(error).__name__)
        if failures:
            raise next(iter(failures.values()))
        return dg.MaterializeResult(metadata={"rows": rows})

    return alarm_gold
