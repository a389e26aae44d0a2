"""Signing in by OpenID Connect: the two requests of it. Loaded only where a provider is set."""

from collections.abc import Sequence
from urllib.parse import quote, unquote, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from dashboard.openid import OpenId, OpenIdError, new_secret
from dashboard.pages import address_of, cookie_of, drop_cookie, keep_cookie, site_of
from dashboard.routes_sign_in import browser_of, entered, sign_in_form, too_many
from dashboard.turns import BusyError
from dashboard.users import Identity

ATTEMPT = "pulselake_openid"
"""The cookie of a sign-in that is going on at the provider."""
PATH = "/login/openid"
ATTEMPT_S = 600
MAX_TARGET = 2000
"""Browsers take no cookie of more than 4,096 bytes."""


async def begin(request: Request) -> Response:
    """Sends the browser to the provider."""
    provider, secret = _provider(request), new_secret()
    target = request.query_params.get("next", "")
    kept = quote(target, safe="")
    try:
        address = await provider.address(secret, _back(request))
    except OpenIdError as error:
        return await run_in_threadpool(_refused, request, error, target)
    except BusyError:
        return too_many(request, target)
    answer = RedirectResponse(address, 303)
    keep_cookie(request, answer, ATTEMPT, f"{secret}.{kept if len(kept) <= MAX_TARGET else ''}", ATTEMPT_S)
    return answer


async def done(request: Request) -> Response:
    """Where the provider sends the browser back to."""
    provider = _provider(request)
    secret, _, target = request.cookies.get(cookie_of(request, ATTEMPT), "").partition(".")
    try:
        identity = await provider.identity(secret, _back(request), request.query_params)
        answer = await run_in_threadpool(_enter, request, identity, unquote(target))
    except OpenIdError as error:
        answer = await run_in_threadpool(_refused, request, error, unquote(target))
    except BusyError:
        # The browser may load this address again, since nothing was asked yet.
        return too_many(request, unquote(target))
    drop_cookie(request, answer, ATTEMPT)
    return answer


def _enter(request: Request, identity: Identity, target: str) -> Response:
    site = site_of(request)
    account = site.users.of(identity)
    if account is None:
        text = (
            f"{urlsplit(identity.issuer).netloc} knows you as '{identity.subject}', and no account of this page is "
            "bound to that. Nobody was signed in. Ask an administrator to bind yours to it."
        )
        raise OpenIdError(403, text, f"no account is bound to {identity.subject}")
    if account.is_disabled:
        site.audit.fail(account.name, account.role.value, "login refused", "disabled", address_of(request))
        return sign_in_form(request, 403, "Your account is disabled. Ask an administrator.", target)
    browser = browser_of(request)
    token = site.users.begin(identity, browser)
    if token is None:
        text = "Your account was changed meanwhile. Nobody was signed in. Sign in again."
        raise OpenIdError(403, text, f"{account.name} was changed meanwhile")
    site.audit.write(account.name, account.role.value, "login", "", "OpenID Connect", address_of(request))
    return entered(request, token, browser, target)


def _refused(request: Request, error: OpenIdError, target: str) -> Response:
    site_of(request).audit.fail("-", "-", "login refused", f"OpenID Connect: {error.detail}", address_of(request))
    return sign_in_form(request, error.status, error.text, target)


def _provider(request: Request) -> OpenId:
    found = site_of(request).open_id
    assert found is not None
    return found


def _back(request: Request) -> str:
    """The address that the provider knows as ours. `Guard` has seen to it that the host is."""
    origin = site_of(request).settings.page_origin or f"http://{request.headers['host']}"
    return f"{origin}{PATH}/done"


ROUTES: Sequence[BaseRoute] = [Route(PATH, begin), Route(f"{PATH}/done", done)]
