"""An API that answers with pages of JSON arrays, as a source of batches.

``GET <path>?since=2026-11-29T10:00:00+00:00&limit=1000`` answers with the rows whose watermark is `since` or later, in
the order of it. A ``Link`` with ``rel="next"`` leads to the next page. ``ETag`` and ``If-None-Match`` save an answer
that did not change. What fails is tried again, with growing pauses or as ``Retry-After`` says.
"""

import logging
import random
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

import httpx
import msgspec
import polars as pl
from pydantic import SecretStr

from resources.batch_source import (
    PIECE_ROWS,
    BatchSourceError,
    Pulled,
    RestPath,
    Watermark,
    digest,
    frame_of,
    one_line,
    trusted,
)
from resources.http_waits import retry_after
from resources.trusted import certificates

LIMIT = 1000
MAX_PAGES = 100_000
CONNECT_S, READ_S, ANSWER_S = 10.0, 30.0, 120.0
ATTEMPTS, FIRST_WAIT_S, LAST_WAIT_S, MAX_RETRY_AFTER_S = 5, 1.0, 30.0, 120.0
"""Of one page: with all pauses, an API that is away is waited for no longer than some minutes."""
MAX_BYTES = 256 << 20


class _Page(NamedTuple):
    rows: list[Any]
    etag: str
    link: httpx.URL | None
    is_unchanged: bool


