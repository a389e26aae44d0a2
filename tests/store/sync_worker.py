"""A standing sync in a process of its own, which writes small portions: `-m tests.store.sync_worker ROWS`."""

import sys

import assets.store_sync as store_sync
from orchestration.oltp import stand
from orchestration.processes import stop_on_signals
from resources.logs import set_up
from resources.settings import Settings

if __name__ == "__main__":
    set_up("text")
    store_sync.PORTION_ROWS = int(sys.argv[1])
    stand(Settings(), stop_on_signals(), lambda text: print(text, file=sys.stderr, flush=True))
