"""The work of sensors without Dagster: drain, replay and refresh in this process, for the command line."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import polars as pl

from assets.gold import DailyGold, DerivedGold
from assets.stream.outlet import publish_alerts
from assets.stream.rebuild import Rebuilt
from assets.stream.rebuild import replay as replay_quarantine
from assets.stream.session import Session, SessionLimits, Totals
from orchestration.system import ALERTS_HUB, SQL, Stream, tables
from resources.lake import ConcurrentWriteError, Lake
from resources.reports import reports, write_report
from resources.settings import Settings


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
) -> Drained:
    """Runs sessions until the stream has all that its hub holds now, then refreshes its gold.

    Args:
        stream, settings: what to drain, and where from and to.
        limits: of each session.
        on_progress: called with the totals so far after every commit.
        should_stop: asked between micro-batches; True ends the drain with everything committed that was pulled.

    Raises:
        HubUnavailableError, HubRecreatedError, ConcurrentWriteError: see `Session.run`.
    """
    lake, namespace = settings.open_lake(), settings.event_hubs_namespace()
    source = namespace.source(settings.hub(stream.name))
    # Under a hub that never falls silent, what comes later is left to the next drain.
    tails = source.state().tails
    done = Totals()

    def report(totals: Totals) -> None:
        on_progress(done.joined(totals))

    def is_done() -> bool:
        reached = session.store.offsets(session.store.silver)
        return should_stop() or all(reached.get(partition, -1) >= tail.last for partition, tail in tails.items())

    with namespace.publisher(settings.hub(ALERTS_HUB)) as publisher:
        while True:
            session = Session(
                stream.contract,
                lake,
                source,
                publisher,
                limits=replace(limits, until_caught_up=True),
                on_progress=report,
                should_stop=is_done,
            )
            done = done.joined(session.run())
            session.store.maintain(datetime.now(UTC).date())
            if is_done():
                return Drained(done, refresh_gold(stream, lake))


def refresh_gold(stream: Stream, lake: Lake) -> dict[str, int]:
    """Makes gold anew where silver moved on.

    Returns:
        Rows written by table; without those that were up to date.

    Raises:
        ConcurrentWriteError: another refresh of the same table was faster twice.
    """
    written = {}
    for gold in stream.gold:
        try:
            rows = _refresh(gold, lake)
        except ConcurrentWriteError:  # A run of Dagster was faster.
            rows = _refresh(gold, lake)
        if rows is not None:
            written[gold.table.name] = rows
    return written


def _refresh(gold: DailyGold | DerivedGold, lake: Lake) -> int | None:
    if isinstance(gold, DailyGold):
        if dates := list(gold.pending(lake)):
            return gold.refresh(lake, dates)
    elif gold.is_pending(lake):
        return gold.refresh(lake)
    gold.settle(lake)
    return None


def refresh_reports(lake: Lake) -> dict[str, int]:
    """Builds all reports.

    Returns:
        Rows written by report.
    """
    return {report.name: write_report(lake, tables(), report) for report in reports(SQL / "reports")}


def replay(stream: Stream, settings: Settings, on_progress: Callable[[Rebuilt], None]) -> list[Rebuilt]:
    """Processes quarantined readings again, by rebuilding the days on which the outcome would be another.

    Alerts that are new are published; those that stood before are not published again.

    Raises:
        NotCaughtUpError, ConcurrentWriteError: see `rebuild`.
    """
    lake = settings.open_lake()

    def publish(new_alerts: pl.DataFrame) -> None:
        with settings.event_hubs_namespace().publisher(settings.hub(ALERTS_HUB)) as publisher:
            publish_alerts(stream.contract, publisher, new_alerts)

    done = replay_quarantine(stream.contract, lake, publish, on_progress)
    refresh_gold(stream, lake)
    return done
