"""A measured process that does one part of the work on reports of adverse events."""

import time
from typing import Any

import duckdb
import polars as pl

from assets.adverse_events.assets import CONTRACT, GOLD
from assets.adverse_events.tables import SAFETY_SIGNALS
from assets.stream.session import Session, SessionLimits
from benchmarks.workers import peak_rss_mb, serve
from generator.adverse_events import PLANTED
from resources.event_hubs import EventHubsNamespace
from resources.lake import Lake

STATEMENT = """
    SELECT count(*) FROM (
        SELECT drug_name, reactionmeddrapt, count(DISTINCT sequence_number * 16 + partition) AS report_count
        FROM drugs JOIN reactions USING (partition, sequence_number, event_index)
        GROUP BY ALL
    )
"""
"""What the reference counts; it takes no account of versions."""


def work(work: str, connection_string: str, lake: str) -> dict[str, Any]:
    """One part: `session`, `gold` or `duckdb`; times in seconds."""
    opened, start, began, began_cpu = Lake(lake), peak_rss_mb(), time.monotonic(), time.process_time()
    found = {"session": _session, "gold": _gold, "duckdb": _duckdb}[work](opened, connection_string)
    whole = {"whole_s": time.monotonic() - began, "cpu_s": time.process_time() - began_cpu}
    return found | whole | {"start_rss_mb": start, "peak_rss_mb": peak_rss_mb()}


def _session(lake: Lake, connection_string: str) -> dict[str, Any]:
    namespace = EventHubsNamespace(connection_string)
    with namespace.publisher("alerts") as publisher:
        limits = SessionLimits(until_caught_up=True, max_duration_s=3600)
        totals = Session(CONTRACT, lake, namespace.source(CONTRACT.stream), publisher, limits=limits).run()
    return {"events": totals.events, "rows": dict(totals.rows), "duplicates": totals.duplicates}


def _gold(lake: Lake, _: str) -> dict[str, Any]:
    tables, rows = {}, {}
    for gold in GOLD:
        began = time.monotonic()
        rows[gold.table.name] = gold.refresh(lake)
        tables[gold.table.name] = time.monotonic() - began
    signals = lake.table(SAFETY_SIGNALS).scan().select("substance", "reactionmeddrapt", "a", "is_signal").collect()
    names = ["substance", "reactionmeddrapt"]
    planted = pl.DataFrame([*PLANTED], schema=names, orient="row").with_columns(is_planted=True)
    is_planted = pl.col("is_planted").fill_null(False)
    judged = signals.join(planted, on=names, how="left").select(
        planted=(is_planted & pl.col("is_signal")).sum(),
        unplanted=(~is_planted & (pl.col("a") >= 100)).sum(),
        others=(~is_planted & (pl.col("a") >= 100) & pl.col("is_signal")).sum(),
    )
    return {"tables": tables, "rows": rows, "signals": judged.row(0, named=True)}


def _duckdb(lake: Lake, _: str) -> dict[str, Any]:
    with duckdb.connect() as connection:
        for child in CONTRACT.children:
            connection.from_parquet(lake.table(child.table).delta().file_uris()).create_view(child.role)
        [(pairs,)] = connection.execute(STATEMENT).fetchall()
    return {"pairs": pairs}


if __name__ == "__main__":
    serve(work)
