"""What comes onto the board: from silver, and from hubs behind what silver has."""

import json
import threading
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import dashboard.feed as feed_module
from assets.glucose.assets import CONTRACT
from dashboard.board import Board
from dashboard.directory import Directory
from dashboard.feed import CATCH_UP, Alarms, Readings, _Reader, thinned
from dashboard.site import CONTRACTS_WITH_ALARMS
from resources.event_source import HubState, HubUnavailableError, Tail
from resources.lake import Lake
from tests.dashboard.test_board import shown
from tests.dashboard.world import wait_until
from tests.stream.hubs import MemoryHub, MemoryPublisher
from tests.stream.scenarios import NOON, body, lake_in, reading, run_session, ticking

BEGIN = NOON - timedelta(hours=1)
COLUMNS = ("patient_id", "device_id", "measured_at", "glucose_mg_dl", "range_flag")


def at(minute: float) -> datetime:
    return BEGIN + timedelta(minutes=minute)


def readings_of(lake: Lake, board: Board) -> Readings:
    return Readings(CONTRACT, lake, board.take_glucose, COLUMNS, lambda: NOON)


def alarms_of(lake: Lake, board: Board) -> Alarms:
    return Alarms(CONTRACTS_WITH_ALARMS, lake, board, Directory(lake), lambda: None, lambda: NOON)


def test_the_page_goes_on_where_silver_ends(tmp_path: Path) -> None:
    lake, hub, board = lake_in(tmp_path), MemoryHub(partitions=2), Board()
    hub.send([body(reading(50, 90)), body(reading(55, 80))], at(56))
    hub.send([body(reading(50, 120, patient=2))], at(56), 1)
    run_session(lake, hub, clock=ticking(at(57)))
    hub.send([body(reading(58, 70)), b"no reading", body(reading(59, 9_999))], at(59))
    readings = readings_of(lake, board)
    after = readings.begin(hub.state())
    assert after == {0: 1, 1: 0}
    assert [shown(board, key)["glucose"][0] for key in ("1", "2")] == [80.0, 120.0]
    with hub.receive(after) as receiver:
        pulled = receiver.take(0)
    assert [len(each.bodies) for each in pulled] == [3]
    readings.take(pulled, NOON)
    # What silver would refuse is not shown.
    assert shown(board)["glucose"][0] == 70.0


def test_a_device_whose_clock_is_ahead_hides_no_low_of_another_one(tmp_path: Path) -> None:
    lake, hub, board = lake_in(tmp_path), MemoryHub(partitions=1), Board()
    hub.send([body(reading(59, 110))], at(50))
    run_session(lake, hub, clock=ticking(at(51)))
    readings = readings_of(lake, board)
    after = readings.begin(hub.state())
    hub.send([body(reading(61, 108))], at(52))
    hub.send([body(reading(54, 45, device=11))], at(54))
    with hub.receive(after) as receiver:
        readings.take(receiver.take(0), NOON)
    assert shown(board)["glucose"][:2] == [45.0, at(54).timestamp() * 1000]


def test_an_empty_lake_is_no_obstacle_and_a_long_backlog_is_not_read(tmp_path: Path) -> None:
    readings = readings_of(lake_in(tmp_path), Board())
    assert readings.begin(HubState(1, {0: Tail(0, -1), 1: Tail(0, 5)})) == {}
    assert readings.begin(HubState(1, {0: Tail(7, 5 * CATCH_UP)})) == {0: 4 * CATCH_UP}
    assert readings.begin(HubState(1, {0: Tail(100, 110)})) == {0: 99}


def test_offsets_of_a_hub_that_was_made_anew_do_not_count(tmp_path: Path) -> None:
    lake, hub, board = lake_in(tmp_path), MemoryHub(partitions=1), Board()
    hub.send([body(reading(50, 90)), body(reading(55, 80))], at(56))
    run_session(lake, hub, clock=ticking(at(57)))
    again = MemoryHub(partitions=1)
    again.identity = 2
    again.send([body(reading(58, 70))], at(59))
    assert readings_of(lake, board).begin(again.state()) == {}


def test_alarms_are_there_from_their_table_and_go_on_by_what_is_told(tmp_path: Path) -> None:
    lake, hub, board, publisher = lake_in(tmp_path), MemoryHub(partitions=1, take=1), Board(), MemoryPublisher()
    hub.send([body(reading(50, 66))], at(50))
    run_session(lake, hub, alarms=publisher, clock=ticking(at(51), timedelta(0)))
    alarms = alarms_of(lake, board)
    alarms.begin(HubState(1, {0: Tail(0, -1)}))
    [alarm] = shown(board)["alarms"]
    assert (alarm["cause"], alarm["severity"], alarm["since"]) == ("glucose_low", "warning", at(50).timestamp() * 1000)
    hub.send([body(reading(53, 50))], at(53))
    run_session(lake, hub, alarms=publisher, clock=ticking(at(54), timedelta(0)))
    told = MemoryHub("alarms", partitions=1)
    told.send([b"no transition", b"{}", b'{"stream": "x"}', *(each for _, each in publisher.published)], at(55))
    with told.receive({}) as receiver:
        alarms.take(receiver.take(0), NOON)
    [alarm] = shown(board)["alarms"]
    assert (alarm["severity"], alarm["value"], alarm["index"]) == ("urgent", 50.0, 1)
    # The table says the same, and what the alarm has come to besides.
    before = dict(alarm)
    alarms.read()
    assert shown(board)["alarms"] == [before]


