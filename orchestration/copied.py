"""Bulk copies in Dagster: an asset whose partitions are the tables of a database, and a job that copies all of them."""

from collections.abc import Sequence

import dagster as dg

from assets.copied import Copied
from orchestration.copying import Wanted, copy_tables, opened_source
from orchestration.jobs import BACKGROUND, MAX_RUNTIME_TAG
from resources.copy_source import CopyError
from resources.settings import COPY_FROM, Settings
from resources.signals import DeferredSignals

COPIED_KEY = dg.AssetKey(["bronze", "copied_tables"])
SOURCE_KEY = dg.AssetKey(["source", "copied_tables"])
COPIED_PARTITIONS = dg.DynamicPartitionsDefinition(name="copied_tables")
COPY_MAX_RUNTIME_S = 24 * 3600

copied_source = dg.AssetSpec(
    SOURCE_KEY, description=f"The database of {COPY_FROM}.", group_name="copied", kinds={"source"}
)


@dg.multi_asset(
    name="copy_partitions",
    specs=[
        dg.AssetSpec(
            COPIED_KEY,
            deps=[SOURCE_KEY],
            description=f"Tables of the database of {COPY_FROM}, row by row. A partition is a table, `bronze/<table>` "
            "in the lake. A copy that is complete is made anew, one that was stopped goes on.",
            group_name="copied",
            kinds={"deltalake", "bronze"},
            skippable=True,
        )
    ],
    partitions_def=COPIED_PARTITIONS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    pool="copied_tables",
)
def copied_tables_asset(context: dg.AssetExecutionContext) -> None:
    """Copies the tables that are selected."""
    _copy(context, Wanted([*context.partition_keys], again=True))


@dg.op(pool="copied_tables")
def copy_all_tables(context: dg.OpExecutionContext) -> None:
    """Makes every table of the database a partition, and copies those of which there is no complete copy."""
    _copy(context, Wanted(None))


@dg.job(
    executor_def=dg.in_process_executor,
    tags={MAX_RUNTIME_TAG: str(COPY_MAX_RUNTIME_S), **BACKGROUND},
    description=f"Copies all tables of the database of {COPY_FROM} that are not copied yet.",
)
def copy_database() -> None:
    copy_all_tables()


def _copy(context: dg.OpExecutionContext | dg.AssetExecutionContext, wanted: Wanted) -> None:
    settings, failed = Settings(), list[Copied]()
    with DeferredSignals() as signals:
        try:
            source = opened_source(settings, None)
            if wanted.names is None:
                _add_partitions(context.instance, [str(each) for each in source.tables()])
            for done in copy_tables(settings, source, wanted, should_stop=lambda: signals.is_noted):
                _report(context, done)
                failed += [done] if done.outcome == "failed" else []
        except CopyError as error:
            raise dg.Failure(str(error)) from error
    signals.deliver()
    if failed:
        reasons = " ".join(f"{each.source_table}: {each.reason.rstrip('. ')}." for each in failed)
        raise dg.Failure(f"{len(failed)} tables were not copied; all others were. {reasons}", allow_retries=False)


def _add_partitions(instance: dg.DagsterInstance, names: Sequence[str]) -> None:
    name = COPIED_PARTITIONS.name
    assert name is not None
    instance.add_dynamic_partitions(name, names)


def _report(context: dg.OpExecutionContext | dg.AssetExecutionContext, done: Copied) -> None:
    context.log.info("%s: %s, %d rows", done.source_table, done.outcome, done.rows)
    if done.outcome in ("copied", "empty"):
        context.log_event(
            dg.AssetMaterialization(
                COPIED_KEY,
                partition=done.source_table,
                metadata={"rows": done.rows, "checksum": done.checksum, "table": done.table},
            )
        )
