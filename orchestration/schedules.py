"""What runs by the clock: house-keeping of run records and tables, retention, and the reports."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import dagster as dg
from dagster._core.storage.event_log import SqliteEventLogStorage
from deltalake.exceptions import DeltaError

from assets.alarms.measures import ALARMS
from assets.versioned import VersionedGold
from orchestration.jobs import BACKGROUND, MAX_RUNTIME_TAG, OFTEN_TAG, Job, gold_job_name
from orchestration.patients import patient_360_job
from orchestration.retention import RetentionError, retire
from orchestration.system import STREAMS
from resources.dagster_resources import HubsResource, LakeResource
from resources.lake import ConcurrentWriteError, Lake, LakeTable, SchemaError
from resources.settings import Settings
from resources.signals import DeferredSignals
from resources.task_metrics import noted

RETENTION_MAX_RUNTIME_S = 12 * 3600
FINISHED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


KEEP_GOLD_RUNS = timedelta(hours=1)
"""A successful run of gold or a poll is kept for so long. There are many, and each takes a fifth of a megabyte."""


def purge_runs(instance: dg.DagsterInstance, older_than: datetime, gold_older_than: datetime) -> int:
    """Deletes records of runs that finished long ago; nothing else prunes them.

    Args:
        instance: whose records.
        older_than: runs that finished before this instant.
        gold_older_than: the same for runs of gold and polls of accounts that succeeded.

    Returns:
        How many were deleted.
    """
    old = [*instance.get_run_records(dg.RunsFilter(statuses=FINISHED, updated_before=older_than))]
    for name in (*map(gold_job_name, STREAMS), patient_360_job.name):
        succeeded = dg.RunsFilter(job_name=name, statuses=[dg.DagsterRunStatus.SUCCESS], updated_before=gold_older_than)
        old += instance.get_run_records(succeeded)
    polls = dg.RunsFilter(
        tags={OFTEN_TAG: "true"}, statuses=[dg.DagsterRunStatus.SUCCESS], updated_before=gold_older_than
    )
    old += instance.get_run_records(polls)
    run_ids = {record.dagster_run.run_id for record in old}
    for run_id in run_ids:
        _delete_run(instance, run_id)
    return len(run_ids)


def _delete_run(instance: dg.DagsterInstance, run_id: str) -> None:
    """Deletes a run's record and, which Dagster leaves behind, its captured output and its own SQLite file."""
    instance.delete_run(run_id)
    instance.compute_log_manager.delete_logs(prefix=[run_id])
    events = instance.event_log_storage
    if isinstance(events, SqliteEventLogStorage):
        file = Path(events.path_for_shard(run_id))
        for each in file.parent.glob(f"{file.name}*"):
            each.unlink(missing_ok=True)


@dg.op(pool="housekeeping")
def purge_run_records(context: dg.OpExecutionContext, hubs: HubsResource) -> None:
    """Deletes records of runs older than PULSELAKE_KEEP_RUNS_DAYS, and sooner of gold and polls that succeeded."""
    keep, now = timedelta(days=hubs.settings().keep_runs_days), datetime.now(UTC)
    with noted(hubs.settings().metrics, "housekeeping", part="run_records") as note:
        note.rows = purge_runs(context.instance, now - keep, now - KEEP_GOLD_RUNS)
    context.log.info("Deleted %d run records", note.rows)


@dg.op(pool="housekeeping")
def maintain_gold(context: dg.OpExecutionContext, lake: LakeResource) -> None:
    """Expires replaced files and old log entries of gold tables and of the slots that they are added up from.

    Sessions do it for the tables that they write. Before that gold notes how far it has read the logs of its sources,
    which are kept for hours only.
    """
    with noted(Settings().metrics, "housekeeping", part="gold"):
        _maintain_gold(context, lake.open())


def _maintain_gold(context: dg.OpExecutionContext, opened: Lake) -> None:
    all_gold = [(gold, opened.table(gold.table)) for stream in STREAMS for gold in stream.gold]
    alarm_gold = [stream.alarm_gold for stream in STREAMS if stream.alarm_gold]
    tables = [table for stream in STREAMS for table in (*stream.kept_slots, *stream.published[1:])]
    others = [opened.table(table) for table in (*tables, ALARMS)]
    steps: list[tuple[LakeTable, Callable[[], None]]] = [
        *((table, partial(gold.settle, opened)) for gold, table in all_gold if not isinstance(gold, VersionedGold)),
        *((opened.table(ALARMS), partial(gold.settle, opened)) for gold in alarm_gold),
        *((table, table.maintain) for table in (*(table for _, table in all_gold), *others)),
    ]
    failures: dict[str, str] = {}
    for table, step in steps:
        try:
            if table.exists():
                step()
        except ConcurrentWriteError:
            context.log.info("%s is being refreshed", table.name)
        except (SchemaError, DeltaError, OSError) as error:
            failures[table.name] = " ".join(str(error).split())
    if failures:
        reasons = " ".join(f"{name}: {error}." for name, error in failures.items())
        raise dg.Failure(f"Some gold tables were not maintained; all others were. {reasons}")
    context.log.info("Maintained %d gold tables", len(all_gold))


@dg.job(
    executor_def=dg.in_process_executor,
    tags=BACKGROUND,
    description="Deletes old run records and keeps the files of gold tables few.",
)
def housekeeping() -> None:
    purge_run_records()
    maintain_gold()


@dg.op(pool="retention")
def retire_expired_dates(context: dg.OpExecutionContext, hubs: HubsResource) -> None:
    """Archives and removes ingest dates that are older than PULSELAKE_KEEP_DAYS says; without it, nothing."""
    with DeferredSignals() as signals:
        try:
            run = retire(hubs.settings(), context.log.info, should_stop=lambda: signals.is_noted)
        except RetentionError as error:
            raise dg.Failure(str(error)) from error
    for due, reason in run.held:
        context.log.warning("%s of %s stays for now: %s", due.table.name, due.day, reason)
    context.log.info("Removed %d rows of %d dates", sum(each.rows for each in run.retired), len(run.retired))
    signals.deliver()


@dg.job(
    executor_def=dg.in_process_executor,
    tags={MAX_RUNTIME_TAG: str(RETENTION_MAX_RUNTIME_S), **BACKGROUND},
    description="Archives and removes rows that are older than PULSELAKE_KEEP_DAYS says.",
)
def retention() -> None:
    retire_expired_dates()


def schedules(reports: Job, store: Job, notifications: Job) -> list[dg.ScheduleDefinition]:
    """House-keeping every hour, the store and retention every night, reports and notifications every quarter of one."""
    running = dg.DefaultScheduleStatus.RUNNING
    return [
        dg.ScheduleDefinition(job=housekeeping, cron_schedule="17 * * * *", default_status=running),
        dg.ScheduleDefinition(job=retention, cron_schedule="43 2 * * *", default_status=running),
        dg.ScheduleDefinition(job=store, cron_schedule="23 1 * * *", default_status=running),
        dg.ScheduleDefinition(job=notifications, cron_schedule="7-59/15 * * * *", default_status=running),
        dg.ScheduleDefinition(job=reports, cron_schedule="*/15 * * * *", default_status=running),
    ]
