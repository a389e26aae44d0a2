"""How a module of a system says what to ask, and hands out what was found. Pure: whoever drives it sends the requests.

A poll is a generator. It yields a `Request` and is sent its `Answer`; it yields a `Page` with records that were found,
and `Tokens` that the next poll shall use. A page says how far everything was read, once it is published.
"""

import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple

import msgspec

DAY_MS = 86_400_000
_ONE_MS = timedelta(milliseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ApiError(RuntimeError):
    """A system cannot be polled. The text quotes no answer and no secret.

    Attributes:
        wait_s: how long it wants to be left alone; None where it does not say.
    """

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class AccessError(ApiError):
    """A system does not accept what it was told about who asks; to repeat that could lock the account."""


@dataclass(frozen=True)
class Request:
    """A request to a system.

    Attributes:
        what: it is for, for messages: ``entries``.
        method, path: the path is below the account's URL.
        query, headers: of the request; the headers may hold a secret.
        json, form: the body.
    """

    what: str
    method: Literal["GET", "POST"]
    path: str = field(repr=False)
    query: Mapping[str, str] = field(default_factory=dict, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    json: Any = field(default=None, repr=False)
    form: Mapping[str, str] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Answer:
    """What a system answered.

    Attributes:
        what: the request was for.
        status: of HTTP.
        headers: with names in lower case.
        wait_s: what Retry-After says.
        body: as it came.
    """

    what: str
    status: int
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    wait_s: float | None = None
    body: bytes = field(default=b"", repr=False)

    def json(self) -> Any:
        """What the body holds.

        Raises:
            ApiError: it is no JSON.
        """
        try:
            # It takes halves of surrogate pairs too, which one record of many may have in a text.
            return json.loads(self.body, parse_constant=lambda _: None)
        except (ValueError, RecursionError):
            raise ApiError(f"The answer for {self.what} is no JSON ({len(self.body):,} bytes)") from None

    def object(self) -> Mapping[str, Any]:
        """The JSON object that it holds.

        Raises:
            ApiError: it holds none.
        """
        found = self.json()
        if not isinstance(found, dict):
            raise ApiError(f"The answer for {self.what} is no JSON object")
        return found

    def checked(self) -> "Answer":
        """The answer, if it is one.

        Raises:
            ApiError, AccessError: by its status.
        """
        if self.status == 200:
            return self
        if self.status in (401, 403):
            raise AccessError(f"The request for {self.what} was refused with status {self.status}", self.wait_s)
        raise ApiError(f"The request for {self.what} failed with status {self.status}", self.wait_s)


def _itself(records: list[Any]) -> Any:
    return records


class Page(NamedTuple):
    """Records that were found.

    Attributes:
        records: as they came.
        until_ms: the instant, in epoch milliseconds, up to which everything was read once this page is published; None
            where more of the time before is still to be read.
        document: makes of records that are new a document in the system's format.
    """

    records: Sequence[Any]
    until_ms: int | None = None
    document: Callable[[list[Any]], Any] = _itself


class Tokens(NamedTuple):
    """What the next poll shall use; kept before anything else is asked, since a system may give it only once."""

    values: Mapping[str, str]


Step = Request | Page | Tokens
Steps = Generator[Step, Answer, None]


@dataclass(frozen=True)
class Start:
    """What a poll begins with.

    Attributes:
        now: the time of day.
        secrets: of the account, by the names that the system's module declares.
        options: of the account.
        tokens: of the last poll.
        until_ms: the instant up to which polls before have read everything.
        since_ms: where this poll shall begin, if that was said.
        ended_ms: when the last poll began that ended well.
        is_wide: whether it shall look further back than usual, for what came late.
    """

    now: datetime
    secrets: Mapping[str, str] = field(repr=False)
    options: Mapping[str, str] = field(default_factory=dict)
    tokens: Mapping[str, str] = field(default_factory=dict, repr=False)
    until_ms: int | None = None
    since_ms: int | None = None
    ended_ms: int | None = None
    is_wide: bool = False

    @property
    def now_ms(self) -> int:
        """The time of day in epoch milliseconds."""
        return ms_of(self.now)

    def first_ms(self, overlap: timedelta, wide: timedelta, first: timedelta) -> int:
        """Where to begin.

        Args:
            overlap: how far before what was read a usual poll begins.
            wide: how far a wide one does.
            first: how long before now the first one does.
        """
        if self.since_ms is not None:
            return self.since_ms
        if self.until_ms is None:
            return self.now_ms - first // _ONE_MS
        return self.until_ms - (wide if self.is_wide else overlap) // _ONE_MS


class Session:
    """Requests with a token, which is got anew at most once in a poll.

    Args:
        token: of the last poll.
        renew: gets one.
        is_refused: whether an answer says that the token holds no more.
    """

    def __init__(
        self,
        token: str | None,
        renew: Callable[[], Generator[Step, Answer, str]],
        is_refused: Callable[[Answer], bool] = lambda answer: answer.status == 401,
    ) -> None:
        self._token, self._renew, self._is_refused = token, renew, is_refused
        self._is_new = False

    def ask(self, make: Callable[[str], Request]) -> Generator[Step, Answer, Answer]:
        """The answer to a request that is made with the token.

        Raises:
            ApiError, AccessError: see `Answer.checked`.
        """
        if self._token is None:
            yield from self._renewed()
        answer = yield make(self._token or "")
        if self._is_refused(answer) and not self._is_new:
            yield from self._renewed()
            answer = yield make(self._token or "")
        if self._is_refused(answer):
            raise AccessError(f"The request for {answer.what} was refused with a new token")
        return answer.checked()

    def _renewed(self) -> Generator[Step, Answer, None]:
        self._token = yield from self._renew()
        self._is_new = True


def windows(first_ms: int, last_ms: int, length: timedelta) -> Iterator[tuple[int, int]]:
    """A time in pieces of a length, the oldest first; each ends where the next one begins."""
    step = length // _ONE_MS
    while first_ms < last_ms:
        yield first_ms, min(first_ms + step, last_ms)
        first_ms += step


def newest(instants: Iterator[int | None], now_ms: int) -> int | None:
    """The newest of some instants that is not in the future: what says so lies, and would hide what comes."""
    return max((each for each in instants if each is not None and each <= now_ms), default=None)


def ms_of(at: datetime) -> int:
    """An instant in epoch milliseconds."""
    return (at - _EPOCH) // _ONE_MS


def instant_of(ms: int) -> datetime:
    """The instant of epoch milliseconds."""
    return _EPOCH + timedelta(milliseconds=ms)


def ms_of_text(text: Any) -> int | None:
    """The instant of an ISO 8601 text, in UTC where it says no zone; None where it is none."""
    if not isinstance(text, str):
        return None
    try:
        at = datetime.fromisoformat(text)
        return ms_of(at if at.tzinfo else at.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        return None


def encoded(value: Any) -> bytes:
    """JSON, in which equal values are the same bytes."""
    try:
        return msgspec.json.encode(value, order="sorted")
    except UnicodeEncodeError:
        return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def list_in(value: Any, what: str) -> list[Any]:
    """A list of an answer.

    Raises:
        ApiError: it is none.
    """
    if not isinstance(value, list):
        raise ApiError(f"The answer for {what} has no list of records")
    return value


def text_in(value: Any, name: str, what: str) -> str:
    """A text of an answer's object.

    Raises:
        ApiError: it is not there.
    """
    found = value.get(name) if isinstance(value, Mapping) else None
    if not isinstance(found, str) or not found:
        raise ApiError(f"The answer for {what} has no '{name}'")
    return found
