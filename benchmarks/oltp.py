"""How fast the transactional store catches up: readings of the lake into MariaDB, beside a bare load of the same."""

from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from benchmarks.old_lake import build
from benchmarks.report import Figures, say, show
from benchmarks.workers import measure
from resources.lake import Lake
from resources.store import Store
from tests.services.mariadb import MariaDb

READINGS, QUICK_READINGS = 2_000_000, 100_000
TARGET_ROWS_PER_S, TARGET_MB = 50_000, 400
WAYS = ("bare", "sync")


def run(*, quick: bool = False) -> Figures:
    """Both ways into a database of its own each, on a server that waits for its disk; each in a fresh process."""
    readings = QUICK_READINGS if quick else READINGS
    with TemporaryDirectory(prefix="bench-") as folder, MariaDb(Path(folder) / "db", is_synced=True) as server:
        lake = Lake(str(Path(folder) / "lake"))
        say(f"Writing {readings:,} readings …")
        build(lake, readings)
        measured = {}
        for way in WAYS:
            store = Store(server.url())
            store.migrate()
            say(f"Loading them: {way} …")
            url = store.url.render_as_string(hide_password=False)
            before = _cpu_s(server.pid)
            measured[way] = measure("oltp_worker", way=way, lake=lake.root, url=url)
            measured[way]["server_cpu_s"] = _cpu_s(server.pid) - before
            if (rows := store.count("GlucoseReadings")) != readings:
                raise RuntimeError(f"{way}: {readings:,} readings are in the lake, {rows:,} in the store")
            store.close()
    figures: Figures = {"readings": readings, **measured}
    names = {"bare": "one LOAD DATA LOCAL of a ready file", "sync": "the sync, from the lake"}
    show(
        f"{readings:,} glucose readings into MariaDB",
        ("", "seconds", "rows/s", "CPU-s", "server CPU-s", "peak RSS MB", "before it began"),
        [
            *(
                [
                    names[way],
                    f"{each['seconds']:.1f}",
                    f"{readings / each['seconds']:,.0f}",
                    f"{each['cpu_s']:.1f}",
                    f"{each['server_cpu_s']:.1f}",
                    f"{each['peak_rss_mb']:.0f}",
                    f"{each['start_rss_mb']:.0f}",
                ]
                for way, each in measured.items()
            ),
            ["wanted of the sync", "", f"≥ {TARGET_ROWS_PER_S:,}", "", "", f"≤ {TARGET_MB}", ""],
        ],
    )
    return figures


def _cpu_s(pid: int) -> float:
    """How much time of a processor a process has used; on a busy machine it says more than the clock."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)
