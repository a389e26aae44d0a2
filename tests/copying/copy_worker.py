"""A process that copies tables and tells each commit: `-m tests.copying.copy_worker URL LAKE TABLE…`."""

import sys

from assets.copied import Copier
from resources.copy_sources import copy_source
from resources.lake import Lake


def main(url: str, root: str, *tables: str) -> None:
    opened = copy_source(url)
    opened._piece_bytes = 10_000
    copier = Copier(Lake(root), opened, on_rows=lambda table, rows: print(table, rows, flush=True))
    list(copier.copy(opened.named(tables)))


if __name__ == "__main__":
    main(*sys.argv[1:])
