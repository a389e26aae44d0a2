"""One report, or its reference, in a process of its own."""

import time
from collections.abc import Mapping
from typing import Any

import polars as pl

from benchmarks.workers import peak_rss_mb, serve
from orchestration.system import SQL, tables, views
from resources.lake import Lake
from resources.reports import report_analytics, reports, write_report


def work(lake: str, name: str) -> Mapping[str, Any]:
    """Builds the report of a name; `reference` is the delay of arrival in plain Polars, of all dates."""
    opened, start_rss_mb = Lake(lake), peak_rss_mb()
    began, cpu = time.monotonic(), time.process_time()
    built: dict[str, Any] = {}
    if name == "reference":
        _reference(opened)
    else:
        [report] = [each for each in reports(SQL / "reports") if each.name == name]
        written = write_report(report_analytics(opened, tables(), views()), report)
        built = {"rows": written.rows, "dates": written.dates, "dates_left": written.dates_left}
    return {
        "seconds": time.monotonic() - began,
        "cpu_s": time.process_time() - cpu,
        "start_rss_mb": start_rss_mb,
        "peak_rss_mb": peak_rss_mb(),
        **built,
    }


def _reference(lake: Lake) -> None:
    silver = next(table for table in tables() if table.name == "silver/glucose_readings")
    delay = (pl.col("received_at") - pl.col("measured_at")).dt.total_microseconds()
    sums = lake.table(silver).scan().group_by("event_date").agg(pl.len(), delay.mean().alias("mean"), max=delay.max())
    sums.collect(engine="streaming")


if __name__ == "__main__":
    serve(work)
