"""A clock that jumps: no row is stored under a date to come, and a day without rows is not called right."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from assets.glucose.assets import CONTRACT
from assets.stream.checks import evaluate
from assets.stream.session import ClockError
from assets.stream.store import StreamStore
from tests.stream.scenarios import NOON, hub_with, lake_in, run_session, ticking, troubled_bodies
from tests.stream.tables import assert_exact, everything, rows

DAY = timedelta(days=1)


@pytest.mark.parametrize("ahead", [30 * DAY, timedelta(hours=12, minutes=1), timedelta(minutes=11)])
def test_a_session_behind_one_whose_clock_was_ahead_is_refused_and_names_the_clock(
    tmp_path: Path, ahead: timedelta
) -> None:
    lake, hub = lake_in(tmp_path), hub_with(troubled_bodies(20))
    run_session(lake, hub, clock=ticking(NOON + ahead))
    hub.send(troubled_bodies(20, seed=2), NOON)
    before = everything(lake)
    with pytest.raises(ClockError, match=r"the clock of this machine says 2026-11-23 12:00:0.*rederive"):
        run_session(lake, hub, clock=ticking(NOON))
    assert everything(lake) == before
    run_session(lake, hub, clock=ticking(NOON + ahead))
    assert_exact(lake, hub)


def test_a_clock_that_is_set_back_over_midnight_ends_the_session_before_a_row_gets_a_date_to_come(
    tmp_path: Path,
) -> None:
    after_midnight = datetime(2026, 11, 24, 0, 0, 5, tzinfo=NOON.tzinfo)
    lake, hub = lake_in(tmp_path), hub_with(troubled_bodies(60), take=5)
    with pytest.raises(ClockError):
        run_session(lake, hub, clock=ticking(after_midnight, step=timedelta(seconds=-1)))
    assert 0 < rows(lake, "bronze").height < 66
    run_session(lake, hub, clock=ticking(after_midnight + timedelta(minutes=1)))
    assert_exact(lake, hub)


def test_nothing_equals_nothing_is_no_green_check(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), hub_with(troubled_bodies(20))
    run_session(lake, hub)
    store = StreamStore(CONTRACT, lake)
    found = {
        day: {each.name: each for each in evaluate(store, day, NOON)} for day in (NOON.date(), (NOON + DAY).date())
    }
    assert found[NOON.date()]["counts_reconcile"].passed
    empty = found[(NOON + DAY).date()]["counts_reconcile"]
    assert not empty.passed
    assert not empty.is_error
