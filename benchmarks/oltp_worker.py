"""One way of readings into the store, in a process of its own."""

import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl

from assets.glucose.assets import CONTRACT
from assets.store_sync import StoreSync
from assets.sync.feed import Feed
from assets.sync.readings import glucose_readings
from benchmarks.workers import peak_rss_mb, serve
from resources.lake import Lake
from resources.store import Store

FEED = Feed("GlucoseReadings", CONTRACT, glucose_readings, key=("patient_id", "device_id", "timestamp"))
LOAD = (
    "LOAD DATA LOCAL INFILE '{file}' INTO TABLE GlucoseReadings CHARACTER SET utf8mb4 FIELDS TERMINATED BY '\\t' "
    "OPTIONALLY ENCLOSED BY '\"' ESCAPED BY '' ({columns})"
)


def work(way: str, lake: str, url: str) -> Mapping[str, Any]:
    """Loads all readings of a lake."""
    store, opened = Store(url), Lake(lake)
    with TemporaryDirectory(prefix="bench-") as folder:
        file = Path(folder) / "rows.tsv"
        columns = _written(opened, file) if way == "bare" else []
        start_rss_mb, began, cpu = peak_rss_mb(), time.monotonic(), time.process_time()
        if way == "bare":
            store.execute(LOAD.format(file=file, columns=", ".join(columns)))
        else:
            StoreSync(opened, store).catch_up(FEED)
        seconds = time.monotonic() - began
    return {
        "seconds": seconds,
        "cpu_s": time.process_time() - cpu,
        "start_rss_mb": start_rss_mb,
        "peak_rss_mb": peak_rss_mb(),
    }


def _written(lake: Lake, file: Path) -> list[str]:
    """Writes the rows of the store into a file, and says which columns it has."""
    silver = lake.table(CONTRACT.tables.silver).scan().collect()
    rows = glucose_readings(silver, silver.clear()).with_columns(
        pl.col(pl.Datetime).dt.strftime("%Y-%m-%d %H:%M:%S%.6f"), sync_generation=pl.lit(1)
    )
    rows.write_csv(file, include_header=False, separator="\t", null_value="NULL", quote_style="non_numeric")
    return rows.columns


if __name__ == "__main__":
    serve(work)
