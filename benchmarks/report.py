"""What a benchmark shows while it runs and leaves behind."""

import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as Grid

RESULTS = Path(__file__).parent / "results"

Figures = dict[str, Any]
"""The result of one part, as it is saved."""

_WIDTH = 110
_out = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)


def say(text: str) -> None:
    """Progress: a line with the time of day."""
    print(f"{datetime.now(UTC):%H:%M:%S}  {text}", file=sys.stderr, flush=True)


def show(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table for people; figures to the right."""
    grid = Grid(title=title, title_justify="left")
    for place, name in enumerate(header):
        grid.add_column(name, justify="right" if place else "left")
    for row in rows:
        grid.add_row(*row)
    _out.print(grid)


def save(part: str, figures: Figures) -> Path:
    """Writes the figures with the machine they were measured on."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{part}.json"
    machine = {"cores": os.cpu_count(), "load_average": os.getloadavg(), "python": sys.version.split()[0]}
    saved = {"measured_at": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine, **figures}
    path.write_text(json.dumps(saved, indent=2) + "\n")
    return path
