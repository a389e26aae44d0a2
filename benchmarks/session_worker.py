"""The measured process that runs one session as Dagster and `pulselake drain` do."""

import importlib
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from assets.glucose.assets import CONTRACT
from assets.stream.process import Outcome
from assets.stream.session import Session, SessionLimits
from assets.stream.store import StreamStore
from benchmarks.workers import peak_rss_mb, serve
from resources.event_hubs import EventHubsNamespace
from resources.event_source import EventSource, HubState, Publisher, Pulled, Receiver
from resources.kafka import KafkaSource
from resources.kafka import publisher as kafka_publisher
from resources.kafka_cluster import KafkaCluster
from resources.lake import Lake


class WatchedSource:
    """A source that notes when the first events were handed over, and how many."""

    def __init__(self, source: EventSource) -> None:
        self._source = source
        self.name = source.name
        self.first_at = self.first_time = 0.0
        self.first_events = 0

    def state(self) -> HubState:
        return self._source.state()

    @contextmanager
    def receive(self, after: Mapping[int, int]) -> Iterator[Receiver]:
        with self._source.receive(after) as receiver:
            self._receiver = receiver
            yield self

    def take(self, timeout: float) -> list[Pulled]:
        pulled = self._receiver.take(timeout)
        if pulled and not self.first_events:
            self.first_at, self.first_time = time.monotonic(), time.time()
            self.first_events = sum(len(each.bodies) for each in pulled)
        return pulled

    def gather(self, seconds: float) -> None:
        self._receiver.gather(seconds)

    def wait_until_open(self, timeout: float) -> bool:
        return self._receiver.wait_until_open(timeout)

    def skip(self, reached: Mapping[int, int]) -> None:
        self._receiver.skip(reached)


def watched(store: StreamStore) -> list[tuple[float, float]]:
    """Lets a store note when each commit ended and how long it took."""
    commit, commits = store.commit, list[tuple[float, float]]()

    def noted(outcomes: Sequence[Outcome], **options: Any) -> None:
        began = time.monotonic()
        commit(outcomes, **options)
        ended = time.monotonic()
        commits.append((ended, ended - began))

    vars(store)["commit"] = noted
    return commits


def run(
    connection_string: str,
    hub: str,
    lake: str,
    *,
    alerts_hub: str = "alerts",
    alarms_hub: str = "",
    until_caught_up: bool = True,
    max_duration_s: float = 600.0,
    with_dagster: bool = False,
    urgent_only: bool = False,
    kafka: str = "",
) -> dict[str, Any]:
    """One session; times in seconds, from the first events in hand to the last commit and for the whole of it."""
    if with_dagster:
        _load_dagster()
    start_rss_mb = peak_rss_mb()
    rules = tuple(rule for rule in CONTRACT.rules if rule.severity == "urgent" or not urgent_only)
    contract = replace(CONTRACT, rules=rules)
    namespace, cluster = EventHubsNamespace(connection_string), KafkaCluster(kafka)
    source = WatchedSource(KafkaSource(cluster, hub) if kafka else namespace.source(hub))
    alerts: AbstractContextManager[Publisher] = (
        kafka_publisher(cluster, alerts_hub) if kafka else namespace.publisher(alerts_hub)
    )
    limits = SessionLimits(until_caught_up=until_caught_up, max_duration_s=max_duration_s)
    began, began_cpu = time.monotonic(), time.process_time()
    with ExitStack() as hubs:
        publisher = hubs.enter_context(alerts)
        alarms = hubs.enter_context(namespace.publisher(alarms_hub)) if alarms_hub else None
        session = Session(contract, Lake(lake), source, publisher, limits=limits, alarms=alarms)
        commits = watched(session.store)
        totals = session.run()
        ended = time.monotonic()
    return {
        "events": totals.events,
        "rows": {layer: getattr(totals, layer) for layer in ("silver", "quarantine", "alerts", "duplicates")},
        "micro_batches": totals.micro_batches,
        "commit_s": [seconds for _, seconds in commits],
        "first_time": source.first_time,
        "first_events": source.first_events,
        "receiving_s": commits[-1][0] - source.first_at,
        "whole_s": ended - began,
        "cpu_s": time.process_time() - began_cpu,
        "start_rss_mb": start_rss_mb,
        "peak_rss_mb": peak_rss_mb(),
    }


def _load_dagster() -> None:
    """What a session's process holds besides when a run of Dagster is its host."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module("orchestration.definitions")


if __name__ == "__main__":
    serve(run)
