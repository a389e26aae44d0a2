"""A client for openFDA's drug-event reports: asks page after page, within the API's limits, and repeats what fails.

A page is a list of reports, each as JSON without white space. What becomes of them is up to the caller.
"""

import logging
import random
import re
import time
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

import httpx
import msgspec
from pydantic import SecretStr

from resources.http_waits import retry_after
from resources.trusted import certificates

Field = Literal["receivedate", "receiptdate"]
"""When FDA received the first version of a report, and when the newest one."""

PATH = "/drug/event.json"
MAX_LIMIT, MAX_SKIP = 1000, 25_000
REQUESTS_A_MINUTE = 240
CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 10.0, 60.0
ANSWER_TIMEOUT_S = 180.0
"""A page may have tens of megabytes; one that comes drop by drop ends after so long."""
# The waits between so many attempts last a minute at least: a limit by the minute is over by then.
ATTEMPTS, FIRST_WAIT_S, LAST_WAIT_S = 7, 2.0, 60.0
MAX_RETRY_AFTER_S = 120.0

_KEY = "api_key"
_ONE_DAY = timedelta(days=1)
_OF_A_DAY = re.compile(r"\b(day|daily)\b", re.IGNORECASE)


class OpenFdaError(RuntimeError):
    """openFDA cannot be reached, or answers something that cannot be used. Pages that were handed out are good."""


class OpenFdaLimitError(OpenFdaError):
    """openFDA takes no more requests for now."""


class Latest(NamedTuple):
    """How new the API's data are.

    Attributes:
        updated: when openFDA last loaded reports; None where it does not say.
        newest: the newest date on which FDA received a report that openFDA has; None where it has none.
    """

    updated: date | None
    newest: date | None


class _Counts(msgspec.Struct):
    total: int


class _Meta(msgspec.Struct):
    results: _Counts
    last_updated: Any = None


class _Body(msgspec.Struct):
    meta: _Meta
    results: list[msgspec.Raw]


class _Failure(msgspec.Struct):
    code: str = ""
    message: str = ""


class _Failed(msgspec.Struct):
    error: _Failure


class _Page(NamedTuple):
    reports: list[bytes]
    total: int
    updated: date | None
    link: httpx.URL | None


_NO_PAGE = _Page([], 0, None, None)


