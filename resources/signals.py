"""Signals that ask the process to end, put off until its work can be left."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

_NUMBERS = (signal.SIGINT, signal.SIGTERM)


class DeferredSignals:
    """Within the block the first signal is only noted, a second one acts at once; `deliver` then lets the first act.

    On a thread other than the main one, where Python has no signals, nothing is ever noted.
    """

    def __init__(self) -> None:
        self._noted: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in _NUMBERS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    @property
    def is_noted(self) -> bool:
        """Whether the process was asked to end."""
        return self._noted is not None

    def deliver(self) -> None:
        """Raises a noted signal again, for the handler that is in place now."""
        if self._noted is not None:
            number, self._noted = self._noted, None
            signal.raise_signal(number)

    def _note(self, number: int, _: FrameType | None) -> None:
        self._noted = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
