"""Vital signs of synthetic patients: random walks, illness and sport in episodes, and the valid ways to write them.

Heart rate, pressures and glucose walk from reading to reading and turn round at their limits. Saturation, temperature
and respiration are those of a healthy patient. Whether an episode is under way is a function of patient and time.
"""

from random import Random
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from generator import faults
from generator.bodies import Reading, Variation, other_timestamp, timestamps
from generator.cadence import MINUTE_US, SECOND_US, Block, Cadence, Ints, chance
from generator.compose import Members
from generator.profiles import Patient

FIRST_MONITOR_ID = 5000
ILLNESS_US, SPORT_US = 40 * MINUTE_US, 20 * MINUTE_US
"""An episode of illness takes such a period from its beginning to its end, one of sport lies within one."""
FEVER_SHARE, DESATURATION_SHARE, SEPSIS_SHARE, SPORT_SHARE = 0.04, 0.04, 0.02, 0.1
"""Of the periods of each patient."""
SPORT_PEAK_BPM, SPORT_BPM_PER_S, SPORT_PEAK_S, SPORT_FROM_BPM = 150, 5, 120, 60
CONFUSED_FROM = 0.8


class Walk(NamedTuple):
    """A random walk: whole numbers from `lowest` to `highest`, at most `step` from one reading to the next."""

    lowest: int
    highest: int
    step: int


WALKS = {
    "heart_rate": Walk(50, 200, 10),
    "systolic": Walk(90, 140, 5),
    "diastolic": Walk(50, 100, 5),
    "glucose": Walk(70, 140, 5),
}
SHAPE = faults.Shape(
    required=("patient_id", "timestamp"),
    whole=("patient_id", "device_id"),
    number="heart_rate",
    wrong={
        "patient_id": ("P-12", [1], {"id": 1}),
        "heart_rate": ("fast", [80], {"bpm": 80}),
        "spo2": ("n/a", [97]),
        "sport_mode": ("yes", 1),
        "on_oxygen": ("2 l", 1),
        "consciousness": (15, ["A"]),
    },
    implausible=(0, 19, 301, 65535),
    refused=f"{faults.IMPLAUSIBLE}:heart_rate",
)
OWN_FAULTS = (
    faults.one_member("no_measurement", lambda reading, rng: (_without_measurements(reading), "no_measurement")),
    faults.one_member(
        "pressures_swapped",
        lambda reading, rng: (reading | {"systolic_bp": 80, "diastolic_bp": 120}, f"{faults.IMPLAUSIBLE}:diastolic_bp"),
    ),
    faults.field("cold_probe", "temperature", (21.5, 22), f"{faults.IMPLAUSIBLE}:temperature"),
    faults.field("coma_scale", "consciousness", ("15", "GCS 9"), "bad_type:consciousness"),
)


class Vitals:
    """All vital signs of one patient per time on the grid."""

    def __init__(self, patients: list[Patient], cadence: Cadence, rng: np.random.Generator) -> None:
        self._keys = [str(patient.patient_id) for patient in patients]
        self.faults = [*faults.common(SHAPE), *OWN_FAULTS, faults.conflict(_other_heart_rate)]
        self.variations: list[Variation] = [other_timestamp(cadence.coarsest_us), *VARIATIONS]
        self._resolution_us = cadence.resolution_us
        self._heads = [
            f'{{"patient_id": {number}, "device_id": {FIRST_MONITOR_ID + number}, "timestamp": "'
            for number in (patient.patient_id for patient in patients)
        ]
        self._walked = {
            name: rng.integers(0, 2 * (walk.highest - walk.lowest), len(patients)) for name, walk in WALKS.items()
        }
        self._seed = int(rng.integers(2**62))
        self._rng = rng

    def members(self, block: Block) -> Members:
        """The readings that the block's events hold."""
        who = np.repeat(block.patients, block.measured_us.shape[1])
        times = block.measured_us.ravel()
        walks = {name: self._walk(name, who) for name in WALKS}
        fever, desaturation, sepsis = illness(self._seed, who, times)
        noise = self._rng.normal(0, 1, (3, len(who)))
        # The pressures walk over ranges that overlap; a pulse pressure of 20 mmHg is kept between them.
        systolic = np.clip(walks["systolic"] - np.rint(35 * sepsis), 60, None)
        diastolic = np.minimum(walks["diastolic"], systolic - 20)
        heart_rate, is_sport = exertion(self._seed + 1, who, times, walks["heart_rate"] + np.rint(20 * sepsis))
        spo2 = np.clip(np.rint(97.5 + 0.7 * noise[0] - 12 * desaturation - 6 * sepsis), 70, 100)
        temperature = 36.8 + 0.15 * noise[1] + 2.4 * fever + 2 * sepsis
        respiration = np.rint(np.clip(15 + noise[2] + 5 * desaturation + 12 * sepsis, 8, 40))
        columns = (
            who.tolist(),
            timestamps(times, self._resolution_us),
            heart_rate.astype(np.int64).tolist(),
            systolic.astype(np.int64).tolist(),
            diastolic.astype(np.int64).tolist(),
            spo2.astype(np.int64).tolist(),
            temperature.tolist(),
            respiration.astype(np.int64).tolist(),
            walks["glucose"].tolist(),
            np.where(is_sport, "true", "false").tolist(),
            np.where(desaturation + sepsis > 0.3, "true", "false").tolist(),
            np.where(sepsis > CONFUSED_FROM, "C", "A").tolist(),
        )
        heads = self._heads
        bodies = [
            f'{heads[p]}{stamp}", "heart_rate": {beats}, "systolic_bp": {high}, "diastolic_bp": {low},'
            f' "spo2": {oxygen}, "temperature": {degrees:.1f}, "respiratory_rate": {breaths}, "glucose_level": {sugar},'
            f' "sport_mode": {sport}, "on_oxygen": {mask}, "consciousness": "{state}"}}'.encode()
            for p, stamp, beats, high, low, oxygen, degrees, breaths, sugar, sport, mask, state in zip(
                *columns, strict=True
            )
        ]
        return Members([self._keys[patient] for patient in block.patients.tolist()], bodies)

    def _walk(self, name: str, who: Ints) -> Ints:
        """Each patient's next values, in the order of `who`."""
        walk, walked = WALKS[name], self._walked[name]
        order = np.argsort(who, kind="stable")
        steps = self._rng.integers(-walk.step, walk.step + 1, len(who))[order]
        total = np.cumsum(steps)
        patients, first, counts = np.unique(who[order], return_index=True, return_counts=True)
        before = np.where(first > 0, total[first - 1], 0)
        places = total + np.repeat(walked[patients] - before, counts)
        walked[patients] = places[first + counts - 1]
        values = np.empty_like(places)
        values[order] = places
        return folded(values, walk)


