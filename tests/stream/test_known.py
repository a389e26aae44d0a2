"""What a session knows when it starts: the last readings, whatever came in last."""

from datetime import timedelta
from pathlib import Path

from assets.glucose.assets import CONTRACT
from assets.stream.store import StreamStore
from resources.lake import Lake
from tests.stream.scenarios import NOON, body, hub_with, lake_in, reading, run_session, ticking, troubled_bodies
from tests.stream.tables import assert_exact, rows

DAY = timedelta(days=1)


def known_rows(lake: Lake) -> int:
    store = StreamStore(CONTRACT, lake)
    store.open([0, 1])
    return store.known().rows


def test_a_day_that_begins_with_a_stale_reading_does_not_load_what_came_after_it(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), hub_with([body(reading(minutes)) for minutes in range(-600, 50)])
    run_session(lake, hub)
    known = known_rows(lake)
    assert known < 60
    hub.send([body(reading(-8 * 1440, patient=2))], NOON + DAY)
    run_session(lake, hub, clock=ticking(NOON + DAY))
    assert rows(lake, "silver")["ingest_date"].n_unique() == 2
    assert known_rows(lake) == known


def test_sessions_after_a_stale_reading_find_repeats_and_windows_as_ever(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), hub_with(troubled_bodies(200))
    run_session(lake, hub)
    hub.send([body(reading(-8 * 1440))], NOON + DAY)
    run_session(lake, hub, clock=ticking(NOON + DAY))
    hub.send(troubled_bodies(200)[::3] + troubled_bodies(200, seed=2, start=NOON - timedelta(hours=3)), NOON + DAY)
    hub.send([body(reading(minutes, 120)) for minutes in range(1400, 1440)], NOON + DAY)
    run_session(lake, hub, clock=ticking(NOON + DAY + timedelta(minutes=1)))
    assert_exact(lake, hub)
