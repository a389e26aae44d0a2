"""Turns of threads and coroutines: as many at once as may, the rest in the order in which they came, or refused."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Barrier, Lock

import pytest

from dashboard.turns import BusyError, Turns
from tests.dashboard.world import wait_until


def test_as_many_have_a_turn_and_wait_as_may_and_others_are_refused_at_once() -> None:
    turns = Turns(1, 1)
    with ThreadPoolExecutor(1) as pool, ExitStack() as first:
        first.enter_context(turns.turn(0))
        assert not turns.is_busy()
        second = pool.submit(_had, turns, 20)
        wait_until(turns.is_busy, "the second one")
        with pytest.raises(BusyError), turns.turn(20):
            pass
        first.close()
        assert second.result(20)
    assert _had(turns, 0)


def test_who_has_waited_too_long_leaves_the_place_to_others() -> None:
    turns = Turns(1, 1)
    with turns.turn(0):
        for _ in range(3):
            assert not _had(turns, 0.01)
    assert _had(turns, 0)


def test_a_coroutine_that_is_cancelled_takes_no_turn_along() -> None:
    turns = Turns(1, 5)

    async def main() -> list[str]:
        had: list[str] = []

        async def one(name: str) -> None:
            async with turns.awaited():
                had.append(name)
                await asyncio.sleep(0)

        async with turns.awaited():
            waiting = [asyncio.create_task(one(name)) for name in "abcd"]
            await asyncio.sleep(0)
            waiting[0].cancel()
            waiting[2].cancel()
        # Another one is cancelled after its turn has come, and before it knows.
        waiting[1].cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        return had

    assert asyncio.run(main()) == ["d"]
    assert _had(turns, 0)


def test_threads_and_coroutines_are_never_more_at_once_than_may() -> None:
    turns, lock, at_work, most = Turns(2, 100), Lock(), [0], [0]

    def count(by: int) -> None:
        with lock:
            at_work[0] += by
            most[0] = max(most[0], at_work[0])

    def of_thread(barrier: Barrier) -> None:
        barrier.wait(300)
        for _ in range(50):
            with turns.turn(20):
                count(1)
                count(-1)

    async def of_loop() -> None:
        async def one() -> None:
            async with turns.awaited():
                count(1)
                await asyncio.sleep(0)
                count(-1)

        for _ in range(10):
            await asyncio.gather(*(one() for _ in range(10)))

    barrier = Barrier(4)
    with ThreadPoolExecutor(4) as pool:
        threads = [pool.submit(of_thread, barrier) for _ in range(4)]
        asyncio.run(of_loop())
        for each in threads:
            each.result(60)
    assert 1 <= most[0] <= 2
    with turns.turn(0), turns.turn(0):
        assert not _had(turns, 0.01)


def _had(turns: Turns, wait_s: float) -> bool:
    try:
        with turns.turn(wait_s):
            return True
    except BusyError:
        return False
