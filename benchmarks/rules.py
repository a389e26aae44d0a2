"""What rules as data cost: two processors in turn, for one of which patients have thresholds of their own.

Both enrich their readings from the same patients and keep the same state.
"""

import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from assets.glucose.assets import CONTRACT
from assets.reference.rules import RULES, Wanted
from assets.reference.tables import PATIENTS
from assets.reference_store import put, put_rules
from assets.stream.enrichment import References
from benchmarks.engine import LARGE, SMALL, Case, Engine
from benchmarks.report import Figures, say, show
from benchmarks.turns import by_turns, compared
from resources.lake import Lake

PATIENT_COUNT = 10_000
TARGET_PERCENT, TARGET_SMALL_MS = 40.0, 5.0
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
ZONES = ("Europe/Lisbon", "Europe/Amsterdam", "Europe/London", "Europe/Vienna", "Europe/Oslo", "Europe/Tallinn", "UTC")
NIGHT = ("22:00", "06:00")
OWN = ("glucose_high", "glucose_low", "glucose_urgent_low")
"""The rules of which each patient has a threshold by day and one by night."""


def cases(quick: bool) -> list[Case]:
    five_minutes, count = timedelta(minutes=5), 3 if quick else 15
    return [
        Case("10,000 patients", 10_000, five_minutes, LARGE, 1, count),
        Case("1,000 patients", 1_000, five_minutes, LARGE, 1, count),
        Case("10,000 patients", 10_000, five_minutes, SMALL, 20, 20 if quick else 300),
    ]


def run(*, quick: bool = False) -> Figures:
    """Each case with own thresholds by hour, and with one rule that holds for a group."""
    figures: Figures = {"cases": []}
    for name, wanted in {"own, by hour": own_rules(), "a group's": _of_a_group()}.items():
        with TemporaryDirectory(prefix="bench-") as folder, TemporaryDirectory(prefix="bench-") as without:
            lakes = {"with": Lake(folder), "without": Lake(without)}
            for lake in lakes.values():
                load_patients(lake)
            began = time.perf_counter()
            put_rules(lakes["with"], [CONTRACT], wanted, valid_from=LONG_AGO, clock=long_ago)
            loaded_s = time.perf_counter() - began
            lake_references = {name: References(CONTRACT, lake) for name, lake in lakes.items()}
            seconds = {name: refreshed(references) for name, references in lake_references.items()}
            for case in cases(quick):
                say(f"  {case.rows:,} rows a batch, {case.name}, {name}")
                figures["cases"].append(
                    _measured(case, lake_references)
                    | {
                        "rules": name,
                        "versions": lakes["with"].table(RULES).count(),
                        "loaded_s": round(loaded_s, 2),
                        "read_s": round(seconds["with"] - seconds["without"], 2),
                    }
                )
    _show(figures)
    return figures


def own_rules(thresholds: Mapping[str, float] | None = None) -> list[Wanted]:
    """Thresholds by day and by night of each patient, near given ones; near three of the contract's without."""
    # More alerts would cost more by themselves.
    near = thresholds or {rule.id: rule.threshold for rule in CONTRACT.rules if rule.id in OWN}
    return [
        Wanted(rule, {"threshold": threshold + patient % 5 - 2}, f"patient:{patient}", *hours)
        for patient in range(1, PATIENT_COUNT + 1)
        for rule, threshold in near.items()
        for hours in ((), NIGHT)
    ]


def _of_a_group() -> list[Wanted]:
    return [Wanted("glucose_high", {"threshold": 116.0}, "group:icu")]


def load_patients(lake: Lake) -> None:
    """Patients in some time zones and groups."""
    ids = pl.int_range(1, PATIENT_COUNT + 1, eager=True)
    schema = PATIENTS.table.schema
    given: dict[str, pl.Expr | pl.Series] = {
        "patient_id": ids,
        "full_name": pl.lit("A"),
        "time_zone": pl.Series([ZONES[number % len(ZONES)] for number in ids]),
        "groups": pl.Series(["icu;north" if number % 10 == 0 else "north" for number in ids]),
    }
    rows = pl.select((given.get(name, pl.lit(None))).cast(schema[name]).alias(name) for name in PATIENTS.cells)
    put(lake, PATIENTS, rows, valid_from=LONG_AGO, clock=long_ago)


def long_ago() -> datetime:
    """Before all readings."""
    return LONG_AGO


def refreshed(references: References) -> float:
    """Reads what is known, and says in how many seconds."""
    began = time.perf_counter()
    references.refresh()
    return time.perf_counter() - began


def _measured(case: Case, references: dict[str, References]) -> Figures:
    with TemporaryDirectory(prefix="bench-") as first, TemporaryDirectory(prefix="bench-") as second:
        folders = zip(references, (first, second), strict=True)
        engines = {name: Engine(Path(folder), references[name]) for name, folder in folders}
        taken = by_turns(engines, case)
        alerts = {name: engine.alerts for name, engine in engines.items()}
    figures: Figures = {"case": case.name, "rows": case.rows, "alerts": alerts}
    return figures | compared(taken)


def _show(figures: Figures) -> None:
    show(
        f"Rules as data of {PATIENT_COUNT:,} patients (wanted: at most {TARGET_PERCENT:.0f} % more of {LARGE:,} rows, "
        f"{TARGET_SMALL_MS:.0f} ms of {SMALL:,})",
        (
            "rules",
            "readings of",
            "rows a batch",
            "",
            "without, ms",
            "with, ms",
            "more, %",
            "loaded in, s",
            "read in, s",
        ),
        [
            [
                each["rules"],
                each["case"],
                f"{each['rows']:,}",
                what,
                f"{each[what]['without_ms']:.1f}",
                f"{each[what]['with_ms']:.1f}",
                f"{each[what]['more_percent']:.1f}",
                f"{each['loaded_s']:.2f}",
                f"{each['read_s']:.2f}",
            ]
            for each in figures["cases"]
            for what in ("median", "best")
        ],
    )


if __name__ == "__main__":
    run()
