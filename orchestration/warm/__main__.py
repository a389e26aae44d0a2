"""`python -m orchestration.warm DAGSTER_HOME`: the warm server of a Dagster home."""

import argparse
import os
from pathlib import Path

from orchestration.warm.files import FOLDER, RunFiles

ROOT = Path(__file__).resolve().parents[2]
CODE = ("assets", "orchestration", "resources", "sql")
KILL_AFTER_S = 180.0
"""After that time Dagster itself takes a run that is being cancelled for cancelled."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m orchestration.warm", description="Forks runs of Dagster.")
    parser.add_argument("home", type=Path, help="Dagster's home")
    parser.add_argument("--module", default="orchestration.definitions", help="where the definitions are")
    parser.add_argument("--working-directory", type=Path, default=ROOT)
    parser.add_argument("--watch", type=Path, action="append", help="folders with the code; default: the project's")
    parser.add_argument(
        "--kill-after", type=float, default=KILL_AFTER_S, help="seconds that an interrupted run may go on"
    )
    given = parser.parse_args()
    home = given.home.resolve()
    watched = given.watch or [ROOT / name for name in CODE]
    # OpenBLAS starts threads when numpy is imported, which a fork would lack. Nothing here does linear algebra.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    from orchestration.warm.server import WarmServer  # noqa: PLC0415

    files, folder = RunFiles(home / FOLDER), str(given.working_directory)
    WarmServer(home, files, given.module, folder, watched, given.kill_after).serve()
    # Nothing is left to be done, and libraries complain about what they see when an interpreter is taken apart.
    os._exit(0)


if __name__ == "__main__":
    main()
