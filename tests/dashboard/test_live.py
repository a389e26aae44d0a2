"""What is sent to browsers: to each audience its own patients, once encoded, and no longer than they may see it."""

import asyncio
import gzip
import json
import threading
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dashboard.access import Role, Viewer
from dashboard.board import Board
from dashboard.directory import Directory, People, Person
from dashboard.live import QUEUED, TICK_S, Broadcaster, audience_of
from resources.lake import Lake
from tests.dashboard.test_board import glucose, transition

PATIENCE_S = 60.0


def viewer(visible: frozenset[int] | None, role: Role = Role.CLINICIAN) -> Viewer:
    return Viewer("x", role, "mg/dL", "UTC", frozenset(), visible)


EVERYONE, OWN, OTHER = viewer(None), viewer(frozenset({1}), Role.CAREGIVER), viewer(frozenset({2}), Role.CAREGIVER)
ANALYST = viewer(None, Role.ANALYST)


@dataclass
class Station:
    """A broadcaster with a board of two patients, and viewers by their sessions."""

    folder: Path
    board: Board = field(default_factory=Board)
    viewers: dict[str, Viewer] = field(default_factory=dict)
    rights: int = 0

    def __post_init__(self) -> None:
        self.board.take_glucose(glucose((1, 0, 90), (2, 0, 100)))
        self.directory = Directory(Lake(str(self.folder)))
        self.directory.people = People({number: _person(number) for number in (1, 2)})
        self.live = Broadcaster(
            self.board, self.directory, lambda: datetime.now(UTC), self.viewers.get, lambda: self.rights
        )
        self.live.troubles = lambda: ""

    def watch(self, who: Viewer, session: str = "", *, packed: bool = False) -> AsyncIterator[bytes]:
        self.viewers[session or str(who)] = who
        return self.live.stream(who, session or str(who), packed=packed)


def _person(number: int) -> Person:
    return Person(number, f"Name {number}", None, None, None, frozenset({"north"}), "days")


def run(folder: Path, story: Callable[[Station], Awaitable[None]]) -> None:
    """Has a station at work while a story is told."""

    async def told() -> None:
        station = Station(folder)
        task = asyncio.create_task(station.live.run())
        try:
            await asyncio.wait_for(story(station), PATIENCE_S)
        finally:
            task.cancel()

    asyncio.run(told())


def parsed(block: bytes) -> tuple[str, dict[str, Any]]:
    event, data = block.decode().strip().split("\n")
    return event.removeprefix("event: "), json.loads(data.removeprefix("data: "))


async def rows_until(stream: AsyncIterator[bytes], key: str) -> list[dict[str, Any]]:
    """The rows of messages up to the first one with a row of this key."""
    found: list[dict[str, Any]] = []
    async for block in stream:
        found += parsed(block)[1]["rows"]
        if key in [row["key"] for row in found]:
            return found
    raise AssertionError("the stream ended")


def test_a_browser_gets_a_snapshot_and_then_what_changes(tmp_path: Path) -> None:
    async def story(station: Station) -> None:
        stream = station.watch(EVERYONE)
        kind, first = parsed(await anext(stream))
        assert (kind, [row["key"] for row in first["rows"]]) == ("snapshot", ["1", "2"])
        assert first["people"] == {"1": ["Name 1", ["north"], "days"], "2": ["Name 2", ["north"], "days"]}
        station.board.take_glucose(glucose((2, 1, 55)))
        [row] = await rows_until(stream, "2")
        assert row["glucose"][0] == 55.0

    run(tmp_path, story)


def test_a_caregiver_never_gets_another_patient(tmp_path: Path) -> None:
    async def story(station: Station) -> None:
        streams = [station.watch(OWN), station.watch(OTHER), station.watch(EVERYONE)]
        first = [parsed(await anext(stream))[1] for stream in streams]
        assert [[*each["people"]] for each in first] == [["1"], ["2"], ["1", "2"]]
        assert [[row["key"] for row in each["rows"]] for each in first] == [["1"], ["2"], ["1", "2"]]
        station.board.take_glucose(glucose((2, 1, 55)))
        station.board.take_alarms([transition(0, entity=2)], {})
        await rows_until(streams[1], "2")
        station.board.take_glucose(glucose((1, 1, 60)))
        assert {row["key"] for row in await rows_until(streams[0], "1")} == {"1"}

    run(tmp_path, story)


def test_a_device_without_open_alarms_is_in_no_snapshot(tmp_path: Path) -> None:
    async def story(station: Station) -> None:
        of_device: dict[str, Any] = {"of_device": True, "entity": 9}
        station.board.take_alarms([transition(0, **of_device)], {})
        _, first = parsed(await anext(station.watch(EVERYONE, "s1")))
        assert [row["key"] for row in first["rows"]] == ["1", "2", "d9"]
        station.board.take_alarms([transition(1, "cleared", "cleared", **of_device)], {})
        _, second = parsed(await anext(station.watch(EVERYONE, "s2")))
        assert [row["key"] for row in second["rows"]] == ["1", "2"]

    run(tmp_path, story)


def test_an_analyst_gets_neither_names_nor_who_acted(tmp_path: Path) -> None:
    async def story(station: Station) -> None:
        station.board.take_alarms([transition(1, "acknowledged", "acknowledged", actor="nora")], {})
        for who, person, by in (
            (EVERYONE, ["Name 1", ["north"], "days"], "nora"),
            (ANALYST, ["Patient 1", ["north"], ""], ""),
        ):
            _, first = parsed(await anext(station.watch(who)))
            assert first["people"]["1"] == person
            assert first["rows"][0]["alarms"][0]["by"] == by

    run(tmp_path, story)


