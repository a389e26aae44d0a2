"""How long a run of three trivial steps takes from its launch to its success, forked and in a fresh process.

The queue and the sensors are left out: the run is launched past them. What a run costs counts what it starts itself,
and the server that it comes from.
"""

import statistics
import time
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import dagster as dg
import psutil

from benchmarks.report import Figures, say, show
from tests.orchestration.launching import LaunchSite, launch_site

RUNS, QUICK_RUNS = 10, 3
JOB = "three_steps"
SETTLED_S = 2.5
"""After that time the processes that a run has started have ended and are counted."""
TARGET_WALL_S, TARGET_CPU_S = 0.7, 0.5


def run(*, quick: bool = False) -> Figures:
    """The default launcher and the warm one by turns, so that both see the same load of the machine."""
    # Dagster says of each function that it may change.
    warnings.simplefilter("ignore")
    count = QUICK_RUNS if quick else RUNS
    with ExitStack() as stack:
        folders = [Path(stack.enter_context(TemporaryDirectory(prefix="bench-"))) for _ in range(2)]
        cold, warm = (_site(stack, folder) for folder in folders)
        servers = {"cold": cold[1], "warm": [psutil.Process(warm[0].start_server().pid)]}
        rss = {name: sum(each.memory_info().rss for each in processes) / 2**20 for name, processes in servers.items()}
        figures: Figures = {"cold": [], "warm": []}
        for number in range(count + 1):
            for name, site in (("cold", cold[0]), ("warm", warm[0])):
                measured = _launch(site, servers[name], is_cold=name == "cold")
                if number:  # The first run of each opens what the others find open.
                    figures[name].append(measured)
            say(f"  {number} of {count}")
    figures |= {"server_rss_mb": rss}
    _show(figures)
    return figures


def _site(stack: ExitStack, folder: Path) -> tuple[LaunchSite, list[psutil.Process]]:
    before = psutil.Process().children()
    site = stack.enter_context(launch_site(folder))
    return site, [each for each in psutil.Process().children() if each not in before]


def _launch(site: LaunchSite, servers: Sequence[psutil.Process], *, is_cold: bool) -> Figures:
    run_id = site.create(JOB).run_id
    cpu, began = _cpu_s(servers), time.monotonic()
    site.instance.launch_run(run_id, site.context.create_request_context())
    launched = time.monotonic()
    site.wait_for(run_id, dg.DagsterRunStatus.SUCCESS)
    ended = time.monotonic()
    time.sleep(SETTLED_S)
    if site.is_cold(run_id) is not is_cold:
        raise RuntimeError(f"Run {run_id} did not start as it should: {site.messages(run_id)}")
    return {"launch_s": launched - began, "success_s": ended - began, "cpu_s": _cpu_s(servers) - cpu}


def _cpu_s(processes: Sequence[psutil.Process]) -> float:
    """What processes and their children that have ended have used."""
    times = [process.cpu_times() for process in processes]
    return float(sum(each.user + each.system + each.children_user + each.children_system for each in times))


def _show(figures: Figures) -> None:
    rows = []
    for name, title in (("cold", "in a fresh process"), ("warm", "forked")):
        for what, unit, wanted in (
            ("success_s", "launch to success, s", TARGET_WALL_S),
            ("cpu_s", "CPU, s", TARGET_CPU_S),
        ):
            values = [each[what] for each in figures[name]]
            target = f"≤ {wanted}" if name == "warm" else ""
            rows.append([f"{title}: {unit}", *_spread(values), target])
    show(f"A run of three trivial steps, {len(figures['warm'])} times", ("", "least", "median", "most", "wanted"), rows)


def _spread(values: Sequence[float]) -> list[str]:
    return [f"{each:.2f}" for each in (min(values), statistics.median(values), max(values))]
