"""The work of sensors without Dagster: drain, replay and refresh in this process, for the command line."""

import os
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeVar

import polars as pl

from assets.gold import DailyGold, DerivedGold, pieces
from assets.patients.tables import PATIENT_360
from assets.patients_refresh import Patient360Refresh
from assets.stream.configured import observer_of
from assets.stream.contract import ALARMS_HUB, ALERTS_HUB
from assets.stream.outlet import publish_alerts
from assets.stream.rebuild import Rebuilt
from assets.stream.rebuild import replay as replay_quarantine
from assets.stream.rederive import derive, is_ahead, redate, swap
from assets.stream.session import HubRecreatedError, Session, SessionLimits, Totals, check_identity
from assets.stream.store import StreamStore
from assets.versioned import VersionedGold
from orchestration.system import SQL, Stream, open_lake, tables, views
from resources import sources
from resources.audit import Entry, audited, in_one_commit
from resources.event_source import EventSource, HubUnavailableError, Tail
from resources.lake import ConcurrentWriteError, Lake
from resources.leases import Lease, LeaseError, wait
from resources.reports import ReportsError, reason, report_analytics, reports, write_report
from resources.settings import Settings
from resources.task_metrics import noted

FREE_S, STUCK_AFTER_S = 0.5, 60.0
"""How long a drain waits for a stream that is free in a moment, and for a session that gets nowhere."""
Say = Callable[[str], None]
_T = TypeVar("_T")


def silent(_: str) -> None:
    """Says nothing."""


@dataclass(frozen=True)
class Drained:
    """What a drain did with one stream."""

    totals: Totals
    gold_rows: dict[str, int]


def drain(
    stream: Stream,
    settings: Settings,
    limits: SessionLimits,
    on_progress: Callable[[Totals], None],
    should_stop: Callable[[], bool] = lambda: False,
    say: Say = silent,
) -> Drained:
    """Runs sessions until the stream has all that its hub holds now, then refreshes its gold.

    Where a session of another process is at work, it is waited for instead.

    Args:
        stream, settings: what to drain, and where from and to.
        limits: of each session.
        on_progress: called with the totals so far after every commit.
        should_stop: asked between micro-batches; True ends the drain with everything committed that was pulled.
        say: told what is done besides sessions.

    Raises:
        LeaseError: a session of another process is at work and gets nowhere.
        HubUnavailableError, HubRecreatedError, ConcurrentWriteError: see `Session.run`.
    """
    lake, source = open_lake(settings), sources.source(settings, stream.name)
    lease = settings.lease(stream.name, f"drain {os.getpid()}")
    # Under a hub that never falls silent, what comes later is left to the next drain.
    goal = current = source.state().tails
    done, store = Totals(), StreamStore(stream.contract, lake)

    def report(totals: Totals) -> None:
        on_progress(done.joined(totals))

    def is_caught_up() -> bool:
        return is_reached(goal, current, store.of_hub(store.offsets("silver")))

    def should_end() -> bool:
        return should_stop() or (is_caught_up() and not store.waiting)

    with sources.publisher(settings, ALERTS_HUB) as publisher, sources.publisher(settings, ALARMS_HUB) as alarms:
        while True:
            if wait(lease.begin, FREE_S):
                session = Session(
                    stream.contract,
                    lake,
                    source,
                    publisher,
                    limits=replace(limits, until_caught_up=True, maintains_at_end=True),
                    on_progress=report,
                    should_stop=should_end,
                    lease=lease,
                    observer=observer_of(stream.contract, settings),
                    alarms=alarms,
                )
                store = session.store
                with noted(settings.metrics, "session", stream=stream.name) as note:
                    totals = session.run()
                    note.rows = totals.events
                done = done.joined(totals)
            else:
                _follow(store, lease, source, goal, say, should_stop)
            if should_stop() or is_caught_up():
                return Drained(done, refresh_gold(stream, lake, say, settings))
            current = source.state().tails


