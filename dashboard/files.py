"""The tables of a page as files. What a viewer may not see is left out before."""

from collections.abc import Callable, Mapping
from typing import Literal, cast

import polars as pl
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from dashboard.access import Viewer
from dashboard.pages import download, viewer_of

FREE_TEXT = (
    "actor",
    "note",
    "dose",
    "changed_by",
    "location",
    "full_name",
    "name",
    "address",
    "contact_number",
    "date_of_birth",
)
"""Columns with what people wrote, or who they are."""


def file_of(request: Request, tables: Mapping[str, Callable[[], pl.DataFrame]], subject: str = "") -> Response:
    """The file that the path parameters `table` and `format` name.

    Args:
        request: for it.
        tables: by name how its rows are read; only those of the viewer's patients.
        subject: whom the audit trail names.

    Raises:
        HTTPException: 404 where there is no such table or format.
    """
    name, format = request.path_params["table"], request.path_params["format"]
    if name not in tables or format not in ("csv", "parquet"):
        raise HTTPException(404, "There is no such file.")
    rows = without_free_text(tables[name](), viewer_of(request))
    prefix = f"patient-{subject}-" if subject else ""
    return download(request, rows, f"{prefix}{name}", cast('Literal["csv", "parquet"]', format), subject)


def without_free_text(rows: pl.DataFrame, viewer: Viewer) -> pl.DataFrame:
    """Rows as the viewer may have them: without names and free text for those who see none."""
    return rows if viewer.has_names else rows.drop(FREE_TEXT, strict=False)
