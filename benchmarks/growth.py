"""What it costs that the lake has grown: the same work on lakes of 1, 10 and 86.4 million readings of one date.

Each measure is a function of a lake; it adds readings if it needs to, and leaves the lake to the next one. What it
measures runs in a fresh process. Another measure is another entry of `MEASURES`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.grown import FULL_DAY, Grown
from benchmarks.report import Figures, say, show
from benchmarks.workers import measure

SIZES, QUICK_SIZES = (1_000_000, 10_000_000, FULL_DAY), (300_000, 1_000_000)
NEW_S = 30
COMPUTED = 12_000_000
"""The reference takes 0.1 GB for each million readings."""
TARGET_CPU_S, TARGET_RSS_MB = 3.0, 600
DRAINED = 200_000


def run(*, quick: bool = False, rows: Sequence[int] = ()) -> Figures:
    """Each measure on a lake of each size.

    Args:
        quick: small lakes.
        rows: other sizes than the usual ones.
    """
    figures: Figures = {name: [] for name in MEASURES}
    for readings in rows or (QUICK_SIZES if quick else SIZES):
        with TemporaryDirectory(prefix="bench-") as folder:
            lake = Grown(Path(folder), min(readings, FULL_DAY) - 2 * NEW_S * 1000).write()
            for name, of_a_lake in MEASURES.items():
                say(f"  {name}")
                figures[name].append({"readings": readings} | of_a_lake(lake))
    _show_gold(figures["gold"])
    _show_session(figures["session"])
    return figures


def _gold(lake: Grown) -> dict[str, Any]:
    """The first computation, a refresh after 30 s of new readings, and all readings at once in memory."""
    first = measure("gold_worker", lake=str(lake.folder), how="refresh")
    lake.arrive(NEW_S)
    refreshed = measure("gold_worker", lake=str(lake.folder), how="refresh")
    later = Grown(lake.folder, lake.readings + NEW_S * 1000)
    later.arrive(NEW_S, late=100)
    late = measure("gold_worker", lake=str(lake.folder), how="refresh")
    fits = lake.readings <= COMPUTED
    computed = measure("gold_worker", lake=str(lake.folder), how="compute") if fits else None
    if computed and not computed["is_exact"]:
        raise RuntimeError("Refreshed gold differs from gold of all readings at once.")
    return {"first": first, "refreshed": refreshed, "with_late": late, "computed": computed}


def _session(lake: Grown) -> dict[str, Any]:
    """A session's beginning, a drain and look-ups, here and, as the reference, on an empty lake."""
    with TemporaryDirectory(prefix="bench-") as empty:
        return {
            "empty": measure("session_on_grown_worker", lake=empty, events=DRAINED),
            "grown": measure("session_on_grown_worker", lake=str(lake.folder), events=DRAINED),
        }


MEASURES: dict[str, Callable[[Grown], dict[str, Any]]] = {"gold": _gold, "session": _session}


def _show_gold(figures: Sequence[Figures]) -> None:
    names = {
        "first": "first computation",
        "refreshed": f"refresh after {NEW_S} s of new readings",
        "with_late": "  with 5 % of them up to two hours late",
        "computed": "all readings at once, in memory",
    }
    show(
        "Gold of one date (glucose_daily and glucose_moving_average)",
        ("readings", "", "CPU s", "whole s", "peak RSS MB", "before MB", "wanted"),
        [
            [
                f"{each['readings']:,}",
                title,
                f"{each[name]['cpu_s']:.2f}",
                f"{each[name]['wall_s']:.2f}",
                f"{each[name]['peak_rss_mb']:.0f}",
                f"{each[name]['start_rss_mb']:.0f}",
                {"refreshed": f"≤ {TARGET_CPU_S:g} s, ", "first": ""}.get(name, "-") + f"≤ {TARGET_RSS_MB} MB"
                if name in ("refreshed", "first")
                else "",
            ]
            for each in figures
            for name, title in names.items()
            if each[name]
        ],
    )


def _show_session(figures: Sequence[Figures]) -> None:
    show(
        "A session on a lake that has grown",
        (
            "readings",
            "to the first pull, s",
            "drain, events/s",
            "of an empty lake's",
            "look-up p50 / max, ms",
            "RSS MB",
        ),
        [
            ["wanted", "≤ 5", "", "≥ 85 %", "≤ 100", ""],
            *(
                [
                    f"{each['readings']:,}",
                    f"{each['grown']['first_pull_s']:.2f}",
                    f"{each['grown']['events_per_s']:,.0f}",
                    f"{100 * each['grown']['events_per_s'] / each['empty']['events_per_s']:.0f} %",
                    f"{each['grown']['look_up_ms']['p50']:.0f} / {each['grown']['look_up_ms']['max']:.0f}",
                    f"{each['grown']['peak_rss_mb']:.0f}",
                ]
                for each in figures
            ),
        ],
    )
