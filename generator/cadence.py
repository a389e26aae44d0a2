"""When each reading is measured and what happens to it: the time grid, silences, outages, lateness and kinds.

All patients share one grid: reading r of patient p is measured at `start + (r + p / patients) * spacing`. A slot is
the readings of one patient that travel in one event. Knows nothing of what is measured.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import gcd
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
HOUR_US = 60 * MINUTE_US
SILENCE_US = 30 * MINUTE_US
EARLIEST_LATE_US, LATEST_LATE_US = MINUTE_US, 60 * MINUTE_US
BLOCK_READINGS = 16_384

PLAIN, VARIED, LATE, REPEAT, FAULT, KEPT = range(6)
"""Who has no network keeps what is measured, and sends it later, the newest first."""


class Outage(NamedTuple):
    """From time to time, once in each `every_us` at most, something is away from `shortest_us` to `longest_us`."""

    every_us: int
    shortest_us: int
    longest_us: int


SHORT_OUTAGE = Outage(8 * HOUR_US, 35 * MINUTE_US, 5 * HOUR_US)
LONG_OUTAGE = Outage(8 * 24 * HOUR_US, 24 * HOUR_US, 3 * 24 * HOUR_US)
LOST_SHARE, KEPT_SHARE, LONG_SHARE = 0.1, 0.1, 0.05
"""Of the times in which there may be an outage: a sensor is off, a phone has no network, a sensor is off for days."""
OUTAGE_SEED = 1000
"""Keeps the random numbers of outages apart from those of the streams' silences."""


@dataclass(frozen=True)
class Shares:
    """How many of all events are faulty, sent again, late, or written in another valid way; and the share of each
    patient's half hours that stay silent."""

    faults: float = 0.0
    repeats: float = 0.01
    late: float = 0.01
    variations: float = 0.03
    gaps: float = 0.01

    def __post_init__(self) -> None:
        if min(self.faults, self.repeats, self.late, self.variations, self.gaps) < 0:
            raise ValueError(f"a share is below zero: {self}")
        if self.faults + self.repeats + self.late + self.variations > 1 or self.gaps > 1:
            raise ValueError(f"the shares add up to more than all events: {self}")


class Block(NamedTuple):
    """A stretch of events in sending order; row e of `measured_us` holds the times of event e's readings, and `due` is
    in seconds since 1970."""

    patients: Ints
    kinds: Ints
    due: NDArray[np.float64]
    measured_us: Ints