class _RetryableError(Exception):
    """What may go better the next time; `wait_s` is how long the server wants to be left alone."""

    def __init__(self, reason: str, *, is_limit: bool = False, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.is_limit, self.wait_s = is_limit, wait_s


class OpenFda:
    """The API at one address. It is used in a `with`.

    Args:
        url: of the API, without the path of its endpoint.
        key: raises the limit from 1,000 to 120,000 requests a day; it stands in no message and no log.
        limit: how many reports a page has at most.
        timeouts: of a connection, of each read, and of a whole answer, in seconds.
        sleep, clock: for tests.
    """

    def __init__(
        self,
        url: str,
        key: SecretStr | None = None,
        *,
        limit: int = MAX_LIMIT,
        timeouts: tuple[float, float, float] = (CONNECT_TIMEOUT_S, READ_TIMEOUT_S, ANSWER_TIMEOUT_S),
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # Below this level they log addresses and links, which hold the key.
        for name in ("httpx", "httpcore"):
            logging.getLogger(name).setLevel(logging.WARNING)
        self._url = httpx.URL(url.rstrip("/") + PATH)
        self._key = key.get_secret_value() if key else ""
        self._limit = limit
        connect, read, self._answer_s = timeouts
        self._http = httpx.Client(
            timeout=httpx.Timeout(read, connect=connect),
            headers={"User-Agent": "pulselake"},
            follow_redirects=False,
            verify=certificates(),
        )
        self._sleep, self._clock = sleep, clock
        self._next_at = clock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def latest(self, until: date) -> Latest:
        """How new the data are, by the newest report that FDA received up to a date.

        Raises:
            OpenFdaError, OpenFdaLimitError: as for `reports`.
        """
        url = self._search("receivedate", date(1900, 1, 1), until, sort="desc", limit=1)
        page = self._get(url)
        return Latest(page.updated, max(filter(None, map(received_on, page.reports)), default=None))

    def reports(self, field: Field, first: date, last: date) -> Iterator[list[bytes]]:
        """The reports with a date from `first` to `last`, page by page, in the order of that date.

        Where the server links no next page, pages are counted; more than 25,000 reports cannot be counted through, so
        the time is halved then, down to a day.

        Raises:
            OpenFdaError: the API failed, also after several attempts, or cannot hand out all reports of a day.
            OpenFdaLimitError: the API takes no more requests for now.
        """
        if first > last:
            return
        url = self._search(field, first, last)
        page = self._get(url)
        if page.link is None and page.total > MAX_SKIP:
            middle = first + (last - first) // 2
            if first == last:
                raise OpenFdaError(
                    f"openFDA has {page.total:,} reports with {field} {first} and links no next page ({url}); without "
                    f"links only {MAX_SKIP:,} can be read. None of this day was read. Check PULSELAKE_OPENFDA_URL, or "
                    "publish that day from openFDA's downloads: pulselake publish adverse_events FILE --records results"
                )
            yield from self.reports(field, first, middle)
            yield from self.reports(field, middle + _ONE_DAY, last)
            return
        total, seen, asked = page.total, 0, {url}
        while page.reports:
            yield page.reports
            seen += len(page.reports)
            following = page.link or self._counted(url, seen, total)
            if following is None:
                return
            if following in asked or seen > 2 * total + MAX_LIMIT:
                raise OpenFdaError(
                    f"openFDA links pages without an end: {seen:,} reports were read of {total:,} with {field} {first} "
                    f"to {last}, and another page is linked ({following}). The others were not read; try again."
                )
            asked.add(following)
            url, page = following, self._get(following)
        if seen < total:
            raise OpenFdaError(
                f"openFDA gave {seen:,} of {total:,} reports with {field} {first} to {last} and then none ({url}). "
                "The others were not read; try again."
            )

    def _search(self, field: Field, first: date, last: date, *, sort: str = "asc", limit: int = 0) -> httpx.URL:
        # The order is the same for each page only if one is asked for.
        return self._url.copy_merge_params(
            {
                "search": f"{field}:[{first:%Y%m%d} TO {last:%Y%m%d}]",
                "sort": f"{field}:{sort}",
                "limit": str(limit or self._limit),
            }
        )

    def _counted(self, url: httpx.URL, seen: int, total: int) -> httpx.URL | None:
        """The page behind those that were read, if there is one; the API takes `skip` only without `search_after`."""
        if seen >= total:
            return None
        if seen > MAX_SKIP:
            raise OpenFdaError(
                f"openFDA gave {seen:,} of {total:,} reports and links no next page ({url}); the others were not read. "
                "Try again."
            )
        return url.copy_remove_param("search_after").copy_set_param("skip", str(seen))

    def _get(self, url: httpx.URL) -> _Page:
        for attempt in range(1, ATTEMPTS + 1):
            self._wait_for_turn()
            try:
                return self._ask(url)
            except _RetryableError as failure:
                if failure.is_limit and (failure.wait_s or 0) > MAX_RETRY_AFTER_S:
                    raise self._limit_error(url, str(failure)) from failure
                if attempt == ATTEMPTS:
                    if failure.is_limit:
                        raise self._limit_error(url, str(failure)) from failure
                    raise OpenFdaError(
                        f"openFDA failed {ATTEMPTS} times: {failure} ({url}). This page was not read, those before it "
                        "were. Check the network and PULSELAKE_OPENFDA_URL, and try again later."
                    ) from failure
                wait = min(FIRST_WAIT_S * 2 ** (attempt - 1), LAST_WAIT_S) * random.uniform(0.5, 1.0)
                self._sleep(wait if failure.wait_s is None else min(failure.wait_s, MAX_RETRY_AFTER_S))
        raise AssertionError("the last attempt returns or raises")

    def _wait_for_turn(self) -> None:
        now = self._clock()
        if self._next_at > now:
            self._sleep(self._next_at - now)
        self._next_at = max(now, self._next_at) + 60 / REQUESTS_A_MINUTE

    def _ask(self, url: httpx.URL) -> _Page:
        """One attempt. Addresses that are kept hold no key; it is added to the one that is asked."""
        asked = url.copy_set_param(_KEY, self._key) if self._key else url
        end = self._clock() + self._answer_s
        body = bytearray()
        try:
            with self._http.stream("GET", asked) as response:
                for received in response.iter_bytes():
                    body += received
                    if self._clock() > end:
                        raise _RetryableError(f"an answer that was not complete after {self._answer_s:g} s")
        except httpx.RequestError as error:
            # The text of some of these errors is empty.
            what = " ".join(f"{type(error).__name__} {error}".split())
            raise _RetryableError(self._without_key(what)) from None
        if response.status_code == 200:
            return self._page(response, bytes(body))
        self._refuse(url, response, bytes(body))
        return _NO_PAGE

    def _page(self, response: httpx.Response, body: bytes) -> _Page:
        try:
            found = msgspec.json.decode(body, type=_Body)
            reports = [msgspec.json.format(bytes(each), indent=-1) for each in found.results]
        except msgspec.MsgspecError as error:
            # The error names a position or a field, and quotes nothing of the body.
            raise _RetryableError(f"an answer of {len(body):,} bytes that is no page of reports: {error}") from None
        links = {str(rel).lower(): link.get("url") for rel, link in response.links.items()}
        link = self._own(links["next"] or "") if "next" in links else None
        return _Page(reports, found.meta.results.total, _date(found.meta.last_updated, "%Y-%m-%d"), link)

    def _own(self, link: str) -> httpx.URL:
        """A link as an address without the key.

        Raises:
            OpenFdaError: it leads to another server.
        """
        try:
            url = self._url.join(link).copy_remove_param(_KEY)
        except httpx.InvalidURL as error:
            raise OpenFdaError("openFDA links a next page by something that is no address. Try again.") from error
        if (url.scheme, url.host, url.port) != (self._url.scheme, self._url.host, self._url.port):
            raise OpenFdaError(
                f"openFDA at {_server(self._url)} links a next page at another server, {_server(url)}, which was not "
                "asked. Pages before it were read. Set PULSELAKE_OPENFDA_URL to the server that shall be asked."
            )
        return url

    def _refuse(self, url: httpx.URL, response: httpx.Response, body: bytes) -> None:
        """Returns only if the API said that there are no such reports.

        Raises:
            OpenFdaError, OpenFdaLimitError, _RetryableError: by what it said.
        """
        status = response.status_code
        try:
            said = msgspec.json.decode(body, type=_Failed).error
        except msgspec.MsgspecError:
            said = _Failure()
        if status == 404 and said.code == "NOT_FOUND":
            return
        message = self._without_key(" ".join(said.message.split())[:300]) or response.reason_phrase
        reason = f"status {status}: {message}"
        if status == 429 or status >= 500:
            if status == 429 and _OF_A_DAY.search(message):
                raise self._limit_error(url, reason)
            raise _RetryableError(reason, is_limit=status == 429, wait_s=retry_after(response))
        hint = "Check OPENFDA_API_KEY." if status in (401, 403) else "Check PULSELAKE_OPENFDA_URL."
        raise OpenFdaError(f"openFDA refused a request with {reason} ({url}). The page was not read. {hint}")

    def _limit_error(self, url: httpx.URL, reason: str) -> OpenFdaLimitError:
        key = "" if self._key else " Without OPENFDA_API_KEY it takes 1,000 a day; a key is free."
        return OpenFdaLimitError(
            f"openFDA takes no more requests for now: {reason.rstrip('.')} ({url}). This page was not read, those "
            f"before it were. Poll again later, it goes on from there.{key}"
        )

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "…") if self._key else text


def received_on(report: bytes) -> date | None:
    """The date on which FDA received a report first; None where it has none that can be read."""
    try:
        return _date(msgspec.json.decode(report, type=_Received).receivedate, "%Y%m%d")
    except msgspec.MsgspecError:
        return None


class _Received(msgspec.Struct):
    receivedate: Any = None


def _date(text: Any, form: str) -> date | None:
    try:
        return datetime.strptime(text, form).date()
    except (TypeError, ValueError):
        return None


def _server(url: httpx.URL) -> str:
    return f"{url.scheme}://{url.netloc.decode('ascii')}"
