"""Silver as FHIR R4: a Bundle of one patient, or lines of Observations of all, in bounded memory."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import msgspec

from assets.adapters.fhir_export import GLUCOSE_COLUMNS, VITALS_COLUMNS, Resource, entry, of_glucose, of_vitals, patient
from orchestration.exporting import TIMEOUT_S, appearing
from orchestration.processes import StoppedError
from resources.analytics import Analytics

_TABLES = (
    ("silver.glucose_readings", GLUCOSE_COLUMNS, of_glucose),
    ("silver.vitals", VITALS_COLUMNS, of_vitals),
)


def export_fhir(
    analytics: Analytics,
    file: Path,
    patient_id: int | None,
    *,
    force: bool = False,
    advance: Callable[[int], None] = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> int:
    """Writes Observations to a file, which appears once it is complete, and returns how many there are.

    Args:
        analytics: where silver is.
        file: where to; a Bundle of one patient, or lines of JSON of all.
        patient_id: of whom; None for all.
        force: replace a file that is there.
        advance: told how many were written so far.
        should_stop: asked between batches of rows.

    Raises:
        ExportError: the file is there already or could not be written.
        StoppedError: `should_stop` said so.
        QueryError: silver could not be read.
    """
    written = 0
    with appearing(file, force=force) as unfinished, unfinished.open("wb") as out:
        if patient_id is not None:
            out.write(b'{"resourceType":"Bundle","type":"collection","entry":[')
            out.write(msgspec.json.encode(entry(patient(patient_id))))
        for resource in _observations(replace(analytics, timeout_s=TIMEOUT_S), patient_id):
            if patient_id is None:
                out.write(msgspec.json.encode(resource) + b"\n")
            else:
                out.write(b",\n" + msgspec.json.encode(entry(resource)))
            written += 1
            if written % 10_000 == 0:
                advance(written)
                if should_stop():
                    raise StoppedError(f"Stopped after {written:,} Observations; {file} was not written.")
        if patient_id is not None:
            out.write(b"]}\n")
    return written


def _observations(analytics: Analytics, patient_id: int | None) -> Iterator[Resource]:
    for table, columns, of_row in _TABLES:
        where = "" if patient_id is None else f" WHERE patient_id = {patient_id:d} ORDER BY measured_at"
        with analytics.stream(f"SELECT {', '.join(columns)} FROM {table}{where}") as result:
            for frame in result.frames:
                for row in frame.iter_rows(named=True):
                    yield from of_row(row)
