"""What the patients' devices say about themselves: battery, firmware, connectivity and errors.

Every state is a function of device and time, so that it needs no memory and any stretch of time can be generated.
"""

from random import Random
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from generator import faults
from generator.bodies import Reading, Variation, other_timestamp, timestamps
from generator.cadence import HOUR_US, MINUTE_US, Block, Cadence, Ints, chance
from generator.compose import Members
from generator.profiles import Patient

DAY_US = 24 * HOUR_US
EPISODE_US = 20 * MINUTE_US
FIRST_FIRMWARE_DAY = 19_723
DAYS_PER_FIRMWARE = 10

CONNECTED, DISCONNECTED, POOR = "Connected", "Disconnected", "Poor Connection"
DISCONNECTED_SHARE, POOR_SHARE = 0.03, 0.07
LOW_BATTERY = 15

SHAPE = faults.Shape(
    required=("device_id", "timestamp", "battery_level", "firmware_version", "connectivity_status", "error_codes"),
    whole=("device_id",),
    number="battery_level",
    wrong={
        "device_id": ("sensor", [7], {"serial": "A1"}),
        "battery_level": ("full", "", [55], {"percent": 55}),
        "firmware_version": (2, ["1.0.0"], {"major": 1}),
        "connectivity_status": (1, ["Connected"], {"wifi": True}),
        "error_codes": (3, {"code": "Err1"}),
    },
    implausible=(-1, 101, 255, 65535),
)


BATTERY_SHARE = faults.field("battery_share", "battery_level", (0.05, 0.5, 0.99), faults.IMPLAUSIBLE_UNIT)


class Traits(NamedTuple):
    """What differs between devices, one number for each."""

    lasts_hours: NDArray[np.float64]
    charges_hours: NDArray[np.float64]
    lowest: NDArray[np.float64]
    phase_hours: NDArray[np.float64]
    firmware_lag_days: NDArray[np.float64]


class Devices:
    """One self-report of one device per time on the grid."""

    def __init__(self, patients: list[Patient], cadence: Cadence, rng: np.random.Generator) -> None:
        self._keys = [str(patient.device_id) for patient in patients]
        self.faults = [*faults.common(SHAPE), BATTERY_SHARE, faults.conflict(_other_battery)]
        self.variations: list[Variation] = [other_timestamp(cadence.coarsest_us)]
        self._resolution_us = cadence.resolution_us
        self._heads = [f'{{"device_id": {patient.device_id}, "timestamp": "' for patient in patients]
        self._traits = traits(len(patients), rng)
        self._seed = int(rng.integers(2**63))
        self._rng = rng

    def members(self, block: Block) -> Members:
        """The reports that the block's events hold."""
        who = np.repeat(block.patients, block.measured_us.shape[1])
        times = block.measured_us.ravel()
        batteries = battery(self._traits, who, times)
        statuses = connectivity(self._seed, who, times)
        errors = error_codes(batteries, statuses, self._rng.random(len(who)))
        heads = self._heads
        columns = (
            who.tolist(),
            timestamps(times, self._resolution_us),
            batteries.tolist(),
            firmware(self._traits, who, times).tolist(),
            statuses.tolist(),
            errors.tolist(),
        )
        bodies = [
            f'{heads[p]}{stamp}", "battery_level": {level}, "firmware_version": "{n // 24 + 1}.{n // 4 % 6}.{n % 4}",'
            f' "connectivity_status": "{status}", "error_codes": "{error}"}}'.encode()
            for p, stamp, level, n, status, error in zip(*columns, strict=True)
        ]
        return Members([self._keys[patient] for patient in block.patients.tolist()], bodies)


def traits(devices: int, rng: np.random.Generator) -> Traits:
    lasts, charges = rng.uniform(20, 60, devices), rng.uniform(1.5, 3, devices)
    return Traits(lasts, charges, rng.uniform(6, 25, devices), rng.uniform(0, 60, devices), rng.uniform(0, 30, devices))


def battery(traits: Traits, who: Ints, times_us: Ints) -> Ints:
    """Percent: slowly down from 100, quickly up again."""
    lasts, charges, lowest = traits.lasts_hours[who], traits.charges_hours[who], traits.lowest[who]
    place = (times_us / HOUR_US + traits.phase_hours[who]) % (lasts + charges)
    share = np.where(place < lasts, 1 - place / lasts, (place - lasts) / charges)
    return np.rint(lowest + (100 - lowest) * share).astype(np.int64)


def firmware(traits: Traits, who: Ints, times_us: Ints) -> Ints:
    """The number of the release that runs: one every ten days, installed with each device's own delay."""
    days = times_us / DAY_US - FIRST_FIRMWARE_DAY - traits.firmware_lag_days[who]
    return np.maximum(days // DAYS_PER_FIRMWARE, 0).astype(np.int64)


def connectivity(seed: int, who: Ints, times_us: Ints) -> NDArray[np.str_]:
    """Episodes of twenty minutes."""
    drawn = chance(seed, who, times_us // EPISODE_US)
    shaky = np.where(drawn < DISCONNECTED_SHARE + POOR_SHARE, POOR, CONNECTED)
    return np.where(drawn < DISCONNECTED_SHARE, DISCONNECTED, shaky)


def error_codes(batteries: Ints, statuses: NDArray[np.str_], drawn: NDArray[np.float64]) -> NDArray[np.str_]:
    """Err1: battery low; Err2: transmission; Err3: the sensor itself, rarely and without a cause to be seen."""
    codes = np.where(drawn > 0.998, "Err3", "")
    codes = np.where((statuses == POOR) & (drawn < 0.3), "Err2", codes)
    return np.where((batteries < LOW_BATTERY) & (drawn < 0.2), "Err1", codes)


def _other_battery(reading: Reading, rng: Random) -> Reading:
    return reading | {"battery_level": (reading["battery_level"] + rng.randrange(1, 101)) % 101}
