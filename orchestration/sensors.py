"""Sensors: fetch the facts, let `sessions.decide` decide, forward the decision.

The truth is the hub, the Delta logs and Dagster's run records; no sensor keeps a cursor.
"""

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from time import monotonic
from typing import Generic, TypeVar

import dagster as dg
from pydantic import ValidationError

from assets.clinical.contract import Batch
from assets.gold import pieces
from assets.gold_asset import PENDING_ONLY_TAG
from assets.stream.asset import table_key
from assets.versioned import VersionedGold
from orchestration.backlog import Backlog, backlog
from orchestration.clinical import GOLD_BY_DATE, clinical_gold, clinical_load, keys_of, never_loaded, shown
from orchestration.clinical import due as clinical_due
from orchestration.device_polling import decide_device_poll
from orchestration.jobs import MAX_RUNTIME_TAG, OFFSETS_TAG, Job, openfda_poll, watched_import
from orchestration.polled import PolledReports
from orchestration.polling import decide_poll
from orchestration.sessions import Runs, SessionRun, Shift, decide, decide_session
from orchestration.started_runs import IN_FLIGHT
from orchestration.system import Stream
from orchestration.watching import Due, due, folder_of
from resources.account_state import AccountStateError, load
from resources.accounts import Account, AccountError, read_accounts
from resources.background import Background
from resources.dagster_resources import HubsResource, LakeResource
from resources.event_source import HubUnavailableError
from resources.leases import Lease
from resources.settings import Settings
from resources.task_metrics import SensorMetrics
from resources.watched_folder import WatchedFolderError

_log = logging.getLogger(__name__)

SESSION_INTERVAL_S = 5
TICK_TIMEOUT_S = 9.0
"""How long a tick waits for the outside; a look at a hub alone ends before that."""
DEVICE_POLL_INTERVAL_S = 15
GOLD_INTERVAL_S = OPENFDA_INTERVAL_S = WATCH_INTERVAL_S = FIRST_LOAD_INTERVAL_S = 30
WATCH_SHARE = 0.1
"""For how much of the time the watched folder may be listed; every page of it is a request."""
CLINICAL_INTERVAL_S = 60
MAX_PIECES = 2
"""How many runs a tick starts: today's, and one for dates of before. Today's next one waits for both to end."""
RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"

# A session is ended by its successor, and the locks tell when it is gone; this is for a run that hangs.
SESSION_MAX_RUNTIME_S = 24 * 3600
# A run whose machine went down is in flight until its time limit, and no other is started.
GOLD_MAX_RUNTIME_S = 600

Found = TypeVar("Found")
Requests = Iterator[dg.RunRequest | dg.SkipReason]


