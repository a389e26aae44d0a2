"""Patients beside each other: daily means, how their values spread, and the ranking by time in range."""

from collections import Counter
from collections.abc import Mapping, Sequence

import polars as pl
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from assets.glucose.gold import patient_comparison
from assets.glucose.tables import GlucoseDaily
from dashboard import history
from dashboard.access import Viewer
from dashboard.charts.compared import comparison, distribution
from dashboard.charts.marks import UNITS
from dashboard.charts.profile import PERCENTILES, PERIOD
from dashboard.charts.svg import NARROW, WIDE
from dashboard.files import file_of
from dashboard.pages import audit_of, page, render, seen, site_of, viewer_of
from dashboard.site import Site

MOST = 6
"""How many patients are compared; each has a marker of its own."""


@page("compare")
def compare(request: Request) -> Response:
    """The ranking of all patients of the viewer, and charts of those that were chosen."""
    site, viewer = site_of(request), viewer_of(request)
    chosen = _chosen(request)
    ranks = _ranking(site, viewer)
    if chosen:
        audit_of(request)("compare", ", ".join(map(str, chosen)))
    name_of = site.directory.name_of
    rows = [row | {"name": name_of(viewer, row["patient_id"])} for row in ranks.to_dicts()]
    return render(
        request,
        "compare.html",
        rows=rows,
        chosen=chosen,
        query="".join(f"&patient={each}" for each in chosen).replace("&", "?", 1),
        most=MOST,
        drawn=_drawn(site, viewer, chosen) if chosen else None,
    )


@page("compare")
def compare_file(request: Request) -> Response:
    """A table of the page as a file."""
    site, viewer = site_of(request), viewer_of(request)
    since = (site.clock() - PERIOD).date()
    chosen = _chosen(request)
    return file_of(
        request,
        {
            "ranking": lambda: _ranking(site, viewer),
            "days": lambda: history.glucose_days(site.lake, chosen, since),
        },
        ", ".join(map(str, chosen)) if request.path_params["table"] == "days" else "",
    )


def _chosen(request: Request) -> list[int]:
    given = dict.fromkeys(each.strip() for each in request.query_params.getlist("patient") if each.strip())
    if len(given) > MOST:
        raise HTTPException(400, f"At most {MOST} patients are compared. Choose fewer.")
    return [seen(request, each) for each in given]


def _ranking(site: Site, viewer: Viewer) -> pl.DataFrame:
    """The viewer's patients over the last 14 days, in order of rank."""
    since = (site.clock() - PERIOD).date()
    days = history.glucose_days(site.lake, viewer.visible, since)
    ranked = patient_comparison(days.select(GlucoseDaily.column_names()))
    return ranked.filter(viewer.sees(pl.col("patient_id"))).sort("rank", "patient_id")


def _drawn(site: Site, viewer: Viewer, chosen: Sequence[int]) -> dict[str, list[str]] | None:
    """The charts of the chosen patients; None where there is nothing to draw."""
    unit, now = UNITS[viewer.unit], site.clock()
    since = now - PERIOD
    names = told_apart({each: site.directory.name_of(viewer, each) for each in chosen})
    name = pl.col("patient_id").replace_strict(names, return_dtype=pl.String()).alias("name")
    days = history.glucose_days(site.lake, chosen, since.date()).select(name, "event_date", value="mean_mg_dl")
    spread = (
        history.glucose(site.lake, chosen, since, now)
        .group_by("patient_id")
        .agg(pl.col("glucose_mg_dl").quantile(each, "linear").alias(p) for p, each in PERCENTILES.items())
        .sort("patient_id")
        .select(name, *PERCENTILES)
    )
    if days.is_empty() and spread.is_empty():
        return None
    return {
        "days": [comparison(days, "Daily means", unit=unit, size=size) for size in (WIDE, NARROW)],
        "spread": [distribution(spread, "How values spread", unit=unit, size=size) for size in (WIDE, NARROW)],
    }


def told_apart(names: Mapping[int, str]) -> dict[int, str]:
    """Names of patients, with their ids where several are called alike: charts know a line by its name."""
    count = Counter(names.values())
    return {each: name if count[name] == 1 else f"{each} {name}" for each, name in names.items()}


ROUTES: Sequence[BaseRoute] = [
    Route("/compare", compare),
    Route("/compare/{table}.{format}", compare_file),
]
