"""What an engine at work tells of itself: durations, counts and names of rules and reasons, and nothing of a reading.

An `Observer` logs what happens seldom. Whoever wants figures derives a class of it; the engine does not know which.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic

import polars as pl

from assets.stream.process import Outcome
from resources.logs import tell

_log = logging.getLogger(__name__)

SLOW_COMMIT_S = 5.0
"""A commit that takes longer is worth a line in the log."""


@dataclass(frozen=True)
class Committed:
    """What a commit stored.

    Attributes:
        rows: by role of the table.
        duplicates: readings that were dropped as repeats.
        reasons: rows of quarantine by reason.
        alerts: rows of alerts by rule and severity.
    """

    rows: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    alerts: Counter[tuple[str, str]] = field(default_factory=Counter)

    @classmethod
    def of(cls, outcomes: Iterable[Outcome], events_in_bronze: int = 0) -> "Committed":
        """The counts of outcomes, and of events that were stored in bronze alone."""
        rows, reasons, alerts = Counter({"bronze": events_in_bronze}), Counter[str](), Counter[tuple[str, str]]()
        duplicates = 0
        for outcome in outcomes:
            rows.update({role: frame.height for role, frame in outcome.rows.items()})
            duplicates += int(outcome.duplicates["duplicates"].sum())
            if outcome.quarantine.height:
                reasons.update(dict(outcome.quarantine["reason"].value_counts().iter_rows()))
            if outcome.alerts.height:
                counts = outcome.alerts.group_by("rule", "severity").len().iter_rows()
                alerts.update({(rule, severity): count for rule, severity, count in counts})
        return cls(rows, duplicates, reasons, alerts)


class Observer:
    """Told by a session and its pipeline what they do, on whichever thread does it. It must not raise.

    Args:
        stream: the stream's name.
    """

    def __init__(self, stream: str) -> None:
        self.stream = stream
        self._is_away = False

    def waits(self) -> None:
        """A successor is prepared, and waits for its turn."""
        tell(_log, "session is the successor", stream=self.stream)

    def began(self, *, is_successor: bool) -> None:
        """It is the session's turn: from now on no other one commits."""
        tell(_log, "session started", stream=self.stream, is_successor=is_successor)

    def opened(self, seconds: float, *, is_successor: bool) -> None:
        """All is prepared that comes before the first micro-batch; it took so long since `began`."""
        event = "session took over" if is_successor else "session receives"
        tell(_log, event, stream=self.stream, seconds=seconds)

    def looked(self, events: int, oldest_s: float | None) -> None:
        """So many events were pulled, perhaps none; the oldest of them was in the hub for so long."""

    def took(self, step: str, seconds: float) -> None:
        """A step of the pipeline took so long: decode, process, publish, commit or maintain."""

    def looked_up(self, scans: int, seconds: float) -> None:
        """So many scans of stored rows were made for one micro-batch, and took so long together."""

    def published(self, ages_s: pl.Series, set_aside: int) -> None:
        """The alerts hub took alerts; each is told by the time since its event came into the hub."""

    def alerts_hub(self, *, is_away: bool) -> None:
        """Whether the alerts hub took what it was last given."""
        if is_away != self._is_away:
            event, level = ("alerts hub is away", logging.WARNING) if is_away else ("alerts hub is back", logging.INFO)
            tell(_log, event, level, stream=self.stream)
        self._is_away = is_away

    def committed(self, done: Committed, seconds: float) -> None:
        """A commit ended."""
        self.took("commit", seconds)
        if seconds > SLOW_COMMIT_S:
            tell(_log, "commit was slow", logging.WARNING, stream=self.stream, seconds=seconds, **done.rows)

    def maintained(self, seconds: float, failure: str | None) -> None:
        """The tables' files were made fewer, or that failed with an error of this type."""
        self.took("maintain", seconds)
        if failure is None:
            tell(_log, "tables maintained", stream=self.stream, seconds=seconds)
        else:
            tell(_log, "maintenance failed", logging.WARNING, stream=self.stream, seconds=seconds, failure=failure)

    def reference_failed(self, table: str, failure: str) -> None:
        """A reference table could not be read, with an error of this type; the session goes on with what it knows."""
        tell(_log, "reference data not refreshed", logging.WARNING, stream=self.stream, table=table, failure=failure)

    def gave_turn(self, seconds: float) -> None:
        """The session goes on after a rebuild or a swap had its place for so long."""
        tell(_log, "session gave a turn", stream=self.stream, seconds=seconds)

    def handed_over(self, seconds: float) -> None:
        """Everything is committed, so long after the successor was seen."""
        tell(_log, "session handed over", stream=self.stream, seconds=seconds)

    def ended(self, counts: Mapping[str, int], failure: str | None) -> None:
        """The session ends and its place is free next; `failure` is the type of the error that ended it."""
        level = logging.INFO if failure is None else logging.WARNING
        tell(_log, "session ended", level, stream=self.stream, failure=failure, **counts)


class Stopwatch:
    """How long a block took, also one that raised."""

    seconds = 0.0


@contextmanager
def timed() -> Iterator[Stopwatch]:
    """Measures the block."""
    watch, began = Stopwatch(), monotonic()
    try:
        yield watch
    finally:
        watch.seconds = monotonic() - began