def _follow(
    store: StreamStore,
    lease: Lease,
    source: EventSource,
    goal: Mapping[int, Tail],
    say: Say,
    should_stop: Callable[[], bool],
) -> None:
    """Waits while a session of another process is at work and gets on.

    Raises:
        LeaseError: it does not get on.
    """
    say(f"{store.contract.stream}: '{lease.active.last_holder()}' is at work on it; waiting until it has caught up …")
    reached, since, current = None, time.monotonic(), goal
    store.look(goal)
    while lease.active.is_held_elsewhere() and not should_stop():
        if is_reached(goal, current, store.of_hub(store.offsets("silver"))):
            return
        time.sleep(FREE_S)
        store.look(goal)
        if reached != (reached := store.offsets("silver")):
            since = time.monotonic()
        elif time.monotonic() - since > STUCK_AFTER_S:
            # What has expired meanwhile is not waited for.
            since, before, current = time.monotonic(), current, source.state().tails
            if current != before:
                continue
            raise LeaseError(
                f"{store.contract.stream}: '{lease.active.last_holder()}' is at work on it and has stored nothing for "
                f"{STUCK_AFTER_S:.0f} s, although its hub holds more. Nothing was drained; look at that run, end it, "
                "and drain again."
            )


def is_reached(goal: Mapping[int, Tail], current: Mapping[int, Tail], reached: Mapping[int, int]) -> bool:
    """Whether every event of `goal` is in silver, or had expired when the hub was last asked.

    Args:
        goal: what the hub held at the beginning.
        current: what it held when it was last asked.
        reached: for each partition the last sequence number in silver.
    """
    return all(
        reached.get(partition, -1) >= tail.last or current[partition].first > tail.last
        for partition, tail in goal.items()
    )


def refresh_gold(stream: Stream, lake: Lake, say: Say = silent, settings: Settings | None = None) -> dict[str, int]:
    """Makes gold anew where silver moved on, and raises its alerts.

    Args:
        stream, lake: what to refresh, and where.
        say: told what is done next.
        settings: where alerts of gold are published; without settings they are left to the next refresh.

    Returns:
        Rows written by table; without those that were up to date.

    Raises:
        ConcurrentWriteError: another refresh of the same table was faster twice.
    """
    written = {}
    for gold in stream.gold:
        say(f"{stream.name}: refreshing {gold.table.name} …")
        rows = _refresh(gold, lake)
        if rows is not None:
            written[gold.table.name] = rows
    if stream.alarm_gold and stream.alarm_gold.is_pending(lake):
        say(f"{stream.name}: refreshing {stream.alarm_gold.table.name} …")
        written[stream.alarm_gold.table.name] = twice(partial(stream.alarm_gold.refresh, lake))
    for alerts in stream.gold_alerts:
        if settings is not None and alerts.is_pending(lake):
            hub = partial(sources.publisher, settings, ALERTS_HUB)
            try:
                raised = twice(partial(alerts.refresh, lake, hub, datetime.now(UTC)))
            except HubUnavailableError as error:
                say(f"{stream.name}: alerts of {alerts.source.name} are raised later: {error}")
            else:
                written |= {alerts.table.name: raised} if raised else {}
    return written


def _refresh(gold: DailyGold | DerivedGold | VersionedGold, lake: Lake) -> int | None:
    if isinstance(gold, DailyGold):
        if due := pieces(gold.pending(lake)):
            return sum(twice(partial(gold.refresh, lake, piece)) for piece in due)
    elif gold.is_pending(lake):
        return twice(partial(gold.refresh, lake))
    # What gold of versions reflects is known whatever becomes of silver's log.
    if not isinstance(gold, VersionedGold):
        twice(partial(gold.settle, lake))
    return None


def refresh_patients(lake: Lake, say: Say = silent) -> int:
    """Brings `gold/patient_360` up to date; how many patients there are.

    Raises:
        ConcurrentWriteError: another refresh was faster twice.
    """
    say(f"refreshing {PATIENT_360.name} …")
    return twice(lambda: Patient360Refresh(lake).refresh(datetime.now(UTC)))


def refresh_reports(lake: Lake, say: Say = silent, should_stop: Callable[[], bool] = lambda: False) -> dict[str, int]:
    """Builds all reports, or those before `should_stop` says True.

    Returns:
        The rows that each report has.

    Raises:
        ReportsError: some could not be built; the others are built all the same.
    """
    written, failures = {}, {}
    with in_one_commit(lake):
        for report in reports(SQL / "reports"):
            if should_stop():
                break
            say(f"building report {report.name} …")
            try:
                done = twice(partial(write_report, report_analytics(lake, tables(), views()), report))
                written[report.name] = done.rows
                if done.dates_left:
                    say(f"report {report.name}: {done.dates_left:,} older dates are left for the next time")
            except Exception as error:
                failures[report.name] = reason(error)
    if failures:
        raise ReportsError(failures)
    return written


