"""What a server answered to a library that keeps it to itself, and an end to everything that it is sent.

apprise says of a message whether it was taken, not why not. Its plugins use `requests`; so the one method of `requests`
through which everything goes is wrapped once, and notes the answers of a thread that asks for it. The timeouts of
`requests` and `smtplib` are those of a single wait: a server that sends a byte now and then would hold a thread for
hours. So the two functions by which they connect are wrapped too, and the connections are shut down when time is over.
Other threads, and other users of these libraries, notice nothing.
"""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import requests
from urllib3.util import connection as urllib3_connection

LONGEST_S, LONGEST_ANSWER_BYTES = 30.0, 1 << 20
"""How long a message takes at most, from the first connection to the end of the answer, and how much of it is read."""
_PIECE_BYTES = 4096


@dataclass
class Seen:
    """The answers to the requests of one thread.

    Attributes:
        statuses: in their order.
        retry_after: what the last answer that had it said in the header Retry-After.
        failure: the type of the last error, where no answer came.
        is_over: whether it took too long and was ended.
    """

    statuses: list[int] = field(default_factory=list)
    retry_after: str = ""
    failure: str = ""
    is_over: bool = False
    _sockets: list[socket.socket] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def watch(self, connected: socket.socket) -> socket.socket:
        """Has a connection shut down when time is over.

        Raises:
            TimeoutError: it is over already.
        """
        with self._lock:
            if self.is_over:
                connected.close()
                raise TimeoutError
            # TLS takes the socket's descriptor over; another one of the same connection stays.
            self._sockets.append(connected.dup())
        return connected

    def end(self) -> None:
        """Shuts the connections down, so that whoever waits for them goes on."""
        with self._lock:
            self.is_over = True
            for each in self._sockets:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Lets the connections go."""
        with self._lock:
            for each in self._sockets:
                each.close()
            self._sockets.clear()


_of_thread = threading.local()


@contextmanager
def observed() -> Iterator[Seen]:
    """Within the block the requests of this thread are noted, and end after `LONGEST_S`."""
    seen = _of_thread.seen = Seen()
    timer = threading.Timer(LONGEST_S, seen.end)
    timer.daemon = True
    timer.start()
    try:
        yield seen
    finally:
        timer.cancel()
        _of_thread.seen = None
        seen.close()


def _seen() -> Seen | None:
    found: Seen | None = getattr(_of_thread, "seen", None)
    return found


def _watched(connect: Callable[..., socket.socket]) -> Callable[..., socket.socket]:
    @wraps(connect)
    def connected(*arguments: Any, **options: Any) -> socket.socket:
        opened, seen = connect(*arguments, **options), _seen()
        return opened if seen is None else seen.watch(opened)

    return connected


_send = requests.Session.send


@wraps(_send)
def _sent(self: requests.Session, request: requests.PreparedRequest, **options: Any) -> requests.Response:
    if (seen := _seen()) is None:
        return _send(self, request, **options)
    # A message goes where its address says: a redirect would take the secret elsewhere.
    options |= {"stream": True, "allow_redirects": False}
    try:
        response = _send(self, request, **options)
        _read(response, seen)
    except requests.RequestException as error:
        seen.failure = type(error).__name__
        raise
    seen.statuses.append(response.status_code)
    seen.retry_after = response.headers.get("Retry-After", seen.retry_after)
    return response


def _read(response: requests.Response, seen: Seen) -> None:
    """Reads an answer to its end, or to the limits."""
    content = b""
    for piece in response.iter_content(_PIECE_BYTES):
        content += piece
        if len(content) > LONGEST_ANSWER_BYTES:
            break
    # One that was shut down looks as if it had ended.
    if seen.is_over or len(content) > LONGEST_ANSWER_BYTES:
        response.close()
        raise requests.ReadTimeout("the answer did not end")
    response._content = content


# Plugins of apprise make their sessions themselves, so none can be handed to them.
requests.Session.send = _sent  # type: ignore[method-assign]
# `requests` connects by the first, `smtplib` and what else apprise has by the second.
urllib3_connection.create_connection = _watched(urllib3_connection.create_connection)
socket.create_connection = _watched(socket.create_connection)
