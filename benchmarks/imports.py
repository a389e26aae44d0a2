"""What it costs to import what commands use: resident memory and CPU time, each in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path
from statistics import median

from benchmarks.report import Figures, show

ROOT = Path(__file__).resolve().parents[1]
MODULES = {
    "nothing": "sys",
    "settings, which every process reads": "resources.settings",
    "the lake": "resources.storage",
    "the streams": "orchestration.system",
    "copy": "orchestration.copying",
    "import": "orchestration.importing",
    "receive": "orchestration.receiving",
    "bridge mqtt": "orchestration.mqtt_bridge",
    "web": "dashboard.app",
    "status --watch": "orchestration.watch",
    "oltp sync": "orchestration.oltp",
    "notify run": "orchestration.notifying",
    "drain": "orchestration.work",
    "dev": "orchestration.live",
    "Dagster's definitions": "orchestration.definitions",
    "--help": "orchestration.cli",
}
MEASURED = """
import importlib, json, resource, sys
importlib.import_module(sys.argv[1])
pages = int(open("/proc/self/statm").read().split()[1])
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"mb": pages * resource.getpagesize() / 1e6, "cpu_s": used.ru_utime + used.ru_stime}))
"""


def run(*, quick: bool = False) -> Figures:
    """The medians of each module."""
    figures: Figures = {name: _measured(module, 1 if quick else 5) for name, module in MODULES.items()}
    rows = [(name, MODULES[name], f"{each['mb']:.0f}", f"{each['cpu_s']:.2f}") for name, each in figures.items()]
    show("Imports", ["for", "module", "MB", "CPU, s"], rows)
    return figures


def _measured(module: str, times: int) -> dict[str, float]:
    """The first process only fills the caches."""
    command = [sys.executable, "-c", MEASURED, module]
    found = [json.loads(subprocess.check_output(command, cwd=ROOT, text=True)) for _ in range(times + 1)][1:]
    return {name: round(median(each[name] for each in found), 2) for name in found[0]}
