"""A standing sync in a process of its own, which writes small portions so that it can be killed between them."""

import os
import sys
from pathlib import Path

import assets.store_sync as store_sync
from orchestration.oltp import stand
from orchestration.processes import stop_on_signals
from resources.logs import set_up
from resources.settings import Settings


def work(home: str, url: str, portion: int) -> None:
    """Syncs the store at a URL until the process ends; what it says goes into a file in the home."""
    log = os.open(Path(home) / "worker.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, sys.stdout.fileno())
    os.dup2(log, sys.stderr.fileno())
    set_up("text")
    store_sync.PORTION_ROWS = portion
    stand(Settings(home=Path(home), oltp=url), stop_on_signals(), lambda text: print(text, flush=True))
