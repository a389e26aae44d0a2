"""Glucose readings of synthetic patients: the levels, their plain JSON, and the other valid ways to write them."""

from collections.abc import Sequence
from random import Random

import numpy as np
from numpy.typing import NDArray
from timesynth import TimeSeries
from timesynth.noise import GaussianNoise
from timesynth.signals import Sinusoidal

from generator import faults
from generator.bodies import Reading, Variation, other_timestamp, timestamps
from generator.cadence import MINUTE_US, Block, Cadence, Ints, chance
from generator.compose import Members
from generator.profiles import MINUTES, PROFILES, Patient, day_curve

FREQUENCY_PER_HOUR = 0.25
SAMPLE_NOISE = 0.3
SENSOR_NOISE_MG_DL = 2.0
LOWEST_MG_DL, HIGHEST_MG_DL = 20.0, 600.0
WHOLE_BELOW_MG_DL = 34
"""A lower level has no decimals: with some, but without a unit, it would look like mmol/L."""
SENSOR_CODES = (1, 2, 3, 5, 6, 9, 10, 12)
MG_DL_PER_MMOL_L = 18.0182
HABIT_SHIFT_MINUTES = 45
EPISODE_US = 120 * MINUTE_US
LOW_SHARE, PLATEAU_SHARE, FLAPPING_SHARE = 0.05, 0.05, 0.05
"""Of the episodes that a patient may have, where alarms are asked for."""
LOWEST_OF_LOWS, HIGHEST_OF_LOWS = 40, 68
PLATEAUS_MG_DL = (50, 62, 125, 190, 262)
FLAPPING_AROUND_MG_DL = (54, 70, 115, 250)
FLAPPING_US, FLAPPING_MG_DL = 10 * MINUTE_US, 12
"""How long it stays on one side of a threshold, and how far from it at most."""

SHAPE = faults.Shape(
    required=("patient_id", "device_id", "glucose_level", "timestamp"),
    whole=("patient_id", "device_id"),
    number="glucose_level",
    wrong={
        "patient_id": ("P-12", [1], {"id": 1}),
        "device_id": ("sensor", [7], {"serial": "A1"}),
        "glucose_level": ("n/a", "", [101], {"value": 101}),
    },
    implausible=(0, -5, 1000.1, 4711.0),
)


OWN_FAULTS = (
    faults.field("sensor_code", "glucose_level", SENSOR_CODES, faults.SENSOR_CODE),
    faults.field("missing_unit", "glucose_level", (3.1, 5.6, 11.1, 22.2), faults.IMPLAUSIBLE_UNIT),
)


class SeededNoise(GaussianNoise):  # type: ignore[misc]
    """TimeSynth's own noise draws from numpy's global state, which no seed of ours can hold."""

    def __init__(self, rng: np.random.Generator, std: float) -> None:
        super().__init__(std=std)
        self.rng = rng

    def sample_vectorized(self, time_vector: NDArray[np.float64]) -> NDArray[np.float64]:
        return self.rng.normal(self.mean, self.std, len(time_vector))


class Glucose:
    """One reading of one patient's sensor per time on the grid."""

    def __init__(self, patients: list[Patient], cadence: Cadence, rng: np.random.Generator) -> None:
        self._keys = [str(patient.patient_id) for patient in patients]
        self.faults = [*faults.common(SHAPE), *OWN_FAULTS, faults.conflict(_other_value)]
        self.variations: list[Variation] = [other_timestamp(cadence.coarsest_us), *VARIATIONS]
        self._resolution_us = cadence.resolution_us
        self._heads = [_head(patient) for patient in patients]
        self._tails = [f'", "location": "{patient.location}"}}' for patient in patients]
        self._levels = Levels(patients, rng, has_episodes=cadence.alarms)

    def members(self, block: Block) -> Members:
        """The readings that the block's events hold."""
        who = np.repeat(block.patients, block.measured_us.shape[1])
        times = block.measured_us.ravel()
        levels = self._levels.at(who, times).tolist()
        stamps = timestamps(times, self._resolution_us)
        heads, tails = self._heads, self._tails
        bodies = [
            f'{heads[p]}{level:.1f}, "timestamp": "{stamp}{tails[p]}'.encode()
            for p, level, stamp in zip(who.tolist(), levels, stamps, strict=True)
        ]
        return Members([self._keys[patient] for patient in block.patients.tolist()], bodies)


