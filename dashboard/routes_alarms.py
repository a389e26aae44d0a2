"""The page of alarms: those that are open, those that were, how good they are, and what is done about them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, cast

import polars as pl
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from assets.alarms.measures import ALARMS
from assets.alarms.tables import CLEARED, REFUSED, SILENCE
from assets.stream.alarm_history import standing
from dashboard import values
from dashboard.actions import ActionError
from dashboard.alarm_measures import measures
from dashboard.board import Alarm
from dashboard.pages import PAGES, Form, action, audit_of, download, page, render, seen, site_of, viewer_of, wants_page
from dashboard.site import CONTRACTS_WITH_ALARMS, Site
from dashboard.wearing import with_patients

DAYS = (1, 7, 30)
SEVERITIES = ("urgent", "warning", "info")
CAUSES = sorted({rule.about for contract in CONTRACTS_WITH_ALARMS for rule in contract.rules} | {SILENCE, REFUSED})
SHOWN = 100
"""How many past alarms the page lists at most; the download has all."""
MEASURED_DAYS = 7
AT_ONCE = 500
"""How many alarms may be acted on together."""


@dataclass(frozen=True)
class Wanted:
    """Which past alarms are asked for."""

    days: int = 1
    severity: str = ""
    cause: str = ""
    patient: int | None = None

    @classmethod
    def of(cls, request: Request) -> "Wanted":
        """What the query says.

        Raises:
            HTTPException: 400 where it says something that is no choice; 404 for another's patient.
        """
        query = request.query_params
        days, severity, cause = query.get("days", "1"), query.get("severity", ""), query.get("cause", "")
        if days not in map(str, DAYS) or severity not in ("", *SEVERITIES) or (cause and cause not in CAUSES):
            raise HTTPException(400, "The page does not know what the address asks for. Choose again in the form.")
        patient = query.get("patient", "").strip()
        return cls(int(days), severity, cause, seen(request, patient) if patient else None)


@page("alarms")
def alarms(request: Request) -> Response:
    """Open alarms, which the stream brings, and past ones."""
    site, wanted = site_of(request), Wanted.of(request)
    audit_of(request)("view alarms" if wanted.patient is None else "search", str(wanted.patient or ""), "past alarms")
    past = past_alarms(request, wanted)
    since = site.clock() - timedelta(days=MEASURED_DAYS)
    recent = (pl.col("event_date") >= since.date()) & (pl.col("raised_at") >= since)
    records = _with_patients(site, site.lake.table(ALARMS).scan().filter(recent).collect())
    records = records.filter(viewer_of(request).sees(pl.col("patient_id")))
    rows = [
        row | {"name": _name(request, row["patient_id"], row["stream"], row["entity"])}
        for row in past.head(SHOWN).iter_rows(named=True)
    ]
    return render(
        request,
        "alarms.html",
        actors=PAGES["alarms"].actors,
        wanted=wanted,
        all_days=DAYS,
        severities=SEVERITIES,
        causes=CAUSES,
        past=rows,
        count=past.height,
        said=values.said,
        measured=measures(records, MEASURED_DAYS, site.clock()),
    )


@page("alarms")
def alarms_file(request: Request) -> Response:
    """Past alarms as a file."""
    format = request.path_params["format"]
    if format not in ("csv", "parquet"):
        raise HTTPException(404, "There is no such file.")
    wanted = Wanted.of(request)
    past = past_alarms(request, wanted)
    if not viewer_of(request).has_names:
        past = past.drop("note", "actor")
    subject = "" if wanted.patient is None else str(wanted.patient)
    return download(request, past, "alarms", cast('Literal["csv", "parquet"]', format), subject)


def past_alarms(request: Request, wanted: Wanted) -> pl.DataFrame:
    """Alarms of the viewer's patients that are over, the newest first."""
    site, viewer = site_of(request), viewer_of(request)
    since = site.clock() - timedelta(days=wanted.days)
    found = pl.concat([standing(each, site.lake, since) for each in CONTRACTS_WITH_ALARMS])
    rows = found.filter(pl.col("state") == CLEARED).sort("raised_at", descending=True)
    rows = _with_patients(site, rows).filter(viewer.sees(pl.col("patient_id")))
    for column in ("severity", "cause"):
        if chosen := getattr(wanted, column):
            rows = rows.filter(pl.col(column) == chosen)
    if wanted.patient is not None:
        rows = rows.filter(pl.col("patient_id") == wanted.patient)
    columns = ("alarm_id", "patient_id", "stream", "entity", "cause", "severity", "raised_at", "at", "kind")
    return rows.select(*columns, "worst_value", "reading_count", "tier", "actor", "note")


def _with_patients(site: Site, rows: pl.DataFrame) -> pl.DataFrame:
    """Rows with the patient they are about: of a device who wore it then, null where that is not known."""
    return with_patients(rows, CONTRACTS_WITH_ALARMS, site.directory.people)


def _name(request: Request, patient_id: int | None, stream: str, entity: int) -> str:
    if patient_id is None:
        return f"Device {entity}"
    return site_of(request).directory.name_of(viewer_of(request), patient_id)


@action("alarms")
def act(request: Request, form: Form) -> Response:
    """Acknowledges, snoozes, comments or closes alarms."""
    what, note = "".join(form.get("action", [])[:1]), "".join(form.get("note", [])[:1]).strip() or None
    given = form.get("alarm", [])
    if not 1 <= len(given) <= AT_ONCE:
        return _answer(request, form, 400, f"Choose from 1 to {AT_ONCE} alarms; nothing was done.")
    minutes = "".join(form.get("minutes", [])[:1])
    span = int(minutes) if minutes.isascii() and minutes.isdecimal() and len(minutes) < 5 else None
    problems: list[ActionError] = []
    for each in given:
        alarm_id, _, index = each.partition(":")
        if not (index.isascii() and index.isdecimal() and len(index) < 10):
            return _answer(
                request, form, 400, "An alarm is given as its id and what was seen of it; the rest was not done."
            )
        try:
            alarm = site_of(request).actions.act(viewer_of(request), what, alarm_id, int(index), note, span)
        except ActionError as error:
            problems.append(error)
            continue
        _note(request, what, alarm)
    if not problems:
        return _answer(request, form, 200, "")
    done = len(given) - len(problems)
    text = str(problems[0]) if len(given) == 1 else f"{done} of {len(given)} alarms are done. {problems[0]}"
    return _answer(request, form, problems[0].status, text)


def _note(request: Request, what: str, alarm: Alarm) -> None:
    patient_id = site_of(request).board.patient_of(alarm)
    subject = f"device {alarm.entity}" if patient_id is None else str(patient_id)
    audit_of(request)(what, subject, f"{alarm.cause} {alarm.alarm_id}")


def _answer(request: Request, form: Form, status: int, problem: str) -> Response:
    if wants_page(request):
        if problem:
            raise HTTPException(status, problem)
        back = "".join(form.get("back", [])[:1])
        is_ours = back.startswith("/") and not back.startswith(("//", "/\\")) and back.isprintable()
        return RedirectResponse(back if is_ours else "/alarms", 303)
    return JSONResponse({"error": problem} if problem else {"sent": True}, status)


ROUTES: Sequence[BaseRoute] = [
    Route("/alarms", alarms),
    Route("/alarms/past.{format}", alarms_file),
    Route("/alarms/act", act, methods=["POST"]),
]