class _RetryableError(Exception):
    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class RestSource:
    """A path of an API.

    Args:
        name: of the source, for messages.
        url: of the API.
        setting: the environment variable that holds the URL, for messages.
        place: the path and its watermark.
        token: sent as a bearer token; it stands in no message and no log.
        limit: how many rows a page has at most.
        piece_rows: how many rows are handed out together, at least.
        timeouts: of a connection, of each read and of a whole answer, in seconds.
        sleep, clock: for tests.
    """

    def __init__(
        self,
        name: str,
        url: str,
        setting: str,
        place: RestPath,
        token: SecretStr | None = None,
        *,
        limit: int = LIMIT,
        piece_rows: int = PIECE_ROWS,
        timeouts: tuple[float, float, float] = (CONNECT_S, READ_S, ANSWER_S),
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        # Below this level they log addresses.
        for library in ("httpx", "httpcore"):
            logging.getLogger(library).setLevel(logging.WARNING)
        self._name, self._setting, self._place, self._limit = name, setting, place, limit
        self._piece_rows = piece_rows
        self._url = httpx.URL(url.rstrip("/") + place.path)
        self._timeouts, self._sleep, self._clock = timeouts, sleep, clock
        self._headers = {"User-Agent": "pulselake", "Accept": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token.get_secret_value()}"

    def pull(self, since: bytes | None) -> Iterator[Pulled]:
        """See `BatchSource.pull`."""
        mark = Watermark.of(self._name, since)
        known, new = frozenset(mark.seen), list[Any]()
        connect, read, _ = self._timeouts
        timeout = httpx.Timeout(read, connect=connect)
        with httpx.Client(timeout=timeout, headers=self._headers, verify=certificates()) as http:
            try:
                for page in self._pages(http, mark):
                    now = self._clock()
                    keyed = [(digest([row]), self._at(row, now), row) for row in page.rows]
                    mark.read((key, at) for key, at, _ in keyed)
                    mark.forget(self._name)
                    new += [row for key, _, row in keyed if key not in known]
                    # A page may have few rows, and each piece costs a commit.
                    if len(new) >= self._piece_rows:
                        yield Pulled(frame_of(new), mark.cursor())
                        new = []
            except BatchSourceError:
                if new:
                    yield Pulled(frame_of(new), mark.cursor())
                raise
        if new or mark.cursor() != since:
            yield Pulled(frame_of(new) if new else pl.DataFrame(), mark.cursor())

    def _pages(self, http: httpx.Client, mark: Watermark) -> Iterator[_Page]:
        """Page after page; at the end the mark has the first one's tag, if the next pull asks for the same."""
        start = mark.start()
        url = self._url.copy_merge_params({"limit": str(self._limit)} | ({} if start is None else {"since": start}))
        page, asked = self._get(http, url, mark.etag), {url}
        if page.is_unchanged:
            return
        tag, mark.etag = page.etag, ""
        yield page
        while page.link is not None and page.rows:
            if page.link in asked or len(asked) > MAX_PAGES:
                raise self._error("reading page after page", "pages are linked without an end")
            asked.add(page.link)
            page = self._get(http, page.link, "")
            yield page
        if mark.start() == start:
            mark.etag = tag

    def _at(self, row: Any, now: datetime) -> Any:
        value = row.get(self._place.watermark) if isinstance(row, dict) else None
        return trusted(value, now) if isinstance(value, str) else None

    def _get(self, http: httpx.Client, url: httpx.URL, etag: str) -> _Page:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._ask(http, url, etag)
            except _RetryableError as failure:
                wait = min(FIRST_WAIT_S * 2 ** (attempt - 1), LAST_WAIT_S) * random.uniform(0.5, 1.0)
                asked_for = failure.wait_s or 0.0
                if attempt == ATTEMPTS or asked_for > MAX_RETRY_AFTER_S:
                    raise self._error(f"asking {attempt} times for {url}", str(failure)) from None
                self._sleep(max(wait, asked_for))
        raise AssertionError("the last attempt returns or raises")

    def _ask(self, http: httpx.Client, url: httpx.URL, etag: str) -> _Page:
        end = time.monotonic() + self._timeouts[2]
        body = bytearray()
        try:
            with http.stream("GET", url, headers={"If-None-Match": etag} if etag else {}) as response:
                for received in response.iter_bytes():
                    body += received
                    if time.monotonic() > end:
                        raise _RetryableError(f"an answer was not complete after {self._timeouts[2]:g} s")
                    if len(body) > MAX_BYTES:
                        raise self._error(f"asking for {url}", f"a page has more than {MAX_BYTES >> 20} MB")
        except httpx.RequestError as error:
            raise _RetryableError(one_line(error)) from None
        match response.status_code:
            case 304 if etag:
                return _Page([], etag, None, is_unchanged=True)
            case 200:
                return self._page(response, bytes(body))
            case 408 | 425 | 429:
                raise _RetryableError(f"status {response.status_code}", retry_after(response))
            case status if status >= 500:
                raise _RetryableError(f"status {status}", retry_after(response))
            case status:
                hint = " (the API wants another token: PULSELAKE_TELEMETRY_TOKEN)" if status in (401, 403) else ""
                raise self._error(f"asking for {url}", f"status {status} {response.reason_phrase}{hint}")

    def _page(self, response: httpx.Response, body: bytes) -> _Page:
        try:
            rows = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            # The error names a position, and quotes nothing of the body.
            raise _RetryableError(f"an answer of {len(body):,} bytes that is no JSON: {error}") from None
        if not isinstance(rows, list):
            raise _RetryableError(f"an answer that is no JSON array but {type(rows).__name__}")
        links = {str(rel).lower(): link.get("url") for rel, link in response.links.items()}
        return _Page(rows, response.headers.get("ETag", ""), self._own(links.get("next")), is_unchanged=False)

    def _own(self, link: str | None) -> httpx.URL | None:
        """A link as an address; to another server the token must not go."""
        if not link:
            return None
        try:
            url = self._url.join(link)
        except httpx.InvalidURL:
            raise self._error("reading page after page", "a next page is linked by what is no address") from None
        if (url.scheme, url.host, url.port) != (self._url.scheme, self._url.host, self._url.port):
            raise self._error("reading page after page", f"a next page is linked at another server, {url.host}")
        return url

    def _error(self, tried: str, reason: str) -> BatchSourceError:
        return BatchSourceError(
            self._name,
            tried,
            reason,
            f"Check that the API runs and can be reached, and {self._setting}. `pulselake hospital` serves the default "
            "one.",
        )