def told(**more: Any) -> bytes:
    """An event of the hub of alarms; what is None is left out."""
    said = {
        **{"alarm_id": "a1", "index": 0, "transition": "raised", "stream": "glucose_readings", "patient_id": 1},
        **{"cause": "glucose_low", "severity": "urgent", "state": "unacknowledged", "value": 50.0},
        **{"at": NOON.isoformat(), "decided_at": NOON.isoformat(), "raised_at": NOON.isoformat()},
    } | more
    return json.dumps({name: value for name, value in said.items() if value is not None}).encode()


def test_an_alarm_that_no_table_has_stays_until_something_later_is_stored(tmp_path: Path) -> None:
    lake, hub, board = lake_in(tmp_path), MemoryHub(partitions=1), Board()
    hub.send([body(reading(50, 66))], at(50))
    run_session(lake, hub, clock=ticking(at(51), timedelta(0)))
    alarms, of_alarms = alarms_of(lake, board), MemoryHub("alarms", partitions=1)
    alarms.read()
    instant = at(52).isoformat()
    of_alarms.send([told(patient_id=2, at=instant, decided_at=instant, raised_at=instant)], at(52))
    with of_alarms.receive({}) as receiver:
        alarms.take(receiver.take(0), at(52))
    alarms.read()
    assert [each["id"] for each in shown(board, "2")["alarms"]] == ["a1"]
    hub.send([body(reading(53, 50))], at(53))
    run_session(lake, hub, clock=ticking(at(54), timedelta(0)))
    alarms.read()
    assert shown(board, "2")["alarms"] == []


@pytest.mark.parametrize(
    "odd",
    [
        {"severity": "dreadful"},
        {"severity": None},
        {"state": "asleep"},
        {"raised_at": None},
        {"patient_id": None},
        {"patient_id": "one"},
        {"index": "0"},
        {"decided_at": "yesterday"},
    ],
)
def test_an_event_that_no_board_can_show_stops_nothing(tmp_path: Path, odd: dict[str, Any]) -> None:
    board, hub = Board(), MemoryHub("alarms", partitions=1)
    alarms = alarms_of(lake_in(tmp_path), board)
    hub.send([told(**odd), told(alarm_id="a2")], NOON)
    with hub.receive({}) as receiver:
        alarms.take(receiver.take(0), NOON)
    assert [alarm["id"] for alarm in shown(board)["alarms"]] == ["a2"]


@pytest.mark.parametrize(("by_column", "kept"), [(True, {"a": 3, "b": 2}), (False, {"a": 3, "b": None})])
def test_of_half_a_minute_one_row_is_left(by_column: bool, kept: dict[str, Any]) -> None:
    rows = pl.LazyFrame(
        {"who": [1, 1, 1, 2], "measured_at": [at(0), at(0.1), at(0.2), at(0)], "a": [1, 2, 3, 4], "b": [1, 2, None, 4]}
    )
    found = thinned(rows, "who", by_column=by_column).collect().sort("who")
    assert found["measured_at"].to_list() == [at(0.2), at(0)]
    assert found.row(0, named=True) | kept == found.row(0, named=True)


class HangingHub(MemoryHub):
    """A hub that answers its first question, and later ones when it may."""

    def __init__(self) -> None:
        super().__init__(partitions=1)
        self.asked, self.may_answer, self.is_gone = 0, threading.Event(), False

    def state(self) -> HubState:
        self.asked += 1
        if self.asked > 1:
            assert self.may_answer.wait(300)
        if self.is_gone:
            raise HubUnavailableError("it is gone")
        return super().state()


def test_a_hub_that_does_not_answer_is_told_of_before_the_question_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("LOOK_AFTER_S", 0.0), ("PATIENCE_S", 0.1), ("TAKE_S", 0.01), ("AGAIN_S", 0.01)):
        monkeypatch.setattr(feed_module, name, seconds)
    hub, stop = HangingHub(), threading.Event()
    reader = _Reader(readings_of(lake_in(tmp_path), Board()), hub, stop, lambda: NOON, 0.0)
    thread = threading.Thread(target=reader.run)
    thread.start()
    try:
        wait_until(lambda: reader.told() == "does not answer", "word of the hub that hangs")
        hub.is_gone = True
        hub.may_answer.set()
        wait_until(lambda: "since" in reader.told(), "the failure")
        hub.is_gone = False
        wait_until(lambda: not reader.told(), "the hub's return")
    finally:
        stop.set()
        hub.may_answer.set()
        thread.join(300)
    assert not thread.is_alive()