@dataclass(frozen=True)
class Cadence:
    """The grid. `spacing_us` lies between two readings of a patient; `live` decides how finely times are written.

    With `alarms` there is what alarms are about: outages, and whatever a source makes of it.
    """

    start_us: int
    spacing_us: float
    patients: int
    pack: int
    live: bool
    alarms: bool = False

    def __post_init__(self) -> None:
        if self.spacing_us < 2:
            raise ValueError(f"a patient's readings would be {self.spacing_us} us apart; 2 us is the least")

    @property
    def coarsest_us(self) -> int:
        """The coarsest unit in which no two readings of a patient collide, late ones (half a spacing off) included."""
        return next(unit for unit in (SECOND_US, 1000, 1) if self.spacing_us >= 2 * unit)

    @property
    def resolution_us(self) -> int:
        """Live readings show at least milliseconds, so that latency can be measured from them."""
        return min(self.coarsest_us, 1000) if self.live else self.coarsest_us

    def offsets_us(self, slots: Ints) -> NDArray[np.float64]:
        """Microseconds after the start, by slot, patient and reading."""
        readings = slots[:, None, None] * self.pack + np.arange(self.pack)
        steps = readings * self.patients + np.arange(self.patients)[None, :, None]
        return steps * np.float64(self.spacing_us / self.patients)

    def measured_us(self, offsets_us: NDArray[np.float64]) -> Ints:
        times = self.start_us + np.floor(offsets_us).astype(np.int64)
        return times - times % self.resolution_us

    def earlier_slots(self, slots: Ints) -> Ints:
        """For each slot an own slot 1 to 60 minutes before it (at least two), never the same for two slots.

        Stretches of slots are mapped, shuffled, onto the stretch before; half a spacing keeps the result off the grid.
        """
        slot_us = self.spacing_us * self.pack
        nearest = max(1, int(np.ceil(EARLIEST_LATE_US / slot_us)))
        stretch = max(1, (int(LATEST_LATE_US // slot_us) - nearest + 1) // 2)
        stride = next(s for s in range(int(stretch * 0.618) + 1, 2 * stretch + 2) if gcd(s, stretch) == 1)
        number, place = slots // stretch, slots % stretch
        return (number - 1) * stretch + (place * stride + number) % stretch - nearest


def blocks(cadence: Cadence, shares: Shares, seed: int, rng: np.random.Generator) -> Iterator[Block]:
    """Every event from the start on, without end."""
    height = max(1, BLOCK_READINGS // (cadence.patients * cadence.pack))
    first = 0
    while True:
        yield _block(cadence, shares, seed, rng, np.arange(first, first + height))
        first += height


def _block(cadence: Cadence, shares: Shares, seed: int, rng: np.random.Generator, slots: Ints) -> Block:
    offsets = cadence.offsets_us(slots)
    kinds = _kinds(shares, rng, offsets.shape[:2])
    due = (cadence.start_us + offsets[:, :, -1]) / SECOND_US
    measured_us = cadence.measured_us(offsets[:, :, 0])
    sending = ~_silent(measured_us, shares.gaps, seed)
    if cadence.alarms:
        is_lost, is_kept = outages(seed, np.arange(cadence.patients), measured_us)
        sending &= ~is_lost
        kinds = np.where(is_kept, KEPT, kinds)
    if shares.late:
        earlier = cadence.offsets_us(cadence.earlier_slots(slots)) + cadence.spacing_us / 2
        offsets = np.where((kinds == LATE)[:, :, None], earlier, offsets)
    patients = np.broadcast_to(np.arange(cadence.patients), kinds.shape)
    return Block(patients[sending], kinds[sending], due[sending], cadence.measured_us(offsets)[sending])


def _kinds(shares: Shares, rng: np.random.Generator, shape: tuple[int, ...]) -> Ints:
    """One draw per event, so that changing a share moves no other random number."""
    limits = np.cumsum([shares.faults, shares.repeats, shares.late, shares.variations])
    by_rank = np.array([FAULT, REPEAT, LATE, VARIED, PLAIN])
    return by_rank[np.searchsorted(limits, rng.random(shape), side="right")]


def _silent(times_us: Ints, share: float, seed: int) -> NDArray[np.bool_]:
    if not share:
        return np.zeros(times_us.shape, dtype=bool)
    patients = np.arange(times_us.shape[1])
    return chance(seed, patients, times_us // SILENCE_US) < share


def outages(seed: int, who: Ints, times_us: Ints) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether a reading is never sent, and whether it is kept for later."""
    seed += OUTAGE_SEED
    drawn, is_away = _away(seed, who, times_us, SHORT_OUTAGE)
    drawn_long, is_long = _away(seed + 3, who, times_us, LONG_OUTAGE)
    is_lost = (is_away & (drawn < LOST_SHARE)) | (is_long & (drawn_long < LONG_SHARE))
    return is_lost, ~is_lost & is_away & (drawn >= LOST_SHARE) & (drawn < LOST_SHARE + KEPT_SHARE)


def _away(seed: int, who: Ints, times_us: Ints, outage: Outage) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The number drawn for the outage that may be under way, and whether the time is within it."""
    period = times_us // outage.every_us
    lasts_us = outage.shortest_us * (outage.longest_us / outage.shortest_us) ** chance(seed + 1, who, period)
    since_us = times_us % outage.every_us - chance(seed + 2, who, period) * (outage.every_us - lasts_us)
    return chance(seed, who, period), (since_us >= 0) & (since_us < lasts_us)


def chance(seed: int, who: Ints, period: Ints) -> NDArray[np.float64]:
    """A number in [0, 1) that belongs to (seed, who, period) alone: an episode needs no memory (SplitMix64)."""
    with np.errstate(over="ignore"):
        mixed = np.full(1, seed % 2**64, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        for part in (who, period):
            mixed = mixed + np.asarray(part).astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
            mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            mixed = mixed ^ (mixed >> np.uint64(31))
    return (mixed >> np.uint64(11)).astype(np.float64) / 2**53
