"""Servers of HTTP on 127.0.0.1: what all stand-ins for other systems share. What one answers is in its module."""

import json
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qs, urlsplit


class Reply(NamedTuple):
    """An answer; a body that is no bytes becomes JSON."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = {}


class Asked(NamedTuple):
    """A request; the names of its headers are in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any


class Loopback(ABC):
    """`with` an instance serves until the block ends.

    Attributes:
        failures: what the next requests get instead of an answer; None answers one as usual.
        asked: all requests.
        answered: the states of all answers.
        released: set when the server ends.
    """

    def __init__(self) -> None:
        self.failures: deque[Failure | None] = deque()
        self.asked: list[Asked] = []
        self.answered: list[int] = []
        self.released = threading.Event()
        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.loopback = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @abstractmethod
    def reply(self, asked: Asked) -> Reply:
        """The usual answer."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def queries(self) -> list[Mapping[str, str]]:
        """Those of all requests."""
        return [each.query for each in self.asked]

    def fail(self, *failures: "Failure | None") -> None:
        self.failures.extend(failures)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    loopback: Loopback


class Handler(BaseHTTPRequestHandler):
    """One connection; failures act on it."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *arguments: Any) -> None:
        """The tests look at `asked`."""

    def do_GET(self) -> None:
        served, asked = self.server.loopback, self._asked()
        served.asked.append(asked)
        failure = served.failures.popleft() if served.failures else None
        try:
            if callable(failure):
                failure(self)
            else:
                self._answer(failure or served.reply(asked))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_POST = do_GET

    def _asked(self) -> Asked:
        address = urlsplit(self.path)
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        is_json = "json" in (self.headers.get("Content-Type") or "")
        headers = {name.lower(): value for name, value in self.headers.items()}
        return Asked(
            self.command, address.path, _single(address.query), headers, json.loads(text) if is_json else _single(text)
        )

    def _answer(self, reply: Reply) -> None:
        body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        self.server.loopback.answered.append(reply.status)
        self.send_response(reply.status)
        for name, value in {"Content-Length": str(len(body)), **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


Failure = Reply | Callable[[Handler], None]


def says(status: int, body: Any = b"", **headers: str) -> Reply:
    """An answer as it stands."""
    return Reply(status, body, {name.replace("_", "-"): value for name, value in headers.items()})


def hangs(handler: Handler) -> None:
    """Says nothing until the server ends."""
    handler.close_connection = True
    handler.server.loopback.released.wait(60)


def drips(handler: Handler) -> None:
    """Sends a byte now and then, without an end."""
    handler.close_connection = True
    handler.send_response(200)
    handler.end_headers()
    while not handler.server.loopback.released.wait(0.01):
        handler.wfile.write(b" ")


def breaks_off(handler: Handler) -> None:
    """Sends the beginning of what it announced."""
    handler.close_connection = True
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'[{"id": 10')


def _single(text: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(text).items()}
