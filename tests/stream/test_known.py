"""What a session knows: the last readings when it starts, whatever came in last, and all that is near new ones."""

from datetime import datetime, timedelta
from pathlib import Path
from random import Random

import polars as pl
import pytest

from assets.glucose.assets import CONTRACT
from assets.stream.contract import MICROSECOND, Utc
from assets.stream.known import TIMELY, Known
from assets.stream.store import StreamStore
from resources.lake import Lake
from tests.stream.scenarios import NOON, body, hub_with, lake_in, reading, run_session, ticking, troubled_bodies
from tests.stream.tables import assert_exact, rows

DAY = timedelta(days=1)
NO_ALERTS = pl.DataFrame(schema={"alert_id": pl.String, "measured_at": Utc})


def known_rows(lake: Lake) -> int:
    store = StreamStore(CONTRACT, lake)
    store.open([0, 1])
    return store.remembered().known.rows


def test_a_day_that_begins_with_a_stale_reading_does_not_load_what_came_after_it(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), hub_with([body(reading(minutes)) for minutes in range(-600, 50)])
    run_session(lake, hub)
    known = known_rows(lake)
    assert known < 60
    hub.send([body(reading(-8 * 1440, patient=2))], NOON + DAY)
    run_session(lake, hub, clock=ticking(NOON + DAY))
    assert rows(lake, "silver")["ingest_date"].n_unique() == 2
    assert known_rows(lake) == known


def test_readings_are_kept_for_as_long_as_windows_look_back(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    run_session(lake, hub_with([body(reading(minutes)) for minutes in range(-300, 50)]))
    store = StreamStore(CONTRACT, lake)
    store.open([0, 1])
    assert [store.remembered(timedelta(hours=hours)).known.rows for hours in (0, 1, 2)] == [30, 80, 140]


def test_where_windows_look_further_back_readings_are_looked_up_until_memory_reaches_as_far() -> None:
    added: list[pl.DataFrame] = []
    known = Known(CONTRACT, lambda: pl.concat([frame(set()), *added]).lazy(), NO_ALERTS.lazy, newest=None)
    scans: list[int] = []
    for minute in range(320):
        new = frame({(1, NOON + timedelta(minutes=minute))})
        reach = 120 if minute >= 200 else 10
        assert known.context_of(new, timedelta(minutes=reach)).height >= min(minute, reach)
        scans.append(known.looked_up.scans)
        known.add(new, NO_ALERTS)
        added.append(new)
        known.mark_stored()
    # Memory reached back to minute 169 when it was first asked for more.
    assert scans[199] == 0 < scans[200]
    assert scans[288] < scans[289] == scans[-1]


def test_sessions_after_a_stale_reading_find_repeats_and_windows_as_ever(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), hub_with(troubled_bodies(200))
    run_session(lake, hub)
    hub.send([body(reading(-8 * 1440))], NOON + DAY)
    run_session(lake, hub, clock=ticking(NOON + DAY))
    hub.send(troubled_bodies(200)[::3] + troubled_bodies(200, seed=2, start=NOON - timedelta(hours=3)), NOON + DAY)
    hub.send([body(reading(minutes, 120)) for minutes in range(1400, 1440)], NOON + DAY)
    run_session(lake, hub, clock=ticking(NOON + DAY + timedelta(minutes=1)))
    assert_exact(lake, hub)


class Readings:
    """Readings of three patients, a few of them late by up to an hour and a half; no two of one patient and instant."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.taken: set[tuple[int, datetime]] = set()

    def around(self, second: float) -> pl.DataFrame:
        some = {self._one(second) for _ in range(self.random.choice([1, 5, 30]))} - self.taken
        self.taken |= some
        return frame(some)

    def _one(self, second: float) -> tuple[int, datetime]:
        late = self.random.choice([0, 0, 0, 0, 0, 0, 0, 0, 30, 60, 5400])
        at = second + self.random.randint(0, 30) - self.random.randint(0, late)
        return self.random.randint(1, 3), NOON + timedelta(seconds=at)


def frame(readings: set[tuple[int, datetime]]) -> pl.DataFrame:
    rows = [(patient, 1, at, 100.0) for patient, at in readings]
    names = [*CONTRACT.keys, "measured_at", *CONTRACT.values]
    return pl.DataFrame(rows, schema=dict(zip(names, (pl.Int64, pl.Int64, Utc, pl.Float64), strict=True)), orient="row")


@pytest.mark.parametrize("seed", range(12))
def test_near_is_every_earlier_reading_that_a_window_of_a_new_one_may_hold_and_each_once(seed: int) -> None:
    readings, reach = Readings(seed), timedelta(minutes=10)
    added: list[pl.DataFrame] = []
    stored = forgotten = 0
    known = Known(CONTRACT, lambda: pl.concat([frame(set()), *added[:stored]]).lazy(), NO_ALERTS.lazy, newest=None)
    for number in range(60):
        new = readings.around(number * readings.random.choice([1, 60, 600]))
        earlier = {row[:3] for each in added for row in each.rows()}
        near = [row[:3] for row in known.context_of(new, reach).rows()]
        needed = {
            (patient, device, at)
            for patient, device, at in earlier
            if any(other == patient and end - reach <= at <= end for other, _, end, _ in new.rows())
        }
        assert len(set(near)) == len(near)
        assert needed <= set(near) <= earlier
        known.add(new, NO_ALERTS)
        added.append(new)
        # A commit may have ended of which the session does not know yet.
        stored = readings.random.randint(stored, len(added))
        if readings.random.random() < 0.5:
            known.mark_stored(stored - forgotten)
            forgotten = stored


def test_near_leaves_nothing_out_where_late_and_timely_readings_are_looked_for_apart() -> None:
    reach = timedelta(minutes=10)
    new = frame({(patient, NOON) for patient in range(9)} | {(1, NOON - 2 * TIMELY)})
    edge = NOON - TIMELY - reach
    earlier = frame({(1, edge + offset * MICROSECOND) for offset in range(-3, 4)})
    known = Known(CONTRACT, earlier.lazy, NO_ALERTS.lazy, newest=None)
    assert sorted(known.context_of(new, reach).rows()) == sorted(earlier.rows())
