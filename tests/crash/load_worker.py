"""A process that loads records, a few rows at a time, and makes silver: `-m tests.crash.load_worker FOLDER LAKE`."""

import sys
from datetime import UTC, datetime
from pathlib import Path

from assets.clinical.sources import EHR
from assets.clinical_layers import Silver
from assets.clinical_loads import Loader
from resources.lake import Lake
from tests.clinical.hospital import Database


def main(folder: str, root: str) -> None:
    lake = Lake(root)
    loader = Loader(lake, EHR, lambda: datetime.now(UTC), lambda step: print(step, flush=True))
    loader.load(Database(Path(folder)).source(piece_rows=10))
    print("silver", flush=True)
    Silver(lake, EHR).refresh()


if __name__ == "__main__":
    main(*sys.argv[1:])
