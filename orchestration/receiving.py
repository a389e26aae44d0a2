"""The server that apps on phones post to: who may, how much, how often; and 202 once the hub has it.

```
 post ──▶ token ──▶ body, no larger and no slower than allowed ──▶ events ──▶ hubs ──▶ 202
```

What an app gets no 202 for it sends again, and the streams drop what they have. Nothing of a body, no token and no name
of a patient is logged.
"""

import asyncio
import hashlib
import logging
import re
import socket
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from time import monotonic
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from orchestration.hashed import hashed
from orchestration.received import (
    FHIR,
    HEALTH_AUTO_EXPORT,
    MAX_BYTES,
    NIGHTSCOUT,
    NO_READINGS,
    OWN,
    OWN_STREAMS,
    Kind,
    NotUnderstoodError,
    Received,
    TooLargeError,
    received,
    unpacked,
)
from resources import sources
from resources.event_source import HubUnavailableError, Publisher
from resources.logs import tell
from resources.settings import Settings
from resources.tokens import Token, TokenError, Tokens, sent_as_is, sent_as_sha1

_log = logging.getLogger(__name__)

HEAD_S, BODY_S = 10.0, 30.0
"""How long the head of a request, and its body, may take to arrive."""
AT_ONCE, IN_MEMORY, OF_ONE_TOKEN = 2, 32, 4
"""How many bodies are worked on, how many are there at a time, and how many of one token: each may have megabytes."""
MAX_CONNECTIONS = 256
HUB_AWAY_RETRY_S, BUSY_RETRY_S = 30, 5
POSTS_A_MINUTE = 120
FREE_GUESSES, LAST_PAUSE_S, FORGOTTEN_AFTER_S, MAX_ADDRESSES = 5, 300.0, 3600.0, 10_000
_OF_NIGHTSCOUT = {
    "entries": NIGHTSCOUT,
    "devicestatus": NIGHTSCOUT,
    "treatments": NO_READINGS,
    "profile": NO_READINGS,
}
"""What Nightscout's uploaders post to which address."""
_JSON = re.compile(r"application/(?:[\w.+-]+\+)?(?:json|x-ndjson|ndjson)\s*(?:;.*)?", re.ASCII | re.IGNORECASE)
_SHA1 = re.compile(r"[0-9a-fA-F]{40}", re.ASCII)


class ReceiveError(RuntimeError):
    """The server cannot be started; nothing is received."""


class Guesses:
    """Who offered wrong tokens, by address: after some, further wrong ones have to wait for longer and longer.

    A right token never waits, since a family has one address: one phone with an old token must not hold up the others.
    Waits keep apps from asking all the time; that no guess finds a token is due to its 256 random bits.

    Args:
        clock: seconds of any beginning.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._wrong: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def wait_s(self, address: str) -> float:
        """How long an address has to wait before it is told of a wrong token."""
        count, last = self._wrong.get(address, (0, 0.0))
        if count < FREE_GUESSES or (since := self._clock() - last) > FORGOTTEN_AFTER_S:
            return 0.0
        return max(0.0, min(2.0 ** (count - FREE_GUESSES), LAST_PAUSE_S) - since)

    def wrong(self, address: str) -> None:
        """Notes a wrong token."""
        now = self._clock()
        count, last = self._wrong.pop(address, (0, now))
        self._wrong[address] = (1 if now - last > FORGOTTEN_AFTER_S else min(count + 1, 60), now)
        if len(self._wrong) > MAX_ADDRESSES:
            self._wrong.popitem(last=False)


class Pace:
    """How often each token posts: so many a minute, and as many at once.

    Args:
        clock: seconds of any beginning.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._left: dict[str, tuple[float, float]] = {}

    def wait_s(self, token: str) -> float:
        """Takes one post of a token, or says how long it has to wait for one."""
        now, each_s = self._clock(), 60 / POSTS_A_MINUTE
        left, last = self._left.get(token, (float(POSTS_A_MINUTE), now))
        left = min(left + (now - last) / each_s, float(POSTS_A_MINUTE))
        self._left[token] = (max(left - 1, 0.0) if left >= 1 else left, now)
        return 0.0 if left >= 1 else (1 - left) * each_s


