"""A session follows another one, and rebuilds take their turn, without a gap and without two that write."""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import polars as pl
import pytest

from assets.alarm_actions.assets import CONTRACT as ACTIONS
from assets.glucose.assets import CONTRACT
from assets.stream.rebuild import rebuild, replay
from assets.stream.rederive import derive, swap
from assets.stream.session import Session, SessionLimits, Totals
from resources.event_hubs import EventHubsNamespace
from resources.event_source import EventSource, Publisher
from resources.lake import Lake
from resources.leases import Lease
from tests.emulator.hub import RunningHub
from tests.stream.feeding import PATIENCE_S, feeding, wait_until
from tests.stream.hubs import MemoryHub, MemoryPublisher
from tests.stream.scenarios import body, lake_in, reading, run_session
from tests.stream.tables import assert_exact, row_count, rows
from tests.stream.test_exactness import send, source_of

pytestmark = pytest.mark.service

LIMITS = SessionLimits(trigger_s=0.02, commit_interval_s=0.1)


@pytest.fixture
def hub() -> Iterator[RunningHub]:
    with RunningHub(("glucose:3",)) as hub:
        yield hub


class Running:
    """A session on a thread of its own."""

    def __init__(self, lake: Lake, source: EventSource, name: str, publisher: MemoryPublisher) -> None:
        self.lease = Lease.of(Path(lake.root) / "leases", CONTRACT.stream, name)
        self.stop, self.totals, self.error = threading.Event(), Totals(), list[BaseException]()
        self.session = Session(
            CONTRACT, lake, source, publisher, limits=LIMITS, should_stop=self.stop.is_set, lease=self.lease
        )
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.totals = self.session.run()
        except BaseException as error:
            self.error.append(error)

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def join(self) -> Totals:
        self._thread.join(PATIENCE_S)
        assert not self.is_alive
        assert self.error == []
        return self.totals

    def end(self) -> Totals:
        self.stop.set()
        return self.join()


def publisher_of(hub: RunningHub) -> AbstractContextManager[Publisher]:
    return EventHubsNamespace(hub.connection_string).publisher("glucose")


def has_more(lake: Lake, readings: int) -> bool:
    return row_count(lake, "silver") > readings


def is_active(lake: Lake, name: str) -> bool:
    looked = Lease.of(Path(lake.root) / "leases", CONTRACT.stream, "test")
    return looked.active.is_held_elsewhere() and looked.active.last_holder() == name


def test_sessions_follow_each_other_without_losing_or_doubling_anything(hub: RunningHub, tmp_path: Path) -> None:
    lake, source, publisher, sent = lake_in(tmp_path), source_of(hub, "glucose"), MemoryPublisher(), list[bytes]()
    with feeding(publisher_of(hub), sent):
        sessions = [Running(lake, source, "0", publisher)]
        wait_until(lambda: row_count(lake, "silver"), "the first commit")
        for number in range(1, 4):
            sessions.append(Running(lake, source, str(number), publisher))
            totals = sessions[-2].join()
            assert sessions[-2].session.is_handed_over
            assert totals.events > 0
            wait_until(partial(is_active, lake, str(number)), "the next session's turn")
            wait_until(partial(has_more, lake, row_count(lake, "silver")), "its first commit")
    wait_until(lambda: row_count(lake, "bronze") == len(sent), "the last events")
    sessions[-1].end()
    assert not sessions[-1].session.is_handed_over
    assert_exact(lake, source)
    published = [alert for _, alert in publisher.published]
    assert len(published) == rows(lake, "alerts").height > 0


def test_a_second_successor_is_not_needed_and_ends(hub: RunningHub, tmp_path: Path) -> None:
    lake, source, publisher = lake_in(tmp_path), source_of(hub, "glucose"), MemoryPublisher()
    waiting = Lease.of(Path(lake.root) / "leases", CONTRACT.stream, "waits")
    at_work = Lease.of(Path(lake.root) / "leases", CONTRACT.stream, "works")
    assert at_work.active.take()
    assert waiting.successor.take()
    third = Running(lake, source, "third", publisher)
    assert third.join() == Totals()
    waiting.release()
    at_work.release()


def test_a_successor_that_is_asked_to_stop_while_it_waits_ends(hub: RunningHub, tmp_path: Path) -> None:
    lake, source, publisher = lake_in(tmp_path), source_of(hub, "glucose"), MemoryPublisher()
    at_work = Lease.of(Path(lake.root) / "leases", CONTRACT.stream, "works")
    assert at_work.active.take()
    second = Running(lake, source, "second", publisher)
    wait_until(at_work.successor.is_held_elsewhere, "the second session's preparation")
    second.end()
    assert not at_work.successor.is_held_elsewhere()
    at_work.release()


