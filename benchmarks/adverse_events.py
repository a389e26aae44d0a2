"""Reports of adverse drug events: a backlog into all tables, gold and signals of all of them, and then a new day's.

References in the same run: the SDK alone that receives the backlog, and DuckDB that counts silver's reports by drug and
reaction in one statement.
"""

from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.backlog import fill
from benchmarks.report import Figures, say, show
from benchmarks.workers import measure
from generator.adverse_events import PLANTED
from generator.streams import adverse_events
from tests.emulator.hub import RunningHub

HUB, ALERTS = "adverse_events", "alerts"
REPORTS, NEW_REPORTS = 1_000_000, 2_000
QUICK_REPORTS, QUICK_NEW_REPORTS = 20_000, 500
ORGANISATIONS = 20
"""How many send reports: each sends one every five minutes, so that few make a backlog of many days."""
TARGET_NEW_DAY_S = 30.0


def run(*, quick: bool = False) -> Figures:
    """The backlog, and then the reports of another day."""
    count, new = (QUICK_REPORTS, QUICK_NEW_REPORTS) if quick else (REPORTS, NEW_REPORTS)
    spacing = timedelta(minutes=5)
    begin = datetime.now(UTC) - spacing * (count + new) / ORGANISATIONS - timedelta(days=1)
    made = partial(adverse_events, spacing=spacing, patients=ORGANISATIONS)
    with RunningHub((f"{HUB}:4", f"{ALERTS}:2")) as hub, TemporaryDirectory(prefix="bench-") as folder:
        connection, lake = hub.connection_string, str(Path(folder) / "lake")
        say(f"Filling a hub with {count:,} reports …")
        sent = fill(connection, HUB, made(start=begin, count=count, seed=1, faults=0.01))
        say("The SDK alone …")
        bare = measure("bare_receive_worker", connection_string=connection, hub=HUB, events=count, threads=1)
        say("A session …")
        same = {"connection_string": connection, "lake": lake}
        session = measure("adverse_events_worker", work="session", **same)
        say("Gold of all reports …")
        gold = measure("adverse_events_worker", work="gold", **same)
        say("DuckDB, one statement over silver …")
        duckdb = measure("adverse_events_worker", work="duckdb", **same)
        say(f"{new:,} reports of another day …")
        start = begin + spacing * count / ORGANISATIONS
        fill(connection, HUB, made(start=start, count=new, seed=2))
        day = measure("adverse_events_worker", work="session", **same)
        day_gold = measure("adverse_events_worker", work="gold", **same)
    figures: Figures = {
        "sent": dict(sent),
        "bare": bare,
        "session": session,
        "gold": gold,
        "duckdb": duckdb,
        "new_day": {"session": day, "gold": day_gold, "whole_s": day["whole_s"] + day_gold["whole_s"]},
        "planted": len(PLANTED),
    }
    _show(figures, count, new)
    return figures


def _show(figures: Figures, count: int, new: int) -> None:
    def row(name: str, work: dict[str, Any], events: int) -> tuple[str, ...]:
        seconds = work["whole_s"]
        return name, f"{events:,}", f"{seconds:.1f} s", f"{events / seconds:,.0f}", f"{work['peak_rss_mb']:.0f} MB"

    show(
        "Reports of adverse events",
        ("", "reports", "time", "reports/s", "peak RSS"),
        (
            row("the SDK alone", figures["bare"], count),
            row("a session into all tables", figures["session"], count),
            row("gold and signals, all anew", figures["gold"], count),
            row("DuckDB: counts by drug and reaction", figures["duckdb"], count),
            row("a new day: session", figures["new_day"]["session"], new),
            row("a new day: gold and signals", figures["new_day"]["gold"], new),
        ),
    )
    rows = (
        (name, f"{seconds:.1f} s", f"{figures['new_day']['gold']['tables'][name]:.1f} s")
        for name, seconds in figures["gold"]["tables"].items()
    )
    show("Gold by table", ("", "all anew", "a new day"), [*rows])
    found = figures["gold"]["signals"]
    show(
        "Wanted",
        ("", "wanted", "measured"),
        (
            ("a new day in all tables", f"<= {TARGET_NEW_DAY_S:.0f} s", f"{figures['new_day']['whole_s']:.1f} s"),
            ("planted associations found", str(figures["planted"]), str(found["planted"])),
            ("others taken for signals, a >= 100", "0", f"{found['others']} of {found['unplanted']:,}"),
        ),
    )
