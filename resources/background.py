"""Work beside other work, on threads.

`Background` is for work that may hang: whoever waits for it waits no longer than told, and its daemon threads keep no
process. A thread of `concurrent.futures` would, since Python joins those when it ends. `ahead` is for work that ends.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

_In = TypeVar("_In")
_Out = TypeVar("_Out")

MAX_THREADS = 8


def ahead(items: Generator[_Out, None, None]) -> Generator[_Out, None, None]:
    """What a generator gives; a thread makes the next one while one is used, and closes the generator at the end.

    No other thread enters the generator, since connections of databases may belong to the one that opened them. Whoever
    stops waits for the one that is being made: so the generator must wait for nothing without an end, and make no None.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as thread:
        try:
            waiting = thread.submit(next, items, None)
            while (item := waiting.result()) is not None:
                waiting = thread.submit(next, items, None)
                yield item
        finally:
            thread.submit(items.close).result()


class Background(Generic[_In, _Out]):
    """Calls a function for each item, several at a time.

    Args:
        work: what is called; after an exception no further item is begun.
        items: what it is called with.
        name: of the threads.
    """

    def __init__(self, work: Callable[[_In], _Out], items: Iterable[_In], name: str) -> None:
        self._work = work
        self._waiting = deque(enumerate(items))
        self._missing = len(self._waiting)
        self._results: dict[int, _Out] = {}
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._threads = [
            threading.Thread(target=self._run, name=name, daemon=True)
            for _ in range(min(MAX_THREADS, len(self._waiting)))
        ]
        for thread in self._threads:
            thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether a thread is at work."""
        return any(thread.is_alive() for thread in self._threads)

    def join(self, seconds: float) -> bool:
        """Waits until all threads have ended.

        Returns:
            Whether they have.
        """
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not self.is_alive

    def results(self, seconds: float) -> list[_Out]:
        """What the calls returned, in the order of the items.

        Raises:
            TimeoutError: not all calls ended in time; they go on.
            Exception: what a call raised first.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._error is not None or not self._missing, max(0.0, seconds))
            if self._error is not None:
                raise self._error
            if self._missing:
                raise TimeoutError("no answer")
            return [self._results[number] for number in sorted(self._results)]

    def _run(self) -> None:
        while self._error is None:
            try:
                number, item = self._waiting.popleft()
            except IndexError:
                return
            try:
                result = self._work(item)
            except BaseException as error:
                with self._changed:
                    self._error = self._error or error
                    self._changed.notify_all()
                return
            with self._changed:
                self._results[number] = result
                self._missing -= 1
                self._changed.notify_all()
