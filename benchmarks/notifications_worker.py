"""The measured process that tells people of alarms, as `pulselake notify run` does."""

import threading
import time
from typing import Any

from apprise.plugins.telegram import NotifyTelegram

from benchmarks.workers import peak_rss_mb, serve
from orchestration.notifying import Worker
from resources.event_hubs import EventHubsNamespace
from resources.lake import Lake
from resources.notifier import Notifier
from resources.outbox import Outbox
from resources.store import Store

LONGEST_S = 900.0
"""A group of Telegram takes 20 messages a minute, and each has room for about 50 alarms."""


def run(
    connection_string: str, lake: str, url: str, secrets: dict[str, str], telegram: str, seconds: float
) -> dict[str, Any]:
    """Works until nothing has waited for two seconds after so many, at most a quarter of an hour longer.

    Args:
        connection_string: of the hub `alarms`.
        lake, url: where alarms and the outbox are.
        secrets: addresses by the names of channels.
        telegram: a server that stands in for Telegram's.
        seconds: how long alarms come.
    """
    NotifyTelegram.notify_url = telegram
    store = Store(url)
    outbox = Outbox(store)
    worker = Worker(Lake(lake), outbox, Notifier(secrets.get), EventHubsNamespace(connection_string).source("alarms"))
    thread = threading.Thread(target=worker.run)
    thread.start()
    began, idle_since, rss = time.monotonic(), 0.0, list[float]()
    while (now := time.monotonic()) < began + seconds + LONGEST_S:
        time.sleep(0.25)
        rss.append(_rss_mb())
        idle_since = 0.0 if outbox.channels() else idle_since or now
        if now > began + seconds and idle_since and now - idle_since > 2:
            break
    worker.stop.set()
    thread.join()
    half = len(rss) // 2
    return {
        "seconds": time.monotonic() - began,
        "cpu_s": time.process_time(),
        "peak_rss_mb": peak_rss_mb(),
        "rss_mb": {"first_half": max(rss[:half]), "second_half": max(rss[half:])},
        "counts": dict(outbox.log(1_000_000, failed=False)["state"].value_counts().iter_rows()),
    }


def _rss_mb() -> float:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096 / 2**20


if __name__ == "__main__":
    serve(run)
