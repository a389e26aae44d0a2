import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np

from assets.vitals.assets import CONTRACT
from generator.cadence import SECOND_US
from generator.streams import vitals_events
from generator.vitals import SPORT_US, WALKS, Walk, exertion, folded, illness
from tests.stream.batches import differences, micro_batch, process_bodies
from tests.stream.oracle import VITALS

START = datetime(2024, 5, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
CONSTANTS: dict[str, Any] = {"repeats": 0, "late": 0, "variations": 0, "gaps": 0}


def readings(**arguments: Any) -> list[dict[str, Any]]:
    return [json.loads(event.body) for event in vitals_events(start=START, **CONSTANTS | arguments)]


def test_a_walk_turns_round_at_its_limits():
    walk = Walk(50, 60, 5)
    assert folded(np.array([0, 7, 10, 12, 20, -3]), walk).tolist() == [50, 57, 60, 58, 50, 53]


def test_heart_rates_pressures_and_glucose_walk_within_their_limits():
    made = readings(count=5000, patients=1, spacing=timedelta(minutes=1))
    fields = {"glucose": "glucose_level", "systolic": "systolic_bp", "heart_rate": "heart_rate"}
    calm = [each for each in made if not (each["sport_mode"] or each["on_oxygen"] or each["temperature"] > 37.4)]
    for name, field in fields.items():
        values = [each[field] for each in calm]
        assert WALKS[name].lowest - 35 <= min(values) < max(values) <= WALKS[name].highest + 20
    glucose = [each["glucose_level"] for each in made]
    assert max(abs(one - other) for one, other in pairwise(glucose)) <= WALKS["glucose"].step
    assert len(set(glucose)) > 50


def test_the_diastolic_pressure_is_always_below_the_systolic_one():
    assert all(each["diastolic_bp"] < each["systolic_bp"] for each in readings(count=20_000, spacing=SECOND))


def test_sport_raises_the_heart_rate_by_five_a_second_for_two_minutes_and_lets_it_fall_again():
    times = np.arange(0, 40 * SPORT_US, SECOND_US)
    rates, is_sport = exertion(3, np.zeros(len(times), dtype=np.int64), times, np.full(len(times), 70.0))
    edges = np.flatnonzero(np.diff(is_sport.astype(int)))
    first, last = edges[0] + 1, edges[1] + 1
    assert 150 <= last - first <= 160
    episode = rates[first:last]
    rising, falling = episode[:18], episode[-17:]
    assert set(np.diff(rising)) == {5.0}
    assert set(np.diff(falling)) == {-5.0}
    assert 119 <= (episode == 150).sum() <= 122
    assert set(rates[~is_sport]) == {70.0}


def test_episodes_come_and_go_and_are_the_same_whenever_they_are_asked_for():
    times = np.arange(0, 100 * 40 * 60 * SECOND_US, 60 * SECOND_US)
    who = np.zeros(len(times), dtype=np.int64)
    episodes = illness(9, who, times)
    assert all(0 <= each.min() < 0.01 and 0.99 < each.max() <= 1 for each in episodes[:2])
    again = illness(9, who[500:600], times[500:600])
    assert all((one[500:600] == other).all() for one, other in zip(episodes, again, strict=True))


def test_a_fleet_shows_every_kind_of_episode():
    made = readings(count=60_000, patients=50, spacing=timedelta(minutes=2))
    assert max(each["temperature"] for each in made) > 39.1
    assert min(each["spo2"] for each in made) < 88
    assert max(each["respiratory_rate"] for each in made) >= 25
    assert Counter(each["consciousness"] for each in made).keys() == {"A", "C"}
    assert 0.001 < sum(each["sport_mode"] for each in made) / len(made) < 0.1


def test_every_variation_is_a_reading_and_means_what_the_oracle_says():
    shares: dict[str, Any] = {"faults": 0.2, "repeats": 0.05, "late": 0.05, "variations": 0.4}
    events = list(vitals_events(start=START, spacing=timedelta(minutes=1), count=3000, seed=5, **shares))
    outcome = process_bodies(*(event.body for event in events), contract=CONTRACT)
    assert differences(outcome, micro_batch(0, [event.body for event in events]), VITALS) == []
    assert outcome.silver.height == sum(event.accepted for event in events)
    assert outcome.duplicates["duplicates"].sum() == sum(event.duplicates for event in events)
    reasons = Counter[str]()
    for event in events:
        reasons.update({event.reason: event.quarantined} if event.quarantined else {})
    assert Counter(outcome.quarantine["reason"]) == reasons
    texts = b" ".join(event.body for event in events)
    for sign in (b'"pulse"', b'"unit": "F"', b'"spo2": 0.', b'"high_bp"', b'"glucose_level": null'):
        assert sign in texts
