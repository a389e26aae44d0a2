"""One way of all tables out of a database, in a process of its own."""

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import connectorx

from assets.copied import Copier
from benchmarks.workers import peak_rss_mb, serve
from resources.copy_sources import copy_source
from resources.lake import Lake

BATCH_ROWS = 50_000


def work(way: str, url: str, lake: str, parallel: int) -> Mapping[str, Any]:
    """Reads all tables and throws the rows away, or copies them."""
    start_rss_mb, began, cpu = peak_rss_mb(), time.monotonic(), time.process_time()
    source = copy_source(url)
    if way == "bare":
        with ThreadPoolExecutor(parallel) as pool:
            rows = sum(pool.map(lambda table: _read(url, str(table)), source.tables()))
    else:
        done = list(Copier(Lake(lake), source).copy(source.tables(), parallel))
        if failed := [each for each in done if each.outcome not in ("copied", "kept")]:
            raise RuntimeError(f"{failed[0].table}: {failed[0].reason}")
        rows = sum(each.rows for each in done)
    return {
        "seconds": time.monotonic() - began,
        "cpu_s": time.process_time() - cpu,
        "rows": rows,
        "start_rss_mb": start_rss_mb,
        "peak_rss_mb": peak_rss_mb(),
    }


def _read(url: str, table: str) -> int:
    stream = connectorx.read_sql(url, f"SELECT * FROM `{table}`", return_type="arrow_stream", batch_size=BATCH_ROWS)
    return sum(batch.num_rows for batch in stream)


if __name__ == "__main__":
    serve(work)