class _Refusal(Exception):
    """What a post is answered that is not taken."""

    def __init__(
        self, status: int, message: str, wait_s: float | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.wait_s, self.headers = status, message, wait_s, headers

    def response(self) -> Response:
        headers = {"Connection": "close", **(self.headers or {})}
        if self.wait_s is not None:
            headers["Retry-After"] = str(max(1, round(self.wait_s)))
        return JSONResponse({"error": self.message}, self.status, headers)


class Receiver:
    """The server's answers.

    Args:
        tokens: who may post.
        publisher_of: the hub of a stream.
        clock: the time of day.
        seconds: of any beginning, for pauses.
        body_s: how long a body may take to arrive.
    """

    def __init__(
        self,
        tokens: Tokens,
        publisher_of: Callable[[str], Publisher],
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        seconds: Callable[[], float] = monotonic,
        body_s: float = BODY_S,
    ) -> None:
        self._tokens, self._publisher_of, self._clock, self._body_s = tokens, publisher_of, clock, body_s
        self._guesses, self._pace = Guesses(seconds), Pace(seconds)
        self._working = asyncio.Semaphore(AT_ONCE)
        self._in_memory: Counter[str] = Counter()

    def app(self) -> Starlette:
        """The application."""
        post, put = ["POST"], ["POST", "PUT"]
        return Starlette(
            routes=[
                Route("/health-auto-export", self._taking(HEALTH_AUTO_EXPORT), methods=post),
                Route("/fhir", self._taking(FHIR), methods=post),
                *(Route(f"/readings/{name}", self._taking(OWN[name]), methods=post) for name in OWN_STREAMS),
                *(
                    Route(f"/api/v1/{name}{end}", self._taking(kind), methods=post if kind is NIGHTSCOUT else put)
                    for name, kind in _OF_NIGHTSCOUT.items()
                    for end in ("", ".json", "/")
                ),
                # Before they delete a treatment, uploaders ask for it; none is kept.
                *(Route(f"/api/v1/treatments{end}", self._nothing([]), methods=["GET"]) for end in ("", ".json")),
                Route("/api/v1/treatments/{id}", self._nothing({}), methods=["DELETE"]),
                Route("/api/v1/experiments/test", self._nothing({"status": 200, "message": {"message": "OK"}})),
                Route("/api/v1/status.json", self._status),
            ]
        )

    def _taking(self, kind: Kind) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            try:
                return await self._take(request, kind)
            except _Refusal as refusal:
                return refusal.response()
            except ClientDisconnect:
                return Response(status_code=400)
            except Exception as error:
                # Its text may quote what was posted.
                tell(_log, "failed on what was posted", logging.ERROR, type=type(error).__name__)
                return _Refusal(500, "It failed on the server; nothing, or not all, was taken.").response()

        return answer

    async def _take(self, request: Request, kind: Kind) -> Response:
        token = self._authenticated(request)
        if (wait_s := self._pace.wait_s(token.hash)) > 0:
            raise _Refusal(429, f"More than {POSTS_A_MINUTE} posts a minute; post again later.", wait_s)
        is_packed = _encoding(request)
        with self._place(token):
            body = await self._body(request)
            async with self._working:
                found = await run_in_threadpool(self._publish, body, is_packed, kind, token)
        tell(_log, "received", format=kind.format.name, **found.counts)
        if kind in (NIGHTSCOUT, NO_READINGS):
            # Its uploaders look for this status, and for as many objects as they sent.
            ids = [{"_id": hashlib.sha256(b"%d" % n + body).hexdigest()[:24]} for n in range(found.records)]
            return JSONResponse(ids)
        return JSONResponse(found.counts, 202)

    def _authenticated(self, request: Request) -> Token:
        """The token of a request.

        Raises:
            _Refusal: it has none that holds, or its address has offered too many wrong ones before.
        """
        address = request.client.host if request.client else ""
        offered = _offered(request)
        try:
            token = self._tokens.find(offered) if offered else None
        except TokenError:
            tell(_log, "the file of tokens cannot be read", logging.ERROR)
            raise _Refusal(503, "Tokens cannot be looked up at this moment; send it again.", HUB_AWAY_RETRY_S) from None
        if token is None:
            if (wait_s := self._guesses.wait_s(address)) > 0:
                raise _Refusal(429, "Too many wrong tokens came from this address; try again later.", wait_s)
            if offered:
                self._guesses.wrong(address)
            tell(_log, "refused a post without a token that holds", logging.WARNING)
            message = "No token that holds: send it in the header 'Authorization: Bearer …'."
            raise _Refusal(401, message, headers={"WWW-Authenticate": "Bearer"})
        return token

    @contextmanager
    def _place(self, token: Token) -> Iterator[None]:
        """A place for a body in memory; nobody waits for one, and no token takes all.

        Raises:
            _Refusal: there is none.
        """
        if self._in_memory[token.hash] >= OF_ONE_TOKEN:
            raise _Refusal(429, f"More than {OF_ONE_TOKEN} posts of this token at a time.", BUSY_RETRY_S)
        if self._in_memory.total() >= IN_MEMORY:
            raise _Refusal(503, "Too many posts at this moment; send it again.", BUSY_RETRY_S)
        self._in_memory[token.hash] += 1
        try:
            yield
        finally:
            self._in_memory[token.hash] -= 1

    async def _body(self, request: Request) -> bytes:
        if not _JSON.fullmatch(request.headers.get("Content-Type", "").strip()):
            raise _Refusal(415, "The body has to be JSON: send Content-Type application/json.")
        too_large = _Refusal(413, f"The body has more than {MAX_BYTES >> 20} MiB; send smaller parts.")
        length = request.headers.get("Content-Length", "")
        if length.isdigit() and int(length) > MAX_BYTES:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(self._body_s):
                async for some in request.stream():
                    body += some
                    if len(body) > MAX_BYTES:
                        raise too_large
        except TimeoutError:
            raise _Refusal(408, f"The body did not arrive within {self._body_s:g} s; send it again.") from None
        return bytes(body)

    def _publish(self, body: bytes, is_packed: bool, kind: Kind, token: Token) -> Received:
        """Returns, with counts, when the hubs have all that is in a body.

        Raises:
            _Refusal: they have not.
        """
        try:
            found = received(unpacked(body) if is_packed else body, kind, token.patient, self._clock())
        except NotUnderstoodError as error:
            raise _Refusal(400, str(error)) from None
        except TooLargeError:
            raise _Refusal(413, f"The body holds more than {MAX_BYTES >> 20} MiB; send smaller parts.") from None
        key = hashed(token.patient.encode())
        too_large = 0
        try:
            for stream, events in found.events.items():
                too_large += len(self._publisher_of(stream).publish(events, [key] * len(events)))
        except HubUnavailableError:
            tell(_log, "the hub did not take what was posted", logging.WARNING)
            raise _Refusal(503, "The hub cannot be reached; send it again.", HUB_AWAY_RETRY_S) from None
        if too_large:
            tell(_log, "a record is larger than an event of the hub", logging.ERROR, records=too_large)
            what = f"{too_large:,} records are larger than an event of the hub can be; all others were taken."
            raise _Refusal(413, f"{what} Send them in smaller parts.")
        return found

    def _nothing(self, content: Any) -> Callable[[Request], Any]:
        """The answer to uploaders of Nightscout that ask whether they may send, or for what is not kept."""

        async def answer(request: Request) -> Response:
            try:
                self._authenticated(request)
            except _Refusal as refusal:
                return refusal.response()
            return JSONResponse(content)

        return answer

    async def _status(self, _: Request) -> Response:
        return JSONResponse({"status": "ok", "name": "pulselake", "apiEnabled": True})


def _offered(request: Request) -> str | None:
    """The hash of the token that a request has."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return sent_as_is(token.strip())
    digest = request.headers.get("api-secret", "").strip()
    return sent_as_sha1(digest) if _SHA1.fullmatch(digest) else None


def _encoding(request: Request) -> bool:
    """Whether the body is packed.

    Raises:
        _Refusal: in another way than by gzip.
    """
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("gzip", "identity", ""):
        raise _Refusal(415, "The body may be packed by gzip only.", headers={"Accept-Encoding": "gzip"})
    return encoding == "gzip"


class _Impatient(H11Protocol):
    """Ends a connection whose next request does not begin, or whose head does not end, in time."""

    head_s = HEAD_S
    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop()

    def _watch(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop()
        elif self._waiting is None:
            self._waiting = self.loop.call_later(self.head_s, self._end)

    def _stop(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _end(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()


@contextmanager
def server(
    settings: Settings, port: int | None = None, *, head_s: float = HEAD_S, **options: Any
) -> Iterator["ReceivingServer"]:
    """The server of a home, with its connections to the hubs; `run` serves until a signal ends it.

    Args:
        settings: where the hubs, the tokens and the certificate are.
        port: default is that of the settings.
        head_s: how long the head of a request may take to arrive.
        options: of `Receiver`, for tests.

    Raises:
        ReceiveError: the port is taken, or the certificate cannot be used.
    """
    host, port = settings.receive_host, settings.receive_port if port is None else port
    listening = _listening(host, port)
    with ExitStack() as stack:
        stack.callback(listening.close)
        publishers = {
            stream: stack.enter_context(sources.publisher(settings, stream)) for stream in OWN_STREAMS.values()
        }

        receiver = Receiver(Tokens(settings.tokens_file), publishers.__getitem__, **options)
        config = uvicorn.Config(
            receiver.app(),
            http=type("Impatient", (_Impatient,), {"head_s": head_s}),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            # A proxy on this machine says who the client is.
            proxy_headers=True,
            forwarded_allow_ips="127.0.0.1",
            limit_concurrency=MAX_CONNECTIONS,
            timeout_keep_alive=15,
            timeout_graceful_shutdown=5,
            ssl_certfile=settings.receive_certificate,
            ssl_keyfile=settings.receive_key,
        )
        try:
            config.load()
        except (OSError, ValueError) as error:
            raise ReceiveError(
                f"The certificate or its key cannot be used ({type(error).__name__}), so nothing is received. Check "
                "PULSELAKE_RECEIVE_CERTIFICATE and PULSELAKE_RECEIVE_KEY."
            ) from None
        yield ReceivingServer(config, listening)


class ReceivingServer(uvicorn.Server):
    """Serves on a socket that listens already."""

    def __init__(self, config: uvicorn.Config, listening: socket.socket) -> None:
        super().__init__(config)
        self.listening = listening

    @property
    def port(self) -> int:
        """The port that it listens on."""
        found: int = self.listening.getsockname()[1]
        return found

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serves until a signal comes, or `should_exit` is set."""
        super().run(sockets or [self.listening])


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise ReceiveError(
            f"{host}:{port} cannot be listened on ({error.strerror}), so nothing is received there. End what listens "
            "there, or choose another port with PULSELAKE_RECEIVE_PORT."
        ) from None
    return listening
