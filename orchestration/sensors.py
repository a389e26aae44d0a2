"""Sensors: fetch the facts, let `sessions.decide` decide, forward the decision.

The truth is the hub, the Delta logs and Dagster's run records; no sensor keeps a cursor.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Generic, TypeVar

import dagster as dg
from pydantic import ValidationError

from assets.gold import pieces
from assets.gold_asset import PENDING_ONLY_TAG
from assets.stream.asset import table_key
from assets.versioned import VersionedGold
from orchestration.backlog import Backlog, backlog
from orchestration.clinical import GOLD_BY_DATE, clinical_gold, due, shown
from orchestration.jobs import MAX_RUNTIME_TAG, OFFSETS_TAG, Job, openfda_poll
from orchestration.polled import PolledReports
from orchestration.polling import decide_poll
from orchestration.sessions import Runs, SessionRun, Shift, decide, decide_session
from orchestration.system import Stream
from resources.background import Background
from resources.dagster_resources import HubsResource, LakeResource
from resources.event_source import HubUnavailableError
from resources.leases import Lease
from resources.settings import Settings
from resources.task_metrics import SensorMetrics

SESSION_INTERVAL_S = 5
TICK_TIMEOUT_S = 9.0
"""How long a tick waits for the outside; a look at a hub alone ends before that."""
GOLD_INTERVAL_S = OPENFDA_INTERVAL_S = 30
CLINICAL_INTERVAL_S = 60
MAX_PIECES = 2
"""How many runs a tick starts: today's, and one for dates of before. Today's next one waits for both to end."""
IN_FLIGHT = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"

# A session is ended by its successor, and the locks tell when it is gone; this is for a run that hangs.
SESSION_MAX_RUNTIME_S = 24 * 3600
# A run whose machine went down is in flight until its time limit, and no other is started.
GOLD_MAX_RUNTIME_S = 600

_Found = TypeVar("_Found")
Requests = Iterator[dg.RunRequest | dg.SkipReason]


class _Look(Generic[_Found]):
    """A look at the outside that a tick waits for no longer than some seconds.

    What hangs goes on in the background, and no second look begins before it has ended: ticks would pile up.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._last: Background[Callable[[], _Found], _Found] | None = None

    def at(self, look: Callable[[], _Found]) -> _Found:
        """What was found.

        Raises:
            TimeoutError: there was no answer in time; the next tick waits for the same one.
        """
        # An answer that came between two ticks is taken by the second one: it is a few seconds old, and without it a
        # look that always takes longer than a tick would never be used.
        last = self._last = self._last or Background(lambda ask: ask(), [look], "look")
        try:
            [found] = last.results(TICK_TIMEOUT_S)
        except TimeoutError as error:
            raise TimeoutError(
                f"No answer from {self._what} within {TICK_TIMEOUT_S:g} s, so nothing was started. The next ticks ask "
                "again. Check the network and that the hub and the storage account answer (`pulselake status`)."
            ) from error
        except BaseException:
            self._last = None
            raise
        self._last = None
        return found


def session_sensor(stream: Stream, job: Job) -> dg.SensorDefinition:
    """Sees to it that a session is at work, and that it gets a successor in time."""
    look: _Look[Backlog] = _Look(f"the hub and the lake of {stream.name}")
    metrics = SensorMetrics(stream.name)

    @dg.sensor(
        name=f"{stream.name}_sensor",
        job=job,
        minimum_interval_seconds=SESSION_INTERVAL_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Every {SESSION_INTERVAL_S} s: asks how far {stream.name} is behind its hub. Starts a "
        "session where none is at work, and a successor for one that has worked for its time.",
    )
    def sensor(context: dg.SensorEvaluationContext, lake: LakeResource, hubs: HubsResource) -> Requests:
        settings = hubs.settings()
        try:
            behind = look.at(lambda: backlog(stream.contract, lake.open(), hubs.source(stream.name)))
        except (HubUnavailableError, TimeoutError) as error:
            metrics.failed(settings.metrics)
            yield dg.SkipReason(str(error))
            return
        shift = shift_of(settings.lease(stream.name, "sensor"))
        metrics.looked(
            settings.metrics,
            {each.partition: each.events for each in behind.partitions},
            waits=behind.has_unpublished_alerts,
            has_session=shift.is_active,
            has_successor=shift.has_successor,
        )
        now = datetime.now(UTC)
        due, what = behind.events, "events behind"
        if not behind.events and behind.has_unpublished_alerts:
            due, what = 1, "table with alerts that wait for the alerts hub"
        decision = decide_session(
            due,
            what,
            sessions_in_flight(context.instance, job.name),
            shift,
            runs_of(context.instance, job.name),
            now,
            succeed_after=timedelta(seconds=settings.max_session_s),
            stands=settings.idle_timeout_s is None,
        )
        if decision.start:
            tags = {OFFSETS_TAG: behind.offsets, MAX_RUNTIME_TAG: str(SESSION_MAX_RUNTIME_S)}
            yield dg.RunRequest(partition_key=now.date().isoformat(), tags=tags)
        else:
            yield dg.SkipReason(decision.reason)

    return sensor


