"""The Dagster side of the clinical sources: landing and bronze by load date, silver, and gold by event date.

A run of today's load date pulls what is new. A run of an earlier one makes its rows of bronze again from its landed
files. Silver and gold then follow, for just the dates that changed.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime
from functools import partial
from typing import Any

import dagster as dg
import polars as pl

from assets.clinical.contract import GROUP, QUARANTINED_LOADS, Batch
from assets.clinical.sources import GOLD, SOURCES, Derived
from assets.clinical_layers import Gold, Refreshed, Silver
from assets.clinical_loads import Loaded, Loader, LoadError
from assets.gold_asset import EVENT_DATES, PENDING_ONLY_TAG
from assets.stream.asset import INGEST_DATES, table_key
from resources.batch_source import BatchSourceError
from resources.batch_sources import batch_source
from resources.dagster_resources import LakeResource
from resources.lake import Lake
from resources.landing import LandingError
from resources.settings import Settings
from resources.task_metrics import noted

LOAD_DATES = INGEST_DATES
"""Partitions of what is written by the day on which it was loaded; today's exists already."""
MAX_QUARANTINED = 0.2
"""A load of which more rows than this share are quarantined is no usual one."""
Outputs = Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]


def landing_key(batch: Batch) -> dg.AssetKey:
    """The asset of a source's landed files."""
    return dg.AssetKey(["landing", batch.name])


def source_key(batch: Batch) -> dg.AssetKey:
    """The source itself, where its lineage starts."""
    return dg.AssetKey(["source", batch.name])


def clinical_assets() -> list[dg.AssetSpec | dg.AssetsDefinition]:
    """All assets of the clinical sources."""
    return [
        *(_source(each) for each in SOURCES),
        *(_bronze(each) for each in SOURCES),
        *(_silver(each) for each in SOURCES),
        *(_gold(each) for each in GOLD),
        dg.AssetSpec(
            table_key(QUARANTINED_LOADS.name),
            deps=[landing_key(each) for each in SOURCES],
            description=QUARANTINED_LOADS.description,
            group_name=GROUP,
            kinds={"deltalake", "quarantine"},
            tags=_tags(True),
        ),
    ]


def _tags(phi: bool) -> Mapping[str, str]:
    return {"phi": "true" if phi else "false"}


def _source(batch: Batch) -> dg.AssetSpec:
    return dg.AssetSpec(
        source_key(batch), description=batch.description, group_name=GROUP, kinds={"source"}, tags=_tags(batch.phi)
    )


def _bronze(batch: Batch) -> dg.AssetsDefinition:
    landing, bronze = landing_key(batch), table_key(batch.bronze.name)
    declared = dg.AssetCheckSpec(
        "columns_as_declared", asset=bronze, description="The source has no columns that its declaration has not."
    )

    @dg.multi_asset(
        name=f"load_{batch.name}",
        specs=[
            dg.AssetSpec(
                landing,
                deps=[source_key(batch)],
                description=f"{batch.description} Parquet files, one a load, as it came; never overwritten.",
                group_name=GROUP,
                kinds={"parquet", "landing"},
                tags=_tags(batch.phi),
            ),
            dg.AssetSpec(
                bronze,
                deps=[landing],
                description=batch.bronze.description,
                group_name=GROUP,
                kinds={"deltalake", "bronze"},
                tags=_tags(batch.phi),
            ),
        ],
        check_specs=[declared],
        partitions_def=LOAD_DATES,
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool=f"load__{batch.name}",
    )
    def load(context: dg.AssetExecutionContext, lake: LakeResource) -> Outputs:
        opened, settings, now = lake.open(), Settings(), datetime.now(UTC)
        loader, done = Loader(opened, batch, lambda: datetime.now(UTC)), Loaded()
        for day in map(date.fromisoformat, context.partition_keys):
            with noted(settings.metrics, "clinical", part=batch.bronze.name) as note:
                done = _explained(partial(_loaded, loader, settings, day, is_today=day == now.date()))
                note.rows = done.rows
        metadata = {"loads": done.loads, "rows": done.rows, "rows_with_defects": done.defects}
        if done.added:
            context.log.warning("%s has new columns, which bronze has now: %s", batch.name, ", ".join(done.added))
        yield dg.MaterializeResult(landing, metadata=metadata)
        yield dg.MaterializeResult(bronze, metadata=metadata | {"added_columns": ", ".join(done.added) or "none"})
        yield dg.AssetCheckResult(
            passed=not done.undeclared,
            asset_key=bronze,
            check_name=declared.name,
            severity=dg.AssetCheckSeverity.WARN,
            metadata={"undeclared_columns": ", ".join(done.undeclared) or "none"},
        )

    return load


