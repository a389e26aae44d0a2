"""The figures of a session at work, as a file of Prometheus' text format that is written anew every few seconds.

Figures are counts, durations and offsets; labels are names of streams, tables, rules and reasons. `metrics_endpoint`
serves the files of all processes; `task_metrics` has the figures of whatever runs and ends.
"""

import logging
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from time import time

import numpy as np
import polars as pl
import psutil
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, write_to_textfile
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from assets.stream.observer import Committed, Observer
from resources.logs import tell

_log = logging.getLogger(__name__)

# The series `…_created` double the number of series, and nothing here asks for them.
disable_created_metrics()  # type: ignore[no-untyped-call]

WRITE_EVERY_S = 5.0
STEPS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
LATENCIES_S = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30, 60, 300, 3600)
MAX_REASONS = 200
"""So many reasons have a series of their own: that of a failure names a type of error, of which there are many."""
OTHER = "other"
_LABEL = re.compile(r"[A-Za-z_][\w:.\- ]{0,79}", re.ASCII)


def write(folder: Path, name: str, registry: Collector) -> None:
    """Replaces the file of a name as a whole. Whatever keeps it from being written stops nothing else."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_to_textfile(str(folder / f"{name}.prom"), registry)
    except OSError as error:
        tell(_log, "metrics were not written", logging.WARNING, file=name, failure=type(error).__name__)


def label(text: str | None) -> str:
    """A name as the value of a label; what does not look like one may be data and gets no series of its own."""
    return text if text and _LABEL.fullmatch(text) else OTHER


class Latencies(Collector):
    """A histogram that takes many values at once: a micro-batch of a backlog raises thousands of alerts."""

    def __init__(self, name: str, documentation: str, labels: Mapping[str, str], bounds: Sequence[float]) -> None:
        self._name, self._documentation, self._labels = name, documentation, labels
        self._bounds = np.array(bounds, float)
        self._counts, self._sum = np.zeros(len(bounds) + 1, np.int64), 0.0
        self._lock = threading.Lock()

    def observe(self, values: pl.Series) -> None:
        """Counts each of the values."""
        found = np.bincount(np.searchsorted(self._bounds, values.to_numpy()), minlength=len(self._counts))
        with self._lock:
            self._counts, self._sum = self._counts + found, self._sum + float(values.sum())

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """The histogram, as the registry asks for it."""
        with self._lock:
            counts, total = np.cumsum(self._counts), self._sum
        bounds = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        family = HistogramMetricFamily(self._name, self._documentation, labels=list(self._labels))
        family.add_metric(list(self._labels.values()), list(zip(bounds, map(float, counts), strict=True)), total)
        return [family]


class SessionMetrics(Observer):
    """The figures of one session, written by a thread of their own from its turn to its end.

    Args:
        stream: the stream's name.
        folder: where the files of all processes are.
        rules: the stream's rules and their severities; each has a series from the beginning, so that its first alert
            is seen as an increase.
    """

    def __init__(self, stream: str, folder: Path, rules: Iterable[tuple[str, str]] = ()) -> None:
        super().__init__(stream)
        self._folder, self._process = folder, psutil.Process()
        self._ends, self._writing = threading.Event(), threading.Thread(target=self._keep_writing, daemon=True)
        self._registry = CollectorRegistry()
        self._reasons: set[str] = set()
        counter, gauge = self._counter, self._gauge
        self._events = counter("pulled_events", "Events that were pulled from the hub.")
        self._rows = counter("rows", "Rows that were stored, by layer.", "layer")
        self._duplicates = counter("duplicates", "Readings that were dropped as repeats.")
        self._quarantined = counter("quarantined", "Rows that were stored in quarantine, by reason.", "reason")
        self._alerts = counter("alerts", "Alerts that were stored, by rule and severity.", "rule", "severity")
        self._published = counter("alerts_published", "Alerts that the alerts hub took when they were raised.")
        self._set_aside = counter("alerts_set_aside", "Alerts that no hub will ever take.")
        self._scans = counter("look_ups", "Scans of stored rows for late or repeated readings.")
        self._scan_s = counter("look_up_seconds", "How long these scans took.")
        self._failures = counter("maintenance_failures", "How often making the tables' files fewer failed.")
        self._turns = counter("turns", "How often a rebuild or a swap had the session's place.")
        self._delay = self._histogram(
            "pull_delay_seconds", "How old the oldest event of a micro-batch was when pulled."
        )
        self._step = self._histogram("step_duration_seconds", "How long a step of a session took.", "step")
        self._latency = Latencies(
            "pulselake_alert_latency_seconds",
            "From an event's arrival in the hub to the moment at which the alerts hub had its alert.",
            {"stream": stream},
            LATENCIES_S,
        )
        self._registry.register(self._latency)
        self._is_active = gauge("session_active", "1 while a session is at work.")
        self._started_at = gauge("session_start_timestamp_seconds", "When the session's turn began.")
        self._looked_at = gauge("session_last_look_timestamp_seconds", "When the session last looked for events.")
        self._committed_at = gauge("session_last_commit_timestamp_seconds", "When a commit last ended; 0 for never.")
        self._opened_s = gauge("session_opening_seconds", "How long the session took from its turn to its first look.")
        self._is_hub_up = gauge("alerts_hub_up", "1 unless the alerts hub refused what it was last given.")
        self._memory = gauge("session_resident_memory_bytes", "Resident memory of the session's process.")
        self._is_hub_up.set(1)
        for layer in ("bronze", "silver", "quarantine", "alerts"):
            self._rows.labels(stream, layer)
        for rule, severity in rules:
            self._alerts.labels(stream, label(rule), label(severity))

    def began(self, *, is_successor: bool) -> None:
        super().began(is_successor=is_successor)
        self._is_active.set(1)
        self._started_at.set_to_current_time()
        self._looked_at.set_to_current_time()
        self._writing.start()

    def opened(self, seconds: float, *, is_successor: bool) -> None:
        super().opened(seconds, is_successor=is_successor)
        self._opened_s.set(seconds)

    def looked(self, events: int, oldest_s: float | None) -> None:
        self._looked_at.set_to_current_time()
        if oldest_s is not None:
            self._events.inc(events)
            self._delay.observe(oldest_s)

    def took(self, step: str, seconds: float) -> None:
        self._step.labels(self.stream, step).observe(seconds)

    def looked_up(self, scans: int, seconds: float) -> None:
        self._scans.inc(scans)
        self._scan_s.inc(max(0.0, seconds))

    def published(self, ages_s: pl.Series, set_aside: int) -> None:
        self._published.inc(len(ages_s) - set_aside)
        self._set_aside.inc(set_aside)
        self._latency.observe(ages_s)

    def alerts_hub(self, *, is_away: bool) -> None:
        super().alerts_hub(is_away=is_away)
        self._is_hub_up.set(not is_away)

    def committed(self, done: Committed, seconds: float) -> None:
        super().committed(done, seconds)
        self._committed_at.set_to_current_time()
        self._duplicates.inc(done.duplicates)
        for role, rows in done.rows.items():
            self._rows.labels(self.stream, role).inc(rows)
        for reason, rows in done.reasons.items():
            self._quarantined.labels(self.stream, self._reason(reason)).inc(rows)
        for (rule, severity), rows in done.alerts.items():
            self._alerts.labels(self.stream, label(rule), label(severity)).inc(rows)

    def maintained(self, seconds: float, failure: str | None) -> None:
        super().maintained(seconds, failure)
        self._failures.inc(failure is not None)

    def gave_turn(self, seconds: float) -> None:
        super().gave_turn(seconds)
        self._turns.inc()

    def ended(self, counts: Mapping[str, int], failure: str | None) -> None:
        super().ended(counts, failure)
        self._is_active.set(0)
        self._ends.set()
        # The next session writes the same file as soon as this one has given its place away, for which a disk that
        # hangs must not keep it.
        self._writing.join(WRITE_EVERY_S)

    def _keep_writing(self) -> None:
        ends = False
        while not ends:
            self._write()
            ends = self._ends.wait(WRITE_EVERY_S)
        self._write()

    def _write(self) -> None:
        began = time()
        self._memory.set(self._process.memory_info().rss)
        write(self._folder, f"session.{self.stream}", self._registry)
        self.took("write_metrics", max(0.0, time() - began))

    def _reason(self, reason: str) -> str:
        found = label(reason)
        if found not in self._reasons and len(self._reasons) >= MAX_REASONS:
            return OTHER
        self._reasons.add(found)
        return found

    def _counter(self, name: str, documentation: str, *labels: str) -> Counter:
        made = Counter(f"pulselake_{name}", documentation, ["stream", *labels], registry=self._registry)
        return made if labels else made.labels(self.stream)

    def _gauge(self, name: str, documentation: str) -> Gauge:
        return Gauge(f"pulselake_{name}", documentation, ["stream"], registry=self._registry).labels(self.stream)

    def _histogram(self, name: str, documentation: str, *labels: str) -> Histogram:
        made = Histogram(
            f"pulselake_{name}", documentation, ["stream", *labels], registry=self._registry, buckets=STEPS_S
        )
        return made if labels else made.labels(self.stream)
