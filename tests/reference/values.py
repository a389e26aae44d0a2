"""Reference data as values: rows, files and loads."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import polars as pl

from assets.reference.changes import Changes
from assets.reference.tables import DEVICES, PATIENTS, Reference
from assets.reference_store import put
from resources.lake import Lake

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def rows(reference: Reference, *given: Mapping[str, Any]) -> pl.DataFrame:
    """Rows of a file; what is not said is null."""
    schema = {name: reference.table.schema[name] for name in reference.cells}
    return pl.DataFrame([{name: row.get(name) for name in schema} for row in given], schema=schema)


def load(
    lake: Lake,
    reference: Reference,
    *given: Mapping[str, Any],
    valid_from: datetime = LONG_AGO,
    known_at: datetime = LONG_AGO,
    **options: Any,
) -> Changes:
    return put(lake, reference, rows(reference, *given), valid_from=valid_from, clock=lambda: known_at, **options)


def load_patients(lake: Lake, *given: Mapping[str, Any], **options: Any) -> Changes:
    return load(lake, PATIENTS, *({"full_name": "A", **row} for row in given), **options)


def load_devices(lake: Lake, models: Mapping[int, str], **options: Any) -> Changes:
    given = ({"device_id": number, "model": model} for number, model in models.items())
    return load(lake, DEVICES, *given, **options)


def csv_of(reference: Reference, *given: Mapping[str, Any]) -> str:
    """A file that `pulselake reference load` takes."""
    return rows(reference, *given).write_csv()