@pytest.mark.parametrize("work", ["rebuild", "replay", "swap"])
def test_whoever_makes_todays_rows_anew_takes_a_turn_and_the_session_goes_on(
    hub: RunningHub, tmp_path: Path, work: str
) -> None:
    lake, source, publisher, sent = lake_in(tmp_path), source_of(hub, "glucose"), MemoryPublisher(), list[bytes]()
    lease = Lease.of(Path(lake.root) / "leases", CONTRACT.stream, work)
    with feeding(publisher_of(hub), sent):
        session = Running(lake, source, "0", publisher)
        wait_until(lambda: row_count(lake, "silver") > 50, "some commits")
        if work == "rebuild":
            rebuilt = rebuild(CONTRACT, lake, datetime.now(UTC).date(), lease=lease)
            assert rebuilt.after["silver"] >= rebuilt.before["silver"] > 50
            assert rebuilt.new_alerts == 0
        elif work == "replay":
            send(hub, "glucose", [body(reading(0, "a word", timestamp=datetime.now(UTC).isoformat()))])
            replay(CONTRACT, lake, lease=lease)
        else:
            derive(CONTRACT, lake)
            swap(CONTRACT, lake, lease=lease)
        reached = row_count(lake, "silver")
        wait_until(lambda: row_count(lake, "silver") > reached + 20, "the session goes on")
        assert session.is_alive
    wait_until(lambda: row_count(lake, "bronze") >= len(sent), "the last events")
    session.end()
    assert_exact(lake, source)


def test_what_people_do_reaches_alarms_over_a_turn_and_a_hand_over(hub: RunningHub, tmp_path: Path) -> None:
    lake, source, publisher = lake_in(tmp_path), source_of(hub, "glucose"), MemoryPublisher()
    of_actions = MemoryHub("alarm_actions", partitions=1)

    def act(number: int, what: str, **more: str) -> None:
        action = {
            "action_id": f"a{number}",
            "alarm_id": alarm,
            "stream": CONTRACT.stream,
            "action": what,
            "by": "nurse",
        }
        of_actions.send([body(action, timestamp=datetime.now(UTC).isoformat(), **more)], datetime.now(UTC))
        run_session(lake, of_actions, contract=ACTIONS, clock=lambda: datetime.now(UTC))

    def kinds() -> list[str]:
        of_alarm = pl.col("alarm_id") == alarm
        return rows(lake, "alarms").filter(of_alarm, ~pl.col("is_update")).sort("index")["kind"].to_list()

    with feeding(publisher_of(hub), []):
        first = Running(lake, source, "0", publisher)
        wait_until(lambda: row_count(lake, "alarms"), "an alarm")
        alarm = rows(lake, "alarms")["alarm_id"][0]
        act(1, "acknowledge")
        wait_until(lambda: "acknowledged" in kinds(), "the first action")
        act(2, "comment")
        rebuild(
            CONTRACT, lake, datetime.now(UTC).date(), lease=Lease.of(Path(lake.root) / "leases", CONTRACT.stream, "r")
        )
        wait_until(lambda: "commented" in kinds(), "the action that came beside a rebuild")
        second = Running(lake, source, "1", publisher)
        act(3, "snooze", until=(datetime.now(UTC) + timedelta(hours=1)).isoformat())
        first.join()
        act(4, "close")
        wait_until(lambda: "closed" in kinds(), "the action that came after a hand-over")
    second.end()
    assert kinds()[:1] == ["raised"]
    told = [kind for kind in kinds() if kind not in ("raised", "worsened", "eased", "reminded", "escalated")]
    assert told == ["acknowledged", "commented", "snoozed", "closed"]
    of_alarm = rows(lake, "alarms").filter(pl.col("alarm_id") == alarm, ~pl.col("is_update"))
    assert sorted(of_alarm["index"]) == [*range(of_alarm.height)]


def test_a_successor_follows_also_after_silence_and_over_midnight(hub: RunningHub, tmp_path: Path) -> None:
    lake, source = lake_in(tmp_path), source_of(hub, "glucose")
    midnight, shift = datetime(2026, 11, 24, tzinfo=UTC), [timedelta(0)]

    def clock() -> datetime:
        return midnight - timedelta(seconds=30) + shift[0]

    stop, totals = threading.Event(), list[Totals]()
    session = Session(CONTRACT, lake, source, MemoryPublisher(), limits=LIMITS, clock=clock, should_stop=stop.is_set)
    thread = threading.Thread(target=lambda: totals.append(session.run()), daemon=True)
    thread.start()
    send(hub, "glucose", [body(reading(0, timestamp=(midnight - timedelta(minutes=1)).isoformat()))])
    wait_until(lambda: row_count(lake, "silver") == 1, "the day before")
    shift[0] = timedelta(minutes=1)
    send(hub, "glucose", [body(reading(1, timestamp=midnight.isoformat()))])
    wait_until(lambda: row_count(lake, "silver") == 2, "the day after")
    stop.set()
    thread.join(PATIENCE_S)
    assert totals[0].events == 2
    assert rows(lake, "bronze")["ingest_date"].n_unique() == 2
