"""Whether a run is due. Pure: the facts are arguments, the decision is a value."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

FIRST_RETRY_AFTER = timedelta(seconds=5)
LAST_RETRY_AFTER = timedelta(minutes=5)


@dataclass(frozen=True)
class Runs:
    """What Dagster's run records say of a job.

    Attributes:
        in_flight: ids of runs that are queued, starting, running or being cancelled.
        failures: how many of the newest finished runs failed in a row.
        failed_at: when the newest of them ended.
    """

    in_flight: Sequence[str] = ()
    failures: int = 0
    failed_at: datetime | None = None


@dataclass(frozen=True)
class Decision:
    """Whether to start a run, and why or why not."""

    start: bool
    reason: str


def decide(due: int, what: str, runs: Runs, now: datetime) -> Decision:
    """Starts a run when something is due and none is in flight; after failures at growing intervals.

    Args:
        due: how much is waiting; 0 starts nothing.
        what: the unit of `due` for the reason, for instance ``events behind``.
        runs: the job's run records.
        now: the time of day.
    """
    waiting = f"{due:,} {what}"
    if runs.in_flight:
        return Decision(False, f"{waiting}; run {runs.in_flight[0][:8]} is at work.")
    if due <= 0:
        return Decision(False, f"{waiting}: nothing to do.")
    if runs.failures and runs.failed_at is not None:
        pause = min(FIRST_RETRY_AFTER * 2 ** min(runs.failures - 1, 10), LAST_RETRY_AFTER)
        if now < runs.failed_at + pause:
            return Decision(
                False,
                f"{waiting}; the last {runs.failures} run(s) failed, the next starts after "
                f"{runs.failed_at + pause:%H:%M:%S} UTC. The failed runs say why.",
            )
    return Decision(True, f"{waiting}.")
