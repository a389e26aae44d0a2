"""Whom the demo tells, and of what the store has: a server that takes notifications, and an account of both."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import polars as pl

from assets.notifications.deciding import SENT, SUPPRESSED
from assets.notifying import Directory
from assets.sync.alarms import ALERTS
from assets.sync.feed import Feed
from orchestration.alarms import contracts_with_alarms
from orchestration.notifying import is_caught_up
from orchestration.oltp import open_store, tables_status
from orchestration.system import FEEDS
from resources.lake import Lake
from resources.outbox import Outbox
from resources.settings import Settings
from resources.storage import lake_of
from resources.store import StoreError

SECRET = "demo"
"""Messages are signed with it; they stay on this machine."""


class Inbox:
    """A server on loopback that takes the notifications of the synthetic subscribers.

    Attributes:
        ids: how often each notification came.
        messages: how many messages there were.
    """

    def __init__(self) -> None:
        self.ids: dict[int, int] = {}
        self.messages = 0
        self._lock = threading.Lock()
        inbox = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                inbox.take(json.loads(body))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Is silent: texts are about patients."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True

    def take(self, message: Mapping[str, Any]) -> None:
        """Counts what a message tells."""
        with self._lock:
            self.messages += 1
            for each in message["notifications"]:
                self.ids[each["notification_id"]] = self.ids.get(each["notification_id"], 0) + 1

    def secrets(self, lake: Lake) -> dict[str, str]:
        """An address here for each channel of the subscribers in a lake."""
        subscribers = Directory(lake).people(datetime.now(UTC)).subscribers
        port = self._server.server_address[1]
        return {
            channel: f"webhook://{SECRET}@127.0.0.1:{port}/{number}"
            for number, each in subscribers.items()
            for channel in each.channels
        }

    @contextmanager
    def open(self) -> Iterator["Inbox"]:
        """Within the block it takes messages."""
        thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()


@dataclass(frozen=True)
class Reached:
    """What reached people and the store.

    Attributes:
        raised: alarms that were raised, by severity.
        notifications: rows of the outbox by state.
        messages: how many messages the server got.
        received: how many notifications it got, and how many of them more than once.
        stored: for each table of the store its rows, and those that the lake has for it.
    """

    raised: Mapping[str, int]
    notifications: Mapping[str, int]
    messages: int
    received: int
    repeated: int
    stored: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def held_back(self) -> int:
        """Notifications that were suppressed in quiet hours."""
        return self.notifications.get(SUPPRESSED, 0)

    @property
    def problems(self) -> list[str]:
        """Why the counts do not reconcile; empty if they do."""
        found = [
            f"{count} notifications are {state.replace('_', ' ')}"
            for state, count in self.notifications.items()
            if state not in (SENT, SUPPRESSED)
        ]
        if (sent := self.notifications.get(SENT, 0)) != self.received or self.repeated:
            found.append(
                f"{sent} notifications were sent, {self.received} came, {self.repeated} of them more than once"
            )
        found += [
            f"{table}: {stored} rows are in the store, and the lake has {wanted}"
            for table, (stored, wanted) in self.stored.items()
            if stored != wanted
        ]
        return found


def is_told(settings: Settings) -> bool:
    """Whether all that happened to alarms is in the outbox and sent, and the store has what the lake has."""
    lake = lake_of(settings)
    try:
        store = open_store(settings)
        outbox = Outbox(store)
        is_stored = all(
            each.lag is None or not (each.lag.rows or each.lag.is_filling) for each in tables_status(lake, store)
        )
        found = is_stored and is_caught_up(lake, outbox) and not outbox.channels()
        store.close()
    except StoreError:
        return False
    return found


def reached(settings: Settings, inbox: Inbox) -> Reached:
    """Counts what reached people and the store."""
    lake, store = lake_of(settings), open_store(settings)
    stored = {
        feed.table: (store.count(feed.table), lake.table(feed.contract.tables.silver).count())
        for feed in FEEDS
        if isinstance(feed, Feed)
    }
    raised = _raised(lake)
    stored[ALERTS] = (store.count(ALERTS), sum(raised.values()))
    summary = Outbox(store).summary(datetime.now(UTC))
    store.close()
    return Reached(
        raised,
        summary.counts,
        inbox.messages,
        len(inbox.ids),
        sum(count > 1 for count in inbox.ids.values()),
        stored,
    )


def _raised(lake: Lake) -> dict[str, int]:
    kinds = [
        lake.table(each.tables["alarms"]).scan().filter(pl.col("kind") == "raised").select("severity")
        for each in contracts_with_alarms()
    ]
    counts = pl.concat(kinds).group_by("severity").len().sort("severity").collect()
    return dict(counts.iter_rows())
