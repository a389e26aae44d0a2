"""A server on 127.0.0.1 that behaves as openFDA's `/drug/event.json` does, and fails in the ways in which it may."""

import json
import re
import threading
from collections import deque
from collections.abc import Callable, Iterable
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlencode, urlsplit

Failure = Callable[["_Handler"], None]
MAX_LIMIT, MAX_SKIP = 1000, 25_000


def report(number: int, received: date, **more: Any) -> dict[str, Any]:
    """A report of one reaction to one drug, as the API has it."""
    day = f"{received:%Y%m%d}"
    return {
        "safetyreportid": str(number),
        "safetyreportversion": "1",
        "receivedate": day,
        "receiptdate": day,
        "patient": {"reaction": [{"reactionmeddrapt": "Nausea"}], "drug": [{"medicinalproduct": "A"}]},
    } | more


class FakeFda:
    """`with FakeFda(reports) as server: ...`.

    Attributes:
        reports: what it has; they may be changed between requests.
        links: whether a page has a link to the next one.
        link_to: the server that links name, if not this one.
        updated: the day of the last load that it tells.
        failures: what the next requests get instead of an answer; None answers one as usual.
        asked: the queries of all requests.
    """

    def __init__(self, reports: Iterable[Any] = (), *, links: bool = True) -> None:
        self.reports, self.links, self.link_to = list(reports), links, ""
        self.updated = "2026-11-20"
        self.failures: deque[Failure | None] = deque()
        self.asked: list[dict[str, str]] = []
        self.released = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.fda = self
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


def says(status: int, body: Any = None, **headers: str) -> Failure:
    """An answer as it stands; what is no bytes becomes JSON."""
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return lambda handler: handler.answer(
        status, text, {name.replace("_", "-"): each for name, each in headers.items()}
    )


def refuses(status: int, code: str, message: str, **headers: str) -> Failure:
    """An error in the words of the API."""
    return says(status, {"error": {"code": code, "message": message}}, **headers)


def hangs(handler: "_Handler") -> None:
    """Says nothing until the server ends."""
    handler.close_connection = True
    handler.fda.released.wait(60)


def drips(handler: "_Handler") -> None:
    """Sends a byte now and then, without an end."""
    handler.close_connection = True
    handler.send_response(200)
    handler.end_headers()
    while not handler.fda.released.wait(0.01):
        handler.wfile.write(b" ")


def breaks_off(handler: "_Handler") -> None:
    """Sends half of what it announced."""
    handler.close_connection = True
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"meta": {"results": {"total": 1}}, "results": [{"safe')


class _Server(ThreadingHTTPServer):
    fda: FakeFda


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def fda(self) -> FakeFda:
        assert isinstance(self.server, _Server)
        return self.server.fda

    def log_message(self, format: str, *arguments: Any) -> None:
        """The tests look at `asked`."""

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        self.fda.asked.append(query)
        failure = self.fda.failures.popleft() if self.fda.failures else None
        try:
            if failure:
                failure(self)
            elif address.path != "/drug/event.json":
                self.answer(404, b"<html>no such page</html>", {})
            else:
                self._find(query)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _find(self, query: dict[str, str]) -> None:
        limit, skip = int(query.get("limit", "1")), int(query.get("skip", "0"))
        asked = re.fullmatch(r"(\w+):\[(\d{8}) TO (\d{8})\]", query["search"])
        if limit > MAX_LIMIT or skip > MAX_SKIP or not asked or ("skip" in query and "search_after" in query):
            refuses(400, "BAD_REQUEST", "Limit or skip is too large, or the search cannot be read")(self)
            return
        field, first, last = asked.groups()
        found = [each for each in self.fda.reports if first <= str(_field(each, field)) <= last]
        found.sort(key=lambda each: str(_field(each, field)), reverse=query.get("sort", "").endswith(":desc"))
        if not found:
            refuses(404, "NOT_FOUND", "No matches found!")(self)
            return
        start = skip or int(query.get("search_after", "0"))
        page = found[start : start + limit]
        meta = {"last_updated": self.fda.updated, "results": {"skip": skip, "limit": limit, "total": len(found)}}
        headers = {}
        if self.fda.links and start + limit < len(found):
            following = {name: value for name, value in query.items() if name != "skip"}
            link = urlencode(following | {"search_after": str(start + limit)})
            headers["Link"] = f'<{self.fda.link_to or self.fda.url}/drug/event.json?{link}>; rel="next"'
        # The API indents what it sends.
        self.answer(200, json.dumps({"meta": meta, "results": page}, indent=2).encode(), headers)


def _field(report: Any, name: str) -> Any:
    return report.get(name) if isinstance(report, dict) else "20261101"
