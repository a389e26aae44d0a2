"""A measured process: refreshes gold of a lake, or computes it in memory from all readings at once."""

import time
from typing import Any

from assets.glucose.assets import GOLD
from assets.gold import DailyGold
from benchmarks.grown import DAY
from benchmarks.workers import peak_rss_mb, serve
from resources.lake import Lake

DAILY = [gold for gold in GOLD if isinstance(gold, DailyGold)]


def work(lake: str, how: str, seconds: float = 0.0) -> dict[str, Any]:
    """Brings the daily gold tables up to date.

    Args:
        lake: its folder.
        how: ``refresh`` as the sensor's runs do, or ``compute`` from all readings in memory.
        seconds: of a refresh; what is not done by then is left. 0 for no limit.
    """
    opened, start = Lake(lake), peak_rss_mb()
    wall, cpu = time.perf_counter(), time.process_time()
    rows = 0
    for gold in DAILY:
        if how == "compute":
            rows += gold.compute(opened.table(gold.source).scan(), [DAY.date()]).height
        elif due := list(gold.pending(opened)):
            rows += gold.refresh(
                opened, due, should_stop=lambda: bool(seconds) and time.perf_counter() - wall > seconds
            )
    return {
        "rows": rows,
        "cpu_s": time.process_time() - cpu,
        "wall_s": time.perf_counter() - wall,
        "start_rss_mb": start,
        "peak_rss_mb": peak_rss_mb(),
    }


if __name__ == "__main__":
    serve(work)
