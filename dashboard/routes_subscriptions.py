"""Who is told of alarms: subscribers and their subscriptions, which administrators add, change and end.

What is changed is a version of reference data, like one that a file brings. Channels are names of secrets; what was
typed there and is no name is not shown again, since it may be an address with a secret in it.
"""

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import polars as pl
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from assets.bitemporal import KNOWN_AT
from assets.notifications.people import TOLD
from assets.reference.cells import SEPARATOR, CellError, whole_number
from assets.reference.tables import (
    SEVERITIES,
    SUBSCRIBER_TYPES,
    SUBSCRIBERS,
    SUBSCRIPTIONS,
    TRANSITIONS,
    Reference,
)
from assets.reference_store import ChangedMeanwhileError, ReferenceClockError, held, put
from dashboard.editing import typed
from dashboard.files import file_of
from dashboard.pages import Form, action, audit_of, page, render, site_of, viewer_of
from dashboard.site import Site
from resources.lake import ConcurrentWriteError

PATH = "/admin/subscriptions"
SHOWN = 200
_LOOKS = 10
"""How often subscriptions are ended anew that others change at the same moment; those of nobody tell nobody."""
KINDS: Mapping[str, Reference] = {"subscriber": SUBSCRIBERS, "subscription": SUBSCRIPTIONS}
NEW = "new"
TIERS = ("first", "where nobody reacted", "where still nobody reacted")
"""Who is told when, by the tier of a subscription."""
_SAVING = threading.Lock()
"""One change is made at a time, so that no subscription is added to somebody who ends at the same moment. Other
processes may still be in between; that an edit was seen is looked at by `put`."""


@dataclass(frozen=True)
class Edit:
    """A form that is open.

    Attributes:
        kind: a name of `KINDS`.
        key: of the thing; None for a new one.
        seen: which version of it the form shows; empty for a new one.
        texts: by column what the fields have.
        mistakes: what is wrong with them, for people.
    """

    kind: str
    key: int | None
    seen: str
    texts: Mapping[str, str]
    mistakes: Sequence[str] = ()

    @property
    def reference(self) -> Reference:
        """The table."""
        return KINDS[self.kind]

    def wrong(self, *mistakes: str) -> "Edit":
        """The same with mistakes."""
        return replace(self, mistakes=mistakes)


@page("admin")
def subscriptions(request: Request) -> Response:
    """All subscribers and subscriptions, and a form where one is asked for."""
    audit_of(request)("view subscriptions")
    query = request.query_params
    asked = next(((kind, query[kind]) for kind in KINDS if query.get(kind)), None)
    edit = None if asked is None else _opened(request, *asked)
    return _shown(request, edit, saved=query.get("saved", ""))


@action("admin")
def change(request: Request, form: Form) -> Response:
    """Adds or changes a subscriber or a subscription, or ends one."""
    what, _, kind = _one(form, "do").partition("-")
    if what not in ("save", "end") or kind not in KINDS:
        raise HTTPException(400, "There is no such change; nothing was changed.")
    texts = {name: SEPARATOR.join(form.get(name, [])).strip() for name in KINDS[kind].attributes}
    edit = Edit(kind, _key(_one(form, "key")), _one(form, "seen"), texts)
    try:
        with _SAVING:
            failed = _end(request, edit) if what == "end" else _save(request, edit)
    except ChangedMeanwhileError as error:
        failed = _overtaken(site_of(request), edit) or _in_vain(request, edit, what, error)
    except (ReferenceClockError, ConcurrentWriteError) as error:
        failed = _in_vain(request, edit, what, error)
    if failed is not None:
        return _shown(request, failed, status=400)
    return RedirectResponse(f"{PATH}?saved={'ended' if what == 'end' else 'saved'}", 303)


@page("admin")
def subscriptions_file(request: Request) -> Response:
    """Subscribers or subscriptions as a file."""
    site = site_of(request)
    tables = {each.short: (lambda each=each: _held(site, each)) for each in KINDS.values()}
    return file_of(request, tables)


