"""What every page needs: who asks, whether they may, what is noted of it, and how a template becomes a response."""

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache, wraps
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import quote, urlsplit
from zoneinfo import ZoneInfo

import polars as pl
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from assets.glucose.silver import MG_DL_PER_MMOL_L
from dashboard.access import MG_DL, Role, Viewer
from dashboard.site import Site
from dashboard.users import Session
from resources.results import render as rendered

FOLDER = Path(__file__).parent
COOKIE, CSRF_HEADER = "pulselake_session", "x-csrf-token"
MAX_FIELDS = 2_000
"""Of a form: 500 alarms that are acknowledged together, and more."""

_SPELLED: Mapping[str, str] = {"spo2": "SpO2", "news2": "NEWS2"}
_CAUSES: Mapping[str, str] = {"silence": "no readings", "refused": "readings refused"}
_CLINICAL = frozenset({Role.CLINICIAN, Role.CAREGIVER, Role.ANALYST})
_EXPERTS = frozenset({Role.CLINICIAN, Role.ANALYST})
_ADMINISTRATOR = frozenset({Role.ADMINISTRATOR})
_NOBODY: frozenset[Role] = frozenset()


@dataclass(frozen=True)
class Page:
    """One page, or a few of one subject.

    Attributes:
        path: of the page.
        title: in the navigation, if it is there.
        roles: who may open it.
        actors: who may change something there.
        is_listed: whether it is in the navigation.
    """

    path: str
    title: str
    roles: frozenset[Role]
    actors: frozenset[Role] = _NOBODY
    is_listed: bool = True


PAGES: Mapping[str, Page] = {
    "ward": Page("/", "Ward", _CLINICAL),
    "alarms": Page("/alarms", "Alarms", _CLINICAL, frozenset({Role.CLINICIAN, Role.CAREGIVER})),
    "patient": Page("/patients/{patient_id}", "Patient", _CLINICAL, is_listed=False),
    "compare": Page("/compare", "Compare", _EXPERTS),
    "rules": Page("/rules", "Rules", _EXPERTS, frozenset({Role.CLINICIAN})),
    "devices": Page("/devices", "Devices", _EXPERTS | _ADMINISTRATOR),
    "safety": Page("/safety", "Drug safety", _EXPERTS | {Role.SAFETY_OFFICER}),
    "quality": Page("/quality", "Data quality", frozenset({Role.ANALYST, Role.SAFETY_OFFICER, Role.ADMINISTRATOR})),
    "admin": Page("/admin", "Admin", _ADMINISTRATOR, _ADMINISTRATOR),
    "account": Page("/account", "Your account", frozenset(Role), frozenset(Role), is_listed=False),
}
"""Who may open which page, in one place."""

Form = Mapping[str, list[str]]
Handler = Callable[[Request], Response]
Action = Callable[[Request, Form], Response]


def site_of(request: Request) -> Site:
    """The server that a request came to."""
    return cast("Site", request.app.state.site)


def viewer_of(request: Request) -> Viewer:
    """Who asks; only of pages and actions that ask who it is."""
    return cast("Viewer", request.state.viewer)


def session_of(request: Request) -> Session:
    """The session of who asks."""
    return cast("Session", request.state.session)


def address_of(request: Request) -> str:
    """Where a request comes from."""
    return request.client.host if request.client else ""


def audit_of(request: Request) -> Callable[..., None]:
    """Writes a row of the audit trail: `audit_of(request)(what, subject, detail)`."""
    viewer = viewer_of(request)

    def wrote(what: str, subject: str = "", detail: str = "") -> None:
        site_of(request).audit.write(viewer.name, viewer.role.value, what, subject, detail, address_of(request))

    return wrote


def is_by_tls(request: Request) -> bool:
    """Whether the browser is at the proxy that ends TLS. `Guard` has seen to it that the host is one of ours."""
    origin = site_of(request).settings.page_origin
    return origin is not None and request.headers["host"] == urlsplit(origin).netloc


def cookie_of(request: Request, name: str) -> str:
    """What a cookie of ours is called.

    By `__Host-` browsers take it over TLS and from this host only: otherwise any server of the same domain could have
    somebody work in a session of its own.
    """
    return f"__Host-{name}" if is_by_tls(request) else name


