"""Whether a run is due. Pure: the facts are arguments, the decision is a value.

A live stream always has one session at work. When it has worked for its time, another one is started, prepares itself
beside it and takes its place. Who is at work is told by locks, which end with their process, and not by Dagster's
records, which may show a killed run as started for minutes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

FIRST_RETRY_AFTER = timedelta(seconds=5)
LAST_RETRY_AFTER = timedelta(minutes=5)
PREPARES_FOR, SUCCEEDS_WITHIN = timedelta(seconds=60), timedelta(seconds=300)
"""A started session that is not at work after so long is not waited for, as its process may be gone. A successor has
more time, because a second one would take its connections."""


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


@dataclass(frozen=True)
class SessionRun:
    """A session's run in flight.

    Attributes:
        run_id: Dagster's id of the run.
        is_started: whether its process was started; else it waits in a queue or is about to start.
        since: when it was started, or requested if it is not started yet.
    """

    run_id: str
    is_started: bool
    since: datetime


@dataclass(frozen=True)
class Shift:
    """What the locks of a stream say.

    Attributes:
        active: the name of whoever is at work, or was at work last.
        is_active: whether it still is.
        has_successor: whether a session is ready to take over.
    """

    active: str = ""
    is_active: bool = False
    has_successor: bool = False


def decide_session(
    due: int,
    what: str,
    in_flight: Sequence[SessionRun],
    shift: Shift,
    runs: Runs,
    now: datetime,
    *,
    succeed_after: timedelta,
    stands: bool,
) -> Decision:
    """Starts a session where none is at work, and a successor for one that has worked for its time.

    Args:
        due, what: how much is waiting, and its unit for the reason.
        in_flight: the stream's sessions that Dagster has not seen the end of.
        shift: what the locks say.
        runs: how the last sessions ended.
        now: the time of day.
        succeed_after: how long a session works before it gets a successor.
        stands: whether there is a session also while nothing waits.
    """
    waiting = f"{due:,} {what}"
    patience = SUCCEEDS_WITHIN if shift.is_active else PREPARES_FOR
    coming = [
        run for run in in_flight if run.run_id != shift.active and (not run.is_started or now - run.since < patience)
    ]
    if coming or (shift.is_active and shift.has_successor):
        who = f"run {coming[0].run_id[:8]}" if coming else "another run"
        return Decision(False, f"{waiting}; {who} is about to start.")
    if not shift.is_active:
        decision = decide(max(due, int(stands)), what, replace(runs, in_flight=()), now)
        return replace(decision, reason=f"{waiting}; no session is at work.") if decision.start else decision
    at_work = next((run for run in in_flight if run.run_id == shift.active), None)
    if at_work is None:
        return Decision(False, f"{waiting}; '{shift.active}' is at work.")
    if now - at_work.since < succeed_after:
        return Decision(False, f"{waiting}; run {shift.active[:8]} is at work since {at_work.since:%H:%M:%S} UTC.")
    decision = decide(1, "session that has worked for its time", replace(runs, in_flight=()), now)
    return replace(decision, reason=f"{waiting}; run {shift.active[:8]} gets a successor: {decision.reason}")


def decide(due: int, what: str, runs: Runs, now: datetime) -> Decision:
    """Starts a run when something is due and none is in flight; after several failures at growing intervals.

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
    if runs.failures > 1 and runs.failed_at is not None:
        pause = min(FIRST_RETRY_AFTER * 2 ** min(runs.failures - 2, 10), LAST_RETRY_AFTER)
        if now < runs.failed_at + pause:
            return Decision(
                False,
                f"{waiting}; the last {runs.failures} run(s) failed, the next starts after "
                f"{runs.failed_at + pause:%H:%M:%S} UTC. The failed runs say why.",
            )
    return Decision(True, f"{waiting}.")
