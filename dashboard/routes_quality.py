"""Data quality: lag, sessions, quarantine by reason, checks, loads, the store and notifications. Counts only."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from dashboard.files import file_of
from dashboard.pages import page, render, site_of
from dashboard.quality_found import Quality

DAYS = 7


@page("quality")
def quality_page(request: Request) -> Response:
    """How far everything has come, and what was refused."""
    site = site_of(request)
    now = site.clock()
    found: Quality = site.apart.do("dashboard.quality:found", site.settings, _days(now), now)
    return render(
        request,
        "quality.html",
        **vars(found),
        days=DAYS,
        dagster=f"http://127.0.0.1:{site.settings.web_port}",
    )


@page("quality")
def quality_file(request: Request) -> Response:
    """A table of the page as a file."""
    site = site_of(request)
    do, settings, days = site.apart.do, site.settings, _days(site.clock())
    return file_of(
        request,
        {
            "quarantine": lambda: do("dashboard.quality:quarantine", settings, days),
            "loads": lambda: do("dashboard.quality:loads", settings),
        },
    )


def _days(now: datetime) -> list[date]:
    return [now.date() - timedelta(days=each) for each in range(DAYS)]


ROUTES: Sequence[BaseRoute] = [
    Route("/quality", quality_page),
    Route("/quality/{table}.{format}", quality_file),
]
