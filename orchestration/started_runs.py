"""Runs that Dagster has started, and what becomes of them when it ends."""

import dagster as dg

from resources.settings import Settings

IN_FLIGHT = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def cancel_runs(settings: Settings) -> None:
    """Marks runs as cancelled that an earlier Dagster of this home left behind: nobody is at work on them any more."""
    with _instance(settings) as instance:
        for run in _started_runs(instance):
            instance.report_run_canceled(run, message="It ended together with the Dagster that had started it.")


def announce_cancellation(settings: Settings) -> None:
    """Marks what is at work as being cancelled: then the interrupt that follows is an end and not a failure."""
    with _instance(settings) as instance:
        for run in _started_runs(instance):
            instance.report_run_canceling(run)


def _instance(settings: Settings) -> dg.DagsterInstance:
    return dg.DagsterInstance.from_config(str(settings.dagster_home))


def _started_runs(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    at_work = [status for status in IN_FLIGHT if status is not dg.DagsterRunStatus.QUEUED]
    return [record.dagster_run for record in instance.get_run_records(dg.RunsFilter(statuses=at_work))]
