"""Bodies, hubs and sessions as values: what the tests of the engine are made of."""

import json
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from assets.glucose.assets import CONTRACT
from assets.stream.contract import Contract
from assets.stream.session import Session, SessionLimits, Totals
from generator.streams import events
from resources.event_source import EventSource, Publisher
from resources.lake import Lake
from tests.stream.hubs import MemoryHub, MemoryPublisher

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
PLAIN = "%Y-%m-%d %H:%M:%S"

EAGER = SessionLimits(trigger_s=0, commit_interval_s=0, commit_readings=1, idle_timeout_s=0)
"""Commits every micro-batch and ends as soon as the hub has nothing more."""

AT_THE_END = SessionLimits(trigger_s=0, commit_interval_s=3600, idle_timeout_s=0)
"""Commits once, when the session ends."""


def reading(minutes: float = 0, value: Any = 100.0, patient: int = 1, device: int = 10, **more: Any) -> dict[str, Any]:
    """A payload measured so many minutes after eleven o'clock of the scenario's day."""
    at = NOON - timedelta(hours=1) + timedelta(minutes=minutes)
    own = {"patient_id": patient, "device_id": device, "glucose_level": value, "timestamp": at.strftime(PLAIN)}
    return own | more


def body(*readings: dict[str, Any], **more: Any) -> bytes:
    """One event: an object, or an array where there are several readings or none."""
    return json.dumps(readings[0] | more if len(readings) == 1 else readings).encode()


def ticking(start: datetime = NOON, step: timedelta = timedelta(milliseconds=200)) -> Callable[[], datetime]:
    """A clock that moves on by a step each time it is asked."""
    now = [start - step]

    def clock() -> datetime:
        now[0] += step
        return now[0]

    return clock


def run_session(
    lake: Lake,
    hub: EventSource,
    *,
    contract: Contract = CONTRACT,
    publisher: Publisher | None = None,
    limits: SessionLimits = EAGER,
    clock: Callable[[], datetime] | None = None,
    **options: Any,
) -> Totals:
    return Session(
        contract, lake, hub, publisher or MemoryPublisher(), limits=limits, clock=clock or ticking(), **options
    ).run()


def lake_in(folder: Path) -> Lake:
    return Lake(str(folder / "lake"))


def troubled_bodies(count: int = 400, *, seed: int = 1, start: datetime = NOON - timedelta(hours=6)) -> list[bytes]:
    """What a fleet sends: five patients, some readings late, repeated, contradictory, malformed or in arrays."""
    common: dict[str, Any] = {"start": start, "spacing": timedelta(minutes=5), "seed": seed}
    single = events("glucose", count=count, faults=0.15, repeats=0.1, late=0.1, **common)
    packed = events("glucose", count=count // 10, pack=7, faults=0.2, repeats=0.1, late=0.1, **common)
    return shuffled([event.body for event in (*single, *packed)], seed)


def shuffled(bodies: Iterable[bytes], seed: int = 1) -> list[bytes]:
    mixed = list(bodies)
    Random(seed).shuffle(mixed)
    return mixed


def hub_with(bodies: Iterable[bytes], *, partitions: int = 2, take: int = 1_000_000, at: datetime = NOON) -> MemoryHub:
    """Bodies over the partitions in turn, received one second after the other."""
    hub = MemoryHub(partitions=partitions, take=take)
    for number, some in enumerate(bodies):
        hub.send([some], at - timedelta(minutes=30) + timedelta(seconds=number / 100), number % partitions)
    return hub


def parts(bodies: list[bytes], size: int) -> Iterator[list[bytes]]:
    yield from (bodies[first : first + size] for first in range(0, len(bodies), size))