class Levels:
    """Glucose in mg/dL of patients at any times."""

    def __init__(self, patients: list[Patient], rng: np.random.Generator, *, has_episodes: bool = False) -> None:
        self._scale = np.array([patient.profile.scale for patient in patients])
        self._offset = np.array([patient.profile.offset for patient in patients])
        self._profile = np.array([PROFILES.index(patient.profile) for patient in patients])
        self._phase_hours = rng.uniform(0, 1 / FREQUENCY_PER_HOUR, len(patients))
        self._shift_minutes = rng.integers(-HABIT_SHIFT_MINUTES, HABIT_SHIFT_MINUTES + 1, len(patients))
        self._curves = np.stack([day_curve(profile) for profile in PROFILES])
        self._wave = TimeSeries(Sinusoidal(frequency=FREQUENCY_PER_HOUR), SeededNoise(rng, SAMPLE_NOISE))
        self._rng = rng
        self._episodes = int(rng.integers(2**62)) if has_episodes else None

    def at(self, who: Ints, times_us: Ints) -> NDArray[np.float64]:
        minutes = times_us // MINUTE_US
        samples, _, _ = self._wave.sample(times_us / (60 * MINUTE_US) + self._phase_hours[who])
        levels: NDArray[np.float64] = samples * self._scale[who] + self._offset[who]
        levels += self._curves[self._profile[who], (minutes - self._shift_minutes[who]) % MINUTES]
        levels += self._rng.normal(0, SENSOR_NOISE_MG_DL, len(levels))
        if self._episodes is not None:
            depth, target = episodes(self._episodes, who, times_us)
            levels += depth * (target - levels)
        levels = levels.clip(LOWEST_MG_DL, HIGHEST_MG_DL)
        return np.where(levels < WHOLE_BELOW_MG_DL, np.rint(levels), levels)


def episodes(seed: int, who: Ints, times_us: Ints) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How far an episode has come, from 0 to 1 and back, and the level in mg/dL that it leads to.

    A low comes and goes over two hours, a plateau stays for most of them, and what flaps is on either side of a
    threshold in turn, farther from it in some episodes than in others.
    """
    period, place = times_us // EPISODE_US, (times_us % EPISODE_US) / EPISODE_US
    drawn, chosen = chance(seed, who, period), chance(seed + 1, who, period)
    limits = np.cumsum([LOW_SHARE, PLATEAU_SHARE, FLAPPING_SHARE])
    is_low, is_plateau, is_flapping = (np.searchsorted(limits, drawn, side="right") == kind for kind in range(3))
    side = np.where(times_us // FLAPPING_US % 2, 1.0, -1.0)
    around = _one_of(FLAPPING_AROUND_MG_DL, chosen) + side * FLAPPING_MG_DL * chance(seed + 2, who, period)
    low = LOWEST_OF_LOWS + (HIGHEST_OF_LOWS - LOWEST_OF_LOWS) * chosen
    target = np.where(is_low, low, np.where(is_plateau, _one_of(PLATEAUS_MG_DL, chosen), around))
    stays = np.clip(10 * np.minimum(place, 1 - place), 0, 1)
    depth = np.where(is_low, np.sin(np.pi * place), np.where(is_plateau | is_flapping, stays, 0.0))
    return depth, target


def _one_of(values: Sequence[float], chosen: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array(values, dtype=np.float64)[(chosen * len(values)).astype(np.int64)]


def _head(patient: Patient) -> str:
    return f'{{"patient_id": {patient.patient_id}, "device_id": {patient.device_id}, "glucose_level": '


def _in_mmol(reading: Reading, rng: Random) -> Reading:
    return reading | {"glucose_level": round(reading["glucose_level"] / MG_DL_PER_MMOL_L, 2), "unit": "mmol/L"}


def _in_mg_dl(reading: Reading, rng: Random) -> Reading:
    return reading | {"unit": "mg/dL"}


def _out_of_range(reading: Reading, rng: Random) -> Reading:
    """Only where the level is near the end of the sensor's range already."""
    level = reading["glucose_level"]
    return reading | {"glucose_level": "Low" if level < 70 else "High" if level > 180 else level}


def _as_text(reading: Reading, rng: Random) -> Reading:
    return reading | {"glucose_level": str(reading["glucose_level"])}


def _without_location(reading: Reading, rng: Random) -> Reading:
    return {key: value for key, value in reading.items() if key != "location"}


VARIATIONS: tuple[Variation, ...] = (_in_mmol, _in_mg_dl, _out_of_range, _as_text, _without_location)


def _other_value(reading: Reading, rng: Random) -> Reading:
    """Two decimals: plain levels have one, so it is another value for certain."""
    return reading | {"glucose_level": rng.randrange(60, 240) + 0.25, "unit": "mg/dL"}