def _opened(request: Request, kind: str, asked: str) -> Edit:
    """The form of a thing that holds, or an empty one."""
    reference = KINDS[kind]
    if asked == NEW:
        chosen = {name: request.query_params.get(f"of_{name}", "") for name in ("subscriber_id",)}
        return Edit(kind, None, "", {name: chosen.get(name, "") for name in reference.attributes})
    row = _row(site_of(request), reference, _key(asked))
    if row is None:
        raise HTTPException(404, f"There is no such {kind}; it may have been ended. Go back to the list.")
    texts = {name: "" if row[name] is None else str(row[name]) for name in reference.attributes}
    return Edit(kind, row[reference.key], row[KNOWN_AT].isoformat(), texts)


def _save(request: Request, edit: Edit) -> Edit | None:
    """Saves what a form has; else the form with what is wrong."""
    site, reference = site_of(request), edit.reference
    if (overtaken := _overtaken(site, edit)) is not None:
        return overtaken
    row, wrong = typed(reference, edit.texts, site.clock().date())
    wrong = wrong or _unknown(site, reference, row)
    if "channels" in wrong:
        # An empty field would end the channels that there are with the next click.
        before = None if edit.key is None else _row(site, reference, edit.key)
        edit = replace(edit, texts={**edit.texts, "channels": (before and before["channels"]) or ""})
    if wrong:
        return edit.wrong(*(f"{name.replace('_', ' ')}: {told}" for name, told in wrong.items()))
    key = _next_key(site, reference) if edit.key is None else edit.key
    _put(request, reference, {key: _instant(edit)}, [{reference.key: key, **row}])
    subject, detail = _noted(edit.kind, key, row)
    audit_of(request)(f"{'add' if edit.key is None else 'change'} {edit.kind}", subject, detail)
    return None


def _end(request: Request, edit: Edit) -> Edit | None:
    """Ends a thing; of a subscriber the subscriptions afterwards, so that who does not end is still told."""
    site, reference = site_of(request), edit.reference
    if (overtaken := _overtaken(site, edit)) is not None:
        return overtaken
    row = None if edit.key is None else _row(site, reference, edit.key)
    if row is None:
        raise HTTPException(404, f"There is no such {edit.kind}; it may have been ended before.")
    _put(request, reference, {row[reference.key]: _instant(edit)})
    audit_of(request)(f"end {edit.kind}", *_noted(edit.kind, row[reference.key], row))
    if reference is SUBSCRIBERS:
        _end_subscriptions(request, row[reference.key])
    return None


def _end_subscriptions(request: Request, subscriber_id: int) -> None:
    """Ends those of a subscriber who has ended, looking again where another process changes them meanwhile."""
    for _ in range(_LOOKS):
        of_them = _held(site_of(request), SUBSCRIPTIONS).filter(pl.col("subscriber_id") == subscriber_id)
        with suppress(ChangedMeanwhileError):
            _put(request, SUBSCRIPTIONS, dict(of_them.select("subscription_id", KNOWN_AT).iter_rows()))
            for each in of_them.iter_rows(named=True):
                audit_of(request)("end subscription", *_noted("subscription", each["subscription_id"], each))
            return


def _in_vain(request: Request, edit: Edit, what: str, error: Exception) -> Edit:
    """The form after a change that was not made; what is to be ended comes without its fields."""
    return (_opened(request, edit.kind, str(edit.key)) if what == "end" else edit).wrong(str(error))


def _overtaken(site: Site, edit: Edit) -> Edit | None:
    """The form as it is to be looked at again, where somebody else has changed the thing since it was opened."""
    if edit.key is None:
        return None
    row = _row(site, edit.reference, edit.key)
    if row is None:
        # Nobody has looked yet whether the channels are names.
        ended = replace(edit, texts={**edit.texts, "channels": ""})
        return ended.wrong("It was ended meanwhile. Add it anew if it shall hold again.")
    if row[KNOWN_AT].isoformat() == edit.seen:
        return None
    by = f" by {row['changed_by']}" if row["changed_by"] else ""
    texts = {name: "" if row[name] is None else str(row[name]) for name in edit.reference.attributes}
    return Edit(edit.kind, edit.key, row[KNOWN_AT].isoformat(), texts).wrong(
        f"It was changed{by} since you opened it. Here is what holds now; change it again if need be."
    )


