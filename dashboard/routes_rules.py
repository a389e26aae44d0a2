"""The rules: which there are, and a change of one, which is previewed before it is saved."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import polars as pl
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from assets.bitemporal import SAFETY_DELAY
from assets.reference.cells import CellError
from assets.reference.rule_files import CELLS
from assets.reference.rules import BUILT_IN, RuleChangeError, RuleSet, Wanted
from assets.reference.tables import PATIENTS
from assets.reference_store import (
    ChangedMeanwhileError,
    ReferenceClockError,
    groups_of,
    held,
    put_rules,
    rule_versions,
    rules_known_at,
)
from assets.stream.rulebook import ALL, THING
from dashboard import values
from dashboard.access import Viewer
from dashboard.apart import AGAIN_AFTER_S, ApartError
from dashboard.files import file_of
from dashboard.pages import PAGES, Form, action, audit_of, page, render, site_of, viewer_of
from dashboard.previewed import Preview
from dashboard.site import CONTRACTS_WITH_ALARMS, Site
from resources.lake import ConcurrentWriteError

FIELDS = (
    "rule_id",
    "scope",
    "hours_from",
    "hours_to",
    "threshold",
    "severity",
    "clear_threshold",
    "is_enabled",
    "note",
)
"""What the form has."""
TIMES: Mapping[str, tuple[str, str]] = {
    "clear_after_s": ("ends after", "how long all values must be well"),
    "remind_every_s": ("reminds every", "while nobody acknowledges it"),
    "escalate_after_s": ("escalates after", "to the next people, if nobody acknowledges it"),
    "max_age_s": ("oldest reading", "an older one raises no alarm"),
}
"""Fields with a number of seconds: what they are called, and what they mean."""
SHOWN_PATIENTS = 20


@dataclass(frozen=True)
class Change:
    """A change as the form has it.

    Attributes:
        texts: by field.
        wanted: what it asks for; None where it cannot be read.
        mistakes: for people.
        seen: up to when whoever has the form open knows the rules; None as they are shown now.
    """

    texts: Mapping[str, str]
    wanted: Wanted | None
    mistakes: Sequence[str] = ()
    seen: datetime | None = None


@page("rules")
def rules_page(request: Request) -> Response:
    """All rules that hold for the viewer's patients, and a form for one of them, with what holds of it now."""
    site, query = site_of(request), request.query_params
    texts = {name: query.get(name, "") for name in (*FIELDS, *TIMES)}
    # Before the rule is read, as in `_shown`. The list with the link to it may have been open for long.
    seen = rules_known_at(site.lake)
    for row in _listed(site, viewer_of(request), site.clock()).iter_rows(named=True) if texts["rule_id"] else ():
        if all((row[name] or "") == texts[name] for name in THING):
            texts |= {name: str(row[name]) for name in ("threshold", "severity")}
    return _shown(request, Change(texts, None, seen=seen), saved=query.get("saved", ""))


@action("rules")
def preview_change(request: Request, form: Form) -> Response:
    """What a change would have done; nothing is saved."""
    change = _change(request, form)
    if change.wanted is None:
        return _shown(request, change, status=400)
    site = site_of(request)
    try:
        # What is wrong is said at once, without a process that evaluates readings.
        now = site.clock()
        known = RuleSet(CONTRACTS_WITH_ALARMS, rule_versions(site.lake))
        wanted = known.changes([change.wanted], valid_from=now, known_at=now, changed_by=None).rows
    except RuleChangeError as error:
        return _shown(request, _with(change, str(error)), status=400)
    try:
        found = site.apart.do(
            "dashboard.preview:preview_of", site.settings, change.wanted, now, raises=(RuleChangeError,)
        )
    except RuleChangeError as error:  # somebody else has changed the rule meanwhile
        return _shown(request, _with(change, str(error)), status=400)
    except ApartError as error:
        # The form stays as it is, so that nobody has to type it again.
        answer = _shown(request, _with(change, str(error)), status=503)
        answer.headers["retry-after"] = str(AGAIN_AFTER_S)
        return answer
    audit_of(request)("preview rule", change.wanted.scope, change.wanted.where)
    return _shown(request, change, found=found, wanted=wanted.to_dicts())


@action("rules")
def save_change(request: Request, form: Form) -> Response:
    """Saves a change; it holds for readings that arrive a few seconds later."""
    change = _change(request, form)
    if change.wanted is None:
        return _shown(request, change, status=400)
    site, viewer = site_of(request), viewer_of(request)
    try:
        done = put_rules(
            site.lake,
            CONTRACTS_WITH_ALARMS,
            [change.wanted],
            valid_from=site.clock(),
            clock=site.clock,
            changed_by=viewer.name,
            seen=change.seen,
        )
    except ChangedMeanwhileError as error:
        # The form knows what holds now from here on, which is shown below it.
        return _shown(request, replace(_with(change, str(error)), seen=None), status=400)
    except (RuleChangeError, ReferenceClockError, ConcurrentWriteError) as error:
        return _shown(request, _with(change, str(error)), status=400)
    what = "changed" if done.rows.height else "unchanged"
    audit_of(request)("change rule", change.wanted.scope, f"{change.wanted.where}: {what}")
    return RedirectResponse(f"/rules?saved={what}", 303)


