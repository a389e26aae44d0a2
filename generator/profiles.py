"""The five kinds of patient, and the patients themselves: who they are, what they wear, how their day goes.

Glucose follows `sample * scale + offset`, where the sample is a slow wave with noise, plus the day's meals and sport.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MINUTES = 1440


class Habit(NamedTuple):
    """A meal or a sport: it begins at `hour`, moves glucose by `mg_dl` after `peak_minutes` and fades from there."""

    hour: float
    mg_dl: float
    peak_minutes: float = 45.0


class Profile(NamedTuple):
    name: str
    scale: float
    offset: float
    habits: tuple[Habit, ...]


class Patient(NamedTuple):
    patient_id: int
    device_id: int
    profile: Profile
    location: str


PROFILES = (
    Profile("diabetic", 40, 130, (Habit(7.5, 45), Habit(12.5, 55), Habit(19, 60), Habit(17, -20))),
    Profile("athlete", 20, 90, (Habit(6, 20), Habit(10, 20), Habit(13, 25), Habit(20, 25), Habit(17.5, -25, 60))),
    Profile("party_goer", 50, 130, (Habit(13, 30), Habit(20.5, 40), Habit(0.5, 60, 60), Habit(3.5, 30))),
    Profile("low_glucose", 15, 55, (Habit(8, 20), Habit(12.5, 20), Habit(18.5, 20), Habit(16.5, -8))),
    Profile("elderly", 35, 145, (Habit(8, 35), Habit(12, 40), Habit(18, 35), Habit(10.5, -10))),
)
LOCATIONS = ("Lisbon", "Utrecht", "Leeds", "Graz", "Bergen", "Tartu", "Lyon")
FIRST_DEVICE_ID = 1000


def patients(count: int) -> list[Patient]:
    """The first `count` patients: ids from 1, profiles in turn, one device each."""
    return [
        Patient(
            patient_id=number,
            device_id=FIRST_DEVICE_ID + number,
            profile=PROFILES[(number - 1) % len(PROFILES)],
            location=LOCATIONS[(number - 1) % len(LOCATIONS)],
        )
        for number in range(1, count + 1)
    ]


@cache
def day_curve(profile: Profile) -> NDArray[np.float64]:
    """What the habits add in each minute of a day, in mg/dL; evenings reach into the next morning."""
    curve = np.zeros(MINUTES)
    for habit in profile.habits:
        since = (np.arange(MINUTES) - habit.hour * 60) % MINUTES / habit.peak_minutes
        curve += habit.mg_dl * since * np.exp(1 - since)
    return curve
