"""The administrators' page: accounts and their rights, care teams, and the audit trail."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from zoneinfo import available_timezones

import polars as pl
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from dashboard.access import MG_DL, UNITS, PasswordError, Role, Scope
from dashboard.pages import Form, action, audit_of, download, page, render, site_of
from dashboard.users import Identity, User, UserError

AUDIT_ROWS, DOWNLOADED_ROWS = 100, 100_000
MAX_DIGITS = 19
"""Ids of patients have 64 bits."""


@page("admin")
def admin(request: Request) -> Response:
    """Accounts, care teams and groups."""
    site = site_of(request)
    people = site.directory.people.persons.values()
    audit_of(request)("view admin")
    return render(
        request,
        "admin.html",
        users=site.users.all(),
        roles=[*Role],
        units=UNITS,
        groups=Counter(group for person in people for group in person.groups),
        teams=Counter(person.care_team or "(none)" for person in people),
        problem="",
    )


@page("admin")
def audit(request: Request) -> Response:
    """The audit trail, the newest first."""
    site, query = site_of(request), request.query_params
    chosen = {name: query.get(name, "").strip()[:100] for name in ("who", "what", "subject")}
    before = _number(query.get("before", "0"))
    rows = site.audit.rows(AUDIT_ROWS + 1, before=before, **chosen)
    audit_of(request)("view audit", chosen["subject"], ", ".join(f"{k} {v}" for k, v in chosen.items() if v))
    return render(
        request,
        "audit.html",
        rows=rows[:AUDIT_ROWS],
        chosen=chosen,
        kinds=site.audit.kinds(),
        before=before,
        step=AUDIT_ROWS,
        has_more=len(rows) > AUDIT_ROWS,
    )


@page("admin")
def audit_file(request: Request) -> Response:
    """The audit trail as a file."""
    rows = site_of(request).audit.rows(DOWNLOADED_ROWS)
    return download(request, pl.DataFrame([vars(row) for row in rows]), "audit", "csv")


@action("admin")
def change(request: Request, form: Form) -> Response:
    """Makes an account, or gives one other rights or another password."""
    site, say = site_of(request), audit_of(request)
    what, name = _one(form, "do"), _one(form, "name")
    try:
        if what == "add":
            user = _with_rights(User(name, Role.CLINICIAN, Scope()), form)
            user = replace(user, identity=_identity(request, form))
            # Whoever signs in by OpenID Connect needs no password.
            site.users.add(user, _one(form, "password") or (None if user.identity else ""))
            say("add account", name, f"{user.role}, {user.scope.told}")
        elif what == "bind":
            identity = _identity(request, form)
            site.users.bind(name, identity)
            say("change sign-in", name, identity.subject if identity else "bound to nobody")
        elif what == "password":
            site.users.set_password(name, _one(form, "password"))
            say("change password", name)
        elif what in ("rights", "disable", "enable"):
            known = site.users.get(name)
            if known is None:
                raise UserError(f"There is no account '{name}'; nothing was changed.")
            user = _with_rights(known, form) if what == "rights" else replace(known, is_disabled=what == "disable")
            site.users.change(user)
            say("change rights", known.name, f"{'disabled' if user.is_disabled else user.role}, {user.scope.told}")
        else:
            raise UserError("There is no such change; nothing was changed.")
    except (UserError, PasswordError) as error:
        raise HTTPException(400, str(error)) from error
    return RedirectResponse("/admin", 303)


def _identity(request: Request, form: Form) -> Identity | None:
    """Who is to sign in by OpenID Connect; None means nobody."""
    issuer, subject = site_of(request).settings.oidc_issuer, _one(form, "subject")
    if subject and issuer is None:
        raise UserError("There is no provider of OpenID Connect; nothing was changed. Set PULSELAKE_OIDC_ISSUER first.")
    return Identity(issuer, subject) if subject and issuer else None


def _with_rights(user: User, form: Form) -> User:
    role, unit, zone = _one(form, "role"), _one(form, "unit") or MG_DL, _one(form, "zone") or "UTC"
    if role not in {each.value for each in Role} or unit not in UNITS or zone not in available_timezones():
        raise UserError("The role, the unit or the time zone is none of those that there are; nothing was changed.")
    patients = [each.strip() for each in _one(form, "patients").split(",") if each.strip()]
    digits = [each.removeprefix("-") for each in patients]
    if not all(each.isascii() and each.isdecimal() and len(each) < MAX_DIGITS for each in digits):
        raise UserError("Patients are numbers with commas between them; nothing was changed.")
    groups = frozenset(each.strip() for each in _one(form, "groups").split(",")) - {""}
    scope = Scope(groups, frozenset(map(int, patients)), bool(_one(form, "everyone")))
    return replace(user, role=Role(role), scope=scope, unit=next(each for each in UNITS if each == unit), zone=zone)


def _one(form: Form, name: str) -> str:
    return "".join(form.get(name, [])[:1]).strip() if name != "password" else "".join(form.get(name, [])[:1])


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise HTTPException(400, "The page does not know what the address asks for.")
    return int(text)


ROUTES: Sequence[BaseRoute] = [
    Route("/admin", admin),
    Route("/admin", change, methods=["POST"]),
    Route("/admin/audit", audit),
    Route("/admin/audit.csv", audit_file),
]
