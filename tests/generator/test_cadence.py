from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from generator.cadence import (
    HOUR_US,
    KEPT_SHARE,
    LOST_SHARE,
    MINUTE_US,
    SECOND_US,
    SHORT_OUTAGE,
    Cadence,
    Shares,
    chance,
    outages,
)

START_US = 1_714_521_600 * SECOND_US
SPACINGS = st.floats(min_value=2, max_value=2 * 60 * MINUTE_US)


def cadence(spacing_us: float, patients: int = 3, pack: int = 1, live: bool = False) -> Cadence:
    return Cadence(START_US, spacing_us, patients, pack, live)


@settings(max_examples=200, deadline=None)
@given(
    spacing_us=SPACINGS,
    patients=st.integers(1, 9),
    pack=st.integers(1, 5),
    live=st.booleans(),
    first=st.integers(0, 10**6),
)
def test_no_two_readings_of_a_patient_share_a_time_late_or_not(spacing_us, patients, pack, live, first):
    grid = cadence(spacing_us, patients, pack, live)
    slots = np.arange(first, first + 500)
    regular = grid.measured_us(grid.offsets_us(slots))
    late = grid.measured_us(grid.offsets_us(grid.earlier_slots(slots)) + spacing_us / 2)
    for patient in range(patients):
        times = np.concatenate([regular[:, patient].ravel(), late[:, patient].ravel()])
        assert len(np.unique(times - times % grid.coarsest_us)) == len(times)


@settings(max_examples=200, deadline=None)
@given(spacing_us=SPACINGS, pack=st.integers(1, 5), first=st.integers(0, 10**6))
def test_a_late_event_is_late_by_one_to_sixty_minutes_or_at_least_by_a_slot(spacing_us, pack, first):
    grid = cadence(spacing_us, pack=pack)
    slots = np.arange(first, first + 500)
    late_by = (slots - grid.earlier_slots(slots)) * spacing_us * pack - spacing_us / 2
    assert late_by.min() >= max(MINUTE_US, spacing_us * pack)
    assert late_by.max() <= max(60 * MINUTE_US, 3 * spacing_us * pack)


def test_lateness_varies():
    slots = np.arange(1000)
    assert len(np.unique(slots - cadence(MINUTE_US).earlier_slots(slots))) > 30


def test_readings_of_a_patient_advance_by_the_spacing():
    grid = cadence(5 * MINUTE_US, patients=5)
    times = grid.measured_us(grid.offsets_us(np.arange(100)))[:, :, 0]
    assert set(np.diff(times, axis=0).ravel()) == {5 * MINUTE_US}
    assert set(np.diff(times.ravel())) == {MINUTE_US}


@pytest.mark.parametrize(
    ("spacing", "live", "resolution_us"),
    [
        (timedelta(minutes=5), False, SECOND_US),
        (timedelta(minutes=5), True, 1000),
        (timedelta(seconds=1), False, 1000),
        (timedelta(microseconds=160), True, 1),
    ],
)
def test_times_are_as_fine_as_they_need_to_be(spacing, live, resolution_us):
    assert cadence(spacing / timedelta(microseconds=1), live=live).resolution_us == resolution_us


def test_episodes_belong_to_seed_patient_and_period():
    who, period = np.repeat(np.arange(100), 100), np.tile(np.arange(100), 100)
    drawn = chance(1, who, period)
    assert np.array_equal(drawn, chance(1, who, period))
    assert len(np.unique(drawn)) == len(drawn)
    assert not np.isin(chance(2, who, period), drawn).any()
    assert abs(drawn.mean() - 0.5) < 0.02
    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 0.05


def test_outages_last_from_half_an_hour_to_days():
    times = START_US + np.arange(0, 64 * 24 * HOUR_US, 5 * MINUTE_US)
    is_lost, is_kept = outages(3, np.arange(40), times[:, None])
    assert not (is_lost & is_kept).any()
    lost_hours, kept_hours = (lengths(away) / 12 for away in (is_lost, is_kept))
    assert 0.5 < kept_hours.min() < 0.7
    assert 4.5 < kept_hours.max() < 5.1
    assert 0.5 < lost_hours.min() < 0.7
    assert 48 < lost_hours.max() < 78
    periods = 40 * (times[-1] - times[0]) / SHORT_OUTAGE.every_us
    assert len(kept_hours) == pytest.approx(KEPT_SHARE * periods, rel=0.1)
    assert len(lost_hours) == pytest.approx(LOST_SHARE * periods, rel=0.1)


def lengths(away: np.ndarray) -> np.ndarray:
    """How many slots each stretch has in which a patient is away; what is cut by an end is left out."""
    found = []
    for column in away.T:
        edges = np.flatnonzero(np.diff(column.astype(int)))
        edges = edges[1:] if column[0] else edges
        found += (edges[1::2] - edges[: len(edges) // 2 * 2 : 2]).tolist()
    return np.array(found)


@pytest.mark.parametrize("shares", [{"faults": -0.1}, {"faults": 0.6, "repeats": 0.6}, {"gaps": 1.1}])
def test_impossible_shares_are_refused(shares):
    with pytest.raises(ValueError, match="share"):
        Shares(**shares)


def test_readings_too_close_to_tell_apart_are_refused():
    with pytest.raises(ValueError, match="apart"):
        cadence(1)
