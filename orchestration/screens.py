"""What commands print: tables for people."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

if TYPE_CHECKING:
    from orchestration.account import Summary
    from orchestration.status import LastSession, StreamStatus


def show_status(out: Console, streams: "list[StreamStatus]", sessions: "list[LastSession]") -> None:
    """Lag, last session and micro-batch, quarantine and alerts of every stream."""
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
    _sessions(out, sessions)
    rows = Grid(
        "stream", "last pull (UTC)", "bronze", "silver", "quarantine", "alerts", title="Rows", title_justify="left"
    )
    for each in streams:
        last = f"{each.last_pulled_at:%m-%d %H:%M:%S}" if each.last_pulled_at else "never"
        rows.add_row(
            each.stream.name, last, *(f"{each.rows[layer]:,}" for layer in ("bronze", "silver", "quarantine", "alerts"))
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


def _sessions(out: Console, sessions: "list[LastSession]") -> None:
    if not sessions:
        return
    grid = Grid("stream", "started (UTC)", "seconds", "outcome", "run", title="Last session", title_justify="left")
    for each in sessions:
        started = f"{each.started_at:%m-%d %H:%M:%S}" if each.started_at else "not yet"
        grid.add_row(each.stream.name, started, f"{each.duration.total_seconds():,.0f}", each.outcome, each.run_id[:8])
    out.print(grid)


def show_summary(out: Console, summary: "Summary") -> None:
    """The end of the demo: every event accounted for."""
    grid = Grid(
        "", *(each.stream.name for each in summary.streams), title="Every event accounted for", title_justify="left"
    )
    sent = [summary.published.get(each.stream.name) for each in summary.streams]
    grid.add_row("events sent", *(f"{each.events:,}" if each else "none" for each in sent))
    for layer in ("bronze", "silver", "quarantine", "alerts"):
        grid.add_row(f"rows in {layer}", *(f"{each.rows[layer]:,}" for each in summary.streams))
    grid.add_row("duplicates dropped", *(f"{each.duplicates:,}" for each in summary.streams))
    names = [each.stream.name for each in summary.streams]
    passed = (all(finding.passed for finding in summary.findings[name] if finding.is_error) for name in names)
    grid.add_row("bronze = silver + quarantine + duplicates", *map(_verdict, passed))
    grid.add_row("every alert is in the alerts hub", *(_verdict(not summary.silent[name]) for name in names))
    out.print(grid)
    for each in summary.streams:
        _counts(out, f"{each.stream.name}: quarantined, by reason", each.quarantine)
        _counts(out, f"{each.stream.name}: alerts, by rule", each.alerts)
    _counts(out, "gold rows", summary.gold)
    if summary.latency:
        latency = summary.latency
        out.print(
            f"Event in the hub → alert in the hub: p50 {latency.p50:.2f} s, p99 {latency.p99:.2f} s "
            f"({latency.alerts:,} alerts; without events that waited for the first session to start)"
        )
    for problem in summary.problems:
        out.print(f"[red]{escape(problem)}[/]", highlight=False)
    out.print("\n[bold]Where to look next[/]")
    command = f"PULSELAKE_HOME='{_short(summary.settings.root)}' {_short(Path(sys.executable).with_name('pulselake'))}"
    for arguments in (
        'sql "SELECT * FROM gold.glucose_daily LIMIT 10"',
        "sql      # a shell over all tables; .tables lists them",
        "dev      # the same tables live, with the Dagster UI",
    ):
        out.print(f"  {command} {arguments}", highlight=False, soft_wrap=True)


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
