"""What commands print: tables for people."""

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table as Grid
from rich.text import Text

from orchestration.web_cli import FIRST_USER

if TYPE_CHECKING:
    from orchestration.account import Summary
    from orchestration.demo_people import Reached
    from orchestration.hospital_loads import LoadedSource
    from orchestration.last_sessions import LastSession
    from orchestration.status import StreamStatus
    from orchestration.watch import Look, Worker

RATES = ("bronze", "silver", "quarantine", "alerts")
_RUN_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}")


def show_status(
    out: Console, streams: "list[StreamStatus]", sessions: "list[LastSession]", workers: "Sequence[Worker]" = ()
) -> None:
    """Lag, who is at work, last session and micro-batch, quarantine and alerts of every stream."""
    lag = Grid(
        "stream",
        "partition",
        "hub",
        "bronze",
        "silver",
        "behind",
        title="Lag (last sequence number)",
        title_justify="left",
    )
    for each in streams:
        if each.lag is None:
            lag.add_row(each.stream.name, *"?????")
            continue
        for partition in each.lag.partitions:
            numbers = (partition.partition, partition.hub, partition.bronze, partition.silver, partition.events)
            lag.add_row(each.stream.name, *(f"{number:,}" for number in numbers))
    out.print(lag)
    for each in streams:
        if each.hub:
            out.print(f"{each.stream.name} is read from {escape(each.hub)}", highlight=False)
    for problem in dict.fromkeys(each.problem for each in streams if each.problem):
        out.print(f"[red]{escape(problem)}[/]", highlight=False)
    for each in streams:
        if each.lag and each.lag.has_unpublished_alerts:
            out.print(f"[red]{each.stream.name}: stored alerts wait for the alerts hub; sessions offer them again.[/]")
        if each.has_untold_alarms:
            out.print(
                f"[red]{each.stream.name}: what happened to alarms waits for its hub; sessions offer it again.[/]"
            )
    _at_work(out, workers)
    _sessions(out, sessions)
    rows = Grid(
        *("stream", "last pull (UTC)", "bronze", "silver", "quarantine", "alerts", "open alarms"),
        title="Rows",
        title_justify="left",
    )
    for each in streams:
        last = f"{each.last_pulled_at:%m-%d %H:%M:%S}" if each.last_pulled_at else "never"
        rows.add_row(
            each.stream.name,
            last,
            *(f"{each.rows[layer]:,}" for layer in ("bronze", "silver", "quarantine", "alerts")),
            open_alarms_told(each),
        )
    out.print(rows)
    for each in streams:
        if each.archived:
            gone = (
                f"{role} {count:,} rows of {dates:,} ingest dates" for role, (dates, count) in each.archived.items()
            )
            out.print(f"{each.stream.name}: archived: {', '.join(gone)}", highlight=False)
        _counts(out, f"{each.stream.name}: quarantined today, by reason", each.quarantine)
        _counts(out, f"{each.stream.name}: alerts today, by rule", each.alerts)


def open_alarms_told(stream: "StreamStatus") -> str:
    """How many alarms are open, the urgent ones first."""
    if stream.open_alarms is None:
        return "–"
    counts = [(severity, stream.open_alarms.get(severity, 0)) for severity in ("urgent", "warning", "info")]
    return ", ".join(f"{count:,} {severity}" for severity, count in counts if count) or "0"


def _at_work(out: Console, workers: "Sequence[Worker]") -> None:
    if not workers:
        return
    grid = Grid("stream", *AT_WORK, title="At work", title_justify="left")
    for each in workers:
        grid.add_row(each.stream, *at_work(each))
    out.print(grid)


AT_WORK = ("run", "process", "since (UTC)", "successor", "rebuild")


def at_work(worker: "Worker") -> tuple[str, ...]:
    """Who is at work on a stream, as cells for the columns `AT_WORK`."""
    who = worker.active
    cells = ("nobody", "", "") if who is None else (short(who.name), str(who.pid or "?"), f"{who.since:%m-%d %H:%M:%S}")
    return (*cells, *("" if each is None else short(each.name) for each in (worker.successor, worker.rebuild)))


def short(name: str) -> str:
    """The beginning of a run's id; another name as it is."""
    return escape(name[:8] if _RUN_ID.fullmatch(name) else name)


def watched(streams: "Sequence[Look]", before: "Sequence[Look]") -> Group:
    """What `pulselake status --watch` shows: the newest look at every stream, and the rates since the one before."""
    grid = Grid("stream", *AT_WORK[:4], "behind", *(f"{layer}/s" for layer in RATES), title_justify="left")
    for now, then in zip(streams, before, strict=True):
        behind = "?" if now.behind is None else f"{now.behind:,}"
        rates = (f"{rate:,.1f}" for rate in now.rates(then, RATES))
        grid.add_row(now.worker.stream, *at_work(now.worker)[:4], behind, *rates)
    problems = dict.fromkeys(each.problem for each in streams if each.problem)
    at = f"{streams[0].at:%Y-%m-%d %H:%M:%S} UTC; Ctrl-C ends." if streams else ""
    return Group(grid, *(Text(problem, "red") for problem in problems), Text(at, "dim"))


