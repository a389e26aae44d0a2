"""Somebody's own account: their password, and in which unit and time zone they read."""

from collections.abc import Sequence
from zoneinfo import available_timezones

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from dashboard.access import MAX_PASSWORD, MIN_PASSWORD, UNITS, PasswordError
from dashboard.attempts import LockedOutError
from dashboard.pages import Form, action, audit_of, local, page, render, session_of, site_of
from dashboard.routes_sign_in import browser_of, entered

DONE = {
    "password": "Your password is changed. Wherever else you were signed in, you are no more.",
    "show": "The unit and the time zone are changed.",
}


@page("account")
def account(request: Request) -> Response:
    """What somebody may change of their own account."""
    return _shown(request, done=DONE.get(request.query_params.get("done", ""), ""))


@action("account")
def change(request: Request, form: Form) -> Response:
    """Changes the password, or the unit and the time zone."""
    given = {name: "".join(values[:1]) for name, values in form.items()}
    if given.get("do") == "password":
        return _password(request, given)
    unit = next((each for each in UNITS if each == given.get("unit")), None)
    zone = given.get("zone", "").strip()
    if given.get("do") != "show" or unit is None or zone not in available_timezones():
        return _shown(
            request, 400, "There is no such unit or time zone; nothing was changed. Write a zone like Europe/Lisbon."
        )
    name = session_of(request).user.name
    site_of(request).users.show(name, unit, zone)
    audit_of(request)("change unit and zone", name, f"{unit}, {zone}")
    return RedirectResponse("/account?done=show", 303)


def _password(request: Request, given: dict[str, str]) -> Response:
    site, session = site_of(request), session_of(request)
    if not _has_password(request):
        return _shown(request, 400, "You do not sign in by password; nothing was changed.")
    if given.get("new") != given.get("again"):
        return _shown(request, 400, "The new password was not the same both times; nothing was changed.")
    browser = browser_of(request)
    try:
        token = site.users.change_password(session, given.get("old", ""), given.get("new", ""), browser)
    except LockedOutError as error:
        audit_of(request)("change password refused", session.user.name, "locked")
        until = local(error.until, "UTC")
        return _shown(request, 429, f"Too many attempts; nothing was changed. Try again after {until} UTC.")
    except PasswordError as error:
        return _shown(request, 400, str(error))
    if token is None:
        audit_of(request)("change password refused", session.user.name, "the old one was wrong")
        return _shown(request, 400, "The password that you have now is another one; nothing was changed.")
    audit_of(request)("change password", session.user.name)
    return entered(request, token, browser, "/account?done=password")


def _shown(request: Request, status: int = 200, problem: str = "", done: str = "") -> Response:
    user = session_of(request).user
    return render(
        request,
        "account.html",
        status,
        user=user,
        may_change=_has_password(request),
        units=UNITS,
        zones=sorted(available_timezones()),
        lengths=(MIN_PASSWORD, MAX_PASSWORD),
        problem=problem,
        done=done,
    )


def _has_password(request: Request) -> bool:
    return session_of(request).user.has_password and site_of(request).settings.page_passwords


ROUTES: Sequence[BaseRoute] = [Route("/account", account), Route("/account", change, methods=["POST"])]
