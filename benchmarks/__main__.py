"""Measures, prints tables, writes `results/`.

`python -m benchmarks [engine|drain|latency|memory|growth] [--quick] [--rows 1000000 …]`
"""

import argparse
from importlib import import_module

from benchmarks.report import save, say

PARTS = ("engine", "drain", "latency", "memory", "growth")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measures Pulselake on this machine.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"what to measure: {', '.join(PARTS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="small and short: shows that it works")
    parser.add_argument("--rows", type=int, nargs="+", default=(), help="sizes of the lakes of `growth`, in readings")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"unknown part {', '.join(sorted(unknown))}; known: {', '.join(PARTS)}")
    for part in arguments.parts or PARTS:
        say(f"{part} …")
        options = {"rows": arguments.rows} if part == "growth" else {}
        path = save(part, import_module(f"benchmarks.{part}").run(quick=arguments.quick, **options))
        say(f"{part}: figures are in {path}")


if __name__ == "__main__":
    main()
