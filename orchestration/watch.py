"""What `pulselake status --watch` shows: who is at work on each stream, how far it is behind, and how fast it goes."""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.console import Console
from rich.live import Live

from assets.stream.session import HubRecreatedError
from assets.stream.store import StreamStore
from orchestration.backlog import backlog
from orchestration.screens import watched
from orchestration.system import STREAMS, Stream, open_lake
from resources import sources
from resources.event_source import HubUnavailableError
from resources.lake import Lake
from resources.leases import Holder
from resources.settings import Settings


@dataclass(frozen=True)
class Worker:
    """Who holds a stream's locks: the session at work, the one that is ready to follow it, and a rebuild."""

    stream: str
    active: Holder | None
    successor: Holder | None
    rebuild: Holder | None


@dataclass(frozen=True)
class Look:
    """One stream at one moment.

    Attributes:
        at: when it was looked at.
        monotonic_s: the same by a clock that nobody sets.
        worker: who is at work.
        behind: events that are not in silver yet; None where the hub cannot be asked.
        problem: why not.
        rows: by role of the table.
    """

    at: datetime
    monotonic_s: float
    worker: Worker
    behind: int | None
    problem: str
    rows: Mapping[str, int]

    def rates(self, earlier: "Look", roles: Sequence[str]) -> list[float]:
        """Rows a second since an earlier look, by role; zero for the first look."""
        seconds = self.monotonic_s - earlier.monotonic_s
        return [(self.rows[role] - earlier.rows[role]) / seconds if seconds else 0.0 for role in roles]


def workers(settings: Settings) -> list[Worker]:
    """Who is at work on each stream."""
    return [_worker(stream, settings) for stream in STREAMS]


def _worker(stream: Stream, settings: Settings) -> Worker:
    held = settings.holders(stream.name)
    return Worker(stream.name, held.get("active"), held.get("successor"), held.get("rebuild"))


def look(stream: Stream, settings: Settings, lake: Lake) -> Look:
    """Looks at a stream; it counts no rows but those that the tables' logs tell."""
    behind, problem = None, ""
    try:
        behind = backlog(stream.contract, lake, sources.source(settings, stream.name)).events
    except (HubUnavailableError, HubRecreatedError) as error:
        problem = str(error)
    rows = {role: table.count() for role, table in StreamStore(stream.contract, lake).tables.items()}
    return Look(datetime.now(UTC), time.monotonic(), _worker(stream, settings), behind, problem, rows)


def watch(settings: Settings, out: Console, seconds: float, looks: int | None = None) -> None:
    """Looks at all streams again and again, and shows what it sees in place of what it saw before.

    Args:
        settings: whose streams.
        out: a terminal, or a file, to which each look is added.
        seconds: from the end of a look to the next one.
        looks: how many; None for no end.

    Raises:
        LakeUnavailableError: see `open_lake`.
    """
    lake = open_lake(settings)
    with ThreadPoolExecutor(len(STREAMS)) as pool, Live(console=out, auto_refresh=False) as screen:
        before: list[Look] = []
        done = 0
        while True:
            now = [*pool.map(lambda stream: look(stream, settings, lake), STREAMS)]
            shown = watched(now, before or now)
            if out.is_terminal:
                screen.update(shown, refresh=True)
            else:
                out.print(shown)
            before, done = now, done + 1
            if looks is not None and done >= looks:
                return
            time.sleep(seconds)
