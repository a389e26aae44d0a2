"""The devices: who needs attention, batteries, silent gaps and firmware."""

from collections.abc import Sequence
from datetime import timedelta

import polars as pl
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from dashboard import history
from dashboard.access import Viewer
from dashboard.charts.lines import line
from dashboard.charts.marks import Limit, Unit
from dashboard.charts.profile import PERIOD
from dashboard.charts.svg import Size
from dashboard.files import file_of
from dashboard.pages import page, render, site_of, viewer_of
from dashboard.site import Site

LOW_BATTERY_PERCENT, BAD_CONNECTION_PERCENT = 20.0, 80.0
QUIET_AFTER = timedelta(days=1)
CURVES, SHOWN = 6, 200
CURVE = Size(420, 170)
BATTERY_GAP = timedelta(hours=6)
"""Devices report each hour or so; a longer silence breaks the line."""


@page("devices")
def devices(request: Request) -> Response:
    """The devices of the viewer's patients, those that need attention first."""
    site, viewer = site_of(request), viewer_of(request)
    wants_all = request.query_params.get("show") == "all"
    rows = _table(site, viewer)
    shown = rows if wants_all else rows.filter(pl.col("trouble_count") > 0)
    return render(
        request,
        "devices.html",
        rows=[each | {"name": _name(site, viewer, each["patient_id"])} for each in shown.head(SHOWN).to_dicts()],
        count=shown.height,
        known=rows.height,
        wants_all=wants_all,
        low=LOW_BATTERY_PERCENT,
        bad=BAD_CONNECTION_PERCENT,
        curves=_curves(site, viewer, shown["device_id"].head(CURVES).to_list()),
    )


@page("devices")
def devices_file(request: Request) -> Response:
    """The table of all devices as a file."""
    site, viewer = site_of(request), viewer_of(request)
    return file_of(request, {"devices": lambda: _table(site, viewer)})


def _table(site: Site, viewer: Viewer) -> pl.DataFrame:
    """The newest day of each device, with what reference data and it itself say of it; the most troubled come first."""
    now = site.clock()
    health = history.device_health(site.lake, (now - PERIOD).date()).group_by("device_id").last()
    known = history.known_devices(site.lake, now).select("device_id", "patient_id", "manufacturer", "model")
    rows = (
        known.join(health, on="device_id", how="full", coalesce=True)
        .join(history.firmware(site.lake, now - PERIOD), on="device_id", how="left")
        .filter(viewer.sees(pl.col("patient_id")))
    )
    troubles = {
        "is_quiet": pl.col("last_seen_at") < now - QUIET_AFTER,
        "has_low_battery": pl.col("battery_last_percent") < LOW_BATTERY_PERCENT,
        "has_bad_connection": pl.col("connected_percent") < BAD_CONNECTION_PERCENT,
        "has_errors": pl.col("error_count") > 0,
        "has_silent_gaps": pl.col("silent_gap_count") > 0,
    }
    judged = rows.with_columns(each.fill_null(False).alias(name) for name, each in troubles.items())
    counted = judged.with_columns(trouble_count=pl.sum_horizontal(pl.col(name).cast(pl.Int64) for name in troubles))
    return counted.sort(["trouble_count", "battery_last_percent", "device_id"], descending=[True, False, False])


def _name(site: Site, viewer: Viewer, patient_id: int | None) -> str:
    return "" if patient_id is None else site.directory.name_of(viewer, patient_id)


def _curves(site: Site, viewer: Viewer, ids: Sequence[int]) -> list[str]:
    now = site.clock()
    since = now - PERIOD
    said = history.devices(site.lake, ids, since)
    limit = [Limit(LOW_BATTERY_PERCENT, "warning", "low")]
    return [
        line(
            said.filter(pl.col("device_id") == each).select("measured_at", value="battery_level"),
            since,
            now,
            viewer.zone,
            title=f"Battery of device {each}",
            unit=Unit("%"),
            size=CURVE,
            limits=limit,
            gap=BATTERY_GAP,
            reach=(0.0, 100.0),
        )
        for each in ids
    ]


ROUTES: Sequence[BaseRoute] = [
    Route("/devices", devices),
    Route("/devices/{table}.{format}", devices_file),
]