@page("rules")
def rules_file(request: Request) -> Response:
    """The rules as a file."""
    site, viewer = site_of(request), viewer_of(request)
    return file_of(request, {"rules": lambda: _listed(site, viewer, site.clock())})


def _change(request: Request, form: Form) -> Change:
    """Reads the form as the cells of a file are read."""
    texts = {name: "".join(form.get(name, [])[:1]).strip() for name in (*FIELDS, *TIMES)}
    values_of: dict[str, Any] = {}
    mistakes = []
    for name, text in texts.items():
        try:
            if text:
                values_of[name] = CELLS[name](text)
            elif name == "rule_id":
                raise CellError("an empty field", "choose a rule")
        except CellError as error:
            mistakes.append(f"{name.replace('_', ' ')}: {error}")
    scope = values_of.get("scope", ALL)
    if not mistakes and not may_change(viewer_of(request), scope):
        audit_of(request)("denied", scope, "change of a rule")
        mistakes.append(f"scope: {scope} is not yours to change; write a patient or a group of yours")
    seen = _instant("".join(form.get("seen", [])[:1]))
    if seen is None:
        mistakes.append("The form does not say when it was opened. Open the page again and repeat the change.")
    if mistakes:
        return Change(texts, None, mistakes, seen)
    given = {name: values_of[name] for name in (*FIELDS[4:], *TIMES) if name in values_of}
    given.setdefault("note", None)
    wanted = Wanted(
        values_of["rule_id"],
        given,
        scope,
        values_of.get("hours_from"),
        values_of.get("hours_to"),
        is_deleted="".join(form.get("is_deleted", [])[:1]) == "true",
    )
    return Change(texts, wanted, seen=seen)


def _instant(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else None


def may_change(viewer: Viewer, scope: str) -> bool:
    """Whether a scope is within what somebody may see: rules for all are for those who see all."""
    kind, _, who = scope.partition(":")
    if viewer.visible is None:
        return True
    return viewer.may_see(int(who)) if kind == "patient" else kind == "group" and who in viewer.groups


def _with(change: Change, told: str) -> Change:
    return replace(change, wanted=None, mistakes=[each.strip() for each in told.splitlines()])


def _listed(site: Site, viewer: Viewer, now: datetime) -> pl.DataFrame:
    """What holds now for the patients of the viewer."""
    rows = RuleSet(CONTRACTS_WITH_ALARMS, rule_versions(site.lake)).listed(now)
    if viewer.visible is None:
        return rows
    scopes = [ALL, *(f"group:{each}" for each in viewer.groups), *(f"patient:{each}" for each in viewer.visible)]
    return rows.filter(pl.col("scope").is_in(scopes))


def _shown(
    request: Request,
    change: Change,
    *,
    found: Preview | None = None,
    wanted: Sequence[dict[str, Any]] = (),
    saved: str = "",
    status: int = 200,
) -> Response:
    site, viewer = site_of(request), viewer_of(request)
    # Before the rules are read, so that what comes in between counts as not seen.
    known_at, now = rules_known_at(site.lake), site.clock()
    rows = _listed(site, viewer, now)
    groups = groups_of(held(site.lake, PATIENTS, now))
    patients = []
    if found is not None:
        seen = found.by_patient.filter(viewer.sees(pl.col("entity")))
        names = site.directory.name_of
        patients = [row | {"name": names(viewer, row["entity"])} for row in seen.head(SHOWN_PATIENTS).to_dicts()]
    return render(
        request,
        "rules.html",
        status,
        rows=rows.to_dicts(),
        change=change,
        seen=(change.seen or known_at).isoformat(),
        found=found,
        wanted=wanted,
        patients=patients,
        saved=saved,
        can_change=viewer.counts_as(PAGES["rules"].actors),
        groups=[each for each in groups if viewer.visible is None or each in viewer.groups],
        rule_ids=rows["rule_id"].unique(maintain_order=True).to_list(),
        times=TIMES,
        built_in=BUILT_IN,
        of_column=values.of_column,
        name_of=values.name_of,
        delay=SAFETY_DELAY,
    )


ROUTES: Sequence[BaseRoute] = [
    Route("/rules", rules_page, methods=["GET"]),
    Route("/rules", save_change, methods=["POST"]),
    Route("/rules/preview", preview_change, methods=["POST"]),
    Route("/rules/{table}.{format}", rules_file),
]
