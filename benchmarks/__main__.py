"""`python -m benchmarks [PART …] [--quick]`: measures, prints tables, writes `results/`; `--help` lists the parts."""

import argparse
from importlib import import_module
from typing import Any

from benchmarks.report import save, say

PARTS = (
    "engine",
    "drain",
    "kafka",
    "latency",
    "memory",
    "standing",
    "growth",
    "reports",
    "runs",
    "vitals",
    "adverse_events",
    "reference",
    "rules",
    "alarms",
    "forecast",
    "oltp",
    "web",
    "mqtt",
    "foreign",
    "oltp_live",
    "notifications",
    "patient_page",
    "copy",
    "imports",
    "apple",
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measures Pulselake on this machine.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"what to measure: {', '.join(PARTS)}; default: all")
    parser.add_argument("--readings", type=float, help="how many readings the lake of `reports` has, as 10e6")
    parser.add_argument("--days", type=int, help="of how many days they are")
    parser.add_argument("--gold-days", type=int, help="how many days its gold has")
    parser.add_argument("--quick", action="store_true", help="small and short: shows that it works")
    parser.add_argument("--rows", type=int, nargs="+", default=(), help="sizes of the lakes of `growth`, in readings")
    parser.add_argument("--transport", help="over which hubs `vitals` is measured: event-hubs or kafka")
    parser.add_argument("--gb", type=float, help="how much `copy` copies, and how large the export of `apple` is")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"unknown part {', '.join(sorted(unknown))}; known: {', '.join(PARTS)}")
    options: dict[str, dict[str, Any]] = {part: {} for part in PARTS}
    options["growth"]["rows"] = arguments.rows
    if arguments.transport:
        options["vitals"]["transport"] = arguments.transport
    if arguments.gb:
        options["copy"]["gb"] = options["apple"]["gb"] = arguments.gb
    for name in ("readings", "days", "gold_days"):
        if (value := getattr(arguments, name)) is not None:
            options["reports"][name] = int(value)
    for part in arguments.parts or PARTS:
        say(f"{part} …")
        path = save(part, import_module(f"benchmarks.{part}").run(quick=arguments.quick, **options[part]))
        say(f"{part}: figures are in {path}")


if __name__ == "__main__":
    main()
