"""The Dagster side of gold tables: thin assets around `DailyGold`, partitioned by event date."""

from datetime import date
from typing import Any

import dagster as dg

from assets.gold import DailyGold, DerivedGold
from assets.stream.asset import table_key
from resources.dagster_resources import LakeResource
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
        pool=key.to_python_identifier(),
    )
    def daily_gold(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult[Any]:
        dates = [date.fromisoformat(each) for each in context.partition_keys]
        if PENDING_ONLY_TAG in context.run.tags:
            pending = gold.pending(lake.open())
            dates = [day for day in dates if day in pending]
        with noted(Settings().metrics, "gold", stream=group, part=gold.table.name) as note:
            rows = note.rows = gold.refresh(lake.open(), dates) if dates else 0
        return dg.MaterializeResult(metadata={"rows": rows, "dates": len(dates)})

    return daily_gold


def derived_gold_asset(gold: DerivedGold, group: str) -> dg.AssetsDefinition:
    """A gold table made as a whole from another gold table."""

    @dg.asset(
        key=table_key(gold.table.name),
        deps=[table_key(gold.source.name)],
        description=gold.table.description,
        group_name=group,
        kinds={"deltalake", "polars", "gold"},
        pool=table_key(gold.table.name).to_python_identifier(),
    )
    def derived_gold(lake: LakeResource) -> dg.MaterializeResult[Any]:
        with noted(Settings().metrics, "gold", stream=group, part=gold.table.name) as note:
            rows = note.rows = gold.refresh(lake.open())
        return dg.MaterializeResult(metadata={"rows": rows})

    return derived_gold
