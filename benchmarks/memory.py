"""How much memory a session takes for a backlog of a million events."""

from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.backlog import fill, past_events
from benchmarks.report import Figures, say, show
from benchmarks.workers import measure
from tests.emulator.hub import RunningHub

EVENTS, QUICK_EVENTS = 1_000_000, 100_000
TARGET_MB = 700


def run(*, quick: bool = False) -> Figures:
    """One session, in a process that has loaded Dagster and all definitions as a run of Dagster has."""
    events = QUICK_EVENTS if quick else EVENTS
    with RunningHub(("glucose:4", "alerts:4")) as hub, TemporaryDirectory(prefix="bench-") as folder:
        say(f"Sending {events:,} events to a hub …")
        sent = fill(hub.connection_string, "glucose", past_events(events))
        say("A session drains them …")
        figures: Figures = measure(
            "session_worker",
            connection_string=hub.connection_string,
            hub="glucose",
            lake=str(Path(folder) / "lake"),
            with_dagster=True,
        )
    if figures["events"] != sent["events"]:
        raise RuntimeError(f"{sent['events']} events were sent, {figures['events']} were received")
    show(
        "Memory",
        ("", "measured", "wanted"),
        [
            ["events", f"{figures['events']:,}", ""],
            ["peak RSS of the session, MB", f"{figures['peak_rss_mb']:.0f}", f"≤ {TARGET_MB}"],
            ["  before it began", f"{figures['start_rss_mb']:.0f}", ""],
            ["seconds", f"{figures['whole_s']:.0f}", ""],
        ],
    )
    return figures
