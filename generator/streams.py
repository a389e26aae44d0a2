"""The streams that can be generated, by name, and the one call that makes their events.

Live mode (`rate`) stamps readings with the moment at which they are due; historical mode (`spacing`) makes a backlog.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from random import Random
from typing import NamedTuple

import numpy as np

from generator.adverse_events import AdverseEvents
from generator.cadence import SECOND_US, Cadence, Shares, blocks
from generator.compose import Composer, Source
from generator.devices import Devices
from generator.events import Event
from generator.glucose import Glucose
from generator.profiles import Patient
from generator.profiles import patients as first_patients
from generator.vitals import Vitals

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


class Stream(NamedTuple):
    hub: str
    """The name of its hub unless the caller knows better."""
    number: int
    """Keeps the random numbers of the streams apart."""
    source: Callable[[list[Patient], Cadence, np.random.Generator], Source]


STREAMS: dict[str, Stream] = {
    "glucose": Stream("glucose_readings", 1, Glucose),
    "devices": Stream("device_readings", 2, Devices),
    "vitals": Stream("patient-data", 3, Vitals),
    "adverse_events": Stream("adverse_events", 4, AdverseEvents),
}


def events(
    stream: str,
    *,
    start: datetime,
    rate: float | None = None,
    spacing: timedelta | None = None,
    patients: int = 5,
    seed: int = 0,
    pack: int = 1,
    faults: float = 0.0,
    repeats: float = 0.01,
    late: float = 0.01,
    variations: float = 0.03,
    gaps: float = 0.01,
    alarms: bool = False,
    count: int | None = None,
    seconds: float | None = None,
) -> Iterator[Event]:
    """The events of one stream in sending order; endless without `count` or `seconds` (of event time).

    `rate` (live): events a second over all patients; each event has its `due`. A silent patient's slots stay empty, so
    that slightly fewer come and event time stays true. `spacing` (historical): between two readings of a patient.
    With `alarms` patients have lows, plateaus and levels that flap around thresholds; sensors are off, for days too;
    and phones without a network send what they kept hours later, the newest first.
    The patients of `adverse_events` are organisations that send reports.
    """
    if stream not in STREAMS:
        raise ValueError(f"unknown stream {stream!r}; known: {', '.join(STREAMS)}")
    if start.tzinfo is None:
        raise ValueError(f"start needs a time zone: {start}")
    hub = STREAMS[stream]
    start_us, spacing_us = (start - EPOCH) // MICROSECOND, _spacing_us(patients, pack, rate, spacing)
    cadence = Cadence(start_us, spacing_us, patients, pack, live=rate is not None, alarms=alarms)
    shares = Shares(faults=faults, repeats=repeats, late=late, variations=variations, gaps=gaps)
    rng = np.random.default_rng([seed % 2**64, hub.number])
    composer = Composer(hub.source(first_patients(patients), cadence, rng), cadence, Random(f"{stream} {seed}"))
    until = None if seconds is None else start_us / SECOND_US + seconds
    return islice(composer.events(blocks(cadence, shares, seed + hub.number, rng), until), count)


glucose_events = partial(events, "glucose")
device_events = partial(events, "devices")
vitals_events = partial(events, "vitals")
adverse_events = partial(events, "adverse_events")


def _spacing_us(patients: int, pack: int, rate: float | None, spacing: timedelta | None) -> float:
    if patients < 1 or pack < 1:
        raise ValueError(f"patients and pack must be at least 1: {patients}, {pack}")
    if rate is not None and spacing is None and rate > 0:
        return SECOND_US * patients / (rate * pack)
    if spacing is not None and rate is None:
        return spacing / MICROSECOND
    raise ValueError(f"give either a rate above zero or a spacing: rate={rate}, spacing={spacing}")
