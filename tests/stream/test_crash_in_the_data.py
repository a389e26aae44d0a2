"""A session that dies between any two commits: the next one leaves every table exact."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from resources.lake import Lake, LakeTable
from resources.table import Table
from tests.stream.hubs import MemoryHub, MemoryPublisher
from tests.stream.scenarios import (
    AT_THE_END,
    EAGER,
    NOON,
    body,
    hub_with,
    lake_in,
    reading,
    run_session,
    ticking,
    troubled_bodies,
)
from tests.stream.tables import assert_exact, everything

pytestmark = pytest.mark.slow


class Killed(BaseException):
    """The process is gone: nothing that it would do afterwards happens either."""


@dataclass
class Life:
    """How many commits a process makes before it dies, right behind the last one."""

    commits: int
    done: int = 0

    def before(self) -> None:
        if self.done >= self.commits:
            raise Killed

    def after(self) -> None:
        self.done += 1
        self.before()


@dataclass(frozen=True)
class MortalLake(Lake):
    life: Life = field(default_factory=lambda: Life(10**9))

    def table(self, table: Table) -> LakeTable:
        plain = super().table(table)
        return MortalTable(plain.table, plain.uri, plain.lake, self.life)


@dataclass
class MortalTable(LakeTable):
    life: Life

    def append(
        self,
        frame: pl.DataFrame,
        *,
        transactions: Mapping[str, int],
        expected: Mapping[str, int] | None = None,
        event_dates: Iterable[date] = (),
        event_slots: Mapping[date, Collection[int]] | None = None,
    ) -> int:
        self.life.before()
        written = super().append(
            frame,
            transactions=transactions,
            expected=expected,
            event_dates=event_dates,
            event_slots=event_slots,
        )
        self.life.after()
        return written


def scenario() -> MemoryHub:
    """A few micro-batches; each has rows for all four tables, and knows of readings of the one before."""
    return hub_with(troubled_bodies(60), take=12)


def commits_of_a_whole_session(folder: Path) -> int:
    life = Life(10**9)
    run_session(MortalLake(str(folder), life=life), scenario())
    return life.done


@pytest.fixture(scope="module")
def commits(tmp_path_factory: pytest.TempPathFactory) -> int:
    return commits_of_a_whole_session(tmp_path_factory.mktemp("whole"))


def test_a_session_killed_at_any_commit_leaves_nothing_lost_and_nothing_doubled(tmp_path: Path, commits: int) -> None:
    assert commits >= 12
    for place in range(commits + 1):
        hub, lake = scenario(), lake_in(tmp_path / str(place))
        with pytest.raises(Killed):
            run_session(MortalLake(lake.root, life=Life(place)), hub)
        run_session(lake, hub)
        assert_exact(lake, hub)


@pytest.mark.parametrize("commits_each", [2, 3, 5])
def test_sessions_that_all_die_after_a_few_commits_get_there_in_the_end(tmp_path: Path, commits_each: int) -> None:
    hub, lake = scenario(), lake_in(tmp_path)
    for _ in range(100):
        try:
            run_session(MortalLake(lake.root, life=Life(commits_each)), hub)
            break
        except Killed:
            continue
    else:
        pytest.fail("no progress")
    assert_exact(lake, hub)


def test_what_a_crash_left_behind_gives_the_rows_of_a_session_that_was_never_killed(tmp_path: Path) -> None:
    hub, whole, broken = scenario(), lake_in(tmp_path / "whole"), lake_in(tmp_path / "broken")

    def clock() -> datetime:
        # One that moves on when it is asked tells other times of pulls when threads ask it in another order.
        return NOON

    run_session(whole, hub, limits=AT_THE_END, clock=clock)
    with pytest.raises(Killed):
        run_session(MortalLake(broken.root, life=Life(1)), hub, limits=AT_THE_END, clock=clock)
    totals = run_session(broken, hub)
    assert everything(broken) == everything(whole)
    assert (totals.events, totals.caught_up_events) == (0, len(everything(whole)["bronze"]))


def test_a_crash_before_the_alerts_are_stored_publishes_them_again_and_one_after_does_not(tmp_path: Path) -> None:
    hub = hub_with([body(reading(value=300)), b"not json"])

    def published_after_crash(folder: str, commits: int) -> int:
        lake, publisher = lake_in(tmp_path / folder), MemoryPublisher()
        with pytest.raises(Killed):
            run_session(MortalLake(lake.root, life=Life(commits)), hub)
        run_session(lake, hub, publisher=publisher)
        assert_exact(lake, hub)
        return len(publisher.published)

    assert published_after_crash("bronze and quarantine", 2) == 3
    assert published_after_crash("alerts too", 3) == 0


def test_a_day_that_ended_in_a_crash_is_caught_up_into_that_day(tmp_path: Path) -> None:
    hub, lake = scenario(), lake_in(tmp_path)
    with pytest.raises(Killed):
        run_session(MortalLake(lake.root, life=Life(2)), hub, limits=EAGER)
    run_session(lake, hub, clock=ticking(NOON + timedelta(days=1)))
    assert_exact(lake, hub)
    assert {row["ingest_date"].day for row in everything(lake)["silver"]} == {23, 24}
