"""A server on 127.0.0.1 that answers as the API of devices does, and fails in the ways in which it may."""

import json
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlencode, urlsplit

Failure = Callable[["_Handler"], None]


class Api:
    """`with Api(rows) as api: ...`.

    Attributes:
        rows: what it has; they may be changed between requests.
        failures: what the next requests get instead of an answer; None answers one as usual.
        asked: the queries of all requests; headers: theirs.
        answered: the states of all answers.
        link: the next page that is named, if not the true one.
    """

    def __init__(self, rows: Iterable[Any] = ()) -> None:
        self.rows = list(rows)
        self.failures: deque[Failure | None] = deque()
        self.asked: list[dict[str, str]] = []
        self.headers: list[Mapping[str, str]] = []
        self.answered: list[int] = []
        self.link = ""
        self.released = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.api = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def fail(self, *failures: Failure | None) -> None:
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


def says(status: int, body: bytes = b"", **headers: str) -> Failure:
    """An answer as it stands."""
    return lambda handler: handler.answer(
        status, body, {name.replace("_", "-"): value for name, value in headers.items()}
    )


def hangs(handler: "_Handler") -> None:
    """Says nothing until the server ends."""
    handler.close_connection = True
    handler.server.api.released.wait(60)


def drips(handler: "_Handler") -> None:
    """Sends a byte now and then, without an end."""
    handler.close_connection = True
    handler.send_response(200)
    handler.end_headers()
    while not handler.server.api.released.wait(0.01):
        handler.wfile.write(b" ")


def breaks_off(handler: "_Handler") -> None:
    """Sends half of what it announced."""
    handler.close_connection = True
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'[{"device_id": 10')


class _Server(ThreadingHTTPServer):
    api: Api


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *arguments: Any) -> None:
        """The tests look at `asked`."""

    def do_GET(self) -> None:
        api = self.server.api
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        api.asked.append(query)
        api.headers.append(dict(self.headers))
        failure = api.failures.popleft() if api.failures else None
        try:
            failure(self) if failure else self._find(query)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _find(self, query: Mapping[str, str]) -> None:
        api, limit, start = self.server.api, int(query["limit"]), int(query.get("start", "0"))
        found = sorted(
            (row for row in api.rows if not isinstance(row, dict) or row["received_at"] >= query.get("since", "")),
            key=lambda row: row["received_at"] if isinstance(row, dict) else "",
        )
        body = json.dumps(found[start : start + limit]).encode()
        headers = {"ETag": f'"{hash(body)}"'}
        if start + limit < len(found):
            following = urlencode({**query, "start": str(start + limit)})
            headers["Link"] = f'<{api.link or f"/telemetry?{following}"}>; rel="next"'
        is_same = self.headers.get("If-None-Match") == headers["ETag"]
        self.answer(304 if is_same else 200, b"" if is_same else body, headers)

    def answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.server.api.answered.append(status)
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