def shift_of(lease: Lease) -> Shift:
    """What a stream's locks say."""
    return Shift(lease.active.last_holder(), lease.active.is_held_elsewhere(), lease.successor.is_held_elsewhere())


def sessions_in_flight(instance: dg.DagsterInstance, job_name: str) -> list[SessionRun]:
    """The runs of a session's job that have not ended, and are not about to."""
    states = [each for each in IN_FLIGHT if each is not dg.DagsterRunStatus.CANCELING]
    records = instance.get_run_records(dg.RunsFilter(job_name=job_name, statuses=states), limit=20)
    return [
        SessionRun(
            record.dagster_run.run_id,
            record.dagster_run.status is dg.DagsterRunStatus.STARTED,
            record.create_timestamp if record.start_time is None else datetime.fromtimestamp(record.start_time, UTC),
        )
        for record in records
    ]


def gold_sensor(stream: Stream, job: Job) -> dg.SensorDefinition:
    """Makes gold anew for the event dates that silver touched since."""
    look: _Look[tuple[list[date], list[dg.AssetKey]]] = _Look(f"the lake's tables of {stream.name}")

    @dg.sensor(
        name=f"{stream.name}_gold_sensor",
        job=job,
        minimum_interval_seconds=GOLD_INTERVAL_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Every {GOLD_INTERVAL_S} s: refreshes gold of {stream.name} for dates with new silver rows.",
    )
    def sensor(context: dg.SensorEvaluationContext, lake: LakeResource) -> Requests:
        try:
            dates, derived = look.at(lambda: pending(stream, lake))
        except TimeoutError as error:
            yield dg.SkipReason(str(error))
            return
        due, what = (len(derived), "tables to derive") if derived else (len(dates), "event dates to refresh")
        decision = decide(due, what, runs_of(context.instance, job.name), datetime.now(UTC))
        if not decision.start:
            yield dg.SkipReason(decision.reason)
            return
        if derived:  # A run ended between the dates and what is derived from them; every other makes both.
            yield dg.RunRequest(asset_selection=derived, tags={MAX_RUNTIME_TAG: str(GOLD_MAX_RUNTIME_S)})
        for piece in pieces(dates)[:MAX_PIECES]:
            tags = {
                RANGE_START: piece[-1].isoformat(),
                RANGE_END: piece[0].isoformat(),
                PENDING_ONLY_TAG: "true",
                MAX_RUNTIME_TAG: str(GOLD_MAX_RUNTIME_S),
            }
            yield dg.RunRequest(tags=tags)

    return sensor


def pending(stream: Stream, lake: LakeResource) -> tuple[list[date], list[dg.AssetKey]]:
    """The event dates to make anew or, where there are none, the tables to derive from the others."""
    dates = pending_dates(stream, lake)
    return dates, [] if dates else pending_derived(stream, lake)


def pending_dates(stream: Stream, lake: LakeResource) -> list[date]:
    """The event dates of which a gold table is behind silver."""
    opened = lake.open()
    return sorted({day for gold in stream.daily_gold for day in gold.pending(opened)})


