"""How fast tables of MariaDB are copied, beside a bare reader of the same library, and after a kill in the middle."""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import psutil

from benchmarks.report import Figures, say, show
from benchmarks.workers import Worker, measure
from resources.copy_sources import copy_source
from tests.services.mariadb import MariaDb

TABLES, GB, QUICK_TABLES, QUICK_GB = 30, 5.0, 3, 0.06
PARALLEL, ROW_BYTES = 2, 240
TARGET_SHARE, TARGET_MB = 0.8, 512
CREATE = """
    CREATE TABLE {table} (
        measurement_id BIGINT NOT NULL PRIMARY KEY, person_id INTEGER, measurement_concept_id INTEGER,
        measurement_date DATE, measurement_datetime DATETIME, value_as_number DECIMAL(20,6), range_low DOUBLE,
        unit_source_value VARCHAR(50), value_source_value VARCHAR(200)
    ) CHARACTER SET utf8mb4
"""
FILL = """
    INSERT INTO {table}
    SELECT seq, seq % 10007, 3000000 + seq % 500, '2020-01-01' + INTERVAL seq % 2000 DAY,
        '2020-01-01' + INTERVAL seq SECOND, IF(seq % 5, seq * 0.001234, NULL), RAND(seq), 'mg/dL',
        CONCAT(REPEAT(MD5(seq), 4), ' ', seq)
    FROM seq_1_to_{rows}
"""


def run(*, quick: bool = False, gb: float | None = None) -> Figures:
    """A bare reader, a copy, and a copy that is killed and goes on, each in processes of its own."""
    tables, size = (QUICK_TABLES, QUICK_GB) if quick else (TABLES, GB)
    size = gb or size
    rows = int(size * 1e9 / tables / ROW_BYTES)
    with TemporaryDirectory(prefix="bench-") as folder, MariaDb(Path(folder) / "db", is_synced=True) as server:
        url = server.url()
        say(f"Filling {tables} tables with {rows:,} rows each …")
        stored = _fill(url, tables, rows)
        measured: dict[str, Any] = {}
        for way in ("bare", "copy"):
            say(f"Reading {stored / 1e9:.2f} GB: {way} …")
            before = _cpu_s(server.pid)
            lake = str(Path(folder) / way)
            measured[way] = measure("copy_worker", way=way, url=url, lake=lake, parallel=PARALLEL)
            measured[way]["server_cpu_s"] = _cpu_s(server.pid) - before
        _check(str(Path(folder) / "copy"), tables, rows)
        say("Copying again, killed in the middle …")
        lake = str(Path(folder) / "killed")
        killed = Worker("copy_worker", way="copy", url=url, lake=lake, parallel=PARALLEL)
        time.sleep(measured["copy"]["seconds"] / 2)
        killed.process.kill()
        killed.process.wait()
        measured["after a kill"] = measure("copy_worker", way="copy", url=url, lake=lake, parallel=PARALLEL)
        measured["after a kill"]["server_cpu_s"] = 0.0
        _check(lake, tables, rows)
    share = measured["bare"]["seconds"] / measured["copy"]["seconds"]
    bare_cpu_s, copy_cpu_s = (measured[way]["cpu_s"] + measured[way]["server_cpu_s"] for way in ("bare", "copy"))
    figures: Figures = {
        "tables": tables,
        "rows": rows * tables,
        "bytes": stored,
        "share": share,
        "cpu_share": bare_cpu_s / copy_cpu_s,
        **measured,
    }
    show(
        f"{tables} tables of MariaDB, {rows * tables:,} rows, {stored / 1e9:.2f} GB; {PARALLEL} at a time",
        ("", "seconds", "MB/s", "CPU-s", "server CPU-s", "peak RSS MB", "before it began"),
        [
            *(
                [
                    way,
                    f"{each['seconds']:.1f}",
                    f"{stored / 1e6 / each['seconds']:,.0f}",
                    f"{each['cpu_s']:.1f}",
                    f"{each['server_cpu_s']:.1f}",
                    f"{each['peak_rss_mb']:.0f}",
                    f"{each['start_rss_mb']:.0f}",
                ]
                for way, each in measured.items()
            ),
            [f"bare / copy {share:.0%}", f"≥ {TARGET_SHARE:.0%}", "", "", "", f"≤ {TARGET_MB}", ""],
            [f"by both CPUs {bare_cpu_s / copy_cpu_s:.0%}", "", "", "", "", "", ""],
        ],
    )
    return figures


def _fill(url: str, tables: int, rows: int) -> int:
    """Makes the tables and says how many bytes the server has of them."""
    with _connected(url) as cursor:
        for number in range(tables):
            table = f"measurement_{number:02}"
            cursor.execute(CREATE.format(table=table))
            cursor.execute(FILL.format(table=table, rows=rows))
            cursor.execute("COMMIT")
            # Without it the server's sizes are old.
            cursor.execute(f"ANALYZE TABLE {table}")
            cursor.fetchall()
        cursor.execute("SELECT SUM(data_length) FROM information_schema.tables WHERE table_schema = DATABASE()")
        return int(cursor.fetchone()[0])


@contextmanager
def _connected(url: str) -> Iterator[Any]:
    with closing(copy_source(url)._engine.raw_connection()) as connection, closing(connection.cursor()) as cursor:
        yield cursor


def _check(lake: str, tables: int, rows: int) -> None:
    """Whether every row is there once."""
    for number in range(tables):
        found = pl.scan_delta(f"{lake}/bronze/measurement_{number:02}").select(
            rows=pl.len(), keys=pl.col("measurement_id").n_unique()
        )
        if (got := found.collect(engine="streaming").row(0)) != (rows, rows):
            raise RuntimeError(
                f"{lake}, table {number}: {rows:,} rows are in the source, {got} rows and keys in the lake"
            )


def _cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)