def folded(places: Ints, walk: Walk) -> Ints:
    """A walk without limits, turned round at both of them."""
    width = walk.highest - walk.lowest
    place = places % (2 * width)
    return walk.lowest + np.where(place > width, 2 * width - place, place)


def illness(seed: int, who: Ints, times_us: Ints) -> tuple[NDArray[np.float64], ...]:
    """How far fever, desaturation and a drift as in sepsis have come: from 0 to 1 and back in each episode."""
    drawn = chance(seed, who, times_us // ILLNESS_US)
    depth = np.sin(np.pi * (times_us % ILLNESS_US) / ILLNESS_US)
    limits = np.cumsum([0.0, FEVER_SHARE, DESATURATION_SHARE, SEPSIS_SHARE])
    return tuple(np.where((limits[n] <= drawn) & (drawn < limits[n + 1]), depth, 0.0) for n in range(len(limits) - 1))


def exertion(
    seed: int, who: Ints, times_us: Ints, resting_bpm: Ints | NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Heart rates with sport: up by 5 a second to 150 for 120 s, then down by 5 a second; and where sport is done."""
    period = times_us // SPORT_US
    drawn = chance(seed, who, period)
    begins_s = chance(seed + 1, who, period) * (SPORT_US / SECOND_US / 2)
    since_s = (times_us % SPORT_US) / SECOND_US - begins_s
    rise_s = (SPORT_PEAK_BPM - SPORT_FROM_BPM) / SPORT_BPM_PER_S
    is_sport = (drawn < SPORT_SHARE) & (since_s >= 0) & (since_s < 2 * rise_s + SPORT_PEAK_S)
    up = SPORT_FROM_BPM + SPORT_BPM_PER_S * since_s
    down = SPORT_PEAK_BPM - SPORT_BPM_PER_S * (since_s - rise_s - SPORT_PEAK_S)
    level = np.rint(np.minimum(np.minimum(up, down), SPORT_PEAK_BPM))
    return np.where(is_sport, level, np.clip(resting_bpm, 20, 250)), is_sport


MEASURED = ("heart_rate", "systolic_bp", "diastolic_bp", "spo2", "temperature", "respiratory_rate", "glucose_level")


def _without_measurements(reading: Reading) -> Reading:
    return {
        name: value for name, value in reading.items() if name in ("patient_id", "device_id", "timestamp", "sport_mode")
    }


def _as_pulse(reading: Reading, rng: Random) -> Reading:
    return {"pulse" if name == "heart_rate" else name: value for name, value in reading.items()}


def _in_fahrenheit(reading: Reading, rng: Random) -> Reading:
    return reading | {"temperature": round(reading["temperature"] * 1.8 + 32, 2), "unit": "F"}


def _as_fraction(reading: Reading, rng: Random) -> Reading:
    return reading | {"spo2": round(reading["spo2"] / 100, 2)}


def _in_part(reading: Reading, rng: Random) -> Reading:
    """What a device that measures one or two things sends."""
    kept = {
        "patient_id",
        "device_id",
        "timestamp",
        *rng.choice((MEASURED[:1], MEASURED[1:3], MEASURED[3:4], MEASURED[4:6])),
    }
    return {name: value for name, value in reading.items() if name in kept}


def _with_opinion(reading: Reading, rng: Random) -> Reading:
    """As the original producer: it says what it thinks of its values, and nothing of oxygen and consciousness."""
    is_high = reading["heart_rate"] > 100
    opinion = {
        "high_heart_rate": is_high,
        "high_bp": False,
        "high_glucose": False,
        "alert": is_high,
        "alert_occurrence": 1,
    }
    return {name: value for name, value in reading.items() if name not in ("on_oxygen", "consciousness")} | opinion


def _with_nulls(reading: Reading, rng: Random) -> Reading:
    return reading | {"glucose_level": None, "on_oxygen": None}


VARIATIONS: tuple[Variation, ...] = (_as_pulse, _in_fahrenheit, _as_fraction, _in_part, _with_opinion, _with_nulls)


def _other_heart_rate(reading: Reading, rng: Random) -> Reading:
    """A fraction: plain values are whole, so it is another value for certain."""
    return reading | {"heart_rate": rng.randrange(60, 180) + 0.25}
