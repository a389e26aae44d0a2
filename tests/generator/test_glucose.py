import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from generator.cadence import MINUTE_US
from generator.glucose import EPISODE_US, FLAPPING_AROUND_MG_DL, FLAPPING_MG_DL, PLATEAUS_MG_DL, Levels, episodes
from generator.profiles import PROFILES, day_curve, patients

DAY = 1440
START_MINUTE = int(datetime(2024, 5, 1, tzinfo=UTC).timestamp()) // 60


def levels_of(profile: str, days: int = 40, every_minutes: int = 5) -> np.ndarray:
    """One patient's levels, `every_minutes` for whole days."""
    fleet = [patient for patient in patients(5) if patient.profile.name == profile]
    minutes = START_MINUTE + np.arange(0, days * DAY, every_minutes)
    return Levels(fleet, np.random.default_rng(3)).at(np.zeros(len(minutes), dtype=np.int64), minutes * MINUTE_US)


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_levels_are_sample_times_scale_plus_offset_plus_the_days_habits(profile):
    levels = levels_of(profile.name)
    curve = day_curve(profile)
    assert abs(levels.mean() - profile.offset - curve.mean()) < 0.02 * profile.scale
    # A sine of amplitude 1 has variance 1/2; its noise 0.3 squared; four-hour waves and the day are nearly unrelated.
    expected = np.sqrt(profile.scale**2 * (0.5 + 0.3**2) + curve.var() + 2**2)
    assert abs(levels.std() / expected - 1) < 0.15


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_waves_come_every_four_hours(profile):
    levels = levels_of(profile.name)
    by_time_of_day = levels.reshape(-1, DAY // 5).mean(axis=0)
    spectrum = np.abs(np.fft.rfft(by_time_of_day - by_time_of_day.mean()))
    assert spectrum[6] > 0.8 * profile.scale / 2 * len(by_time_of_day)


def test_meals_raise_and_sport_lowers():
    diabetic = PROFILES[0]
    curve = day_curve(diabetic)
    lunch, walk = int(13.25 * 60), int(17.75 * 60)
    assert curve[lunch] > curve[12 * 60] + 30
    assert curve[walk] < curve[17 * 60] - 10


def test_late_meals_reach_into_the_next_morning():
    party_goer = PROFILES[2]
    assert day_curve(party_goer)[90] > 50


def test_noise_leaves_numpys_global_random_state_alone():
    before = np.random.get_state(legacy=False)["state"]["key"].copy()
    levels_of("diabetic", days=1)
    assert np.array_equal(before, np.random.get_state(legacy=False)["state"]["key"])


def test_patients_take_the_profiles_in_turn_and_have_a_device_each():
    fleet = patients(12)
    assert [patient.profile for patient in fleet[:5]] == list(PROFILES)
    assert fleet[5].profile == PROFILES[0]
    assert len({patient.device_id for patient in fleet}) == 12


def test_episodes_are_lows_plateaus_and_levels_that_flap():
    times = START_MINUTE * MINUTE_US + np.arange(0, 400 * EPISODE_US, MINUTE_US)
    depth, target = episodes(5, np.zeros(len(times), dtype=np.int64), times)
    by_episode = [each.reshape(400, -1) for each in (depth, target)]
    kinds = {"low": 0, "plateau": 0, "flapping": 0, "none": 0}
    for deep, led_to in zip(*by_episode, strict=True):
        assert deep[0] == 0
        assert deep.max() in (0, 1)
        values = sorted(set(led_to))
        if not deep.any():
            kinds["none"] += 1
        elif len(values) == 2:
            kinds["flapping"] += 1
            around = (values[0] + values[1]) / 2
            assert min(abs(around - each) for each in FLAPPING_AROUND_MG_DL) < 1e-9
            assert values[1] - values[0] <= 2 * FLAPPING_MG_DL
        elif values[0] in PLATEAUS_MG_DL and (deep == 1).mean() > 0.7:
            kinds["plateau"] += 1
        else:
            kinds["low"] += 1
            assert 40 <= values[0] <= 68
            assert (deep == 1).mean() < 0.1
    assert min(kinds.values()) > 8
    assert kinds["none"] > 300


def test_a_fleet_with_alarms_has_lows_that_recover(glucose):
    made = glucose(
        count=20_000, patients=50, spacing=timedelta(minutes=5), variations=0, repeats=0, late=0, alarms=True
    )
    levels: dict[int, list[float]] = {}
    for event in made:
        reading = json.loads(event.body)
        levels.setdefault(reading["patient_id"], []).append(reading["glucose_level"])
    healthy = [each for patient, each in levels.items() if patient % len(PROFILES) != 4]
    lows = [each for each in healthy if min(each) < 54]
    assert len(lows) > 5
    assert all(max(each[int(np.argmin(each)) :]) > 80 for each in lows if np.argmin(each) < len(each) - 60)


def test_the_first_reading_as_it_is_sent(glucose):
    (event,) = glucose(count=1, spacing=timedelta(minutes=5), variations=0, repeats=0, late=0, gaps=0)
    reading = json.loads(event.body)
    assert event.key == "1"
    assert list(reading) == ["patient_id", "device_id", "glucose_level", "timestamp", "location"]
    assert reading | {"glucose_level": 0} == {
        "patient_id": 1,
        "device_id": 1001,
        "glucose_level": 0,
        "timestamp": "2024-05-01 00:00:00",
        "location": "Lisbon",
    }


def test_other_valid_ways_to_write_a_reading_all_occur(glucose):
    readings = [
        json.loads(event.body)
        for event in glucose(count=3000, spacing=timedelta(minutes=5), variations=1, repeats=0, late=0)
    ]
    levels = [reading["glucose_level"] for reading in readings]
    stamps = [reading["timestamp"] for reading in readings]
    assert {"Low", "High"} < {level for level in levels if isinstance(level, str)}
    assert any(isinstance(level, str) and level[0].isdigit() for level in levels)
    assert {reading.get("unit") for reading in readings} == {None, "mg/dL", "mmol/L"}
    assert all(
        level < 35 for reading in readings if reading.get("unit") == "mmol/L" for level in [reading["glucose_level"]]
    )
    assert any(isinstance(stamp, int) for stamp in stamps)
    assert any("+02:00" in str(stamp) for stamp in stamps)
    assert any(" " in str(stamp) for stamp in stamps)
    assert any("location" not in reading for reading in readings)