def keep_cookie(request: Request, answer: Response, name: str, value: str, max_age_s: int | None = None) -> None:
    """Has the browser keep a cookie, until it is closed if no time is given."""
    key, is_secure = cookie_of(request, name), is_by_tls(request)
    answer.set_cookie(key, value, max_age_s, path="/", secure=is_secure, httponly=True, samesite="lax")


def drop_cookie(request: Request, answer: Response, name: str) -> None:
    """Has the browser forget a cookie."""
    answer.delete_cookie(cookie_of(request, name), path="/", secure=is_by_tls(request), httponly=True)


def is_signed_in(request: Request, *, touches: bool = True) -> bool:
    """Whether somebody is signed in; who it is, is in the request's state then.

    Args:
        request: with a cookie, perhaps.
        touches: whether the request shows that somebody is there.
    """
    site = site_of(request)
    token = request.cookies.get(cookie_of(request, COOKIE))
    session = site.users.session(token) if token else None
    if session is None:
        return False
    if touches:
        site.users.touch(session)
    request.state.session, request.state.viewer = session, site.viewer(session.user)
    return True


def page(key: str) -> Callable[[Handler], Handler]:
    """A page of `PAGES`: the handler runs in a worker thread, and only for those who may open it."""

    def decorate(handler: Handler) -> Handler:
        @wraps(handler)
        def endpoint(request: Request) -> Response:
            if not is_signed_in(request):
                return _sign_in_first(request)
            _require(request, key, PAGES[key].roles)
            return handler(request)

        return endpoint

    return decorate


def action(key: str) -> Callable[[Action], Callable[[Request], Any]]:
    """Something that is changed on a page of `PAGES`: by POST, with the session's token, by those who may."""

    def decorate(handler: Action) -> Callable[[Request], Any]:
        def checked(request: Request, form: Form) -> Response:
            if not is_signed_in(request):
                return _sign_in_first(request)
            given = request.headers.get(CSRF_HEADER) or "".join(form.get("csrf", [])[:1])
            if not hmac.compare_digest(given.encode("utf-8", "replace"), session_of(request).csrf.encode()):
                audit_of(request)("denied", request.url.path, "no token of the session")
                raise HTTPException(403, "The form was not sent by this page. Open the page again and repeat it.")
            _require(request, key, PAGES[key].actors)
            return handler(request, form)

        @wraps(handler)
        async def endpoint(request: Request) -> Response:
            return await run_in_threadpool(checked, request, await form_of(request))

        return endpoint

    return decorate


async def form_of(request: Request) -> Form:
    """The fields of a form, with all values of each.

    Raises:
        HTTPException: it is of a kind that no page of ours sends. One of several parts may name any encoding, also
            ones that have texts which are no UTF-8.
    """
    if request.headers.get("content-type", "").strip().lower().startswith("multipart/"):
        raise HTTPException(415, "A form here is application/x-www-form-urlencoded; nothing was done.")
    async with request.form(max_files=0, max_fields=MAX_FIELDS) as sent:
        found: dict[str, list[str]] = {}
        for name, value in sent.multi_items():
            found.setdefault(name, []).append(str(value))
        return found


def _require(request: Request, key: str, roles: frozenset[Role]) -> None:
    request.state.page = PAGES[key]
    if not viewer_of(request).counts_as(roles):
        audit_of(request)("denied", request.url.path)
        raise HTTPException(403, "This page is not for your role. An administrator can change that.")


def _sign_in_first(request: Request) -> Response:
    if request.method != "GET" or not wants_page(request):
        return JSONResponse({"error": "You are signed out. Sign in again."}, 401)
    query = f"?{request.url.query}" if request.url.query else ""
    return RedirectResponse(f"/login?next={quote(request.url.path + query, safe='')}", 303)


def wants_page(request: Request) -> bool:
    """Whether a person looks at the answer, and not a script; `Sec-Fetch-Dest` does not pass a service worker."""
    return "text/html" in request.headers.get("accept", "") and CSRF_HEADER not in request.headers


def patient_of(request: Request, *, audited: bool = True) -> int:
    """The patient of the path parameter `patient_id`; that they were looked at is noted once.

    Raises:
        HTTPException: 404 for another's patient and for what is no number, so that neither tells who there is.
    """
    patient_id = seen(request, request.path_params["patient_id"])
    if audited:
        audit_of(request)("view patient", str(patient_id))
    return patient_id


