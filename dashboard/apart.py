"""What takes much memory is done in a process of its own, which ends afterwards, so that the server stays small.

What the page of data quality counts loads Dagster, and a preview of a rule evaluates millions of readings. The server
sends what is to be done and gets what came of it, both pickled, through pipes that nobody else has. There are few such
processes at a time, each ends after a time, and none outlives the server, however that ends.
"""

import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from importlib import import_module
from typing import Any

from dashboard.turns import BusyError, Turns
from resources.logs import tell

_log = logging.getLogger(__name__)

AT_ONCE, WAITING, WAIT_S, LONGEST_S = 2, 8, 30.0, 120.0
"""How many there are, how many more may wait for their turn and how long, and how long the work may take. Whoever waits
has one of the server's 40 threads, and the others are needed for those who acknowledge alarms."""
AGAIN_AFTER_S = 60
"""When somebody who had no turn may ask again."""
NICENESS = 5
"""People who watch the ward come first."""


class ApartError(RuntimeError):
    """It was not done; the message says why, for people."""


class Apart:
    """Has functions run in processes of their own. It may be used by several threads.

    Args:
        at_once: how many run at a time.
        waiting: how many more may wait for their turn; the rest is refused at once.
        wait_s: how long a turn is waited for.
        longest_s: how long one may take.
    """

    def __init__(
        self, at_once: int = AT_ONCE, waiting: int = WAITING, wait_s: float = WAIT_S, longest_s: float = LONGEST_S
    ) -> None:
        self._turns, self._wait_s, self._longest_s = Turns(at_once, waiting), wait_s, longest_s
        self._lock, self._running, self._is_closed = threading.Lock(), set[subprocess.Popen[bytes]](), False

    def close(self) -> None:
        """Ends what runs; nothing is begun any more."""
        with self._lock:
            self._is_closed = True
            for process in self._running:
                process.kill()

    def do(self, function: str, *given: Any, raises: tuple[type[Exception], ...] = ()) -> Any:
        """What a function returns.

        Args:
            function: its module and name, ``dashboard.quality:found``.
            given: its arguments; they and what it returns can be pickled.
            raises: which of its errors are raised here too; they can be pickled.

        Raises:
            ApartError: it had no turn in time, could not begin, took too long, failed with another error, or the server
                ends.
        """
        try:
            with self._turns.turn(self._wait_s):
                is_done, found = self._answer(pickle.dumps((function, given)))
        except BusyError:
            raise ApartError("Others have much computed at this moment. Try again in a minute.") from None
        if is_done:
            return found
        if isinstance(found, raises):
            raise found
        # The text of an error may quote a reading.
        raise ApartError(f"It could not be computed ({type(found).__name__}). Try again; if that fails too, tell us.")

    def _answer(self, task: bytes) -> tuple[bool, Any]:
        process = self._begin()
        timer = threading.Timer(self._longest_s, process.kill)
        try:
            timer.start()
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                process.stdin.write(task)
                process.stdin.flush()
                answer: tuple[bool, Any] = pickle.loads(process.stdout.read())
            except (OSError, EOFError, pickle.UnpicklingError) as error:
                raise ApartError(
                    f"It was not computed within {self._longest_s:.0f} s, or ended before. Ask for less, or try again."
                ) from error
            return answer
        finally:
            timer.cancel()
            process.kill()
            for pipe in (process.stdin, process.stdout):
                # A task that could not be written is tried once more, and fails once more.
                with suppress(OSError):
                    if pipe is not None:
                        pipe.close()
            process.wait()
            with self._lock:
                self._running.discard(process)

    def _begin(self) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._is_closed:
                raise ApartError("The server ends. Try again when it is back.")
            command = [sys.executable, "-m", "dashboard.apart"]
            try:
                process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            except OSError as error:
                # Too many files are open, or there is no memory or no place for another process.
                tell(_log, "a process was not started", logging.ERROR, error=str(error.strerror))
                raise ApartError(
                    f"The server cannot begin to compute it ({error.strerror}). Try again in a minute; if that fails "
                    "too, tell an administrator."
                ) from error
            self._running.add(process)
        return process


def main() -> None:
    """One task: it comes on the standard input, whose end is that of the server, and its answer goes to the output."""
    os.nice(NICENESS)
    # Ctrl-C in a terminal comes here too; the server's end is enough.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    # Whatever is printed must not stand among the answer.
    os.dup2(2, 1)
    function, given = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_the_server, daemon=True).start()
    pickle.dump(_done(function, given), answers)
    answers.flush()
    # Threads of libraries would be waited for.
    os._exit(0)


def _done(function: str, given: tuple[Any, ...]) -> tuple[bool, Any]:
    module, _, name = function.partition(":")
    try:
        return True, getattr(import_module(module), name)(*given)
    except BaseException as error:  # a panic of deltalake or Polars is no Exception
        return False, _sendable(error)


def _sendable(error: BaseException) -> BaseException:
    """The error, or one of its name where it cannot be taken apart and put together again."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(type(error).__name__)
    return error


def _end_with_the_server() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


if __name__ == "__main__":
    main()
