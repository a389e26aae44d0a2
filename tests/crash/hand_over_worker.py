"""A session of its own process, which may kill itself at a step of a hand-over: `… HUB LAKE NAME [STEP]`.

A step is what happens to a lock, as in `take successor` or `release active`, or `commit` for the first commit while a
successor waits.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from assets.glucose.assets import CONTRACT
from assets.stream.contract import ALERTS_HUB
from assets.stream.session import Session, SessionLimits
from resources.event_hubs import EventHubsNamespace
from resources.lake import Lake
from resources.leases import FileLock, Lease

LIMITS = SessionLimits(trigger_s=0.02, commit_interval_s=1.0)


class DyingLock(FileLock):
    """A lock whose holder is killed once it was taken or released."""

    def __init__(self, file: Path, name: str, step: str) -> None:
        super().__init__(file, name)
        self._step = step

    def take(self) -> bool:
        is_taken = super().take()
        if is_taken and self._step == f"take {self._file.suffix[1:]}":
            die()
        return is_taken

    def release(self) -> None:
        if self._descriptor is not None and self._step == f"release {self._file.suffix[1:]}":
            super().release()
            die()
        super().release()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def lease_of(lake: Lake, name: str) -> Lease:
    return Lease.of(Path(lake.root) / "leases", CONTRACT.stream, name)


def main(connection_string: str, root: str, name: str, step: str = "") -> None:
    lake, hubs = Lake(root), EventHubsNamespace(connection_string)
    lease = lease_of(lake, name)
    for kind in ("active", "successor"):
        object.__setattr__(lease, kind, DyingLock(Path(root) / "leases" / f"{CONTRACT.stream}.{kind}", name, step))
    with hubs.publisher(ALERTS_HUB) as publisher:
        session = Session(CONTRACT, lake, hubs.source(CONTRACT.stream), publisher, limits=LIMITS, lease=lease)
        commit = session.store.commit

        def commit_or_die(*arguments: Any, **options: Any) -> None:
            if step == "commit" and lease.successor.is_held_elsewhere():
                die()
            commit(*arguments, **options)

        vars(session.store)["commit"] = commit_or_die
        print(os.getpid(), flush=True)
        session.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
