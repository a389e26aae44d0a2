"""The measured process that lets a session begin and drain on a lake that has grown, and looks up late readings."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from assets.glucose.assets import CONTRACT
from assets.stream.recent import TIME
from assets.stream.session import Session, SessionLimits
from assets.stream.store import StreamStore
from benchmarks.backlog import FAULTS, SEED
from benchmarks.grown import DAY, PATIENTS
from benchmarks.workers import peak_rss_mb, serve
from generator.streams import glucose_events
from resources.event_source import HubState, Pulled, Tail
from resources.lake import Lake

PARTITIONS = range(4)
PULL = 2_500
LOOK_UPS = 20


class ListedHub:
    """Events from a list, a quarter in each partition, behind those that the lake holds."""

    name = "glucose_readings"

    def __init__(self, bodies: list[bytes], first: int) -> None:
        self._bodies, self._first = [bodies[each :: len(PARTITIONS)] for each in PARTITIONS], first
        self._taken = 0
        self.first_taken_at = 0.0

    def state(self) -> HubState:
        return HubState(1, {each: Tail(0, self._first + len(self._bodies[each]) - 1) for each in PARTITIONS})

    @contextmanager
    def receive(self, after: Mapping[int, int]) -> Iterator["ListedHub"]:
        yield self

    def take(self, timeout: float) -> list[Pulled]:
        self.first_taken_at = self.first_taken_at or time.monotonic()
        first, self._taken = self._taken, self._taken + PULL
        return [self._pulled(each, first) for each in PARTITIONS if first < len(self._bodies[each])]

    def _pulled(self, partition: int, first: int) -> Pulled:
        bodies: list[bytes | None] = [*self._bodies[partition][first : first + PULL]]
        numbers = list(range(self._first + first, self._first + first + len(bodies)))
        nothing: list[str | None] = [None] * len(bodies)
        return Pulled(partition, numbers, [0] * len(bodies), bodies, nothing, nothing, nothing)

    def gather(self, seconds: float) -> None:
        """All is there already."""

    def wait_until_open(self, timeout: float) -> bool:
        return True

    def skip(self, reached: Mapping[int, int]) -> None:
        raise NotImplementedError


class NoAlerts:
    """A hub that takes every alert."""

    def publish(self, bodies: Any, keys: Any) -> list[int]:
        return []


def run(lake: str, events: int) -> dict[str, Any]:
    """A session from its first step to its last commit; then look-ups of single readings of the grown date."""
    store = StreamStore(CONTRACT, Lake(lake))
    store.open(PARTITIONS)
    first = (store.silver.count() // len(PARTITIONS)) + 1
    _note_offsets(store, first - 1)
    next_day, second = DAY + timedelta(days=1), timedelta(seconds=1)
    new = glucose_events(
        start=next_day, spacing=second, patients=PATIENTS, seed=SEED, faults=FAULTS, gaps=0, count=events
    )
    hub = ListedHub([event.body for event in new], first)
    limits = SessionLimits(until_caught_up=True)
    now = max(datetime.now(UTC), next_day + timedelta(seconds=events / PATIENTS))
    session = Session(CONTRACT, Lake(lake), hub, NoAlerts(), limits=limits, clock=lambda: now)
    began, began_cpu = time.monotonic(), time.process_time()
    totals = session.run()
    ended = time.monotonic()
    return {
        "first_pull_s": hub.first_taken_at - began,
        "events": totals.events,
        "events_per_s": totals.events / (ended - hub.first_taken_at),
        "cpu_s": time.process_time() - began_cpu,
        "look_up_ms": _look_ups(lake),
        "peak_rss_mb": peak_rss_mb(),
    }


def _note_offsets(store: StreamStore, last: int) -> None:
    """What sessions that wrote the readings would have left in the logs."""
    marks = store.log.reaching("silver", store.of_stream(dict.fromkeys(PARTITIONS, last)))
    for role in ("bronze", "silver"):
        store.log.set(role, marks)


def _look_ups(lake: str) -> dict[str, float]:
    """How long it takes to find what a late reading has to be compared with."""
    store = StreamStore(CONTRACT, Lake(lake))
    store.look(PARTITIONS)
    known, taken = store.remembered().known, list[float]()
    columns = dict.fromkeys([*CONTRACT.keys, TIME, *CONTRACT.values])
    schema = {name: CONTRACT.tables.silver.schema[name] for name in columns}
    for number in range(LOOK_UPS):
        at = DAY + timedelta(hours=1, minutes=29 * number)
        row = {"patient_id": 7 * number % PATIENTS, "device_id": 7 * number % PATIENTS + PATIENTS, TIME: at}
        new = pl.DataFrame([row | {"glucose_mg_dl": 100.0}], schema=schema)
        began = time.perf_counter()
        known.context_of(known.may_repeat(new), CONTRACT.reach)
        taken.append(1000 * (time.perf_counter() - began))
    return {"p50": float(np.median(taken)), "max": max(taken)}


if __name__ == "__main__":
    serve(run)
