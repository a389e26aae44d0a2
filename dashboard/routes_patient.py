"""The page of one patient, what decided an alarm, and their tables as files."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import cast

import polars as pl
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from assets.alarms.tables import CLEARED
from assets.stream.alarm_history import ID_LENGTH, AlarmUnknownError, explained, found
from assets.stream.contract import POSITION, Contract
from dashboard import history, values
from dashboard.access import Viewer
from dashboard.charts.profile import PERIOD
from dashboard.directory import Person
from dashboard.files import file_of
from dashboard.pages import PAGES, audit_of, page, patient_of, render, site_of, viewer_of
from dashboard.patients import SPANS, VITALS_SPAN, patient
from dashboard.site import CONTRACTS_WITH_ALARMS, Site
from dashboard.thresholds import InForce
from orchestration.alarm_texts import MAX_READINGS_SHOWN, again_told, rule_told

LOOKED_BACK = timedelta(days=366)
"""How far back an alarm is looked for: whoever writes ids that there are not must not have all years read."""


@page("patient")
def patient_page(request: Request) -> Response:
    """One patient."""
    span = request.query_params.get("span", "24h")
    if span not in SPANS:
        raise HTTPException(400, f"The chart shows {', '.join(SPANS)}. Choose one of them.")
    patient_id = patient_of(request)
    site, viewer = site_of(request), viewer_of(request)
    person, now = site.directory.person(patient_id), site.clock()
    shown = patient(site.lake, rules_of(request), viewer, patient_id, site.directory.people, now, span)
    return render(
        request,
        "patient.html",
        shown=shown,
        name=site.directory.name_of(viewer, patient_id),
        facts=facts(viewer, person, now),
        spans=[*SPANS],
        said=values.said,
        limit=values.limit,
        name_of=values.name_of,
        can_act=viewer.counts_as(PAGES["alarms"].actors),
        drugs=_drugs(request, patient_id).to_dicts(),
        board=site.board,
    )


@page("patient")
def alarm_page(request: Request) -> Response:
    """What decided one alarm: the rule, the readings and what happened."""
    patient_id = patient_of(request)
    site, viewer = site_of(request), viewer_of(request)
    try:
        contract, transitions = _found(request)
    except AlarmUnknownError:
        raise HTTPException(404, "There is no such alarm of this patient.") from None
    if _whose(site, transitions) != patient_id:
        raise HTTPException(404, "There is no such alarm of this patient.")
    told = explained(contract, site.lake, transitions)
    decided = told.readings.join(transitions.select(POSITION).unique(), on=list(POSITION), how="semi")
    of_cause = (rule.column for rule in contract.all_rules if rule.about == transitions["cause"][0])
    columns = [name for name in dict.fromkeys(of_cause) if name in decided.columns]
    return render(
        request,
        "alarm.html",
        patient_id=patient_id,
        name=site.directory.name_of(viewer, patient_id),
        transitions=transitions.to_dicts(),
        rule=rule_told(contract, site.lake, transitions.row(0, named=True), named=viewer.has_names),
        readings=decided.head(MAX_READINGS_SHOWN).to_dicts(),
        columns=columns,
        said=values.said,
        name_of=values.name_of,
        of_column=values.of_column,
        again=again_told(told),
    )


@page("patient")
def alarm_link(request: Request) -> Response:
    """Leads from an alarm, as messages name it, to what decided it; of a device that nobody wore, to all alarms.

    One that is open and was raised while somebody else wore the device leads to who wears it now.
    """
    site, nowhere = site_of(request), HTTPException(404, "There is no such alarm.")
    try:
        contract, transitions = _found(request)
    except AlarmUnknownError:
        raise nowhere from None
    row, viewer, patient_id = transitions.row(-1, named=True), viewer_of(request), _whose(site, transitions)
    wearer = site.directory.wearer(row["entity"]) if contract.entity == "device_id" else None
    if patient_id is not None and viewer.may_see(patient_id):
        return RedirectResponse(f"/patients/{patient_id}/alarms/{row['alarm_id']}", 303)
    if row["state"] != CLEARED and wearer is not None and viewer.may_see(wearer):
        return RedirectResponse(f"/patients/{wearer}", 303)
    if patient_id is None:
        return RedirectResponse("/alarms", 303)
    audit_of(request)("denied", str(patient_id), request.url.path)
    raise nowhere


@page("patient")
def patient_file(request: Request) -> Response:
    """A table of the page as a file."""
    patient_id = patient_of(request, audited=False)
    site = site_of(request)
    lake, now = site.lake, site.clock()
    since = now - PERIOD

    def alarms() -> pl.DataFrame:
        people = site.directory.people
        own = _own_devices(site, patient_id)
        found = history.alarms(lake, CONTRACTS_WITH_ALARMS, people, patient_id, own, since)
        # Notes of the others are about somebody else.
        return found.filter("is_own").drop("is_own")

    def thresholds() -> pl.DataFrame:
        rows = [{**asdict(each), "why": each.said} for each in rules_of(request).of(patient_id, now)]
        return pl.DataFrame(rows)

    tables = {
        "glucose": lambda: history.glucose(lake, [patient_id], since, now),
        "days": lambda: history.glucose_days(lake, [patient_id], since.date()),
        "vitals": lambda: history.vitals(lake, patient_id, now - VITALS_SPAN, now),
        "news2": lambda: history.news2(lake, patient_id, now - VITALS_SPAN, now),
        "alarms": alarms,
        "thresholds": thresholds,
        "drugs": lambda: _drugs(request, patient_id),
    }
    return file_of(request, tables, str(patient_id))


def _drugs(request: Request, patient_id: int) -> pl.DataFrame:
    """The drugs of a patient with what safety reports say of them; none for those who have no page of drug safety."""
    site = site_of(request)
    found = history.taken_drugs(site.lake, patient_id, site.clock().date())
    return found if viewer_of(request).counts_as(PAGES["safety"].roles) else found.clear()


def _own_devices(site: Site, patient_id: int) -> list[int]:
    now = site.clock()
    readings = history.glucose(site.lake, [patient_id], now - PERIOD, now)
    return history.own_ids(history.worn_devices(site.lake, patient_id, readings, now))


def _found(request: Request) -> tuple[Contract, pl.DataFrame]:
    """The alarm that the address names by its whole id.

    Raises:
        AlarmUnknownError: there is none, or none of the last year; `pulselake explain` finds older ones.
    """
    site, alarm_id = site_of(request), request.path_params["alarm_id"]
    if len(alarm_id) != ID_LENGTH:
        raise AlarmUnknownError(f"{alarm_id} is no whole id.")
    return found(CONTRACTS_WITH_ALARMS, site.lake, alarm_id, (site.clock() - LOOKED_BACK).date())


def _whose(site: Site, transitions: pl.DataFrame) -> int | None:
    """The patient whom an alarm is about, or was about when it was raised."""
    raised = transitions.head(1).select("stream", "entity", "raised_at")
    whose = history.with_wearers(site.lake, raised, CONTRACTS_WITH_ALARMS, site.directory.people)
    return cast("int | None", whose["patient_id"][0])


def facts(viewer: Viewer, person: Person | None, now: datetime) -> list[tuple[str, str]]:
    """What reference data say of a patient, as far as the viewer may know it."""
    if person is None:
        return []
    age = history.age_of(person.date_of_birth, now.date())
    born = "" if person.date_of_birth is None or not viewer.has_names else f" (born {person.date_of_birth:%-d %b %Y})"
    known = (
        ("age", "" if age is None else f"{age} years{born}"),
        ("gender", person.gender or ""),
        ("groups", ", ".join(sorted(person.groups))),
        ("care team", (person.care_team or "") if viewer.has_names else ""),
        ("time zone", person.zone or ""),
    )
    return [(name, value) for name, value in known if value]


def rules_of(request: Request) -> InForce:
    """Finds which rules hold; there is one for each server, since it keeps what it has read."""
    state = request.app.state
    if not hasattr(state, "in_force"):
        state.in_force = InForce(site_of(request).lake, CONTRACTS_WITH_ALARMS)
    return cast("InForce", state.in_force)


ROUTES: Sequence[BaseRoute] = [
    Route("/alarms/{alarm_id}", alarm_link),
    Route("/patients/{patient_id}", patient_page),
    Route("/patients/{patient_id}/alarms/{alarm_id}", alarm_page),
    Route("/patients/{patient_id}/{table}.{format}", patient_file),
]
