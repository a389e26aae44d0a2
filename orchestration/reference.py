"""Reference data of the generator's synthetic patients, for the command line, `pulselake dev` and the demo."""

from datetime import UTC, datetime

import polars as pl

from assets.reference.changes import Changes
from assets.reference.tables import REFERENCES, Reference
from assets.reference_store import is_empty, put
from generator.reference import reference_rows
from resources.lake import Lake

SINCE = datetime(2020, 1, 1, tzinfo=UTC)
"""From when generated rows hold: the generator also sends readings of the past."""
GENERATED_BY = "pulselake reference generate"


def generate(lake: Lake, patients: int, seed: int = 0) -> list[tuple[Reference, Changes]]:
    """Makes up and loads the rows of all tables.

    Raises:
        ReferenceClockError, ConcurrentWriteError, SchemaError: as for `assets.reference_store.put`.
    """
    made, done = reference_rows(patients, seed), []
    for reference in (each for each in REFERENCES if each.short in made):
        schema = {name: reference.table.schema[name] for name in reference.cells}
        rows = pl.DataFrame(made[reference.short], schema=schema)
        changes = put(lake, reference, rows, valid_from=SINCE, clock=lambda: datetime.now(UTC), changed_by=GENERATED_BY)
        done.append((reference, changes))
    return done


def generate_if_empty(lake: Lake, patients: int) -> bool:
    """The same for a lake into which no reference data was ever loaded: nobody's own is mixed with made-up people.

    Returns:
        Whether it was loaded.
    """
    if not all(is_empty(lake, reference) for reference in REFERENCES):
        return False
    generate(lake, patients)
    return True