def _sessions(out: Console, sessions: "list[LastSession]") -> None:
    if not sessions:
        return
    grid = Grid("stream", "started (UTC)", "seconds", "outcome", "run", title="Last session", title_justify="left")
    for each in sessions:
        started = f"{each.started_at:%m-%d %H:%M:%S}" if each.started_at else "not yet"
        grid.add_row(each.stream.name, started, f"{each.duration.total_seconds():,.0f}", each.outcome, each.run_id[:8])
    out.print(grid)


def show_summary(out: Console, summary: "Summary", page_port: int) -> None:
    """The end of the demo: every event accounted for, and where to look next.

    Args:
        out: where it is written.
        summary: of the demo.
        page_port: where `pulselake dev` serves the live page.
    """
    known = [each for each in summary.streams if each.stream.name in summary.published or each.rows["bronze"]]
    names = [each.stream.name for each in known]
    grid = Grid("", *names, title="Every event accounted for", title_justify="left")
    sent = [summary.published.get(name) for name in names]
    grid.add_row("events sent", *(f"{each.events:,}" if each else "none" for each in sent))
    for layer in ("bronze", "silver", "quarantine", "alerts"):
        grid.add_row(f"rows in {layer}", *(f"{each.rows[layer]:,}" for each in known))
    grid.add_row("duplicates dropped", *(f"{each.duplicates:,}" for each in known))
    passed = (all(finding.passed for finding in summary.findings[name] if finding.is_error) for name in names)
    grid.add_row("bronze = silver + quarantine + duplicates", *map(_verdict, passed))
    grid.add_row("every alert is in the alerts hub", *(_verdict(not summary.silent[name]) for name in names))
    out.print(grid)
    _hospital(out, summary.hospital)
    for each in summary.streams:
        _counts(out, f"{each.stream.name}: quarantined, by reason", each.quarantine)
        _counts(out, f"{each.stream.name}: alerts, by rule", each.alerts)
        if each.open_alarms is not None:
            out.print(f"{each.stream.name}: open alarms: {open_alarms_told(each)}", highlight=False)
    _counts(out, "gold rows", summary.gold)
    if summary.latency:
        latency = summary.latency
        out.print(
            f"Event in the hub → alert in the hub: p50 {latency.p50:.2f} s, p99 {latency.p99:.2f} s "
            f"({latency.alerts:,} alerts; without events that waited for the first session to start)"
        )
    if summary.told:
        _reached(out, summary.told)
    if summary.page:
        out.print(f"Open alarms on the live page: {summary.page.shown:,} of {summary.page.open:,}", highlight=False)
    for problem in summary.problems:
        out.print(f"[red]{escape(problem)}[/]", highlight=False)
    command = f"PULSELAKE_HOME='{_short(summary.settings.root)}' {_short(Path(sys.executable).with_name('pulselake'))}"
    if summary.page:
        out.print("\n[bold]The live page of these patients[/], with the alarms that are open, and all of it live:")
        out.print(f"  {command} dev", highlight=False, soft_wrap=True)
        how = f"Then open http://127.0.0.1:{page_port}, and sign in as {FIRST_USER} with {summary.page.password}"
        out.print(f"  {how}", highlight=False, soft_wrap=True)
    out.print("\n[bold]Where to look next[/]")
    for arguments in (
        "notify log   # who was told of what",
        "alarms   # those that are open; explain ALARM shows what decided one",
        'sql "SELECT * FROM gold.glucose_daily LIMIT 10"',
        'sql "SELECT * FROM gold.patient_360 WHERE is_in_ehr LIMIT 10"',
        "sql      # a shell over all tables; .tables lists them",
        "dev      # the same tables live, with the live page and the Dagster UI",
    ):
        out.print(f"  {command} {arguments}", highlight=False, soft_wrap=True)


def _reached(out: Console, told: "Reached") -> None:
    """Who was told, and what the store has."""
    raised = ", ".join(f"{count:,} {severity}" for severity, count in told.raised.items()) or "none"
    grid = Grid("People and the store", "", title_justify="left")
    grid.add_row("alarms raised", raised)
    grid.add_row("notifications sent", f"{told.notifications.get('sent', 0):,} in {told.messages:,} messages")
    grid.add_row("held back in quiet hours", f"{told.held_back:,}")
    grid.add_row("received once by a local server", f"{told.received - told.repeated:,}")
    for table, (stored, _) in told.stored.items():
        grid.add_row(f"rows in {table}", f"{stored:,}")
    grid.add_row("all of them as sent, and as in the lake", _verdict(not told.problems))
    out.print(grid)


def _hospital(out: Console, sources: "Sequence[LoadedSource]") -> None:
    """What became of the rows of the clinical sources."""
    if not sources:
        return
    columns = ("hospital", "landed", "bronze", "silver", "quarantine", "duplicates", "exact")
    grid = Grid(*columns, title="Every row of the hospital accounted for", title_justify="left")
    for each in sources:
        counts = (each.landed, each.bronze, each.silver, each.quarantined, each.duplicates)
        grid.add_row(each.name, *(f"{count:,}" for count in counts), _verdict(each.is_reconciled))
    out.print(grid)


def _verdict(passed: bool) -> str:
    return "yes" if passed else "[red]NO[/]"


def _short(path: Path) -> Path:
    """Relative to the current folder where it lies below it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _counts(out: Console, title: str, counts: Mapping[str, int]) -> None:
    if counts:
        grid = Grid(title, "rows")
        for name, count in counts.items():
            grid.add_row(escape(name), f"{count:,}")
        out.print(grid)