def _silver(batch: Batch) -> dg.AssetsDefinition:
    silver, quarantine = table_key(batch.silver.name), table_key(batch.quarantine.name)
    beside = [dg.AssetKey(["silver", batch.enrich.beside])] if batch.enrich else []
    unique = dg.AssetCheckSpec("keys_unique", asset=silver, description="No two rows have the same key.")
    share = dg.AssetCheckSpec(
        "quarantine_share",
        asset=quarantine,
        description=f"No more than {MAX_QUARANTINED:.0%} of the rows that were read are quarantined.",
    )

    @dg.multi_asset(
        name=f"clean_{batch.name}",
        specs=[
            dg.AssetSpec(
                key,
                deps=[table_key(batch.bronze.name), *(beside if key == silver else [])],
                description=table.description,
                group_name=GROUP,
                kinds={"deltalake", "polars", table.layer},
                tags=_tags(batch.phi),
            )
            for key, table in ((silver, batch.silver), (quarantine, batch.quarantine))
        ],
        check_specs=[unique, share],
        pool=f"clean__{batch.name}",
    )
    def clean(lake: LakeResource) -> Outputs:
        opened = lake.open()
        with noted(Settings().metrics, "clinical", part=batch.silver.name) as note:
            done = Silver(opened, batch).refresh()
            note.rows = done.good
        repeated = repeated_keys(opened, batch)
        yield dg.MaterializeResult(silver, metadata=_silver_metadata(done))
        yield dg.MaterializeResult(quarantine, metadata={"rows_quarantined": done.quarantined})
        yield dg.AssetCheckResult(
            passed=repeated == 0, asset_key=silver, check_name=unique.name, metadata={"repeated_keys": repeated}
        )
        quarantined = done.quarantined / done.read if done.read else 0.0
        yield dg.AssetCheckResult(
            passed=quarantined <= MAX_QUARANTINED,
            asset_key=quarantine,
            check_name=share.name,
            severity=dg.AssetCheckSeverity.WARN,
            metadata={"share": quarantined},
        )

    return clean


def _silver_metadata(done: Refreshed) -> dict[str, Any]:
    return {"rows": done.rows, "rows_read": done.read, "good_rows": done.good, "event_dates": done.dates}


def repeated_keys(lake: Lake, batch: Batch) -> int:
    """How many rows of silver have a key that another one has; of a table by event date, on the newest dates."""
    table = lake.table(batch.silver)
    rows = table.scan()
    if batch.silver.partition_by:
        days = table.dates("event_date")[-31:]
        rows = rows.filter(pl.col("event_date").is_in(days))
    counted = rows.select(rows=pl.len(), keys=pl.struct(batch.key).n_unique()).collect(engine="streaming")
    return int(counted["rows"].item() - counted["keys"].item())


def _gold(derived: Derived) -> dg.AssetsDefinition:
    key = table_key(derived.table.name)

    @dg.multi_asset(
        name=key.to_python_identifier(),
        specs=[
            dg.AssetSpec(
                key,
                deps=[table_key(each.silver.name) for each in derived.sources],
                description=derived.table.description,
                group_name=GROUP,
                kinds={"deltalake", "polars", "gold"},
                tags=_tags(derived.phi),
            )
        ],
        partitions_def=EVENT_DATES if derived.is_by_date else None,
        backfill_policy=dg.BackfillPolicy.single_run() if derived.is_by_date else None,
        pool=key.to_python_identifier(),
    )
    def gold(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult[Any]:
        made = Gold(lake.open(), derived)
        dates = None
        if derived.is_by_date and PENDING_ONLY_TAG not in context.run.tags:
            dates = [date.fromisoformat(each) for each in context.partition_keys]
        with noted(Settings().metrics, "clinical", part=derived.table.name) as note:
            note.rows = made.refresh(dates)
        return dg.MaterializeResult(metadata={"rows": note.rows})

    return gold


def _loaded(loader: Loader, settings: Settings, day: date, *, is_today: bool) -> Loaded:
    """Pulls what is new, or makes the rows of an earlier date again."""
    if not is_today:
        return loader.rebuild(day)
    batch = loader.batch
    return loader.load(batch_source(settings, batch.name, batch.setting, batch.place, loader.lake))


def _explained(load: Callable[[], Loaded]) -> Loaded:
    """Errors of a source or of a load as a failure of its asset alone, with the reason first."""
    try:
        return load()
    except (BatchSourceError, LoadError, LandingError) as error:
        raise dg.Failure(str(error), allow_retries=isinstance(error, BatchSourceError)) from error
