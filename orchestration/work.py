"""The work of sensors without Dagster: drain, replay and refresh in this process, for the command line."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from assets.gold import DailyGold
from assets.reports import write_report
from assets.stream.rebuild import Rebuilt, days_to_replay, rebuild
from assets.stream.session import Session, SessionLimits, Totals, publish_alerts
from orchestration.backlog import backlog
from orchestration.system import ALERTS_HUB, SQL, Stream, tables
from resources.lake import Lake
from resources.reports import reports
from resources.settings import Settings


@dataclass(frozen=True)
class Drained:
    """What a drain did with one stream."""

    totals: Totals
    gold_rows: dict[str, int]


def drain(stream: Stream, settings: Settings, limits: SessionLimits, on_progress: Callable[[Totals], None]) -> Drained:
    """Runs sessions until the stream has caught up with its hub, then refreshes its gold.

    Raises:
        HubUnavailableError, HubRecreatedError, ConcurrentWriteError: see `Session.run`.
    """
    lake, namespace = settings.open_lake(), settings.event_hubs_namespace()
    source = namespace.source(settings.hub(stream.name))
    done = Totals()
    with namespace.publisher(settings.hub(ALERTS_HUB)) as publisher:
        while True:
            session = Session(
                stream.contract,
                lake,
                source,
                publisher,
                limits=replace(limits, until_caught_up=True),
                on_progress=lambda totals: on_progress(done.joined(totals)),
            )
            done = done.joined(session.run())
            session.store.maintain(datetime.now(UTC).date())
            if backlog(stream.contract, lake, source).events <= 0:
                break
    return Drained(done, refresh_gold(stream, lake))


def refresh_gold(stream: Stream, lake: Lake) -> dict[str, int]:
    """Makes gold anew where silver moved on.

    Returns:
        Rows written by table; without those that were up to date.
    """
    written = {}
    for gold in stream.gold:
        if isinstance(gold, DailyGold):
            if dates := list(gold.pending(lake)):
                written[gold.table.name] = gold.refresh(lake, dates)
        elif written:
            written[gold.table.name] = gold.refresh(lake)
    return written


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
    done = []
    for day in days_to_replay(stream.contract, lake):
        rebuilt = rebuild(stream.contract, lake, day)
        if rebuilt.new_alerts.height:
            with settings.event_hubs_namespace().publisher(settings.hub(ALERTS_HUB)) as publisher:
                publish_alerts(stream.contract, publisher, rebuilt.new_alerts)
        done.append(rebuilt)
        on_progress(rebuilt)
    refresh_gold(stream, lake)
    return done
