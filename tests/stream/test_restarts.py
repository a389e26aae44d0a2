"""Sessions on hubs without a network, cut anywhere: the tables are what the oracle makes of bronze."""

import json
import tempfile
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import cycle
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assets.glucose.assets import CONTRACT
from assets.stream.contract import FUTURE_TOLERANCE
from assets.stream.rebuild import rebuild
from assets.stream.session import CLOCK_TOLERANCE
from tests.stream.hubs import MemoryHub
from tests.stream.scenarios import EAGER, NOON, lake_in, run_session
from tests.stream.tables import assert_exact, everything

pytestmark = pytest.mark.slow

MICROSECOND = timedelta(microseconds=1)
PARTITIONS_APART = timedelta(hours=3)

offsets = st.one_of(
    st.integers(-2, 2).map(lambda number: number * MICROSECOND),
    st.integers(-3, 3).map(lambda minutes: timedelta(minutes=5 * minutes)),
    st.builds(
        lambda minutes, micros: timedelta(minutes=minutes, microseconds=micros), st.integers(-40, 9), st.integers(0, 3)
    ),
)
"""Instants that are alike but for a microsecond, apart by windows, or behind all that is in memory."""


def payload(at: datetime, value: float, device: int) -> bytes:
    return json.dumps(
        {
            "patient_id": 1,
            "device_id": device,
            "glucose_level": value,
            "timestamp": at.isoformat(timespec="microseconds"),
        }
    ).encode()


def stepping(start: datetime, steps: list[int]) -> Callable[[], datetime]:
    """A clock that moves by these milliseconds, in turn, each time it is asked, also backwards."""
    now, turns = [start], cycle(steps)

    def clock() -> datetime:
        now[0] += timedelta(milliseconds=next(turns))
        return now[0]

    return clock


events = st.tuples(offsets, st.sampled_from([47, 60, 100, 106, 116, 300]), st.integers(1, 2), st.integers(0, 2))
batches = st.lists(st.lists(events, min_size=1, max_size=5), min_size=2, max_size=5)


@given(batches, st.lists(st.integers(-1500, 2000), min_size=1, max_size=6))
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_restart_between_any_two_micro_batches_changes_nothing(
    sent: list[list[tuple[timedelta, float, int, int]]], steps: list[int]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lake, hub = lake_in(Path(folder)), MemoryHub(partitions=3)
        clock = stepping(NOON, steps)
        for number, batch in enumerate(sent):
            for offset, value, device, partition in batch:
                at = NOON - partition * PARTITIONS_APART + timedelta(minutes=7 * number) + offset
                hub.send([payload(at, value, device)], max(at - FUTURE_TOLERANCE, NOON), partition)
            run_session(lake, hub, limits=EAGER, clock=clock)
        assert_exact(lake, hub)
        streamed = everything(lake)
        rebuild(CONTRACT, lake, NOON.date())
        assert everything(lake) == streamed
    assert timedelta(milliseconds=1500 * 40) < CLOCK_TOLERANCE
