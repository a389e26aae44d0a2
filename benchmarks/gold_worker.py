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
        how: ``refresh`` as the sensor's runs do, or ``compute`` from all readings in memory and compare the two.
        seconds: of a refresh; what is not done by then is left. 0 for no limit.
    """
    opened, start = Lake(lake), peak_rss_mb()
    wall, cpu = time.perf_counter(), time.process_time()
    rows, is_exact = 0, True
    for gold in DAILY:
        if how == "compute":
            right = gold.compute(opened.table(gold.source).scan(), [DAY.date()]).filter(event_date=DAY.date())
            rows += right.height
            found = opened.table(gold.table).scan().filter(event_date=DAY.date()).sort("patient_id").collect()
            is_exact = is_exact and found.equals(right)
        elif due := list(gold.pending(opened)):
            rows += gold.refresh(
                opened, due, should_stop=lambda: bool(seconds) and time.perf_counter() - wall > seconds
            )
    return {
        "rows": rows,
        "is_exact": is_exact,
        "cpu_s": time.process_time() - cpu,
        "wall_s": time.perf_counter() - wall,
        "start_rss_mb": start,
        "peak_rss_mb": peak_rss_mb(),
    }


if __name__ == "__main__":
    serve(work)
