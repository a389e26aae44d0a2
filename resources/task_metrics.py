"""The figures of sensors, and of what runs and ends: sessions, gold, reports and house-keeping.

Each run is a process of its own, so what it counts is added to what the file says already.
"""

import fcntl
import logging
import resource
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, time

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from resources.logs import tell
from resources.metrics import write

_log = logging.getLogger(__name__)

_PREFIX = "pulselake_task_"
_COUNTERS = {
    "runs": "How often a task ended, by outcome.",
    "rows": "Rows that a task wrote.",
}
_GAUGES = {
    "duration_seconds": "How long the last run of a task took.",
    "last_success_timestamp_seconds": "When a task last ended well.",
    "last_failure_timestamp_seconds": "When a task last failed.",
    "peak_memory_bytes": "The most memory that the process of a task's last run held.",
}

Labels = tuple[tuple[str, str], ...]
Samples = dict[tuple[str, Labels], float]


class Note:
    """What is to be noted of a run at its end."""

    rows = 0


@contextmanager
def noted(folder: Path, task: str, *, stream: str = "", part: str = "") -> Iterator[Note]:
    """Notes how long the block takes, whether it succeeds, and how many rows it writes.

    Args:
        folder: where the files of all processes are.
        task: what is done: session, gold, reports or housekeeping.
        stream: the stream that it is done for, if it is one.
        part: the table or the step, if the task has several.
    """
    note, began, outcome = Note(), monotonic(), "failure"
    try:
        yield note
        outcome = "success"
    finally:
        labels = tuple((name, text) for name, text in (("task", task), ("stream", stream), ("part", part)) if text)
        # A session at work has a file of its own, of the name of its task.
        name = f"{task}s.{stream}" if task == "session" else f"{task}.{stream}" if stream else task
        try:
            _add(folder, name, labels, note.rows, monotonic() - began, outcome)
        except (OSError, ValueError) as error:
            tell(_log, "metrics were not written", logging.WARNING, file=name, failure=type(error).__name__)


def _add(folder: Path, name: str, labels: Labels, rows: int, seconds: float, outcome: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    # Two runs of one task may end at the same moment, for instance for two tables of gold.
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        samples = _read(folder / f"{name}.prom")
        for counter, count, more in (("runs", 1, (("outcome", outcome),)), ("rows", rows, ())):
            key = (f"{_PREFIX}{counter}_total", tuple(sorted((*labels, *more))))
            samples[key] = samples.get(key, 0.0) + count
        ended = "last_success" if outcome == "success" else "last_failure"
        for gauge, value in (
            ("duration_seconds", seconds),
            (f"{ended}_timestamp_seconds", time()),
            ("peak_memory_bytes", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024),
        ):
            samples[f"{_PREFIX}{gauge}", tuple(sorted(labels))] = value
        write(folder, name, _Stored(samples))


def _read(file: Path) -> Samples:
    """What a file says; nothing where it cannot be read, for counters may begin anew."""
    try:
        families = list(text_string_to_metric_families(file.read_text()))
    except (OSError, ValueError):
        return {}
    return {(each.name, tuple(sorted(each.labels.items()))): each.value for one in families for each in one.samples}


class _Stored(Collector):
    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def collect(self) -> Iterable[Metric]:
        families: list[tuple[Metric, str]] = [
            *(
                (CounterMetricFamily(f"{_PREFIX}{name}", text), f"{_PREFIX}{name}_total")
                for name, text in _COUNTERS.items()
            ),
            *((GaugeMetricFamily(f"{_PREFIX}{name}", text), f"{_PREFIX}{name}") for name, text in _GAUGES.items()),
        ]
        for family, name in families:
            for (sample, labels), value in sorted(self._samples.items()):
                if sample == name:
                    family.add_sample(name, dict(labels), value)
            yield family


class SensorMetrics:
    """What the sensor of a stream saw last.

    Args:
        stream: the stream's name.
    """

    def __init__(self, stream: str) -> None:
        self._stream, self._registry = stream, CollectorRegistry()
        gauge = self._gauge
        self._lag = Gauge(
            "pulselake_lag_events",
            "Events of the hub that are not in silver yet.",
            ["stream", "partition"],
            registry=self._registry,
        )
        self._waits = gauge("alerts_waiting", "1 while stored alerts wait for the alerts hub.")
        self._has_session = gauge("session_at_work", "1 if a session is at work, by its lock.")
        self._has_successor = gauge("session_has_successor", "1 if a session is ready to take over, by its lock.")
        self._is_up = gauge("hub_up", "1 if the hub and the lake answered when the sensor last looked.")
        self._looked_at = gauge("sensor_last_look_timestamp_seconds", "When the sensor last got an answer.")
        self._failed = Counter(
            "pulselake_sensor_failures",
            "How often the hub or the lake did not answer the sensor.",
            ["stream"],
            registry=self._registry,
        ).labels(stream)

    def looked(self, folder: Path, lag: dict[int, int], *, waits: bool, has_session: bool, has_successor: bool) -> None:
        """Notes an answer: the events that each partition is behind, whether alerts wait, and who is at work."""
        for partition, events in lag.items():
            self._lag.labels(self._stream, str(partition)).set(events)
        self._waits.set(waits)
        self._has_session.set(has_session)
        self._has_successor.set(has_successor)
        self._is_up.set(1)
        self._looked_at.set_to_current_time()
        write(folder, f"sensor.{self._stream}", self._registry)

    def failed(self, folder: Path) -> None:
        """Notes that there was no answer."""
        self._is_up.set(0)
        self._failed.inc()
        write(folder, f"sensor.{self._stream}", self._registry)

    def _gauge(self, name: str, documentation: str) -> Gauge:
        return Gauge(f"pulselake_{name}", documentation, ["stream"], registry=self._registry).labels(self._stream)