class Look(Generic[Found]):
    """A look at the outside that a tick waits for no longer than some seconds.

    What hangs goes on in the background, and no second look begins before it has ended: ticks would pile up.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._last: Background[Callable[[], Found], Found] | None = None

    @property
    def is_pending(self) -> bool:
        """Whether one has begun whose answer nobody has had."""
        return self._last is not None

    def at(self, look: Callable[[], Found]) -> Found:
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
    look: Look[Backlog] = Look(f"the hub and the lake of {stream.name}")
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
    look: Look[tuple[list[date], list[dg.AssetKey]]] = Look(f"the lake's tables of {stream.name}")

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
    look: Look[tuple[list[dg.AssetKey], list[date]]] = Look("the lake's clinical tables")

    @dg.sensor(
        name="clinical_sensor",
        job=clinical_gold,
        minimum_interval_seconds=CLINICAL_INTERVAL_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Every {CLINICAL_INTERVAL_S} s: refreshes clinical silver and gold that are behind.",
    )
    def sensor(context: dg.SensorEvaluationContext, lake: LakeResource) -> Requests:
        try:
            tables, dates = look.at(lambda: clinical_due(lake.open()))
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


def first_load_sensor() -> dg.SensorDefinition:
    """Loads sources that are set up and were never loaded at once; what comes later waits for the schedule."""
    look: Look[list[Batch]] = Look("the lake's clinical tables")

    @dg.sensor(
        name="clinical_first_load_sensor",
        job=clinical_load,
        minimum_interval_seconds=FIRST_LOAD_INTERVAL_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Every {FIRST_LOAD_INTERVAL_S} s: loads clinical sources that were set up since; each is tried "
        "once an hour until it was loaded.",
    )
    def sensor(context: dg.SensorEvaluationContext, lake: LakeResource) -> Requests:
        now = datetime.now(UTC)
        try:
            new = look.at(lambda: never_loaded(Settings(), lake.open()))
        except TimeoutError as error:
            yield dg.SkipReason(str(error))
            return
        # A first load may take hours. Failures set no pause here: the key of the run does.
        at_work = Runs(runs_of(context.instance, clinical_load.name).in_flight)
        decision = decide(len(new), "sources that were never loaded", at_work, now)
        if not decision.start:
            yield dg.SkipReason(decision.reason)
            return
        # One run for all: a source that fails keeps no other from it, and nine runs at once would hold up sessions.
        yield dg.RunRequest(
            run_key=f"first {' '.join(each.name for each in new)} {now:%Y-%m-%dT%H}",
            partition_key=now.date().isoformat(),
            asset_selection=[key for each in new for key in keys_of(each)],
        )

    return sensor


def openfda_sensor() -> dg.SensorDefinition:
    """Polls openFDA now and then. Nothing asks the internet unless somebody wants it: by default it is stopped."""
    look: Look[datetime | None] = Look("the lake")

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


def device_poll_sensor(account: Account, job: dg.JobDefinition) -> dg.SensorDefinition:
    """Polls an account at another system as often as it is declared."""

    @dg.sensor(
        name=f"{job.name}_sensor",
        job_name=job.name,
        minimum_interval_seconds=DEVICE_POLL_INTERVAL_S,
        default_status=dg.DefaultSensorStatus.RUNNING if account.is_on else dg.DefaultSensorStatus.STOPPED,
        description=f"Starts a poll of an account at {account.system.name} {account.every_s} s after the last one, and "
        "later after failures.",
    )
    def sensor(context: dg.SensorEvaluationContext, hubs: HubsResource) -> Requests:
        try:
            state = load(hubs.settings().accounts_state, account.name)
        except AccountStateError as error:
            yield dg.SkipReason(str(error))
            return
        now = datetime.now(UTC)
        decision = decide_device_poll(account, state, Runs(), now)
        if decision.start:
            # Only now, since there may be many accounts: run records cost more than the account's file.
            decision = decide_device_poll(account, state, runs_of(context.instance, job.name), now)
        yield dg.RunRequest() if decision.start else dg.SkipReason(decision.reason)

    return sensor


class Pace:
    """Keeps what takes time to a share of it.

    Args:
        share: of all time.
        clock: seconds of any beginning.
    """

    def __init__(self, share: float, clock: Callable[[], float] = monotonic) -> None:
        self._share, self._clock = share, clock
        self._not_before = 0.0
        self.took_s = 0.0

    def wait_s(self) -> float:
        """How long until it may be done again."""
        return max(0.0, self._not_before - self._clock())

    def timed(self, work: Callable[[], Found]) -> Found:
        """Does it, however it ends."""
        began = self._clock()
        try:
            return work()
        finally:
            ended = self._clock()
            self.took_s = ended - began
            self._not_before = ended + self.took_s * (1 / self._share - 1)

    def again(self) -> None:
        """Another process does the same once more."""
        self._not_before += self.took_s / self._share


def watch_sensor(clock: Callable[[], float] = monotonic) -> dg.SensorDefinition:
    """Imports new files of the watched folder. By default there is none, and the sensor is stopped.

    Args:
        clock: seconds of any beginning.
    """
    look: Look[list[Due]] = Look("the watched folder and the lake")
    pace = Pace(WATCH_SHARE, clock)

    @dg.sensor(
        name="watch_sensor",
        job_name=watched_import.name,
        minimum_interval_seconds=WATCH_INTERVAL_S,
        default_status=dg.DefaultSensorStatus.RUNNING if _watches() else dg.DefaultSensorStatus.STOPPED,
        description=f"Every {WATCH_INTERVAL_S} s: imports files that are new in PULSELAKE_WATCH. A folder that takes "
        f"long to be listed is listed less often, for {WATCH_SHARE:.0%} of the time at most.",
    )
    def sensor(context: dg.SensorEvaluationContext, lake: LakeResource, hubs: HubsResource) -> Requests:
        if (folder := folder_of(hubs.settings())) is None:
            yield dg.SkipReason("PULSELAKE_WATCH is not set.")
            return
        if (wait_s := pace.wait_s()) and not look.is_pending:
            yield dg.SkipReason(f"Listing the folder took {pace.took_s:.0f} s; it is listed again in {wait_s:.0f} s.")
            return
        now = datetime.now(UTC)
        try:
            found = look.at(lambda: pace.timed(lambda: due(folder, lake.open(), now)))
        except (WatchedFolderError, TimeoutError) as error:
            yield dg.SkipReason(str(error))
            return
        decision = decide(len(found), "new files", runs_of(context.instance, watched_import.name), now)
        if decision.start:
            pace.again()
        yield dg.RunRequest() if decision.start else dg.SkipReason(decision.reason)

    return sensor


def declared_accounts() -> list[Account]:
    """The accounts that shall be polled. A file or settings that are wrong are named by `pulselake dev` and `poll`."""
    try:
        return list(read_accounts(Settings().accounts_file).values())
    except ValidationError:
        return []
    except AccountError as error:
        _log.error("%s", error)
        return []


def _watches() -> bool:
    """See `_polls_openfda`."""
    try:
        return bool(Settings().watch)
    except ValidationError:
        return False


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
