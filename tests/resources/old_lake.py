"""The lake that version 0.1 wrote, to be read, maintained and continued by today's code."""

import shutil
from pathlib import Path

from resources.lake import Lake

FIXTURE = Path(__file__).parents[1] / "fixtures" / "lake_of_0_1"


def old_lake(folder: Path) -> Lake:
    """A copy of that lake below a folder."""
    shutil.copytree(FIXTURE, folder / "lake")
    return Lake(str(folder / "lake"))
