"""The server of the live page: what it is made of, and what every answer of it says about security."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dashboard.access import Viewer
from dashboard.actions import PENDING_S, Actions
from dashboard.apart import AGAIN_AFTER_S, Apart, ApartError
from dashboard.audit import COUNTED_FOR, Audit
from dashboard.board import US_PER_S, Board, microseconds
from dashboard.database import Database, page_database
from dashboard.directory import Directory
from dashboard.feed import Feed
from dashboard.live import Broadcaster
from dashboard.pages import is_signed_in, render, wants_page
from dashboard.routes import ROUTES
from dashboard.site import CONTRACTS_WITH_ALARMS, Site
from dashboard.users import Users
from resources.logs import tell
from resources.settings import Settings
from resources.storage import lake_of

if TYPE_CHECKING:
    from dashboard.openid import OpenId

_log = logging.getLogger(__name__)

HOST = "127.0.0.1"
LOCAL_HOSTS = ("127.0.0.1", "localhost")
MAX_BODY_BYTES = 256 << 10
GRACE_S = 2
"""How long streams that are open are waited for at the end."""
EXPIRE_EVERY = timedelta(hours=1)

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "manifest-src 'self'; worker-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS: Mapping[str, str] = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
}
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def site(settings: Settings, database: Database, clock: Callable[[], datetime]) -> Site:
    """What the pages of one server share; nothing is started yet."""
    lake = lake_of(settings)
    users = Users(database, clock, timedelta(minutes=settings.page_idle_minutes))
    directory = Directory(lake)
    board = Board(directory.is_on_scale_2)
    directory.refresh(clock())

    def viewer_of(session: str) -> Viewer | None:
        found = users.session_of(session)
        return None if found is None else made.viewer(found.user)

    live = Broadcaster(board, directory, clock, viewer_of, users.rights)
    actions = Actions(settings, board, clock, live.wake)
    made = Site(
        settings,
        lake,
        clock,
        users,
        Audit(database, clock),
        directory,
        board,
        live,
        actions,
        Apart(),
        open_id=_provider(settings),
    )
    return made


def application(settings: Settings, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Starlette:
    """The live page as an ASGI application.

    Args:
        settings: of the server.
        clock: the time of day, UTC.

    Raises:
        DatabaseError: the accounts cannot be opened.
    """
    database = page_database(settings.root)
    shared = site(settings, database, clock)
    expired, settled = [clock()], [clock()]

    def upkeep() -> None:
        now = clock()
        shared.board.expire(microseconds(now), round(PENDING_S * US_PER_S))
        if abs(now - settled[0]) > COUNTED_FOR:
            settled[0] = now
            shared.audit.settle()
        if now - expired[0] > EXPIRE_EVERY:
            expired[0] = now
            shared.audit.expire(timedelta(days=settings.page_audit_days))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        feed = Feed(
            settings,
            shared.lake,
            shared.board,
            shared.directory,
            CONTRACTS_WITH_ALARMS,
            shared.live.wake,
            clock,
            upkeep,
        )
        shared.live.troubles = feed.troubles
        feed.start()
        task = asyncio.create_task(shared.live.run())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            shared.apart.close()
            await asyncio.to_thread(feed.stop)
            shared.actions.close()
            shared.audit.settle()
            database.close()

    made = Starlette(
        routes=[*ROUTES, *_routes_of_provider(shared)],
        lifespan=lifespan,
        middleware=[Middleware(Guard, origins=_origins(settings))],
        exception_handlers={HTTPException: _said, ApartError: _not_computed, Exception: _failed},
    )
    made.state.site = shared
    return made


# What speaks OpenID Connect takes 15 MB, which a page without a provider does not need.
def _provider(settings: Settings) -> "OpenId | None":
    if settings.oidc_issuer is None:
        return None
    from dashboard.openid import open_id

    return open_id(settings, settings.oidc_issuer)


def _routes_of_provider(shared: Site) -> Sequence[BaseRoute]:
    if shared.open_id is None:
        return ()
    from dashboard.routes_openid import ROUTES as routes

    return routes


def serve(settings: Settings) -> None:
    """Serves the live page until the process is asked to end.

    Raises:
        DatabaseError: see `application`.
    """
    config = uvicorn.Config(
        application(settings),
        host=HOST,
        port=settings.page_port,
        log_level="warning",
        # Addresses of pages name patients.
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
        proxy_headers=bool(settings.page_origin),
        forwarded_allow_ips=HOST,
    )
    logging.getLogger("uvicorn.error").addFilter(without_text)
    uvicorn.Server(config).run()


def without_text(record: logging.LogRecord) -> bool:
    """Takes the trace of an error out of what is logged, since its text may quote a reading."""
    if record.exc_info or record.exc_text:
        record.exc_info, record.exc_text = None, None
        record.msg, record.args = "A request failed.", ()
    return True


def _origins(settings: Settings) -> frozenset[str]:
    own = (f"http://{host}:{settings.page_port}" for host in LOCAL_HOSTS)
    return frozenset({*own, *([settings.page_origin] if settings.page_origin else [])})


class Guard:
    """Refuses what no page of ours sent, and adds the headers of security to every answer.

    A name that is not ours is refused, so that no other site can have it point here. What changes something must come
    from a page of ours: by `Sec-Fetch-Site`, which browsers set and scripts cannot, or by `Origin`.

    Args:
        app: what is guarded.
        origins: ours, as ``http://127.0.0.1:8200``.
    """

    def __init__(self, app: ASGIApp, origins: frozenset[str]) -> None:
        self._app, self._origins = app, origins
        self._hosts = frozenset(urlsplit(each).netloc for each in origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = {name.decode().lower() for name, _ in message["headers"]}
                more = {**HEADERS, "cache-control": _kept(scope) if message["status"] == 200 else "no-store"}
                message["headers"] = [
                    *message["headers"],
                    *((name.encode(), value.encode()) for name, value in more.items() if name not in headers),
                ]
            await send(message)

        problem = self._problem(scope)
        answer = self._app if problem is None else JSONResponse({"error": problem[1]}, problem[0])
        await answer(scope, receive, sent)

    def _problem(self, scope: Scope) -> tuple[int, str] | None:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if headers.get("host") not in self._hosts:
            return 421, "This server has another name."
        if scope["method"] in SAFE_METHODS:
            return None
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        is_ours = site == "same-origin" if site is not None else origin in self._origins
        if not is_ours or (origin is not None and origin not in self._origins):
            return 403, "This was not sent by a page of this server; nothing was done."
        length = headers.get("content-length", "")
        if not length.isascii() or not length.isdecimal() or int(length) > MAX_BODY_BYTES:
            return 413, f"A form has at most {MAX_BODY_BYTES:,} bytes, and says how many; nothing was done."
        return None


def _kept(scope: Scope) -> str:
    """How long a browser may keep an answer: a file whose address names its content for long, pages not at all."""
    if not scope["path"].startswith("/static/"):
        return "no-store"
    return "public, max-age=31536000, immutable" if b"v=" in scope["query_string"] else "no-cache"


HEADINGS = {403: "Not allowed", 404: "Not found", 405: "Not found"}


def _said(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    is_own = error.detail.endswith(".")
    text = error.detail if is_own else "There is no such page."
    return _told(request, error.status_code, HEADINGS.get(error.status_code, "This did not work"), text)


def _not_computed(request: Request, error: Exception) -> Response:
    tell(_log, "a page was not computed", logging.WARNING, page=request.url.path, error=str(error))
    answer = _told(request, 503, "Not now", str(error))
    answer.headers["retry-after"] = str(AGAIN_AFTER_S)
    return answer


def _failed(request: Request, error: Exception) -> Response:
    route = getattr(request.scope.get("route"), "path", "")
    tell(_log, "a page failed", logging.ERROR, page=route, error=type(error).__name__)
    answer = _told(request, 500, "Something went wrong", "It is noted in the server's log. Try again.")
    # This answer is made outside of `Guard`.
    answer.headers.update({**HEADERS, "cache-control": "no-store"})
    return answer


def _told(request: Request, status: int, heading: str, text: str) -> Response:
    if not wants_page(request):
        return JSONResponse({"error": text}, status)
    if not hasattr(request.state, "viewer"):
        is_signed_in(request, touches=False)
    return render(request, "message.html", status, heading=heading, text=text)
