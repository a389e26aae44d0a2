"""The queue of runs, which runs that must not wait pass by. dagster.yaml names this class."""

from dagster import DagsterRun, DagsterRunStatus
from dagster._core.run_coordinator import SubmitRunContext
from dagster._core.run_coordinator.queued_run_coordinator import QueuedRunCoordinator

PROMPT_TAG = "pulselake/prompt"


class PromptRunCoordinator(QueuedRunCoordinator):
    """Launches runs with the tag `pulselake/prompt` where they are submitted; the queue is looked at once a second.

    Such a run counts towards `max_concurrent_runs`, but is not held up by it.
    """

    def submit_run(self, context: SubmitRunContext) -> DagsterRun:
        """Queues a run, or launches it."""
        run = context.dagster_run
        if PROMPT_TAG not in run.tags or run.status is not DagsterRunStatus.NOT_STARTED:
            return super().submit_run(context)
        return self._instance.launch_run(run.run_id, context.workspace)
