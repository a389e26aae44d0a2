"""Events that come all the time while a test looks at what becomes of them."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime

from resources.event_source import Publisher
from tests.stream.scenarios import body, reading

PATIENCE_S = 300.0


def wait_until(is_so: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < end, what
        time.sleep(0.05)


@contextmanager
def feeding(publisher: AbstractContextManager[Publisher], sent: list[bytes]) -> Iterator[None]:
    """Sends a high reading of one of three patients every 20 ms."""
    stop = threading.Event()

    def feed() -> None:
        with publisher as hub:
            while not stop.wait(0.02):
                at, patient = datetime.now(UTC), len(sent) % 3
                event = body(reading(0, 200 + len(sent) % 7, patient=patient, timestamp=at.isoformat()))
                hub.publish([event], [str(patient)])
                sent.append(event)

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
