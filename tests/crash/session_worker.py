"""A process that runs one session after the other until it is killed: `-m tests.crash.session_worker HUB LAKE`."""

import os
import sys

from assets.glucose.assets import CONTRACT
from assets.stream.contract import ALERTS_HUB
from assets.stream.session import Session, SessionLimits
from resources.event_hubs import EventHubsNamespace
from resources.event_source import HubUnavailableError
from resources.lake import Lake

LIMITS = SessionLimits(trigger_s=0.02, commit_interval_s=0.05, idle_timeout_s=1, max_duration_s=2)


def main(connection_string: str, root: str) -> None:
    print(os.getpid(), flush=True)
    while True:
        hubs = EventHubsNamespace(connection_string)
        try:
            with hubs.publisher(ALERTS_HUB) as publisher:
                Session(CONTRACT, Lake(root), hubs.source(CONTRACT.stream), publisher, limits=LIMITS).run()
        except HubUnavailableError as error:
            print(error, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
