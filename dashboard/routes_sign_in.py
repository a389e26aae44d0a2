"""Signing in by password, and out; what every way of signing in ends with."""

import secrets
from collections.abc import Sequence

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from dashboard.attempts import BROWSER_KNOWN, LockedOutError
from dashboard.pages import (
    COOKIE,
    Form,
    address_of,
    audit_of,
    cookie_of,
    drop_cookie,
    form_of,
    is_signed_in,
    keep_cookie,
    local,
    pages_of,
    render,
    session_of,
    site_of,
    viewer_of,
)
from dashboard.turns import BusyError

BROWSER = "pulselake_browser"
"""The cookie of a browser in which somebody has signed in."""
MAX_BROWSER = 100


def login_page(request: Request) -> Response:
    """The form to sign in; who is signed in is sent on."""
    target = request.query_params.get("next", "")
    if is_signed_in(request):
        return RedirectResponse(_first(request, target), 303)
    return sign_in_form(request, 200, "", target)


async def login(request: Request) -> Response:
    """Signs in. Guesses wait for each other here, and not in the threads that pages need."""
    form = await form_of(request)
    try:
        async with site_of(request).signing_in.awaited():
            return await run_in_threadpool(_login, request, form)
    except BusyError:
        return too_many(request, "".join(form.get("next", [])[:1]))


def _login(request: Request, form: Form) -> Response:
    site, address = site_of(request), address_of(request)
    name, password, target = ("".join(form.get(each, [])[:1]) for each in ("name", "password", "next"))
    if not site.settings.page_passwords:
        site.audit.fail("-", "-", "login refused", "passwords are off", address)
        return sign_in_form(request, 403, "Nobody signs in by password here.", target)
    # What was typed may be a password; only the name of an account is noted.
    account = site.users.get(name)
    who, role = (account.name, account.role.value) if account else ("-", "-")
    browser = browser_of(request)
    try:
        token = site.users.sign_in(name, password, browser)
    except LockedOutError as error:
        site.audit.fail(who, role, "login refused", "locked", address)
        until = local(error.until, "UTC")
        problem = (
            f"Too many attempts. Try again after {until} UTC, sign in where you have signed in before, or ask an "
            "administrator for another password."
        )
        return sign_in_form(request, 429, problem, target, name)
    if token is None:
        site.audit.fail(who, role, "login failed", "", address)
        return sign_in_form(request, 401, "The name or the password is not right.", target, name)
    site.audit.write(who, role, "login", address=address)
    return entered(request, token, browser, target)


def too_many(request: Request, target: str) -> Response:
    """Somebody is sent away; the audit trail has how many were."""
    site_of(request).audit.turn_away()
    return sign_in_form(
        request, 429, "Too many people sign in at the moment. Nobody was signed in. Try again soon.", target
    )


def sign_in_form(request: Request, status: int, problem: str, target: str, name: str = "") -> Response:
    """The form to sign in, with what was wrong."""
    return render(request, "login.html", status, problem=problem, name=name, next=target)


def browser_of(request: Request) -> str:
    """What the browser is known by, or will be."""
    given = request.cookies.get(cookie_of(request, BROWSER), "")
    return given if 0 < len(given) <= MAX_BROWSER else secrets.token_urlsafe(32)


def entered(request: Request, token: str, browser: str, target: str) -> Response:
    """Sends somebody on with a new session; the one that the browser had is over."""
    site = site_of(request)
    session = site.users.session(token)
    if session is None:
        return sign_in_form(request, 403, "The account was changed meanwhile. Sign in again.", target)
    if is_signed_in(request, touches=False):
        site.users.sign_out(session_of(request))
    request.state.session, request.state.viewer = session, site.viewer(session.user)
    answer = RedirectResponse(_first(request, target), 303)
    keep_cookie(request, answer, COOKIE, token)
    keep_cookie(request, answer, BROWSER, browser, round(BROWSER_KNOWN.total_seconds()))
    return answer


def _first(request: Request, target: str) -> str:
    """Where somebody goes after signing in: the page here that they asked for, else the first that is theirs."""
    is_ours = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable()
    if is_ours and target.partition("?")[0] != "/":
        return target
    return next((each.path for each in pages_of(request, viewer_of(request))), "/")


async def logout(request: Request) -> Response:
    """Signs out; streams of the session end within a second."""
    return await run_in_threadpool(_logout, request, await form_of(request))


def _logout(request: Request, form: Form) -> Response:
    # Whoever can have somebody sign out gains nothing, but a form without the token was not ours.
    if is_signed_in(request, touches=False) and form.get("csrf", [""])[0] == session_of(request).csrf:
        audit_of(request)("logout")
        site_of(request).users.sign_out(session_of(request))
    answer = RedirectResponse("/login", 303, headers={"clear-site-data": '"cache"'})
    drop_cookie(request, answer, COOKIE)
    return answer


ROUTES: Sequence[BaseRoute] = [
    Route("/login", login_page),
    Route("/login", login, methods=["POST"]),
    Route("/logout", logout, methods=["POST"]),
]
