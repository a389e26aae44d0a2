"""What it costs to enrich readings from reference data: two processors in turn, one of which has the tables.

Both keep the same state. The tables have 100,000 patients and their devices, in several versions each.
"""

import time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from assets.glucose.assets import CONTRACT
from assets.reference.tables import DEVICES, PATIENTS, Reference
from assets.reference_store import put
from assets.stream.enrichment import References
from benchmarks.engine import LARGE, SMALL, Case, Engine
from benchmarks.report import Figures, say, show
from benchmarks.turns import by_turns, compared
from generator.profiles import FIRST_DEVICE_ID
from resources.lake import Lake

PATIENT_COUNT = 100_000
TARGET_PERCENT = 20.0
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def cases(quick: bool) -> list[Case]:
    five_minutes, count = timedelta(minutes=5), 3 if quick else 15
    return [
        Case("100,000 patients", 100_000, five_minutes, LARGE, 1, count),
        Case("1,000 patients", 1_000, five_minutes, LARGE, 1, count),
        Case("1,000 patients", 1_000, five_minutes, SMALL, 20, 20 if quick else 300),
    ]


def run(*, quick: bool = False) -> Figures:
    """Each case with one version a thing, and with four of which three are older."""
    figures: Figures = {"cases": []}
    for versions in (1, 4):
        with TemporaryDirectory(prefix="bench-") as folder:
            lake = Lake(folder)
            _load(lake, versions)
            began = time.perf_counter()
            References(CONTRACT, lake).refresh()
            read_s = time.perf_counter() - began
            for case in cases(quick):
                say(f"  {case.rows:,} rows a batch, {case.name}, {versions} versions a thing")
                figures["cases"].append(_measured(case, lake) | {"versions": versions, "read_s": round(read_s, 2)})
    _show(figures)
    return figures


def _load(lake: Lake, versions: int) -> None:
    ids = pl.int_range(1, PATIENT_COUNT + 1, eager=True)
    for version in range(versions):
        given = {
            PATIENTS: {"patient_id": ids, "full_name": f"A {version}", "date_of_birth": LONG_AGO, "care_team": "north"},
            DEVICES: {"device_id": ids + FIRST_DEVICE_ID, "model": f"Model {version}", "patient_id": ids},
        }
        for reference, columns in given.items():
            at = LONG_AGO + version * timedelta(days=365)
            put(lake, reference, _rows(reference, columns), valid_from=at, clock=partial(_same, at))


def _same(at: datetime) -> datetime:
    return at


def _rows(reference: Reference, columns: dict[str, object]) -> pl.DataFrame:
    schema = reference.table.schema
    return pl.select(
        (pl.lit(columns.get(name)) if name in columns else pl.lit(None)).cast(schema[name]).alias(name)
        for name in reference.cells
    )


def _measured(case: Case, lake: Lake) -> Figures:
    references = References(CONTRACT, lake)
    references.refresh()
    with TemporaryDirectory(prefix="bench-") as first, TemporaryDirectory(prefix="bench-") as second:
        engines = {"without": Engine(Path(first)), "with": Engine(Path(second), references)}
        taken = by_turns(engines, case)
    figures: Figures = {"case": case.name, "rows": case.rows}
    return figures | compared(taken)


def _show(figures: Figures) -> None:
    show(
        f"Reference data of {PATIENT_COUNT:,} patients and their devices (wanted: at most {TARGET_PERCENT:.0f} % more)",
        ("readings of", "rows a batch", "versions", "", "without, ms", "with, ms", "more, %", "tables read in, s"),
        [
            [
                each["case"],
                f"{each['rows']:,}",
                f"{each['versions']}",
                what,
                f"{each[what]['without_ms']:.1f}",
                f"{each[what]['with_ms']:.1f}",
                f"{each[what]['more_percent']:.1f}",
                f"{each['read_s']:.2f}",
            ]
            for each in figures["cases"]
            for what in ("median", "best")
        ],
    )


if __name__ == "__main__":
    run()