def seen(request: Request, patient_id: str | int) -> int:
    """A patient's id if the viewer may see them.

    Raises:
        HTTPException: 404, see `patient_of`.
    """
    text = str(patient_id)
    number = (
        int(text)
        if text.removeprefix("-").isascii() and text.removeprefix("-").isdecimal() and len(text) < 20
        else None
    )
    if number is None or not viewer_of(request).may_see(number):
        audit_of(request)("denied", "" if number is None else str(number), request.url.path)
        raise HTTPException(404, "There is no such page, or no such patient of yours.")
    return number


def pages_of(request: Request, viewer: Viewer) -> list[Page]:
    """The pages that somebody may open, as the navigation lists them."""
    paths = {getattr(route, "path", "") for route in request.app.routes}
    return [each for each in PAGES.values() if each.is_listed and each.path in paths and viewer.counts_as(each.roles)]


def render(request: Request, template: str, status: int = 200, **context: Any) -> HTMLResponse:
    """A template as a response."""
    site, state = site_of(request), request.state
    viewer: Viewer | None = getattr(state, "viewer", None)
    known = {
        "viewer": viewer,
        "csrf": state.session.csrf if viewer else "",
        "page": getattr(state, "page", None),
        "nav": [] if viewer is None else pages_of(request, viewer),
        "now": site.clock(),
        "site": site,
    }
    return HTMLResponse(_environment().get_template(template).render(known | context), status)


def download(
    request: Request, frame: pl.DataFrame, name: str, format: Literal["csv", "parquet"], subject: str = ""
) -> Response:
    """A frame as a file, noted in the audit trail. What the viewer may not see must be left out of it before.

    In CSV, texts that a spreadsheet would run as formulas begin with an apostrophe.
    """
    if format == "parquet":
        buffer = BytesIO()
        frame.write_parquet(buffer)
        content, kind = buffer.getvalue(), "application/vnd.apache.parquet"
    else:
        content, kind = rendered(frame, "csv").encode(), "text/csv; charset=utf-8"
    audit_of(request)("download", subject, f"{name}.{format}, {frame.height:,} rows")
    return Response(
        content, media_type=kind, headers={"content-disposition": f'attachment; filename="{name}.{format}"'}
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "local": local,
        "clock": clock,
        "glucose": glucose,
        "span": span,
        "words": words,
        "told": told,
    }
    environment.globals["static"] = static
    return environment


@cache
def static(name: str) -> str:
    """The URL of a static file; it changes with the file, so that browsers may keep it."""
    digest = hashlib.sha256((FOLDER / "static" / name).read_bytes()).hexdigest()[:12]
    return f"/static/{name}?v={digest}"


def local(instant: datetime | None, zone: str) -> str:
    """An instant in a time zone: ``2026-11-29 14:05``."""
    return "" if instant is None else f"{instant.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M}"


def clock(instant: datetime | None, zone: str) -> str:
    """The time of day of an instant in a time zone: ``14:05``."""
    return "" if instant is None else f"{instant.astimezone(ZoneInfo(zone)):%H:%M}"


def glucose(mg_dl: float | None, unit: str) -> str:
    """A glucose value in somebody's unit: ``104`` or ``5.8``."""
    if mg_dl is None:
        return ""
    return f"{mg_dl:.0f}" if unit == MG_DL else f"{mg_dl / MG_DL_PER_MMOL_L:.1f}"


def span(value: timedelta | float | None) -> str:
    """A time, in seconds if it is a number: ``2 d 3 h``, ``5 h 10 min``, ``12 min``."""
    if value is None:
        return ""
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    minutes = max(0, int(seconds // 60))
    days, hours, rest = minutes // 1440, minutes // 60 % 24, minutes % 60
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {rest} min" if hours else f"{rest} min"


def words(name: str | None) -> str:
    """A cause or a rule for people: ``glucose low``, ``SpO2 low``, ``no readings``."""
    given = name or ""
    return _CAUSES.get(given) or " ".join(_SPELLED.get(word, word) for word in given.split("_"))


def told(text: str) -> Markup:
    """A message with its commands, which stand between backticks, as code."""
    between = re.split(r"`([^`]*)`", text)
    code = Markup("<code>{}</code>")
    return Markup("").join(code.format(each) if at % 2 else each for at, each in enumerate(between))