def pending_derived(stream: Stream, lake: LakeResource) -> list[dg.AssetKey]:
    """The gold tables that are behind the gold table they are made from."""
    opened, now = lake.open(), datetime.now(UTC)
    due: list[str] = []
    for gold in stream.whole_gold:
        is_due = gold.is_due(opened, now) if isinstance(gold, VersionedGold) else gold.is_pending(opened)
        # What is made of a table that is due follows in the same run.
        if is_due or any(source.name in due for source in gold.sources):
            due.append(gold.table.name)
    for alerts in stream.gold_alerts:
        if alerts.source.name in due or alerts.is_pending(opened):
            due.append(alerts.table.name)
    if stream.alarm_gold and stream.alarm_gold.is_due(opened, now):
        due.append(stream.alarm_gold.table.name)
    return [table_key(name) for name in due]


def clinical_sensor() -> dg.SensorDefinition:
    """Makes clinical silver and gold follow, also after a run that was killed between the layers."""
    look: _Look[tuple[list[dg.AssetKey], list[date]]] = _Look("the lake's clinical tables")

    @dg.sensor(
        name="clinical_sensor",
        job=clinical_gold,
        minimum_interval_seconds=CLINICAL_INTERVAL_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Every {CLINICAL_INTERVAL_S} s: refreshes clinical silver and gold that are behind.",
    )
    def sensor(context: dg.SensorEvaluationContext, lake: LakeResource) -> Requests:
        try:
            tables, dates = look.at(lambda: due(lake.open()))
        except TimeoutError as error:
            yield dg.SkipReason(str(error))
            return
        count, what = (len(tables), "tables behind") if tables else (len(dates), "event dates to refresh")
        now = datetime.now(UTC)
        decision = decide(count, what, runs_of(context.instance, clinical_gold.name), now)
        if not decision.start:
            yield dg.SkipReason(decision.reason)
        elif tables:
            yield dg.RunRequest(asset_selection=tables)
        else:
            first, last = shown(dates) or (now.date(), now.date())
            tags = {RANGE_START: first.isoformat(), RANGE_END: last.isoformat(), PENDING_ONLY_TAG: "true"}
            yield dg.RunRequest(asset_selection=GOLD_BY_DATE, tags=tags)

    return sensor


def openfda_sensor() -> dg.SensorDefinition:
    """Polls openFDA now and then. Nothing asks the internet unless somebody wants it: by default it is stopped."""
    look: _Look[datetime | None] = _Look("the lake")

    @dg.sensor(
        name="openfda_sensor",
        job_name=openfda_poll.name,
        minimum_interval_seconds=OPENFDA_INTERVAL_S,
        default_status=dg.DefaultSensorStatus.RUNNING if _polls_openfda() else dg.DefaultSensorStatus.STOPPED,
        description="Starts a poll of openFDA when the last one ended PULSELAKE_OPENFDA_EVERY_S seconds ago. It runs "
        "from the start where PULSELAKE_OPENFDA is on.",
    )
    def sensor(context: dg.SensorEvaluationContext, lake: LakeResource, hubs: HubsResource) -> Requests:
        try:
            ended_at = look.at(lambda: PolledReports(lake.open()).ended_at())
        except TimeoutError as error:
            yield dg.SkipReason(str(error))
            return
        every = timedelta(seconds=hubs.settings().openfda_every_s)
        decision = decide_poll(ended_at, every, runs_of(context.instance, openfda_poll.name), datetime.now(UTC))
        yield dg.RunRequest() if decision.start else dg.SkipReason(decision.reason)

    return sensor


def _polls_openfda() -> bool:
    """Settings that are wrong are named by whoever needs them; here they poll nothing."""
    try:
        return Settings().openfda
    except ValidationError:
        return False


def runs_of(instance: dg.DagsterInstance, job_name: str) -> Runs:
    """What the run records say of a job."""
    in_flight = instance.get_run_records(dg.RunsFilter(job_name=job_name, statuses=IN_FLIGHT), limit=5)
    finished = instance.get_run_records(
        dg.RunsFilter(
            job_name=job_name,
            statuses=[dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED],
        ),
        limit=10,
    )
    failed = []
    for record in finished:
        if record.dagster_run.status is not dg.DagsterRunStatus.FAILURE:
            break
        failed.append(record)
    ended = failed[0].end_time if failed else None
    return Runs(
        in_flight=[record.dagster_run.run_id for record in in_flight],
        failures=len(failed),
        failed_at=datetime.fromtimestamp(ended, UTC) if ended else None,
    )