def test_packed_blocks_are_the_plain_ones_also_for_who_joins_late(tmp_path: Path) -> None:
    async def story(station: Station) -> None:
        early, plain = station.watch(EVERYONE, packed=True), station.watch(EVERYONE)
        first = await anext(early)
        await anext(plain)
        late = station.watch(EVERYONE, packed=True)
        start = await anext(late)
        station.board.take_glucose(glucose((2, 1, 55)))
        for began, stream in ((first, early), (start, late)):
            unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
            assert parsed(unpacker.decompress(began))[0] == "snapshot"
            texts = [unpacker.decompress(await anext(stream)) for _ in range(2)]
            assert any(parsed(text)[1]["rows"] for text in texts)

    run(tmp_path, story)
    assert gzip.compress(b"")[:2] == b"\x1f\x8b"


def test_a_browser_hears_something_each_second_though_nothing_changes(tmp_path: Path) -> None:
    async def story(station: Station) -> None:
        stream = station.watch(EVERYONE)
        await anext(stream)
        signs = [parsed(await anext(stream)) for _ in range(3)]
        assert [(kind, data["rows"]) for kind, data in signs] == [("changes", [])] * 3
        assert signs[0][1]["now"] < signs[1][1]["now"] < signs[2][1]["now"]

    run(tmp_path, story)


def test_what_is_wrong_with_the_hubs_is_said_in_each_message(tmp_path: Path) -> None:
    async def story(station: Station) -> None:
        stream = station.watch(EVERYONE)
        await anext(stream)
        station.live.troubles = lambda: "vitals does not answer"
        while parsed(await anext(stream))[1]["trouble"] != "vitals does not answer":
            pass

    run(tmp_path, story)


def test_who_signed_out_is_told_and_gets_nothing_more(tmp_path: Path) -> None:
    async def story(station: Station) -> None:
        stream = station.watch(EVERYONE, "s1")
        await anext(stream)
        del station.viewers["s1"]
        station.rights += 1
        kinds = [parsed(block)[0] async for block in stream]
        assert kinds[-1] == "out"
        assert station.live.clients == 0

    run(tmp_path, story)


def test_a_stream_ends_when_its_viewer_may_see_others_than_before(tmp_path: Path) -> None:
    async def story(station: Station) -> None:
        stream = station.watch(EVERYONE, "s1")
        await anext(stream)
        station.viewers["s1"] = OWN
        station.rights += 1
        assert "out" not in [parsed(block)[0] async for block in stream]

    run(tmp_path, story)


def test_a_browser_that_takes_nothing_is_let_go_and_holds_up_nobody(tmp_path: Path) -> None:
    async def story(station: Station) -> None:
        slow, quick = station.watch(EVERYONE, "slow"), station.watch(EVERYONE, "quick")
        await anext(slow)
        await anext(quick)
        for minute in range(1, QUEUED + 3):
            station.board.take_glucose(glucose((1, minute, 90 + minute)))
            station.live.wake()
            await rows_until(quick, "1")
        assert station.live.clients == 1
        assert [block async for block in slow] == []

    run(tmp_path, story)


def test_a_snapshot_says_what_time_it_is_though_nothing_has_changed(tmp_path: Path) -> None:
    async def story(station: Station) -> None:
        first = parsed(await anext(station.watch(EVERYONE, "s1")))[1]
        await asyncio.sleep(2 * TICK_S)
        station.live.troubles = lambda: "vitals does not answer"
        second = parsed(await anext(station.watch(EVERYONE, "s2")))[1]
        assert second["now"] > first["now"]
        assert second["trouble"] == "vitals does not answer"

    run(tmp_path, story)


def test_a_patient_who_gets_a_name_has_it_on_pages_that_are_open(tmp_path: Path) -> None:
    async def story(station: Station) -> None:
        stream = station.watch(EVERYONE)
        await anext(stream)
        station.directory.people = People({number: _person(number) for number in (1, 2, 3)})
        async for block in stream:
            kind, data = parsed(block)
            if kind == "snapshot":
                assert data["people"]["3"][0] == "Name 3"
                return
        raise AssertionError("the stream ended")

    run(tmp_path, story)


def test_accounts_that_are_locked_do_not_hold_up_other_requests(tmp_path: Path) -> None:
    async def story(station: Station) -> None:
        asked, is_free, waited = threading.Event(), threading.Event(), list[bool]()

        def locked() -> int:
            asked.set()
            waited.append(is_free.wait(PATIENCE_S / 4))
            return 0

        station.live._rights = locked
        assert await asyncio.to_thread(asked.wait, PATIENCE_S)
        is_free.set()
        while not waited:
            await asyncio.sleep(0.01)
        assert waited[0], "the loop went on while the accounts were locked"

    run(tmp_path, story)


@pytest.mark.parametrize("who", [EVERYONE, OWN])
def test_a_snapshot_is_made_once_for_an_audience(tmp_path: Path, who: Viewer) -> None:
    async def story(station: Station) -> None:
        audience = audience_of(who)
        first = station.live.snapshot(audience)
        assert station.live.snapshot(audience) is first
        station.board.take_glucose(glucose((1, 1, 91)))
        assert station.live.snapshot(audience) is not first

    run(tmp_path, story)