def _unknown(site: Site, reference: Reference, row: Mapping[str, Any]) -> dict[str, str]:
    """What names somebody or something that there is not: whoever mistypes it would tell nobody."""
    if reference is not SUBSCRIPTIONS:
        return {}
    wrong, people = {}, site.directory.people.persons
    if row["subscriber_id"] not in _held(site, SUBSCRIBERS)["subscriber_id"]:
        wrong["subscriber_id"] = "nobody has this number; choose a subscriber of the list"
    kind, _, who = row["scope"].partition(":")
    if kind == "patient" and int(who) not in people:
        wrong["scope"] = "reference data know no patient of this number; write another one, or load the patient first"
    if kind == "group" and not any(who in person.groups for person in people.values()):
        wrong["scope"] = "no patient is in a group of this name; write another one, or load the patients' groups first"
    return wrong


def _put(
    request: Request, reference: Reference, seen: Mapping[int, datetime | None], rows: Sequence[dict[str, Any]] = ()
) -> None:
    """Adds versions of what was seen: of its rows, or else its end."""
    site = site_of(request)
    put(
        site.lake,
        reference,
        pl.DataFrame(rows, schema={name: reference.table.schema[name] for name in reference.cells}),
        valid_from=site.clock(),
        clock=site.clock,
        changed_by=viewer_of(request).name,
        ending=() if rows else seen,
        seen=seen,
    )


def _instant(edit: Edit) -> datetime | None:
    """The `known_at` of the version that a form shows; `_overtaken` has compared its text. None for a new thing."""
    return datetime.fromisoformat(edit.seen) if edit.key is not None else None


def _noted(kind: str, key: int, row: Mapping[str, Any]) -> tuple[str, str]:
    """What the audit trail says: whom it is about, and what holds then."""
    said = [f"{name} {value}" for name, value in row.items() if name in KINDS[kind].attributes and value is not None]
    return row["scope"] if kind == "subscription" else f"subscriber {key}", f"{kind} {key}: {', '.join(said)}"


def _held(site: Site, reference: Reference) -> pl.DataFrame:
    return held(site.lake, reference, site.clock())


def _row(site: Site, reference: Reference, key: int | None) -> dict[str, Any] | None:
    found = _held(site, reference).filter(pl.col(reference.key) == key)
    return found.row(0, named=True) if found.height else None


def _next_key(site: Site, reference: Reference) -> int:
    """A number that nothing ever had."""
    newest = site.lake.table(reference.table).scan().select(pl.col(reference.key).max()).collect().item()
    return max(0, newest or 0) + 1


def _one(form: Form, name: str) -> str:
    return "".join(form.get(name, [])[:1]).strip()


def _key(text: str) -> int | None:
    try:
        return whole_number(text) if text else None
    except CellError:
        raise HTTPException(400, "The page does not know what the address asks for.") from None


def _shown(request: Request, edit: Edit | None, *, saved: str = "", status: int = 200) -> Response:
    site, find = site_of(request), request.query_params.get("find", "").strip()[:100]
    subscribers, told = _held(site, SUBSCRIBERS), _held(site, SUBSCRIPTIONS)
    counts = dict(told.group_by("subscriber_id").len().iter_rows())
    named = told.join(subscribers.select("subscriber_id", "name", "type"), on="subscriber_id", how="left")
    found = [
        _matching(rows, find, ("name", "type", *more)) for rows, *more in ((subscribers, "channels"), (named, "scope"))
    ]
    return render(
        request,
        "subscriptions.html",
        status,
        edit=edit,
        saved=saved,
        find=find,
        subscribers=found[0].head(SHOWN).to_dicts(),
        subscriptions=found[1].head(SHOWN).to_dicts(),
        counts=counts,
        more=[max(0, rows.height - SHOWN) for rows in found],
        choices=[*subscribers.select("subscriber_id", "name").iter_rows()],
        types=SUBSCRIBER_TYPES,
        severities=SEVERITIES,
        transitions=TRANSITIONS,
        usual=[each for each in TRANSITIONS if each in TOLD],
        tiers=TIERS,
        groups=sorted({group for person in site.directory.people.persons.values() for group in person.groups}),
    )


def _matching(rows: pl.DataFrame, find: str, columns: Sequence[str]) -> pl.DataFrame:
    if not find:
        return rows
    texts = pl.concat_str(*(pl.col(name).fill_null("") for name in columns), separator=" ").str.to_lowercase()
    return rows.filter(texts.str.contains(find.lower(), literal=True))


ROUTES: Sequence[BaseRoute] = [
    Route(PATH, subscriptions, methods=["GET"]),
    Route(PATH, change, methods=["POST"]),
    Route(f"{PATH}/{{table}}.{{format}}", subscriptions_file),
]
