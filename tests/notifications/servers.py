"""Servers on loopback that take messages, or refuse them, or answer slowly, or never."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TELEGRAM_ANSWER = {"ok": True, "result": {"message_id": 1, "chat": {"id": 1}}}


@dataclass(frozen=True)
class Request:
    path: str
    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    after_s: float = 0.0
    body: bytes = json.dumps(TELEGRAM_ANSWER).encode()


class Sink:
    """Keeps all requests, and answers each as `answer` says; None answers nothing until the end."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.answer: Callable[[Request], Answer | None] = lambda _: Answer()
        self.ended = threading.Event()
        self._lock = threading.Lock()
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                request = Request(self.path, dict(self.headers), self.rfile.read(length), time.monotonic())
                with sink._lock:
                    sink.requests.append(request)
                answer = sink.answer(request)
                if answer is None:
                    sink.ended.wait(60)
                    return
                sink.ended.wait(answer.after_s)
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            def log_message(self, *_: object) -> None:
                """Is silent."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_: object) -> None:
                """A client that went away."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]

    def to(self, path: str) -> list[Request]:
        with self._lock:
            return [each for each in self.requests if each.path.startswith(path)]

    def told(self, path: str = "/") -> list[tuple[str, int]]:
        """Alarm and index of each notification that webhooks brought, in order."""
        return [(row["alarm_id"], row["index"]) for each in self.to(path) for row in each.json["notifications"]]

    def webhook(self, path: str, secret: str = "s3cret") -> str:
        return f"webhook://{secret}@127.0.0.1:{self.port}{path}"

    def serve(self) -> None:
        self._server.serve_forever(0.05)

    def close(self) -> None:
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()


class Dripping:
    """Sends some bytes to whoever connects, and then one after the other, until the client has gone."""

    def __init__(self, begin: bytes) -> None:
        self._begin = begin
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.is_left = threading.Event()

    def serve(self) -> None:
        connection, _ = self._server.accept()
        with connection, suppress(OSError):
            connection.sendall(self._begin)
            while True:
                time.sleep(0.02)
                connection.sendall(b"1")
        self.is_left.set()

    def close(self) -> None:
        self._server.close()


@contextmanager
def dripping(begin: bytes) -> Iterator[Dripping]:
    found = Dripping(begin)
    threading.Thread(target=found.serve, daemon=True).start()
    try:
        yield found
    finally:
        found.close()


@contextmanager
def sink() -> Iterator[Sink]:
    found = Sink()
    thread = threading.Thread(target=found.serve, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        found.close()
        thread.join()
