"""`python -m benchmarks [engine|drain|latency|memory|runs] [--quick]`: measures, prints tables, writes `results/`."""

import argparse
from importlib import import_module

from benchmarks.report import save, say

PARTS = ("engine", "drain", "latency", "memory", "runs")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measures Pulselake on this machine.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"what to measure: {', '.join(PARTS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="small and short: shows that it works")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"unknown part {', '.join(sorted(unknown))}; known: {', '.join(PARTS)}")
    for part in arguments.parts or PARTS:
        say(f"{part} …")
        path = save(part, import_module(f"benchmarks.{part}").run(quick=arguments.quick))
        say(f"{part}: figures are in {path}")


if __name__ == "__main__":
    main()