def rederive(stream: Stream, settings: Settings, say: Say = silent) -> None:
    """Makes silver, quarantine and alerts of all days anew from bronze, beside the old tables, and swaps them.

    A session goes on beside it, and waits for the swap only.

    Raises:
        ConcurrentWriteError, ProcessingError, SchemaError: see `assets.stream.rederive`.
    """
    prepare_rederived(stream, settings, say)
    finish_rederived(stream, settings, say)
    refresh_gold(stream, open_lake(settings), say, settings)


def prepare_rederived(stream: Stream, settings: Settings, say: Say = silent) -> None:
    """The long part of `rederive`, which no session has to wait for."""
    lake, lease = open_lake(settings), _lease_of_rebuild(stream, settings)
    with lease.rebuilding(), _audited_rederive("rederive, made beside", stream, lake):
        moved = 0
        if is_ahead(stream.contract, lake, datetime.now(UTC)):
            with lease.turned():
                moved = redate(stream.contract, lake, datetime.now(UTC))
            say(f"{stream.name}: moved {moved:,} events that a clock had pulled in the future to today.")
        derive(stream.contract, lake, say)


def finish_rederived(stream: Stream, settings: Settings, say: Say = silent) -> None:
    """The swap of `rederive`; gold follows by its own sensor, so that no session waits for it."""
    say(f"{stream.name}: swapping the tables …")
    lake, lease = open_lake(settings), _lease_of_rebuild(stream, settings)
    with lease.rebuilding(), _audited_rederive("rederive, swapped", stream, lake) as entry:
        swap(stream.contract, lake, say, lease)
        entry.rows_out, entry.rows_rejected = (
            lake.table(stream.contract.tables[role]).count() for role in ("silver", "quarantine")
        )


def _audited_rederive(kind: str, stream: Stream, lake: Lake) -> AbstractContextManager[Entry]:
    tables = stream.contract.tables
    return audited(lake, kind, tables.silver.name, source=tables.bronze.name)


def _lease_of_rebuild(stream: Stream, settings: Settings) -> Lease:
    return settings.lease(stream.name, f"rebuild {os.getpid()}")


def accept_hub(stream: Stream, settings: Settings) -> int | None:
    """Goes on with the hub that the settings name, from its beginning, in the place of the one before.

    Returns:
        The epoch of its events; None if it is the hub that the stream is read from already.

    Raises:
        HubUnavailableError: it cannot be asked; nothing was changed.
        ConcurrentWriteError: a session wrote at this moment; nothing was changed.
    """
    source = sources.source(settings, stream.name)
    hub, store = source.state(), StreamStore(stream.contract, open_lake(settings))
    if not store.bronze.exists():
        return None
    with _lease_of_rebuild(stream, settings).turned():
        store.bronze.ensure()
        store.look(hub.tails)
        try:
            check_identity(source.name, stream.name, hub, store)
        except HubRecreatedError:
            return store.log.accept(hub)
        return None


def twice(write: Callable[[], _T]) -> _T:
    """Dagster makes the same tables by its own clock: who was slower tries once more."""
    try:
        return write()
    except ConcurrentWriteError:
        return write()


def replay(
    stream: Stream, settings: Settings, on_progress: Callable[[Rebuilt], None], say: Say = silent
) -> list[Rebuilt]:
    """Processes quarantined readings again, by rebuilding the days on which the outcome would be another.

    Alerts that no day held before are published. What was measured long ago says that it is late.

    Args:
        stream, settings: what to replay, and where.
        on_progress: called after each rebuilt day.
        say: told what is done next.

    Raises:
        NotCaughtUpError, ConcurrentWriteError: see `rebuild`.
    """
    lake = open_lake(settings)

    def publish(new_alerts: pl.DataFrame) -> None:
        say(f"{stream.name}: publishing {new_alerts.height:,} new alerts …")
        with sources.publisher(settings, ALERTS_HUB) as publisher:
            late_after = timedelta(seconds=settings.late_alert_after_s)
            set_aside = publish_alerts(stream.contract, publisher, new_alerts, datetime.now(UTC), late_after)
        if set_aside:
            say(f"{stream.name}: {set_aside:,} of them are larger than the alerts hub takes; they are stored only.")

    def show(rebuilt: Rebuilt) -> None:
        on_progress(rebuilt)
        say(f"{stream.name}: {rebuilt.day} is done, going on …")

    say(f"{stream.name}: looking for the first day that a fix changes, and rebuilding it …")
    done = replay_quarantine(stream.contract, lake, publish, show, _lease_of_rebuild(stream, settings))
    refresh_gold(stream, lake, say, settings)
    return done
