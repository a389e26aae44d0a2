"""What each report costs on a lake of many readings: built for the first time, and again after one more commit."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.old_lake import append, build, build_gold
from benchmarks.report import Figures, say, show
from benchmarks.workers import measure
from orchestration.system import SQL
from resources.lake import Lake
from resources.reports import reports

READINGS, QUICK_READINGS = 86_400_000, 1_000_000
GOLD_DAYS = 3_650
TARGET_S, TARGET_MB = 90, 1_000
ROUNDS = ("first", "again")


def run(*, quick: bool = False, readings: int | None = None, days: int = 1, gold_days: int = GOLD_DAYS) -> Figures:
    """All reports, one after the other, each in a fresh process.

    Args:
        quick: a million readings.
        readings: in silver, instead.
        days: how many days they are of.
        gold_days: how many days gold has.
    """
    readings = readings or (QUICK_READINGS if quick else READINGS)
    names = [report.name for report in reports(SQL / "reports")]
    with TemporaryDirectory(prefix="bench-") as folder:
        lake = Lake(str(Path(folder) / "lake"))
        say(f"Writing {readings:,} readings of {days} day(s) …")
        build(lake, readings, days=days)
        say(f"Writing gold of {gold_days:,} days …")
        build_gold(lake, gold_days)
        reference = measure("report_worker", lake=lake.root, name="reference")
        measured = {}
        for each in ROUNDS:
            say(f"Building {len(names)} reports: {each} …")
            measured[each] = {name: measure("report_worker", lake=lake.root, name=name) for name in names}
            append(lake)
    figures = {"readings": readings, "days": days, "gold_days": gold_days, "reference": reference, **measured}
    _show(figures, names)
    return figures


def _show(figures: Figures, names: list[str]) -> None:
    first, again = (figures[each] for each in ROUNDS)
    rows = [[name, *_row(first[name]), *_row(again[name])[:2]] for name in names]
    total = ["all together", *_total(first), *_total(again)[:2]]
    reference = ["count, mean and maximum in plain Polars", *_row(figures["reference"]), "", ""]
    wanted = ["wanted", f"≤ {TARGET_S}", "", f"≤ {TARGET_MB}", f"≤ {TARGET_S}", ""]
    title = f"{figures['readings']:,} readings of {figures['days']} day(s), gold of {figures['gold_days']:,} days"
    header = ("", "first: s", "CPU-s", "RSS MB", "again: s", "CPU-s")
    show(title, header, [*rows, total, reference, wanted])


def _row(figures: dict[str, Any]) -> list[str]:
    return [f"{figures['seconds']:.1f}", f"{figures['cpu_s']:.1f}", f"{figures['peak_rss_mb']:.0f}"]


def _total(figures: dict[str, Any]) -> list[str]:
    seconds, cpu = (sum(each[what] for each in figures.values()) for what in ("seconds", "cpu_s"))
    return [f"{seconds:.1f}", f"{cpu:.1f}", f"{max(each['peak_rss_mb'] for each in figures.values()):.0f}"]
