"""All routes: the stream, files, and those of each page."""

from collections.abc import Sequence

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from dashboard import (
    routes_account,
    routes_admin,
    routes_alarms,
    routes_compare,
    routes_devices,
    routes_patient,
    routes_quality,
    routes_rules,
    routes_safety,
    routes_sign_in,
    routes_subscriptions,
)
from dashboard.live import audience_of
from dashboard.pages import (
    FOLDER,
    PAGES,
    audit_of,
    is_signed_in,
    page,
    render,
    session_of,
    site_of,
    viewer_of,
)

STATIC = FOLDER / "static"
STREAM_HEADERS = {"x-accel-buffering": "no", "content-type": "text/event-stream; charset=utf-8"}


def present(request: Request) -> Response:
    """Says whether the session still holds; a POST also says that somebody is there."""
    if not is_signed_in(request, touches=request.method == "POST"):
        return JSONResponse({"error": "You are signed out."}, 401)
    return Response(status_code=204)


async def live(request: Request) -> Response:
    """The stream of the board; that it began is noted."""
    if (refused := await run_in_threadpool(_watching, request, "stream")) is not None:
        return refused
    viewer, session = viewer_of(request), session_of(request)
    packed = "gzip" in request.headers.get("accept-encoding", "")
    headers = STREAM_HEADERS | ({"content-encoding": "gzip"} if packed else {})
    return StreamingResponse(site_of(request).live.stream(viewer, session.token, packed=packed), headers=headers)


async def snapshot(request: Request) -> Response:
    """The board as it is now, for a tab to which another one passes the stream on; that it was looked at is noted."""
    if (refused := await run_in_threadpool(_watching, request, "snapshot")) is not None:
        return refused
    data = site_of(request).live.snapshot(audience_of(viewer_of(request))).data
    return Response(data, media_type="application/json")


def _watching(request: Request, what: str) -> Response | None:
    """Notes that somebody looks at the board; an answer where they may not."""
    if not is_signed_in(request, touches=False):
        return JSONResponse({"error": "You are signed out."}, 401)
    viewer, say = viewer_of(request), audit_of(request)
    if not viewer.counts_as(PAGES["ward"].roles):
        say("denied", request.url.path)
        return JSONResponse({"error": "This is not for your role."}, 403)
    whom = "all patients" if viewer.visible is None else _patients(len(viewer.visible))
    say("view live", "", f"{what}, {whom}")
    return None


def _patients(count: int) -> str:
    return "1 patient" if count == 1 else f"{count:,} patients"


@page("ward")
def ward(request: Request) -> Response:
    """All patients of the viewer."""
    audit_of(request)("view ward")
    return render(request, "ward.html", actors=PAGES["alarms"].actors)


def file(name: str, media_type: str, scope: str = "") -> Route:
    """A static file that must have a name of its own."""

    async def answer(_: Request) -> Response:
        return FileResponse(
            STATIC / name, media_type=media_type, headers={"service-worker-allowed": "/"} if scope else {}
        )

    return Route(f"/{name}", answer)


ROUTES: Sequence[BaseRoute] = [
    Route("/", ward),
    *routes_sign_in.ROUTES,
    *routes_account.ROUTES,
    Route("/session", present, methods=["GET", "POST"]),
    Route("/live", live),
    Route("/live/snapshot", snapshot),
    *routes_alarms.ROUTES,
    *routes_admin.ROUTES,
    *routes_subscriptions.ROUTES,
    *routes_patient.ROUTES,
    *routes_rules.ROUTES,
    *routes_compare.ROUTES,
    *routes_devices.ROUTES,
    *routes_safety.ROUTES,
    *routes_quality.ROUTES,
    # Routes of further pages come here.
    file("app.webmanifest", "application/manifest+json"),
    file("sw.js", "text/javascript", scope="/"),
    Mount("/static", StaticFiles(directory=STATIC)),
]
