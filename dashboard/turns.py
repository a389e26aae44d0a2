"""Turns at something that costs much: a few at the same time, a bounded number that waits, and the rest is refused."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from threading import Lock


class BusyError(Exception):
    """As many wait as may, or the turn did not come in time."""


class Turns:
    """Who may do something now, first come first served. Threads and coroutines may ask.

    Args:
        at_once: how many at the same time.
        waiting: how many more may wait for it.
    """

    def __init__(self, at_once: int, waiting: int) -> None:
        self._lock, self._free, self._most_waiting = Lock(), at_once, waiting
        self._waiting = deque[Future[None]]()

    def is_busy(self) -> bool:
        """Whether nobody else may wait."""
        with self._lock:
            return self._free == 0 and len(self._waiting) >= self._most_waiting

    @contextmanager
    def turn(self, wait_s: float) -> Iterator[None]:
        """Waits for a turn in this thread, and has it until the block ends.

        Args:
            wait_s: how long it is waited for.

        Raises:
            BusyError: as many wait as may, or the turn did not come in time.
        """
        asked = self._ask()
        try:
            try:
                asked.result(wait_s)
            except TimeoutError:
                raise BusyError from None
            yield
        finally:
            self._leave(asked)

    @asynccontextmanager
    async def awaited(self) -> AsyncIterator[None]:
        """Waits for a turn without a thread, and has it until the block ends.

        Raises:
            BusyError: as many wait as may.
        """
        asked = self._ask()
        try:
            await asyncio.wrap_future(asked)
            yield
        finally:
            self._leave(asked)

    def _ask(self) -> Future[None]:
        """What is done once the turn has come."""
        asked = Future[None]()
        with self._lock:
            if self._free:
                self._free -= 1
                asked.set_result(None)
            elif len(self._waiting) < self._most_waiting:
                self._waiting.append(asked)
            else:
                raise BusyError
        return asked

    def _leave(self, asked: Future[None]) -> None:
        """Passes the turn on, or gives up the place of one that has not come."""
        with self._lock:
            if asked in self._waiting:
                self._waiting.remove(asked)
                return
            if asked.cancelled():
                # Whoever left before has seen that nobody waits here any more.
                return
            while self._waiting:
                following = self._waiting.popleft()
                # A coroutine that is cancelled has not come here yet.
                if following.set_running_or_notify_cancel():
                    following.set_result(None)
                    return
            self._free += 1
